"""A snapshot of some slots, put back, replays what followed it."""

import re

import numpy as np
import pytest
import torch

COLOURFUL = {"rotation": 20, "brightness": 0.2, "saturation": 0.3}


def go_on(envs, actions):
    return [envs.step(action) for action in actions]


@pytest.mark.parametrize("mode", ["SameStep", "NextStep"])
@pytest.mark.parametrize("sampler", ["random", "shuffle", "sequential"])
def test_a_snapshot_replays_what_followed_it_bit_by_bit(make_vec, random_actions, assert_same, mode, sampler):
    options = {"augmentation": COLOURFUL, "sampler": sampler, "autoreset_mode": mode, "matching_noise": 0.2}
    envs, another = make_vec(3, **options), make_vec(3, **options)
    actions = random_actions(14, 3)
    envs.reset(seed=1)
    go_on(envs, actions[:3])  # in NEXT_STEP some slots wait for their reset now, or sat one step out
    snapshot = envs.get_state()
    expected = go_on(envs, actions[3:])
    assert any(result[2].any() for result in expected[:-1])
    envs.set_state(snapshot)
    assert_same(go_on(envs, actions[3:]), expected)
    another.set_state(snapshot)
    assert_same(go_on(another, actions[3:]), expected)


def test_a_snapshot_keeps_that_an_episode_is_over(make_vec, random_actions):
    envs, another = make_vec(2, autoreset_mode="Disabled"), make_vec(2, autoreset_mode="Disabled")
    envs.reset(options={"scene_index": [2, 3]})
    action = random_actions(1, 2)[0]
    envs.step(action)
    another.set_state(envs.get_state())
    with pytest.raises(RuntimeError, match=r"slots \[0\] are over"):
        another.step(action)


def test_a_snapshot_of_some_slots_replays_in_these_and_leaves_the_others_alone(
    make_vec, random_actions, rows, assert_same
):
    envs = make_vec(4, augmentation=COLOURFUL)
    actions = random_actions(10, 4)
    envs.reset(seed=1)
    go_on(envs, actions[:2])
    snapshot = envs.get_state([3, 1])
    first = go_on(envs, actions[2:6])
    others = envs.get_state([0, 2])
    envs.set_state(snapshot, [3, 1])
    assert_same(envs.get_state([0, 2]).state.tensors(), others.state.tensors())
    assert envs.get_state([0, 2]).samplers == others.samplers
    assert_same(rows(go_on(envs, actions[2:6]), [1, 3]), rows(first, [1, 3]))


def test_the_snapshot_of_one_slot_can_be_taken_up_by_another(make_vec, random_actions, rows, assert_same):
    envs = make_vec(3, augmentation=COLOURFUL)
    actions = random_actions(8, 3)
    actions[:, 0] = actions[:, 2]
    envs.reset(seed=1)
    envs.set_state(envs.get_state([2]), [0])
    for result in go_on(envs, actions):
        observations, rewards, _, _, infos = result
        assert_same(observations["image"][0], observations["image"][2])
        assert_same(infos["augmentation"][0], infos["augmentation"][2])
        torch.testing.assert_close(rewards[0], rewards[2])


def test_a_snapshot_is_a_copy(make_vec, random_actions, assert_same):
    envs = make_vec(3)
    actions = random_actions(6, 3)
    envs.reset(seed=1)
    snapshot = envs.get_state()
    kept = [tensor.clone() for tensor in snapshot.state.tensors()]
    expected = go_on(envs, actions)
    assert_same(snapshot.state.tensors(), kept)
    envs.set_state(snapshot)
    for tensor in (*snapshot.state.tensors(), snapshot.is_over, snapshot.scene_index, snapshot.augmentation):
        tensor.fill_(0)
    assert_same(go_on(envs, actions), expected)


def test_the_single_environment_replays_a_snapshot(make_env, random_actions):
    env, another = make_env(augmentation=COLOURFUL), make_env(augmentation=COLOURFUL)
    actions = random_actions(4)[:, 0]
    env.reset(seed=0, options={"scene_index": 3})
    env.step(actions[0])
    snapshot = env.get_state()

    def rest(of):
        steps = [of.step(action) for action in actions[1:]]
        return [step[1:4] for step in steps], [step[0]["mask"].tobytes() for step in steps], of.reset()[0]["image"]

    expected = rest(env)
    for other in (env, another):
        other.set_state(snapshot)
        found = rest(other)
        assert found[:2] == expected[:2]
        np.testing.assert_array_equal(found[2], expected[2])


def test_a_snapshot_of_another_number_of_slots_is_refused(make_vec):
    envs = make_vec(3)
    envs.reset(seed=0)
    with pytest.raises(ValueError, match="env_ids must name 2 slots as the snapshot does, got 3"):
        envs.set_state(envs.get_state([0, 1]))
    with pytest.raises(ValueError, match="env_ids must name 3 slots as the snapshot does, got 1"):
        envs.set_state(envs.get_state(), [0])


@pytest.mark.parametrize("env_ids", [[True, False], [0.5], ["a"], 0, [2], [-1], torch.tensor([True, False])])
def test_what_is_no_list_of_slots_is_named(make_vec, env_ids):
    envs = make_vec(2)
    envs.reset(seed=0)
    with pytest.raises(ValueError, match=re.escape(f"env_ids must be slots, ints from 0 to 1, got {env_ids!r}")):
        envs.get_state(env_ids)


@pytest.mark.parametrize("kind", [torch.tensor, np.array, tuple, lambda slots: [torch.tensor(slot) for slot in slots]])
def test_slots_may_be_a_tensor_or_an_array(make_vec, assert_same, kind):
    envs = make_vec(3)
    envs.reset(seed=0)
    snapshot = envs.get_state(kind([2, 0]))
    assert torch.equal(snapshot.scene_index, envs.get_state([2, 0]).scene_index)
    envs.set_state(snapshot, kind([0, 1]))
    assert torch.equal(envs.get_state().scene_index[:2], snapshot.scene_index)


def test_there_is_no_snapshot_before_the_first_episode(make_vec):
    with pytest.raises(RuntimeError, match=r"call reset\(\)"):
        make_vec().get_state()


def test_a_first_snapshot_must_be_of_all_slots(make_vec):
    envs, fresh = make_vec(3), make_vec(3)
    envs.reset(seed=0)
    with pytest.raises(RuntimeError, match="must fill all 3 slots"):
        fresh.set_state(envs.get_state([1]), [1])


@pytest.mark.parametrize("is_fresh", [True, False])
def test_a_snapshot_of_other_sizes_is_refused(make_vec, make_scenes, scenes, is_fresh):
    envs, smaller = make_vec(2), make_vec(2, scenes=make_scenes(scenes[:2]))
    envs.reset(seed=0)
    if not is_fresh:
        smaller.reset(seed=0)
    with pytest.raises(ValueError, match="snapshot"):
        smaller.set_state(envs.get_state())


def test_a_snapshot_of_other_scenes_or_of_another_order_is_refused(make_vec, make_scenes, scenes):
    envs = make_vec(2, sampler="shuffle")
    envs.reset(seed=0)
    fuller = make_scenes(sorted(scenes, key=lambda scene: scene.num_instances)[1:])  # as many steps and instances
    for other, found in ((make_vec(2, sampler="shuffle", scenes=fuller), "scenes in shuffle"), (make_vec(2), "random")):
        other.reset(seed=0)
        before = other.get_state()
        with pytest.raises(ValueError, match=rf"snapshot must be of .*{found}.* got {len(scenes)} in shuffle order"):
            other.set_state(envs.get_state())
        assert other.get_state().samplers == before.samplers


@pytest.mark.parametrize(("before", "after"), [("potential", "sbd"), ("sbd", "potential"), ("greedy", "potential")])
def test_episodes_go_on_by_the_rewards_of_the_environment_that_they_are_put_into(
    make_vec, random_actions, before, after
):
    envs, others, always = (make_vec(2, reward=reward) for reward in (before, after, after))
    first, second = random_actions(2, 2)
    for each in (envs, others, always):
        each.reset(seed=0, options={"scene_index": 3})
    envs.step(first)
    always.step(first)
    others.set_state(envs.get_state())
    torch.testing.assert_close(others.step(second)[1], always.step(second)[1])


def test_a_snapshot_fits_into_no_slot_twice(make_vec):
    envs = make_vec(2)
    envs.reset(seed=0)
    with pytest.raises(ValueError, match="env_ids"):
        envs.set_state(envs.get_state(), [1, 1])
