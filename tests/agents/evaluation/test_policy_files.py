"""Policies on disk: they act as they did before, and what is no policy is refused."""

import base64
import io
import json
import pickle
import zipfile
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import nn

from acis_env import SegmentationVectorEnv
from agents.evaluation import policy_files
from agents.evaluation.policies import evaluate_policy
from agents.evaluation.policy_files import CARD, load_policy, save_sb3

LEAVES = {"scenes": "leaves", "weights": "leaves-64", "scene_options": {"length": 5, "max_leaves": 4}}


class Coarse(nn.Module):
    """A network of the coarse observation."""

    def __init__(self, inputs=208, outputs=16):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(inputs, 8), nn.ReLU(), nn.Linear(8, outputs), nn.Tanh())

    def forward(self, observation):
        return self.layers(observation)


class Planes(nn.Module):
    """A network of the dictionary."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(13, 16, 8, 8)

    def forward(self, observation):
        planes = torch.cat(list(observation.values()), dim=1).float() / 255
        return self.conv(planes).mean((2, 3)).tanh()


@pytest.mark.parametrize(("kind", "network"), [("coarse", Coarse()), ("dict", Planes())])
def test_a_program_acts_as_the_network_it_was_made_from(save_program, tmp_path, kind, network):
    env = SegmentationVectorEnv(3, obs=kind, **LEAVES)
    observations, _ = env.reset(seed=0)
    save_program(tmp_path, network, env.arguments, observations)
    policy, arguments = load_policy(tmp_path, trust=True)
    again = SegmentationVectorEnv(**arguments)
    assert again.arguments == env.arguments
    for count in (1, 2, 3):
        few = {k: v[:count] for k, v in observations.items()} if kind == "dict" else observations[:count]
        numpy = {k: v.numpy() for k, v in few.items()} if kind == "dict" else few.numpy()
        np.testing.assert_allclose(policy.predict(numpy)[0], network(few).detach().numpy(), atol=1e-6)


@pytest.mark.parametrize("kind", ["coarse", "dict"])
def test_an_algorithm_of_stable_baselines3_acts_as_before(tmp_path, kind):
    sb3 = pytest.importorskip("stable_baselines3")
    env = gym.make("ACIS/Leaves-v0", obs=kind, scene_options={"length": 3})
    model = sb3.PPO("MlpPolicy" if kind == "coarse" else "MultiInputPolicy", env, n_steps=8, batch_size=8)
    save_sb3(tmp_path, model, {**LEAVES, "obs": kind})
    policy, arguments = load_policy(tmp_path, trust=True)
    assert arguments["obs"] == kind
    observation, _ = env.reset(seed=0)
    expected, _ = model.predict(observation, deterministic=True)
    np.testing.assert_allclose(policy.predict(observation, deterministic=True)[0], expected, atol=1e-6)
    assert evaluate_policy(policy, arguments, num_scenes=2)["length"] > 0


def write_card(folder, **card):
    (folder / CARD).write_text(json.dumps({"arguments": {}, **card}))


def test_what_is_no_policy_is_refused_with_its_path(tmp_path):
    with pytest.raises(FileNotFoundError, match=rf"{CARD}: no such file"):
        load_policy(tmp_path)
    (tmp_path / CARD).write_text("{")
    with pytest.raises(ValueError, match=rf"{CARD}: expected a JSON object"):
        load_policy(tmp_path)
    write_card(tmp_path, kind="wood")
    with pytest.raises(ValueError, match="kind must be one of 'sb3', 'program', got 'wood'"):
        load_policy(tmp_path)
    write_card(tmp_path, kind="program", arguments=[])
    with pytest.raises(ValueError, match=r"arguments must be an object, got \[\]"):
        load_policy(tmp_path)
    write_card(tmp_path, kind="program")
    (tmp_path / "policy.pt2").write_bytes(b"no program")
    with pytest.raises(ValueError, match=r"policy\.pt2: not a whole program"):
        load_policy(tmp_path, trust=True)


@pytest.mark.parametrize("name", ["QQ", "configure_logger", "common", "__name__", "HerReplayBuffer", 3, None])
def test_only_algorithms_of_the_libraries_are_algorithms(tmp_path, name):
    pytest.importorskip("stable_baselines3")
    write_card(tmp_path, kind="sb3", algorithm=name)
    with pytest.raises(ValueError, match=r"algorithm must be one of stable_baselines3 and sb3_contrib, got .*\bPPO\b"):
        load_policy(tmp_path, trust=True)


class Touch:
    """Makes an empty file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def write_model_that_touches(folder, ran):
    sb3 = pytest.importorskip("stable_baselines3")
    model = sb3.PPO("MlpPolicy", gym.make("ACIS/Leaves-v0", obs="coarse", scene_options={"length": 3}), device="cpu")
    save_sb3(folder, model, {**LEAVES, "obs": "coarse"})
    with zipfile.ZipFile(folder / "model.zip") as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    data = json.loads(files["data"])
    pickled = base64.b64encode(pickle.dumps(Touch(ran))).decode()
    data["lr_schedule"] = {":type:": "x", ":serialized:": pickled}
    with zipfile.ZipFile(folder / "model.zip", "w") as archive:
        for name, content in (files | {"data": json.dumps(data)}).items():
            archive.writestr(name, content)


def test_a_model_that_holds_code_runs_it_only_where_it_is_trusted(tmp_path):
    write_model_that_touches(tmp_path / "model", tmp_path / "ran")
    with pytest.raises(ValueError, match=r"unpickled, which runs whatever code its file names: .*--trust"):
        load_policy(tmp_path / "model")
    assert not (tmp_path / "ran").exists()
    load_policy(tmp_path / "model", trust=True)
    assert (tmp_path / "ran").exists()


def test_a_damaged_model_is_named(tmp_path):
    pytest.importorskip("stable_baselines3")
    write_card(tmp_path, kind="sb3", algorithm="PPO")
    (tmp_path / "model.zip").write_bytes(b"no model")
    with pytest.raises(ValueError, match=r"model\.zip: not a whole PPO"):
        load_policy(tmp_path, trust=True)


@pytest.fixture
def program(save_program, tmp_path):
    """Files in the archive of a program that is saved in `tmp_path`."""
    env = SegmentationVectorEnv(2, obs="coarse", **LEAVES)
    save_program(tmp_path, Coarse(), env.arguments, env.reset(seed=0)[0])
    with zipfile.ZipFile(tmp_path / "policy.pt2") as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.mark.usefixtures("program")
def test_a_program_runs_only_where_it_is_trusted(tmp_path):
    with pytest.raises(ValueError, match=r"is code, on this machine: .*--trust \(in Python trust=True\)"):
        load_policy(tmp_path)


@pytest.mark.parametrize("where", ["inputs", "weights", "objects", "earlier version"])
def test_a_trusted_program_is_no_way_in_for_pickles(program, tmp_path, where):
    files, ran = program, tmp_path / "ran"
    content = io.BytesIO()
    torch.save(Touch(ran), content)
    names = {
        "inputs": next(name for name in files if "sample_inputs" in name),
        "weights": next(name for name in files if name.endswith("weight_0")),
        "objects": next(iter(files)).split("/")[0] + "/data/constants/custom_obj_0",
        "earlier version": "serialized_example_inputs.pt",
    }
    files[names[where]] = content.getvalue()
    if where == "weights":
        config = next(name for name in files if name.endswith("weights_config.json"))
        files[config] = files[config].replace(b'"use_pickle":false', b'"use_pickle":true')
        files[config] = files[config].replace(b'"use_pickle": false', b'"use_pickle": true')
    if where == "earlier version":
        files = {names[where]: files[names[where]], "version": b"8.8", "serialized_exported_program.json": b"{}"}
    with zipfile.ZipFile(tmp_path / "policy.pt2", "w", zipfile.ZIP_STORED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    with pytest.raises(ValueError, match=r"policy\.pt2: not a whole program"):
        load_policy(tmp_path, trust=True)
    assert not ran.exists()


def test_a_torch_that_saves_pickles_is_named_and_nothing_is_written(monkeypatch, tmp_path):
    def save(program, stream):
        with zipfile.ZipFile(stream, "w") as archive:
            archive.writestr("serialized_exported_program.json", b"{}")

    monkeypatch.setattr(torch.export, "save", save)
    env = SegmentationVectorEnv(2, obs="coarse", **LEAVES)
    with pytest.raises(ValueError, match=r"^torch \S+ saves pickles, .*, which load_policy refuses: update torch$"):
        policy_files.save_program(tmp_path / "out", Coarse(), env.arguments, env.reset(seed=0)[0])
    assert not (tmp_path / "out").exists()


def test_arguments_that_are_objects_cannot_be_saved_and_leave_nothing(save_program, tmp_path):
    env = SegmentationVectorEnv(2, obs="coarse", **LEAVES)
    observations, _ = env.reset(seed=0)
    with pytest.raises(ValueError, match="name scenes and weights by path"):
        save_program(tmp_path / "out", Coarse(), {**env.arguments, "weights": env.pretrained}, observations)
    assert not (tmp_path / "out").exists()
