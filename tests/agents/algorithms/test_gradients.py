"""Gradients that the actor follows, in float64: against finite differences, and against each other.

The critic's value is followed as a function of the newest mask alone. Finite differences therefore vary what the actor
does in every state, but not the states (`M_t` and `h_t`) that this would lead to.
"""

from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from torch import nn

from acis_env import dynamics, tree
from acis_env.datasets import Leaves, PackedScenes
from agents.algorithms.actor_critic import soft_score
from agents.algorithms.rollout import Episodes

GAMMA = 0.9
SEVERAL_LEAVES, ONE_LEAF = [1, 2, 0], [4, 5, 7]
SEEDS = (0, 1, 2)
WIDTH = 1e-6


@pytest.fixture(autouse=True)
def _wide_targets(monkeypatch):
    """Targets as wide as the masks, which the cross-entropy asks for."""
    targets = Episodes.targets
    monkeypatch.setattr(Episodes, "targets", lambda self, t: targets(self, t).double())


@pytest.fixture
def make_wide(make_learner, make_tiny, begin, deal):
    """A function that makes a learner and fresh episodes in float64; no gradient is clipped."""

    def make(indices=SEVERAL_LEAVES, seed=0, scenes=None, **settings):
        networks = make_tiny(seed=seed)
        state = begin(networks, indices, **({} if scenes is None else {"scenes": scenes}))
        learner = make_learner(networks, gamma=GAMMA, clip_norm=1e9, clip_norm_bce=1e9, **settings)
        nn.init.normal_(learner.critic.trunk.mask_conv.weight, std=0.3)  # a new critic does not look at M_t yet
        for part in (learner.actor, learner.critic, learner.decoder):
            part.double()
        wide = {name: getattr(state, name).double() for name in ("context", "accumulated_mask", "predicted_mask")}
        return learner, deal(
            replace(state, conditioning=tree.map_tensors(torch.Tensor.double, state.conditioning), **wide)
        )

    return make


@pytest.fixture
def follow(make_phase):
    """A function that has the actor find the gradient of an objective, without moving along it.

    It returns the gradients of the sum over all steps with respect to the actor's parameters, and to the actions
    `[B, T, l]`, since the second kind of noise is added to these.
    """

    def gradients(learner, fresh, objective, noise):
        learner.draw_noise = lambda *_: noise
        learner.update_actor(fresh, make_phase(objective, learning_rate=0.0), torch.Generator())
        by_parameter = [-fresh.num_steps * p.grad for p in learner.actor.policy_parameters()]
        return by_parameter, None if noise.grad is None else -fresh.num_steps * noise.grad[1]

    return gradients


def draw_noise(learner, fresh, seed=0):
    """The random numbers of all actions, which a gradient can reach."""
    return learner.draw_noise(fresh, torch.Generator().manual_seed(seed), (0.5,)).double().requires_grad_()


def decide(learner, state, memory, noise, t):
    """What the actor does in `state` at step `t`, and its memory afterwards."""
    out = learner.actor(learner.actor.condition(state.context), state.accumulated_mask, memory)
    policy, extra = noise[:, : len(state), t]
    return out.mean + torch.exp(0.5 * out.log_variance) * policy + extra, out.memory


def play(learner, fresh, noise):
    """State and memory of the running scenes before every step, and after the last one."""
    state, memory = fresh.parts[0].state, learner.actor.initial_memory(len(fresh))
    visits = []
    for t in range(int(fresh.lengths[0])):
        running = slice(int((fresh.lengths > t).sum()))
        state, memory = state.select(running), memory[running]
        visits.append((state, memory))
        latent, memory = decide(learner, state, memory, noise, t)
        state, _ = dynamics.step(state, latent, learner.decoder)
    return [*visits, (state, memory)]


def make_value(learner, fresh, noise):
    """A function that sums the critic's values of what the actor does in the states that it visits now."""
    with torch.no_grad():
        visits = play(learner, fresh, noise)[:-1]

    def value():
        total = 0
        for t, (state, memory) in enumerate(visits):
            latent, _ = decide(learner, state, memory, noise, t)
            mask, remaining = learner.decoder(latent, state.conditioning), state.num_instances - state.step_count
            conditioning = learner.critic.condition(state.context)
            total += learner.critic(conditioning, state.accumulated_mask, mask, remaining).sum()
        return total

    return value


@torch.no_grad()
def slope(function, places, direction):
    """Derivative of `function()` when `places` move along `direction`, by central differences."""
    values = []
    for width in (WIDTH, -2 * WIDTH, WIDTH):  # there, to the other side, and back
        for place, way in zip(places, direction, strict=True):
            place += width * way
        values.append(float(function()))
    return (values[0] - values[1]) / (2 * WIDTH)


@torch.no_grad()
def along(gradients, direction):
    """The same derivative by the chain rule."""
    return float(sum((g * d).sum() for g, d in zip(gradients, direction, strict=True)))


def check_slopes(found, expected):
    """Slopes in several directions agree, and some are steep enough to tell."""
    assert max(map(abs, expected)) > 1e-3
    assert found == pytest.approx(expected, rel=1e-3, abs=1e-7)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_gradient_through_critic_and_decoder_is_that_of_finite_differences(make_wide, follow, seed):
    learner, fresh = make_wide(seed=seed)
    assert fresh.lengths.tolist() == [4, 3, 2]
    noise, parameters = draw_noise(learner, fresh, seed), learner.actor.policy_parameters()
    by_parameter, _ = follow(learner, fresh, "ac", noise)
    value = make_value(learner, fresh, noise)
    generator = torch.Generator().manual_seed(seed)
    # Each parameter moves by its own size, or the many small ones would drown the others.
    sizes = [p.detach().abs().mean() for p in parameters]
    directions = [
        [size * torch.randn(p.shape, generator=generator).double() for size, p in zip(sizes, parameters, strict=True)]
        for _ in range(3)
    ]
    found = [along(by_parameter, direction) for direction in directions]
    check_slopes(found, [slope(value, parameters, direction) for direction in directions])


@pytest.mark.parametrize("seed", SEEDS)
def test_every_action_climbs_the_critics_value_of_its_own_mask(make_wide, follow, seed):
    learner, fresh = make_wide(seed=seed)
    noise = draw_noise(learner, fresh, seed)
    _, by_action = follow(learner, fresh, "ac", noise)
    value = make_value(learner, fresh, noise)
    directions = [torch.zeros_like(noise) for _ in range(4)]
    for t, direction in enumerate(directions):
        direction[1, :, t] = torch.randn(by_action[:, t].shape, generator=torch.Generator().manual_seed(seed)).double()
    found = [along([by_action], [direction[1]]) for direction in directions]
    check_slopes(found, [slope(value, [noise], [direction]) for direction in directions])
    for scene, length in enumerate(fresh.lengths.tolist()):
        taken = by_action[scene].abs().amax(1) > 1e-9
        assert taken.tolist() == [t < length for t in range(4)]


@pytest.mark.parametrize("objective", ["bl-bce", "bl-score"])
@pytest.mark.parametrize(("indices", "are_equal"), [(ONE_LEAF, True), (SEVERAL_LEAVES, False)])
def test_truncation_changes_the_baselines_gradient_only_in_episodes_of_several_steps(
    make_wide, follow, objective, indices, are_equal
):
    gradients = []
    for bptt_steps in (1, None):
        learner, fresh = make_wide(indices, bptt_steps=bptt_steps)
        by_parameter, _ = follow(learner, fresh, objective, draw_noise(learner, fresh))
        gradients.append(torch.cat([g.flatten() for g in by_parameter]))
    truncated, whole = gradients
    assert truncated.norm() > 1e-3
    distance = float((whole - truncated).norm() / truncated.norm())
    assert distance < 1e-9 if are_equal else distance > 1e-2


class PerfectCritic(nn.Module):
    """Knows what follows the first of two steps, discounted: it takes the second one, as the policy would."""

    def __init__(self, learner, visit, noise, target):
        super().__init__()
        self.learner = deepcopy(learner)  # whose gradients are nobody's
        self.state, self.memory = visit
        self.noise, self.target = noise.detach(), target

    def condition(self, context):
        return context, context

    def forward(self, conditioning, mask, predicted_mask, remaining):
        state = replace(self.state, accumulated_mask=torch.maximum(mask, predicted_mask))
        latent, _ = decide(self.learner, state, self.memory, self.noise, 1)
        return GAMMA * soft_score(self.learner.decoder(latent, state.conditioning), self.target, "dice")


@pytest.mark.parametrize("seed", SEEDS)
def test_value_expansion_with_a_perfect_critic_has_the_gradient_of_the_whole_return(
    make_wide, make_phase, follow, seed
):
    size = (32, 32)
    pairs = PackedScenes(Leaves("train", size, min_leaves=2, max_leaves=2, length=4, seed=seed), size)
    learner, fresh = make_wide(range(4), seed, pairs, phases=(make_phase("ac-score"),))
    assert fresh.lengths.tolist() == [2, 2, 2, 2]
    noise = draw_noise(learner, fresh, seed)
    with torch.no_grad():
        _, second, (end, _) = play(learner, fresh, noise)
    targets = [(end.label_map == end.assignment[:, t].view(-1, 1, 1) + 1).double()[:, None] for t in range(2)]

    def score_of_step(t):
        state, _ = play(learner, fresh, noise)[t + 1]
        return soft_score(state.predicted_mask, targets[t], "dice").sum()

    learner.critic = PerfectCritic(learner, second, noise, targets[1])
    _, by_action = follow(learner, fresh, "ac-score", noise)
    generator = torch.Generator().manual_seed(seed)
    directions = [torch.zeros_like(noise) for _ in range(3)]
    for direction in directions:
        direction[1, :, 0] = torch.randn(by_action[:, 0].shape, generator=generator).double()
    now, later = ([slope(lambda t=t: score_of_step(t), [noise], [d]) for d in directions] for t in range(2))
    assert max(map(abs, later)) > 1e-3  # so that the critic has a say
    check_slopes(
        [along([by_action], [d[1]]) for d in directions], [n + GAMMA * f for n, f in zip(now, later, strict=True)]
    )
