"""Data sets as pairs: the same scenes again, all of them or nothing."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from acis_env.datasets import FolderScenes, Scene, open_scenes
from acis_env.datasets.conversion import convert
from acis_env.testing.trees import WRITERS

EVERYTHING = {"min_instances": 0, "max_instances": None}


@pytest.mark.parametrize("name", ["bbbc038", "coco", "cityscapes", "masks"])
def test_pairs_are_read_as_the_scenes_that_were_written(tmp_path, assert_same_scenes, name):
    written = WRITERS[name](tmp_path / "source")
    source = {"root": tmp_path / "source", **EVERYTHING}
    splits = {split: open_scenes(f"dataset:{name}", split, (64, 64), source) for split in written}
    done = convert(splits, tmp_path / "pairs")
    for split, scenes in written.items():
        read = list(FolderScenes(tmp_path / "pairs" / split, **done.options))
        assert_same_scenes(read, [Scene(s.image, s.label_map, s.name.replace("/", "_")) for s in scenes])
        assert done.scenes[split] == len(scenes)


def numbered(make_scene, make_scenes, count, ignored=False):
    scene = make_scene([], size=(40, 40))
    label_map = scene.label_map.copy()
    label_map.ravel()[:count] = np.arange(1, count + 1)
    if ignored:
        label_map[-1] = -1
    return make_scenes([Scene(scene.image, label_map, "a")])


@pytest.mark.parametrize(
    ("count", "bits", "ignore"), [(1, "L", 255), (254, "L", 255), (255, "I;16", 65535), (300, "I;16", 65535)]
)
def test_labels_have_16_bits_when_8_have_no_room_for_them_and_the_void(
    tmp_path, make_scene, make_scenes, assert_same_scenes, count, bits, ignore
):
    scenes = numbered(make_scene, make_scenes, count, ignored=True)
    done = convert({"train": scenes}, tmp_path / "pairs")
    assert Image.open(tmp_path / "pairs" / "train" / "a_label.png").mode == bits
    assert done.options == {"ignore": ignore}
    assert_same_scenes(list(FolderScenes(tmp_path / "pairs" / "train", **done.options)), scenes)


def test_no_options_are_needed_where_every_pixel_counts_and_every_scene_has_an_instance(tmp_path, scenes):
    assert convert({"val": scenes}, tmp_path / "pairs").options == {}


def test_scenes_without_a_label_map_have_no_file_for_it(tmp_path, make_scene, make_scenes):
    class AtMostOne(make_scenes):
        max_instances = 1  # that of a scene without labels cannot be counted

    scenes = AtMostOne([make_scene([(1, 1, 9, 9)], name="a"), Scene(make_scene([]).image, None, "b")])
    done = convert({"test": scenes}, tmp_path / "pairs")
    assert done.options == {"labels": "optional"}
    assert [scene.label_map is None for scene in FolderScenes(tmp_path / "pairs" / "test", **done.options)] == [
        False,
        True,
    ]


def test_a_folder_that_holds_something_is_left_as_it_is(tmp_path, scenes):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"mine: expected a folder that is new or empty, found notes.txt in it"):
        convert({"train": scenes}, tmp_path / "mine")
    assert [path.name for path in tmp_path.rglob("*")] == ["mine", "notes.txt"]


def test_after_an_error_nothing_is_there(tmp_path, scenes, make_scenes):
    class Damaged(make_scenes):
        def __iter__(self):
            yield from super().__iter__()
            raise ValueError("damaged")

    with pytest.raises(ValueError, match="damaged"):
        convert({"train": scenes, "val": Damaged(scenes)}, tmp_path / "pairs")
    assert list(tmp_path.iterdir()) == []


def test_labels_that_the_promised_number_of_instances_leaves_no_room_for_are_refused(tmp_path, make_scene, make_scenes):
    scene = make_scene([(1, 1, 9, 9), (12, 12, 20, 20)])
    make_scenes = type("WithGaps", (make_scenes,), {"max_instances": 2})
    scenes = make_scenes([replace(scene, label_map=np.where(scene.label_map == 2, 300, scene.label_map))])
    with pytest.raises(ValueError, match=r"labels must be below 255, got 300, as the data set promises at most 2"):
        convert({"train": scenes}, tmp_path / "pairs")
    assert list(tmp_path.iterdir()) == []


def test_two_scenes_that_would_have_one_file_are_refused(tmp_path, make_scene, make_scenes):
    scenes = make_scenes([make_scene([(1, 1, 9, 9)], name=name) for name in ("a/b", "A_b")])
    with pytest.raises(ValueError, match="names of scenes must differ as names of files, got 'A_b' twice"):
        convert({"train": scenes}, tmp_path / "pairs")
    assert list(tmp_path.iterdir()) == []
