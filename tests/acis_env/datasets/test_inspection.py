"""What a look at every scene finds: numbers that a slow count confirms, and each problem with its file."""

import numpy as np
import pytest
from PIL import Image

from acis_env.datasets import DATASETS
from acis_env.datasets.inspection import (
    Inspection,
    describe_inspection,
    inspect_scenes,
    readable_pictures,
    readable_scenes,
)
from acis_env.datasets.masks import list_masks
from acis_env.datasets.pairs import list_folder
from acis_env.datasets.preprocessing import Squeeze, parse_preprocessing
from acis_env.testing.trees import WRITERS

SIZE = Squeeze((32, 32))
LOST = {"squeeze": 0, "tile": 0, "shorter-side": 2}
"""Of three instances far from each other in a wide picture, by preprocessing."""


def write_pair(folder, name, label_map, image_size=None):
    folder.mkdir(exist_ok=True)
    Image.fromarray(np.zeros((*(image_size or label_map.shape), 3), np.uint8)).save(folder / f"{name}_rgb.png")
    Image.fromarray(label_map.astype(np.uint16)).save(folder / f"{name}_label.png")


def look(pictures):
    inspection = Inspection("train")
    inspection.facts += inspect_scenes(readable_pictures(pictures), SIZE)
    return inspection


def one_square(side=6, size=(40, 40)):
    label_map = np.zeros(size, int)
    label_map[8 : 8 + side, 8 : 8 + side] = 1
    return label_map


def test_sizes_and_instances_are_those_that_a_slow_count_finds(tmp_path):
    written = WRITERS["masks"](tmp_path)["train"]
    inspection = look(list_masks("train", tmp_path))
    assert [facts.name for facts in inspection.facts] == [scene.name for scene in written]
    assert [facts.size for facts in inspection.facts] == [scene.image.shape[1:] for scene in written]
    for facts, scene in zip(inspection.facts, written, strict=True):
        assert facts.areas.tolist() == [(scene.label_map == label).sum() for label in range(1, scene.num_instances + 1)]
    assert inspection.counts.tolist() == [3, 1, 5]
    assert inspection.problems == []


def test_instances_vanish_that_have_less_than_four_pixels_at_the_networks_size(tmp_path):
    label_map = one_square(side=20, size=(64, 64))
    label_map[40:43, 40:43] = 2  # 2.25 px at half the size
    label_map[50:56, 50:56] = 3
    write_pair(tmp_path, "a", label_map)
    inspection = look(list_folder("train", tmp_path))
    assert [facts.vanished for facts in inspection.facts] == [1]
    lines = describe_inspection(inspection, SIZE)
    assert "  at 32x32 (squeeze) 1 of 3 instances vanish, in 1 scene, most in a (1 of 3)" in lines
    assert "  3 instances, 3 per scene, median 3" in lines


def test_instances_that_no_window_shows_vanish(tmp_path):
    label_map = np.zeros((40, 200), int)
    for label, left in enumerate((10, 90, 180), start=1):
        label_map[10:20, left : left + 10] = label
    write_pair(tmp_path, "a", label_map)
    pictures = readable_pictures(list_folder("train", tmp_path))
    lost = {name: next(inspect_scenes(pictures, parse_preprocessing(name, (32, 32)))).vanished for name in LOST}
    assert lost == LOST


def test_every_problem_is_found_with_its_file_and_the_others_are_looked_at(tmp_path):
    write_pair(tmp_path, "a", one_square())
    write_pair(tmp_path, "b", one_square(), image_size=(40, 41))
    write_pair(tmp_path, "c", np.zeros((40, 40), int))
    write_pair(tmp_path, "d", np.arange(1600).reshape(40, 40) % 301)
    write_pair(tmp_path, "e", np.ones((1, 1), int))
    write_pair(tmp_path, "f", one_square())
    write_pair(tmp_path, "g", one_square())
    write_pair(tmp_path, "h", one_square())
    (tmp_path / "f_rgb.png").write_bytes((tmp_path / "f_rgb.png").read_bytes()[:60])
    (tmp_path / "g_label.png").unlink()
    (tmp_path / "h_rgb.png").unlink()
    inspection = look(list_folder("train", tmp_path))
    found = dict(zip("bcdefgh", inspection.problems, strict=True))
    assert f"{tmp_path / 'b_rgb.png'} is 40x41 but its label map is 40x40" in found["b"]
    assert found["c"] == f"{tmp_path / 'c_label.png'}: expected at least one instance, found background only"
    assert found["d"] == f"{tmp_path / 'd_label.png'}: expected at most 255 instances, found 300"
    assert f"{tmp_path / 'e_label.png'}: its image is 1x1 (height x width), expected 8 px and more" in found["e"]
    assert f"{tmp_path / 'f_rgb.png'} cannot be decoded" in found["f"]
    assert f"has no label: {tmp_path / 'g_label.png'} does not exist" in found["g"]
    assert found["h"] == f"{tmp_path / 'h_rgb.png'}: no such image"
    assert inspection.counts.tolist() == [1, 0, 300, 1]
    assert "train: 8 scenes, 4 of which cannot be read" in describe_inspection(inspection, SIZE)[0]


def test_masks_that_are_empty_or_covered_are_a_problem(tmp_path):
    WRITERS["masks"](tmp_path)
    path = tmp_path / "train" / "masks" / "cell" / "002.png"
    Image.fromarray(np.zeros((40, 56), np.uint8)).save(path)
    (problem,) = look(list_masks("train", tmp_path)).problems
    assert problem.startswith(f"{path.with_name('001.png')}: expected as many instances as masks, 3, found 2")


def test_scenes_of_a_data_set_of_ones_own_are_looked_at_too(scenes):
    facts = list(inspect_scenes(readable_scenes(scenes), SIZE))
    assert [len(found.areas) for found in facts] == [2, 3, 1, 4, 3]


def test_images_without_labels_are_counted_apart(tmp_path):
    write_pair(tmp_path, "a", one_square())
    write_pair(tmp_path, "b", one_square())
    (tmp_path / "b_label.png").unlink()
    with pytest.raises(ValueError, match='labels must be "required" or "optional", got \'option\''):
        list_folder("train", tmp_path, labels="option")
    inspection = look(list_folder("train", tmp_path, labels="optional"))
    assert inspection.problems == []
    assert "  1 without labels" in describe_inspection(inspection, SIZE)


def test_a_split_in_which_nothing_can_be_read_is_described(tmp_path):
    write_pair(tmp_path, "a", one_square())
    (tmp_path / "a_label.png").write_bytes(b"")
    lines = describe_inspection(look(list_folder("train", tmp_path)), SIZE)
    assert lines == ["train: 1 scene, 1 of which cannot be read"]


@pytest.mark.parametrize("name", ["bbbc038", "coco", "cityscapes", "masks"])
def test_the_trees_that_are_written_have_no_problem(tmp_path, name):
    WRITERS[name](tmp_path)
    assert look(DATASETS[name].listing("train", root=tmp_path)).problems == []
