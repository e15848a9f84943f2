"""Written trees have every trait of the published files that a loader could stumble over."""

import csv

import h5py
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from acis_env.datasets.cvppp import A1_TEST, A1_TRAINING
from acis_env.testing.trees import WRITERS, write_cvppp, write_kitti

SMALL = {"cvppp": {"size": (66, 62), "plants": 3}, "kitti": {"size": (94, 310)}}


def pixels(path):
    with Image.open(path) as image:
        return image.mode, np.array(image)


@pytest.fixture(scope="module")
def plants(tmp_path_factory):
    root = tmp_path_factory.mktemp("cvppp")
    return root, write_cvppp(root, size=(66, 62))


@pytest.fixture(scope="module")
def streets(tmp_path_factory):
    root = tmp_path_factory.mktemp("kitti")
    return root, write_kitti(root, "b", size=(188, 621))


@pytest.mark.parametrize("name", SMALL)
def test_every_tree_that_has_a_name_can_be_written_twice_alike(name, tmp_path):
    first, second = (WRITERS[name](tmp_path / place, **SMALL[name]) for place in ("first", "second"))
    files = sorted(path.relative_to(tmp_path / "first") for path in (tmp_path / "first").rglob("*") if path.is_file())
    assert files
    assert first.keys() == second.keys()
    for file in files:
        assert (tmp_path / "first" / file).read_bytes() == (tmp_path / "second" / file).read_bytes()


@pytest.mark.parametrize("name", SMALL)
def test_a_folder_that_holds_something_is_left_alone(name, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"needs a folder that is new or empty"):
        WRITERS[name](tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a1_is_complete_and_subsets_have_plants_of_the_same_number(plants):
    root, scenes = plants
    for part, numbers in (("training", A1_TRAINING), ("testing", A1_TEST)):
        found = {path.name for path in (root / part / "A1").glob("*_rgb.png")}
        assert found == {f"plant{number:03d}_rgb.png" for number in numbers}
    assert {"A1/plant001", "A2/plant001", "A3/plant001", "A4/plant0862", "A5/plant001"} <= scenes.keys()


def test_pictures_are_rgba_and_the_foreground_is_1(plants):
    root, scenes = plants
    mode, rgba = pixels(root / "training" / "A1" / "plant001_rgb.png")
    assert mode == "RGBA"
    assert (rgba[..., 3] == 255).all()
    np.testing.assert_array_equal(rgba[..., :3], scenes["A1/plant001"].image.transpose(1, 2, 0))
    for part, name in (("training", "plant001"), ("testing", "plant003")):
        mode, foreground = pixels(root / part / "A1" / f"{name}_fg.png")
        assert mode == "P"
        assert set(np.unique(foreground)) == {0, 1}


def test_labels_are_indices_of_a_palette_in_which_grey_and_colours_repeat(plants):
    root, scenes = plants
    path = root / "training" / "A1" / "plant001_label.png"
    mode, labels = pixels(path)
    assert mode == "P"
    np.testing.assert_array_equal(labels, scenes["A1/plant001"].label_map)
    count = labels.max()
    with Image.open(path) as image:
        greys, colours = np.array(image.convert("L")), np.array(image.convert("RGB"))
    assert len(np.unique(greys)) - 1 < count
    assert len(np.unique(colours.reshape(-1, 3), axis=0)) - 1 < count


def test_a_leaf_consists_of_several_pieces_of_which_none_is_a_mere_speck(plants):
    label_map = plants[1]["A1/plant001"].label_map
    sizes = []
    for label in range(1, label_map.max() + 1):
        pieces, count = ndimage.label(label_map == label)
        if count > 1:
            sizes.append(sorted(np.bincount(pieces.ravel())[1:])[-2] / (label_map == label).sum())
    assert max(sizes) > 0.2


def test_the_table_has_a_space_and_no_header_and_folders_have_a_hidden_file(plants):
    root, scenes = plants
    lines = (root / "training" / "A1" / "A1.csv").read_text().splitlines()
    assert lines[0] == f"plant001_rgb.png, {scenes['A1/plant001'].label_map.max()}"
    assert len(list(csv.reader(lines))) == 128
    assert (root / "testing" / "A5" / ".DS_Store").is_file()


def test_centres_have_one_pixel_for_each_leaf(plants):
    mode, centres = pixels(plants[0] / "training" / "A2" / "plant001_centers.png")
    assert mode == "P"
    assert np.count_nonzero(centres) == plants[1]["A2/plant001"].label_map.max()


def test_the_mixture_a5_has_test_images_of_the_other_subsets(plants):
    scenes = plants[1]
    for name, original in (("A5/plant001", "A1/plant003"), ("A5/plant004", "A4/plant0863")):
        np.testing.assert_array_equal(scenes[name].image, scenes[original].image)
    assert scenes["A5/plant001"].label_map is None


def test_hdf5_holds_labels_in_a_file_of_their_own(tmp_path):
    scenes = write_cvppp(tmp_path, "hdf5", **SMALL["cvppp"])
    assert {path.name for path in tmp_path.iterdir()} == {
        "CVPPP2017_training_images.h5",
        "CVPPP2017_training_truth.h5",
        "CVPPP2017_testing_images.h5",
    }
    with h5py.File(tmp_path / "CVPPP2017_training_images.h5") as file:
        plant = file["A1/plant001"]
        assert set(plant) == {f"{what}{end}" for what in ("rgb", "fg", "centers") for end in ("", "_filename")}
        assert plant["rgb"].shape == (66, 62, 4)
        assert plant["rgb_filename"][()] == b"plant001_rgb.png"
    with h5py.File(tmp_path / "CVPPP2017_training_truth.h5") as file:
        plant = file["A1/plant001"]
        assert set(plant) == {"label", "label_filename", "count"}
        assert plant["label_filename"][()] == b"plant001_label.png"
        np.testing.assert_array_equal(plant["label"], scenes["A1/plant001"].label_map)
    with h5py.File(tmp_path / "CVPPP2017_testing_images.h5") as file:
        assert set(file["A5/plant001"]) == {"rgb", "rgb_filename", "fg", "fg_filename"}


def test_the_semantics_release_has_16_bits_and_what_is_no_numbered_car(streets):
    root, scenes = streets
    mode, codes = pixels(root / "training" / "instance" / "000001_10.png")
    assert mode == "I;16"
    classes, numbers = np.divmod(codes.astype(int), 256)
    assert {0, 24, 26, 27} <= set(np.unique(classes))
    assert ((classes == 26) & (numbers == 0)).any()
    assert len(np.unique(codes[(classes == 26) & (numbers > 0)])) == 20
    assert {scene.image.shape[1:] for scene in scenes.values()} == {(188, 621), (185, 612), (187, 619)}
    assert not (root / "testing" / "instance").exists()


def test_a_street_has_a_car_as_small_as_the_smallest_of_kitti(tmp_path):
    scenes = write_kitti(tmp_path, "b", images=5)
    areas = np.bincount(scenes["000001_10"].label_map.clip(0).ravel())[1:]
    assert 20 < areas.min() < 40


@pytest.mark.parametrize("layout", ["a", "c"])
def test_manual_label_maps_differ_from_the_coarse_ones(layout, tmp_path):
    write_kitti(tmp_path, layout, size=(94, 310))
    if layout == "a":
        coarse, manual = tmp_path / "gt" / "000004.png", tmp_path / "gt_man" / "000004.png"
        assert [(tmp_path / f"{name}.txt").read_text() for name in ("valid_man", "test_man")] == ["4\n9\n", "3\n8\n"]
    else:
        coarse, manual = tmp_path / "val" / "000004_labels.png", tmp_path / "AnnotMasksAll" / "000004.png"
    (mode, first), (_, second) = pixels(coarse), pixels(manual)
    assert mode == ("RGB" if layout == "a" else "L")
    assert (first.any(axis=-1) if layout == "a" else first).any()
    assert not np.array_equal(first > 0, second > 0)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("cvppp", {"form": "zip"}, "form must be png, png-flat or hdf5"),
        ("cvppp", {"labels": "grey"}, "labels must be palette, rgb, rgba or 16-bit"),
        ("cvppp", {"size": (40, 80)}, "size must be .*each at least 60"),
        ("kitti", {"layout": "d"}, "layout must be a, b or c"),
        ("kitti", {"images": 2}, "images at least 5"),
        ("kitti", {"size": (10, 10)}, "size must be large enough"),
    ],
)
def test_what_cannot_be_written_is_named(name, options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        WRITERS[name](tmp_path / "tree", **options)
