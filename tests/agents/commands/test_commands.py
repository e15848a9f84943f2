"""The command `acis`: from scenes to label maps, and one line for every mistake."""

import io
import json
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

import agents
from acis_env import SegmentationVectorEnv
from acis_env.context import ContextConfig, ContextNetwork
from acis_env.weights import BUNDLED, load_pretrained, save_weights
from agents.commands.cli import main
from agents.evaluation.policies import save_program
from agents.models.agent import Agent, load_checkpoint
from agents.training.config import PRESETS
from agents.training.trainer import load_config

FEW_SCENES = json.dumps({"max_leaves": 3, "length": 5})


def acis(*arguments):
    """Run the command; returns what it printed."""
    printed = io.StringIO()
    with redirect_stdout(printed):
        main([str(argument) for argument in arguments])
    return printed.getvalue()


def train_arguments(weights, out):
    small = ["--actor.memory-size", 6, "--actor.hidden", 8, "--critic.hidden", 8, "--batch-size", 3]
    short = [part for phase in range(3) for part in (f"--phases.{phase}.iterations", 1)]
    scenes = ["--scene-options", FEW_SCENES, "--val-options", FEW_SCENES, "--eval-scenes", 2]
    return ["train", "ac", "--out", out, "--weights", weights, "--gamma", 0.8, *small, *short, *scenes]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Everything from pre-training to a trained agent, as a user would: `weights`, `folder`, `printed`."""
    folder = tmp_path_factory.mktemp("run")
    weights, printed = folder / "weights", []
    tiny = ["--size", 32, 32, "--iterations", 2, "--batch-size", 2, "--out", weights]
    tiny += ["--scene-options", FEW_SCENES, "--val-options", FEW_SCENES]
    printed.append(acis("pretrain", "context", *tiny))
    printed.append(acis("pretrain", "decoder", "--latent-size", 3, *tiny))
    printed.append(acis(*train_arguments(weights, folder / "run")))
    return SimpleNamespace(weights=weights, folder=folder / "run", printed=printed)


@pytest.fixture
def agent_folder(agent, tmp_path):
    agent.save(tmp_path / "agent" / "agent.pt")
    return tmp_path / "agent"


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "a plant.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)).save(path)
    return path


def mistake(*arguments):
    """The one line with which the command ends."""
    with pytest.raises(SystemExit) as exit_info:
        acis(*arguments)
    message = exit_info.value.code
    assert isinstance(message, str)
    assert message.startswith("acis: ")
    assert "\n" not in message
    return message


def test_pretraining_leaves_weights_that_fit_each_other(run):
    pretrained = load_pretrained(run.weights)
    assert pretrained.size == (32, 32)
    assert pretrained.autoencoder.config.latent_size == 3
    assert pretrained.context_network.config.image_mean == pretrained.autoencoder.config.image_mean
    for stem in ("context", "autoencoder"):
        training = json.loads((run.weights / f"{stem}.json").read_text())["training"]
        assert training["iteration"] == 2
        assert training["held_out"]
    assert [str(run.weights) in text for text in run.printed[:2]] == [True, True]


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


def test_options_of_the_run_may_stand_before_the_preset_or_behind_it(run, tmp_path):
    arguments = train_arguments(run.weights, tmp_path / "other")
    out = ["--out", tmp_path / "other"]
    assert arguments[1:4] == ["ac", *out]
    acis("train", *out, "ac", *arguments[4:])
    one, other = (load_checkpoint(folder / "agent.pt")["actor"] for folder in (run.folder, tmp_path / "other"))
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_a_run_is_resumed_by_its_folder_alone(run):
    before = (run.folder / "checkpoint.pt").read_bytes()
    assert "from iteration 3" in acis("train", "--resume", run.folder)
    assert (run.folder / "checkpoint.pt").read_bytes() == before


def test_evaluation_prints_its_table_and_writes_its_report(run, tmp_path):
    printed = acis("evaluate", run.folder, "--split", "test", "--num-scenes", 3, "--out", tmp_path / "report")
    assert "split test, 3 scenes" in printed
    report = json.loads((tmp_path / "report" / "evaluation.json").read_text())
    assert list(report["rows"]) == ["random", "initialised", "agent", "reconstruction"]
    assert report["num_scenes"] == 3
    assert report["about"]["split"] == "test"
    for name, row in report["rows"].items():
        line = next(line for line in printed.splitlines() if line.startswith(name))
        assert f"{row['mean']['sbd']:.3f}" == line.split()[1]


def test_a_policy_of_another_library_is_evaluated_as_a_run_is(tmp_path):
    env = SegmentationVectorEnv(2, scenes="leaves", weights="leaves-64", obs="coarse")
    network = torch.nn.Sequential(torch.nn.Linear(208, 16), torch.nn.Tanh())
    save_program(tmp_path, network, env.arguments, env.reset(seed=0)[0])
    options = ["--scene-options", '{"max_leaves": 3}']
    printed = acis("evaluate", tmp_path, "--split", "test", "--num-scenes", 3, *options)
    assert "split test, 3 scenes" in printed
    report = json.loads((tmp_path / "evaluation-test" / "evaluation.json").read_text())
    assert list(report["rows"]) == ["random", "agent", "reconstruction"]
    assert report["about"]["options"] == {"max_leaves": 3}
    assert report["about"]["arguments"]["obs"] == "coarse"


def test_evaluation_on_a_folder_of_scenes_reports_beside_the_run(run, tmp_path):
    for split in ("train", "val"):
        (tmp_path / split).mkdir()
        label_map = np.zeros((40, 60), np.uint8)
        label_map[5:20, 5:30], label_map[22:38, 30:55] = 7, 9
        Image.fromarray(label_map).save(tmp_path / split / "a_label.png")
        Image.fromarray(np.repeat(label_map[..., None] * 20, 3, axis=2)).save(tmp_path / split / "a_rgb.png")
    printed = acis("evaluate", run.folder, "--scenes", tmp_path, "--scene-options", "{}")
    assert "split val, 1 scenes" in printed
    report = json.loads((run.folder / "evaluation-val" / "evaluation.json").read_text())
    assert report["rows"]["reconstruction"]["scenes"][0]["dic"] >= -2


def test_segmenting_writes_a_16_bit_label_map_and_an_overlay_of_the_images_size(agent_folder, picture, tmp_path):
    printed = acis("segment", picture, "--agent", agent_folder, "--out", tmp_path / "out", "--max-steps", 3)
    expected = Agent.load(agent_folder).segment(np.array(Image.open(picture)), 3)
    with Image.open(tmp_path / "out" / "a plant_label.png") as labels:
        assert labels.mode == "I;16"
        np.testing.assert_array_equal(np.array(labels), expected.label_map)
    with Image.open(tmp_path / "out" / "a plant_overlay.png") as overlay:
        assert overlay.size == (70, 50)
        assert overlay.mode == "RGB"
    assert f"{len(expected.order)} instances" in printed
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a plant_label.png", "a plant_overlay.png"]


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK"])
def test_images_of_any_mode_are_segmented_as_rgb(agent_folder, picture, tmp_path, mode):
    path = tmp_path / "other.tif"
    Image.open(picture).convert(mode).save(path)
    acis("segment", path, "--agent", agent_folder / "agent.pt", "--out", tmp_path / "out")
    with Image.open(tmp_path / "out" / "other_label.png") as labels:
        assert labels.size == (70, 50)


@pytest.mark.skipif(not (BUNDLED / "leaves-64").is_dir(), reason="the bundled weights leaves-64 are not there yet")
def test_the_quickstart_leaves_pictures_numbers_and_an_agent(tmp_path, monkeypatch):
    from dataclasses import replace

    preset = PRESETS["quick"]
    options = {"length": 8, "max_leaves": 4}
    phases = (replace(preset.phases[0], iterations=1), preset.phases[1])
    small = replace(preset, phases=phases, batch_size=2, scene_options=options, val_options=options, eval_scenes=2)
    monkeypatch.setitem(PRESETS, "quick", small)
    printed = acis("quickstart", "--out", tmp_path, "--iterations", 1, "--test-scenes", 2)
    names = {path.name for path in tmp_path.iterdir()}
    assert {"agent.pt", "evaluation.json", "episode.gif", "scenes.png", "learning_curve.png"} <= names
    assert "reconstruction" in printed
    with Image.open(tmp_path / "episode.gif") as film:
        assert film.n_frames > 2

    trained = (tmp_path / "agent.pt").read_bytes()
    table = printed[printed.index("random") : printed.index("SBD, Dice*")]
    assert table in acis("quickstart", "--out", tmp_path, "--iterations", 1, "--test-scenes", 2)  # only evaluates
    assert "other settings" in mistake("quickstart", "--out", tmp_path, "--iterations", 2, "--test-scenes", 2)
    assert (tmp_path / "agent.pt").read_bytes() == trained


def test_a_missing_image_is_named_and_nothing_is_written(agent_folder, picture, tmp_path):
    message = mistake("segment", picture, tmp_path / "none.png", "--agent", agent_folder, "--out", tmp_path / "out")
    assert f"{tmp_path / 'none.png'}: no such image" in message
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", ["half", "text", "empty"])
def test_a_corrupt_image_is_named(agent_folder, picture, tmp_path, content):
    whole = picture.read_bytes()
    picture.write_bytes({"half": whole[: len(whole) // 2], "text": b"no image\n", "empty": b""}[content])
    message = mistake("segment", picture, "--agent", agent_folder, "--out", tmp_path / "out")
    assert f"{picture}: not a readable image" in message


def test_a_call_without_images_is_a_mistake(agent_folder, tmp_path):
    assert "image" in mistake("segment", "--agent", agent_folder, "--out", tmp_path / "out")


def test_images_that_would_overwrite_each_others_label_map_are_refused(agent_folder, picture, tmp_path):
    namesake = tmp_path / "elsewhere" / picture.name
    namesake.parent.mkdir()
    namesake.write_bytes(picture.read_bytes())
    message = mistake("segment", picture, namesake, "--agent", agent_folder, "--out", tmp_path / "out")
    assert "'a plant'" in message
    assert not (tmp_path / "out").exists()


def test_a_wrong_agent_is_named(picture, tmp_path):
    wanted = tmp_path / "nowhere"
    assert f"{wanted}: no such file" in mistake("segment", picture, "--agent", wanted, "--out", tmp_path)
    assert "agent.pt: no such file" in mistake("segment", picture, "--agent", tmp_path, "--out", tmp_path)
    assert f"{picture}: not a whole checkpoint" in mistake("segment", picture, "--agent", picture, "--out", tmp_path)


def test_a_folder_that_is_no_run_is_named(tmp_path):
    assert str(tmp_path / "nowhere") in mistake("evaluate", tmp_path / "nowhere")
    assert f"{tmp_path / 'checkpoint.pt'}: no such file" in mistake("train", "--resume", tmp_path)


def test_wrong_scenes_and_splits_and_options_are_named(run, tmp_path):
    evaluate = ["evaluate", run.folder, "--scene-options", "{}"]
    assert "nowhere" in mistake(*evaluate, "--scenes", tmp_path / "nowhere")
    assert "split must be one of" in mistake(*evaluate, "--split", "tset")
    assert "max_leafs" in mistake("evaluate", run.folder, "--scene-options", '{"max_leafs": 3}')
    with pytest.raises(SystemExit) as exit_info:
        acis("evaluate", run.folder, "--scene-options", "{max_leaves: 3}")
    assert exit_info.value.code == 2


def test_wrong_weights_are_named(run, tmp_path):
    message = mistake(*train_arguments(tmp_path / "nowhere", tmp_path / "run"))
    assert str(tmp_path / "nowhere") in message
    assert "context.json: no such file" in mistake(*train_arguments(tmp_path, tmp_path / "run"))
    context, autoencoder = run.weights / "context.safetensors", run.weights / "autoencoder.safetensors"
    for path in (context, run.weights / "context.json", run.weights / "autoencoder.json"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / autoencoder.name).write_bytes(autoencoder.read_bytes()[:-100])
    assert "autoencoder.safetensors: not a whole" in mistake(*train_arguments(tmp_path, tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_weights_of_two_sizes_are_a_mistake(run, tmp_path):
    save_weights(tmp_path / "weights", ContextNetwork(ContextConfig(widths=(4, 6), size=(64, 32))))
    save_weights(tmp_path / "weights", load_pretrained(run.weights).autoencoder)
    message = mistake(*train_arguments(tmp_path / "weights", tmp_path / "run"))
    assert "(64, 32)" in message
    assert "(32, 32)" in message


def test_a_decoder_of_another_size_than_its_context_network_is_refused_before_it_is_trained(run):
    before = (run.weights / "autoencoder.json").read_bytes()
    few = ["--scene-options", FEW_SCENES, "--val-options", FEW_SCENES, "--iterations", 1, "--batch-size", 2]
    message = mistake("pretrain", "decoder", "--out", run.weights, "--size", 64, 64, *few)
    assert "(32, 32)" in message
    assert "(64, 64)" in message
    assert (run.weights / "autoencoder.json").read_bytes() == before


def test_a_decoder_without_a_context_network_is_a_mistake(tmp_path):
    few = ["--scene-options", FEW_SCENES, "--val-options", FEW_SCENES, "--size", 32, 32]
    message = mistake("pretrain", "decoder", "--out", tmp_path / "empty", *few)
    assert "context.json: no such file; `acis pretrain` writes it" in message


def test_sizes_that_the_networks_cannot_halve_are_a_mistake(tmp_path):
    message = mistake("pretrain", "context", "--out", tmp_path, "--size", 40, 40, "--iterations", 1)
    assert "multiples of 32" in message


def test_a_folder_that_holds_a_run_is_not_overwritten(run):
    before = (run.folder / "checkpoint.pt").read_bytes()
    message = mistake(*train_arguments(run.weights, run.folder))
    assert f"--out {run.folder} holds a run already" in message
    assert f"--resume {run.folder}" in message
    assert (run.folder / "checkpoint.pt").read_bytes() == before


def test_an_output_folder_that_is_a_file_is_named(agent_folder, picture, tmp_path):
    (tmp_path / "taken").write_text("")
    message = mistake("segment", picture, "--agent", agent_folder, "--out", tmp_path / "taken")
    assert str(tmp_path / "taken") in message


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_there_is_a_mistake(agent_folder, picture, tmp_path):
    arguments = ["segment", picture, "--agent", agent_folder, "--out", tmp_path / "out", "--device", "cuda"]
    assert "CUDA" in mistake(*arguments)


def test_from_a_shell_a_mistake_is_one_line_and_a_status_without_traceback(tmp_path):
    code = "from agents.commands.cli import main; main()"
    arguments = ["segment", str(tmp_path / "none.png"), "--agent", str(tmp_path), "--out", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=Path(agents.__file__).parents[1],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1
    assert done.stderr.strip() == f"acis: {tmp_path / 'none.png'}: no such image"
