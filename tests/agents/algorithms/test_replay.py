"""Experience: what is kept, what is drawn, and that rows keep their context."""

import pytest
import torch

from agents.algorithms.replay import ReplayBuffer, Transitions, join, transitions
from agents.algorithms.rollout import discounted_returns, run_episodes


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def numbered(start, scene, size=2):
    """Steps with the returns `start`, `start + 1`, ...; every plane of a step holds a number that tells its scene."""
    scene = torch.tensor(scene)
    count = len(scene)
    number = torch.arange(start, start + count)
    planes = number.to(torch.uint8)[:, None, None, None].expand(-1, 1, size, size)
    context = (start + torch.arange(int(scene.max()) + 1)).to(torch.uint8)[:, None, None, None]
    return Transitions(
        context=context.expand(-1, 12, size, size),
        label_map=context[:, 0].long().expand(-1, size, size),
        scene=scene,
        step=number % 3,
        mask=planes,
        predicted_mask=planes + 100,
        remaining=number,
        reward=number + 0.5,
        returns=number.float(),
    )


def test_flattened_episodes_hold_every_step_with_its_own_scene_and_return(make_algorithm, baseline, begin, tiny):
    learner = make_algorithm(baseline).learner
    with torch.no_grad():
        episodes = run_episodes(learner.actor, learner.core.decoder, begin(tiny, [1, 9, 4]))
    flat = transitions(episodes, gamma=0.9)
    returns = discounted_returns(episodes, gamma=0.9)
    assert len(flat) == 4 + 3 + 1
    row = 0
    for step, step_returns in zip(episodes.steps, returns, strict=True):
        for scene in range(len(step.reward)):
            assert flat.scene[row] == scene
            assert flat.step[row] == 4 - step.remaining[0]
            assert flat.returns[row] == step_returns[scene]
            assert flat.reward[row] == step.reward[scene]
            assert flat.remaining[row] == step.remaining[scene]
            assert torch.equal(flat.mask[row], (step.mask[scene] * 255).round().byte())
            assert torch.equal(flat.predicted_mask[row], (step.predicted_mask[scene] * 255).round().byte())
            row += 1
    assert torch.equal(flat.context, (episodes.context * 255).round().byte())


def test_the_oldest_batch_leaves_when_the_buffer_is_full():
    buffer = ReplayBuffer(2)
    for start in (0, 10, 20):
        buffer.add(numbered(start, [0, 1, 0]))
    assert sorted(buffer.sample(100, generator()).returns.tolist()) == [10, 11, 12, 20, 21, 22]


@pytest.mark.parametrize("size", [1, 4, 9, 50])
def test_samples_are_rows_that_were_added_each_once_with_its_own_context(size):
    batches = [numbered(0, [0, 1, 2, 0, 1]), numbered(50, [0, 0]), numbered(90, [1, 0])]
    rows = {float(r): (b, i) for b in batches for i, r in enumerate(b.returns)}
    buffer = ReplayBuffer(3)
    for batch in batches:
        buffer.add(batch)
    for seed in range(20):
        sample = buffer.sample(size, generator(seed))
        assert len(sample) == len(set(sample.returns.tolist())) == min(size, 9)
        for i, number in enumerate(sample.returns.tolist()):
            batch, row = rows[number]
            for name in ("step", "mask", "predicted_mask", "remaining", "reward"):
                assert torch.equal(getattr(sample, name)[i], getattr(batch, name)[row]), name
            for name in ("context", "label_map"):
                assert torch.equal(getattr(sample, name)[sample.scene[i]], getattr(batch, name)[batch.scene[row]])
        assert sorted(set(sample.scene.tolist())) == list(range(len(sample.context)))  # no context is unused


def test_every_row_is_drawn_equally_often():
    buffer = ReplayBuffer(2)
    buffer.add(numbered(0, [0, 1, 0]))
    buffer.add(numbered(10, [0]))
    drawn = torch.cat([buffer.sample(1, generator(seed)).returns for seed in range(400)])
    counts = [int((drawn == number).sum()) for number in (0, 1, 2, 10)]
    assert sum(counts) == 400
    assert min(counts) > 60


def test_the_generator_decides_what_is_drawn():
    buffer = ReplayBuffer(1)
    buffer.add(numbered(0, [0] * 50))
    first, again, other = (buffer.sample(5, generator(seed)).returns.tolist() for seed in (0, 0, 1))
    assert first == again != other


def test_a_buffer_restored_from_its_state_draws_the_same_and_has_room_for_as_many():
    buffer, copy = ReplayBuffer(2), ReplayBuffer(2)
    buffer.add(numbered(0, [0, 1, 0]))
    buffer.add(numbered(10, [1, 0]))
    copy.add(numbered(200, [0]))  # is replaced
    copy.load_state_dict(buffer.state_dict())
    for each in (buffer, copy):
        each.add(numbered(20, [0, 0]))
    for seed in range(5):
        one, two = buffer.sample(3, generator(seed)), copy.sample(3, generator(seed))
        assert all(torch.equal(value, getattr(two, name)) for name, value in one.tensors().items())
    assert sorted(copy.sample(9, generator()).returns.tolist()) == [10, 11, 20, 21]


def test_processes_share_out_what_others_had_episode_by_episode():
    buffers = [ReplayBuffer(2) for _ in range(2)]
    for number, buffer in enumerate(buffers):
        buffer.add(numbered(100 * number, [0, 1, 2, 0]))
        buffer.add(numbered(100 * number + 50, [0]))
    states = [buffer.state_dict() for buffer in buffers]
    drawn = []
    for rank in range(3):
        share = ReplayBuffer(2)
        share.load_share(states, rank, 3)
        drawn.append(sorted(share.sample(100, generator()).returns.tolist()))
    assert sorted(number for share in drawn for number in share) == [0, 1, 2, 3, 50, 100, 101, 102, 103, 150]
    assert drawn[0] == [0, 3, 50, 100, 103]  # whole episodes: both steps of the first, and every third after it


def test_joined_parts_keep_the_context_of_every_step():
    parts = [numbered(0, [0, 1, 0]), numbered(40, [0]), numbered(80, [1, 0])]
    joined = join(parts)
    assert joined.returns.tolist() == [0, 1, 2, 40, 80, 81]
    assert joined.context[joined.scene, 0, 0, 0].tolist() == [0, 1, 0, 40, 81, 80]


@pytest.mark.parametrize("parts", [1, 2, 4])
def test_micro_batches_are_all_steps_in_order(parts):
    whole = numbered(0, [0, 1, 2, 0, 1, 2, 3])
    split = whole.split(parts)
    assert len(split) == parts
    assert torch.cat([part.returns for part in split]).tolist() == list(range(7))
    assert max(map(len, split)) - min(map(len, split)) <= 1


def test_sampling_from_an_empty_buffer_is_an_error_that_says_so():
    with pytest.raises(ValueError, match="empty"):
        ReplayBuffer(2).sample(1, generator())
