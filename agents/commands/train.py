"""`acis train`: a run by a named preset, in one process or in several."""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from acis_env.folders import claimed, new_folder
from agents.algorithms import ActorCriticConfig
from agents.algorithms.distributed import ProcessGroup, join_group
from agents.environment import EnvConfig, JsonObject
from agents.training.checkpoint import holds_run
from agents.training.config import TrainConfig, main_stage, with_length
from agents.training.presets import PRESETS
from agents.training.tracking import TrackerName, check_tracker, tracked
from agents.training.trainer import Trainer, load_config
from agents.training.warm_start import start_from, weights_of

if TYPE_CHECKING:
    Preset = TrainConfig
else:
    Preset = tyro.extras.subcommand_type_from_defaults(PRESETS, prefix_names=False)


logger = logging.getLogger(__name__)

LENGTHS = ("iterations", "minutes")
"""Arguments that say how long to train."""


@dataclass(frozen=True)
class Train:
    """Train an agent by a named preset, any field of which can be overridden; or resume a run."""

    config: Annotated[Preset, tyro.conf.arg(name="")] = PRESETS["quick"]
    """Preset and overrides; not with --resume, since a run goes on with the settings that it has."""
    scenes: str | None = None
    """Scenes to train on: "leaves", another registered data set, or a folder of `<id>_rgb.png` and `<id>_label.png`
    with subfolders train and val. With --resume, where the scenes of the run are now."""
    scene_options: JsonObject | None = None
    """Further arguments of the scenes (of `Leaves` or `FolderScenes`)."""
    root: Path | None = None
    """Folder of the data of a registered data set, such as CVPPP; by default that in its environment variable, such as
    ACIS_CVPPP_ROOT. With --resume, where the data of the run are now."""
    weights: str | None = None
    """Pre-trained networks: a bundled name or a folder. Without it, those of the preset; where --scenes are given,
    "leaves-64". With --resume, where those of the run are now."""
    accept_weak_weights: bool = False
    """Train on networks whose score on held-out scenes, by their cards, is below 0.5."""
    env_options: JsonObject | None = None
    """Further keyword arguments of the environment, added to those of the preset, such as '{"score": "iou"}'."""
    iterations: int | None = None
    """Number of iterations of the stage "main", in which the policy learns, the warm-up of its critic included. Stages
    before it keep theirs, and so do those after it, in which a critic learns to search and the agent to stop, but for
    no more than an eighth of it each. None: as in the preset."""
    out: Path | None = None
    """Folder of the run; by default a new one, runs/TIME-ALGORITHM-seed-SEED."""
    start_from: str | None = None
    """Begin with the actor of this agent, to go on with other scenes, say: the folder of a run, or the name of an agent
    that comes with the package. Its networks around the actions come with it; critic and optimisers are new."""
    resume: Path | None = None
    """Continue the run in this folder from its last checkpoint."""
    extend: int | None = None
    """With --resume: train so many more iterations in the last stage. The run may be finished, or not. From here on
    learning rates are those of a stage that had been planned so long: where it is then not yet through 70 % of its
    length, they rise again before they fall. An extended run that was interrupted goes on by --resume alone."""
    allow_changes: bool = False
    """Continue although scenes, weights or the number of threads are no longer those of the run; the result is then
    another one."""
    track: TrackerName | None = None
    """Experiment tracker that follows the run beside TensorBoard: Weights & Biases or MLflow, each an extra of its
    name. A resumed run goes on in the one that it has."""

    @staticmethod
    def check(arguments: Sequence[str]) -> None:
        """Make sure that nothing is asked for that would have no effect.

        Raises:
            ValueError: naming the arguments.
        """
        parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
        for name in ("resume", "scenes", "root", "weights", "extend", "track", *LENGTHS):
            parser.add_argument(f"--{name}", nargs="?")
        for name in ("allow-changes", "no-allow-changes", "help"):
            parser.add_argument(f"--{name}", action="store_true")
        parser.add_argument("-h", action="store_true", dest="help")
        try:
            known, others = parser.parse_known_args(list(map(_with_dashes, arguments)))
        except argparse.ArgumentError as error:
            raise ValueError(str(error)) from error
        if known.help:
            return
        given = [f"--{name} {getattr(known, name)}" for name in LENGTHS if getattr(known, name) is not None]
        if known.resume is not None and (others or given):
            unused = " ".join([*others, *given])
            raise ValueError(
                f"--resume goes on with the settings of the run in {known.resume}, where {unused} would have no "
                "effect: leave it out, or begin another run"
            )
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} both say how long to train: leave one of them out")
        preset = next((argument for argument in others if argument in PRESETS), "quick")
        lengths = {f"--stages.{n}.iterations" for n in range(main_stage(PRESETS[preset]), len(PRESETS[preset].stages))}
        twice = [argument.split("=")[0] for argument in others if argument.split("=")[0] in lengths]
        if known.iterations is not None and twice:
            raise ValueError(f"{given[0]} and {twice[0]} both say how long a stage is: leave one of them out")

    def run(self) -> None:
        """Train to the end of the schedule.

        Raises:
            ValueError: `out` holds a run already, another process is training there, the networks are too weak, an
                argument has no effect, or the library of the tracker is not installed.
            OSError: the tracker could not be reached.
        """
        check_tracker(self.resume, self.track)
        for name, is_given in (("allow-changes", self.allow_changes), ("extend", self.extend is not None)):
            if is_given and self.resume is None:
                raise ValueError(f"--{name} has no effect without --resume")
        if self.extend is not None and self.extend < 1:
            raise ValueError(f"--extend must be at least 1, the number of iterations to add, got {self.extend}")
        config = self.resolved() if self.resume is None else load_config(self.resume)
        if self.resume is None and not self.accept_weak_weights:
            config.env.check_weights()  # before there is a folder
        with join_group(config.device) as group, self._folder(config, group) as folder:
            if self.resume is None:
                trainer = Trainer(config, folder, group=group, accept_weak_weights=self.accept_weak_weights)
                if self.start_from is not None:
                    start_from(trainer.learner, self.start_from)
            else:
                root = None if self.root is None else str(self.root)
                settings = (self.allow_changes, self.scenes, self.weights, root)
                trainer = Trainer.resume(folder, None, None, group, *settings, self.extend)
            if group.is_main:
                print(f"run folder {trainer.folder}, from iteration {trainer.iteration}")
            with tracked(trainer, self.track):
                trainer.run()
            if group.is_main:
                print(f"done: evaluate with `acis evaluate {trainer.folder}`")

    @contextmanager
    def _folder(self, config: TrainConfig, group: ProcessGroup) -> Iterator[Path]:
        """The folder of the run, which no other process writes into meanwhile."""
        folder = self.resume or self.out
        if not group.is_main:
            yield folder or Path("runs")
            return
        if folder is None:
            kind = getattr(config.stages[-1].algorithm, "kind", "run") if config.stages else "run"
            folder = new_folder(Path("runs"), f"{time.strftime('%Y%m%d-%H%M%S')}-{kind}-seed-{config.seed}")
        with claimed(folder):
            if self.resume is None and holds_run(folder):
                raise ValueError(
                    f"--out {folder} holds a run already: choose another folder, or pass --resume {folder}"
                )
            yield folder

    def resolved(self) -> TrainConfig:
        """The preset with all overrides."""
        root = None if self.root is None else str(self.root)
        named = {
            "scenes": self.scenes,
            "scene_options": self.scene_options,
            "root": root,
            "weights": self.weights if self.start_from is None else self.weights or weights_of(self.start_from),
        }
        changes = {name: value for name, value in named.items() if value is not None} | (self.env_options or {})
        env: EnvConfig = self.config.env.having(**changes)
        if self.scenes is not None and env.id == EnvConfig.id:
            if self.scenes != "leaves" and "weights" not in env.kwargs:
                logger.warning(
                    "--scenes %s: without --weights the networks are leaves-64, which know bundled leaves alone; "
                    "`acis pretrain` makes networks of other scenes",
                    self.scenes,
                )
            env = replace(env, id="ACIS/Scenes-v0", kwargs={"weights": "leaves-64", **env.kwargs})
        config = replace(self.config, env=env.absolute())
        if self.iterations is not None:
            if self.iterations < 1:
                raise ValueError(f"--iterations must be at least 1, got {self.iterations}")
            config = with_length(config, self.iterations)
        _check_warmup(config)
        return config


def _with_dashes(argument: str) -> str:
    """An argument, the name of an option with dashes in place of underscores."""
    name, equals, value = argument.partition("=")
    return name.replace("_", "-") + equals + value if argument.startswith("--") else argument


def _check_warmup(config: TrainConfig) -> None:
    """Make sure that the actor learns in every stage that has time for more than its critic's warm-up."""
    for number, stage in enumerate(config.stages):
        warmup = stage.algorithm.critic_warmup if isinstance(stage.algorithm, ActorCriticConfig) else 0
        if stage.iterations <= warmup:
            raise ValueError(
                f"stage {number}, {stage.name!r}, must have more iterations than its critic warms up, got "
                f"{stage.iterations}: the actor would learn nothing, since "
                f"--stages.{number}.algorithm.critic-warmup is {warmup}"
            )
