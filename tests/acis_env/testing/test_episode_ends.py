"""A defect that shows when an episode ends is named. Each is the environment with one of them."""

import pytest
import torch
from gymnasium.vector import AutoresetMode

from acis_env import SegmentationVectorEnv
from acis_env.testing.checker import VectorEnvError, check_vector_env

NEXT_STEP, SAME_STEP, DISABLED = AutoresetMode
NUM_STEPS = 5


class LostFinalObs(SegmentationVectorEnv):
    def step(self, actions):
        *rest, infos = super().step(actions)
        return *rest, {key: value for key, value in infos.items() if key not in ("final_obs", "_final_obs")}


class FinalObsAtEveryStep(SegmentationVectorEnv):
    def step(self, actions):
        observations, *rest, infos = super().step(actions)
        mask = torch.zeros(self.num_envs, dtype=torch.bool)
        return observations, *rest, {"final_obs": observations.clone(), "_final_obs": mask, **infos}


class FinalObsOfEverySlot(SegmentationVectorEnv):
    def step(self, actions):
        *rest, infos = super().step(actions)
        if "_final_obs" in infos:
            infos["_final_obs"].fill_(True)
        return *rest, infos


class FinalObsOfTheReset(SegmentationVectorEnv):
    def step(self, actions):
        observations, *rest, infos = super().step(actions)
        if "final_obs" in infos:
            infos["final_obs"] = observations.clone()
        return observations, *rest, infos


class FinalObsInAnotherUnit(SegmentationVectorEnv):
    def step(self, actions):
        *rest, infos = super().step(actions)
        if "final_obs" in infos:
            infos["final_obs"] = infos["final_obs"] * 255
        return *rest, infos


class ResetOfEverybody(SegmentationVectorEnv):
    def reset(self, *, seed=None, options=None):
        return super().reset(seed=seed)


class NoTorchMasks(SegmentationVectorEnv):
    def reset(self, *, seed=None, options=None):
        if options and torch.is_tensor(options["reset_mask"]):
            raise TypeError("reset_mask must be numpy")
        return super().reset(seed=seed, options=options)


class BeginsByItself(SegmentationVectorEnv):
    """Resets finished slots although nobody asked for it."""

    def _begin_after_end(self):
        slots = self._autoreset.is_over.nonzero()[0].tolist()
        if slots:
            self._begin(slots)
        return slots


class PaysForIgnoredActions(SegmentationVectorEnv):
    def step(self, actions):
        was_over = torch.from_numpy(self._autoreset.is_over.copy())
        observations, rewards, *rest = super().step(actions)
        return observations, rewards + was_over, *rest


class FlagsIgnoredActions(SegmentationVectorEnv):
    def step(self, actions):
        was_over = torch.from_numpy(self._autoreset.is_over.copy())
        observations, rewards, terminated, *rest = super().step(actions)
        return observations, rewards, terminated | was_over, *rest


class TakesIgnoredActions(SegmentationVectorEnv):
    def step(self, actions):
        was_over = torch.from_numpy(self._autoreset.is_over.copy())
        observations, *rest = super().step(actions)
        return torch.where(was_over[:, None], actions[:, :1].abs(), observations), *rest


DEFECTS = [
    (LostFinalObs, SAME_STEP, r"infos\['final_obs'\] is missing, though slots \[.*\] are done"),
    (FinalObsAtEveryStep, SAME_STEP, r"infos\['final_obs'\] must be absent, since no episode ended"),
    (FinalObsOfEverySlot, SAME_STEP, r"infos\['_final_obs'\] must be the slots that are done"),
    (FinalObsOfTheReset, SAME_STEP, r"infos\['final_obs'\] must be the observation before the reset"),
    (FinalObsInAnotherUnit, SAME_STEP, r"infos\['final_obs'\] of slot \d must lie within its space"),
    (ResetOfEverybody, DISABLED, r"slot \d is not in the reset_mask and must stay as it was"),
    (NoTorchMasks, DISABLED, r"reset after step \d raised TypeError: reset_mask must be numpy"),
    (BeginsByItself, DISABLED, r"must refuse slot \d, which is done and was not reset, but it went on"),
    (PaysForIgnoredActions, NEXT_STEP, r"slots \[\d.*\] are being reset and must earn 0, got \[1"),
    (FlagsIgnoredActions, NEXT_STEP, r"slots \[\d.*\] are being reset and must set no flag, got \[ ?True"),
    (TakesIgnoredActions, NEXT_STEP, r"the step after the end of an episode must ignore its action, but step \d"),
]


@pytest.mark.parametrize(("kind", "mode", "message"), DEFECTS, ids=[kind.__name__ for kind, *_ in DEFECTS])
def test_a_defect_is_named(make_vec, kind, mode, message):
    env = make_vec(kind, autoreset_mode=mode, render_mode="rgb_array")
    with pytest.raises(VectorEnvError, match=message):
        check_vector_env(env, num_steps=NUM_STEPS)
