"""How scenes become pictures is an argument of the environment, or the protocol of a data set decides it."""

import json
import pickle

import gymnasium as gym
import numpy as np
import pytest
from PIL import Image

from acis_env import SegmentationVectorEnv
from acis_env.datasets import DATASETS, Scene, register_dataset
from acis_env.datasets.preprocessing import HalveCrop, ShorterSide, Squeeze
from acis_env.datasets.registry import protocol_of
from acis_env.datasets.tiles import TiledScenes


class Plants(list):
    """Two pictures of 80x64, each with an instance at the upper side and one in the middle."""

    max_instances = 2

    def __init__(self, split="train", size=None):
        label_map = np.zeros((80, 64), np.int32)
        label_map[0:6, 20:40], label_map[30:60, 20:50] = 1, 2
        super().__init__(Scene(np.stack([label_map * 90] * 3).astype(np.uint8), label_map, f"plant-{i}") for i in "ab")


PROTOCOL = {"threshold": 0.3, "preprocessing": "shorter-side", "score": "iou"}


@pytest.fixture
def plants(monkeypatch):
    monkeypatch.setattr("acis_env.datasets.registry.DATASETS", dict(DATASETS))
    register_dataset("plants", Plants, "Two plants.", protocol=PROTOCOL)


@pytest.fixture
def make(pretrained):
    return lambda **options: SegmentationVectorEnv(2, **{"scenes": Plants(), "weights": pretrained, **options})


@pytest.mark.parametrize("name", ["squeeze", "shorter-side", "halve-crop"])
def test_episodes_begin_in_pictures_made_as_asked(make, name):
    kind = {"squeeze": Squeeze, "shorter-side": ShorterSide, "halve-crop": HalveCrop}[name]
    env = make(preprocessing=name)
    observations, _ = env.reset(seed=0, options={"scene_index": 0})
    scene = Plants()[0]
    np.testing.assert_array_equal(observations["image"][0], kind((32, 32)).image(scene.image))
    np.testing.assert_array_equal(env.scene[0].label_map, kind((32, 32)).label_map(scene.label_map, 4))
    assert env.arguments["preprocessing"] == name


def test_the_windows_of_tiles_are_the_scenes(make):
    env = make(preprocessing="tile")
    assert isinstance(env.scenes.dataset, TiledScenes)
    assert len(env.scenes) == 2 * 3 * 3  # 80x64 by 32 and an overlap of 8: starts 0, 24, 48 and 0, 16, 32
    observations, infos = env.reset(seed=0, options={"scene_index": [0, 8]})
    for slot, (y, x) in enumerate([(0, 0), (48, 32)]):
        expected = Plants()[0].image[:, y : y + 32, x : x + 32]
        np.testing.assert_array_equal(observations["image"][slot], expected)
        assert env.scene[slot].name == f"plant-a@{y},{x}"
    assert infos["num_instances"].tolist() == [2, 1]


def test_pictures_are_squeezed_and_half_the_probability_counts_unless_told_otherwise(make):
    env = make()
    assert isinstance(env.scenes.preprocessing, Squeeze)
    assert (env.threshold, env.arguments["preprocessing"]) == (0.5, "squeeze")


def test_the_protocol_of_a_data_set_holds_where_nothing_else_is_given(plants, make):
    for scenes in ("plants", "dataset:plants"):
        env = make(scenes=scenes)
        assert (env.threshold, env.scenes.preprocessing, env.rules.score) == (0.3, ShorterSide((32, 32)), "iou")
        assert {name: env.arguments[name] for name in PROTOCOL} == PROTOCOL
    given = {"threshold": 0.6, "preprocessing": "halve-crop", "score": "dice"}
    env = make(scenes="plants", **given)
    assert (env.threshold, env.scenes.preprocessing, env.rules.score) == (0.6, HalveCrop((32, 32)), "dice")
    registered = gym.make("ACIS/Scenes-v0", scenes="plants", weights=env.pretrained).unwrapped
    assert registered._slot.threshold == 0.3


def test_a_folder_and_scenes_in_memory_have_no_protocol(plants, tmp_path, monkeypatch):
    (tmp_path / "plants").mkdir()
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "plants" / "a_label.png")
    assert protocol_of("plants") == PROTOCOL
    assert protocol_of(Plants()) == protocol_of(str(tmp_path)) == protocol_of("nothing") == {}
    monkeypatch.chdir(tmp_path)
    assert protocol_of("plants") == {}  # the folder is meant before the data set
    assert protocol_of("dataset:plants") == PROTOCOL


def test_a_protocol_may_not_name_what_no_environment_takes(plants, make):
    register_dataset("others", Plants, "Two plants.", protocol={"treshold": 0.3})
    with pytest.raises(ValueError, match="protocol of the data set: unknown 'treshold', the nearest are 'threshold'"):
        make(scenes="others")


def test_an_environment_with_a_protocol_is_the_same_after_pickling_and_its_recipe_is_plain(plants, make):
    env = make(scenes="plants")
    plain = {name: value for name, value in env.arguments.items() if name != "weights"}
    assert json.loads(json.dumps(plain)) == plain
    again = pickle.loads(pickle.dumps(env))
    assert (again.threshold, again.scenes.preprocessing, again.rules) == (0.3, ShorterSide((32, 32)), env.rules)


@pytest.mark.parametrize("bad", ["stretch", "tile:0", 3, "", Squeeze((64, 64))])
def test_what_is_no_preprocessing_is_refused_by_the_environment_in_one_line(make, bad):
    with pytest.raises(ValueError, match="preprocessing") as info:
        make(preprocessing=bad)
    assert "\n" not in str(info.value)


def test_a_picture_too_thin_for_the_preprocessing_is_named(make):
    thin = Scene(np.zeros((3, 1, 80_000), np.uint8), np.ones((1, 80_000), np.int32), "thread")
    scenes = Plants()
    scenes.append(thin)
    for name in ("shorter-side", "tile:40"):
        env = make(scenes=scenes, preprocessing=name)
        index = len(env.scenes) - 1
        with pytest.raises(ValueError, match=r"thread: preprocessing '.*' would enlarge a picture of 1x80000"):
            env.reset(options={"scene_index": index})
    env = make(scenes=scenes)
    assert env.reset(options={"scene_index": 2})[1]["num_instances"].tolist() == [1, 1]
