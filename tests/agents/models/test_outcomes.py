"""Whole outcomes: what a critic reads of label maps, its arithmetic, and the choice of the best outcome."""

import numpy as np
import pytest
import torch

from acis_env.metrics import segmentation_metrics
from agents.models import outcomes
from agents.models.agent import Agent
from agents.models.composition import compose_label_map
from agents.models.measures import mask_measures
from agents.models.outcome_critic import OutcomeContext, OutcomeCritic, OutcomeCriticConfig, label_measures
from agents.models.outcomes import OutcomeChoice, OutcomeChoiceConfig, choose_among
from agents.models.visits import predict

SIZES = OutcomeCriticConfig(max_count=4, widths=(4, 6), count_hidden=6, hidden=(8, 8))


@pytest.fixture
def critic():
    """An untrained critic."""
    torch.manual_seed(0)
    return OutcomeCritic(SIZES).requires_grad_(False)


@pytest.fixture
def choice(critic, tiny):
    """A choice among three episodes by that critic."""
    return OutcomeChoice(critic, tiny.autoencoder.decoder, OutcomeChoiceConfig(episodes=3, spread=1.0))


@pytest.fixture
def choosing(agent, choice, tiny):
    """An agent that chooses so."""
    return Agent(agent.actor, tiny, max_steps=4, outcomes=choice)


@pytest.fixture
def masks():
    """Four soft masks in each of three scenes."""
    return torch.rand(3, 4, 32, 32, generator=torch.Generator().manual_seed(0)) ** 2


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"widths": (4,)}, r"widths must hold at least two numbers of channels, got \(4,\)"),
        ({"max_count": 0}, "max_count must be .* got 0"),
        ({"hidden": (8, 0)}, "hidden must be .* got"),
    ],
)
def test_sizes_that_mean_nothing_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        OutcomeCriticConfig(**fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [({"episodes": 0}, "episodes must be at least 1, got 0"), ({"spread": -1.0}, "spread must be at least 0, got -1")],
)
def test_choices_that_mean_nothing_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        OutcomeChoiceConfig(**fields)


def test_a_label_is_measured_as_the_pixels_that_it_owns_beside_the_largest_other_mask(critic, masks, begin, tiny):
    known = critic.condition(begin(tiny, [0, 3, 5]).context)
    measures, present = label_measures(known, masks, threshold=0.5)
    assert measures.shape == (3, 4, 12)
    for scene, found in enumerate(masks):
        label_map = torch.from_numpy(compose_label_map(found.numpy()))
        for t in range(4):
            region = (label_map == t + 1).float()[None, None]
            others = found[[k for k in range(4) if k != t]].amax(0)[None, None]
            expected = mask_measures(region, others, *(x[scene : scene + 1] for x in known[:2]))[0]
            torch.testing.assert_close(measures[scene, t], expected)
            assert present[scene, t] == bool(region.any())


def test_a_mask_that_owns_no_pixel_is_no_label(critic, masks, begin, tiny, monkeypatch):
    known = critic.condition(begin(tiny, [0, 3, 5]).context)
    hidden = torch.stack([masks[:, 0], 0.5 * masks[:, 0]], dim=1)
    assert label_measures(known, hidden, threshold=0.5)[1].tolist() == [[True, False]] * 3
    monkeypatch.setattr(critic, "qualities", lambda measures: torch.full(measures.shape[:-1], 0.8))
    values = critic.values(known, hidden, threshold=0.5)
    assert torch.equal(values[1], values[2])


def test_the_value_is_the_sum_of_qualities_over_the_larger_number_in_expectation(critic, begin, tiny, monkeypatch):
    known = critic.condition(begin(tiny, [0]).context)
    assert known.chances.sum().item() == pytest.approx(1, abs=1e-6)
    quarters = torch.zeros(1, 3, 32, 32)
    for t, (row, column) in enumerate(((0, 0), (0, 16), (16, 0))):
        quarters[:, t, row : row + 16, column : column + 16] = 0.9
    monkeypatch.setattr(critic, "qualities", lambda measures: torch.full(measures.shape[:-1], 0.8))
    chances = torch.tensor([[0.1, 0.4, 0.0, 0.25, 0.25]])  # of 0 to 4 instances
    values = critic.values(known._replace(chances=chances), quarters, threshold=0.5)[:, 0]
    one = 0.8 * (0.4 / 1 + 0.25 / 3 + 0.25 / 4)
    two = 1.6 * (0.4 / 2 + 0.25 / 3 + 0.25 / 4)
    three = 2.4 * (0.4 / 3 + 0.25 / 3 + 0.25 / 4)
    assert values.tolist() == pytest.approx([0, one, two, three])


def test_with_perfect_knowledge_the_value_of_disjoint_labels_is_their_symmetric_best_dice(critic, monkeypatch):
    truth = torch.zeros(16, 16, dtype=torch.int64)
    truth[:4, :4], truth[8:, 8:], truth[:4, 8:] = 1, 2, 3
    masks = torch.zeros(1, 2, 16, 16)
    masks[0, 0, :4, :5], masks[0, 1, 9:, 8:] = 1, 1
    known = OutcomeContext(torch.rand(1, 1, 16, 16), torch.zeros(1, 2, 16, 16), torch.eye(5)[3:4])
    fits = torch.tensor([[2 * 16 / (16 + 20), 2 * 56 / (56 + 64)]])
    monkeypatch.setattr(critic, "qualities", lambda measures: fits[:, : measures.shape[1]])
    values = critic.values(known, masks, threshold=0.5)[:, 0]
    for t, value in enumerate(values.tolist()):
        assert value == pytest.approx(
            segmentation_metrics(compose_label_map(masks[0, :t].numpy()), truth.numpy())["sbd"]
        )


@pytest.mark.parametrize(("size", "expected"), [((32, 32), (32, 32)), ((128, 200), (64, 100)), ((64, 127), (64, 127))])
def test_large_contexts_are_counted_in_coarsely(size, expected):
    assert OutcomeCritic.counting_planes(torch.rand(2, 12, *size)).shape == (2, 6, *expected)


def test_the_first_episode_is_that_of_the_policy_and_the_others_differ(agent, begin, tiny, choice):
    state = begin(tiny)
    plain, *others = (
        predict(agent.actor, tiny.autoencoder.decoder, state, None, 4, 4, offsets=offsets).masks
        for offsets in choice.offsets
    )
    assert torch.equal(plain, agent.predict_masks(state, 4, 4).masks)
    assert all((other - plain).abs().amax() > 1e-3 for other in others)


@pytest.mark.parametrize(("together", "expected_sizes"), [(4, [4, 2]), (8, [6])])
def test_episodes_that_are_played_at_once_are_those_that_are_played_one_after_the_other(
    choosing, begin, tiny, monkeypatch, together, expected_sizes
):
    played, condition = [], choosing.outcomes.critic.condition

    def note(actor, decoder, state, *others):
        played.append(len(state))
        return predict(actor, decoder, state, *others)

    # One scene surely has one instance and the other three, so that their episodes do not end together.
    counts = torch.eye(5)[[1, 3]]
    monkeypatch.setattr(
        choosing.outcomes.critic, "condition", lambda context: condition(context)._replace(chances=counts)
    )
    monkeypatch.setattr(outcomes, "predict", note)
    state, found = begin(tiny, [0, 2]), []
    for number in (1, together):
        monkeypatch.setattr(outcomes, "TOGETHER", number)
        found.append(choosing.predict_masks(state))
    assert played == [2, 2, 2, *expected_sizes]
    alone, at_once = found
    assert torch.equal(alone.num_masks, at_once.num_masks)
    for one, other in zip(alone.counted(), at_once.counted(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)
    choosing.outcomes = choosing.outcomes.among(1)
    first = choosing.predict_masks(state).masks[:, :1]
    assert (first - alone.masks[:, :1]).abs().max() > 1e-3  # some scene's best episode is not the first


def test_a_choice_depends_on_the_picture_alone(choosing, begin, tiny):
    state = begin(tiny)
    together = choosing.predict_masks(state)
    for scene in range(len(state)):
        alone = choosing.predict_masks(state.select(slice(scene, scene + 1)))
        assert alone.num_masks.item() == together.num_masks[scene]
        torch.testing.assert_close(alone.counted()[0], together.counted()[scene], atol=1e-4, rtol=0)


@pytest.fixture
def two_expected(choice, monkeypatch):
    """The critic is all but certain of two instances in every picture."""
    condition, chances = choice.critic.condition, torch.tensor([[0.0, 0.0, 0.99, 0.005, 0.005]])
    monkeypatch.setattr(
        choice.critic, "condition", lambda context: condition(context)._replace(chances=chances.repeat(len(context), 1))
    )


@pytest.mark.usefixtures("two_expected")
def test_further_masks_for_the_true_count_do_not_change_the_choice(choosing, begin, tiny):
    state = begin(tiny)
    found, longer = choosing.predict_masks(state), choosing.predict_masks(state, min_steps=6)
    assert (found.masks.shape[1], longer.masks.shape[1]) == (2, 6)
    assert torch.equal(found.num_masks, longer.num_masks)
    for few, many in zip(found.counted(), longer.counted(), strict=True):
        torch.testing.assert_close(few, many)


@pytest.mark.usefixtures("two_expected")
@pytest.mark.parametrize("cap", [2, 4])
def test_an_episode_ends_once_more_instances_are_unlikely_even_at_the_cap(choosing, begin, tiny, cap):
    found = choosing.predict_masks(begin(tiny), max_steps=cap)
    assert found.masks.shape[1] == 2
    assert found.stopped.all()


def test_where_there_may_be_any_number_of_instances_only_the_cap_ends_an_episode(
    choosing, begin, tiny, choice, monkeypatch
):
    condition = choice.critic.condition

    def condition_on_many(context):
        return condition(context)._replace(chances=torch.eye(SIZES.max_count + 1)[-1].repeat(len(context), 1))

    monkeypatch.setattr(choice.critic, "condition", condition_on_many)
    monkeypatch.setattr(choice.critic, "value", lambda known, measures, present: present.sum(1) + measures.shape[1])
    found = choosing.predict_masks(begin(tiny), max_steps=9)
    assert found.masks.shape[1] == 9
    assert found.num_masks.eq(9).all()
    assert not found.stopped.any()


def test_an_agent_that_chooses_outcomes_is_the_same_after_it_was_saved_and_shared(choosing, begin, tiny, tmp_path):
    state = begin(tiny)
    expected = choosing.predict_masks(state)
    choosing.save(tmp_path / "agent.pt")
    choosing.save_pretrained(tmp_path / "shared")
    for read in (Agent.load(tmp_path / "agent.pt"), Agent.from_pretrained(tmp_path / "shared")):
        assert read.outcomes.config == choosing.outcomes.config
        found = read.predict_masks(state)
        assert torch.equal(found.num_masks, expected.num_masks)
        assert torch.equal(found.masks, expected.masks)


def test_a_damaged_critic_is_named(choosing, tmp_path):
    state = choosing.state_dict()
    state["config"] = {**state["config"], "outcome_critic": {**state["config"]["outcome_critic"], "hidden": [8]}}
    with pytest.raises(ValueError, match="agent: outcome_critic"):
        Agent.from_state_dict(state, "agent")


def test_pictures_are_segmented_by_the_chosen_outcome(choosing):
    images = torch.randint(0, 256, (5, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    expected = choosing.predict_masks(choosing.source.begin_images(images, 4)).counted()
    found = choosing.segment([image.numpy() for image in images])
    for segmentation, masks in zip(found, expected, strict=True):
        assert len(segmentation) == len(masks)
        assert (segmentation.label_map == compose_label_map(masks)).mean() > 0.99
    assert len({len(masks) for masks in expected}) > 1


def test_the_number_of_episodes_can_be_changed(choosing, choice, begin, tiny):
    one = choose_among(choice, 1, "agent")
    assert (len(one.offsets), one.critic, one.config.spread) == (1, choice.critic, choice.config.spread)
    assert choose_among(choice, None, "agent") is choice
    with pytest.raises(ValueError, match="episodes must be at least 1, got 0"):
        choose_among(choice, 0, "agent")
    with pytest.raises(ValueError, match=r"leaves-64 plays one episode: .* got 2"):
        choose_among(None, 2, "leaves-64")
    state = begin(tiny)
    four = Agent(choosing.actor, tiny, max_steps=4, outcomes=choose_among(choice, 4, "agent"))
    first = Agent(choosing.actor, tiny, max_steps=4, outcomes=one).predict_masks(state).num_masks
    assert not torch.equal(four.predict_masks(state).num_masks, first)
