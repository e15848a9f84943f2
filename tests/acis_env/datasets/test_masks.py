"""Folders of images and masks, in whatever layout they are."""

import numpy as np
import pytest
from PIL import Image

from acis_env.datasets import open_scenes
from acis_env.datasets.masks import recognise_masks
from acis_env.testing.trees import WRITERS

LAYOUTS = ["folders", "files", "label-maps", "dsb", "pennfudan"]


def open_masks(root, split="train", **options):
    return open_scenes("dataset:masks", split, (64, 64), {"root": root, **options})


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def square(size=(10, 12), value=255, top=2):
    mask = np.zeros(size, np.uint8)
    mask[top : top + 3, 3:7] = value
    return mask


@pytest.fixture
def tree(tmp_path):
    """An image with two masks in a folder of its own."""
    save(tmp_path / "images" / "a.png", np.zeros((10, 12, 3), np.uint8))
    for number, top in enumerate((1, 6)):
        save(tmp_path / "masks" / "a" / f"{number}.png", square(top=top))
    return tmp_path


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("image_end", "mask_end"), [(".png", ".png"), (".jpg", ".tif"), (".tif", ".png")])
def test_a_layout_loads_the_scenes_that_were_written(tmp_path, assert_same_scenes, layout, image_end, mask_end):
    written = WRITERS["masks"](tmp_path, layout=layout, image_end=image_end, mask_end=mask_end)
    for split, scenes in written.items():
        found = open_masks(tmp_path, split)
        assert_same_scenes(found, scenes)
        assert found.max_instances == max(scene.num_instances for scene in scenes)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_is_recognised(tmp_path, layout):
    assert recognise_masks(tmp_path) is None
    WRITERS["masks"](tmp_path, layout=layout)
    assert "images and masks, such as" in recognise_masks(tmp_path)


@pytest.mark.parametrize("folder", ["test", "stage1_test"])
def test_a_split_alone_is_not_taken_for_the_folder_of_an_image(tmp_path, folder):
    for name in "ab":
        save(tmp_path / folder / "images" / f"{name}.png", np.zeros((10, 12, 3), np.uint8))
        save(tmp_path / folder / "masks" / f"{name}.png", square())
    assert "images and masks, such as" in recognise_masks(tmp_path)
    assert [scene.name for scene in open_masks(tmp_path, "test")] == ["a", "b"]
    with pytest.raises(FileNotFoundError, match="split 'train' must be"):
        open_masks(tmp_path, "train")


def test_splits_may_be_folders_inside_of_images_and_masks(tmp_path):
    for split in ("train", "val"):
        save(tmp_path / "images" / split / f"{split}.png", np.zeros((10, 12, 3), np.uint8))
        save(tmp_path / "labels" / split / f"{split}.png", square())
    assert [scene.name for scene in open_masks(tmp_path, "val")] == ["val"]


def test_images_of_16_bits_are_read_by_their_full_range_or_by_percentiles_and_the_log_says_so(tmp_path, caplog):
    image = np.linspace(1000, 2000, 120).reshape(10, 12).astype(np.uint16)
    save(tmp_path / "images" / "a.tif", image)
    save(tmp_path / "masks" / "a.tif", square().astype(np.uint16))
    assert open_masks(tmp_path)[0].image.max() == 8
    stretched = open_masks(tmp_path, percentiles=(10, 90))[0].image
    assert (stretched.min(), stretched.max()) == (0, 255)
    assert "values from percentile 10 to 90 become 0 to 255" in caplog.text


def test_the_first_of_overlapping_masks_is_on_top(tree):
    save(tree / "masks" / "a" / "1.png", square(top=2))
    label_map = open_masks(tree)[0].label_map
    assert label_map[:, 4].tolist() == [0, 1, 1, 1, 2, 0, 0, 0, 0, 0]


def test_an_empty_folder_of_masks_is_a_scene_without_instances_and_left_out_by_default(tree):
    save(tree / "images" / "b.png", np.zeros((5, 5, 3), np.uint8))
    (tree / "masks" / "b").mkdir()
    assert [scene.name for scene in open_masks(tree)] == ["a"]
    assert [scene.num_instances for scene in open_masks(tree, min_instances=0)] == [2, 0]


def test_values_of_label_maps_that_are_to_be_ignored_are(tmp_path):
    save(tmp_path / "images" / "a.png", np.zeros((10, 12, 3), np.uint8))
    save(tmp_path / "masks" / "a.png", np.maximum(square(top=1), square(value=7, top=6)))
    scene = open_masks(tmp_path, ignore=255)[0]
    assert scene.num_instances == 1
    assert (scene.label_map[1:4, 3:7] == -1).all()


def test_coloured_masks_are_read_when_they_are_asked_for(tree):
    for path in (tree / "masks" / "a").iterdir():
        Image.open(path).convert("RGB").save(path)
    with pytest.raises(ValueError, match="with coloured_labels=True"):
        open_masks(tree)[0]
    assert open_masks(tree, coloured_labels=True)[0].num_instances == 2


def test_masks_in_jpeg_are_refused(tree):
    path = tree / "masks" / "a" / "0.png"
    Image.open(path).save(path.with_suffix(".jpg"))
    path.unlink()
    with pytest.raises(ValueError, match=rf"{path.with_suffix('.jpg')} must be PNG, TIFF or BMP, got .jpg: lossy"):
        open_masks(tree)


def test_one_of_several_masks_must_not_be_a_label_map(tree):
    path = save(tree / "masks" / "a" / "1.png", np.maximum(square(value=3), square(value=4, top=6)))
    with pytest.raises(ValueError, match=f"{path} must hold 0 and one other value, .* got 0, 3, 4"):
        open_masks(tree)[0]


def test_a_mask_of_another_size_is_an_error_with_both_sizes(tree):
    path = save(tree / "masks" / "a" / "1.png", square((10, 13)))
    with pytest.raises(ValueError, match=f"a.png is 10x12 but its mask {path} is 10x13 "):
        open_masks(tree)[0]


def test_an_image_without_masks_is_an_error_that_says_what_was_looked_for(tree):
    path = save(tree / "images" / "b.png", np.zeros((5, 5, 3), np.uint8))
    with pytest.raises(FileNotFoundError, match=rf"{path} has no mask: expected b or b_\* in {tree / 'masks'}"):
        open_masks(tree)


def test_two_images_of_one_name_are_refused(tree):
    save(tree / "images" / "a.jpg", np.zeros((10, 12, 3), np.uint8))
    with pytest.raises(ValueError, match=r"must hold one image 'a', got a.jpg and a.png"):
        open_masks(tree)


def test_a_folder_of_an_image_must_hold_one(tmp_path):
    WRITERS["masks"](tmp_path, layout="dsb")
    save(tmp_path / "stage1_train" / "cell" / "images" / "other.png", np.zeros((5, 5, 3), np.uint8))
    with pytest.raises(ValueError, match=r"cell/images must hold one image, found cell.png, other.png"):
        open_masks(tmp_path)


def test_a_split_that_is_missing_is_answered_by_what_there_is(tmp_path):
    WRITERS["masks"](tmp_path)
    with pytest.raises(FileNotFoundError, match=r"split 'test' must be images/ and masks/.*; found train, val"):
        open_masks(tmp_path, "test")
