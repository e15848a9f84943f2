"""Evaluation of an agent over a split, beside references measured in the same run.

All measures are computed at each scene's own resolution.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.stats import spearmanr
from torch import Tensor, nn

from acis_env import dynamics
from acis_env.datasets import PackedScenes, Scene
from acis_env.datasets.preprocessing import resize_masks
from acis_env.files import write_json
from acis_env.metrics import dice_star, matched_dice, mean_metrics, segmentation_metrics
from acis_env.pretraining import iterate
from acis_env.rendering import Picture, colour_by_order, colour_instances, contact_sheet, plot_curves, write_png
from acis_env.sampling import SceneBatch
from acis_env.weights import Pretrained
from agents.algorithms.actor_critic import ActorCritic
from agents.algorithms.rollout import Batch, MicroBatch, run_episodes, sort_by_length
from agents.algorithms.search import Search, SearchConfig
from agents.models.agent import Agent, Prediction, compose_label_map

Segmenter = Callable[[SceneBatch], Prediction]
"""Predicts masks for a batch, at least as many as each scene has instances."""

TABLE = ("sbd", "abs_dic", "sbd_gt_stop", "dice_star", "fbd", "mucov", "mwcov", "avg_fp", "avg_fn")
"""Columns of the printed table."""


@dataclass(frozen=True)
class Evaluation:
    """One row of the table: a segmenter's measures over a split."""

    name: str
    scenes: list[dict[str, float]]
    """Measures of each scene: those of `segmentation_metrics` with own stopping, and with the true count
    `sbd_gt_stop` and `dice_star`."""
    dice_per_step: list[list[float]]
    """For each scene the Dice of its first N masks with their instances, in the order of prediction (Fig. 3)."""
    label_maps: dict[int, NDArray[np.int32]]
    """Predictions for pictures, by index of the scene; the scenes are spread evenly over the split."""
    order: list[dict[str, float]] = field(default_factory=list)
    """For each scene the rank correlations of `order_correlations`."""

    @property
    def mean(self) -> dict[str, float]:
        """Means over scenes."""
        return mean_metrics(self.scenes)

    def dice_at_step(self) -> list[float]:
        """Mean Dice at step 1, 2, ... over the scenes that have so many instances."""
        longest = max(map(len, self.dice_per_step))
        return [float(np.mean([d[t] for d in self.dice_per_step if len(d) > t])) for t in range(longest)]


def evaluate(
    name: str, segmenter: Segmenter, scenes: PackedScenes, threshold: float = 0.5, num_pictures: int = 0
) -> Evaluation:
    """Measure `segmenter` on every scene, and keep `num_pictures` of its label maps."""
    shown = set(np.linspace(0, len(scenes) - 1, min(num_pictures, len(scenes))).round().astype(int).tolist())
    rows: list[dict[str, float]] = []
    dice: list[list[float]] = []
    label_maps: dict[int, NDArray[np.int32]] = {}
    order: list[dict[str, float]] = []
    for batch in iterate(scenes):
        prediction = segmenter(batch)
        masks, counts = prediction.masks.numpy(force=True), prediction.num_masks.tolist()
        for scene_masks, count, index in zip(masks, counts, batch.indices.tolist(), strict=True):
            scene = scenes.scene(index)
            resized = resize_masks(scene_masks, scene.require_label_map().shape)
            own_stop = compose_label_map(resized[:count], threshold)
            metrics, scene_dice = _measure(own_stop, resized, scene, threshold)
            rows.append(metrics)
            dice.append(scene_dice)
            order.append(order_correlations(resized[: scene.num_instances] >= threshold, scene.require_label_map()))
            if index in shown:
                label_maps[index] = own_stop
    return Evaluation(name, rows, dice, label_maps, order)


def _measure(
    own_stop: NDArray[np.int32], masks: NDArray[np.float32], scene: Scene, threshold: float
) -> tuple[dict[str, float], list[float]]:
    first = masks[: scene.num_instances]
    metrics = segmentation_metrics(own_stop, scene.require_label_map())
    metrics["sbd_gt_stop"] = segmentation_metrics(compose_label_map(first, threshold), scene.require_label_map())["sbd"]
    metrics["dice_star"] = dice_star(first >= threshold, scene.require_label_map())
    return metrics, matched_dice(first >= threshold, scene.require_label_map()).tolist()


def order_correlations(
    masks: NDArray[np.bool_], label_map: NDArray[np.int32], least_dice: float = 0.5
) -> dict[str, float]:
    """Spearman's rank correlation of the order in which instances are found with what they are (Fig. 4).

    Args:
        masks: `[T, h, w]` bool, in the order of prediction.
        label_map: `[h, w]`, labels 1..N.
        least_dice: of a mask with the instance that it is assigned, for this to count as found.

    Returns:
        Correlation with the instance's visible "size" in pixels and with its "label", the height in the stack of
        leaves; nothing when fewer than three instances are found or all are of one size.
    """
    areas = np.bincount(label_map.ravel())[1:]
    common = np.stack([np.bincount(label_map[mask], minlength=len(areas) + 1)[1:] for mask in masks])
    dice = 2 * common / (masks.sum((1, 2))[:, None] + areas)
    steps, instances = linear_sum_assignment(dice, maximize=True)
    found = dice[steps, instances] >= least_dice
    steps, instances = steps[found], instances[found]
    if len(steps) < 3 or len(set(areas[instances])) == 1:
        return {}
    values = {"size": areas[instances], "label": instances}
    return {name: float(spearmanr(steps, value).statistic) for name, value in values.items()}


def compare(
    segmenters: Mapping[str, Segmenter],
    pretrained: Pretrained,
    scenes: PackedScenes,
    threshold: float = 0.5,
    num_pictures: int = 8,
    seed: int = 0,
) -> list[Evaluation]:
    """The rows of the table: `segmenters` between a random agent and the bound above all agents.

    Args:
        segmenters: rows by name, e.g. an agent before and after training.
        pretrained: context network and autoencoder of all of them.
        scenes: held-out scenes.
        threshold: probability below which a pixel is background.
        num_pictures: scenes to keep label maps of.
        seed: of the random agent.
    """
    random = random_segmenter(pretrained, scenes.max_instances, seed)
    rows = {"random": random, **segmenters, "reconstruction": reconstruction_segmenter(pretrained)}
    return [evaluate(name, segmenter, scenes, threshold, num_pictures) for name, segmenter in rows.items()]


def agent_segmenter(agent: Agent) -> Segmenter:
    """The agent's mean policy, stopping by itself."""

    def segment(batch: SceneBatch) -> Prediction:
        context = agent.pretrained.context_network.context(batch.images)
        return agent.predict_masks(context, min_steps=int(batch.label_maps.max()))

    return segment


def block(agent: Agent, part: Literal["memory", "mask"]) -> Agent:
    """A copy of `agent` whose actor reads zeros in place of its memory or of the accumulated mask (Table 2).

    A judge, if the agent has one, goes on reading the mask.
    """
    blocked = copy.deepcopy(agent)
    position = {"mask": 1, "memory": 2}[part]

    def blank(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        return (*inputs[:position], torch.zeros_like(inputs[position]), *inputs[position + 1 :])

    blocked.actor.register_forward_pre_hook(blank)
    return blocked


def search_bounds(agent: Agent, gamma: float = 0.9) -> dict[str, Segmenter]:
    """The agent's policy with the best of several candidates in every state, by the truth.

    There are as many candidates as a judge has: what one would make of the policy that knew each value exactly.
    """
    values: tuple[Literal["reward", "return"], ...] = ("reward", "return")
    number = SearchConfig().judged
    configs = {f"best of {number} by {value}": SearchConfig(candidates=number, value=value) for value in values}
    return {name: search_segmenter(agent, config, gamma) for name, config in configs.items()}


def search_segmenter(agent: Agent, config: SearchConfig, gamma: float, seed: int = 0) -> Segmenter:
    """The best of several candidates in every state by the truth, as many as there are instances: a bound."""
    generator = torch.Generator().manual_seed(seed)

    @torch.no_grad()
    def segment(batch: SceneBatch) -> Prediction:
        context = agent.pretrained.context_network.context(batch.images)
        place = torch.arange(len(context), device=context.device)
        context, label_map, place = sort_by_length(context, batch.label_maps, place)
        longest = int(label_map.max())
        state = dynamics.reset(context, label_map, agent.decoder, longest, longest)
        shape = (config.candidates - 1, len(context), longest, agent.decoder.latent_size)
        noise = torch.randn(shape, generator=generator).to(context.device)
        search = Search(agent.actor, agent.decoder, config, noise, gamma)
        episodes = run_episodes(agent.actor, agent.decoder, state, choose=search)
        masks = context.new_zeros(len(context), longest, *context.shape[2:])
        for t, step in enumerate(episodes.steps):
            masks[place[: len(step.predicted_mask)], t] = step.predicted_mask[:, 0]
        counts = batch.label_maps.flatten(1).amax(1)
        return Prediction(masks, counts, torch.ones_like(counts, dtype=torch.bool))

    return segment


def _held_out_episodes(
    learner: ActorCritic, pretrained: Pretrained, scenes: PackedScenes, size: int = 16
) -> Iterator[Batch]:
    """Fresh episodes in all of `scenes`, `size` at a time."""
    for batch in iterate(scenes, size):
        context = pretrained.context_network.context(batch.images)
        context, label_map = sort_by_length(context, batch.label_maps)
        capacity = scenes.max_instances
        state = dynamics.reset(context, label_map, learner.decoder, capacity, capacity)
        yield Batch(state.num_instances.cpu(), [MicroBatch(state, torch.arange(len(state)))])


def candidate_correlation(
    learner: ActorCritic, pretrained: Pretrained, scenes: PackedScenes, seed: int = 0
) -> dict[str, float]:
    """Spearman's correlation of the critic's and the true values among the candidates of held-out states.

    Returns:
        Means over states: of "reward", the immediate one, and "return", discounted to the end of the episode.
    """
    names: tuple[Literal["reward", "return"], ...] = ("reward", "return")
    result: dict[str, float] = {}
    for name in names:
        generator = torch.Generator().manual_seed(seed)
        total, states = 0.0, 0
        for batch in _held_out_episodes(learner, pretrained, scenes):
            compared, _ = learner.compare(batch, generator, name)
            total += learner.correlate(compared)["critic/rank_correlation"].item() * compared.total
            states += compared.total
        result[name] = total / states
    return result


@torch.no_grad()
def explained_variance_per_step(
    learner: ActorCritic, pretrained: Pretrained, scenes: PackedScenes, seed: int = 0
) -> dict[str, list[float]]:
    """How well the critic foretells held-out episodes, which are played as in training, noise included.

    Args:
        learner: actor and critic.
        pretrained: the networks around the actions.
        scenes: all of them are played once.
        seed: of the noise.

    Returns:
        For step 1, 2, ...: "count" of episodes that reach it; "explained_variance" of the Monte-Carlo returns
        (of what follows the reward, if that is what the critic learns), 0 where they do not vary; and their mean
        "target" beside the mean "prediction".
    """
    generator = torch.Generator().manual_seed(seed)
    steps, targets, predictions = [], [], []
    for batch in _held_out_episodes(learner, pretrained, scenes):
        played = learner.collect(batch, generator)
        scene = played.scene.to(played.remaining.device)
        steps.append((batch.parts[0].state.num_instances[scene] - played.remaining).cpu())
        targets.append((played.returns - played.reward if learner.config.values_the_future else played.returns).cpu())
        predictions.append(learner.predict_values(played)[:, 0].cpu())
    step, target, prediction = map(torch.cat, (steps, targets, predictions))
    result: dict[str, list[float]] = {"count": [], "explained_variance": [], "target": [], "prediction": []}
    for t in range(int(step.max()) + 1):
        true, guess = target[step == t].double(), prediction[step == t].double()
        variance = float(true.var(correction=0))
        error = float((true - guess).square().mean())
        result["count"].append(len(true))
        result["explained_variance"].append(1 - error / variance if variance > 1e-6 else 0.0)
        result["target"].append(float(true.mean()))
        result["prediction"].append(float(guess.mean()))
    return result


def random_segmenter(pretrained: Pretrained, max_steps: int, seed: int = 0) -> Segmenter:
    """Codes drawn from the prior, and a number of masks drawn uniformly from 1 to `max_steps`."""
    generator = torch.Generator().manual_seed(seed)

    @torch.no_grad()
    def segment(batch: SceneBatch) -> Prediction:
        decoder = pretrained.autoencoder.decoder
        conditioning = decoder.condition(pretrained.context_network.context(batch.images))
        size = len(batch.images)
        length = max(max_steps, int(batch.label_maps.max()))
        codes = torch.randn(length, size, decoder.latent_size, generator=generator).to(batch.images.device)
        masks = torch.stack([decoder(code, conditioning)[:, 0] for code in codes], dim=1)
        counts = torch.randint(1, max_steps + 1, (size,), generator=generator)
        return Prediction(masks, counts.to(masks.device), torch.ones_like(counts, dtype=torch.bool))

    return segment


def reconstruction_segmenter(pretrained: Pretrained) -> Segmenter:
    """The autoencoder's reconstruction of every true instance: a bound on what any agent can reach."""

    def segment(batch: SceneBatch) -> Prediction:
        context = pretrained.context_network.context(batch.images)
        counts = batch.label_maps.flatten(1).amax(1)
        labels = range(1, int(counts.max()) + 1)
        masks = [(batch.label_maps == label).float()[:, None] for label in labels]
        reconstructions = [_without_absent(pretrained.autoencoder.reconstruct(context, mask), mask) for mask in masks]
        return Prediction(torch.cat(reconstructions, dim=1), counts, torch.ones_like(counts, dtype=torch.bool))

    return segment


def _without_absent(reconstruction: Tensor, mask: Tensor) -> Tensor:
    """Nothing where a scene has no such instance."""
    return reconstruction * mask.amax((1, 2, 3), keepdim=True)


def format_table(evaluations: Sequence[Evaluation]) -> str:
    """The evaluations as an aligned text table, one row each."""
    width = max(len(e.name) for e in evaluations)
    lines = ["  ".join([" " * width, *(f"{column:>11}" for column in TABLE)])]
    for evaluation in evaluations:
        mean = evaluation.mean
        lines.append("  ".join([f"{evaluation.name:<{width}}", *(f"{mean[column]:>11.3f}" for column in TABLE)]))
    return "\n".join(lines)


def write_report(
    folder: str | os.PathLike[str], evaluations: Sequence[Evaluation], scenes: PackedScenes, about: Mapping[str, Any]
) -> None:
    """Write `evaluation.json`, `dice_per_step.png` and `scenes.png` into `folder`."""
    folder = Path(folder)
    rows = {e.name: {"mean": e.mean, "dice_at_step": e.dice_at_step(), "scenes": e.scenes} for e in evaluations}
    write_json(folder / "evaluation.json", {"about": dict(about), "num_scenes": len(scenes), "rows": rows})
    curves = {e.name: (np.arange(1, len(e.dice_at_step()) + 1), np.array(e.dice_at_step())) for e in evaluations}
    plot_curves(folder / "dice_per_step.png", curves, "step", "Dice of the mask", "Dice per step, true count (Fig. 3)")
    shown = [e for e in evaluations if e.label_maps]
    if shown:
        write_png(folder / "scenes.png", scene_sheet(shown, scenes))


def scene_sheet(evaluations: Sequence[Evaluation], scenes: PackedScenes) -> Picture:
    """Contact sheet: image, ground truth, and each evaluation's label map coloured by order (as Fig. 4)."""
    rows = []
    for index in evaluations[0].label_maps:
        scene = scenes.scene(index)
        count = max(scene.num_instances, 1)
        predictions = [colour_by_order(e.label_maps[index], max(count, e.label_maps[index].max())) for e in evaluations]
        rows.append([scene.image.transpose(1, 2, 0), colour_instances(scene.require_label_map()), *predictions])
    return contact_sheet(rows, ["image", "ground truth", *(e.name for e in evaluations)], min_panel=128)
