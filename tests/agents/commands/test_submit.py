"""`acis submit`: what an agent predicts of the test images, in the form of the benchmark."""

import h5py
import numpy as np
import pytest
from PIL import Image

from acis_env.datasets import CvpppScenes, KittiScenes
from acis_env.datasets.preprocessing import Squeeze
from acis_env.ops.labels import relabel
from acis_env.testing.trees import write_cvppp, write_kitti
from agents.models.agent import Agent
from agents.models.composition import Composition, PictureMasks
from agents.models.segmentation import Segmentation


@pytest.fixture
def agent_folder(agent, tmp_path):
    """An untrained agent that never stops by itself, and whose faint masks count."""
    agent.composition = Composition(0.1)
    agent.actor.termination[-1].bias.fill_(100)
    agent.save(tmp_path / "agent" / "agent.pt")
    return tmp_path / "agent"


@pytest.fixture(scope="module")
def plants(tmp_path_factory):
    root = tmp_path_factory.mktemp("cvppp")
    write_cvppp(root, plants=1, size=(66, 62))
    return root


@pytest.fixture(scope="module", params=["a", "b", "c"])
def streets(request, tmp_path_factory):
    root = tmp_path_factory.mktemp("kitti")
    write_kitti(root, request.param, images=5, size=(94, 310))
    return request.param, root


def expected(agent_folder, scene, cap):
    return relabel(Agent.load(agent_folder).segment(scene.image, cap).label_map)


def test_a_submission_to_cvppp_holds_every_test_plant_at_its_size(acis, agent_folder, plants, tmp_path):
    printed = acis("submit", "cvppp", agent_folder, "--root", plants, "--out", tmp_path / "out.h5", "--max-steps", 5)
    scenes = CvpppScenes("test", root=plants, subsets=None)
    assert len(scenes) == 33 + 3 + 4
    with h5py.File(tmp_path / "out.h5") as file:
        assert sorted(f"{subset}/{plant}" for subset in file for plant in file[subset]) == sorted(
            scene.name for scene in scenes
        )
        assert any(file[scene.name]["label"][()].any() for scene in scenes)
        for scene in list(scenes)[::7]:
            np.testing.assert_array_equal(file[scene.name]["label"], expected(agent_folder, scene, 5))
    assert "40 label maps of split 'test' with " in printed
    assert "read back and checked; stopping: own, 40 by the cap on masks; foreground: none" in printed


def test_subsets_that_are_not_asked_for_stay_empty(acis, agent_folder, plants, tmp_path):
    acis("submit", "cvppp", agent_folder, "--root", plants, "--out", tmp_path / "out.h5", "--subsets", "A2", "A4")
    with h5py.File(tmp_path / "out.h5") as file:
        assert {subset: len(file[subset]) for subset in file} == {"A1": 0, "A2": 1, "A3": 0, "A4": 1, "A5": 0}


def test_other_subsets_than_a1_may_have_more_leaves_than_the_agents_cap(acis, agent, plants, tmp_path, monkeypatch):
    agent.save(tmp_path / "agent.pt")
    caps = []

    def segment(self, image, cap):
        caps.append(cap)
        return Segmentation(
            np.zeros(image.shape[1:], np.int32), PictureMasks([], image.shape[1:], Squeeze((32, 32))), True
        )

    monkeypatch.setattr(Agent, "segment", segment)
    subsets = ["--subsets", "A1", "A4"]
    acis("submit", "cvppp", tmp_path / "agent.pt", "--root", plants, "--out", tmp_path / "out", *subsets)
    assert caps == [agent.max_steps] * 33 + [40]


def test_labels_are_cut_to_the_official_foreground_if_asked_to(acis, agent_folder, plants, tmp_path):
    arguments = ["submit", "cvppp", agent_folder, "--root", plants, "--subsets", "A2", "--max-steps", 5]
    printed = acis(*arguments, "--out", tmp_path / "out.h5", "--foreground", "official")
    (scene,) = CvpppScenes("test", root=plants, subsets=("A2",))
    with h5py.File(tmp_path / "out.h5") as file:
        labels = file[scene.name]["label"][()]
    cut = np.where(scene.foreground, Agent.load(agent_folder).segment(scene.image, 5).label_map, 0)
    np.testing.assert_array_equal(labels, relabel(cut))
    assert "foreground: official" in printed


def test_a_submission_to_kitti_names_label_maps_as_the_layout_does(acis, agent_folder, streets, tmp_path):
    layout, root = streets
    acis("submit", "kitti", agent_folder, "--root", root, "--out", tmp_path / "out")
    names = {"a": ["000003.png"], "b": ["000005_10.png", "000006_10.png"], "c": ["000003_labels.png"]}[layout]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names
    for scene, name in zip(KittiScenes("test", root=root), names, strict=True):
        with Image.open(tmp_path / "out" / name) as image:
            assert image.mode == "L"
            np.testing.assert_array_equal(np.array(image), expected(agent_folder, scene, None))


def test_what_is_there_is_not_replaced(mistake, agent_folder, plants, tmp_path):
    (tmp_path / "out.h5").write_bytes(b"mine")
    message = mistake("submit", "cvppp", agent_folder, "--root", plants, "--out", tmp_path / "out.h5")
    assert f"--out {tmp_path / 'out.h5'} exists" in message
    assert (tmp_path / "out.h5").read_bytes() == b"mine"


@pytest.mark.parametrize(
    ("benchmark", "options", "expected"),
    [
        ("kitti", ["--subsets", "A1"], "--subsets ('A1',) belongs to cvppp"),
        ("kitti", ["--foreground", "official"], "--foreground official belongs to cvppp"),
        ("cvppp", ["--root", "nowhere"], "cvppp: root must be a folder with training/A1"),
        ("cvppp", ["--scene-options", '{"subset": "A1"}'], "unknown 'subset', the nearest are 'subsets'"),
        ("cvppp", ["--max-steps", 0], "max_steps must be at least 1, got 0"),
    ],
)
def test_options_that_do_not_fit_are_named(benchmark, options, expected, mistake, agent_folder, tmp_path):
    arguments = ["submit", benchmark, agent_folder, "--out", tmp_path / "out", *options]
    assert expected in mistake(*arguments)
    assert not (tmp_path / "out").exists()


def test_without_an_agent_nothing_is_written(mistake, plants, tmp_path):
    message = mistake("submit", "cvppp", tmp_path / "none", "--root", plants, "--out", tmp_path / "out.h5")
    assert "no such file; `acis train` writes agents" in message
    assert not list(tmp_path.glob("*out*"))
