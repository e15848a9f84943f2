"""Segmenters: what is measured. An agent, the references beside it, and bounds that know the truth."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from acis_env.decoder import Decoder
from acis_env.dynamics import EnvState, Rules
from acis_env.metrics import batch_metrics
from acis_env.weights import Pretrained
from agents.algorithms.rollout import run_episodes, split_episodes
from agents.algorithms.search import CandidateConfig, CandidateValue, Search
from agents.models.agent import Agent
from agents.models.prediction import Prediction

Segmenter = Callable[[EnvState], Prediction]
"""Predicts masks in fresh episodes, at least as many as each scene has instances."""

BOUND_OF = 16
"""Number of candidates of a search by the truth."""


def agent_segmenter(agent: Agent) -> Segmenter:
    """The agent's deterministic policy, stopping by itself."""

    def segment(state: EnvState) -> Prediction:
        return agent.predict_masks(state, min_steps=int(state.num_instances.max()))

    return segment


def random_segmenter(pretrained: Pretrained, max_steps: int, seed: int = 0) -> Segmenter:
    """Codes drawn from the prior, and a number of masks drawn uniformly from 1 to `max_steps`."""
    return _drawing_segmenter(pretrained.autoencoder.decoder, torch.randn, max_steps, seed)


def random_action_segmenter(decoder: Decoder, max_steps: int, seed: int = 0, action_scale: float = 3.0) -> Segmenter:
    """Actions drawn uniformly from the space of an environment, and a number of masks from 1 to `max_steps`.

    Args:
        decoder: the environment's, which may refine masks.
        max_steps: largest number of masks.
        seed: seed of actions and numbers.
        action_scale: the environment's.
    """

    def draw(*shape: int, generator: torch.Generator) -> Tensor:
        return action_scale * (2 * torch.rand(*shape, generator=generator) - 1)

    return _drawing_segmenter(decoder, draw, max_steps, seed)


def _drawing_segmenter(decoder: Decoder, draw: Callable[..., Tensor], max_steps: int, seed: int) -> Segmenter:
    """Codes from `draw`, called with a shape and a generator, and a uniform number of masks."""
    generator = torch.Generator().manual_seed(seed)

    @torch.no_grad()
    def segment(state: EnvState) -> Prediction:
        conditioning = decoder.condition(state.context)
        size, device = len(state), state.context.device
        length = max(max_steps, int(state.num_instances.max()))
        codes = draw(length, size, decoder.latent_size, generator=generator).to(device)
        masks = torch.stack([decoder(code, conditioning)[:, 0] for code in codes], dim=1)
        counts = torch.randint(1, max_steps + 1, (size,), generator=generator)
        return Prediction(masks, counts.to(device), torch.ones_like(counts, dtype=torch.bool), "random")

    return segment


def reconstruction_segmenter(pretrained: Pretrained) -> Segmenter:
    """The autoencoder's reconstruction of every true instance: a bound on what any agent can reach."""

    def segment(state: EnvState) -> Prediction:
        counts = state.num_instances
        labels = range(1, int(counts.max()) + 1)
        masks = [(state.label_map == label).float()[:, None] for label in labels]
        reconstructions = [pretrained.autoencoder.reconstruct(state.context, mask) for mask in masks]
        present = [r * mask.amax((1, 2, 3), keepdim=True) for r, mask in zip(reconstructions, masks, strict=True)]
        nothing = state.context[:, :0]  # where no scene has an instance
        stopped = torch.ones_like(counts, dtype=torch.bool)
        return Prediction(torch.cat([nothing, *present], dim=1), counts, stopped, "true count")

    return segment


def search_bounds(agent: Agent, rules: Rules, gamma: float = 0.9) -> dict[str, Segmenter]:
    """The agent's policy with the best of several candidates in every state, by the truth and the reward of `rules`.

    What a critic would make of the policy that knew the value of each candidate exactly.
    """
    values: tuple[CandidateValue, ...] = ("reward", "return")
    configs = {f"best of {BOUND_OF} by {value}": CandidateConfig(BOUND_OF, value=value) for value in values}
    return {name: search_segmenter(agent, config, rules, gamma) for name, config in configs.items()}


def search_segmenter(agent: Agent, config: CandidateConfig, rules: Rules, gamma: float, seed: int = 0) -> Segmenter:
    """The best of several candidates in every state by the truth, as many masks as there are instances: a bound."""
    generator = torch.Generator().manual_seed(seed)

    @torch.no_grad()
    def segment(state: EnvState) -> Prediction:
        place = torch.arange(len(state), device=state.context.device)
        order = state.num_instances.argsort(descending=True, stable=True)
        (ordered,), place = split_episodes(state), place[order]
        noise = config.draw(ordered, agent.decoder.latent_size, generator)
        search = Search(agent.actor, agent.decoder, config, noise, gamma, rules)
        episodes = run_episodes(agent.actor, agent.decoder, ordered, rules, search)
        longest = max(int(state.num_instances.max()), 1)  # a scene without instances has one step
        masks = state.context.new_zeros(len(state), longest, *state.context.shape[2:])
        for t, step in enumerate(episodes.steps):
            masks[place[: len(step.predicted_mask)], t] = step.predicted_mask[:, 0]
        counts = state.num_instances
        return Prediction(masks, counts, torch.ones_like(counts, dtype=torch.bool), "true count")

    return segment


def outcome_bound(agent: Agent) -> Segmenter:
    """The episodes of an agent that chooses among several, and the prefix of the largest SBD by the truth: a bound.

    SBD is that of label maps at the size of the networks, without filling.

    Raises:
        ValueError: the agent plays one episode.
    """
    outcomes, threshold = agent.outcomes, agent.composition.threshold
    if outcomes is None:
        raise ValueError("agent must choose among outcomes, and it plays one episode: train it with a stage that does")

    @torch.no_grad()
    def segment(state: EnvState) -> Prediction:
        most, longest = state.areas.shape[1], int(state.num_instances.max())

        def values_of(masks: Tensor) -> Tensor:
            values = []
            for number in range(masks.shape[1] + 1):
                largest, label = pad(masks[:, :number], (0, 0, 0, 0, 1, 0)).max(1)  # the background is below all
                label_maps = torch.where(largest >= threshold, label, 0)
                values.append(batch_metrics(label_maps, state.label_map, number, most)["sbd"])
            return torch.stack(values)

        networks = agent.actor, agent.decoder
        found = outcomes.predict(*networks, state, agent.selection, agent.max_steps, longest, threshold, values_of)
        return replace(found, stopping="best outcome")

    return segment


def block(agent: Agent, part: Literal["memory", "mask"]) -> Agent:
    """A copy of `agent` whose actor reads zeros in place of its memory or of the accumulated mask (Table 2).

    Critics that choose, if the agent has any, go on reading masks.
    """
    blocked = copy.deepcopy(agent)
    position = {"mask": 1, "memory": 2}[part]

    def blank(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        zeros: Tensor = torch.zeros_like(inputs[position])
        return (*inputs[:position], zeros, *inputs[position + 1 :])

    blocked.actor.register_forward_pre_hook(blank)
    return blocked
