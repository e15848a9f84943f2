"""BBBC038 in its two layouts and its two protocols."""

from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from PIL import Image

from acis_env.datasets import FolderScenes, open_scenes
from acis_env.datasets.bbbc038 import recognise_bbbc038, split_ids
from acis_env.testing.trees import WRITERS

REAL = Path(__file__).parents[4] / "shared" / "data" / "bbbc038"
needs_data = pytest.mark.skipif(not REAL.is_dir(), reason="needs BBBC038")
NUCLEI = {"crop": "random", "crop_size": (64, 160), "min_instances": 2, "max_instances": 10, "min_area": 30}
LAYOUTS = pytest.mark.parametrize("layout", ["native", "pairs"])


def open_nuclei(root, split="train", **options):
    return open_scenes("dataset:bbbc038", split, (64, 64), {"root": root, **options})


@LAYOUTS
@pytest.mark.parametrize("split", ["train", "val"])
def test_a_layout_loads_the_images_that_were_written(tmp_path, assert_same_scenes, layout, split):
    written = WRITERS["bbbc038"](tmp_path, layout=layout)
    scenes = open_nuclei(tmp_path, split, max_instances=None)
    assert_same_scenes(scenes, written[split])
    assert scenes.max_instances == max(scene.num_instances for scene in written[split])


@LAYOUTS
def test_the_protocol_of_whole_images_leaves_out_those_of_more_than_21_nuclei(tmp_path, layout):
    written = WRITERS["bbbc038"](tmp_path, layout=layout)["train"]
    assert [scene.num_instances for scene in written] == [3, 1, 21, 24]
    assert [scene.name for scene in open_nuclei(tmp_path)] == [scene.name for scene in written[:3]]


def test_whole_images_in_the_native_layout_open_without_a_look_at_masks(tmp_path):
    WRITERS["bbbc038"](tmp_path)
    masks = list(tmp_path.glob("stage1_train/*/masks/*.png"))
    several = [path for path in masks if len(list(path.parent.iterdir())) > 1]
    for path in several:
        path.write_bytes(b"")
    scenes = open_nuclei(tmp_path)
    assert len(scenes) == 3
    with pytest.raises(ValueError, match=r"003cee89357d0+/masks/0001003cee89.png cannot be opened"):
        scenes[0]


def test_where_masks_overlap_the_first_by_name_is_on_top(tmp_path):
    written = WRITERS["bbbc038"](tmp_path)["train"][0]
    first, second, _ = sorted(tmp_path.glob(f"stage1_train/{written.name}*/masks/*.png"))
    common = (np.asarray(Image.open(first)) > 0) & (np.asarray(Image.open(second)) > 0)
    assert common.any()
    assert (open_nuclei(tmp_path)[0].label_map[common] == 1).all()


def test_the_root_may_be_the_folder_of_the_images_itself(tmp_path, assert_same_scenes):
    written = WRITERS["bbbc038"](tmp_path)["val"]
    assert_same_scenes(open_nuclei(tmp_path / "stage1_train", "val"), written)


def test_the_environment_variable_says_where_the_data_are(tmp_path, monkeypatch, assert_same_scenes):
    written = WRITERS["bbbc038"](tmp_path)["val"]
    monkeypatch.setenv("ACIS_BBBC038_ROOT", str(tmp_path))
    assert_same_scenes(open_scenes("bbbc038", "val", (64, 64)), written)


def test_images_that_are_missing_are_counted_in_a_warning(tmp_path, caplog):
    WRITERS["bbbc038"](tmp_path)
    open_nuclei(tmp_path, "val")
    assert "50 of 52 images of 'val' are missing" in caplog.text


@LAYOUTS
def test_each_layout_is_recognised_by_its_ids(tmp_path, layout):
    assert recognise_bbbc038(tmp_path) is None
    WRITERS["bbbc038"](tmp_path, layout=layout)
    assert {"native": "stage1_train", "pairs": "pairs"}[layout] in recognise_bbbc038(tmp_path)


def test_other_images_in_the_layout_are_no_bbbc038(tmp_path):
    WRITERS["masks"](tmp_path, layout="dsb")
    assert recognise_bbbc038(tmp_path) is None
    with pytest.raises(FileNotFoundError, match=r"with ids such as 003cee89357d, .*, found cell, cell_1 and 1 more"):
        open_nuclei(tmp_path)


def test_there_is_no_test_split(tmp_path):
    with pytest.raises(FileNotFoundError, match="split must be one of train, val, got 'test'"):
        open_nuclei(tmp_path, "test")


def test_without_data_the_message_says_where_they_are_from_and_what_was_looked_for(monkeypatch):
    monkeypatch.delenv("ACIS_BBBC038_ROOT", raising=False)
    with pytest.raises(
        FileNotFoundError, match=r"ACIS_BBBC038_ROOT.*stage1_train/<id>/images.*bbbc.broadinstitute.org"
    ):
        open_nuclei(None)


def test_a_protocol_that_there_is_not_is_refused(tmp_path):
    with pytest.raises(ValueError, match='protocol must be "whole" or "crops", got \'halves\''):
        open_nuclei(tmp_path, protocol="halves")


def test_the_splits_are_disjoint_and_every_id_is_12_digits():
    ids = split_ids()
    assert [len(ids[split]) for split in ("train", "val")] == [433, 52]
    together = [*ids["train"], *ids["val"]]
    assert len(set(together)) == 485
    assert all(len(name) == 12 and int(name, 16) >= 0 for name in together)


@needs_data
@pytest.mark.parametrize(("split", "number", "crops"), [("train", 176, 8), ("val", 24, 4)])
def test_the_real_images_give_what_a_folder_of_pairs_gives(split, number, crops):
    assert sorted(path.name[:12] for path in (REAL / split).glob("*_rgb.png")) == list(split_ids()[split])
    for options, others in (
        ({"protocol": "whole"}, {"max_instances": 21}),
        ({"protocol": "crops"}, {**NUCLEI, "crops_per_image": crops}),
    ):
        scenes, expected = open_nuclei(REAL, split, **options), FolderScenes(REAL / split, **others)
        assert len(scenes) == len(expected)
        assert scenes.max_instances == expected.max_instances
        for index in range(0, len(scenes), 41):
            assert scenes[index].name == expected[index].name
            np.testing.assert_array_equal(scenes[index].image, expected[index].image)
            np.testing.assert_array_equal(scenes[index].label_map, expected[index].label_map)
    assert len(open_nuclei(REAL, split)) == number


def test_the_environment_plays_in_the_images(tmp_path):
    WRITERS["bbbc038"](tmp_path)
    env = gym.make_vec("ACIS/BBBC038-v0", num_envs=2, root=tmp_path, weights="nuclei-64", sampler="sequential")
    _, info = env.reset(seed=0)
    assert info["num_instances"].tolist() == [3, 1]
    _, reward, *_ = env.step(env.action_space.sample())
    assert (reward >= 0).all()
