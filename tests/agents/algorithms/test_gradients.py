"""Gradients that the actor follows, in float64: against finite differences, and against each other.

The critic's value is followed as a function of the newest mask alone. Finite differences therefore vary what the actor
does in every state, but not the states (`M_t` and `h_t`) that this would lead to.
"""

from copy import deepcopy
from dataclasses import fields, replace

import pytest
import torch
from torch import nn

import agents.algorithms
from acis_env import dynamics, tree
from acis_env.datasets import Leaves, PackedScenes
from agents.algorithms import ActorCriticConfig, ValueExpansionConfig
from agents.algorithms.rollout import instance_masks, num_steps, soft_score

GAMMA = 0.9
SEVERAL_LEAVES, ONE_LEAF = [1, 2, 0], [4, 5, 7]
SEEDS = (0, 1, 2)
WIDTH = 1e-6


@pytest.fixture(autouse=True)
def _wide_targets(monkeypatch):
    """Targets as wide as the masks, which the cross-entropy asks for."""
    monkeypatch.setattr(agents.algorithms.rollout, "instance_masks", lambda *a: instance_masks(*a).double())


@pytest.fixture
def make_wide(make_algorithm, make_tiny, begin):
    """A function of a configuration that makes an algorithm and fresh episodes in float64."""

    def make(config, indices=SEVERAL_LEAVES, seed=0, scenes=None):
        networks = make_tiny(seed=seed)
        state = begin(networks, indices, **({} if scenes is None else {"scenes": scenes}))
        algorithm = make_algorithm(config, pretrained=networks)
        learner = algorithm.learner
        for part in (learner.actor, learner.core.decoder):
            part.double()
        if hasattr(algorithm, "critic"):  # a new critic does not look at M_t yet
            nn.init.normal_(algorithm.critic.critic.trunk.mask_conv.weight, std=0.3)
            algorithm.critic.critic.double()
        wide = {name: getattr(state, name).double() for name in ("context", "accumulated_mask", "predicted_mask")}
        conditioning = tree.map_tensors(torch.Tensor.double, state.conditioning)
        return algorithm, replace(state, conditioning=conditioning, **wide)

    return make


@pytest.fixture
def follow(at, monkeypatch):
    """A function that has the actor find the gradient of its objective, without moving along it.

    It returns the gradients of the sum over all steps with respect to the actor's parameters, and to the `noise`
    `[B, T, L]` of its actions.
    """

    def gradients(algorithm, state, noise):
        for module in (agents.algorithms.actor_critic, agents.algorithms.value_expansion):
            monkeypatch.setattr(module, "draw_noise", lambda *_: noise)
        found = []

        def keep(optimizer, rate, clip_norm, sums, count):
            assert count == int(num_steps(state).sum())
            found.append([-p.grad for p in optimizer.param_groups[0]["params"]])
            return dict.fromkeys(["episodes", "rollout/score_per_instance"], torch.ones(())), torch.zeros(())

        algorithm.learner.descend = keep
        algorithm.learner.update_termination = lambda *_: {}
        algorithm.update_actor([state], at())
        return found[0], None if noise.grad is None else -noise.grad

    return gradients


def draw_noise(state, seed=0):
    """The random numbers of all actions, which a gradient can reach."""
    return torch.randn(len(state), 4, 4, generator=torch.Generator().manual_seed(seed)).double().requires_grad_()


def decide(learner, state, memory, noise, t):
    """What the actor does in `state` at step `t`, and its memory afterwards."""
    out = learner.actor(learner.actor.condition(state.context), state.accumulated_mask, memory)
    return out.mean + torch.exp(0.5 * out.log_variance) * noise[: len(state), t], out.memory


def play(learner, state, noise):
    """State and memory of the running scenes before every step, and after the last one."""
    lengths, memory = num_steps(state), learner.actor.initial_memory(len(state))
    visits = []
    for t in range(int(lengths[0])):
        running = slice(int((lengths > t).sum()))
        state, memory = state.select(running), memory[running]
        visits.append((state, memory))
        latent, memory = decide(learner, state, memory, noise, t)
        state, _ = dynamics.step(state, latent, learner.core.decoder)
    return [*visits, (state, memory)]


def make_value(algorithm, state, noise):
    """A function that sums the critic's values of what the actor does in the states that it visits now."""
    learner, critic = algorithm.learner, algorithm.critic.critic
    with torch.no_grad():
        visits = play(learner, state, noise)[:-1]

    def value():
        total = 0
        for t, (visited, memory) in enumerate(visits):
            latent, _ = decide(learner, visited, memory, noise, t)
            mask = learner.core.decoder(latent, visited.conditioning)
            remaining = visited.num_instances - visited.step_count
            conditioning = critic.condition(visited.context)
            total += critic(conditioning, visited.accumulated_mask, mask, remaining).sum()
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
def test_the_gradient_through_critic_and_decoder_is_that_of_finite_differences(make_wide, follow, actor_critic, seed):
    algorithm, state = make_wide(replace(actor_critic, kl_weight=0.0), seed=seed)
    assert num_steps(state).tolist() == [4, 3, 2]
    noise, parameters = draw_noise(state, seed), algorithm.learner.actor.policy_parameters()
    by_parameter, _ = follow(algorithm, state, noise)
    value = make_value(algorithm, state, noise)
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
def test_every_action_climbs_the_critics_value_of_its_own_mask(make_wide, follow, actor_critic, seed):
    algorithm, state = make_wide(replace(actor_critic, kl_weight=0.0), seed=seed)
    noise = draw_noise(state, seed)
    _, by_noise = follow(algorithm, state, noise)
    value = make_value(algorithm, state, noise)
    directions = [torch.zeros_like(noise) for _ in range(4)]
    for t, direction in enumerate(directions):
        direction[:, t] = torch.randn(by_noise[:, t].shape, generator=torch.Generator().manual_seed(seed)).double()
    found = [along([by_noise], [direction]) for direction in directions]
    check_slopes(found, [slope(value, [noise], [direction]) for direction in directions])
    for scene, length in enumerate(num_steps(state).tolist()):
        taken = by_noise[scene].abs().amax(1) > 1e-9
        assert taken.tolist() == [t < length for t in range(4)]


@pytest.mark.parametrize("objective", ["cross-entropy", "score"])
@pytest.mark.parametrize("indices", [ONE_LEAF, SEVERAL_LEAVES])
def test_the_baselines_gradient_over_whole_episodes_is_that_of_finite_differences(
    make_wide, follow, baseline, objective, indices
):
    algorithm, state = make_wide(replace(baseline, objective=objective, bptt_steps=None, kl_weight=0.3), indices)
    learner = algorithm.learner
    by_parameter, _ = follow(algorithm, state, draw_noise(state))

    def objective_value():
        episodes = algorithm.play(state, torch.Generator())
        mean, log_variance = (torch.cat([getattr(s, n) for s in episodes.steps]) for n in ("mean", "log_variance"))
        divergence = -0.5 * (1 + log_variance - mean.square() - log_variance.exp()).sum()
        return torch.cat(algorithm.terms(episodes)).sum() - 0.3 * divergence

    parameters = learner.actor.policy_parameters()
    generator = torch.Generator().manual_seed(0)
    sizes = [p.detach().abs().mean() for p in parameters]
    directions = [
        [size * torch.randn(p.shape, generator=generator).double() for size, p in zip(sizes, parameters, strict=True)]
        for _ in range(3)
    ]
    found = [along(by_parameter, direction) for direction in directions]
    check_slopes(found, [slope(objective_value, parameters, direction) for direction in directions])


@pytest.mark.parametrize("objective", ["cross-entropy", "score"])
@pytest.mark.parametrize(("indices", "are_equal"), [(ONE_LEAF, True), (SEVERAL_LEAVES, False)])
def test_truncation_changes_the_baselines_gradient_only_in_episodes_of_several_steps(
    make_wide, follow, baseline, objective, indices, are_equal
):
    gradients = []
    for bptt_steps in (1, None):
        algorithm, state = make_wide(replace(baseline, objective=objective, bptt_steps=bptt_steps), indices)
        by_parameter, _ = follow(algorithm, state, draw_noise(state))
        gradients.append(torch.cat([g.flatten() for g in by_parameter]))
    truncated, whole = gradients
    assert truncated.norm() > 1e-3
    distance = float((whole - truncated).norm() / truncated.norm())
    assert distance < 1e-9 if are_equal else distance > 1e-2


class PerfectCritic(nn.Module):
    """Knows what follows the first of two steps, discounted: it takes the second one, as the policy would."""

    def __init__(self, learner, visit, noise, target):
        super().__init__()
        self.actor, self.decoder = deepcopy(learner.actor), deepcopy(learner.core.decoder)  # gradients are nobody's
        self.state, self.memory = visit
        self.noise, self.target = noise.detach(), target

    def condition(self, context):
        return context, context

    def forward(self, conditioning, mask, predicted_mask, remaining):
        joined = torch.maximum(mask, predicted_mask)
        out = self.actor(self.actor.condition(self.state.context), joined, self.memory)
        latent = out.mean + torch.exp(0.5 * out.log_variance) * self.noise[: len(joined), 1]
        return GAMMA * soft_score(self.decoder(latent, self.state.conditioning), self.target, "dice")


@pytest.mark.parametrize("seed", SEEDS)
def test_value_expansion_with_a_perfect_critic_has_the_gradient_of_the_whole_return(
    make_wide, follow, actor_critic, seed
):
    size = (32, 32)
    pairs = PackedScenes(Leaves("train", size, min_leaves=2, max_leaves=2, length=4, seed=seed), size)
    shared = {f.name: getattr(actor_critic, f.name) for f in fields(ActorCriticConfig) if f.name != "kind"}
    algorithm, state = make_wide(ValueExpansionConfig(**{**shared, "kl_weight": 0.0}), range(4), seed, pairs)
    learner = algorithm.learner
    assert num_steps(state).tolist() == [2, 2, 2, 2]
    noise = draw_noise(state, seed)
    with torch.no_grad():
        _, second, (end, _) = play(learner, state, noise)
    targets = [instance_masks(end.label_map, end.assignment[:, t]).double() for t in range(2)]

    def score_of_step(t):
        after, _ = play(learner, state, noise)[t + 1]
        return soft_score(after.predicted_mask, targets[t], "dice").sum()

    algorithm.critic.critic = PerfectCritic(learner, second, noise, targets[1])
    _, by_noise = follow(algorithm, state, noise)
    generator = torch.Generator().manual_seed(seed)
    directions = [torch.zeros_like(noise) for _ in range(3)]
    for direction in directions:
        direction[:, 0] = torch.randn(by_noise[:, 0].shape, generator=generator).double()
    now, later = ([slope(lambda t=t: score_of_step(t), [noise], [d]) for d in directions] for t in range(2))
    assert max(map(abs, later)) > 1e-3  # so that the critic has a say
    check_slopes([along([by_noise], [d]) for d in directions], [n + GAMMA * f for n, f in zip(now, later, strict=True)])
