"""One function opens every data set by its name, and a new one takes a class and a line."""

from dataclasses import replace
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from PIL import Image

from acis_env.datasets import DATASETS, FolderScenes, Leaves, Scene, open_scenes, register_dataset
from acis_env.datasets.registry import PREFIX, recognise_datasets
from acis_env.testing.trees import WRITERS


class Stripes:
    """A data set of two scenes, each with as many stripes as asked for."""

    def __init__(self, split, size, stripes=3):
        self.split, self.size, self.max_instances = split, size, stripes

    def __len__(self):
        return 2

    def __getitem__(self, index):
        label_map = np.arange(self.size[0] * self.size[1]).reshape(self.size) % (self.max_instances + 1)
        image = np.stack([label_map] * 3).astype(np.uint8)
        return Scene(image, label_map.astype(np.int32), f"stripes-{self.split}-{index}")

    def __iter__(self):
        return (self[index] for index in range(len(self)))


@pytest.fixture
def stripes(monkeypatch):
    monkeypatch.setattr("acis_env.datasets.registry.DATASETS", dict(DATASETS))
    register_dataset("stripes", Stripes, "Scenes of vertical stripes; option `stripes`.")


@pytest.fixture
def folder(tmp_path):
    for split in ("train", "val"):
        (tmp_path / split).mkdir()
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / split / f"{split}0_rgb.png")
        Image.fromarray(np.ones((8, 8), np.uint8)).save(tmp_path / split / f"{split}0_label.png")
    return tmp_path


def test_a_name_opens_its_data_set_with_split_size_and_options():
    scenes = open_scenes("leaves", "val", (32, 64), {"max_leaves": 3, "length": 5})
    assert isinstance(scenes, Leaves)
    assert (scenes.split, scenes.size, scenes.max_instances, len(scenes)) == ("val", (32, 64), 3, 5)


def test_a_path_opens_the_subfolder_of_the_split(folder):
    assert [scene.name for scene in open_scenes(str(folder), "val", (32, 32))] == ["val0"]
    assert [scene.name for scene in open_scenes(str(folder / "val"), "train", (32, 32))] == ["val0"]


def test_a_path_is_the_root_of_the_data_set_named_folder(folder):
    named = open_scenes("folder", "train", (32, 32), {"root": folder, "scale": 0.5})
    assert isinstance(named, FolderScenes)
    assert named[0].image.shape == (3, 4, 4)


def test_a_folder_has_no_other_root(folder, tmp_path):
    with pytest.raises(ValueError, match=r"root must be left out where scenes is a folder, got root=.*elsewhere"):
        open_scenes(str(folder), "train", (64, 64), {"root": tmp_path / "elsewhere"})


def test_a_folder_without_the_split_is_refused(folder):
    with pytest.raises(FileNotFoundError, match="expected a subfolder 'test'"):
        open_scenes(str(folder), "test", (32, 32))


def test_a_folder_of_scenes_is_meant_before_the_data_set_of_its_name_and_the_log_says_so(folder, monkeypatch, caplog):
    monkeypatch.chdir(folder)
    for name in ("leaves", "./leaves"):
        (folder / "train").rename(folder / "leaves")  # without subfolders
        assert isinstance(open_scenes(name, "train", (32, 32)), FolderScenes)
        (folder / "leaves").rename(folder / "train")
    (folder / "leaves").mkdir()
    assert isinstance(open_scenes("leaves", "train", (32, 32)), Leaves)  # a folder without scenes
    (folder / "train").rename(folder / "leaves" / "train")
    caplog.clear()
    assert isinstance(open_scenes("leaves", "train", (32, 32)), FolderScenes)
    assert f"scenes 'leaves': taken for the folder {folder / 'leaves'}; 'dataset:leaves' is the data set" in caplog.text


def test_a_path_is_never_the_name_of_a_data_set(folder, monkeypatch, make_vec):
    monkeypatch.chdir(folder)
    for name in ("leaves", "dataset:leaves"):
        with pytest.raises(FileNotFoundError, match=rf"\({folder / name} is none\)"):
            open_scenes(Path(name), "train", (32, 32))
    with pytest.raises(FileNotFoundError, match=rf"\({folder / 'leaves'} is none\)"):
        make_vec(scenes=Path("leaves"))
    assert [scene.name for scene in open_scenes(Path("train"), "train", (32, 32))] == ["train0"]


def test_a_name_after_dataset_is_never_a_folder(folder, monkeypatch):
    (folder / "train").rename(folder / "leaves")
    monkeypatch.chdir(folder)
    assert isinstance(open_scenes("dataset:leaves", "train", (32, 32)), Leaves)
    assert isinstance(gym.make("ACIS/Leaves-v0").unwrapped._slot.scenes.dataset, Leaves)


def test_the_error_about_a_folder_says_where_it_was_looked_for(folder, monkeypatch):
    monkeypatch.chdir(folder)
    with pytest.raises(FileNotFoundError, match=rf"\({folder / 'mine'} is none\)"):
        open_scenes("mine", "train", (32, 32))


def test_an_unknown_name_lists_the_known_ones_nearest_first():
    with pytest.raises(
        FileNotFoundError, match=r"scenes 'leafs': expected a folder or .* data sets 'leaves', .*'folder'"
    ):
        open_scenes("leafs", "train", (32, 32))
    with pytest.raises(FileNotFoundError, match=r"data sets 'folder', .*'leaves'"):
        open_scenes("folders", "train", (32, 32))


def test_an_unknown_option_is_named_with_the_data_set():
    with pytest.raises(
        ValueError, match="scene options of 'leaves': unknown 'max_petals', the nearest are 'max_leaves'"
    ):
        open_scenes("leaves", "train", (32, 32), {"max_petals": 3})


@pytest.mark.usefixtures("stripes")
def test_a_data_set_of_ones_own_opens_by_its_name():
    scenes = open_scenes("stripes", "test", (32, 32), {"stripes": 2})
    assert scenes[1].name == "stripes-test-1"
    assert scenes[1].num_instances == scenes.max_instances == 2


@pytest.mark.usefixtures("stripes")
def test_an_environment_plays_in_a_data_set_of_ones_own(make_vec):
    env = make_vec(2, scenes="stripes", scene_options={"stripes": 2}, augmentation=None)
    _, info = env.reset(seed=0)
    assert info["num_instances"].tolist() == [2, 2]


@pytest.mark.usefixtures("stripes")
def test_a_name_that_is_taken_is_refused():
    with pytest.raises(ValueError, match=r"name must be new, got 'stripes', which is taken by .*Stripes"):
        register_dataset("stripes", Leaves, "")


def test_every_registered_data_set_says_in_a_line_what_it_holds():
    for dataset in DATASETS.values():
        assert dataset.about
        assert "\n" not in dataset.about


def test_the_environment_that_a_data_set_names_shows_that_data_set():
    named = {name: dataset.environment for name, dataset in DATASETS.items() if dataset.environment}
    assert {"leaves", "bbbc038", "coco", "cityscapes"} <= set(named)
    for name, environment in named.items():
        assert gym.spec(environment).kwargs["scenes"] == PREFIX + name


def test_the_data_set_that_an_environment_shows_names_that_environment():
    specs = {spec.kwargs["scenes"]: name for name, spec in gym.registry.items() if "scenes" in spec.kwargs}
    for scenes, environment in specs.items():
        assert DATASETS[scenes.removeprefix(PREFIX)].environment == environment


def test_a_published_data_set_says_its_licence_what_to_cite_and_where_to_get_it():
    for name, dataset in DATASETS.items():
        if dataset.environment and dataset.source:
            assert dataset.licence, name
            assert dataset.citation, name
            assert "https://" in dataset.source, name


@pytest.mark.parametrize(("name", "options"), [(name, {}) for name in WRITERS] + [("bbbc038", {"layout": "pairs"})])
def test_a_tree_of_files_is_recognised_as_its_data_set(tmp_path, name, options):
    assert recognise_datasets(tmp_path) == {}
    WRITERS[name](tmp_path, **options)
    assert next(iter(recognise_datasets(tmp_path))) == name


def test_a_folder_of_pairs_is_recognised(folder):
    assert recognise_datasets(folder) == {"folder": "pairs <split>/<id>_rgb.png, <id>_label.png"}
    assert recognise_datasets(folder / "val") == {"folder": "pairs <id>_rgb.png, <id>_label.png"}


def test_what_another_data_set_may_not_read_is_no_reason_against_one(tmp_path, monkeypatch):
    def refuse(root):
        raise PermissionError(13, "Permission denied", str(root / "images"))

    WRITERS["coco"](tmp_path / "coco")
    monkeypatch.setitem(DATASETS, "kitti", replace(DATASETS["kitti"], recognise=refuse))
    assert list(recognise_datasets(tmp_path / "coco")) == ["coco"]
    with pytest.raises(PermissionError, match="images"):
        recognise_datasets(tmp_path)


def test_a_folder_in_the_layout_of_a_data_set_is_answered_by_its_name(tmp_path):
    WRITERS["coco"](tmp_path)
    expected = rf"expected pairs .*, found the layout of 'coco': use scenes 'dataset:coco' with root='{tmp_path}'"
    with pytest.raises(FileNotFoundError, match=expected):
        open_scenes(str(tmp_path), "train", (64, 64))
