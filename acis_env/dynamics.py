"""The decision process: pure functions on batched tensors, without state of their own.

Araslanov et al., "Actor-Critic Instance Segmentation", CVPR 2019, section 4.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from operator import itemgetter
from typing import Literal

import torch
from torch import Tensor

from acis_env import tree
from acis_env.augment import compact_labels, label_dtype
from acis_env.configs import is_count, is_number
from acis_env.decoder import Conditioning, Decoder
from acis_env.matching import from_scratch, match
from acis_env.metrics import batch_metrics
from acis_env.ops.labels import count_instances
from acis_env.ops.owners import claim
from acis_env.ops.sums import KnownRuns
from acis_env.precision import to_float32
from acis_env.reward import SCORES, ScoreFunction, ScoreName, greedy, instance_areas, score

Index = slice | Tensor
"""A slice, or indices `[K]` int64, or a mask `[B]` bool, along the batch axis."""


@dataclass(frozen=True)
class Rules:
    """How an episode begins and ends, and what its steps earn."""

    score: ScoreName | ScoreFunction = "dice"
    """Agreement `F` of a mask with an instance, Eq. (4): "dice", "iou" or a function of one's own."""
    reward: Literal["potential", "greedy", "sbd"] = "potential"
    """potential: growth of the best one-to-one assignment, Eq. (5).
    greedy: score with the best instance that no earlier prediction has; nothing is assigned again.
    sbd: growth of the symmetric best Dice of the hard label map, what is reported in the end; `score` only decides
    then which instance a mask is assigned to."""
    threshold: float = 0.5
    """Probability in (0, 1) below which a pixel of the label map is background."""
    matching_noise: float = 0.0
    """Standard deviation of the noise on the scores when predictions are assigned, Eq. (2). The potential holds
    the scores without it, and may fall then."""
    stop: Literal["ground_truth", "agent"] = "ground_truth"
    """ground_truth: an episode has as many steps as instances.
    agent: an action may end it instead of adding a mask."""
    count_penalty: float = 0.0
    """Reward lost for each prediction beyond the number of instances, when it is made, and for each one missing,
    when the agent ends the episode."""
    sequence_length: int | None = None
    """Curriculum: in a scene of more instances some are given away, in `M_1` and not in the ground truth. None: no."""
    prefill: Literal["exact", "random"] = "exact"
    """exact: as many are given away as leaves `sequence_length` to find. random: any number up to that, and the
    episode is truncated after `sequence_length` steps."""

    def __post_init__(self) -> None:
        checks = (
            ("score", callable(self.score) or self.score in SCORES, f"one of {SCORES} or a function"),
            ("reward", self.reward in ("potential", "greedy", "sbd"), '"potential", "greedy" or "sbd"'),
            ("threshold", is_number(self.threshold) and 0 < self.threshold < 1, "a number between 0 and 1"),
            ("matching_noise", is_number(self.matching_noise) and self.matching_noise >= 0, "at least 0"),
            ("stop", self.stop in ("ground_truth", "agent"), '"ground_truth" or "agent"'),
            ("count_penalty", is_number(self.count_penalty) and self.count_penalty >= 0, "at least 0"),
            (
                "sequence_length",
                self.sequence_length is None or is_count(self.sequence_length),
                "None or an int from 1 on",
            ),
            ("prefill", self.prefill in ("exact", "random"), '"exact" or "random"'),
        )
        for name, holds, expected in checks:
            if not holds:
                raise ValueError(f"{name} must be {expected}, got {getattr(self, name)!r}")


DEFAULT_RULES = Rules()


@tree.register
@dataclass(frozen=True)
class EnvState:
    """Everything about `B` episodes under way."""

    context: Tensor  # [B, 12, H, W] in [0, 1]: image, foreground, angles
    conditioning: Conditioning  # what the decoder made of the context, a tree of tensors [B, ...]
    label_map: Tensor  # [B, H, W] of `label_dtype`, ground truth, -1 = ignored, 0 = background
    areas: Tensor  # [B, N] pixels of each instance, zero for padding
    num_instances: Tensor  # [B] int64, 0 where every pixel is background or ignored
    accumulated_mask: Tensor  # [B, 1, H, W] in [0, 1], M_t
    predicted_mask: Tensor  # [B, 1, H, W] in [0, 1], m_t; zero before the first step
    owner: Tensor  # [B, H, W] of `label_dtype`, the prediction (1..t) that is largest at a pixel, 0 = none yet
    scores: Tensor  # [B, T, N], zero for steps not yet taken
    noise: Tensor  # [B, T, N], of the assignment, Eq. (2)
    assignment: Tensor  # [B, T] int64, instance of each prediction, -1 = none
    potential: Tensor  # [B], phi_t
    step_count: Tensor  # [B] int64, t
    step_limit: Tensor  # [B] int64, steps after which the episode is truncated
    runs: KnownRuns = field(default_factory=KnownRuns, repr=False, compare=False, metadata=tree.NO_CHILD)
    """What a CPU keeps of `label_map`: goes from step to step, and is no tensor of the state."""

    def __len__(self) -> int:
        return len(self.step_count)

    def map(self, function: Callable[[Tensor], Tensor]) -> EnvState:
        """Apply `function` to every tensor."""
        return tree.map_tensors(function, self)

    def select(self, index: Index) -> EnvState:
        """The episodes at `index` (for a slice views, which `write` changes, too, and which are not to go on then)."""
        return self.map(itemgetter(index))  # in less time than a lambda takes

    def write(self, index: Tensor, other: EnvState) -> None:
        """Put the `K` episodes of `other` in place of those at `index` `[K]` int64, in the same memory."""
        for mine, theirs in zip(self.tensors(), other.tensors(), strict=True):
            mine.index_copy_(0, index, theirs.to(mine.dtype))  # a state of an older version has other types
        self.runs.clear()

    def tensors(self) -> list[Tensor]:
        """All tensors, in the order in which `map` visits them."""
        return tree.tensors(self)


def reset(
    context: Tensor,
    label_map: Tensor,
    decoder: Decoder,
    max_instances: int,
    max_steps: int,
    accumulated_mask: Tensor | None = None,
    noise: Tensor | None = None,
    step_limit: int | Tensor | None = None,
) -> EnvState:
    """Begin an episode in each scene.

    Args:
        context: `[B, 12, H, W]` in [0, 1].
        label_map: `[B, H, W]` int64, instances 1..N, -1 = ignored.
        decoder: frozen.
        max_instances: capacity `N` for instances.
        max_steps: capacity `T` for predictions.
        accumulated_mask: `[B, 1, H, W]` in [0, 1], `M_1`; None is empty.
        noise: `[B, T, N]`, of the assignment, Eq. (2); None is none.
        step_limit: steps after which the episodes are truncated, one number or `[B]` int64; None is none.
    """
    batch, _, height, width = context.shape
    device = context.device
    no_mask, no_scores = (batch, 1, height, width), (batch, max_steps, max_instances)
    limit = max_steps + 1 if step_limit is None else step_limit
    with torch.no_grad():
        conditioning = decoder.condition(context)
    tree.check_batch(conditioning, batch, "decoder.condition")
    num_instances, runs = count_instances(label_map), KnownRuns()
    label_map = label_map.to(label_dtype(max_instances))
    return EnvState(
        context=context,
        conditioning=conditioning,
        label_map=label_map,
        areas=instance_areas(label_map, max_instances, runs),
        num_instances=num_instances,
        accumulated_mask=torch.zeros(no_mask, device=device) if accumulated_mask is None else accumulated_mask,
        predicted_mask=torch.zeros(no_mask, device=device),
        owner=torch.zeros(batch, height, width, dtype=label_dtype(max_steps), device=device),
        scores=torch.zeros(no_scores, device=device),
        noise=torch.zeros(no_scores, device=device) if noise is None else noise,
        assignment=torch.full((batch, max_steps), -1, device=device),
        potential=torch.zeros(batch, device=device),
        step_count=torch.zeros(batch, dtype=torch.int64, device=device),
        step_limit=torch.as_tensor(limit, dtype=torch.int64, device=device).expand(batch).clone(),
        runs=runs,
    )


def prefill(label_map: Tensor, remaining: int | Tensor, priority: Tensor) -> tuple[Tensor, Tensor]:
    """Give away all but `remaining` instances of each scene (the curriculum of the paper's code).

    Args:
        label_map: `[B, H, W]` int64, instances 1..N, -1 = ignored.
        remaining: instances still to be found, where there are as many; one number or `[B]` int64.
        priority: `[B, N]`, random numbers; the instances with the largest remain.

    Returns:
        Label map of the remaining instances, renamed to 1..N, and `M_1` `[B, 1, H, W]`, the others' union. Ignored
        pixels stay ignored and are in no mask.
    """
    capacity = priority.shape[1]
    labels = torch.arange(1, capacity + 1, device=label_map.device)
    counts = count_instances(label_map)[:, None]
    rank = priority.masked_fill(labels > counts, -torch.inf).argsort(1, descending=True).argsort(1)
    limit = remaining[:, None] if isinstance(remaining, Tensor) else remaining
    given = torch.nn.functional.pad(rank >= limit, (2, 0))  # ignored pixels and the background are nobody's to give
    is_given = given.gather(1, label_map.flatten(1) + 1).view_as(label_map)
    others = compact_labels(label_map.masked_fill(is_given, 0), capacity)
    return others, is_given.float()[:, None]


MaskFunction = Callable[[Tensor, Conditioning], Tensor]
"""A `Decoder`, or one that was compiled."""


def transition(state: EnvState, latent: Tensor, decoder: MaskFunction) -> EnvState:
    """Add one mask to every scene, Eq. (3), whatever it is worth; looks at no label.

    Differentiable from `accumulated_mask` and `predicted_mask` to `latent` `[B, l]`.

    Raises:
        ValueError: the decoder's masks are not `[B, 1, H, W]`.
    """
    predicted_mask = to_float32(decoder(latent, state.conditioning)).contiguous()  # might be an expanded one
    if predicted_mask.shape != state.accumulated_mask.shape:
        raise ValueError(
            f"decoder must return [B, 1, H, W] = {list(state.accumulated_mask.shape)}, got {list(predicted_mask.shape)}"
        )
    step_count = state.step_count + 1
    with torch.no_grad():
        owner = claim(state.owner, predicted_mask[:, 0], state.accumulated_mask[:, 0], step_count)
    return replace(
        state,
        accumulated_mask=torch.maximum(state.accumulated_mask, predicted_mask),
        predicted_mask=predicted_mask,
        owner=owner,
        step_count=step_count,
    )


def step(
    state: EnvState, latent: Tensor, decoder: MaskFunction, rules: Rules = DEFAULT_RULES
) -> tuple[EnvState, Tensor]:
    """`transition`, and what it earns; the reward `[B]` is the growth of the potential, Eq. (5).

    The reward has no gradient, since it holds the choice of an assignment, or is made of hard masks.
    """
    after = transition(state, latent, decoder)
    with torch.no_grad():
        step_scores = score(after.predicted_mask[:, 0], state.label_map, state.areas, rules.score, state.runs)
        position = state.step_count[:, None, None].expand(-1, 1, step_scores.shape[1])
        scores = state.scores.scatter(1, position, step_scores[:, None])
        if rules.reward == "greedy":
            assignment, gain = greedy(step_scores, state.assignment, after.step_count)
            potential = state.potential + gain
        else:
            assignment, potential = match(scores, after.step_count, state.num_instances, state.assignment, state.noise)
        if rules.reward == "sbd":
            potential = hard_score(after, rules.threshold)
        reward = potential - state.potential
        if rules.count_penalty > 0:
            reward = reward - rules.count_penalty * (after.step_count > state.num_instances)
    return replace(after, scores=scores, assignment=assignment, potential=potential), reward


def act(
    state: EnvState,
    actions: Tensor,
    decoder: MaskFunction,
    rules: Rules = DEFAULT_RULES,
    action_scale: float = 1.0,
    sits_out: Tensor | None = None,
) -> tuple[EnvState, Tensor, Tensor, Tensor]:
    """Take one `step`, or end episodes where the agent wants to.

    Args:
        state: of `B` episodes.
        actions: `[B, l]` in [-1, 1], with `stop="agent"` `[B, l + 1]`, where a positive last entry ends the episode.
        decoder: turns latent codes into masks.
        rules: the environment's.
        action_scale: latent code that an action of 1 stands for.
        sits_out: `[B]` bool, episodes that stay as they are, earn nothing and do not end; None for none.

    Returns:
        The new state, rewards `[B]`, terminated and truncated `[B]` bool.
    """
    latent = actions[:, :-1] if rules.stop == "agent" else actions
    after, rewards = step(state, latent * action_scale, decoder, rules)
    if rules.stop == "agent":
        terminated = actions[:, -1] > 0
        after = hold(state, after, terminated)
        rewards = torch.where(terminated, -rules.count_penalty * num_missing(state), rewards)
    else:
        terminated = is_complete(after)
    truncated = is_cut(after) & ~terminated
    if sits_out is not None:
        after = hold(state, after, sits_out)
        rewards = rewards.masked_fill(sits_out, 0)
        terminated, truncated = terminated & ~sits_out, truncated & ~sits_out
    return after, rewards, terminated, truncated


def go_on(state: EnvState, before: Rules, after: Rules) -> EnvState:
    """`state` as it goes on where the rules `before` were changed to `after` in the middle of its episodes.

    The growth of the potential is paid from now on, without what it differs by between the sum of scores and the SBD.
    """
    if (before.reward, before.threshold) == (after.reward, after.threshold):
        return state
    if after.reward == "sbd":
        return replace(state, potential=hard_score(state, after.threshold))
    if before.reward == after.reward or after.reward == "greedy":
        return state
    # The greedy assignment of the steps so far is not the best one.
    best, potential = from_scratch(state.scores, state.step_count, state.num_instances, state.noise)
    return replace(state, assignment=best, potential=potential if before.reward == "sbd" else state.potential)


def hold(before: EnvState, after: EnvState, held: Tensor) -> EnvState:
    """`after`, but where `held` `[B]` bool is True the step was not taken and `before` remains."""

    def choose(new: Tensor, old: Tensor) -> Tensor:
        # What a step does not change is the same tensor before and after.
        return new if new is old else torch.where(held.view(-1, *[1] * (new.dim() - 1)), old, new)

    return replace(tree.map_tensors(choose, after, before), runs=after.runs)


def num_missing(state: EnvState) -> Tensor:
    """`[B]` int64: instances beyond the number of predictions."""
    return (state.num_instances - state.step_count).clamp_min(0)


def is_complete(state: EnvState) -> Tensor:
    """`[B]` bool: as many predictions as instances, where a training episode ends (section 5.3)."""
    return state.step_count >= state.num_instances


def is_cut(state: EnvState) -> Tensor:
    """`[B]` bool: the limit of steps is reached."""
    return state.step_count >= state.step_limit


def hard_score(state: EnvState, threshold: float = 0.5) -> Tensor:
    """Symmetric best Dice of the hard label map so far, `[B]`: what is reported of an episode that ends here."""
    predictions = label_prediction(state, threshold)
    return batch_metrics(predictions, state.label_map, state.scores.shape[1], state.areas.shape[1])["sbd"]


def label_prediction(state: EnvState, threshold: float = 0.5, index: Index = slice(None)) -> Tensor:
    """Hard label map so far of the episodes at `index`, `[K, H, W]` int64, labels in the order of prediction.

    An overlap goes to the mask of the highest probability; pixels below `threshold` are background.
    """
    return torch.where(state.accumulated_mask[index, 0] >= threshold, state.owner[index], 0).long()
