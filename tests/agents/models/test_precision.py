"""bfloat16 and compilation: the same training, but for rounding."""

from functools import partial

import pytest
import torch

from acis_env.precision import autocast, to_float32
from acis_env.reward import score

OBJECTIVES = ("bl-bce", "bl-score", "ac", "ac-score")


def noise():
    return torch.Generator().manual_seed(0)


@pytest.fixture
def fresh(begin, deal, tiny):
    return deal(begin(tiny, [1, 2, 0, 4, 5]))


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_in_bfloat16_losses_are_close_to_those_of_float32_and_weights_stay_float32(
    make_learner, make_phase, fresh, objective
):
    losses = []
    for precision in ("float32", "bfloat16"):
        learner = make_learner(precision=precision, phases=(make_phase(objective),))
        found = learner.update_critic(learner.collect(fresh, noise()))
        found |= learner.update_actor(fresh, make_phase(objective, kl_weight=1e-3), noise())
        losses.append({name: float(value) for name, value in found.items()})
        trained = [*learner.actor.parameters(), *learner.critic.parameters()]
        assert {parameter.dtype for parameter in trained} == {torch.float32}
        assert all(value.dtype == torch.float32 for value in found.values())
    exact, coarse = losses
    assert exact != coarse
    for name in ("critic/loss", "actor/objective", "actor/kl", "rollout/return", "termination/loss"):
        assert coarse[name] == pytest.approx(exact[name], rel=0.1, abs=0.02), name


def test_what_is_added_up_over_an_episode_is_float32_though_networks_compute_in_bfloat16(make_learner, fresh):
    learner = make_learner(precision="bfloat16")
    with torch.no_grad():
        episodes = learner.play(fresh.parts[0], learner.sampler(fresh.parts[0], learner.draw_noise(fresh, noise())))
    for step in episodes.steps:
        found = (step.mask, step.mean, step.log_variance, step.latent, step.predicted_mask, step.reward)
        assert {value.dtype for value in found} == {torch.float32}
    first, state = episodes.steps[0].predicted_mask, fresh.parts[0].state
    best = score(first[:, 0], state.label_map, state.areas).amax(1)
    torch.testing.assert_close(episodes.steps[0].reward, best)
    assert episodes.readings.dtype == episodes.potential.dtype == torch.float32
    assert not torch.equal(episodes.readings, episodes.readings.bfloat16().float())


def test_widening_leaves_what_is_wide_and_autocast_is_off_in_float32():
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
    make_learner, begin, tiny, monkeypatch
):
    compiled = []

    def backend(graph, inputs):
        compiled.append(graph)
        return graph.forward

    torch.compiler.reset()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    plain, learner = make_learner(), make_learner(compile=True)
    assert learner.actor.state_dict().keys() == plain.actor.state_dict().keys()
    state, counts = begin(tiny), []
    for k in (7, 5, 4, 2):
        found = [say(each, state.select(slice(k))) for each in (plain, learner)]
        torch.testing.assert_close(found[1], found[0])
        counts.append(len(compiled))
    assert counts[0] > 0
    assert counts[-1] == counts[0], counts


def say(learner, state):
    """What actor and critic say, and the critic's gradient for the actor."""
    mask, actor = state.accumulated_mask, learner.actor
    out = actor(actor.condition(state.context), mask, actor.initial_memory(len(state)))
    predicted_mask = learner.decoder(out.mean, state.conditioning)
    values = learner.critic(learner.critic.condition(state.context), mask, predicted_mask, state.num_instances)
    return [*out, values, *torch.autograd.grad(values.sum(), list(actor.skip.parameters()))]
