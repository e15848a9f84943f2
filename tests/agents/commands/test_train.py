"""`acis train`: presets, overrides, and runs that are resumed or refused."""

import json
import os
import shutil
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from acis_env.context import ContextConfig, ContextNetwork
from acis_env.files import write_json
from acis_env.folders import claimed
from acis_env.weights import load_pretrained, save_weights
from agents.commands.train import Train
from agents.environment import TRAINING, EnvConfig
from agents.models.checkpoints import load_checkpoint
from agents.training.presets import PRESETS
from agents.training.trainer import FORMAT, Trainer, load_config
from agents.training.warm_start import weights_of

WEAK_FLAG = "--accept-weak-weights"


def test_a_preset_is_trained_with_the_fields_that_were_overridden_and_no_others(run):
    config, preset = load_config(run.folder), PRESETS["ac-dice"]
    (_, main), (_, preset_main) = config.stages, preset.stages
    assert main.algorithm.gamma == 0.8
    assert config.learner.actor.memory_size == 6
    assert config.learner.actor.layers == preset.learner.actor.layers
    assert main.algorithm.critic_learning_rate == preset_main.algorithm.critic_learning_rate
    assert [stage.iterations for stage in config.stages] == [1, 2]
    assert [stage.algorithm.kind for stage in config.stages] == ["baseline", "actor-critic"]
    few = {"max_leaves": 3, "length": 5}
    assert config.env.kwargs == {**TRAINING, "scene_options": few, "weights": str(run.weights)}
    assert config.env.val_kwargs == {"scene_options": few}
    assert load_checkpoint(run.folder / "checkpoint.pt")["iteration"] == 3
    assert str(run.folder) in run.printed[2]


def test_options_of_the_run_may_stand_before_the_preset_or_behind_it(train_arguments, acis, run, tmp_path):
    arguments = train_arguments(run.weights, tmp_path / "other")
    out = ["--out", tmp_path / "other"]
    assert arguments[1:4] == ["ac-dice", *out]
    acis("train", *out, "ac-dice", *arguments[4:])
    one, other = (load_checkpoint(folder / "agent.pt")["actor"] for folder in (run.folder, tmp_path / "other"))
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_a_run_is_resumed_by_its_folder_alone(acis, run):
    before = (run.folder / "checkpoint.pt").read_bytes()
    assert "from iteration 3" in acis("train", "--resume", run.folder)
    assert (run.folder / "checkpoint.pt").read_bytes() == before


def test_a_training_starts_from_the_actor_of_an_agent_and_its_networks(train_arguments, acis, run, tmp_path):
    still = ["--learner.termination-learning-rate", 0]
    still += [word for number in range(2) for word in (f"--stages.{number}.algorithm.learning-rate", 0)]
    arguments = train_arguments(run.weights, tmp_path / "other")
    place = arguments.index("--weights")
    acis(*arguments[:place], "--start-from", run.folder, *arguments[place + 2 :], *still, "--seed", 5)
    assert load_config(tmp_path / "other").env.kwargs["weights"] == str(run.weights)
    one, other = (load_checkpoint(folder / "agent.pt")["actor"] for folder in (run.folder, tmp_path / "other"))
    assert all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.parametrize("name", ["quick", "bl-trunc"])
def test_the_networks_of_a_run_are_those_of_its_environment_where_it_names_none(tmp_path, name):
    write_json(tmp_path / "config.json", {"format": FORMAT, **asdict(PRESETS[name])}, checksum=True)
    assert "weights" not in PRESETS[name].env.kwargs
    assert weights_of(str(tmp_path)) == "leaves-64"
    unknown = replace(PRESETS[name], env=EnvConfig("elsewhere:Mine-v0"))
    write_json(tmp_path / "config.json", {"format": FORMAT, **asdict(unknown)}, checksum=True)
    with pytest.raises(ValueError, match="its run does not say which networks it had: name them, --weights"):
        weights_of(str(tmp_path))


def test_a_flag_with_a_value_is_a_mistake(mistake):
    assert "allow-changes" in mistake("train", "--resume", "runs/mine", "--allow-changes=True")


def test_the_error_of_an_option_without_effect_names_the_folder_as_it_was_given(mistake):
    assert "the run in runs/my_first_run, where --minutes 5 would" in mistake(
        "train", "--resume", "runs/my_first_run", "--minutes", 5
    )


def test_a_training_cannot_start_from_an_agent_of_another_kind(train_arguments, mistake, run, tmp_path):
    arguments = train_arguments(run.weights, tmp_path / "other")
    assert "memory_size=256" in mistake(*arguments, "--start-from", "leaves-64")
    compact = ["--learner.actor.memory-size", 256, "--learner.actor.hidden", 256]
    message = mistake(*arguments, *compact, "--start-from", "leaves-64")
    assert "--start-from leaves-64: its decoder is not that of this training" in message
    nowhere = [*arguments[: arguments.index("--weights")], "--start-from", "leaves-65"]
    assert "leaves-65" in mistake(*nowhere)
    agent = shutil.copy(run.folder / "agent.pt", tmp_path / "agent.pt")
    nowhere[-1] = agent
    assert "is not the folder of a run: name the networks" in mistake(*nowhere)
    assert not (tmp_path / "other").exists()


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


def test_an_agent_is_trained_on_weak_weights_only_if_that_is_accepted(mistake, train_arguments, run, tmp_path):
    weights = tmp_path / "weights"
    save_weights(weights, load_pretrained(run.weights).autoencoder, {"held_out": {"reconstruction_dice": 0.125}})
    save_weights(weights, load_pretrained(run.weights).context_network, {"held_out": {"foreground_dice": 0.5}})
    arguments = [argument for argument in train_arguments(weights, tmp_path / "run") if argument != WEAK_FLAG]
    message = mistake(*arguments)
    assert (
        f"{weights}: reconstruction Dice of the decoder is 0.125 on held-out scenes, expected at least 0.5" in message
    )
    assert WEAK_FLAG in message
    assert "foreground" not in message
    assert not (tmp_path / "run").exists()
    assert "would have no effect" in mistake("train", "--resume", run.folder, WEAK_FLAG)


def test_a_folder_that_holds_a_run_is_not_overwritten(train_arguments, mistake, run):
    before = (run.folder / "checkpoint.pt").read_bytes()
    message = mistake(*train_arguments(run.weights, run.folder))
    assert f"--out {run.folder} holds a run already" in message
    assert f"--resume {run.folder}" in message
    assert (run.folder / "checkpoint.pt").read_bytes() == before


def test_a_folder_that_is_no_run_is_not_resumed(mistake, tmp_path):
    message = mistake("train", "--resume", tmp_path)
    assert f"{tmp_path / 'config.json'}: no such file; expected the folder of a run of `acis train`" in message


def test_options_of_the_environment_are_added_to_those_of_the_preset():
    config = Train(PRESETS["small"], env_options={"score": "iou", "count_penalty": 0.1}).resolved()
    assert config.env.kwargs == {**PRESETS["small"].env.kwargs, "score": "iou", "count_penalty": 0.1}
    assert config.env.id == "ACIS/Leaves-v0"


def test_other_scenes_are_shown_by_the_environment_for_any_with_the_weights_that_are_named_or_the_bundled_ones(
    caplog,
):
    assert Train(PRESETS["quick"], scenes="leaves").resolved().env.kwargs["weights"] == "leaves-64"
    assert Train(PRESETS["quick"], scenes="data/plants", weights="mine").resolved().env.kwargs["weights"] == "mine"
    paper = Train(PRESETS["paper-kitti"], scenes="elsewhere").resolved().env
    assert (paper.kwargs["scenes"], paper.kwargs["weights"]) == ("elsewhere", "weights/kitti")
    assert not caplog.records
    folder = Train(PRESETS["quick"], scenes="data/plants").resolved().env
    assert (folder.id, folder.kwargs["scenes"], folder.kwargs["weights"]) == (
        "ACIS/Scenes-v0",
        "data/plants",
        "leaves-64",
    )
    (record,) = caplog.records
    assert record.getMessage().startswith("--scenes data/plants: without --weights the networks are leaves-64")


def test_the_folder_of_the_data_is_kept_as_an_absolute_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert Train(PRESETS["paper-cvppp"], root=Path("data")).resolved().env.kwargs["root"] == str(tmp_path / "data")
    assert "root" not in Train(PRESETS["paper-cvppp"]).resolved().env.kwargs


@pytest.mark.parametrize(
    ("option", "value", "named"),
    [
        ("--env-options", {"scor": "iou"}, "scor"),
        ("--env-options", {"score": "dise"}, "dise"),
        ("--env.id", "ACIS/Leafs-v0", "ACIS/Leafs-v0"),
        ("--env.id", "nowhere:Mine-v0", "nowhere:Mine-v0"),
        ("--scenes", "nowhere", "nowhere"),
    ],
)
def test_a_mistake_about_the_environment_is_named_and_nothing_is_written(mistake, tmp_path, option, value, named):
    text = value if isinstance(value, str) else json.dumps(value)
    assert named in mistake("train", "quick", option, text, "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_options_of_the_environment_that_are_no_json_object_end_in_the_usage(acis, tmp_path, capsys):
    with pytest.raises(SystemExit) as exit_info:
        acis("train", "quick", "--env-options", "[1]", "--out", tmp_path)
    assert exit_info.value.code == 2
    assert "--env-options" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--seed", 3), "--seed 3"),
        (("--seed=0",), "--seed=0"),
        (("small",), "small"),
        (("--batch-size", 3), "--batch-size 3"),
        (("--out", "elsewhere"), "--out elsewhere"),
        (("quick", "--allow-changes"), "quick"),
        (("--iterations", 3), "--iterations 3"),
        (("--minutes", 3), "--minutes 3"),
        (("--extend", 2, "--stages.1.iterations", 5), "--stages.1.iterations 5"),
    ],
)
def test_what_would_have_no_effect_on_a_run_that_is_resumed_is_a_mistake(mistake, run, arguments, named):
    for given in (("--resume", run.folder, *arguments), (*arguments, f"--resume={run.folder}")):
        message = mistake("train", *given)
        assert f"--resume goes on with the settings of the run in {run.folder}, where {named} would have no" in message


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--iterations", 0), "--iterations must be at least 1, got 0"),
        (("--iterations", -5), "--iterations must be at least 1, got -5"),
        (("--iterations", 5, "--minutes", 3), "--iterations 5 and --minutes 3 both say how long to train"),
        (("--iterations", 5, "--stages.1.iterations", 6), "--iterations 5 and --stages.1.iterations both say how long"),
        (("best", "--iterations", 5, "--stages.2.iterations=6"), "--iterations 5 and --stages.2.iterations both say"),
        (("--extend", 3), "--extend has no effect without --resume"),
        (
            ("ac-dice", "--iterations", 40),
            "stage 1, 'main', must have more iterations than its critic warms up, got 40",
        ),
    ],
)
def test_lengths_that_cannot_be_or_that_contradict_each_other_are_mistakes(mistake, tmp_path, arguments, named):
    assert named in mistake("train", *arguments, "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--minutes", 0), "minutes must be positive, got 0"),
        (("--stages.0.iterations", -1), "stages.0.iterations"),
        (("best", "--stages.2.algorithm.learning-rate", 0.1), "learning_rate has no effect where"),
        (("best", "--stages.2.algorithm.gamma", 0.5), "gamma has no effect where"),
    ],
)
def test_values_that_a_configuration_refuses_end_in_the_usage_with_their_names(
    acis, tmp_path, capsys, arguments, named
):
    with pytest.raises(SystemExit) as exit_info:
        acis("train", *arguments, "--out", tmp_path / "run")
    assert exit_info.value.code == 2
    assert named in " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert not (tmp_path / "run").exists()


def test_the_number_of_iterations_is_that_of_the_main_stage_and_later_ones_are_never_long_beside_it(
    monkeypatch, acis, tmp_path
):
    made = []
    monkeypatch.setattr(Trainer, "__init__", lambda trainer, config, *others, **more: made.append(config))
    monkeypatch.setattr(Trainer, "run", lambda trainer: None)
    monkeypatch.setattr(Trainer, "iteration", 0)
    monkeypatch.setattr(Trainer, "folder", tmp_path, raising=False)
    for preset in ("quick", "best"):
        acis("train", preset, "--iterations", 160, "--out", tmp_path / preset)
    acis("train", "quick", "--iterations", 1, "--out", tmp_path / "least")
    lengths = [[stage.iterations for stage in config.stages] for config in made]
    assert lengths == [[60, 160, 13, 4], [60, 160, 20, 20, 20], [60, 1, 1, 1]]


def test_a_finished_run_is_extended_by_so_many_iterations(acis, mistake, run, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(run.folder, folder)
    assert "--extend must be at least 1, the number of iterations to add, got -1" in mistake(
        "train", "--resume", folder, "--extend", -1
    )
    assert "from iteration 3" in acis("train", "--resume", folder, "--extend", 2)
    assert load_checkpoint(folder / "checkpoint.pt")["iteration"] == 5
    assert [stage.iterations for stage in load_config(folder).stages] == [1, 4]
    assert "from iteration 5" in acis("train", "--resume", folder)


def test_a_run_of_so_many_minutes_ends_in_time_and_leaves_an_agent(acis, train_arguments, run, tmp_path):
    started = time.monotonic()
    acis(*train_arguments(run.weights, tmp_path / "run"), "--minutes", 0.05)
    assert time.monotonic() - started < 30
    assert (tmp_path / "run" / "agent.pt").exists()
    assert load_config(tmp_path / "run").minutes == 0.05
    iteration = load_checkpoint(tmp_path / "run" / "checkpoint.pt")["iteration"]
    assert iteration > 3
    assert f"from iteration {iteration}" in acis("train", "--resume", tmp_path / "run")


def test_changes_are_allowed_only_to_a_run_that_is_resumed(acis, mistake, run):
    assert "--allow-changes has no effect without --resume" in mistake("train", "quick", "--allow-changes")
    assert "from iteration 3" in acis("train", "--resume", run.folder, "--allow-changes")


def test_a_run_that_is_given_no_folder_gets_a_new_one(acis, train_arguments, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = train_arguments(run.weights, "")
    place = arguments.index("--out")
    del arguments[place : place + 2]
    for _ in range(2):
        acis(*arguments)
    folders = sorted((tmp_path / "runs").iterdir())
    assert len(folders) == 2
    assert all(folder.name.split("-", 2)[2].startswith("actor-critic-seed-0") for folder in folders)
    assert all((folder / "agent.pt").exists() for folder in folders)


def test_a_folder_where_another_process_trains_is_refused(mistake, train_arguments, run, tmp_path):
    with ThreadPoolExecutor(1) as pool, claimed(tmp_path / "run"):
        message = pool.submit(mistake, *train_arguments(run.weights, tmp_path / "run")).result()
    assert (
        message == f"acis: {tmp_path / 'run'}: another process is writing there: wait for it, or choose another folder"
    )


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_command_with_its_status_and_the_name_of_the_folder(
    acis, train_arguments, run, tmp_path, monkeypatch, capsys, number, status
):
    monkeypatch.setattr(Trainer, "evaluate", lambda trainer, log: os.kill(os.getpid(), number) or {})
    arguments = [*train_arguments(run.weights, tmp_path / "run"), "--eval-every", 1]
    with pytest.raises(SystemExit) as exit_info:
        acis(*arguments)
    assert exit_info.value.code == status
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(f"acis: {number.name} after iteration 1 of 3: {tmp_path / 'run'} holds a checkpoint")
    assert load_checkpoint(tmp_path / "run" / "checkpoint.pt")["iteration"] == 1


@pytest.fixture
def folder_of_scenes(tmp_path):
    """A folder of one's own with a pair in each split, in the present folder."""
    label_map = np.zeros((40, 60), np.uint8)
    label_map[5:20, 5:30], label_map[22:38, 30:55] = 1, 2
    for split in ("train", "val"):
        (tmp_path / "mine" / split).mkdir(parents=True)
        Image.fromarray(label_map).save(tmp_path / "mine" / split / "a_label.png")
        Image.fromarray(np.repeat(label_map[..., None] * 90, 3, axis=2)).save(tmp_path / "mine" / split / "a_rgb.png")
    return tmp_path / "mine"


def test_a_run_finds_its_scenes_from_everywhere_and_moved_ones_by_option(
    acis, mistake, run, folder_of_scenes, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    short = ["--batch-size", 2, "--stages.0.iterations", 1, "--iterations", 1, "--eval-scenes", 1]
    options = ["--weights", run.weights, "--accept-weak-weights", "--scene-options", '{"min_area": 2}']
    acis("train", "quick", "--scenes", "mine", *options, *short, "--out", "made")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    made, resume = tmp_path / "made", ["train", "--resume", tmp_path / "made"]
    assert load_config(made).env.kwargs["scenes"] == str(folder_of_scenes)
    assert "from iteration 4" in acis(*resume)
    assert "1 scenes" in acis("evaluate", made)

    folder_of_scenes.rename(tmp_path / "moved")
    assert str(folder_of_scenes) in mistake(*resume)
    printed = acis("evaluate", made, "--scenes", "../moved", "--out", "report")
    assert f"{folder_of_scenes} is gone: ../moved takes its place" in printed
    about = json.loads((tmp_path / "elsewhere" / "report" / "evaluation.json").read_text())["about"]
    assert about["options"] == {"min_area": 2}
    assert "from iteration 4" in acis(*resume, "--scenes", "../moved")
    assert load_config(made).env.kwargs["scenes"] == str(tmp_path / "moved")
