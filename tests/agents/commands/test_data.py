"""`acis data`: what it prints and writes, and how it ends."""

import json
import os
import shlex

import numpy as np
import pytest
from PIL import Image

from acis_env.datasets import DATASETS, open_scenes
from acis_env.testing.trees import WRITERS
from agents.commands.main import main

LISTED = [name for name in WRITERS if DATASETS[name].listing is not None]
SMALL = {"kitti": {"images": 6, "size": (96, 320)}}
"""Options of writers, where a tree takes long otherwise."""


@pytest.fixture(scope="module")
def plants(tmp_path_factory):
    """A tree of CVPPP, which nobody may change."""
    folder = tmp_path_factory.mktemp("cvppp")
    WRITERS["cvppp"](folder, size=(64, 64))
    return folder


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working directory, with one folder of pairs in it."""
    monkeypatch.chdir(tmp_path)
    for split, number in {"train": 3, "val": 1}.items():
        for place in range(number):
            label_map = np.zeros((40, 48), np.uint8)
            label_map[5:25, 5:25] = 1
            label_map[30:33, 30 : 33 + place] = 2
            (tmp_path / "mine" / split).mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((40, 48, 3), 9, np.uint8)).save(tmp_path / "mine" / split / f"{place}_rgb.png")
            Image.fromarray(label_map).save(tmp_path / "mine" / split / f"{place}_label.png")
    return tmp_path / "mine"


@pytest.fixture
def problems(capsys):
    """A function that runs `acis` with any arguments, which ends with status 2, and returns the lines before that."""

    def run(*arguments):
        with pytest.raises(SystemExit) as end:
            main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        found = printed.out[printed.out.index("problems:\n") :].splitlines()[1:]
        number = f"{len(found)} problem{'s' * (len(found) != 1)}"
        assert end.value.code == 2
        assert printed.err.splitlines()[-1] == f"acis: {arguments[2]} has {number}, see above"
        return printed.out.splitlines()

    return run


@pytest.mark.parametrize("name", LISTED)
def test_an_example_is_recognised_and_has_no_problem(acis, tmp_path, name):
    acis("data", "example", name, tmp_path / "tree")
    printed = acis("data", "check", tmp_path / "tree", "--out", tmp_path / "look.png").splitlines()
    assert printed[0].startswith(f"{tmp_path / 'tree'}: {name}, ")
    assert printed[-1] == "no problems"
    assert Image.open(tmp_path / "look.png").width > 300


def test_scenes_instances_and_what_vanishes_are_counted(acis, folder):
    printed = acis("data", "check", folder, "--size", 32, 32)
    assert "train: 3 scenes\n  sizes 40x48 (height x width)\n  6 instances, 2 per scene, median 2\n" in printed
    assert "  instances of 9 to 400 px" in printed
    assert "  at 32x32 (squeeze) 0 of 6 instances vanish" in printed
    assert "val: 1 scene" in printed
    assert "picture: mine-check.png" in printed
    assert (folder.parent / "mine-check.png").is_file()


def test_a_split_and_a_number_of_scenes_are_looked_at_alone(acis, folder):
    printed = acis("data", "check", folder, "--split", "train", "--num-scenes", 2)
    assert "train: 2 scenes" in printed
    assert "val" not in printed


def test_every_problem_is_printed_with_its_file_and_ends_with_status_2(problems, folder):
    (folder / "train" / "0_rgb.png").write_bytes(b"no picture")
    Image.fromarray(np.zeros((40, 48), np.uint8)).save(folder / "train" / "1_label.png")
    Image.fromarray(np.zeros((5, 5), np.uint8)).save(folder / "val" / "0_label.png")
    printed = problems("data", "check", folder)
    assert printed[-4] == "problems:"
    assert str(folder / "train" / "0_rgb.png") in printed[-3]
    assert printed[-2] == f"  {folder / 'train' / '1_label.png'}: expected at least one instance, found background only"
    assert f"{folder / 'val' / '0_rgb.png'} is 40x48 but its label map is 5x5" in printed[-1]


def test_a_split_that_cannot_be_opened_is_a_problem_beside_those_of_the_others(problems, tmp_path):
    WRITERS["coco"](tmp_path / "coco")
    path = tmp_path / "coco" / "annotations" / "instances_val2017.json"
    path.write_text("{")
    printed = problems("data", "check", tmp_path / "coco", "--out", tmp_path / "look.png")
    assert "train: 4 scenes" in printed
    assert printed[-1].startswith(f"  val: {path}: expected COCO's instance annotations, got what is not JSON")


def test_scenes_without_instances_are_no_problem_if_they_are_wanted(acis, folder):
    Image.fromarray(np.zeros((40, 48), np.uint8)).save(folder / "train" / "1_label.png")
    assert acis("data", "check", folder, "--scene-options", '{"min_instances": 0}').endswith("no problems\n")


@pytest.mark.parametrize("name", WRITERS)
def test_converted_data_are_read_with_the_options_that_were_printed(acis, plants, tmp_path, name):
    tree = plants if name == "cvppp" else tmp_path / "tree"
    if name != "cvppp":
        WRITERS[name](tree, **SMALL.get(name, {}))
    some = ["--split", "val"] if name == "cvppp" else []
    printed = acis("data", "convert", tree, tmp_path / "pairs", *some).splitlines()
    (line,) = [line.removeprefix("read them by: ") for line in printed if line.startswith("read them by: ")]
    words = shlex.split(line)
    assert words[:2] == ["--scenes", str(tmp_path / "pairs")]
    options = json.loads(words[3]) if len(words) > 2 else {}
    everything = {} if DATASETS[name].options is None else {"min_instances": 0, "max_instances": None}
    for split in (path.name for path in (tmp_path / "pairs").iterdir()):
        source = {"root": tree, **everything}
        before = {s.name.replace("/", "_"): s for s in open_scenes(f"dataset:{name}", split, (64, 64), source)}
        after = {scene.name: scene for scene in open_scenes(words[1], split, (64, 64), options)}
        assert before.keys() == after.keys()
        for scene_name, scene in before.items():
            np.testing.assert_array_equal(scene.image, after[scene_name].image)
            if scene.label_map is None:
                assert after[scene_name].label_map is None
            else:
                np.testing.assert_array_equal(scene.label_map, after[scene_name].label_map)
    arguments = ["--scene-options", json.dumps(options)] if options else []
    printed = acis("data", "check", tmp_path / "pairs", "--out", tmp_path / "look.png", *arguments)
    assert printed.endswith("no problems\n")


def test_a_split_that_is_not_there_is_no_problem_unless_it_is_asked_for(acis, mistake, plants, tmp_path):
    (tmp_path / "training").symlink_to(plants / "training")
    printed = acis("data", "check", tmp_path, "--num-scenes", 2, "--out", tmp_path / "look.png")
    assert [line.split(":")[0] for line in printed.splitlines() if line.endswith(" scenes")] == ["train", "val"]
    assert "no testing images of CVPPP" in mistake("data", "check", tmp_path, "--split", "test")


def test_the_preprocessing_is_that_of_the_published_figures_or_the_one_that_is_named(acis, plants, tmp_path):
    check = ["data", "check", plants, "--split", "val", "--num-scenes", 1, "--out", tmp_path / "look.png"]
    assert "at 64x64 (shorter-side)" in acis(*check)
    assert "at 64x64 (halve-crop)" in acis(*check, "--preprocessing", "halve-crop")


def test_options_and_a_split_are_those_of_the_data_set(acis, tmp_path):
    WRITERS["coco"](tmp_path / "coco")
    options = ["--split", "val", "--scene-options", '{"categories": "dog", "min_instances": 1}']
    assert "val: 1 scenes" in acis("data", "convert", tmp_path / "coco", tmp_path / "pairs", *options)
    assert [path.name for path in (tmp_path / "pairs").iterdir()] == ["val"]


def test_a_data_set_is_described_by_what_its_source_says(acis):
    printed = acis("data", "describe", "cityscapes")
    for words in ("by agreement", "Cordts", "www.cityscapes-dataset.com", "ACIS/Cityscapes-v0", "train, val"):
        assert words in printed
    for words in ("_gtFine_instanceIds.png", "classes: names or ids", "min_area: instances of fewer pixels"):
        assert words in printed


def test_without_a_name_all_data_sets_are_described_in_a_line_each(acis):
    lines = acis("data", "describe").splitlines()
    assert [line.split()[0] for line in lines] == list(DATASETS)
    assert all(dataset.about in line for line, dataset in zip(lines, DATASETS.values(), strict=True))


@pytest.mark.parametrize("name", DATASETS)
def test_every_data_set_can_be_described(acis, name):
    assert acis("data", "describe", name).startswith(f"{name}: ")


def test_a_folder_without_a_known_layout_is_refused_and_all_are_named(mistake, tmp_path):
    expected = f"{tmp_path}: expected the layout of one of folder, masks, coco, cityscapes, bbbc038, cvppp, kitti"
    assert expected in mistake("data", "check", tmp_path)
    assert expected in mistake("data", "convert", tmp_path, tmp_path / "pairs")
    assert list(tmp_path.iterdir()) == []


def test_folders_that_another_data_set_cannot_read_are_no_reason_against_pairs(acis, folder):
    (folder / "raw" / "images").mkdir(parents=True)
    for name in ("a", "b"):
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(folder / "raw" / "images" / f"{name}.png")
    for named in ((), ("--dataset", "folder")):
        assert "3 scenes" in acis("data", "check", folder, *named)


def test_wrong_arguments_are_answered_in_a_line(mistake, folder, tmp_path):
    assert f"{tmp_path / 'none'}: expected the folder of a data set, found none" in mistake(
        "data", "check", tmp_path / "none"
    )
    assert "found a file" in mistake("data", "check", folder / "train" / "0_rgb.png")
    assert "unknown 'coca', the nearest are 'coco'" in mistake("data", "check", folder, "--dataset", "coca")
    assert "unknown 'coca', the nearest are 'coco'" in mistake("data", "describe", "coca")
    assert "examples: unknown 'leaves'" in mistake("data", "example", "leaves", tmp_path / "tree")
    assert str(folder / "test") in mistake("data", "check", folder, "--split", "test")
    assert "multiples of 32" in mistake("data", "check", folder, "--size", 33, 64)
    assert "num_scenes must be at least 1, got 0" in mistake("data", "check", folder, "--num-scenes", 0)
    assert "unknown 'ignored', the nearest are 'ignore'" in mistake(
        "data", "check", folder, "--scene-options", '{"ignored": 255}'
    )
    assert "split 'train' must have" in mistake("data", "convert", folder, tmp_path / "pairs", "--dataset", "coco")


def test_a_folder_that_holds_something_is_never_written_to(mistake, folder, tmp_path):
    WRITERS["masks"](tmp_path / "masks")
    before = sorted(tmp_path.rglob("*"))
    expected = f"{folder}: expected a folder that is new or empty, found train in it"
    assert expected in mistake("data", "convert", tmp_path / "masks", folder)
    assert expected in mistake("data", "example", "coco", folder)
    assert sorted(tmp_path.rglob("*")) == before


def break_png(path):
    path.write_bytes(path.read_bytes()[:50])


def crop_png(path):
    Image.open(path).crop((0, 0, 20, 20)).save(path)


@pytest.mark.parametrize(
    ("name", "pattern", "damage", "expected"),
    [
        ("bbbc038", "stage1_train/003cee89357d*/images/*.png", break_png, "cannot be"),
        ("bbbc038", "stage1_train/003cee89357d*/masks/0001*.png", crop_png, "they must be equal"),
        ("coco", "train2017/000000000001.jpg", break_png, "cannot be"),
        ("coco", "train2017/000000000001.jpg", crop_png, "they must be equal"),
        ("coco", "annotations/instances_train2017.json", lambda path: path.write_text("["), "expected COCO's instance"),
        ("cityscapes", "gtFine/train/aachen/*000000*instanceIds.png", break_png, "cannot be"),
        ("cityscapes", "leftImg8bit/train/aachen/*000000*.png", crop_png, "they must be equal"),
        ("masks", "train/masks/cell/001.png", break_png, "cannot be"),
        ("masks", "train/images/cell.png", crop_png, "they must be equal"),
    ],
)
def test_damaged_data_end_a_conversion_with_a_line_that_names_the_file_and_nothing_written(
    mistake, problems, tmp_path, name, pattern, damage, expected
):
    WRITERS[name](tmp_path / "tree")
    (path,) = (tmp_path / "tree").glob(pattern)
    damage(path)
    message = mistake("data", "convert", tmp_path / "tree", tmp_path / "pairs")
    assert expected in message
    assert str(path) in message
    assert [left.name for left in tmp_path.iterdir()] == ["tree"]
    printed = problems("data", "check", tmp_path / "tree", "--out", tmp_path / "look.png")
    assert any(str(path) in line and expected in line for line in printed)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the administrator may read anything")
def test_a_folder_that_may_not_be_read_is_named(mistake, folder):
    place = folder / "train"
    place.chmod(0)
    try:
        assert str(place) in mistake("data", "convert", folder, folder.parent / "pairs")
        assert not (folder.parent / "pairs").exists()
    finally:
        place.chmod(0o755)
