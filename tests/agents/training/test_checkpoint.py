"""What a checkpoint holds of an environment."""

import pytest
import torch

from agents.algorithms.base import core_of
from agents.algorithms.distributed import SINGLE_PROCESS, ProcessGroup
from agents.models.checkpoints import load_checkpoint, save_checkpoint
from agents.training.checkpoint import pack_environment, restore_environment

OPTIONS = {
    "sampler": "shuffle",
    "augmentation": {"brightness": 0.5},
    "sequence_length": 2,
    "prefill": "random",
    "matching_noise": 0.1,
}


def play(env, num_steps, seed=0):
    """All that an environment gives in so many steps; an episode that is over is followed by another."""
    generator, seen = torch.Generator().manual_seed(seed), []
    for _ in range(num_steps):
        over = env.unwrapped.is_over
        if over.any():
            env.reset(options={"reset_mask": over})
        observation, rewards, *_, infos = env.step(torch.rand(4, 4, generator=generator) * 2 - 1)
        seen += [*observation.values(), rewards, infos["scene_index"], infos["augmentation"], infos["assignment"]]
    return seen


def through_a_file(packed, path):
    save_checkpoint({"environment": packed}, path)
    return load_checkpoint(path)["environment"]


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_episodes_under_way_go_on_in_another_environment_bit_by_bit(make_env, tmp_path):
    env, other = make_env(**OPTIONS), make_env(**OPTIONS)
    play(env, 3)
    assert core_of(env).state.step_count.any()
    packed = through_a_file([pack_environment(core_of(env), keeps_episodes=True)], tmp_path / "packed.pt")
    play(other, 5, seed=1)
    restore_environment(core_of(other), packed, SINGLE_PROCESS)
    assert same(play(env, 12, seed=2), play(other, 12, seed=2))


def test_without_episodes_the_next_ones_are_those_that_would_have_come(make_env, tmp_path):
    env, other = make_env(**OPTIONS), make_env(**OPTIONS)
    play(env, 3)
    packed = through_a_file([pack_environment(core_of(env), keeps_episodes=False)], tmp_path / "packed.pt")
    assert packed[0]["episodes"] is None
    play(other, 5, seed=1)
    restore_environment(core_of(other), packed, SINGLE_PROCESS)
    for one in (env, other):
        one.reset()
    assert same(play(env, 12, seed=2), play(other, 12, seed=2))


def test_what_is_packed_does_not_change_with_the_environment(make_env):
    env = make_env(**OPTIONS)
    packed = pack_environment(core_of(env), keeps_episodes=True)
    before = [tensor.clone() for tensor in packed["episodes"]["state"]]
    queues = [list(sampler["queue"]) for sampler in packed["samplers"]]
    play(env, 12)
    assert same(packed["episodes"]["state"], before)
    assert [sampler["queue"] for sampler in packed["samplers"]] == queues


@pytest.mark.parametrize("rank", [0, 1])
def test_with_other_processes_slots_keep_their_random_numbers_and_begin_new_episodes(make_env, rank):
    whole = make_env(num_envs=4, **OPTIONS)
    play(whole, 3)
    packed = [pack_environment(core_of(whole), keeps_episodes=True)]
    half = make_env(num_envs=2, **OPTIONS)
    restore_environment(core_of(half), packed, ProcessGroup(rank, 2))
    infos = [env.reset()[1] for env in (whole, half)]
    own = slice(2 * rank, 2 * rank + 2)
    for name in ("scene_index", "augmentation", "num_instances"):
        assert torch.equal(infos[0][name][own], infos[1][name])


def test_a_checkpoint_of_several_processes_is_taken_up_by_one(make_env):
    halves = [make_env(num_envs=2, **OPTIONS) for _ in range(2)]
    for number, env in enumerate(halves):
        env.reset(seed=number)
    packed = [pack_environment(core_of(env), keeps_episodes=True) for env in halves]
    whole = make_env(num_envs=4, **OPTIONS)
    restore_environment(core_of(whole), packed, SINGLE_PROCESS)
    expected = torch.cat([env.reset()[1]["scene_index"] for env in halves])
    assert torch.equal(whole.reset()[1]["scene_index"], expected)


def test_each_process_goes_on_with_its_own_episodes(make_env):
    envs = [make_env(num_envs=2, **OPTIONS) for _ in range(2)]
    envs[1].reset(seed=7)
    packed = [pack_environment(core_of(env), keeps_episodes=True) for env in envs]
    for rank, env in enumerate(envs):
        other = make_env(num_envs=2, **OPTIONS)
        restore_environment(core_of(other), packed, ProcessGroup(rank, 2))
        assert torch.equal(core_of(other).state.context, core_of(env).state.context)
