"""Updates: their gradients, what they change, what they must not change, and that they improve what they claim."""

import math
from copy import deepcopy
from dataclasses import replace

import pytest
import torch

from acis_env import tree
from acis_env.reward import instance_areas, score
from agents.algorithms.actor_critic import soft_score
from agents.algorithms.replay import transitions
from agents.algorithms.rollout import Episodes, discounted_returns
from agents.experiments.peak_memory import peak_of_saved

OBJECTIVES = ("bl-bce", "bl-score", "ac", "ac-score")
ONE_LEAF, SEVERAL_LEAVES = [4, 5, 7], [1, 2, 0]


def noise():
    """Equal noise at every call."""
    return torch.Generator().manual_seed(0)


def bits(module):
    """A copy of all weights."""
    return {name: value.clone() for name, value in module.state_dict().items()}


def unchanged(module, before):
    return all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


@pytest.fixture
def fresh(begin, deal, tiny):
    return deal(begin(tiny, SEVERAL_LEAVES))


def explore(learner, batch, generator=None):
    """The episodes that `learner.collect` makes its experience of."""
    generator = generator or noise()
    with torch.no_grad():
        choose = learner.sampler(batch.parts[0], learner.draw_noise(batch, generator, learner.config.exploration))
        return learner.play(batch.parts[0], choose)


@pytest.fixture
def batch(make_learner, begin, deal, tiny):
    """The steps of one episode in each of twelve scenes."""
    return make_learner().collect(deal(begin(tiny)), noise())


@pytest.mark.parametrize(
    ("objective", "indices"),
    [
        ("ac", ONE_LEAF),
        ("ac-score", ONE_LEAF),
        ("bl-bce", ONE_LEAF),
        # Without truncation the baselines' gradients are exact over whole episodes, too.
        ("bl-bce", SEVERAL_LEAVES),
        ("bl-score", SEVERAL_LEAVES),
    ],
)
def test_the_actor_ascends_the_gradient_that_finite_differences_find(
    make_learner, make_phase, begin, deal, tiny, monkeypatch, objective, indices
):
    targets = Episodes.targets
    monkeypatch.setattr(Episodes, "targets", lambda self, t: targets(self, t).double())
    learner = make_learner(bptt_steps=None, clip_norm=1e9, clip_norm_bce=1e9)
    for part in (learner.actor, learner.critic, learner.decoder):
        part.double()
    state = begin(tiny, indices)
    wide = {name: getattr(state, name).double() for name in ("context", "accumulated_mask", "predicted_mask")}
    state = replace(state, conditioning=tree.map_tensors(torch.Tensor.double, state.conditioning), **wide)
    fresh, phase = deal(state), make_phase(objective, kl_weight=0.3)
    learner.actor_optimizer = torch.optim.SGD(learner.actor.policy_parameters())

    def objective_value():
        losses = learner.update_actor(fresh, replace(phase, learning_rate=0.0), noise())
        return float(losses["actor/objective"] - 0.3 * losses["actor/kl"])

    named = dict(learner.actor.named_parameters())
    before = bits(learner.actor)
    learner.update_actor(
        fresh, replace(phase, learning_rate=1.0), noise()
    )  # a plain step with rate 1: the gradient itself
    ascent = {name: parameter.data - before[name] for name, parameter in named.items()}
    learner.actor.load_state_dict(before)
    for name in ("skip.bias", "head.0.weight", "lstm.1.weight_ih", "trunk.context_conv.weight"):
        place, width = torch.unravel_index(ascent[name].abs().argmax(), ascent[name].shape), 1e-6
        values = []
        for sign in (1, -1):
            named[name].data[place] += sign * width
            values.append(objective_value())
            named[name].data.copy_(before[name])
        slope = (values[0] - values[1]) / (2 * width)
        assert abs(slope) > 1e-4
        assert float(ascent[name][place]) == pytest.approx(slope, rel=1e-3)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_updates_change_the_actor_through_the_frozen_networks_but_not_these(
    make_learner, make_phase, fresh, batch, tiny, objective
):
    learner = make_learner(phases=(make_phase(objective),))
    parts = (tiny.autoencoder, tiny.context_network, learner.critic)
    frozen = [bits(part) for part in parts]
    trunk, termination = bits(learner.actor.trunk), bits(learner.actor.termination)
    for _ in range(2):
        learner.update_actor(fresh, replace(make_phase(objective), learning_rate=1e-2), noise())
    assert all(unchanged(part, before) for part, before in zip(parts, frozen, strict=True))
    # There is no KL term, so all that reaches the trunk has come through the decoder.
    assert not torch.equal(learner.actor.trunk.context_conv.weight, trunk["context_conv.weight"])
    assert not unchanged(learner.actor.termination, termination)

    actor, critic = bits(learner.actor), bits(learner.critic)
    learner.update_critic(batch)
    assert unchanged(learner.actor, actor)
    assert not unchanged(learner.critic, critic)
    assert all(unchanged(part, before) for part, before in zip(parts[:2], frozen[:2], strict=True))


# The critic's value of a mask also depends on the masks before it, along which no gradient runs.
@pytest.mark.parametrize(
    ("objective", "indices"),
    [("bl-bce", SEVERAL_LEAVES), ("bl-score", SEVERAL_LEAVES), ("ac", ONE_LEAF), ("ac-score", SEVERAL_LEAVES)],
)
def test_an_objective_rises_when_it_is_followed_on_the_same_scenes(
    make_learner, make_phase, begin, deal, tiny, objective, indices
):
    learner, fresh, phase = make_learner(), deal(begin(tiny, indices)), make_phase(objective)
    values = [
        float(learner.update_actor(fresh, replace(phase, learning_rate=1e-2), noise())["actor/objective"])
        for _ in range(20)
    ]
    assert min(values[-5:]) > max(values[:3])


def test_the_kl_term_pulls_the_policy_towards_the_prior(make_learner, make_phase, fresh):
    divergences = {}
    for weight in (0.0, 10.0):
        learner, phase = make_learner(), make_phase("bl-score", kl_weight=weight)
        divergences[weight] = [
            float(learner.update_actor(fresh, replace(phase, learning_rate=1e-2), noise())["actor/kl"])
            for _ in range(20)
        ]
    assert divergences[10.0][0] == divergences[0.0][0]
    assert divergences[10.0][-1] < 0.5 * divergences[10.0][0]
    assert divergences[10.0][-1] < divergences[0.0][-1]


def test_policy_and_termination_unit_learn_at_their_own_decayed_rates(make_learner, make_phase, fresh):
    learner, phase = make_learner(termination_learning_rate=3e-2), make_phase("bl-score", learning_rate=1e-2)
    learner.update_actor(fresh, phase, noise(), decay=0.1)
    assert learner.actor_optimizer.param_groups[0]["lr"] == pytest.approx(1e-3)
    assert learner.termination_optimizer.param_groups[0]["lr"] == pytest.approx(3e-3)


def test_the_termination_unit_takes_as_many_steps_as_it_is_told(make_learner, make_phase, fresh):
    counts = []
    for updates in (1, 3):
        learner = make_learner(termination_updates=updates)
        learner.update_actor(fresh, make_phase("bl-score"), noise())
        steps = [s["step"] for s in learner.termination_optimizer.state_dict()["state"].values()]
        counts.append({int(step) for step in steps})
    assert counts == [{1}, {3}]


def test_the_termination_unit_learns_more_than_how_often_to_stop(make_learner, make_phase, fresh):
    learner, phase = make_learner(termination_learning_rate=0.1, termination_updates=1), make_phase("bl-score")
    losses = [
        float(learner.update_actor(fresh, replace(phase, learning_rate=0.0), noise())["termination/loss"])
        for _ in range(40)
    ]
    share = 3 / 12  # of the states are terminal
    assert losses[-1] < -share * math.log(share) - (1 - share) * math.log(1 - share) < losses[0]


def test_repeated_critic_updates_on_a_batch_lower_its_loss(make_learner, batch):
    learner = make_learner()
    losses = [float(learner.update_critic(batch)["critic/loss"]) for _ in range(30)]
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize(("objective", "sees_reward"), [("ac", True), ("ac-score", False)])
def test_the_critic_of_ac_score_learns_what_follows_a_step_and_others_the_whole_return(
    make_learner, make_phase, batch, objective, sees_reward
):
    learner = make_learner(phases=(make_phase("critic"), make_phase(objective)))
    for parameter in learner.critic.head[-1].parameters():
        torch.nn.init.zeros_(parameter)  # all values are zero, so the loss is the targets' mean square
    targets = batch.returns if sees_reward else batch.returns - batch.reward
    assert float(learner.update_critic(batch)["critic/loss"]) == pytest.approx(float(targets.square().mean()))


def test_what_follows_a_step_is_the_discounted_return_of_the_next(make_learner, begin, deal, tiny):
    episodes = explore(make_learner(), deal(begin(tiny)))
    returns = discounted_returns(episodes, gamma=0.9)
    for now, following, step in zip(returns, [*returns[1:], torch.zeros(0)], episodes.steps, strict=True):
        future = now - step.reward
        torch.testing.assert_close(future[: len(following)], 0.9 * following, rtol=1e-4, atol=1e-5)
        assert future[len(following) :].eq(0).all()


@pytest.mark.parametrize("objective", ["ac", "ac-score"])
def test_the_objective_adds_up_what_critic_and_score_say_of_every_mask(make_learner, make_phase, fresh, objective):
    learner = make_learner(phases=(make_phase(objective),))
    with torch.no_grad():
        for parameter in learner.critic.head[-1].parameters():
            parameter.zero_()
        learner.critic.head[-1].bias.fill_(7.0)  # a critic that says 7 to everything
    objective_value = float(
        learner.update_actor(fresh, replace(make_phase(objective), learning_rate=0.0), noise())["actor/objective"]
    )
    if objective == "ac":
        assert objective_value == pytest.approx(7)
    else:  # 4 + 3 + 2 masks, of which three are the last and have no future
        lengths = fresh.lengths.tolist()
        assert lengths == [4, 3, 2]
        scores = objective_value - 7 * 6 / 9
        assert 0 < scores < 1


@pytest.mark.parametrize("name", ["dice", "iou"])
def test_the_soft_score_is_that_of_the_environment(leaves, name):
    label_map = leaves.gather([1, 2, 3])[1]
    masks = torch.rand(3, 1, 32, 32, generator=noise())
    in_environment = score(masks[:, 0], label_map, instance_areas(label_map, 4), name)
    for label in (1, 2, 3):
        targets = (label_map == label).float()[:, None]
        torch.testing.assert_close(soft_score(masks, targets, name), in_environment[:, label - 1])
    empty = torch.zeros(3, 1, 32, 32)
    assert soft_score(empty, empty, name).eq(0).all()


def test_a_loss_of_the_critic_that_is_not_finite_is_an_error_and_changes_nothing(make_learner, batch):
    learner = make_learner()
    learner.update_critic(batch)
    before, moments = bits(learner.critic), str(learner.critic_optimizer.state_dict())
    for value in (torch.inf, torch.nan):
        with pytest.raises(FloatingPointError, match="learning rate"):
            learner.update_critic(replace(batch, returns=torch.full_like(batch.returns, value)))
    assert unchanged(learner.critic, before)
    assert str(learner.critic_optimizer.state_dict()) == moments


@pytest.mark.parametrize("where", ["bias", "weight"])
def test_an_objective_of_the_actor_that_is_not_finite_is_an_error_and_changes_nothing(
    make_learner, make_phase, fresh, where
):
    learner = make_learner()
    before = bits(learner.actor)
    with torch.no_grad():
        getattr(learner.critic.head[-1], where).fill_(torch.inf)  # a bias has no share in the gradient
    with pytest.raises(FloatingPointError, match="learning rate"):
        learner.update_actor(fresh, replace(make_phase("ac"), learning_rate=1e-2), noise())
    assert unchanged(learner.actor, before)


def test_gradients_are_clipped_to_the_norm_of_the_objective(make_learner, make_phase, fresh):
    for objective, expected in (("bl-score", 0.01), ("bl-bce", 3.0)):
        learner = make_learner(clip_norm=0.01, clip_norm_bce=3.0)
        learner.actor_optimizer = torch.optim.SGD(learner.actor.policy_parameters())
        before = bits(learner.actor)
        norm = learner.update_actor(fresh, replace(make_phase(objective), learning_rate=1.0), noise())[
            "actor/gradient_norm"
        ]
        assert norm > expected
        named = dict(learner.actor.named_parameters())
        moved = [v.data - before[k] for k, v in named.items() if not k.startswith("termination")]
        assert float(torch.cat([m.flatten() for m in moved]).norm()) == pytest.approx(expected, rel=1e-2)


def test_collected_episodes_are_noisy_with_a_seed_and_carry_no_gradient(make_learner, fresh):
    learner = make_learner()
    first, again = (explore(learner, fresh) for _ in range(2))
    other = explore(learner, fresh, torch.Generator().manual_seed(1))
    assert torch.equal(first.steps[0].latent, again.steps[0].latent)
    assert not torch.equal(first.steps[0].latent, other.steps[0].latent)
    assert not torch.equal(first.steps[0].latent, first.steps[0].mean)
    assert torch.equal(learner.collect(fresh, noise()).predicted_mask, transitions(first, gamma=0.9).predicted_mask)
    assert not learner.collect(fresh, noise()).returns.requires_grad


def test_exploration_adds_noise_of_the_level_drawn_for_each_scene(make_learner, begin, deal, tiny):
    fresh = deal(begin(tiny))
    deviations = {}
    for level in (0.0, 5.0):
        learner = make_learner(exploration=(level,))
        steps = explore(learner, fresh).steps
        offsets = torch.cat([(step.latent - step.mean) / torch.exp(0.5 * step.log_variance) for step in steps])
        deviations[level] = float(offsets.std())
    assert deviations[0.0] == pytest.approx(1, abs=0.15)
    assert deviations[5.0] > 5
    mixed = explore(make_learner(exploration=(0.0, 1000.0)), fresh)
    far = [step.latent.abs().amax(1) > 50 for step in mixed.steps]
    for t, scenes_far in enumerate(far):
        assert torch.equal(scenes_far, far[0][: len(scenes_far)]), f"step {t} has another level than the first"
    assert far[0].any()
    assert not far[0].all()


def test_learning_goes_on_from_a_state_dict_as_if_there_had_been_no_break(make_learner, make_phase, fresh, batch):
    phase = make_phase("ac")
    learner = make_learner()
    learner.update_critic(batch)
    learner.update_actor(fresh, replace(phase, learning_rate=1e-3), noise())
    other = make_learner(start_from_encoder=False)
    other.load_state_dict(deepcopy(learner.state_dict()))
    for each in (learner, other):
        each.update_critic(batch)
        each.update_actor(fresh, replace(phase, learning_rate=1e-3), noise())
    assert unchanged(other.actor, bits(learner.actor))
    assert unchanged(other.critic, bits(learner.critic))


def test_an_actor_critic_update_holds_one_step_in_memory_and_a_baseline_holds_all(
    make_learner, make_phase, begin, deal, tiny
):
    def peak(objective, indices):
        learner, batch = make_learner(), deal(begin(tiny, indices))
        return peak_of_saved(lambda: learner.update_actor(batch, make_phase(objective), noise()), learner)

    one, four = ONE_LEAF[:1], [1]
    assert begin(tiny, four).num_instances.item() >= 3
    assert peak("ac", four) < 1.3 * peak("ac", one)
    assert peak("bl-score", four) > 2 * peak("bl-score", one)
