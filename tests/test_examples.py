"""What a newcomer copies: the README's first program, and the shortest example."""

import json
import math
import re
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import cv2
import pytest
import torch
from torch.utils.tensorboard import SummaryWriter

from acis_env.files import write_json
from agents.algorithms.base import core_of
from agents.commands.evaluate import Evaluate
from agents.commands.main import main
from agents.commands.pretrain import Pretrain
from agents.commands.train import Train
from agents.evaluation import agent_segmenter, evaluate
from agents.models.agent import Agent
from agents.training.presets import PRESETS
from agents.training.trainer import Trainer, load_config
from tests.scripts import load_script

ROOT = Path(__file__).parents[1]


def test_the_programs_of_the_readme_run_finish_episodes_and_segment_a_picture(capsys):
    namespace = {}
    for program in re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL):
        exec(compile(program, "README.md", "exec"), namespace)
    lines = capsys.readouterr().out.splitlines()
    assert lines
    assert all(line.startswith("tensor([") for line in lines)
    assert namespace["result"].label_map.shape == namespace["image"].shape[1:]


def test_the_random_agent_earns_less_than_half_of_what_there_is(capsys):
    module = load_script(ROOT / "examples" / "random_agent.py")
    torch.manual_seed(0)
    module.main(module.Args(num_envs=4, quick=True))
    episodes, dice, sbd = re.fullmatch(
        r"(\d+) episodes: Dice per instance ([\d.]+), SBD ([\d.]+)\n", capsys.readouterr().out
    ).groups()
    assert int(episodes) > 8
    assert 0 < float(dice) < 0.5
    assert 0 < float(sbd) < 0.5


QUICK = {
    "cleanrl_ppo": "torch",
    "cleanrl_sac": "torch",
    "cleanrl_td3": "torch",
    "custom_decoder": "stable_baselines3",
    "custom_reward": "torch",
    "custom_scenes": "torch",
    "algorithm1": "torch",
    "candidates": "torch",
    "sb3_ppo": "stable_baselines3",
    "sb3_td3": "stable_baselines3",
    "sb3_recurrent_ppo": "sb3_contrib",
    "torchrl_ddpg": "torchrl",
    "skrl_ppo": "skrl",
    "rsl_rl_ppo": "rsl_rl",
    "tianshou_ppo": "tianshou",
    "rllib_ppo": "ray",
}
"""Examples with a setting that only shows that everything works, and the library each needs."""


@pytest.mark.parametrize("name", QUICK)
def test_an_example_runs_in_its_quick_setting(name, tmp_path, capsys):
    pytest.importorskip(QUICK[name])
    module = load_script(ROOT / "examples" / f"{name}.py")
    fields = module.Args.__dataclass_fields__
    folder = {key: tmp_path for key in ("run_dir", "out") if key in fields}
    module.main(module.Args(quick=True, **folder))
    assert capsys.readouterr().out
    reports = [json.loads(path.read_text()) for path in tmp_path.rglob("evaluation.json")]
    assert len(reports) == (0 if name == "custom_reward" else 1)
    for report in reports:
        rows = report.get("rows", report)
        means = [row.get("mean", row) for row in rows.values() if isinstance(row, dict)]
        assert len(means) >= 2
        assert all(0 <= mean["sbd"] <= 1 for mean in means)


def test_large_pictures_are_segmented_in_windows_counted_and_shown(tmp_path, capsys):
    module = load_script(ROOT / "examples" / "large_pictures.py")
    module.main(module.Args(quick=True, out=tmp_path))
    row = capsys.readouterr().out.splitlines()[-1]
    seed, sbd, coins = re.fullmatch(r"(\d+) \| ([\d.]+) \| \d+ of (\d+) \| \d+ \| [\d.]+", row).groups()
    picture, label_map = module.draw(int(seed), 300 + module.WINDOW // 2, margin=module.WINDOW // 2)
    assert int(coins) == label_map.max() == module.count(300)
    assert not label_map[: module.WINDOW // 2].any()
    assert picture[label_map > 0].mean() > picture[label_map == 0].mean() + 40
    assert 0 <= float(sbd) <= 1
    assert cv2.imread(str(tmp_path / f"{seed}_overlay.png")).shape == (300, 300, 3)


def test_sac_without_its_decisions_is_another_experiment_with_a_curve_and_a_table_of_its_own(tmp_path, capsys):
    module = load_script(ROOT / "examples" / "cleanrl_sac.py")
    args = module.Args(quick=True, run_dir=tmp_path, **dict.fromkeys(module.DECISIONS, False))
    assert module.Args().name == "cleanrl_sac"
    assert args.name == "-".join(["cleanrl_sac", *(f"no-{name.replace('_', '-')}" for name in module.DECISIONS)])
    module.main(args)
    (folder,) = tmp_path.glob(f"ACIS-Leaves-v0__{args.name}__1__*")
    report = json.loads((folder / "evaluation.json").read_text())
    curve = json.loads((folder / "learning_curve.json").read_text())
    assert curve["step"] == [160, 320, 480, 640]
    assert len(curve["return"]) == 4
    assert (folder / "learning_curve.png").stat().st_size > 0
    for key in ("return", "sbd"):
        assert 0 < report["random actions"][key] < 0.5 * report["bound"][key]
    bound = report["bound"]
    assert f"bound                {bound['return']:9.3f} {bound['sbd']:7.3f}" in capsys.readouterr().out


def test_sac_knows_the_density_of_what_it_draws():
    module = load_script(ROOT / "examples" / "cleanrl_sac.py")
    torch.manual_seed(0)
    actor = module.Actor(3, 1)
    torch.nn.init.constant_(actor.body[-1].bias, 0.3)
    observation = torch.rand(1, 3).expand(200_000, 3)
    with torch.no_grad():
        actions, log_density = actor.draw(observation)
        mean = actor(observation[:1])
    edges = torch.linspace(-0.9, 0.9, 19)
    for low, high in pairwise(edges):
        inside = (actions > low) & (actions <= high)
        share = inside.float().mean() / (high - low)
        assert log_density[inside].exp().mean() == pytest.approx(float(share), rel=0.05)
    assert actions.median() == pytest.approx(float(mean), abs=0.02)


def test_the_ellipse_is_where_its_five_numbers_say():
    pytest.importorskip("stable_baselines3")
    module = load_script(ROOT / "examples" / "custom_decoder.py")
    decoder = module.EllipseDecoder(size=(64, 96), sharpness=50.0)
    everywhere = torch.ones(1, 1, 64, 96)

    def moments(*numbers):
        mask = decoder(torch.tensor([numbers]), everywhere)[0, 0]
        y, x = torch.linspace(-1, 1, 64)[:, None], torch.linspace(-1, 1, 96)[None, :]
        area, row, column = mask.sum(), (mask * y).sum() / mask.sum(), (mask * x).sum() / mask.sum()
        return float(area), float(row), float(column), float((mask * (x - column) * (y - row)).sum() / area)

    area, row, column, skew = moments(0.25, -0.5, 0.0, 0.0, 0.0)
    assert (row, column) == (pytest.approx(-0.5, abs=0.01), pytest.approx(0.25, abs=0.01))
    assert area == pytest.approx(math.pi * 0.25 * 0.25 * 32 * 48, rel=0.05)
    assert moments(0.25, -0.5, 0.0, -1.0, 0.0)[0] == pytest.approx(area / 3, rel=0.05)
    assert skew == pytest.approx(0, abs=1e-3)
    assert moments(0, 0, 1, -1, 0.5)[3] > 0.05 > -0.05 > moments(0, 0, 1, -1, -0.5)[3]  # 45 degrees either way


def test_the_ellipse_is_differentiable_and_stays_on_the_foreground():
    pytest.importorskip("stable_baselines3")
    module = load_script(ROOT / "examples" / "custom_decoder.py")
    decoder = module.EllipseDecoder(size=(8, 8))
    foreground = decoder.condition(torch.rand(3, 12, 8, 8, dtype=torch.float64).round())
    latent = (torch.rand(3, 5, dtype=torch.float64) * 2 - 1).requires_grad_()
    masks = decoder(latent, foreground)
    assert masks.shape == (3, 1, 8, 8)
    assert (masks[foreground == 0] == 0).all()
    assert masks.max() <= 1
    assert torch.autograd.gradcheck(lambda z: decoder(z, foreground), latent)


@pytest.fixture
def tiny_preset(monkeypatch):
    """The preset of the quickstart, cut to two iterations on eight small plants."""
    options = {"length": 8, "max_leaves": 4}
    preset = PRESETS["quick"]
    env = replace(preset.env.having(scene_options=options), val_kwargs={"scene_options": options})
    stages = tuple(replace(stage, iterations=1) for stage in preset.stages)
    tiny = replace(preset, env=env, stages=stages, batch_size=2, eval_scenes=2)
    monkeypatch.setitem(PRESETS, "quick", tiny)
    return tiny


def test_training_by_a_preset_ends_in_a_report_that_begins_with_what_training_began_with(
    tiny_preset, tmp_path, capsys, monkeypatch
):
    module = load_script(ROOT / "examples" / "train.py")
    monkeypatch.setattr(sys, "argv", ["train.py", "quick", "--seed", "1", "--stages.1.algorithm.learning-rate", "0.01"])
    config = module.parse()
    assert (config.seed, config.stages[1].algorithm.learning_rate) == (1, 0.01)
    assert replace(config, seed=tiny_preset.seed, stages=tiny_preset.stages) == tiny_preset
    module.main(config, tmp_path, num_scenes=3)
    report = json.loads((tmp_path / "evaluation-test" / "evaluation.json").read_text())
    assert list(report["rows"]) == ["random actions", "random codes", "initialised", "agent", "reconstruction"]
    assert report["num_scenes"] == 3
    assert f"{report['rows']['agent']['mean']['sbd']:.3f}" in capsys.readouterr().out


def test_the_table_of_the_quickstart_has_two_lines_per_seed_and_is_not_measured_again(
    tiny_preset, tmp_path, capsys, monkeypatch
):
    module = load_script(ROOT / "examples" / "quickstart_seeds.py")
    args = module.Args(seeds=(0, 1), out=tmp_path, table=tmp_path / "table.md", test_scenes=2, iterations=1)
    module.main(args)
    table = (tmp_path / "table.md").read_text()
    assert capsys.readouterr().out.endswith(table + "\n")
    assert "(split test, 2 scenes, 2 to 10 instances)" in table
    names = [line.split("|")[1].strip() for line in table.splitlines() if line.startswith("|")][2:]
    seeds = [f"seed {seed}: {which}" for seed in (0, 1) for which in ("initialised actor", "**trained agent**")]
    assert names == ["random actions", "random codes", *seeds, "reconstruction of the ground truth (bound)"]
    monkeypatch.setattr(module, "Quickstart", None)  # would be called for a seed without a report
    module.main(args)
    assert (tmp_path / "table.md").read_text() == table


def test_a_bundled_agent_has_the_scores_that_its_card_says(tiny_preset, tmp_path, capsys):
    Trainer(tiny_preset, tmp_path / "run").run()
    module = load_script(ROOT / "examples" / "bundle_agent.py")
    module.main(module.Args(run=tmp_path / "run", name="plants-32", out=tmp_path / "agents", num_scenes=3, fill=3.0))
    card = json.loads((tmp_path / "agents" / "plants-32" / "card.json").read_text())
    agent = Agent.load(tmp_path / "agents" / "plants-32")
    source = core_of(tiny_preset.env.make_evaluation("val", weights=agent.pretrained)).source
    found = evaluate("agent", agent_segmenter(agent), source, agent.composition, num_scenes=3)
    assert agent.composition.fill == card["fill"] == 3
    assert card["scores"]["sbd"] == pytest.approx(found.mean["sbd"], abs=1e-4)
    assert card["first_scenes"] == pytest.approx([scene["sbd"] for scene in found.scenes], abs=1e-3)
    assert card["stages"] == {stage.name: [stage.algorithm.kind, stage.iterations] for stage in tiny_preset.stages}
    assert card["episodes"] == 1
    with pytest.raises(ValueError, match=r"run plays one episode: .* got 4"):
        module.main(module.Args(run=tmp_path / "run", name="plants-32", out=tmp_path / "agents", episodes=4))
    assert f"{tmp_path / 'agents' / 'plants-32'}: 3 scenes of val" in capsys.readouterr().out


def test_the_comparison_of_libraries_takes_the_latest_run_of_every_seed(tmp_path, capsys):
    module = load_script(ROOT / "examples" / "compare_libraries.py")
    for seed, begun, sbd in ((1, 10, 0.9), (1, 20, 0.5), (2, 15, 0.6)):
        folder = tmp_path / f"ACIS-Leaves-v0__some_ppo__{seed}__{begun}"
        means = {"policy": {"return": 3.0, "sbd": sbd}, "random actions": {"return": 2.0, "sbd": 0.4}}
        write_json(folder / "evaluation.json", {**means, "total_timesteps": 100, "seconds": 120})
        with SummaryWriter(str(folder)) as writer:
            for step in (10, 100):
                writer.add_scalar("charts/episodic_return", step / 100, step)
    write_json(tmp_path / "ACIS-Leaves-v0__algorithm1__1__5" / "evaluation.json", {"before": {}, "after": {}})
    module.main(module.Args(runs=tmp_path, picture=tmp_path / "curves.png"))
    assert "| `some_ppo` | 100 | 2 | 3.00 | 2.00 | 0.500, 0.600 | 0.400 |" in capsys.readouterr().out
    assert (tmp_path / "curves.png").stat().st_size > 0
    folder = tmp_path / "ACIS-Leaves-v0__some_ppo__2__15"
    folder.rename(tmp_path / "ellipses__some_ppo__2__15")
    module.main(module.Args(runs=tmp_path, picture=tmp_path / "curves.png"))
    printed = capsys.readouterr().out
    assert "| `some_ppo, ACIS-Leaves-v0` | 100 | 2 | 3.00 | 2.00 | 0.500 | 0.400 |" in printed
    assert "| `some_ppo, ellipses` | 100 | 2 | 3.00 | 2.00 | 0.600 | 0.400 |" in printed
    silent = tmp_path / "ACIS-Leaves-v0__another__1__30"  # a library that does not tell returns while it trains
    write_json(
        silent / "evaluation.json", json.loads((tmp_path / "ellipses__some_ppo__2__15" / "evaluation.json").read_text())
    )
    module.main(module.Args(runs=tmp_path, picture=tmp_path / "curves.png"))
    assert "| `another` | 100 | 2 | 3.00 | 2.00 | 0.600 | 0.400 |" in capsys.readouterr().out
    (tmp_path / "alone").mkdir()
    silent.rename(tmp_path / "alone" / silent.name)
    with pytest.raises(SystemExit, match="no run with the scalar charts/episodic_return: no picture is drawn"):
        module.main(module.Args(runs=tmp_path / "alone"))
    with pytest.raises(SystemExit, match="no finished run"):
        module.main(module.Args(runs=tmp_path / "none"))


def test_a_sweep_ends_with_the_trial_whose_agent_scored_best_and_whose_folder_holds_it(tmp_path, capsys):
    pytest.importorskip("optuna")
    module = load_script(ROOT / "examples" / "optuna_sweep.py")
    args = module.Args(quick=True, out=tmp_path)
    study = module.main(args)
    scores = {trial.number: trial.value for trial in study.trials if trial.state.name == "COMPLETE"}
    best = max(scores, key=scores.get)
    assert f"best trial {best}: SBD {scores[best]:.3f}" in capsys.readouterr().out
    for trial in study.trials:
        folder = tmp_path / f"trial-{trial.number}"
        config, history = load_config(folder), json.loads((folder / "history.json").read_text())["history"]
        assert config.stages[-1].algorithm.learning_rate == trial.params["learning_rate"]
        begun = config.stages[0].iterations
        reported = {scores["iteration"]: scores["sbd"] for scores in history if scores["iteration"] > begun}
        assert reported == trial.intermediate_values != {}
        if trial.state.name == "COMPLETE":
            assert trial.value == history[-1]["sbd"]
            assert history[-1]["iteration"] == config.iterations


def test_a_pruned_trial_stops_at_the_first_evaluation_with_its_settings_and_can_be_resumed(tmp_path):
    optuna = pytest.importorskip("optuna")
    module = load_script(ROOT / "examples" / "optuna_sweep.py")
    study = optuna.create_study(direction="maximize", pruner=optuna.pruners.ThresholdPruner(lower=1.1))
    study.optimize(lambda trial: module.objective(trial, module.Args(out=tmp_path).in_short()), n_trials=1)
    (trial,) = study.trials
    assert trial.state.name == "PRUNED"
    trainer = Trainer.resume(tmp_path / "trial-0")
    start, every = trainer.config.stages[0].iterations, trainer.config.eval_every
    assert start < trainer.iteration <= start + every < trainer.config.iterations
    assert list(trial.intermediate_values) == [trainer.iteration]


@pytest.mark.parametrize(
    "name",
    ["bbbc038", "cars_weights", "cars_256_weights", "leaves_weights", "leaves_224_weights", "nuclei_224_weights"],
)
def test_a_shell_script_calls_acis_with_arguments_that_it_understands(name, tmp_path, monkeypatch):
    recorder, calls = tmp_path / "acis", tmp_path / "calls"
    recorder.write_text(
        f"#!{sys.executable}\nimport json, sys\nopen({str(calls)!r}, 'a').write(json.dumps(sys.argv[1:]) + '\\n')\n"
    )
    recorder.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    folders = ["data", "out"] if name in ("bbbc038", "nuclei_224_weights") else ["out"]
    subprocess.run(["bash", str(ROOT / "examples" / f"{name}.sh"), *folders], cwd=tmp_path, check=True, timeout=60)
    called, understood = [json.loads(line) for line in calls.read_text().splitlines()], []
    for command in (Pretrain, Train, Evaluate):
        monkeypatch.setattr(command, "run", lambda self: understood.append(self))
    for arguments in called:
        main(arguments)
    assert len(understood) == len(called) >= 2
    if name == "bbbc038":
        env = understood[2].resolved().env
        assert env.kwargs["weights"] == str(understood[0].out)
        assert env.kwargs["scene_options"] == understood[0].scene_options
        assert env.val_kwargs == {"scene_options": understood[0].val_options}
        assert understood[3].run_folder == understood[2].out


def test_every_example_is_run():
    others = {
        *("random_agent", "bundle_agent", "compare_libraries", "large_pictures", "optuna_sweep"),
        *("quickstart_seeds", "train"),
    }
    assert {path.stem for path in (ROOT / "examples").glob("*.py")} == {*QUICK, *others}
    assert {path.stem for path in (ROOT / "examples").glob("*.sh")} == {
        *("bbbc038", "cars_weights", "cars_256_weights", "leaves_224_weights", "leaves_weights", "nuclei_224_weights"),
    }
