"""The same environment in all modes: agreement passes, and what one mode hides shows beside the others."""

import functools

import gymnasium as gym
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from acis_env import SegmentationVectorEnv
from acis_env.testing.checker import VectorEnvError, check_vector_env

NEXT_STEP, SAME_STEP, DISABLED = AutoresetMode
NUM_STEPS = 5


def make_cartpole(mode, **options):
    return SyncVectorEnv([functools.partial(gym.make, "CartPole-v1")] * 3, autoreset_mode=mode, **options)


@pytest.mark.parametrize(
    ("mode", "options"),
    [
        (SAME_STEP, {"max_episode_steps": 3}),
        (NEXT_STEP, {"augmentation": {"rotation": 20}, "obs": "dict", "obs_dtype": "float32"}),
        (DISABLED, {"sequence_length": 2, "prefill": "random", "sampler": "shuffle"}),
    ],
)
def test_the_three_modes_of_the_environment_agree(make_vec, mode, options):
    def make(mode):
        return make_vec(autoreset_mode=mode, **options)

    check_vector_env(make(mode), num_steps=NUM_STEPS, make=make)


def test_the_three_modes_of_gymnasium_agree_and_its_slip_is_a_warning(mended_gymnasium):
    with pytest.warns(UserWarning, match="take 'reset_mask' out of the options"):
        check_vector_env(make_cartpole(SAME_STEP), make=make_cartpole)


@pytest.mark.filterwarnings("ignore:Gymnasium's environments take")
@pytest.mark.parametrize("name", ["FrozenLake-v1", "Blackjack-v1"])
def test_spaces_of_numbers_and_tuples_pass(mended_gymnasium, name):
    def make(mode):
        return SyncVectorEnv([functools.partial(gym.make, name)] * 2, autoreset_mode=mode)

    check_vector_env(make(SAME_STEP), num_steps=20, make=make)


class FinalObsOfAnotherSlot(SegmentationVectorEnv):
    def step(self, actions):
        *rest, infos = super().step(actions)
        if "final_obs" in infos:
            infos["final_obs"] = infos["final_obs"].roll(1, 0)
        return *rest, infos


class FinalInfoOfTheReset(SegmentationVectorEnv):
    def step(self, actions):
        *rest, infos = super().step(actions)
        if "final_info" in infos:
            infos["final_info"] |= {"potential": infos["potential"].clone()}
        return *rest, infos


class NextStepWithoutTheLastObservation(SegmentationVectorEnv):
    def step(self, actions):
        observations, rewards, terminated, truncated, infos = super().step(actions)
        if self.autoreset_mode is NEXT_STEP:
            observations = torch.where((terminated | truncated)[:, None], 0.0, observations)
        return observations, rewards, terminated, truncated, infos


class NeighboursForgetTheirMask(SegmentationVectorEnv):
    """A reset after an end leaves what the other slots show as it is, and spoils what they show later."""

    def reset(self, **arguments):
        returned = super().reset(**arguments)
        if (arguments.get("options") or {}).get("reset_mask") is not None:
            self.state.accumulated_mask.zero_()
        return returned


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (
            FinalObsOfAnotherSlot,
            r"infos\['final_obs'\] of slot \d must be the terminal observation that DISABLED gives",
        ),
        (FinalInfoOfTheReset, r"infos\['final_info'\] must be the infos that DISABLED gives: potential is"),
        (NextStepWithoutTheLastObservation, r"step \d in NEXT_STEP must give what DISABLED gives: observations"),
        (NeighboursForgetTheirMask, r"step \d in SAME_STEP must give what DISABLED gives: observations"),
    ],
)
def test_a_defect_that_one_mode_hides_shows_beside_the_others(make_vec, kind, message):
    def make(mode):
        return make_vec(kind, autoreset_mode=mode)

    with pytest.raises(VectorEnvError, match=message):
        check_vector_env(make(NEXT_STEP), num_steps=NUM_STEPS, make=make)


def test_a_maker_of_another_mode_or_size_is_refused(make_vec):
    with pytest.raises(
        VectorEnvError, match=r"make\(AutoresetMode.NEXT_STEP\) must build .* this mode, got .*SAME_STEP"
    ):
        check_vector_env(make_vec(), num_steps=2, make=lambda mode: make_vec())

    def make_two(mode):
        return SyncVectorEnv([functools.partial(gym.make, "CartPole-v1")] * 2, autoreset_mode=mode)

    with pytest.raises(VectorEnvError, match=r"make\(.*\) must build 3 slots as env has, got 2"):
        check_vector_env(make_cartpole(SAME_STEP), make=make_two)
