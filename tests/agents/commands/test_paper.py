"""`acis paper`: the published pipeline with tiny networks, from files to a submission, whole or in parts."""

import sys
from dataclasses import replace
from shutil import rmtree

import h5py
import pytest

from acis_env.checksums import read_json
from acis_env.files import write_json
from acis_env.testing.trees import write_cvppp, write_kitti
from agents.commands import paper
from agents.experiments import paper_time
from agents.experiments.paper import RECIPES
from agents.experiments.paper_time import Timed


@pytest.fixture
def tiny(monkeypatch):
    """Networks for 32x32 instead of the published ones."""
    changed = {
        name: replace(recipe, size=(32, 32), latent_size=3, architecture="compact") for name, recipe in RECIPES.items()
    }
    monkeypatch.setattr(paper, "RECIPES", changed)


@pytest.fixture
def interrupt(monkeypatch):
    """A function after whose call the command `name` is interrupted instead of run; it gives the commands that ran."""
    run, ran = paper.main, []

    def before(name):
        ran.clear()

        def running(arguments):
            if arguments[0] == name:
                raise KeyboardInterrupt
            ran.append(arguments[0])
            run(arguments)

        monkeypatch.setattr(paper, "main", running)
        return ran

    return before


@pytest.fixture(scope="module")
def plants(tmp_path_factory):
    root = tmp_path_factory.mktemp("cvppp")
    write_cvppp(root, size=(62, 60))
    return root


def content(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_cvppp_goes_from_files_to_a_submission_and_a_second_call_changes_nothing(acis, tiny, plants, tmp_path):
    arguments = ["paper", "cvppp", "--root", plants, "--out", tmp_path, "--quick"]
    printed = acis(*arguments)
    assert printed.startswith(
        "103 scenes in train, 25 scenes in val, 33 scenes in test\n1. context: acis pretrain context"
    )
    with h5py.File(tmp_path / "submission.h5") as file:
        assert {subset: len(file[subset]) for subset in file} == {"A1": 33, "A2": 1, "A3": 1, "A4": 1, "A5": 4}
    table = read_json(tmp_path / "evaluation" / "evaluation.json")
    assert table
    assert list(read_json(tmp_path / "paper.json")["done"]) == [
        "context",
        "decoder",
        "training",
        "evaluation",
        "submission",
    ]
    before = content(tmp_path)
    assert acis(*arguments).count(": done, ") == 5
    assert content(tmp_path) == before


def test_kitti_goes_from_files_to_a_submission_and_its_run_finds_data_that_have_moved(acis, mistake, tiny, tmp_path):
    write_kitti(tmp_path / "data", "a", images=5)
    acis("paper", "kitti", "--root", tmp_path / "data", "--out", tmp_path / "out", "--quick")
    assert [path.name for path in (tmp_path / "out" / "submission").iterdir()] == ["000003.png"]
    assert (tmp_path / "out" / "evaluation" / "evaluation.json").is_file()
    (tmp_path / "data").rename(tmp_path / "moved")
    evaluation = ["evaluate", tmp_path / "out" / "run", "--num-scenes", 1]
    assert f"got {tmp_path / 'data'}, which is none" in mistake(*evaluation)
    assert "kitti, split val, 1 scenes" in acis(*evaluation, "--root", tmp_path / "moved")


def test_without_test_images_there_is_no_submission(acis, tiny, monkeypatch, tmp_path):
    write_kitti(tmp_path / "data", "b", images=5)
    rmtree(tmp_path / "data" / "testing")
    ran = []
    monkeypatch.setattr(paper, "main", lambda arguments: ran.append(arguments[0]))
    printed = acis("paper", "kitti", "--root", tmp_path / "data", "--out", tmp_path / "out", "--quick")
    assert ran == ["pretrain", "pretrain", "train", "evaluate"]
    assert "no submission, since there are no test images: kitti: split 'test'" in printed


def test_an_interrupted_pipeline_goes_on_with_the_step_it_was_at_and_a_run_is_resumed(
    acis, tiny, interrupt, plants, tmp_path
):
    arguments = ["paper", "cvppp", "--root", plants, "--out", tmp_path, "--quick"]
    ran = interrupt("evaluate")
    with pytest.raises(SystemExit):
        acis(*arguments)
    assert ran == ["pretrain", "pretrain", "train"]
    record = read_json(tmp_path / "paper.json")
    del record["done"]["training"]
    write_json(tmp_path / "paper.json", record, checksum=True)
    ran = interrupt(None)
    printed = acis(*arguments)
    assert ran == ["train", "evaluate", "submit"]
    assert f"acis train --resume {tmp_path / 'run'}" in printed
    assert printed.count(": done, ") == 2


def test_a_folder_with_other_settings_is_refused(mistake, tiny, interrupt, plants, tmp_path):
    interrupt("pretrain")
    arguments = ["paper", "cvppp", "--root", plants, "--out", tmp_path]
    with pytest.raises(AssertionError):  # the interruption is no mistake
        mistake(*arguments, "--quick")
    message = mistake(*arguments, "--quick", "--seed", 1)
    assert f"--out {tmp_path} holds a pipeline with the settings" in message
    assert "choose another folder" in message


def test_missing_data_are_named_before_anything_is_made(mistake, tmp_path):
    message = mistake("paper", "cvppp", "--root", tmp_path / "nowhere", "--out", tmp_path / "out")
    assert "cvppp: root must be a folder with training/A1" in message
    assert not (tmp_path / "out").exists()


def test_a_library_that_the_submission_needs_is_missed_before_anything_is_made(mistake, tiny, plants, tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "h5py", None)  # an import of it fails
        message = mistake("paper", "cvppp", "--root", plants, "--out", tmp_path / "out", "--quick")
    assert "submission.h5: HDF5 needs h5py: pip install 'acis-env[data]'" in message
    assert not (tmp_path / "out").exists()


def test_an_error_of_a_step_is_that_of_the_pipeline_and_the_step_is_not_done(mistake, tiny, plants, tmp_path):
    (tmp_path / "weights").write_text("mine")
    message = mistake("paper", "cvppp", "--root", plants, "--out", tmp_path, "--quick")
    assert f"{tmp_path / 'weights' / '.lock'}: cannot write the lock" in message
    assert read_json(tmp_path / "paper.json")["done"] == {}


def test_an_estimate_makes_nothing(acis, plants, tmp_path, monkeypatch):
    kinds = [Timed("context network", 7200, 1.5), Timed("curriculum-5", 3600, 2.0)]
    monkeypatch.setattr(paper_time, "estimate", lambda settings: kinds)
    printed = acis("paper", "cvppp", "--root", plants, "--out", tmp_path / "out", "--estimate")
    assert "all: 5 hours, or 0.208 days, on cpu" in printed
    assert not (tmp_path / "out").exists()
