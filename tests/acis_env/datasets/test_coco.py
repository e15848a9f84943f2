"""COCO's annotations: polygons, runs, crowds and whatever may be wrong with them."""

import json

import numpy as np
import pytest

from acis_env.datasets import open_scenes
from acis_env.datasets.coco import recognise_coco
from acis_env.datasets.run_lengths import decode_runs
from acis_env.testing.trees import WRITERS
from acis_env.testing.trees.coco import encode_runs


@pytest.fixture
def tree(tmp_path):
    WRITERS["coco"](tmp_path)
    return tmp_path


def open_coco(root, split="train", **options):
    return open_scenes("dataset:coco", split, (64, 64), {"root": root, **options})


def change(tree, edit, split="train"):
    """Edit the annotations of a split; returns their file."""
    path = tree / "annotations" / f"instances_{split}2017.json"
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))
    return path


def random_mask(rng):
    small = rng.random(rng.integers(1, 9, 2)) < rng.random()
    return np.kron(small, np.ones(rng.integers(1, 9, 2))) > 0


@pytest.mark.parametrize("split", ["train", "val"])
def test_annotations_load_as_the_scenes_that_were_written(tmp_path, assert_same_scenes, split):
    pytest.importorskip("pycocotools")
    written = WRITERS["coco"](tmp_path)[split]
    scenes = open_coco(tmp_path, split, min_instances=0)
    assert_same_scenes(scenes, written)
    assert scenes.max_instances == 5


def test_images_without_an_object_are_left_out_by_default(tree):
    assert [scene.num_instances for scene in open_coco(tree)] == [3, 5]


def test_the_smaller_object_is_on_top_whichever_comes_first(tree):
    before = open_coco(tree)[0].label_map
    change(tree, lambda content: content["annotations"].insert(0, content["annotations"].pop(1)))
    after = open_coco(tree)[0].label_map
    assert (before[12, 12], after[12, 12]) == (2, 1)
    np.testing.assert_array_equal((before == 1) | (before == 2), (after == 1) | (after == 2))
    assert (after == 1).sum() == 10 * 12


def test_a_crowd_is_ignored_where_no_object_is(tree):
    scene = open_coco(tree)[0]
    assert (scene.label_map[0, 30:48] == -1).all()
    assert scene.label_map[10, 35] == 1  # the first object reaches into it


@pytest.mark.parametrize("categories", ["dog", 18, ("dog",)])
def test_categories_are_chosen_by_name_or_id_and_others_are_background(tree, categories):
    scenes = open_coco(tree, categories=categories)
    assert [scene.num_instances for scene in scenes] == [1]
    expected = np.zeros((48, 64), int)
    expected[10:20, 8:20] = 1
    np.testing.assert_array_equal(scenes[0].label_map, expected)


def test_opening_counts_by_the_annotations_and_draws_nothing(tree, monkeypatch):
    monkeypatch.setattr("acis_env.datasets.coco._mask", lambda *_: pytest.fail("drawn"))
    assert len(open_coco(tree)) == 2
    assert open_coco(tree, scale=0.5).max_instances == 5
    assert len(open_coco(tree, max_instances=3)) == 1


@pytest.mark.parametrize("area", [0, 19.5, 1e9])
def test_the_instances_of_a_scene_are_no_more_than_promised_whatever_the_field_area_says(tree, area):
    pytest.importorskip("pycocotools")
    change(tree, lambda content: [entry.update(area=area) for entry in content["annotations"]])
    for options in ({}, {"min_area": 121}, {"min_area": 30, "scale": 0.5}, {"max_instances": 3}):
        scenes = open_coco(tree, **options)
        assert 0 < max(scene.num_instances for scene in scenes) <= scenes.max_instances
    assert open_coco(tree, min_area=121).max_instances < 5


def test_annotations_and_images_may_lie_elsewhere(tree, tmp_path, assert_same_scenes):
    expected = list(open_coco(tree, "val"))
    (tree / "annotations" / "instances_val2017.json").rename(tree / "mine.json")
    (tree / "val2017").rename(tree / "pictures")
    assert_same_scenes(open_coco(tree, annotations="mine.json", images=tree / "pictures"), expected)
    with pytest.raises(FileNotFoundError, match=r"names the image 000000000101.jpg, which is in none of .*images="):
        open_coco(tree, annotations="mine.json")


def test_a_split_that_is_missing_is_answered_by_those_there_are(tree):
    with pytest.raises(FileNotFoundError, match=r"split 'test' must have .*, found train2017, val2017"):
        open_coco(tree, "test")


def test_two_years_of_a_split_have_to_be_told_apart(tree):
    path = tree / "annotations" / "instances_val2017.json"
    path.with_name("instances_val2014.json").write_text(path.read_text())
    with pytest.raises(ValueError, match=r"instances_val2014.json, instances_val2017.json for split 'val': choose"):
        open_coco(tree, "val")


def test_a_missing_image_is_named(tree):
    path = tree / "train2017" / "000000000002.jpg"
    path.unlink()
    with pytest.raises(FileNotFoundError, match=f"has no image: {path} does not exist$"):
        open_coco(tree)


def test_an_image_of_another_size_is_an_error_with_both_sizes(tree):
    change(tree, lambda content: content["images"][1].update(height=50))
    change(tree, lambda content: content["annotations"].clear())
    with pytest.raises(ValueError, match=r"0002.jpg is 48x64 but its label map is 50x64 .*instances_train2017.json"):
        open_coco(tree, min_instances=0)[1]


def test_an_unknown_category_lists_those_there_are(tree):
    with pytest.raises(ValueError, match=r"categories must be names or ids of .*, got 'dogs'; there are dog, person"):
        open_coco(tree, categories="dogs")


BROKEN = {
    "not JSON": (lambda path: path.write_text("{"), "expected COCO's instance annotations, got what is not JSON"),
    "another form": (lambda path: path.write_text("[]"), "with a list 'images', got none"),
    "deep": (lambda path: path.write_text("[" * 100_000), "got what is not JSON"),
}


@pytest.mark.parametrize("damage", BROKEN)
def test_a_file_that_holds_no_annotations_is_an_error_of_one_line_that_names_it(tree, damage):
    path = tree / "annotations" / "instances_train2017.json"
    edit, problem = BROKEN[damage]
    edit(path)
    with pytest.raises(ValueError, match=problem) as error:
        open_coco(tree)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("edit", "problem"),
    [
        (lambda content: content["images"][0].pop("width"), r"images\[0\] must have a valid width, got None"),
        (lambda content: content["images"].append(7), r"images\[4\] must have a valid id, got 7"),
        (lambda content: content["images"][0].update(height=0), r"images\[0\] must have a valid height, got 0"),
        (lambda content: content["images"][1].update(id=1), "ids of images must differ"),
        (
            lambda content: content["annotations"][2].update(image_id=77),
            r"annotations\[2\] must be of an image in the list, got 77",
        ),
    ],
)
def test_an_entry_that_is_not_whole_is_named_with_its_place(tree, edit, problem):
    change(tree, edit)
    with pytest.raises(ValueError, match=problem):
        open_coco(tree)


@pytest.mark.parametrize(
    ("segmentation", "problem"),
    [
        ([[1, 2, 3, 4]], "polygons .* of at least 3 corners at the image of 48x64"),
        ([[1, 2, 3, 4, 5, 6, 7]], "polygons"),
        ([["a"] * 6], "polygons"),
        ([[1, 2, 3, 4, 5, float("nan")]], "polygons"),
        ([[1, 2, 3, 4, 5, 1e9]], "polygons"),
        ("x", "polygons"),
        ({"size": [48, 64], "counts": [3, 5]}, "runs must add up to 3072 pixels, got 8"),
        ({"size": [48, 64], "counts": [-3, 3075]}, "counts must be lengths of runs"),
        ({"size": [64, 48], "counts": [3072]}, r"size of the runs must be that of the image, \[48, 64\]"),
        ({"size": [48, 64], "counts": "zz"}, "counts must be numbers in the characters 0 to o"),
        ({"size": [48, 64], "counts": "o" * 99}, "counts must be numbers in the characters 0 to o"),
        ({"size": [48, 64], "counts": "oo"}, "their text ends within a number"),
    ],
)
def test_a_shape_that_is_none_is_named_with_its_annotation(tree, segmentation, problem):
    pytest.importorskip("pycocotools")
    path = change(tree, lambda content: content["annotations"][0].update(segmentation=segmentation))
    with pytest.raises(ValueError, match=problem) as error:
        open_coco(tree)[0]
    assert str(error.value).startswith(f"{path}: annotation 1: ")


def test_an_annotation_without_a_shape_is_left_out_with_a_warning(tree, caplog):
    change(tree, lambda content: content["annotations"][0].update(segmentation=[]))
    assert open_coco(tree)[0].num_instances == 2
    assert "1 annotations have no segmentation" in caplog.text


def test_only_a_folder_with_annotations_of_instances_is_recognised(tree):
    assert "instances_train2017.json" in recognise_coco(tree)
    assert recognise_coco(tree / "train2017") is None


@pytest.mark.parametrize("compressed", [True, False])
def test_runs_decode_to_the_mask_that_was_encoded(compressed):
    rng = np.random.default_rng(0)
    for _ in range(200):
        mask = random_mask(rng)
        np.testing.assert_array_equal(decode_runs(encode_runs(mask, compressed), mask.shape), mask)


def test_runs_are_those_of_pycocotools():
    pycocotools_mask = pytest.importorskip("pycocotools.mask")
    rng = np.random.default_rng(1)
    for _ in range(200):
        mask = random_mask(rng)
        theirs = pycocotools_mask.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()
        assert encode_runs(mask)["counts"] == theirs
