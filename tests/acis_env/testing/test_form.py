"""A defect in the form of what calls return is named. Each is the environment with one of them."""

import pytest
from gymnasium.vector import AutoresetMode

from acis_env import SegmentationVectorEnv
from acis_env.testing.checker import VectorEnvError, check_vector_env

NEXT_STEP, SAME_STEP, DISABLED = AutoresetMode
NUM_STEPS = 5


class InfoWithoutMask(SegmentationVectorEnv):
    def step(self, actions):
        *rest, infos = super().step(actions)
        del infos["_potential"]
        return *rest, infos


class FinalInfoWithoutMask(SegmentationVectorEnv):
    def step(self, actions):
        *rest, infos = super().step(actions)
        infos.get("final_info", {}).pop("_sbd", None)
        return *rest, infos


class MaskOfNumbers(SegmentationVectorEnv):
    def reset(self, **arguments):
        observations, infos = super().reset(**arguments)
        return observations, infos | {"_step_count": infos["_step_count"].long()}


class MaskOfOneSlot(SegmentationVectorEnv):
    def reset(self, **arguments):
        observations, infos = super().reset(**arguments)
        return observations, infos | {"_step_count": infos["_step_count"][:1]}


class InfoOfOneSlot(SegmentationVectorEnv):
    def reset(self, **arguments):
        observations, infos = super().reset(**arguments)
        return observations, infos | {"potential": infos["potential"][0]}


class WholeRewards(SegmentationVectorEnv):
    def step(self, actions):
        observations, rewards, *rest = super().step(actions)
        return observations, rewards.long(), *rest


class RewardsInAColumn(SegmentationVectorEnv):
    def step(self, actions):
        observations, rewards, *rest = super().step(actions)
        return observations, rewards[:, None], *rest


class InfiniteRewards(SegmentationVectorEnv):
    def step(self, actions):
        observations, rewards, *rest = super().step(actions)
        return observations, rewards / 0, *rest


class FlagsOfNumbers(SegmentationVectorEnv):
    def step(self, actions):
        observations, rewards, terminated, *rest = super().step(actions)
        return observations, rewards, terminated.float(), *rest


class DoubleObservations(SegmentationVectorEnv):
    def reset(self, **arguments):
        observations, infos = super().reset(**arguments)
        return observations.double(), infos


class ObservationsOutOfRange(SegmentationVectorEnv):
    def step(self, actions):
        observations, *rest = super().step(actions)
        return observations - 1, *rest


class ObservationsOfOneSlot(SegmentationVectorEnv):
    def reset(self, **arguments):
        observations, infos = super().reset(**arguments)
        return observations[0], infos


class SpaceOfOneSlot(SegmentationVectorEnv):
    @property
    def observation_space(self):
        return self.single_observation_space


class OtherDevice(SegmentationVectorEnv):
    def reset(self, **arguments):
        observations, infos = super().reset(**arguments)
        return observations, infos | {"potential": infos["potential"].to("meta")}


class MetadataOfTheClass(SegmentationVectorEnv):
    metadata = SegmentationVectorEnv.metadata.copy()

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        type(self).metadata["autoreset_mode"] = self.autoreset_mode
        del self.metadata


class ModeAsText(SegmentationVectorEnv):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.metadata["autoreset_mode"] = self.autoreset_mode.value


class ModeOfAnother(SegmentationVectorEnv):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.metadata["autoreset_mode"] = DISABLED


DEFECTS = [
    (InfoWithoutMask, SAME_STEP, r"step 1: infos\['potential'\] must have a mask '_potential' beside it"),
    (FinalInfoWithoutMask, SAME_STEP, r"infos\['final_info'\]\['sbd'\] must have a mask"),
    (MaskOfNumbers, SAME_STEP, r"infos\['_step_count'\] must be bool \[num_envs\] = \[3\], got int64 \[3\]"),
    (MaskOfOneSlot, SAME_STEP, r"infos\['_step_count'\] must be bool \[num_envs\] = \[3\], got bool \[1\]"),
    (InfoOfOneSlot, SAME_STEP, r"infos\['potential'\] must be \[num_envs, ...\] = \[3, ...\], got float32 \[\]"),
    (WholeRewards, SAME_STEP, r"step 1: rewards must be float \[num_envs\] = \[3\], got int64 \[3\]"),
    (RewardsInAColumn, SAME_STEP, r"step 1: rewards must be float \[num_envs\] = \[3\], got float32 \[3, 1\]"),
    (InfiniteRewards, SAME_STEP, r"step 1: rewards must be finite"),
    (FlagsOfNumbers, SAME_STEP, r"step 1: terminated must be bool \[num_envs\] = \[3\], got float32 \[3\]"),
    (DoubleObservations, SAME_STEP, r"observations must be float32 \[3, \d+\], got float64 \[3, \d+\]"),
    (ObservationsOutOfRange, SAME_STEP, r"step 1: observations must lie within its space, got \[-"),
    (ObservationsOfOneSlot, SAME_STEP, r"observations must be float32 \[3, \d+\], got float32 \[\d+\]"),
    (SpaceOfOneSlot, SAME_STEP, r"observation_space must hold num_envs = 3 times single_observation_space"),
    (OtherDevice, SAME_STEP, r"infos\['potential'\] must be on cpu as the environment is, got meta"),
    (MetadataOfTheClass, SAME_STEP, r"metadata must be of the instance, but is shared by all of MetadataOfTheClass"),
    (ModeAsText, SAME_STEP, r"must be an instance of gymnasium.vector.AutoresetMode, got 'SameStep'"),
    (ModeOfAnother, SAME_STEP, r"is AutoresetMode.DISABLED, but the attribute autoreset_mode is AutoresetMode.SAME"),
]


@pytest.mark.parametrize(("kind", "mode", "message"), DEFECTS, ids=[kind.__name__ for kind, *_ in DEFECTS])
def test_a_defect_is_named(make_vec, kind, mode, message):
    env = make_vec(kind, autoreset_mode=mode, render_mode="rgb_array")
    with pytest.raises(VectorEnvError, match=message):
        check_vector_env(env, num_steps=NUM_STEPS)
