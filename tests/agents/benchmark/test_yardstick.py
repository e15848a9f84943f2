"""Classical yardsticks: what they find, and that their numbers are chosen on training scenes alone."""

import itertools

import numpy as np
import pytest

from acis_env.datasets import registry as datasets
from acis_env.datasets.leaves import Leaves
from acis_env.metrics import segmentation_metrics
from agents.benchmark.registry import AGENTS
from agents.evaluation.classical import (
    WATERSHED,
    Example,
    best_numbers,
    components,
    depth_of,
    mean_sbd,
    watershed,
    without_small,
)
from agents.experiments.methods import SceneSet

pytest.importorskip("skimage")


def disc(row, column, radius, size=48):
    rows, columns = np.mgrid[:size, :size]
    return (rows - row) ** 2 + (columns - column) ** 2 <= radius**2


def test_watershed_parts_two_discs_that_touch_and_components_do_not():
    left, right = disc(24, 13, 10), disc(24, 33, 10)
    numbers = {"sigma": 1, "distance": 3, "height": 1, "area": 4}
    depth = depth_of(left | right)
    labels = watershed(depth, numbers)
    assert labels.max() == 2
    assert (labels > 0).sum() == (left | right).sum()
    for mask in (left, right):
        found = np.bincount(labels[mask])[1:]
        assert found.max() / mask.sum() > 0.95
    assert components(depth, numbers).max() == 1


def test_components_are_those_of_a_flood_from_every_pixel():
    foreground = np.random.default_rng(0).random((12, 12)) < 0.4
    labels = components(depth_of(foreground), {"area": 0})
    for start in zip(*np.nonzero(foreground), strict=True):
        reached, waiting = {start}, [start]
        while waiting:
            row, column = waiting.pop()
            for step in itertools.product((-1, 0, 1), repeat=2):
                near = (row + step[0], column + step[1])
                if near not in reached and all(0 <= x < 12 for x in near) and foreground[near]:
                    reached.add(near)
                    waiting.append(near)
        assert {tuple(map(int, pixel)) for pixel in np.argwhere(labels == labels[start])} == {
            tuple(map(int, pixel)) for pixel in reached
        }


def test_segments_below_the_least_area_become_background():
    labels = np.array([[1, 1, 1, 0, 2, 2, 0, 3]])
    assert without_small(labels, 2).tolist() == [[1, 1, 1, 0, 2, 2, 0, 0]]
    assert without_small(labels, 0).tolist() == labels.tolist()


def test_tuning_takes_the_best_of_the_grid_and_the_first_of_equals():
    big, small = disc(10, 10, 6), disc(30, 30, 2)
    examples = [Example(depth_of(big | small), big.astype(np.int32))]
    areas = (0, 4, 20, 40, 10**6)
    numbers, score = best_numbers(components, {"area": areas}, {"area": 0}, examples)
    scores = {area: mean_sbd(components, {"area": area}, examples) for area in areas}
    assert score == max(scores.values()) == 1.0
    assert numbers == {"area": next(area for area in areas if scores[area] == score)} == {"area": 20}


def test_no_setting_is_tried_twice():
    tried = []

    def split(depth, numbers):
        tried.append(tuple(numbers.values()))
        return (depth > numbers["a"] + numbers["b"]).astype(np.int32)

    examples = [Example(depth_of(disc(20, 20, 12)), disc(20, 20, 8).astype(np.int32))]
    numbers, _ = best_numbers(split, {"a": (0, 1, 2), "b": (0, 1, 2)}, {"a": 0, "b": 0}, examples)
    assert numbers == {"a": 2, "b": 2}
    assert len(tried) == len({*tried}) > 3


def test_the_mean_is_that_of_all_scenes_with_ignored_pixels_and_without_a_segment():
    generator = np.random.default_rng(0)
    examples = [
        Example(depth_of(disc(24, 24, radius)), generator.integers(-1, 4, (48, 48), dtype=np.int32))
        for radius in (0, *range(3, 40))
    ]
    examples[0].depth[:] = 0
    numbers = {"area": 4}
    expected = [segmentation_metrics(components(e.depth, numbers), e.label_map)["sbd"] for e in examples]
    assert expected[0] == 0 < min(expected[1:])
    assert mean_sbd(components, numbers, examples) == pytest.approx(np.mean(expected), abs=1e-6)


def test_the_grid_grows_with_the_pictures():
    twice = WATERSHED.scaled((64, 256))
    assert twice.grid["sigma"] == tuple(2 * value for value in WATERSHED.grid["sigma"])
    assert twice.grid["area"] == tuple(4 * value for value in WATERSHED.grid["area"])
    assert twice.start == {"sigma": 2, "distance": 6, "height": 2, "area": 32}
    assert WATERSHED.scaled((64, 64)) == WATERSHED


@pytest.mark.parametrize("name", ["foreground-components", "watershed"])
def test_a_yardstick_is_tuned_without_a_look_at_the_evaluated_split(name, task_of, plants, monkeypatch):
    opened = []

    def guarded(split, size, **options):
        opened.append(split)
        if split != "train":
            pytest.fail(f"tuning looked at {split}")
        return Leaves(split, size, **options)

    monkeypatch.setitem(datasets.DATASETS, "guarded", datasets.RegisteredDataset(guarded, "raises if touched"))
    scene_set = SceneSet("guarded", "dataset:guarded", plants.scene_options, plants.val_options, "test")
    ready = AGENTS[name].prepare(task_of(scene_set=scene_set))
    assert set(opened) == {"train"}
    assert ready.facts["numbers"].keys() == AGENTS[name].method.grid.keys()
    assert ready.facts["training_scenes"] == plants.scene_options["length"]


def test_no_agent_is_given_the_evaluated_scenes(task_of, plants, monkeypatch, tiny_agent):
    """Whatever trains or tunes may open train and val, and nothing else."""

    def guarded(split, size, **options):
        if split == "test":
            pytest.fail("opened the evaluated split")
        return Leaves(split, size, **options)

    monkeypatch.setitem(datasets.DATASETS, "guarded", datasets.RegisteredDataset(guarded, "raises if touched"))
    scene_set = SceneSet("guarded", "dataset:guarded", plants.scene_options, plants.val_options, "test")
    for name in ("random-actions", "random-codes", "reconstruction"):
        AGENTS[name].prepare(task_of(name, scene_set=scene_set))
    tiny_agent.prepare(task_of("tiny", scene_set=scene_set))
