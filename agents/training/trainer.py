"""The training loop of Algorithm 1, with checkpoints, logs and pictures."""

from __future__ import annotations

import json
import logging
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from acis_env import dynamics
from acis_env.configs import config_from_dict
from acis_env.datasets import PackedScenes, Scene, SceneDataset, open_scenes
from acis_env.dynamics import EnvState
from acis_env.files import write_json
from acis_env.networks import check_device
from acis_env.precision import autocast
from acis_env.sampling import draw_batch, iteration_generator
from acis_env.weights import Pretrained, load_pretrained
from agents.algorithms.actor_critic import ActorCritic, Losses
from agents.algorithms.distributed import SINGLE, Group, check_share
from agents.algorithms.replay import ReplayBuffer, Transitions
from agents.algorithms.rollout import Batch, MicroBatch, sort_by_length
from agents.algorithms.search import Judge
from agents.evaluation.evaluation import agent_segmenter, evaluate, explained_variance_per_step, scene_sheet
from agents.models.agent import Agent, load_checkpoint, save_checkpoint
from agents.training.config import Phase, TrainConfig

logger = logging.getLogger(__name__)

FORMAT = "acis-run-3"
"""Marks a file as the checkpoint of a run, and the layout of what is in it."""

COSINES = 5
"""Comparisons of the critic's gradient with the score's that the warning looks back on."""
LOW_COSINE = 0.1
"""Their mean below which the critic's gradient has lost the score's direction."""
SCORE_LOSS = 0.05
"""Score per instance lost since the best such stretch; without a loss a low cosine may just be the end of learning."""


class Trainer:
    """Trains an agent in `folder`, which holds all that a run leaves behind:

    - `config.json`, `history.json`: the resolved configuration, and the scores on validation scenes over time;
    - `checkpoint.pt`: everything needed to continue; `agent.pt`: what inference needs;
    - `initial.pt`: the agent as it was before the last phase, for comparison;
    - TensorBoard events.

    All random numbers of an iteration are drawn from generators that depend on the seed and the iteration alone,
    so a run that was interrupted and resumed draws what it would have drawn, and so do runs in more processes.
    Each process of `group` trains on its share of every batch; the main one writes.
    """

    def __init__(
        self,
        config: TrainConfig,
        folder: Path,
        train: SceneDataset | None = None,
        val: SceneDataset | None = None,
        pretrained: Pretrained | None = None,
        group: Group = SINGLE,
    ) -> None:
        """Open scenes and networks; the data sets and networks given take the place of those in `config`."""
        if not config.phases:
            raise ValueError("phases must hold at least one phase, got none; a preset has some")
        check_share(group, config.device, config.batch_size, config.accumulate)
        check_device(config.device)
        self.config, self.folder, self.group = config, folder, group
        self._given = _names(train=train, val=val, pretrained=pretrained)
        torch.manual_seed(config.seed)
        self.pretrained = (pretrained or load_pretrained(config.weights)).to(config.device)
        size = self.pretrained.size
        train = train or open_scenes(config.scenes, "train", size, config.scene_options)
        val = val or open_scenes(config.scenes, "val", size, config.val_options)
        self.train_scenes = PackedScenes(train, size, config.device)
        self.val_scenes = PackedScenes(FirstScenes(val, config.eval_scenes), size, config.device)
        self.learner = ActorCritic(self.pretrained.autoencoder, config, group)
        self.replay = ReplayBuffer(config.replay_size, group)
        self.iteration = 0
        self.history: list[dict[str, float]] = []
        self._watched: deque[tuple[float, float]] = deque(maxlen=COSINES)
        self._best_score = 0.0

    @classmethod
    def resume(
        cls,
        folder: Path,
        group: Group = SINGLE,
        train: SceneDataset | None = None,
        val: SceneDataset | None = None,
        pretrained: Pretrained | None = None,
    ) -> Trainer:
        """Continue the run in `folder` from its last checkpoint, with as many processes as one likes.

        Data sets and networks that were given to its trainer have to be given again.

        Raises:
            FileNotFoundError: there is none.
            ValueError: it is damaged or of another version, or was given other arguments than these.
        """
        path = folder / "checkpoint.pt"
        state = load_checkpoint(path)
        if state.get("format") != FORMAT:
            raise ValueError(f"{path}: expected a run of format {FORMAT!r}, got {state.get('format')!r}")
        config = config_from_dict(TrainConfig, state["config"], str(path))
        given = _names(train=train, val=val, pretrained=pretrained)
        if given != state["given"]:
            raise ValueError(
                f"{path}: the run was given {state['given'] or 'nothing'}, and resume got {given or 'nothing'}"
            )
        trainer = cls(config, folder, train, val, pretrained, group)
        trainer.learner.load_state_dict(state["learner"])
        trainer.replay.load_state_dict(state["replay"], trainer.config.device)
        trainer.iteration, trainer.history = state["iteration"], state["history"]
        return trainer

    def run(self) -> Agent:
        """Train to the end of the schedule.

        An interruption costs the iterations since the last checkpoint and nothing else.

        Raises:
            FloatingPointError: a loss or a gradient is not finite; names the iteration.
        """
        total = sum(phase.iterations for phase in self.config.phases)
        progress = tqdm(total=total, initial=self.iteration, desc="training", disable=not self.group.is_main)
        with self._open_log() as writer:
            try:
                for phase, share in self._schedule():
                    progress.set_description(phase.name)
                    losses = self._train_iteration(phase, share)
                    if writer is not None:
                        self._log(writer, progress, losses)
                    self.iteration += 1
                    progress.update()
                    self._after_iteration(writer, total)
            except FloatingPointError as error:
                where = f"iteration {self.iteration}, phase {phase.name!r}"
                raise FloatingPointError(f"{where}: {error}; {self.folder} keeps its last checkpoint") from error
            finally:
                progress.close()
        return self.agent()

    def _train_iteration(self, phase: Phase, share: float) -> Losses:
        """One pass of the outer loop of Algorithm 1; `share` in [0, 1) of the phase is done."""
        config, generator = self.config, torch.Generator().manual_seed(self._seed())
        losses: Losses = {}
        batch = self._begin_episodes(phase)
        decay = phase.decay_at(share)
        monitor = self.iteration % config.monitor_every == 0
        if phase.objective == "judge":
            collected, played = self.learner.compare(batch, generator)
            losses |= self.learner.update_termination(batch, played, decay)
            losses |= self.learner.correlate(collected) if monitor else {}
            losses |= self._evaluate_policy(collected, generator, partial(self.learner.update_judge, decay=decay))
        elif phase.objective in ("critic", "ac", "ac-score"):
            collected = self.learner.collect(batch, generator)  # episode execution
            update = partial(self.learner.update_critic, learning_rate=phase.critic_learning_rate)
            losses |= self._evaluate_policy(collected, generator, update)
        if phase.objective not in ("critic", "judge"):  # policy iteration
            losses |= self.learner.update_actor(batch, phase, generator, decay, monitor)
        return losses

    def _evaluate_policy(
        self, collected: Transitions, generator: torch.Generator, update: Callable[[Transitions], Losses]
    ) -> Losses:
        """Updates of the critic, Eq. (7), by what was collected now and in the iterations before."""
        losses: Losses = {}
        self.replay.add(collected)
        for _ in range(self.config.critic_updates):
            losses = update(self.replay.sample(self.config.critic_batch_size, generator))
        return losses

    def _begin_episodes(self, phase: Phase) -> Batch:
        """Fresh episodes in a random batch of training scenes, of which this process takes its share."""
        generator = iteration_generator(self.config.seed, self.iteration)
        drawn = draw_batch(self.train_scenes, self.config.batch_size, self.config.augmentation, generator)
        capacity = self.train_scenes.max_instances
        label_map, given = drawn.label_maps, torch.zeros_like(drawn.label_maps, dtype=torch.float32)[:, None]
        if phase.sequence_length is not None:
            priority = torch.from_numpy(generator.random((len(label_map), capacity), dtype=np.float32))
            label_map, given = dynamics.prefill(label_map, phase.sequence_length, priority.to(label_map.device))
        noise = torch.from_numpy(generator.standard_normal((len(label_map), capacity, capacity), dtype=np.float32))
        noise = noise.to(label_map.device)
        images, label_map, given, noise = sort_by_length(drawn.images, label_map, given, noise)
        lengths = label_map.flatten(1).amax(1).long().cpu()
        num_parts = self.group.world_size * self.config.accumulate
        parts = []
        for first in range(self.group.rank, num_parts, self.group.world_size):
            places = torch.arange(first, len(lengths), num_parts)  # of the sorted scenes, so that all parts cost alike
            scenes = (images[places], label_map[places], given[places], noise[places])
            parts.append(MicroBatch(self._reset(*scenes), places))
        return Batch(lengths, parts)

    def _reset(self, images: Tensor, label_map: Tensor, given: Tensor, noise: Tensor) -> EnvState:
        context, capacity = self.pretrained.context_network.context(images), self.train_scenes.max_instances
        with autocast(context.device, self.config.precision):
            noise = self.config.matching_noise * noise
            return dynamics.reset(context, label_map, self.learner.decoder, capacity, capacity, given, noise)

    def _open_log(self) -> AbstractContextManager[SummaryWriter | None]:
        """Write the configuration, and open the writer of events; the main process alone has one."""
        if not self.group.is_main:
            return nullcontext()
        write_json(self.folder / "config.json", asdict(self.config))
        writer: AbstractContextManager[SummaryWriter] = SummaryWriter(str(self.folder), purge_step=self.iteration)
        return writer

    def _schedule(self) -> Iterator[tuple[Phase, float]]:
        """The phase of every iteration that is left, and the share of the phase that is done."""
        start = 0
        for phase in self.config.phases:
            for i in range(max(self.iteration - start, 0), phase.iterations):
                if i == 0 and phase is self.config.phases[-1] and self.group.is_main:
                    self.agent().save(self.folder / "initial.pt")
                yield phase, i / phase.iterations
            start += phase.iterations

    def _after_iteration(self, writer: SummaryWriter | None, total: int) -> None:
        is_last = self.iteration == total
        if writer is not None and (is_last or self.iteration % self.config.eval_every == 0):
            self._evaluate(writer)
        if is_last or self.iteration % self.config.checkpoint_every == 0:
            self.save()

    def _evaluate(self, writer: SummaryWriter) -> None:
        agent = self.agent()
        evaluation = evaluate("agent", agent_segmenter(agent), self.val_scenes, agent.threshold, num_pictures=8)
        scores = evaluation.mean
        for name, value in scores.items():
            writer.add_scalar(f"val/{name}", value, self.iteration)
        for t, value in enumerate(evaluation.dice_at_step(), start=1):
            writer.add_scalar(f"val_dice_per_step/{t:02d}", value, self.iteration)
        if self.config.estimates_returns:
            critic = explained_variance_per_step(self.learner, self.pretrained, self.val_scenes)
            for name in ("explained_variance", "target", "prediction"):
                for t, value in enumerate(critic[name], start=1):
                    writer.add_scalar(f"val_critic_{name}/{t:02d}", value, self.iteration)
        writer.add_image("val/scenes", scene_sheet([evaluation], self.val_scenes), self.iteration, dataformats="HWC")
        self.history.append({"iteration": self.iteration, **scores})
        write_json(self.folder / "history.json", {"history": self.history})

    def _log(self, writer: SummaryWriter, progress: tqdm[Any], losses: Losses) -> None:
        values = dict(zip(losses, torch.stack(list(losses.values())).tolist(), strict=True))  # the host waits once
        for tag, value in values.items():
            writer.add_scalar(tag, value, self.iteration)
        if "critic/gradient_cosine" in values:
            self._watch_critic(values["critic/gradient_cosine"], values["rollout/score_per_instance"])
        shown = {"score": f"{values['rollout/score_per_instance']:.3f}"} if "rollout/return" in values else {}
        if self.history:
            shown |= {f"val_{key}": f"{self.history[-1][key]:.3f}" for key in ("sbd", "abs_dic")}
        progress.set_postfix(shown)

    def _watch_critic(self, cosine: float, score: float) -> None:
        """Warn, once each time, when the actor has found what the critic misjudges."""
        was_exploited = self._is_exploited()
        self._watched.append((cosine, score))
        if len(self._watched) == COSINES:
            self._best_score = max(self._best_score, float(np.mean(self._watched, axis=0)[1]))
        if self._is_exploited() and not was_exploited:
            mean_cosine, mean_score = np.mean(self._watched, axis=0)
            logger.warning(
                "iteration %d: the actor seems to exploit the critic. Over the last %d comparisons the cosine of the "
                "critic's gradient with the score's is %.2f, below %.2f, and the score per instance has fallen from "
                "%.3f to %.3f: lower the learning rate, raise the KL weight or update the critic more often",
                self.iteration, COSINES, mean_cosine, LOW_COSINE, self._best_score, mean_score,
            )  # fmt: skip

    def _is_exploited(self) -> bool:
        if len(self._watched) < COSINES:
            return False
        cosine, score = np.mean(self._watched, axis=0)
        return bool(cosine < LOW_COSINE and score < self._best_score - SCORE_LOSS)

    def agent(self) -> Agent:
        """The agent as it is now; it shares the weights that are being trained."""
        config = self.config
        max_steps = config.max_steps or self.train_scenes.max_instances
        judge = Judge(self.learner.critic, self.learner.decoder, config.search) if self._has_judge() else None
        return Agent(
            self.learner.actor, self.pretrained, max_steps, config.threshold, judge=judge, refine=config.refine
        )

    def _has_judge(self) -> bool:
        """Whether the critic has begun to learn to compare."""
        start = 0
        for phase in self.config.phases:
            if phase.objective == "judge":
                return self.iteration > start
            start += phase.iterations
        return False

    def save(self) -> None:
        """Write the agent, then the checkpoint; every process has to call it."""
        replay = self.replay.state_dict()
        if not self.group.is_main:
            return
        self.agent().save(self.folder / "agent.pt")
        content = {
            "format": FORMAT,
            "config": asdict(self.config),
            "given": self._given,
            "iteration": self.iteration,
            "history": self.history,
            "learner": self.learner.state_dict(),
            "replay": replay,
        }
        save_checkpoint(content, self.folder / "checkpoint.pt")

    def _seed(self) -> int:
        return int(iteration_generator(self.config.seed, self.iteration, stream=1).integers(2**63))


def load_config(folder: Path) -> TrainConfig:
    """The configuration of the run in `folder`.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is damaged or of another version.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; expected the folder of a run of `acis train`")
    try:
        values = json.loads(path.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not JSON ({error})") from error
    config: TrainConfig = config_from_dict(TrainConfig, values, str(path))
    return config


def _names(**arguments: object) -> list[str]:
    return [name for name, value in arguments.items() if value is not None]


class FirstScenes:
    """The first scenes of a data set."""

    def __init__(self, dataset: SceneDataset, length: int) -> None:
        self._dataset, self._length = dataset, min(length, len(dataset))
        self.max_instances = dataset.max_instances

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Scene:
        return self._dataset[index]

    def __iter__(self) -> Iterator[Scene]:
        return (self._dataset[index] for index in range(self._length))
