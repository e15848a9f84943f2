"""The training loop: stages of algorithms in one environment, with checkpoints, logs and pictures."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from acis_env.checksums import read_json
from acis_env.files import write_json
from acis_env.folders import claimed
from acis_env.interruption import Interrupted, Signals, deferred_signals, name_of
from acis_env.networks import check_device
from acis_env.sampling import iteration_generator
from acis_env.surroundings import unaffected
from agents.algorithms import Algorithm, Learner, Progress
from agents.algorithms.actor_critic import ActorCritic
from agents.algorithms.base import Losses, VectorEnv, core_of
from agents.algorithms.distributed import SINGLE_PROCESS, ProcessGroup
from agents.evaluation.critics import explained_variance_per_step
from agents.evaluation.evaluation import evaluate
from agents.evaluation.segmenters import agent_segmenter
from agents.evaluation.tables import scene_sheet
from agents.models.agent import Agent
from agents.models.checkpoints import check_format
from agents.models.composition import Composition
from agents.models.scale import TrainingScale, measure_scale
from agents.training.callbacks import Callback, ask_to_stop, checked
from agents.training.checkpoint import fitting, pack_environment, read_run, restore_environment, write_run
from agents.training.command_line import record_command
from agents.training.config import EARLIER_VERSION, TrainConfig, main_stage, train_config_from_dict
from agents.training.log import TrainingLog
from agents.training.origin import describe_origin, find_changes
from agents.training.schedule import Schedule, extended

FORMAT = "acis-run-4"
"""Marks a file as the checkpoint of a run, and the layout of what is in it."""
SCALE_SCENES = 64
"""Number of training scenes in which the size of instances is measured, spread evenly over all of them."""


class Trainer:
    """Trains an agent in `folder`, which holds all that a run leaves behind:

    - `config.json`, `history.json`: the resolved configuration, and the scores on validation scenes over time;
    - `commands.json`: the commands that began it and went on with it;
    - `checkpoint.pt`: everything needed to continue, and `checkpoint.previous.pt`, the one before, should that be
      damaged; `agent.pt`: what inference needs;
    - `initial.pt`: the agent as it was before the stage "main", or before the last one if none is called that;
    - TensorBoard events.

    Slots of the environment draw from generators of their own, and algorithms from one that depends on the seed and the
    iteration, so a run that was interrupted and resumed goes on bit by bit as it would have. Each process of `group`
    has its own slots; the main one evaluates and writes.
    """

    @unaffected
    def __init__(
        self,
        config: TrainConfig,
        folder: Path,
        env: VectorEnv | None = None,
        val_env: VectorEnv | None = None,
        group: ProcessGroup = SINGLE_PROCESS,
        callbacks: Sequence[Callback] = (),
        accept_weak_weights: bool = False,
    ) -> None:
        """Make the environments; those that are given take the place of `config.env`.

        Args:
            config: everything that decides the run.
            folder: to write into.
            env: a `SegmentationVectorEnv` with `autoreset_mode="Disabled"`, wrapped or not.
            val_env: environment of this kind with the validation scenes.
            group: the processes that train together.
            callbacks: functions that are called after every iteration, in the main process, with the number of
                iterations done and the metrics of the last one by their tags in TensorBoard. If one returns True, `run`
                writes agent and checkpoint and ends.
            accept_weak_weights: train on networks whose score on held-out scenes, by their cards, is below 0.5.

        Raises:
            ValueError: the networks are too weak, or the configuration does not fit the environment.
        """
        if not config.stages:
            raise ValueError("stages must hold at least one stage, got none; a preset has some")
        if env is None and not accept_weak_weights:
            config.env.check_weights()
        check_device(config.device)
        self.config, self.folder, self.group = config, folder, group
        self.callbacks = checked(callbacks)
        self._given = _names(env=env, val_env=val_env)
        torch.manual_seed(config.seed)
        num_envs = group.share(config.batch_size, "batch_size")
        self.env = env or config.env.make(num_envs, device=config.device)
        self.core = core_of(self.env)
        if self.core.num_envs != num_envs:
            raise ValueError(
                f"env must have batch_size / processes = {config.batch_size} / {group.world_size} = {num_envs} slots, "
                f"got {self.core.num_envs}"
            )
        self._val_env = val_env or config.env.make_evaluation(
            "val", device=config.device, weights=self.core.pretrained or self.core.arguments["weights"]
        )
        self.learner = Learner(self.env, config.learner, group)
        self._check_stages()
        self.algorithm: Algorithm | None = None
        self.schedule = Schedule(config, group)
        self.history: list[dict[str, float]] = []
        self._number: int | None = None  # number of the stage that `algorithm` belongs to
        first = group.rank * self.core.num_envs
        slots = range(first, first + self.core.num_envs)
        seeds: Any = [int(np.random.SeedSequence([config.seed, slot]).generate_state(1)[0]) for slot in slots]
        self.env.reset(seed=seeds)

    @classmethod
    @unaffected
    def resume(
        cls,
        folder: Path,
        env: VectorEnv | None = None,
        val_env: VectorEnv | None = None,
        group: ProcessGroup = SINGLE_PROCESS,
        allow_changes: bool = False,
        scenes: str | None = None,
        weights: str | None = None,
        root: str | None = None,
        extend: int | None = None,
        callbacks: Sequence[Callback] = (),
    ) -> Trainer:
        """Continue the run in `folder` from its last checkpoint, with as many processes as one likes.

        Environments and callbacks that were given to its trainer have to be given again. If the last checkpoint is
        damaged, the run continues from the one before, and a warning says so.

        Args:
            folder: of the run.
            env: as for the trainer that began it.
            val_env: as for the trainer that began it.
            group: the processes that train together.
            allow_changes: go on, to another result, if scenes, networks or threads are no longer those of the run.
            scenes: where the scenes of the run are now, if they have moved.
            weights: where the networks of the run are now, if they have moved.
            root: where the data of its registered data set are now, if they have moved.
            extend: number of iterations to add to the last stage, in a run that may be finished. Learning rates follow
                the schedule of the longer stage from here on, so they may rise first. A checkpoint is written at once.
            callbacks: as for the trainer that began it.

        Raises:
            FileNotFoundError: there is none.
            ValueError: it is damaged or of another version, was given other arguments than these, or what it learns
                from has changed; or it cannot be extended so.
        """
        state, path = read_run(folder)
        check_format(state, FORMAT, str(path))
        with fitting(state, path):
            config = train_config_from_dict(state["config"], str(path))
            if extend is not None:
                config = extended(config, state["iteration"], state.get("schedule", {}), extend, str(folder))
        config = replace(config, env=config.env.moved(scenes, weights, root))
        given = _names(env=env, val_env=val_env)
        if given != state["given"]:
            raise ValueError(
                f"{path}: the run was given {state['given'] or 'nothing'}, and resume got {given or 'nothing'}"
            )
        trainer = cls(config, folder, env, val_env, group, callbacks, accept_weak_weights=True)
        before = state.get("origin", {})
        if len(state["environment"]) != group.world_size:  # another order of sums anyway
            before = {name: value for name, value in before.items() if name != "number of threads"}
        changes = find_changes(before, trainer.origin)
        if changes and not allow_changes:
            raise ValueError(
                f"{path}: the run would not go on as it was: {', '.join(changes)}; bring back what it had, or pass "
                "--allow-changes (allow_changes=True)"
            )
        with fitting(state, path):
            trainer._restore(state)
        if extend is not None:
            trainer.save()  # or an interruption would leave a run that nobody has extended
        return trainer

    @unaffected
    def run(self) -> Agent:
        """Train to the end of the schedule, or until a callback wants to stop; then `resume` goes on from there.

        An interruption costs the iterations since the last checkpoint and nothing else; Ctrl-C and SIGTERM cost none.

        Raises:
            FloatingPointError: a loss or a gradient is not finite; names the iteration.
            Interrupted: a signal came, and a checkpoint has been written.
            ValueError: another process is writing into the folder.
        """
        with claimed(self.folder) if self.group.is_main else nullcontext(), deferred_signals() as signals:
            self._run(signals)
        return self.agent()

    def _run(self, signals: Signals) -> None:
        if self.group.is_main:
            write_json(self.folder / "config.json", {"format": FORMAT, **asdict(self.config)}, checksum=True)
            if not self.schedule.is_over:  # or nothing comes of this command
                record_command(self.folder)
        schedule = self.schedule
        with (
            TrainingLog(self.folder, self.iteration, schedule.total, schedule.done, schedule.unit)
            if self.group.is_main
            else nullcontext()
        ) as log:
            while not schedule.is_over:
                try:
                    losses = self.train_iteration()
                except FloatingPointError as error:
                    where = f"iteration {self.iteration}, stage {self.stage!r}"
                    raise FloatingPointError(f"{where}: {error}; {self.folder} keeps its last checkpoint") from error
                is_last: bool = schedule.is_over
                is_enough = False
                if log is not None:
                    metrics = log.write(self.iteration, self.stage, losses, self.history, schedule.done)
                    if is_last or self.iteration % self.config.eval_every == 0:
                        metrics |= self._evaluate_or_save(log)
                    is_enough = ask_to_stop(self.callbacks, self.iteration, metrics)
                is_last = is_last or bool(self.group.largest(int(is_enough)))
                stopped_by = self.group.largest(signals.number)
                if is_last or stopped_by or self.iteration % self.config.checkpoint_every == 0:
                    self.save()
                if stopped_by:
                    raise Interrupted(
                        stopped_by,
                        f"{name_of(stopped_by)} after {schedule.progress}: {self.folder} holds a checkpoint, from "
                        f"which `acis train --resume {self.folder}` goes on",
                    )
                if is_last:
                    break

    @unaffected
    @torch.enable_grad()
    def train_iteration(self) -> Losses:
        """Run one iteration of the present stage, by its algorithm."""
        number, place = self.schedule.begin_iteration()
        if number != self._number:
            if number == main_stage(self.config) and self.group.is_main:
                self.agent().save(self.folder / "initial.pt")
            self._enter(number)
        assert self.algorithm is not None
        is_monitored = self.iteration % self.config.monitor_every == 0
        seed = iteration_generator(self.config.seed, self.iteration, stream=1 + self.group.rank).integers(2**63)
        generator = torch.Generator().manual_seed(int(seed))
        length, done = self.config.stages[number].iterations, self.iteration - self.schedule.firsts[number]
        losses = self.algorithm.train_iteration(Progress(place, length, generator, is_monitored, done))
        self.schedule.end_iteration()
        return losses

    @property
    def iteration(self) -> int:
        """Number of iterations done."""
        return self.schedule.iteration

    @property
    def stage(self) -> str:
        """Name of the stage of the iteration that was begun last."""
        return self.config.stages[len(self.schedule.firsts) - 1].name

    def evaluate(self, log: TrainingLog) -> dict[str, float]:
        """Measure the agent on validation scenes; returns what is written to TensorBoard, by tag."""
        agent, source = self.agent(), core_of(self._val_env).source
        evaluation = evaluate(
            "agent",
            agent_segmenter(agent),
            source,
            agent.composition,
            num_pictures=8,
            num_scenes=self.config.eval_scenes,
        )
        per_step = {"dice_per_step": evaluation.dice_at_step()}
        if isinstance(self.algorithm, ActorCritic):
            critic = explained_variance_per_step(self.algorithm, source, num_scenes=self.config.eval_scenes)
            per_step |= {f"critic_{name}": critic[name] for name in ("explained_variance", "target", "prediction")}
        metrics = log.write_evaluation(self.iteration, evaluation.mean, per_step, scene_sheet([evaluation], source))
        self.history.append({"iteration": self.iteration, **evaluation.mean})
        write_json(self.folder / "history.json", {"history": self.history})
        return metrics

    def _evaluate_or_save(self, log: TrainingLog) -> dict[str, float]:
        try:
            return self.evaluate(log)
        except Exception:  # scenes that are gone, say: what was learnt must not go with them
            if self.group.world_size == 1:  # the others wait elsewhere
                self.save()
            raise

    def agent(self) -> Agent:
        """The agent as it is now; it shares the weights that are being trained."""
        core = self.core
        return Agent(
            self.learner.actor,
            self.learner.pretrained,
            self.config.max_steps or core.source.own_scenes.max_instances,
            Composition(core.threshold, self.config.overlaps, self.config.fill),
            core.action_scale,
            None if self.algorithm is None else self.algorithm.selection,
            refine=bool(core.arguments["refine"]),
            preprocessing=core.arguments["preprocessing"],
            scale=self.training_scale,
            outcomes=None if self.algorithm is None else self.algorithm.outcomes,
        )

    @cached_property
    def training_scale(self) -> TrainingScale | None:
        """How large instances are in training scenes, of which some are looked at; None if they have none."""
        scenes = self.core.source.own_scenes
        chosen = np.unique(np.linspace(0, len(scenes) - 1, min(SCALE_SCENES, len(scenes))).round().astype(int))
        return measure_scale(scenes.gather(chosen.tolist())[1].numpy(force=True))

    def save(self) -> None:
        """Write the agent, then the checkpoint; every process has to call it."""
        assert self.algorithm is not None
        algorithms = self.group.gather(self.algorithm.state_dict())
        environments = self.group.gather(pack_environment(self.core, self.algorithm.keeps_episodes))
        if not self.group.is_main:
            return
        self.agent().save(self.folder / "agent.pt")
        content = {
            "format": FORMAT,
            "config": asdict(self.config),
            "given": self._given,
            "iteration": self.iteration,
            "schedule": self.schedule.state_dict(),
            "history": self.history,
            "origin": self.origin,
            "learner": self.learner.state_dict(),
            "algorithm": algorithms,
            "environment": environments,
        }
        write_run(self.folder, content)

    @cached_property
    def origin(self) -> dict[str, Any]:
        """What the run learns from."""
        return describe_origin(self.core.scenes, self.learner.pretrained)

    def _restore(self, state: dict[str, Any]) -> None:
        self.schedule.load_state_dict(state["iteration"], state.get("schedule", {}))
        self.history = state["history"]
        for number in range(len(self.schedule.firsts)):
            self._enter(number)  # a stage may go on with what the one before has made
        assert self.algorithm is not None
        self.learner.load_state_dict(state["learner"])
        self.algorithm.load_state_dict(state["algorithm"])
        restore_environment(self.core, state["environment"], self.group)

    def _check_stages(self) -> None:
        """Make every algorithm once, so that what cannot be trained is refused at once and not hours later."""
        for stage in self.config.stages:
            try:
                stage.algorithm.make(self.learner)
            except ValueError as error:
                raise ValueError(f"stage {stage.name!r}: {error}") from error

    def _enter(self, number: int) -> None:
        """Begin a stage, or go on with it."""
        stage = self.config.stages[number]
        length = stage.sequence_length
        if length is None:
            length = self.core.arguments.get("sequence_length")
        self.core.set_attr("sequence_length", length)
        # A resumed run begins the stages that are left with the networks it would have had.
        torch.manual_seed(int(iteration_generator(self.config.seed, number, stream=0).integers(2**63)))
        before = self.config.stages[number - 1].algorithm if number else stage.algorithm
        if before.sums_pixels and not stage.algorithm.sums_pixels:
            # Adam's moments of the longer gradients would hold the actor back, the more the longer they were gathered.
            self.learner.renew_actor_optimizer()
        self.algorithm = stage.algorithm.make(self.learner, self.algorithm)
        self._number = number


def load_config(folder: Path) -> TrainConfig:
    """The configuration of the run in `folder`.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is damaged or of another version.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; expected the folder of a run of `acis train`")
    values = read_json(path)
    if "phases" in values:
        raise ValueError(f"{path}: {EARLIER_VERSION}: train it again with this one, or use that version")
    check_format(values, FORMAT, str(path))
    return train_config_from_dict({name: value for name, value in values.items() if name != "format"}, str(path))


def _names(**arguments: object) -> list[str]:
    """The names of those that are not None."""
    return [name for name, value in arguments.items() if value is not None]
