"""The same seeds give the same episodes, slot by slot."""

import re

import numpy as np
import pytest
import torch

COLOURFUL = {"rotation": 20, "brightness": 0.2, "saturation": 0.3}


def episodes_of(envs, actions, **reset):
    """Everything that `reset` and the steps return."""
    return [envs.reset(**reset), *(envs.step(action) for action in actions)]


@pytest.mark.parametrize("mode", ["SameStep", "NextStep"])
@pytest.mark.parametrize("num_envs", [1, 3, 17])
def test_the_same_seeds_give_bitwise_the_same_episodes_again(make_vec, random_actions, assert_same, num_envs, mode):
    actions = random_actions(8, num_envs)
    options = {"augmentation": COLOURFUL, "autoreset_mode": mode, "sampler": "shuffle", "matching_noise": 0.2}
    envs = make_vec(num_envs, **options)
    first, again = (episodes_of(envs, actions, seed=5) for _ in range(2))
    fresh = episodes_of(make_vec(num_envs, **options), actions, seed=5)
    other = episodes_of(make_vec(num_envs, **options), actions, seed=6)
    assert_same(first, again)
    assert_same(first, fresh)
    assert not torch.equal(first[0][0]["image"], other[0][0]["image"])


@pytest.mark.parametrize("num_envs", [1, 3, 17])
def test_the_same_seeds_give_bitwise_the_same_episodes_without_automatic_resets(
    make_vec, random_actions, assert_same, num_envs
):
    def run():
        envs, record = make_vec(num_envs, augmentation=COLOURFUL, autoreset_mode="Disabled"), []
        record.append(envs.reset(seed=5))
        for action in random_actions(8, num_envs):
            record.append(envs.step(action))
            if (is_over := record[-1][2]).any():
                record.append(envs.reset(options={"reset_mask": is_over}))
        return record

    assert_same(run(), run())


@pytest.mark.parametrize("sampler", ["random", "shuffle", "sequential"])
def test_a_slot_draws_the_same_scenes_whatever_their_number(make_vec, assert_same, rows, sampler):
    options = {"augmentation": COLOURFUL, "sampler": sampler, "max_episode_steps": 1}

    def draws(num_envs):
        """`scene_index` and `augmentation` of nine episodes in every slot."""
        envs = make_vec(num_envs, **options)
        infos = [envs.reset(seed=40)[1]]
        infos += [envs.step(np.zeros((num_envs, 4), np.float32))[-1] for _ in range(8)]
        return [{key: info[key] for key in ("scene_index", "augmentation")} for info in infos]

    most = draws(17)
    for num_envs in (1, 3):
        slots = list(range(num_envs))
        assert_same(list(rows(draws(num_envs), slots)), list(rows(most, slots)))
    indices = torch.stack([draw["scene_index"] for draw in most])
    assert len({tuple(column.tolist()) for column in indices.T}) >= 5


def test_slot_i_begins_as_the_single_environment_with_the_seed_plus_i(make_vec, make_env):
    envs = make_vec(3, augmentation=COLOURFUL)
    observations, infos = envs.reset(seed=30)
    for slot in range(3):
        observation, info = make_env(augmentation=COLOURFUL).reset(seed=30 + slot)
        np.testing.assert_array_equal(observations["image"][slot], observation["image"])
        assert int(infos["scene_index"][slot]) == info["scene_index"]
        np.testing.assert_array_equal(infos["augmentation"][slot], info["augmentation"])


def test_seeds_may_be_one_for_each_slot_and_none_lets_a_slot_go_on(make_vec, rows, assert_same):
    envs, listed, going_on = (make_vec(3, augmentation=COLOURFUL) for _ in range(3))
    for env in (envs, listed, going_on):
        first = env.reset(seed=9)
    assert_same(listed.reset(seed=[9, 10, 11]), first)
    assert_same(listed.reset(seed=(9, 10, 11)), first)
    partly, free = envs.reset(seed=[None, 10, None]), going_on.reset()
    assert_same(rows(partly, 1), rows(first, 1))
    assert_same(rows(partly, [0, 2]), rows(free, [0, 2]))
    assert not torch.equal(rows(free, 1)[0]["image"], rows(first, 1)[0]["image"])


@pytest.mark.parametrize("seeds", [[1, 2], [1, 2, 3, 4], []])
def test_another_number_of_seeds_than_slots_is_refused(make_vec, seeds):
    with pytest.raises(ValueError, match=rf"seed must be an int or 3 ints, .*, got {re.escape(str(seeds))}"):
        make_vec(3).reset(seed=seeds)


@pytest.mark.parametrize("seed", [-1, 1.5, "abc", [-1, 0, 1], [1.5, 2, 3], ["1", "2", "3"]])
def test_a_seed_that_is_no_whole_number_from_0_on_is_refused(make_vec, seed):
    with pytest.raises(ValueError, match="seed must be an int or 3 ints"):
        make_vec(3).reset(seed=seed)


def test_the_sequential_sampler_shows_every_slot_the_next_scene(make_vec):
    envs = make_vec(3, sampler="sequential", max_episode_steps=1)
    infos = [envs.reset(seed=8)[1]] + [envs.step(np.zeros((3, 4), np.float32))[-1] for _ in range(5)]
    shown = torch.stack([info["scene_index"] for info in infos])
    assert shown.T.tolist() == [[3, 4, 0, 1, 2, 3], [4, 0, 1, 2, 3, 4], [0, 1, 2, 3, 4, 0]]
