"""What a person does to an episode: accept, undo, nudge, ask for an instance."""

import numpy as np
import pytest
import torch

from acis_env import dynamics
from acis_env.datasets.preprocessing import ShorterSide, Tile
from agents.models.agent import Agent
from agents.watch.session import FARTHEST, NUM_DIRECTIONS, Session


def numbers(session):
    """All numbers of the moment that a session is in, and what it shows."""
    now = session.now
    tensors = [*now.state.tensors(), now.memory, *(c.latent for c in now.candidates)]
    values = [now.continue_probability, now.reward, *((c.kind, c.value, c.reward) for c in now.candidates)]
    return [tensor.clone() for tensor in tensors], values, session.label_map().copy()


def same(one, other):
    return (
        len(one[0]) == len(other[0])
        and all(map(torch.equal, one[0], other[0]))
        and one[1] == other[1]
        and np.array_equal(one[2], other[2])
    )


def test_undo_returns_exactly_the_earlier_state(searching, plant):
    session = Session(searching, plant.image, plant.label_map)
    first = numbers(session)
    session.accept(2)
    second = numbers(session)
    session.accept()
    assert not same(numbers(session), second)
    session.undo()
    assert same(numbers(session), second)
    session.undo()
    assert same(numbers(session), first)


def test_the_way_after_an_undo_is_that_which_would_have_been_taken_at_once(searching, plant):
    session, straight = (Session(searching, plant.image, plant.label_map) for _ in range(2))
    session.accept(3)
    session.nudge(0, [1.0] * NUM_DIRECTIONS)
    session.undo()
    for each in (session, straight):
        each.accept(1)
        each.accept(0)
    assert same(numbers(session), numbers(straight))


@pytest.mark.parametrize("critic", [False, True])
@pytest.mark.parametrize("count", [0, 3, 6])
def test_accepting_what_the_agent_would_take_gives_the_label_map_of_segment(
    agent, searching, plant, critic, count, stop_after
):
    chosen = searching if critic else agent
    chosen.selection = searching.selection if critic else None
    picture = np.ascontiguousarray(plant.image.repeat(2, axis=1).repeat(2, axis=2))  # larger than the networks
    stop_after(chosen.actor, [count])
    expected = chosen.segment(picture)
    stop_after(chosen.actor, [count])
    session = Session(chosen, picture)
    session.finish()
    assert session.step == len(expected) == count
    assert session.agent_stops
    assert np.array_equal(session.label_map(), expected.label_map)


def test_the_first_candidate_of_an_agent_without_a_critic_is_the_mean_of_its_policy(agent, plant):
    session = Session(agent, plant.image)
    state = session.now.state
    out = agent.actor(agent.actor.condition(state.context), state.accumulated_mask, agent.actor.initial_memory(1))
    choice, *others = session.now.candidates
    assert torch.equal(choice.latent, out.mean)
    assert not any(torch.equal(other.latent, out.mean) for other in others)
    assert [c.value for c in session.now.candidates] == [None] * len(session.now.candidates)


def test_no_candidate_has_a_larger_value_than_the_choice_of_a_critic(searching, plant):
    session = Session(searching, plant.image)
    for _ in range(3):
        choice, *others = session.now.candidates
        assert choice.kind == "choice"
        assert others
        assert choice.value >= max(other.value for other in others)
        session.accept(1)


def test_rewards_are_the_growth_of_the_potential_and_are_known_before_a_mask_is_accepted(agent, plant):
    session = Session(agent, plant.image, plant.label_map)
    total = 0.0
    for index in (1, 0, 3):
        promised = session.now.candidates[index].reward
        session.accept(index)
        assert session.now.reward == promised
        total += promised
        assert session.potential == pytest.approx(total)
    assert total > 0
    assert session.num_instances == plant.num_instances


def test_a_candidate_shows_the_mask_that_its_code_decodes_to(agent, plant):
    session = Session(agent, plant.image)
    for candidate in session.now.candidates:
        after = dynamics.transition(session.now.state, candidate.latent, agent.decoder)
        assert np.array_equal(candidate.mask, after.predicted_mask[0, 0].numpy())


def test_without_the_truth_nothing_is_said_of_rewards(agent, plant):
    session = Session(agent, plant.image)
    session.accept()
    assert session.potential is session.num_instances is session.now.reward is None
    assert all(candidate.reward is None for candidate in session.now.candidates)


def test_the_truth_changes_no_mask(agent, plant):
    informed, blind = Session(agent, plant.image, plant.label_map), Session(agent, plant.image)
    for session in (informed, blind):
        session.finish()
    assert np.array_equal(informed.label_map(), blind.label_map())


def test_a_nudge_moves_the_mask_and_the_more_the_farther_it_goes(agent, plant):
    session = Session(agent, plant.image)
    before = session.now.candidates[0].mask
    changes = []
    for amount in (0.2, 1.0):
        session.nudge(0, [amount, *[0.0] * (NUM_DIRECTIONS - 1)])
        nudged = session.now.candidates[-1]
        assert nudged.kind == "nudged"
        assert nudged.mask.sum() > before.sum()  # along a direction, masks grow
        changes.append(np.abs(nudged.mask - before).sum())
    assert 0 < changes[0] < changes[1]
    assert [c.kind for c in session.now.candidates].count("nudged") == 1


def test_a_nudge_by_nothing_is_the_mask_itself(agent, plant):
    session = Session(agent, plant.image)
    session.nudge(1, [0.0] * NUM_DIRECTIONS)
    assert np.array_equal(session.now.candidates[-1].mask, session.now.candidates[1].mask)


def test_a_nudged_mask_that_is_accepted_is_in_the_label_map(agent, plant):
    session = Session(agent, plant.image)
    session.nudge(0, [FARTHEST] * NUM_DIRECTIONS)
    nudged = session.now.candidates[-1].mask
    session.accept(len(session.now.candidates) - 1)
    assert (nudged >= 0.5).any()
    assert np.array_equal(session.label_map() == 1, nudged >= 0.5)


def test_what_is_asked_for_holds_the_point_that_was_clicked(plant):
    agent = Agent.load("leaves-64")
    image, truth = (np.ascontiguousarray(x.repeat(3, -1).repeat(3, -2)) for x in (plant.image, plant.label_map))
    session = Session(agent, image, truth)
    y, x = (int(np.median(rows)) for rows in np.nonzero(truth == plant.num_instances))
    session.ask(y, x)
    asked = session.now.candidates[-1]
    session.accept(len(session.now.candidates) - 1)
    assert asked.kind == "asked for"
    assert session.label_map()[y, x] == 1
    with pytest.raises(ValueError, match=r"no instance was found at row 0, column 0"):
        session.ask(0, 0)


def test_a_click_finds_the_pixel_in_a_picture_that_was_scaled_and_cropped(agent):
    agent.preprocessing = ShorterSide((32, 32))
    session = Session(agent, np.zeros((64, 128, 3), np.uint8))  # halved, and 16 columns cut off on both sides
    assert session._in_window(63, 32) == (31, 0)
    assert session._in_window(0, 95) == (0, 31)
    with pytest.raises(ValueError, match=r"row 0, column 31 lies outside"):
        session.ask(0, 31)


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda s: s.undo(), "there is no mask to take back"),
        (lambda s: s.accept(99), r"candidate must be from 0 to 7, got 99"),
        (lambda s: s.accept(-1), r"candidate must be from 0 to 7, got -1"),
        (lambda s: s.nudge(0, [1.0]), r"amounts must be 4 numbers from -3 to 3, got \[1.0\]"),
        (lambda s: s.nudge(0, [0, 0, 0, float("nan")]), "amounts must be 4 numbers"),
        (lambda s: s.nudge(0, [0, 0, 0, 3.5]), "amounts must be 4 numbers"),
        (lambda s: s.nudge(0, [0, 0, 0, -float("inf")]), "amounts must be 4 numbers"),
        (lambda s: s.nudge(0, [0, 0, 0, 10**400]), "amounts must be 4 numbers"),
        (lambda s: s.ask(32, 0), r"row and column must be in the picture of 32x32, got 32 and 0"),
    ],
)
def test_what_cannot_be_done_is_refused_and_changes_nothing(agent, plant, act, message):
    session = Session(agent, plant.image, plant.label_map)
    before = numbers(session)
    with pytest.raises(ValueError, match=message):
        act(session)
    assert same(numbers(session), before)


def test_an_episode_has_no_more_masks_than_its_cap(agent, plant):
    session = Session(agent, plant.image, plant.label_map, max_steps=2)
    session.accept()
    session.accept()
    assert session.agent_stops
    assert session.now.candidates == ()
    for act in (session.accept, lambda: session.ask(3, 3), lambda: session.nudge(0, [0.0] * 4)):
        with pytest.raises(ValueError, match="there are 2 masks, the most that an episode has here: take one back"):
            act()
    session.undo()
    session.accept()
    assert session.step == 2


def test_a_picture_of_several_windows_is_refused_with_the_size_that_fits(agent):
    agent.preprocessing = Tile((32, 32))
    with pytest.raises(ValueError, match=r"picture of 40x32 \(height x width\) into 2 windows.*at most 32x32"):
        Session(agent, np.zeros((40, 32, 3), np.uint8))
