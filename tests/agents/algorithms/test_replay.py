"""Experience: what is kept, what is drawn, and that rows keep their context."""

import pytest
import torch

from agents.algorithms.replay import ReplayBuffer, Transitions, transitions
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
        scene=scene,
        mask=planes,
        predicted_mask=planes + 100,
        remaining=number,
        reward=number + 0.5,
        returns=number.float(),
        number=torch.arange(count),
        total=count,
    )


def test_flattened_episodes_hold_every_step_with_its_own_scene_and_return(make_learner, begin, tiny):
    learner = make_learner()
    with torch.no_grad():
        episodes = run_episodes(learner.actor, learner.decoder, begin(tiny, [1, 9, 4]))
    flat = transitions(episodes, gamma=0.9)
    returns = discounted_returns(episodes, gamma=0.9)
    assert len(flat) == 4 + 3 + 1
    row = 0
    for step, step_returns in zip(episodes.steps, returns, strict=True):
        for scene in range(len(step.reward)):
            assert flat.scene[row] == scene
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
            for name in ("mask", "predicted_mask", "remaining", "reward"):
                assert torch.equal(getattr(sample, name)[i], getattr(batch, name)[row]), name
            assert torch.equal(sample.context[sample.scene[i]], batch.context[batch.scene[row]])
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
        assert all(torch.equal(value, getattr(two, name)) for name, value in vars(one).items() if name != "total")
    assert sorted(copy.sample(9, generator()).returns.tolist()) == [10, 11, 20, 21]


def test_sampling_from_an_empty_buffer_is_an_error_that_says_so():
    with pytest.raises(ValueError, match="empty"):
        ReplayBuffer(2).sample(1, generator())
