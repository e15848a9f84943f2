"""Action selection: a critic chooses among candidates around the policy's mean."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from agents.models.agent import Agent
from agents.models.ranking_critic import RankingCritic, RankingCriticConfig
from agents.models.selection import ActionSelection, SelectionConfig, in_turns, pick, propose

CONFIG = SelectionConfig(number=4, spreads=(0.5, 2.0), rounds=2, shrink=0.5)


@pytest.fixture
def selection(tiny):
    """A choice by an untrained critic."""
    torch.manual_seed(0)
    critic = RankingCritic(RankingCriticConfig(hidden=(8, 8))).requires_grad_(False)
    return ActionSelection(critic, tiny.autoencoder.decoder, CONFIG)


@pytest.fixture
def choosing(agent, selection, tiny):
    """An agent that lets the untrained critic choose."""
    return Agent(agent.actor, tiny, max_steps=3, selection=selection)


class Taste(nn.Module):
    """A critic that likes masks of a certain size."""

    def __init__(self, size):
        super().__init__()
        self.size = size

    def condition(self, context):
        return context, context

    def forward(self, conditioning, mask, predicted_mask):
        return -(predicted_mask.mean((1, 2, 3)) - self.size).abs()


def test_the_mean_is_the_first_candidate_and_wins_ties():
    mean, offsets = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.full((1, 1, 2), 10.0)
    latents = propose(mean, offsets)
    assert torch.equal(latents, torch.stack([mean, mean + 10]))
    assert torch.equal(pick(latents, torch.tensor([[0.5, 0.1], [0.5, 0.2]])), torch.stack([mean[0], mean[1] + 10]))


def test_spreads_take_turns_among_the_candidates():
    assert in_turns((1.0, 3.0), 3).tolist() == [1, 3, 1]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"number": 1}, "number must be at least 2, .* got 1"),
        ({"spreads": (1.0, 0.0)}, r"spreads must be positive, got \(1.0, 0.0\)"),
        ({"spreads": (1.0, float("nan"))}, r"spreads must be positive, got \(1.0, nan\)"),
        ({"spreads": ()}, "spreads must hold at least one standard deviation, got none"),
        ({"rounds": 0}, "rounds must be at least 1, got 0"),
        ({"shrink": 0.0}, "shrink must be positive, got 0.0"),
    ],
)
def test_a_selection_without_a_choice_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        SelectionConfig(**fields)


def test_every_round_takes_the_candidate_that_the_critic_values_most_and_looks_around_it(begin, tiny):
    state = begin(tiny, [1, 2, 3])
    means = torch.randn(3, 4, generator=torch.Generator().manual_seed(2))
    decode = tiny.autoencoder.decoder
    sizes = []
    for size in (0.0, 1.0):
        selection = ActionSelection(Taste(size), decode, CONFIG)
        best, moved = means, []
        for offsets in selection.offsets:
            candidates = propose(best, offsets)
            assert len(candidates) == CONFIG.number
            areas = torch.stack([decode(z, state.conditioning).mean((1, 2, 3)) for z in candidates])
            chosen = areas.argmin(0) if size == 0 else areas.argmax(0)
            moved.append(chosen > 0)
            best = torch.stack([candidates[k, scene] for scene, k in enumerate(chosen.tolist())])
        found = selection(selection.critic.condition(state.context), state.conditioning, state.accumulated_mask, means)
        torch.testing.assert_close(found, best)
        assert all(is_moved.any() for is_moved in moved)  # or a round would prove nothing
        sizes.append(decode(found, state.conditioning).mean((1, 2, 3)))
    assert (sizes[0] < sizes[1]).all()


def test_offsets_shrink_from_round_to_round_and_are_others_in_each(tiny):
    selection = ActionSelection(Taste(0.0), tiny.autoencoder.decoder, CONFIG)
    whole = ActionSelection(Taste(0.0), tiny.autoencoder.decoder, replace(CONFIG, shrink=1.0))
    assert selection.offsets.shape == (2, 3, 1, 4)
    torch.testing.assert_close(selection.offsets[0], whole.offsets[0])
    torch.testing.assert_close(selection.offsets[1], 0.5 * whole.offsets[1])
    assert not torch.equal(whole.offsets[0], whole.offsets[1])


def test_an_agent_with_a_selection_is_the_same_after_saving_and_for_any_batch(agent, choosing, begin, tiny, tmp_path):
    state = begin(tiny, [1, 2, 3])
    masks = choosing.predict_masks(state, min_steps=3).masks
    assert not torch.allclose(masks, Agent(agent.actor, tiny, max_steps=3).predict_masks(state, min_steps=3).masks)
    choosing.save(tmp_path / "agent.pt")
    loaded = Agent.load(tmp_path / "agent.pt")
    assert loaded.selection.config == CONFIG
    torch.testing.assert_close(loaded.predict_masks(state, min_steps=3).masks, masks)
    alone = choosing.predict_masks(state.select(slice(1, 2)), min_steps=3).masks
    torch.testing.assert_close(alone, masks[1:2], rtol=1e-4, atol=1e-5)


def test_deterministic_actions_are_the_chosen_ones_and_samples_are_the_policys(choosing, selection, begin, tiny):
    state = begin(tiny, [1, 2, 3])
    context, mask, actor = state.context, state.accumulated_mask, choosing.actor
    observation = {"image": context[:, :3], "foreground": context[:, 3:4], "angles": context[:, 4:], "mask": mask}
    out = actor(actor.condition(context), mask, actor.initial_memory(3))
    conditioning = selection.critic.condition(context), state.conditioning
    chosen = selection(*conditioning, mask, out.mean)
    expected = (chosen / choosing.action_scale).clamp(-1, 1)
    np.testing.assert_allclose(choosing.predict(observation)[0], expected, atol=1e-5)
    torch.manual_seed(5)
    sampled = out.mean + torch.exp(0.5 * out.log_variance) * torch.randn_like(out.mean)
    torch.manual_seed(5)
    actions = choosing.predict(observation, deterministic=False)[0]
    np.testing.assert_allclose(actions, (sampled / choosing.action_scale).clamp(-1, 1), atol=1e-5)
