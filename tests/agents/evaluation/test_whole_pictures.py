"""Whole pictures are measured at their own size, in whatever way they were cut for the networks."""

import numpy as np
import pytest
import torch

from acis_env.datasets import PackedScenes, Scene
from acis_env.datasets.preprocessing import HalveCrop, ShorterSide, Squeeze, Tile
from agents.evaluation.evaluation import Conditions, count_scenes, evaluate
from agents.evaluation.segmenters import random_action_segmenter, random_segmenter, reconstruction_segmenter
from agents.evaluation.tables import scene_sheet
from agents.evaluation.whole_pictures import WholePictures
from agents.models.prediction import Prediction

SIZE = (32, 32)


class Scenes(list):
    max_instances = 4


def make_scene(size, *corners, name="picture", foreground=None):
    label_map = np.zeros(size, np.int32)
    for label, (top, left, bottom, right) in enumerate(corners, start=1):
        label_map[top:bottom, left:right] = label
    image = (60 * label_map[None] + np.array([10, 30, 50])[:, None, None]).astype(np.uint8)
    return Scene(image, label_map, name, foreground)


@pytest.fixture
def scenes():
    """A picture of six windows, one instance in four of them; and one that is smaller than a window."""
    large = make_scene((70, 50), (20, 4, 45, 40), (50, 30, 68, 48), (2, 2, 14, 20), name="large")
    return Scenes([large, make_scene((24, 30), (2, 2, 20, 12), (2, 16, 20, 28), name="small")])


@pytest.fixture
def make(make_source, scenes):
    """A function that makes the source of episodes in the two pictures, cut in some way."""
    return lambda preprocessing: make_source(PackedScenes(scenes, SIZE, min_area=1, preprocessing=preprocessing))


def true_masks(state, count=None):
    """The true masks of every window, with the true counts or with one count for all."""
    labels = torch.arange(1, max(int(state.num_instances.max()), 1) + 1)[:, None, None]
    masks = (state.label_map[:, None] == labels).float()
    counts = state.num_instances if count is None else torch.full_like(state.num_instances, count)
    return Prediction(masks, counts, torch.ones(len(masks), dtype=torch.bool), "true count" if count is None else "own")


def test_true_masks_of_tiles_are_perfect_on_the_whole_picture(make):
    source = make("tile")
    evaluation = evaluate("truth", true_masks, source, num_pictures=2)
    assert len(source.own_scenes) == 7
    assert count_scenes(source) == len(evaluation.scenes) == 2
    for scene in evaluation.scenes:
        assert scene["sbd"] == scene["sbd_gt_stop"] == scene["dice_star"] == scene["mucov"] == 1
        assert scene["dic"] == 0
    assert evaluation.dice_per_step == [[1] * 3, [1] * 2]
    assert [label_map.shape for label_map in evaluation.label_maps.values()] == [(70, 50), (24, 30)]
    assert evaluation.conditions == Conditions("true count", "none", "tile", 0.5)
    assert scene_sheet([evaluation], source).std() > 0


def test_own_stopping_counts_in_every_window(make):
    evaluation = evaluate("none", lambda state: true_masks(state, 0), make("tile"))
    assert [scene["dic"] for scene in evaluation.scenes] == [-3, -2]
    assert [scene["sbd_gt_stop"] for scene in evaluation.scenes] == [1, 1]
    assert evaluation.conditions.stopping == "own"


def test_no_more_masks_than_true_instances_count_where_tiles_give_more(make):
    def halves(state):
        """Every instance in two halves, which a window with as many instances cannot show all of."""
        masks = true_masks(state).masks
        upper = masks * (torch.arange(32) % 2)[:, None]
        return Prediction(torch.cat([upper, masks - upper], 1), 2 * state.num_instances, state.num_instances > 0)

    evaluation = evaluate("halves", halves, make("tile"))
    assert all(len(dice) <= count for dice, count in zip(evaluation.dice_per_step, (3, 2), strict=True))
    assert [scene["dic"] for scene in evaluation.scenes] == [3, 2]


@pytest.mark.parametrize(
    ("name", "least"), [("squeeze", 0.8), ("shorter-side", 0.55), ("halve-crop", 0.55), ("tile", 1), ("tile:0.5", 0.7)]
)
def test_the_inverse_is_that_of_the_preprocessing(make, name, least):
    source = make(name)
    evaluation = evaluate("truth", true_masks, source)
    assert evaluation.conditions.preprocessing == name
    assert evaluation.mean["sbd"] >= least


@pytest.mark.parametrize("kind", [Squeeze, ShorterSide, HalveCrop, Tile])
def test_whole_pictures_know_how_they_are_cut_and_are_as_they_were(make, scenes, kind):
    pictures = WholePictures(make(kind(SIZE)))
    assert pictures.preprocessing == kind(SIZE)
    assert len(pictures) == 2
    for index, scene in enumerate(scenes):
        np.testing.assert_array_equal(pictures.scene(index).image, scene.image)
        np.testing.assert_array_equal(pictures.scene(index).label_map, scene.label_map)


def test_only_the_first_pictures_are_measured_if_so_many_are_asked_for(make):
    source = make("tile")
    assert (
        evaluate("truth", true_masks, source, num_scenes=1).scenes == evaluate("truth", true_masks, source).scenes[:1]
    )


def test_a_picture_of_more_windows_than_a_batch_is_segmented_in_parts(make_source):
    scene = make_scene((200, 200), (20, 20, 180, 180))
    source = make_source(PackedScenes(Scenes([scene]), SIZE, min_area=1, preprocessing="tile"))
    assert len(source.own_scenes) == 64
    sizes = []

    def segment(state):
        sizes.append(len(state))
        return true_masks(state)

    assert evaluate("truth", segment, source).mean["sbd"] == 1
    assert sizes == [32, 32]


def test_masks_are_cut_to_the_official_foreground_only_where_that_is_asked_for(make_source):
    foreground = np.zeros((64, 64), bool)
    foreground[:, :32] = True
    scene = make_scene((64, 64), (8, 8, 24, 40), (40, 8, 56, 40), foreground=foreground)
    source = make_source(Scenes([scene]))
    free = evaluate("truth", true_masks, source, num_pictures=1)
    cut = evaluate("truth", true_masks, source, num_pictures=1, foreground="official")
    assert free.mean["sbd"] == free.mean["dice_star"] == 1
    np.testing.assert_array_equal(cut.label_maps[0], np.where(foreground, free.label_maps[0], 0))
    assert cut.mean["sbd"] == cut.mean["sbd_gt_stop"] == cut.mean["dice_star"] == pytest.approx(2 * 24 / (24 + 32))
    assert cut.dice_per_step == [[pytest.approx(2 * 24 / (24 + 32))] * 2]
    assert (free.conditions.foreground, cut.conditions.foreground) == ("none", "official")


def test_the_first_scene_without_an_official_foreground_is_named(make_source):
    known = np.ones((32, 32), bool)
    scenes = [make_scene(SIZE, (2, 2, 9, 9), name=f"plant-{i}", foreground=known if i == 0 else None) for i in range(3)]
    with pytest.raises(ValueError, match="plant-1: expected an official foreground"):
        evaluate("truth", true_masks, make_source(Scenes(scenes)), foreground="official")


def test_segmenters_say_whose_their_number_of_masks_is(tiny, source):
    state, _ = source.begin(range(12))
    assert random_segmenter(tiny, 4)(state).stopping == "random"
    assert random_action_segmenter(source.decoder, 4)(state).stopping == "random"
    assert reconstruction_segmenter(tiny)(state).stopping == "true count"


def test_random_actions_are_uniform_in_the_environment_of_the_agents(tiny, source):
    drawn = []

    class Spy:
        latent_size = tiny.autoencoder.decoder.latent_size

        def condition(self, context):
            return tiny.autoencoder.decoder.condition(context)

        def __call__(self, code, conditioning):
            drawn.append(code)
            return tiny.autoencoder.decoder(code, conditioning)

    state, _ = source.begin(range(12))
    first, again, other = (random_action_segmenter(Spy(), 200, seed, action_scale=2.0)(state) for seed in (0, 0, 1))
    codes = torch.stack(drawn[:200])
    assert codes.abs().max() <= 2
    assert codes.max() > 1.95
    assert codes.min() < -1.95
    assert codes.std() == pytest.approx(2 / 3**0.5, rel=0.02)
    assert torch.equal(first.masks, again.masks)
    assert torch.equal(first.num_masks, again.num_masks)
    assert not torch.equal(first.masks, other.masks)
    assert 1 <= first.num_masks.min() < first.num_masks.max() <= 200
