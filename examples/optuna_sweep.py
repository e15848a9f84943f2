"""A search for settings with Optuna, which stops trials whose validation SBD is below the median of those before.

pip install 'acis-env[optuna]'
python examples/optuna_sweep.py --trials 20 --out runs/sweep
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import optuna
import tyro

from agents import PRESETS, Trainer


@dataclass(frozen=True)
class Args:
    """Look for a learning rate and a horizon of the gradient on the bundled leaves."""

    trials: int = 20
    """Number of runs, those that are stopped early included."""
    iterations: int = 200
    """Number of iterations of a run, after its initialisation."""
    start_iterations: int = 60
    """Number of iterations of the initialisation."""
    eval_every: int = 40
    """Iterations between evaluations, in each of which a trial may be stopped."""
    eval_scenes: int = 50
    """Number of validation scenes in an evaluation."""
    batch_size: int = 16
    """Number of scenes side by side."""
    seed: int = 1
    """Seed of the search and of all runs."""
    out: Path = Path("runs/sweep")
    """Folder of the runs, trial-0, trial-1, ..."""
    quick: bool = False
    """Take under two minutes, only to show that everything works."""

    def in_short(self) -> Args:
        """Four tiny runs."""
        return replace(
            self, trials=4, iterations=4, start_iterations=2, eval_every=2, eval_scenes=5, batch_size=2, quick=False
        )


def objective(trial: optuna.Trial, args: Args) -> float:
    """Train with the settings that `trial` suggests; returns the validation SBD of the agent."""
    preset = PRESETS["bl-trunc-dice"]
    start, main_stage = preset.stages
    algorithm = replace(
        main_stage.algorithm,
        learning_rate=trial.suggest_float("learning_rate", 1e-4, 1e-2, log=True),
        bptt_steps=trial.suggest_int("bptt_steps", 1, 3),
    )
    config = replace(
        preset,
        stages=(
            replace(start, iterations=args.start_iterations),
            replace(main_stage, algorithm=algorithm, iterations=args.iterations),
        ),
        seed=args.seed,
        batch_size=args.batch_size,
        eval_every=args.eval_every,
        eval_scenes=args.eval_scenes,
    )

    def prune(iteration: int, metrics: Mapping[str, float]) -> bool:
        if "val/sbd" not in metrics or iteration <= args.start_iterations:
            return False  # all trials are the same until the settings are in use
        trial.report(metrics["val/sbd"], iteration)
        return trial.should_prune() and iteration < config.iterations

    trainer = Trainer(config, args.out / f"trial-{trial.number}", callbacks=[prune])
    trainer.run()
    if trainer.iteration < config.iterations:
        raise optuna.TrialPruned
    return trainer.history[-1]["sbd"]


def main(args: Args) -> optuna.Study:
    """Run the trials and print the best one."""
    if args.quick:
        args = args.in_short()
    study = optuna.create_study(
        direction="maximize",
        sampler=optuna.samplers.TPESampler(seed=args.seed),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=2),
    )
    preset = PRESETS["bl-trunc-dice"].stages[-1].algorithm  # the first trial has its settings
    study.enqueue_trial({name: getattr(preset, name) for name in ("learning_rate", "bptt_steps")})
    study.optimize(lambda trial: objective(trial, args), n_trials=args.trials)
    pruned = study.get_trials(states=(optuna.trial.TrialState.PRUNED,))
    best = study.best_trial
    print(f"{len(study.trials)} trials, of which {len(pruned)} were stopped early")
    print(f"best trial {best.number}: SBD {best.value:.3f} with {best.params}, in {args.out / f'trial-{best.number}'}")
    return study


if __name__ == "__main__":
    main(tyro.cli(Args))
