"""CVPPP loads alike from every form of its releases, and says in one line what is wrong with a download."""

import os
import shutil

import gymnasium as gym
import h5py
import numpy as np
import pytest
from PIL import Image

from acis_env.datasets import DATASETS, CvpppScenes, open_scenes
from acis_env.datasets.cvppp import A1_TEST, A1_TRAINING, A1_VAL
from acis_env.testing.trees import write_cvppp

SUBSETS = ("A1", "A2", "A3", "A4")
SMALL = {"size": (66, 62), "plants": 6}
FORMS = {
    "png": {"form": "png"},
    "png-flat": {"form": "png-flat"},
    "hdf5": {"form": "hdf5"},
    "rgb": {"labels": "rgb"},
    "rgba": {"labels": "rgba"},
    "16-bit": {"labels": "16-bit"},
}


@pytest.fixture(scope="module", params=FORMS)
def tree(request, tmp_path_factory):
    """A small tree in one of the forms: its folder, and the scenes that were written."""
    root = tmp_path_factory.mktemp(request.param)
    return root, write_cvppp(root, **SMALL, **FORMS[request.param])


@pytest.fixture(scope="module")
def copy_tree(tmp_path_factory):
    """A function that copies a small tree of a form, which is drawn once, to a folder, and returns its scenes."""
    drawn = {}

    def copy(folder, form="png"):
        if form not in drawn:
            root = tmp_path_factory.mktemp(form)
            drawn[form] = root, write_cvppp(root, form, **SMALL)
        root, written = drawn[form]
        shutil.copytree(root, folder, dirs_exist_ok=True)
        return written

    return copy


@pytest.fixture
def small(copy_tree, tmp_path):
    """A small PNG tree that may be spoiled, and its scenes."""
    return tmp_path, copy_tree(tmp_path)


def load(root, split="trainval", subsets=("A1",), **options):
    return CvpppScenes(split, root=root, subsets=subsets, incomplete=True, **options)


def assert_same(scene, written):
    assert scene.name == written.name
    np.testing.assert_array_equal(scene.image, written.image)
    np.testing.assert_array_equal(scene.foreground, written.foreground)
    if written.label_map is None:
        assert scene.label_map is None
    else:
        np.testing.assert_array_equal(scene.label_map, written.label_map)


def test_every_form_gives_the_scenes_that_were_written(tree):
    root, written = tree
    training, test = load(root, subsets=SUBSETS), load(root, "test", (*SUBSETS, "A5"))
    assert {scene.name for scene in (*training, *test)} == written.keys()
    for scene in (*training, *test):
        assert_same(scene, written[scene.name])
    assert training.max_instances == max(scene.label_map.max() for scene in training)
    assert test.max_instances == 0


def test_the_folder_is_recognised_for_what_it_is(tree):
    assert [name for name, known in DATASETS.items() if known.recognise and known.recognise(tree[0])][-1] == "cvppp"


@pytest.mark.parametrize("form", ["png", "hdf5"])
def test_test_plants_have_labels_where_the_truth_is_there(form, tmp_path):
    written = write_cvppp(tmp_path, form, truth=True, **SMALL)
    test = load(tmp_path, "test", ("A1", "A5"))
    assert test.max_instances == max(scene.label_map.max() for scene in test)
    for scene in test:
        assert_same(scene, written[scene.name])


def test_plants_of_the_same_number_in_two_subsets_are_two_scenes(tree):
    first, second = (load(tree[0], subsets=(subset,))[0] for subset in ("A2", "A3"))
    assert (first.name, second.name) == ("A2/plant001", "A3/plant001")
    assert first.image.shape != second.image.shape


def test_plants_of_a4_have_four_digits(tree):
    assert [scene.name for scene in load(tree[0], subsets=("A4",))] == ["A4/plant0862", "A4/plant0864"]


def test_the_split_of_a1_is_what_e2e_shuffles():
    ids = sorted(set(range(1, 162)) - set(A1_TEST))
    assert tuple(ids) == A1_TRAINING
    assert len(ids) == 128
    positions = np.arange(128)
    np.random.RandomState(2).shuffle(positions)
    assert tuple(sorted(ids[position] for position in positions[103:])) == A1_VAL


def test_a_whole_a1_opens_without_being_told_to_accept_less(tmp_path, caplog):
    write_cvppp(tmp_path, size=(62, 60))
    splits = {split: CvpppScenes(split, root=tmp_path) for split in ("train", "val", "trainval", "test")}
    assert {split: len(scenes) for split, scenes in splits.items()} == {
        "train": 103,
        "val": 25,
        "trainval": 128,
        "test": 33,
    }
    names = {split: {scene.name for scene in scenes} for split, scenes in splits.items()}
    assert names["train"] | names["val"] == names["trainval"]
    assert names["val"] == {f"A1/plant{number:03d}" for number in A1_VAL}
    assert not caplog.records


def test_train_and_val_of_other_subsets_share_no_plant_and_leave_none_out(small):
    names = {split: {scene.name for scene in load(small[0], split, ("A2", "A3"))} for split in ("train", "val")}
    assert names == {"train": {"A2/plant001", "A3/plant001"}, "val": {"A2/plant004", "A3/plant009"}}


def test_missing_plants_of_a1_are_counted_and_named(small, caplog):
    root, _ = small
    for path in (root / "training" / "A1").glob("plant002*"):
        path.unlink()
    message = r"training: 123 of the 128 plants of A1 are missing: plant002, plant010, .*, plant161; is the download"
    with pytest.raises(FileNotFoundError, match=message):
        CvpppScenes("train", root=root)
    assert [scene.name for scene in load(root)] == [f"A1/plant{number:03d}" for number in (1, 5, 6, 7, 8)]
    assert "123 of the 128 plants of A1 are missing: plant002" in caplog.text


def test_a_plant_that_is_none_of_a1_is_left_out_with_a_warning(small, caplog):
    folder = small[0] / "training" / "A1"
    for what in ("rgb", "label", "fg"):
        shutil.copy(folder / f"plant001_{what}.png", folder / f"plant900_{what}.png")
    assert "A1/plant900" not in {scene.name for scene in load(small[0])}
    assert "1 plants are none of this part of A1 and left out: plant900" in caplog.text


def test_a_leaf_count_other_than_the_table_is_a_warning(small, caplog):
    root, _ = small
    path = root / "training" / "A1" / "plant001_label.png"
    with Image.open(path) as image:
        grey = np.array(image.convert("L"))
    Image.fromarray(grey).save(path)
    count = len(np.unique(grey)) - 1
    assert load(root).max_instances > 0
    assert f"A1/plant001 has {count} leaves, expected " in caplog.text


def test_a_plant_without_a_foreground_has_none(small):
    (small[0] / "training" / "A1" / "plant001_fg.png").unlink()
    assert load(small[0])[0].foreground is None


def test_a_label_map_with_300_leaves_in_16_bits_keeps_them_all(small):
    root, written = small
    labels = np.zeros(written["A1/plant001"].image.shape[1:], np.uint16)
    labels.flat[:300] = np.arange(1, 301)
    Image.fromarray(labels).save(root / "training" / "A1" / "plant001_label.png")
    scenes = load(root)
    assert scenes.max_instances == 300
    np.testing.assert_array_equal(scenes[0].label_map, labels)


def test_a_plant_of_one_pixel_is_a_scene(small):
    folder = small[0] / "training" / "A1"
    for what, value in (("rgb", (9, 8, 7)), ("label", 1), ("fg", 1)):
        Image.fromarray(np.array([[value]], np.uint8)).save(folder / f"plant001_{what}.png")
    scene = load(small[0])[0]
    assert scene.image.tolist() == [[[9]], [[8]], [[7]]]
    assert (scene.label_map.tolist(), scene.foreground.tolist()) == ([[1]], [[True]])


@pytest.mark.parametrize("what", ["label", "fg"])
def test_sizes_that_differ_are_both_named(small, what):
    path = small[0] / "training" / "A1" / f"plant001_{what}.png"
    Image.fromarray(np.ones((5, 4), np.uint8)).save(path)
    with pytest.raises(ValueError, match=rf"plant001_rgb\.png is 66x62 but its .* is 5x4 .*plant001_{what}\.png"):
        load(small[0])[0]


def test_sizes_that_differ_in_hdf5_are_both_named(copy_tree, tmp_path):
    copy_tree(tmp_path, "hdf5")
    with h5py.File(tmp_path / "CVPPP2017_training_truth.h5", "r+") as file:
        del file["A1/plant001/label"]
        file["A1/plant001/label"] = np.ones((5, 4), np.uint8)
    with pytest.raises(ValueError, match=r"training_images\.h5: A1/plant001/rgb is 66x62 but label is 5x4"):
        load(tmp_path)[0]


@pytest.mark.parametrize("name", ["images", "truth"])
@pytest.mark.parametrize("kept", [0, 100, 0.5, 0.99])
def test_a_truncated_hdf5_file_is_named(copy_tree, name, kept, tmp_path):
    copy_tree(tmp_path, "hdf5")
    path = tmp_path / f"CVPPP2017_training_{name}.h5"
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content)) if kept < 1 else kept])
    with pytest.raises(ValueError, match=rf"{path} cannot be read as HDF5, is it damaged or cut off\? \(.+\)$"):
        list(load(tmp_path))


def test_a_damaged_picture_in_hdf5_is_named(copy_tree, tmp_path):
    copy_tree(tmp_path, "hdf5")
    path = tmp_path / "CVPPP2017_training_images.h5"
    with h5py.File(path) as file:
        chunk = file["A1/plant001/rgb"].id.get_chunk_info(0)
    with path.open("r+b") as file:
        file.seek(chunk.byte_offset)
        file.write(b"\xff" * chunk.size)
    with pytest.raises(ValueError, match=rf"{path} cannot be read as HDF5, is it damaged"):
        load(tmp_path)[0]


@pytest.mark.parametrize(
    ("lost", "message"),
    [
        ("CVPPP2017_training_truth.h5", r"training_truth\.h5: no such file; it is a part of the HDF5 release"),
        ("CVPPP2017_training_images.h5", r"no training images of CVPPP; expected training/A1 .*, found CVPPP2017_test"),
    ],
)
def test_a_missing_file_of_hdf5_is_named(copy_tree, lost, message, tmp_path):
    copy_tree(tmp_path, "hdf5")
    (tmp_path / lost).unlink()
    with pytest.raises(FileNotFoundError, match=message):
        load(tmp_path)


def test_labels_that_hdf5_lacks_are_named(copy_tree, tmp_path):
    copy_tree(tmp_path, "hdf5")
    with h5py.File(tmp_path / "CVPPP2017_training_truth.h5", "r+") as file:
        del file["A1/plant005"], file["A2"]
    with pytest.raises(FileNotFoundError, match=r"truth\.h5 has no labels of 1 plants of A1 .*: plant005; expected"):
        load(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"truth\.h5 has no group A2; found A1, A3, A4"):
        load(tmp_path, subsets=("A2",))


def test_without_h5py_the_error_names_the_extra(copy_tree, tmp_path, monkeypatch):
    copy_tree(tmp_path, "hdf5")
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    with pytest.raises(ValueError, match=r"HDF5 needs h5py: pip install 'acis-env\[data\]'"):
        load(tmp_path)


def test_a_folder_without_cvppp_is_named_with_what_is_in_it(tmp_path):
    (tmp_path / "plant001_rgb.png").touch()
    with pytest.raises(FileNotFoundError, match=rf"{tmp_path}: no training images .* found plant001_rgb\.png"):
        load(tmp_path)


def test_training_images_without_their_level_are_not_taken_for_test_images(copy_tree, tmp_path):
    copy_tree(tmp_path, "png-flat")
    shutil.rmtree(tmp_path / "testing")
    with pytest.raises(FileNotFoundError, match=r"no testing images of CVPPP"):
        load(tmp_path, "test")


def test_a_missing_subset_and_half_a_pair_are_named(small):
    root, _ = small
    (root / "training" / "A1" / "plant001_label.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"plant001 has no label: .*plant001_label\.png does not exist"):
        load(root)
    shutil.rmtree(root / "training" / "A2")
    with pytest.raises(FileNotFoundError, match=r"A2 is no folder; expected plantNNN_rgb\.png .*, found A1, A3, A4"):
        load(root, subsets=("A2",))


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("folder", [".", "training/A1"])
def test_a_folder_that_cannot_be_read_is_named(small, folder):
    place = small[0] / folder
    place.chmod(0)
    try:
        with pytest.raises(PermissionError, match=rf"{place.resolve()} cannot be read \(Permission denied\); expected"):
            load(small[0])
    finally:
        place.chmod(0o755)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "validation"}, r"split must be one of train, val, trainval, test, got 'validation'"),
        ({"subsets": ("A1", "A6")}, r"subsets must be some of A1, A2, A3, A4 in the split 'train', got \['A1', 'A6'\]"),
        ({"subsets": ("A5",)}, r"subsets must be some of A1, A2, A3, A4 in the split 'train', got \['A5'\]"),
        ({"subsets": ()}, r"got \[\]"),
        ({"subsets": ("A1", "A1")}, r"got \['A1', 'A1'\]"),
    ],
)
def test_arguments_out_of_range_are_named(options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        CvpppScenes(root=tmp_path, **options)


def test_the_registry_opens_it_by_root_or_by_an_environment_variable(small, monkeypatch):
    options = {"incomplete": True, "subsets": ["A2"]}
    named = open_scenes("cvppp", "train", (64, 64), {"root": str(small[0]), **options})
    monkeypatch.setenv("ACIS_CVPPP_ROOT", str(small[0]))
    by_variable = open_scenes("dataset:cvppp", "train", (64, 64), options)
    assert [scene.name for scene in named] == [scene.name for scene in by_variable] == ["A2/plant001"]


def test_without_a_root_the_error_says_where_the_data_come_from(monkeypatch):
    monkeypatch.delenv("ACIS_CVPPP_ROOT", raising=False)
    with pytest.raises(
        FileNotFoundError, match=r"set ACIS_CVPPP_ROOT, .* Get them from https://www\.plant-phenotyping"
    ):
        open_scenes("cvppp", "train", (64, 64))


@pytest.mark.parametrize(
    ("form", "changed"), [("png", "training/A1/plant001_fg.png"), ("hdf5", "CVPPP2017_training_truth.h5")]
)
def test_the_fingerprint_changes_with_the_files(copy_tree, form, changed, tmp_path):
    copy_tree(tmp_path, form)
    first = load(tmp_path).fingerprint
    assert load(tmp_path).fingerprint == first != load(tmp_path, subsets=("A2",)).fingerprint
    with (tmp_path / changed).open("ab") as file:
        file.write(b"\0")
    assert load(tmp_path).fingerprint != first


def test_its_environment_takes_the_root_and_follows_the_protocol(tmp_path, make_networks):
    write_cvppp(tmp_path, size=(62, 60))
    env = gym.make_vec("ACIS/CVPPP-v0", num_envs=2, root=str(tmp_path), weights=make_networks((32, 32)))
    assert (env.threshold, env.scenes.preprocessing.name, len(env.scenes)) == (0.3, "shorter-side", 103)
    env.reset(seed=0)
    rewards = env.step(env.action_space.sample())[1]
    assert rewards.shape == (2,)
    assert env.scenes.scene(0).name == "A1/plant001"
