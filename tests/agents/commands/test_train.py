"""`acis train`: presets, overrides, and runs that are resumed or refused."""

import torch

from acis_env.context import ContextConfig, ContextNetwork
from acis_env.weights import load_pretrained, save_weights
from agents.models.agent import load_checkpoint
from agents.training.config import PRESETS
from agents.training.trainer import load_config


def test_a_preset_is_trained_with_the_fields_that_were_overridden_and_no_others(run):
    config, preset = load_config(run.folder), PRESETS["ac"]
    assert config.gamma == 0.8
    assert config.actor.memory_size == 6
    assert config.actor.layers == preset.actor.layers
    assert config.critic_learning_rate == preset.critic_learning_rate
    assert [phase.iterations for phase in config.phases] == [1, 1, 1]
    assert [phase.objective for phase in config.phases] == ["bl-score", "critic", "ac"]
    assert config.scene_options == {"max_leaves": 3, "length": 5}
    assert load_checkpoint(run.folder / "checkpoint.pt")["iteration"] == 3
    assert str(run.folder) in run.printed[2]


def test_options_of_the_run_may_stand_before_the_preset_or_behind_it(train_arguments, acis, run, tmp_path):
    arguments = train_arguments(run.weights, tmp_path / "other")
    out = ["--out", tmp_path / "other"]
    assert arguments[1:4] == ["ac", *out]
    acis("train", *out, "ac", *arguments[4:])
    one, other = (load_checkpoint(folder / "agent.pt")["actor"] for folder in (run.folder, tmp_path / "other"))
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_a_run_is_resumed_by_its_folder_alone(acis, run):
    before = (run.folder / "checkpoint.pt").read_bytes()
    assert "from iteration 3" in acis("train", "--resume", run.folder)
    assert (run.folder / "checkpoint.pt").read_bytes() == before


def test_wrong_weights_are_named(train_arguments, mistake, run, tmp_path):
    message = mistake(*train_arguments(tmp_path / "nowhere", tmp_path / "run"))
    assert str(tmp_path / "nowhere") in message
    assert "context.json: no such file" in mistake(*train_arguments(tmp_path, tmp_path / "run"))
    context, autoencoder = run.weights / "context.safetensors", run.weights / "autoencoder.safetensors"
    for path in (context, run.weights / "context.json", run.weights / "autoencoder.json"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / autoencoder.name).write_bytes(autoencoder.read_bytes()[:-100])
    assert "autoencoder.safetensors: not a whole" in mistake(*train_arguments(tmp_path, tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_weights_of_two_sizes_are_a_mistake(train_arguments, mistake, run, tmp_path):
    save_weights(tmp_path / "weights", ContextNetwork(ContextConfig(widths=(4, 6), size=(64, 32))))
    save_weights(tmp_path / "weights", load_pretrained(run.weights).autoencoder)
    message = mistake(*train_arguments(tmp_path / "weights", tmp_path / "run"))
    assert "(64, 32)" in message
    assert "(32, 32)" in message


def test_a_folder_that_holds_a_run_is_not_overwritten(train_arguments, mistake, run):
    before = (run.folder / "checkpoint.pt").read_bytes()
    message = mistake(*train_arguments(run.weights, run.folder))
    assert f"--out {run.folder} holds a run already" in message
    assert f"--resume {run.folder}" in message
    assert (run.folder / "checkpoint.pt").read_bytes() == before


def test_a_folder_that_is_no_run_is_not_resumed(mistake, tmp_path):
    assert f"{tmp_path / 'checkpoint.pt'}: no such file" in mistake("train", "--resume", tmp_path)
