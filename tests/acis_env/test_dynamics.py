"""The decision process on scenes checked by hand, and against slow loops over pixels."""

from copy import deepcopy
from dataclasses import fields

import numpy as np
import pytest
import torch

from acis_env import dynamics, tree
from acis_env.context import oracle_context
from acis_env.dynamics import Rules, is_complete, label_prediction, prefill, reset, step
from acis_env.matching import from_scratch
from acis_env.reward import instance_areas, score


class SpelledOut:
    """A decoder whose action `[B, H * W]` is the mask itself."""

    def condition(self, context):
        return (context[:, :1],)

    def __call__(self, latent, conditioning):
        return latent.view(-1, *conditioning[0].shape[1:])


def spelled_out_episode(label_map, max_steps=4, max_instances=3, accumulated_mask=None):
    """One scene in which an action is a mask."""
    label_map = torch.as_tensor(label_map)[None]
    context = torch.zeros(1, 12, *label_map.shape[1:])
    return reset(context, label_map, SpelledOut(), max_instances, max_steps, accumulated_mask)


def take(state, mask, name="dice"):
    """One step in a scene of `spelled_out_episode`: new state and reward."""
    state, reward = step(
        state, torch.as_tensor(mask, dtype=torch.float32).reshape(1, -1), SpelledOut(), Rules(score=name)
    )
    return state, float(reward)


@pytest.fixture
def decoder(pretrained):
    return pretrained.autoencoder.decoder.freeze()


@pytest.fixture
def batch(scenes):
    """Oracle contexts `[5, 12, 32, 32]` and label maps of 2, 3, 1, 4 and 3 instances."""
    images = torch.from_numpy(np.stack([scene.image for scene in scenes]))
    label_maps = torch.from_numpy(np.stack([scene.label_map for scene in scenes])).long()
    return oracle_context(images, label_maps, 4), label_maps


@pytest.fixture
def latents():
    """Six actions for each of five scenes, `[6, 5, l]`."""
    return 1.5 * torch.randn(6, 5, 4, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def play(batch, decoder, latents):
    """A function that plays `steps` steps in the five scenes: the states from the reset on, and the rewards."""

    def run(steps, score_name="dice"):
        states, rewards = [reset(*batch, decoder, 4, 6)], []
        for latent in latents[:steps]:
            state, reward = step(states[-1], latent, decoder, Rules(score=score_name))
            states.append(state)
            rewards.append(reward)
        return states, rewards

    return run


def test_the_masks_of_the_tests_differ(play):
    # Or else the tests below would hold for a decoder that ignores its action.
    states, _ = play(3)
    masks = torch.stack([state.predicted_mask for state in states[1:]])
    assert masks.std(0).mean() > 0.1
    assert masks.min() < 0.1
    assert masks.max() > 0.9


def test_a_new_episode_has_seen_nothing(play, batch):
    state = play(0)[0][0]
    context, label_maps = batch
    assert len(state) == 5
    assert state.num_instances.tolist() == [2, 3, 1, 4, 3]
    assert state.areas[2].tolist() == [17 * 21, 0, 0, 0]
    torch.testing.assert_close(state.context, context)
    assert state.label_map.dtype == state.owner.dtype == torch.int8
    assert torch.equal(state.label_map.long(), label_maps)
    for empty in (state.accumulated_mask, state.predicted_mask, state.owner, state.scores, state.potential):
        assert not empty.any()
    assert (state.assignment == -1).all()
    assert state.step_count.tolist() == [0] * 5


def test_a_step_takes_the_maximum_of_the_accumulated_and_the_decoded_mask(play, batch, decoder, latents):
    states, _ = play(4)
    conditioning = decoder.condition(batch[0])
    accumulated = torch.zeros(5, 1, 32, 32)
    for latent, state in zip(latents, states[1:], strict=False):
        mask = torch.sigmoid(decoder.logits(latent, conditioning))
        accumulated = torch.maximum(accumulated, mask)
        torch.testing.assert_close(state.predicted_mask, mask)
        torch.testing.assert_close(state.accumulated_mask, accumulated)


def test_a_given_mask_stays_part_of_the_accumulated_mask(batch, decoder, latents):
    given = torch.rand(5, 1, 32, 32, generator=torch.Generator().manual_seed(1))
    state = reset(*batch, decoder, 4, 6, given)
    torch.testing.assert_close(state.accumulated_mask, given)
    state, _ = step(state, latents[0], decoder)
    torch.testing.assert_close(state.accumulated_mask, torch.maximum(given, state.predicted_mask))


def test_a_step_leaves_the_state_before_it_alone(play, batch, decoder, latents):
    state = play(1)[0][1]
    before = [tensor.clone() for tensor in state.tensors()]
    step(state, latents[1], decoder)
    for tensor, copy in zip(state.tensors(), before, strict=True):
        assert torch.equal(tensor, copy)


@pytest.mark.parametrize("name", ["dice", "iou"])
def test_the_reward_is_the_growth_of_the_potential_of_all_masks_so_far(play, batch, name):
    states, rewards = play(6, name)
    areas = instance_areas(batch[1], 4)
    scores = torch.stack([score(state.predicted_mask[:, 0], batch[1], areas, name) for state in states[1:]], dim=1)
    before = torch.zeros(5)
    for taken, reward in enumerate(rewards, start=1):
        _, after = from_scratch(scores, torch.full((5,), taken), states[0].num_instances)
        torch.testing.assert_close(reward, after - before, atol=1e-5, rtol=0)
        before = after


@pytest.mark.parametrize("name", ["dice", "iou"])
def test_rewards_are_never_negative_and_sum_to_the_final_potential(play, name):
    states, rewards = play(6, name)
    assert torch.stack(rewards).min() >= 0
    torch.testing.assert_close(torch.stack(rewards).sum(0), states[-1].potential, atol=1e-5, rtol=0)
    assert states[-1].potential.min() > 0


def test_an_episode_of_exact_masks_earns_one_per_instance():
    label_map = np.array([[1, 1, 0, 2], [3, 0, 0, 2]])
    state = spelled_out_episode(label_map)
    for label in (2, 3, 1):
        state, reward = take(state, label_map == label)
        assert reward == pytest.approx(1)
    assert state.potential.tolist() == [pytest.approx(3)]
    assert state.assignment.tolist() == [[1, 2, 0, -1]]


def test_predicting_an_instance_again_earns_nothing():
    label_map = np.array([[1, 1, 0, 2], [3, 0, 0, 2]])
    state, first = take(spelled_out_episode(label_map), label_map == 1)
    state, second = take(state, label_map == 1)
    assert (first, second) == (pytest.approx(1), 0)


def test_rewards_of_a_scene_worked_out_by_hand():
    label_map = np.array([[1, 1, 0, 2], [0, 0, 0, 2]])
    # All ones, area 8: dice 2 * 2 / (8 + 2) with either instance.
    state, reward = take(spelled_out_episode(label_map), np.ones((2, 4)))
    assert reward == pytest.approx(0.4)
    # Half of instance 1: dice 2 * 1 / (1 + 2); the first mask moves to instance 2.
    state, reward = take(state, [[1, 0, 0, 0], [0, 0, 0, 0]])
    assert reward == pytest.approx(2 / 3)
    # All of instance 1 takes it from the half of it, whose 2 / 3 are lost.
    state, reward = take(state, label_map == 1)
    assert reward == pytest.approx(1 / 3)
    assert state.assignment.tolist() == [[1, -1, 0, -1]]


def test_the_soft_iou_of_a_scene_worked_out_by_hand():
    label_map = np.array([[1, 1, 0, 2], [0, 0, 0, 2]])
    _, reward = take(spelled_out_episode(label_map), [[0.5, 1, 0, 0], [0, 0, 0.5, 0]], "iou")
    assert reward == pytest.approx(1.5 / 2.5)


def test_an_empty_mask_earns_nothing():
    _, reward = take(spelled_out_episode([[1, 1], [0, 0]]), np.zeros((2, 2)))
    assert reward == 0


def test_a_scene_earns_the_same_alone_and_in_a_batch(play, batch, decoder, latents):
    states, rewards = play(6)
    for scene in range(5):
        only = slice(scene, scene + 1)
        state = reset(batch[0][only], batch[1][only], decoder, 4, 6)
        for taken in range(6):
            state, reward = step(state, latents[taken, only], decoder)
            torch.testing.assert_close(reward, rewards[taken][only], atol=1e-5, rtol=0)
        assert torch.equal(state.assignment, states[-1].assignment[only])


def test_more_room_for_instances_and_steps_changes_no_reward(batch, decoder, latents, play):
    _, rewards = play(4)
    state = reset(*batch, decoder, 9, 13)
    for latent, expected in zip(latents, rewards, strict=False):
        state, reward = step(state, latent, decoder)
        torch.testing.assert_close(reward, expected)


def test_an_episode_is_complete_after_as_many_steps_as_instances(play):
    states, _ = play(5)
    complete = [is_complete(state).tolist() for state in states]
    assert complete == [[taken >= count for count in (2, 3, 1, 4, 3)] for taken in range(6)]


def test_the_predicted_mask_carries_a_gradient_to_the_action_and_the_reward_none(batch, decoder, latents):
    state = reset(*batch, decoder, 4, 6)
    latent = latents[0].clone().requires_grad_()
    next_state, reward = step(state, latent, decoder)
    assert not reward.requires_grad
    assert not next_state.potential.requires_grad
    assert not next_state.scores.requires_grad
    for mask in (next_state.predicted_mask, next_state.accumulated_mask):
        (gradient,) = torch.autograd.grad(mask.sum(), latent, retain_graph=True)
        assert (gradient.abs().sum(1) > 0).all()


def labels_by_pixel(masks, threshold):
    """The prediction that is largest at each pixel, counted from 1, or 0 if even that is below `threshold`."""
    steps, height, width = masks.shape
    labels = np.zeros((height, width), np.int64)
    for row in range(height):
        for column in range(width):
            winner = max(range(steps), key=lambda t: masks[t, row, column])
            if masks[winner, row, column] >= threshold:
                labels[row, column] = winner + 1
    return labels


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.9])
def test_the_label_map_gives_each_pixel_to_the_most_probable_mask(play, threshold):
    states, _ = play(4)
    for scene in range(5):
        masks = np.stack([state.predicted_mask[scene, 0].numpy() for state in states[1:]])
        prediction = label_prediction(states[-1], threshold)[scene]
        assert prediction.dtype == torch.int64
        np.testing.assert_array_equal(prediction, labels_by_pixel(masks, threshold))


def test_labels_of_a_scene_worked_out_by_hand():
    state, _ = take(spelled_out_episode([[1, 1, 2, 2]]), [0.9, 0.6, 0.2, 0.4])
    assert label_prediction(state).tolist() == [[[1, 1, 0, 0]]]
    state, _ = take(state, [0.1, 0.7, 0.5, 0.3])
    assert label_prediction(state).tolist() == [[[1, 2, 2, 0]]]
    assert label_prediction(state, threshold=0.35).tolist() == [[[1, 2, 2, 1]]]


def test_given_instances_are_in_no_predicted_label():
    given = torch.tensor([[[[1.0, 1.0, 0.0, 0.0]]]])
    state = spelled_out_episode([[0, 0, 1, 1]], accumulated_mask=given)
    assert not label_prediction(state).any()
    state, _ = take(state, [0.9, 0.2, 0.9, 0.9])
    assert label_prediction(state).tolist() == [[[0, 0, 1, 1]]]


def random_label_maps(seed, batch=4, capacity=6, size=(8, 9)):
    """Label maps with different numbers of instances, all labels present; the last scene has none."""
    rng = np.random.default_rng(seed)
    counts = [*rng.integers(1, capacity + 1, batch - 1), 0]
    maps = [rng.integers(0, count + 1, size) for count in counts]
    for label_map, count in zip(maps, counts, strict=True):
        label_map.ravel()[rng.permutation(label_map.size)[:count]] = np.arange(1, count + 1)
    return torch.from_numpy(np.stack(maps)), counts, torch.from_numpy(rng.random((batch, capacity)))


@pytest.mark.parametrize("sequence_length", [1, 2, 4, 6, 10])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_prefilling_leaves_the_instances_of_highest_priority_and_gives_the_union_of_the_others(seed, sequence_length):
    label_maps, counts, priority = random_label_maps(seed)
    remaining, given = prefill(label_maps, sequence_length, priority)
    assert remaining.dtype == torch.int64
    assert given.shape == (4, 1, 8, 9)
    for scene, count in enumerate(counts):
        by_priority = sorted(range(1, count + 1), key=lambda label: -priority[scene, label - 1])
        kept = sorted(by_priority[:sequence_length])
        expected = torch.zeros(8, 9, dtype=torch.int64)
        for new_label, label in enumerate(kept, start=1):
            expected[label_maps[scene] == label] = new_label
        assert torch.equal(remaining[scene], expected)
        union = (label_maps[scene] > 0) & (expected == 0)
        assert torch.equal(given[scene, 0], union.float())


def test_no_pixel_is_both_given_and_to_be_found():
    label_maps, counts, priority = random_label_maps(seed=3)
    remaining, given = prefill(label_maps, 2, priority)
    assert not ((remaining > 0) & (given[:, 0] > 0)).any()
    assert torch.equal((remaining > 0) | (given[:, 0] > 0), label_maps > 0)
    assert remaining.flatten(1).amax(1).tolist() == [min(count, 2) for count in counts]


def test_selected_episodes_are_the_ones_at_the_index(play):
    state = play(2)[0][-1]
    index = torch.tensor([3, 0])
    mask = torch.tensor([True, False, False, True, False])
    for picked, order in (
        (state.select(index), [3, 0]),
        (state.select(mask), [0, 3]),
        (state.select(slice(1, 3)), [1, 2]),
    ):
        for part, whole in zip(picked.tensors(), state.tensors(), strict=True):
            assert torch.equal(part, torch.stack([whole[i] for i in order]))


def test_writing_replaces_the_episodes_at_the_index_and_no_others_in_the_same_memory(play):
    states, _ = play(3)
    written, new = states[3].map(torch.clone), states[1].select(torch.tensor([4, 2]))
    memory = [tensor.data_ptr() for tensor in written.tensors()]
    written.write(torch.tensor([1, 3]), new)
    for result, kept, fresh in zip(written.tensors(), states[3].tensors(), new.tensors(), strict=True):
        assert torch.equal(result[[0, 2, 4]], kept[[0, 2, 4]])
        assert torch.equal(result[[1, 3]], fresh)
    assert written.step_count.tolist() == [3, 1, 3, 1, 3]
    assert [tensor.data_ptr() for tensor in written.tensors()] == memory


def test_no_two_tensors_of_a_new_episode_share_memory(play):
    tensors = play(0)[0][0].tensors()
    assert len({tensor.untyped_storage().data_ptr() for tensor in tensors}) == len(tensors)


def test_mapping_visits_every_tensor_of_a_state(play):
    state = play(1)[0][-1]
    assert len(state.tensors()) == len(fields(state)) - 2 + len(tree.tensors(state.conditioning))
    doubled = state.map(lambda x: x + x)
    for after, before in zip(doubled.tensors(), state.tensors(), strict=True):
        assert torch.equal(after, 2 * before)


def test_a_label_map_does_not_change_the_transition(batch, decoder, latents):
    context, label_maps = batch
    first, _ = dynamics.step(reset(context, label_maps, decoder, 4, 6), latents[0], decoder)
    second, _ = dynamics.step(reset(context, label_maps.flip(1), decoder, 4, 6), latents[0], decoder)
    assert torch.equal(first.accumulated_mask, second.accumulated_mask)


@pytest.mark.parametrize("rules", [Rules(), Rules(score="iou", reward="greedy", count_penalty=0.1)])
def test_a_step_asks_no_device_for_a_value(play, decoder, latents, rules):
    """Tensors of the meta device have none, so whatever would make the host wait on a GPU raises there."""
    state = play(1)[0][-1].map(lambda x: x.to("meta"))
    latent = latents[1].to("meta")
    after, reward = step(state, latent, deepcopy(decoder).to("meta"), rules)
    after = dynamics.hold(state, after, reward > 0)
    assert [x.shape for x in after.tensors()] == [x.shape for x in state.tensors()]
    assert [x.dtype for x in after.tensors()] == [x.dtype for x in state.tensors()]
    for flag in (is_complete(after), dynamics.is_cut(after)):
        assert flag.shape == reward.shape == (5,)
    assert label_prediction(after).shape == (5, 32, 32)
