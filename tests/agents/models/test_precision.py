"""bfloat16 and compilation: the same training, but for rounding."""

from dataclasses import replace
from functools import partial

import pytest
import torch

from acis_env.precision import autocast, to_float32
from acis_env.reward import score
from agents.algorithms import ValueExpansionConfig
from agents.algorithms.rollout import split_episodes


@pytest.fixture
def algorithm_config(request, baseline, actor_critic):
    """Settings of an algorithm by its name in the presets."""
    shared = {name: value for name, value in vars(actor_critic).items() if name != "kind"}
    return {
        "bl-trunc": replace(baseline, objective="cross-entropy"),
        "bl-trunc-dice": baseline,
        "ac-dice": actor_critic,
        "value-expansion": ValueExpansionConfig(**shared),
    }[request.param]


@pytest.mark.parametrize("algorithm_config", ["bl-trunc", "bl-trunc-dice", "ac-dice", "value-expansion"], indirect=True)
def test_in_bfloat16_losses_are_close_to_those_of_float32_and_weights_stay_float32(
    make_env, make_algorithm, at, algorithm_config
):
    losses = []
    for precision in ("float32", "bfloat16"):
        algorithm = make_algorithm(replace(algorithm_config, kl_weight=1e-3), make_env(5, precision=precision))
        found = algorithm.train_iteration(at())
        losses.append({name: float(value) for name, value in found.items()})
        trained = [*algorithm.learner.actor.parameters()]
        if hasattr(algorithm, "critic"):
            trained += algorithm.critic.critic.parameters()
        assert {parameter.dtype for parameter in trained} == {torch.float32}
        assert all(value.dtype == torch.float32 for value in found.values())
    exact, coarse = losses
    assert exact != coarse
    names = ["actor/objective", "actor/kl", "rollout/return", "termination/loss"]
    for name in [*names, *({"critic/loss"} & exact.keys())]:
        assert coarse[name] == pytest.approx(exact[name], rel=0.1, abs=0.02), name


def test_what_is_added_up_over_an_episode_is_float32_though_networks_compute_in_bfloat16(
    make_env, make_algorithm, baseline
):
    env = make_env(5, precision="bfloat16")
    algorithm = make_algorithm(replace(baseline, sample=True), env)
    (state,) = split_episodes(env.state)
    with torch.no_grad():
        episodes = algorithm.play(state, torch.Generator().manual_seed(0))
    for step in episodes.steps:
        found = (step.mask, step.mean, step.log_variance, step.latent, step.predicted_mask, step.reward)
        assert {value.dtype for value in found} == {torch.float32}
    first = episodes.steps[0].predicted_mask
    best = score(first[:, 0], state.label_map, state.areas).amax(1)
    torch.testing.assert_close(episodes.steps[0].reward, best)
    features = episodes.termination_features
    assert features.dtype == episodes.potential.dtype == torch.float32
    assert not torch.equal(features, features.bfloat16().float())


def test_to_float32_leaves_what_is_wider_and_autocast_is_off_in_float32():
    assert [
        to_float32(torch.zeros(1, dtype=dtype)).dtype for dtype in (torch.bfloat16, torch.float32, torch.float64)
    ] == [
        torch.float32,
        torch.float32,
        torch.float64,
    ]
    for precision, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        with autocast(torch.device("cpu"), precision):
            assert torch.nn.Linear(2, 2)(torch.zeros(1, 2)).dtype == dtype


def test_compiled_networks_say_the_same_and_are_compiled_once_for_all_numbers_of_scenes(
    make_algorithm, actor_critic, begin, tiny, monkeypatch
):
    compiled = []

    def backend(graph, inputs):
        compiled.append(graph)
        return graph.forward

    torch.compiler.reset()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    plain, fast = make_algorithm(actor_critic), make_algorithm(actor_critic, compile=True)
    assert fast.learner.actor.state_dict().keys() == plain.learner.actor.state_dict().keys()
    state, counts = begin(tiny), []
    for k in (7, 5, 4, 2):
        found = [say(each, state.select(slice(k))) for each in (plain, fast)]
        torch.testing.assert_close(found[1], found[0])
        counts.append(len(compiled))
    assert counts[0] > 0
    assert counts[-1] == counts[0], counts


def say(algorithm, state):
    """What actor and critic say, and the critic's gradient for the actor."""
    mask, actor, critic = state.accumulated_mask, algorithm.learner.actor, algorithm.critic.critic
    out = actor(actor.condition(state.context), mask, actor.initial_memory(len(state)))
    predicted_mask = algorithm.learner.core.decoder(out.mean, state.conditioning)
    values = critic(critic.condition(state.context), mask, predicted_mask, state.num_instances)
    return [*out, values, *torch.autograd.grad(values.sum(), list(actor.skip.parameters()))]
