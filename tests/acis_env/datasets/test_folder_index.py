"""What is remembered of large folders, so that another process opens them in no time."""

import json

import numpy as np
import pytest
from PIL import Image

from acis_env.datasets import FolderScenes, folder_index
from acis_env.pictures import Reading


@pytest.fixture(autouse=True)
def _large(monkeypatch):
    """Twelve pairs are a large folder."""
    monkeypatch.setattr(folder_index, "LARGE", 12)


@pytest.fixture
def open_anew(monkeypatch, folder):
    """A function that opens the folder as another process would: its scenes, and how many label maps it read."""
    read = []
    label_map = Reading.label_map
    monkeypatch.setattr(Reading, "label_map", lambda self, *args: read.append(args) or label_map(self, *args))

    def open_folder(**options):
        read.clear()
        monkeypatch.setattr(folder_index, "_INDICES", {})
        scenes = FolderScenes(folder, **options)
        return scenes, len(read)

    return open_folder


CROPS = {"crop": "random", "crop_size": (16, 24), "crops_per_image": 2, "min_instances": 0, "max_instances": 3}


@pytest.mark.parametrize("options", [{}, CROPS, {"scale": 0.5, "min_area": 9}])
def test_a_large_folder_is_looked_through_once_and_has_the_same_scenes_ever_after(open_anew, options):
    (first, read), (second, read_again) = open_anew(**options), open_anew(**options)
    assert (read, read_again) == (12, 0)
    assert second.max_instances == first.max_instances
    assert [scene.name for scene in second] == [scene.name for scene in first]
    for ours, theirs in zip(second, first, strict=True):
        assert (ours.image == theirs.image).all()
        assert (ours.label_map == theirs.label_map).all()


def test_a_small_folder_leaves_nothing_on_disk(open_anew, caches, monkeypatch):
    monkeypatch.setattr(folder_index, "LARGE", 13)
    assert [open_anew()[1] for _ in range(2)] == [12, 12]
    assert not list(caches.iterdir())


def test_other_files_and_other_options_are_looked_through_again(open_anew, folder):
    fingerprint = open_anew()[0].fingerprint
    assert open_anew()[0].fingerprint == fingerprint
    scenes, read = open_anew(min_area=30)
    assert (read, scenes.fingerprint != fingerprint) == (12, True)
    path = folder / "0007_label.png"
    Image.fromarray((np.asarray(Image.open(path)) == 1).astype(np.uint8)).save(path)
    scenes, read = open_anew()
    assert (read, scenes.fingerprint != fingerprint) == (12, True)
    assert scenes[7].num_instances == 1


@pytest.mark.parametrize("damage", ["cut", "change", "older", "strange"])
def test_a_damaged_index_is_not_believed_and_written_anew(open_anew, caches, damage):
    names = [scene.name for scene in open_anew()[0]]
    (path,) = caches.glob("folders/*.json")
    text = path.read_text()
    content = json.loads(text)
    del content["sha256"]
    changes = {"older": {"format": 0}, "strange": {"scenes": ["no window"]}}
    replaced = json.dumps({**content, **changes.get(damage, {})})
    path.write_text({"cut": text[:-100], "change": text.replace("0003", "0004")}.get(damage, replaced))
    for expected in (12, 0):
        scenes, read = open_anew()
        assert read == expected
        assert [scene.name for scene in scenes] == names


def test_an_error_is_found_again_in_every_process(open_anew, folder, caches):
    Image.new("L", (48, 40)).save(folder / "0005_label.png")
    for _ in range(2):
        with pytest.raises(ValueError, match=r"0005_label\.png: every pixel is background") as error:
            open_anew()
        assert error.value.__context__ is None
    assert not list(caches.glob("folders/*"))


def test_of_several_wrong_files_the_first_is_named(open_anew, folder, monkeypatch):
    monkeypatch.setattr("acis_env.threads.num_threads", lambda: 4)
    for number in (4, 9, 11):
        Image.new("L", (8, 8)).save(folder / f"{number:04d}_label.png")
    with pytest.raises(ValueError, match=r"0004_rgb\.png is 40x48 but its label map is 8x8"):
        open_anew()


def test_a_place_where_nothing_can_be_written_is_no_hindrance(open_anew, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("ACIS_CACHE", str(tmp_path / "file"))
    assert [open_anew()[1] for _ in range(2)] == [12, 12]
