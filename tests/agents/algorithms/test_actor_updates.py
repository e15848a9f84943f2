"""Updates of the actor, by every algorithm that has them: what they change, and that they improve what they claim."""

import math
from dataclasses import fields, replace

import pytest
import torch

import agents.algorithms
from agents.algorithms import SearchDistillationConfig, ValueExpansionConfig
from agents.experiments.peak_memory import peak_of_saved

ONE_LEAF, SEVERAL_LEAVES = [4, 5, 7], [1, 2, 0]
NAMES = ("cross-entropy", "score", "actor-critic", "value-expansion", "search-distillation")


def bits(module):
    """A copy of all weights."""
    return {name: value.clone() for name, value in module.state_dict().items()}


def unchanged(module, before):
    return all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


@pytest.fixture
def make(make_algorithm, baseline, actor_critic):
    """A function of a name in NAMES; further fields of the configuration, and settings of the learner."""
    as_expansion = {
        field.name: getattr(actor_critic, field.name) for field in fields(actor_critic) if field.name != "kind"
    }
    configs = {
        "cross-entropy": replace(baseline, objective="cross-entropy"),
        "score": baseline,
        "actor-critic": replace(actor_critic, kl_weight=0.0),
        "value-expansion": ValueExpansionConfig(**{**as_expansion, "kl_weight": 0.0}),
        "search-distillation": SearchDistillationConfig(decay=()),
    }

    def make_named(name, settings=None, **changes):
        return make_algorithm(replace(configs[name], **{"clip_norm": 200.0, **changes}), **(settings or {}))

    return make_named


@pytest.mark.parametrize("name", NAMES)
def test_updates_change_the_actor_through_the_frozen_networks_but_not_these(make, begin, tiny, at, name):
    algorithm, state = make(name, learning_rate=1e-2), begin(tiny, SEVERAL_LEAVES)
    actor = algorithm.learner.actor
    parts = [tiny.autoencoder, tiny.context_network]
    parts += [algorithm.critic.critic] if hasattr(algorithm, "critic") else []
    frozen = [bits(part) for part in parts]
    trunk, termination = bits(actor.trunk), bits(actor.termination)
    for _ in range(2):
        algorithm.update_actor([state], at())
    assert all(unchanged(part, before) for part, before in zip(parts, frozen, strict=True))
    # There is no KL term, so all that reaches the trunk has come through the decoder.
    assert not torch.equal(actor.trunk.context_conv.weight, trunk["context_conv.weight"])
    assert not unchanged(actor.termination, termination)


# The critic's value of a mask also depends on the masks before it, along which no gradient runs.
@pytest.mark.parametrize(
    ("name", "indices"),
    [
        ("cross-entropy", SEVERAL_LEAVES),
        ("score", SEVERAL_LEAVES),
        ("actor-critic", ONE_LEAF),
        ("value-expansion", SEVERAL_LEAVES),
    ],
)
def test_an_objective_rises_when_it_is_followed_on_the_same_scenes(make, begin, tiny, at, name, indices):
    algorithm, state = make(name, learning_rate=1e-2, clip_norm=1.0), begin(tiny, indices)
    if name == "actor-critic":  # an untrained critic says nearly the same of all masks
        for layer in algorithm.critic.critic.head[::2]:
            layer.weight.data.mul_(5)
    values = [float(algorithm.update_actor([state], at())["actor/objective"]) for _ in range(20)]
    assert min(values[-5:]) > max(values[:3])


def test_the_kl_term_pulls_the_policy_towards_the_prior(make, begin, tiny, at):
    divergences = {}
    for weight in (0.0, 10.0):
        algorithm, state = make("score", learning_rate=1e-2, kl_weight=weight), begin(tiny, SEVERAL_LEAVES)
        divergences[weight] = [float(algorithm.update_actor([state], at())["actor/kl"]) for _ in range(20)]
    assert divergences[10.0][0] == divergences[0.0][0]
    assert divergences[10.0][-1] < 0.5 * divergences[10.0][0]
    assert divergences[10.0][-1] < divergences[0.0][-1]


@pytest.mark.parametrize("name", ["score", "actor-critic"])
def test_policy_and_termination_unit_learn_at_their_own_decayed_rates(make, begin, tiny, at, name):
    settings = {"termination_learning_rate": 3e-2}
    algorithm = make(name, settings, learning_rate=1e-2, decay=((0.5, 0.3), (0.75, 0.1)))
    learner = algorithm.learner
    for iteration, factor in ((1, 1.0), (2, 0.3), (3, 0.1)):
        algorithm.update_actor([begin(tiny, SEVERAL_LEAVES)], at(iteration=iteration, iterations=4))
        assert learner.actor_optimizer.param_groups[0]["lr"] == pytest.approx(factor * 1e-2)
        assert learner.termination_optimizer.param_groups[0]["lr"] == pytest.approx(factor * 3e-2)


def test_the_share_of_a_stage_is_counted_from_the_end_of_the_warm_up(make, begin, tiny, at):
    algorithm = make("actor-critic", learning_rate=1e-2, decay=((0.5, 0.1),), critic_warmup=10)
    for iteration, factor in ((14, 1.0), (15, 0.1)):
        algorithm.update_actor([begin(tiny, SEVERAL_LEAVES)], at(iteration=iteration, iterations=20))
        assert algorithm.learner.actor_optimizer.param_groups[0]["lr"] == pytest.approx(factor * 1e-2)


def test_the_termination_unit_takes_as_many_steps_as_it_is_told(make, begin, tiny, at):
    counts = []
    for updates in (1, 3):
        algorithm = make("score", {"termination_updates": updates})
        algorithm.update_actor([begin(tiny, SEVERAL_LEAVES)], at())
        steps = [s["step"] for s in algorithm.learner.termination_optimizer.state_dict()["state"].values()]
        counts.append({int(step) for step in steps})
    assert counts == [{1}, {3}]


@pytest.mark.parametrize("name", ["score", "actor-critic"])
def test_the_termination_unit_learns_more_than_how_often_to_stop(make, begin, tiny, at, name):
    algorithm = make(name, {"termination_learning_rate": 0.1, "termination_updates": 1}, learning_rate=0.0)
    state = begin(tiny, SEVERAL_LEAVES)
    losses = [float(algorithm.update_actor([state], at())["termination/loss"]) for _ in range(40)]
    share = 3 / 12  # of the states are terminal
    assert losses[-1] < -share * math.log(share) - (1 - share) * math.log(1 - share) < losses[0]


@pytest.mark.parametrize("name", ["actor-critic", "value-expansion"])
def test_the_objective_adds_up_what_critic_and_score_say_of_every_mask(make, begin, tiny, at, name):
    algorithm, state = make(name, learning_rate=0.0), begin(tiny, SEVERAL_LEAVES)
    with torch.no_grad():
        for parameter in algorithm.critic.critic.head[-1].parameters():
            parameter.zero_()
        algorithm.critic.critic.head[-1].bias.fill_(7.0)  # a critic that says 7 to everything
    objective = float(algorithm.update_actor([state], at())["actor/objective"])
    if name == "actor-critic":
        assert objective == pytest.approx(7)
    else:  # 4 + 3 + 2 masks, of which three are the last and have no future
        assert state.num_instances.tolist() == [4, 3, 2]
        assert 0 < objective - 7 * 6 / 9 < 1


def test_distillation_draws_the_mean_towards_the_best_candidate(make, begin, tiny, at):
    state, objectives = begin(tiny, SEVERAL_LEAVES), {}
    for weight in (0.0, 0.5, 1.0):
        algorithm = make("search-distillation", learning_rate=0.0, weight=weight)
        objectives[weight] = float(algorithm.update_actor([state], at())["actor/objective"])
    distance = objectives[0.0] - objectives[1.0]
    assert distance > 1e-3
    assert objectives[0.0] - objectives[0.5] == pytest.approx(distance / 2, rel=1e-3)


@pytest.mark.parametrize("where", ["bias", "weight"])
def test_an_objective_of_the_actor_that_is_not_finite_is_an_error_and_changes_nothing(make, begin, tiny, at, where):
    algorithm = make("actor-critic", learning_rate=1e-2)
    before = bits(algorithm.learner.actor)
    with torch.no_grad():
        getattr(algorithm.critic.critic.head[-1], where).fill_(torch.inf)  # a bias has no share in the gradient
    with pytest.raises(FloatingPointError, match="learning rate"):
        algorithm.update_actor([begin(tiny, SEVERAL_LEAVES)], at())
    assert unchanged(algorithm.learner.actor, before)
    assert all(parameter.grad is None for parameter in algorithm.learner.actor.policy_parameters())


def test_gradients_are_clipped_to_the_norm_of_the_algorithm(make, begin, tiny, at):
    for name, largest in (("score", 0.01), ("cross-entropy", 3.0), ("actor-critic", 0.01)):
        algorithm = make(name, learning_rate=1.0, clip_norm=largest)
        actor = algorithm.learner.actor
        algorithm.learner.actor_optimizer = torch.optim.SGD(actor.policy_parameters())
        before = bits(actor)
        norm = algorithm.update_actor([begin(tiny, SEVERAL_LEAVES)], at())["actor/gradient_norm"]
        assert norm > largest
        named = dict(actor.named_parameters())
        moved = [v.data - before[k] for k, v in named.items() if not k.startswith("termination")]
        assert float(torch.cat([m.flatten() for m in moved]).norm()) == pytest.approx(largest, rel=1e-2)


@pytest.mark.parametrize("name", NAMES[:4])
def test_micro_batches_add_up_to_the_gradient_of_the_whole_batch(make, begin, tiny, at, monkeypatch, name):
    for module in (agents.algorithms.actor_critic, agents.algorithms.value_expansion):  # each would draw its own
        monkeypatch.setattr(module, "draw_noise", lambda state, learner, _: torch.zeros(len(state), 4, 4))
    moved = []
    for parts in (1, 3):
        algorithm = make(name, learning_rate=1.0)
        actor = algorithm.learner.actor
        algorithm.learner.actor_optimizer = torch.optim.SGD(actor.policy_parameters())
        before = bits(actor)
        state = begin(tiny, [1, 2, 0, 3, 4])
        algorithm.update_actor([state.select(torch.arange(first, 5, parts)) for first in range(parts)], at())
        moved.append({name: value - before[name] for name, value in actor.state_dict().items()})
    for name, step in moved[0].items():
        if not name.startswith("termination"):
            torch.testing.assert_close(moved[1][name], step, rtol=1e-3, atol=1e-5 * float(step.abs().max()) + 1e-6)


def test_an_actor_critic_update_holds_one_step_in_memory_and_a_baseline_holds_all(make, begin, tiny, at):
    def peak(name, indices):
        algorithm, state = make(name), begin(tiny, indices)
        modules = [algorithm.learner.actor, algorithm.learner.core.decoder]
        modules += [algorithm.critic.critic] if hasattr(algorithm, "critic") else []
        return peak_of_saved(lambda: algorithm.update_actor([state], at()), modules)

    one, four = ONE_LEAF[:1], [1]
    assert begin(tiny, four).num_instances.item() >= 3
    assert peak("actor-critic", four) < 1.3 * peak("actor-critic", one)
    assert peak("score", four) > 2 * peak("score", one)
