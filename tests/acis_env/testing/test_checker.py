"""`check_vector_env` passes environments that keep the contracts, and names the defect of those that do not."""

import functools
import itertools
import warnings

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers.vector import RecordEpisodeStatistics

from acis_env import SegmentationVectorEnv
from acis_env.testing.checker import VectorEnvError, check_vector_env

NEXT_STEP, SAME_STEP, DISABLED = AutoresetMode
NUM_STEPS = 5


@pytest.fixture
def make_vec(pretrained, scenes):
    """A function that opens the hand-made scenes in three slots; episodes have 1 to 4 steps."""

    def make(kind=SegmentationVectorEnv, **options):
        return kind(3, **{"scenes": scenes, "weights": pretrained, "obs": "coarse", **options})

    return make


def make_cartpole(mode, **options):
    return SyncVectorEnv([functools.partial(gym.make, "CartPole-v1")] * 3, autoreset_mode=mode, **options)


# What passes


@pytest.mark.parametrize("mode", AutoresetMode)
@pytest.mark.parametrize("obs", ["dict", "stacked", "coarse"])
@pytest.mark.parametrize("stop", ["ground_truth", "agent"])
def test_the_environment_passes_with_every_observation_and_stop_mode(make_vec, mode, obs, stop):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_vector_env(make_vec(autoreset_mode=mode, obs=obs, stop=stop), num_steps=3)


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


def test_frames_are_checked_and_pass(make_vec):
    check_vector_env(make_vec(render_mode="rgb_array"), num_steps=3)


@pytest.mark.parametrize("mode", AutoresetMode)
def test_the_bundled_environment_passes_under_its_name(mode):
    options = {"scene_options": {"length": 3, "max_leaves": 3}, "autoreset_mode": mode}
    check_vector_env(gym.make_vec("ACIS/Leaves-v0", num_envs=2, obs="coarse", **options), num_steps=3)


@pytest.mark.parametrize("stop", ["ground_truth", "agent"])
@pytest.mark.parametrize("obs", ["dict", "stacked", "coarse"])
def test_every_registered_id_passes_with_every_observation_and_stop(scenes, pretrained, obs, stop):
    options = {"num_envs": 2, "obs": obs, "stop": stop}
    own = gym.make_vec("ACIS/Scenes-v0", scenes=scenes, weights=pretrained, **options)
    check_vector_env(own, num_steps=4)
    bundled = gym.make_vec("ACIS/Leaves-v0", scene_options={"length": 3, "max_leaves": 3}, **options)
    check_vector_env(bundled, num_steps=3)


def test_environments_of_gymnasium_pass():
    check_vector_env(gym.make_vec("CartPole-v1", num_envs=3, vectorization_mode="sync"))
    check_vector_env(gym.make_vec("CartPole-v1", num_envs=3))  # one class for all slots, which takes no list of seeds
    check_vector_env(RecordEpisodeStatistics(make_cartpole(SAME_STEP)))  # its infos are nested and hold seconds


def test_the_three_modes_of_gymnasium_agree_and_its_slip_is_a_warning():
    with pytest.warns(UserWarning, match="take 'reset_mask' out of the options"):
        check_vector_env(make_cartpole(SAME_STEP), make=make_cartpole)


@pytest.mark.filterwarnings("ignore:Gymnasium's environments take")
@pytest.mark.parametrize("name", ["FrozenLake-v1", "Blackjack-v1"])
def test_spaces_of_numbers_and_tuples_pass(name):
    def make(mode):
        return SyncVectorEnv([functools.partial(gym.make, name)] * 2, autoreset_mode=mode)

    check_vector_env(make(SAME_STEP), num_steps=20, make=make)


# What fails: each is the environment with one defect


class ReusedBuffer(SegmentationVectorEnv):
    def step(self, actions):
        observations, *rest = super().step(actions)
        if not hasattr(self, "buffer"):
            self.buffer = torch.empty_like(observations)
        return self.buffer.copy_(observations), *rest


class BufferOfRows(SegmentationVectorEnv):
    """Never writes to the same row twice."""

    def step(self, actions):
        observations, rewards, *rest = super().step(actions)
        if not hasattr(self, "buffer"):
            self.buffer, self.rows = torch.empty(1000, self.num_envs), itertools.count()
        return observations, self.buffer[next(self.rows)].copy_(rewards), *rest


class NumpyBufferOfRows(SegmentationVectorEnv):
    def step(self, actions):
        *rest, infos = super().step(actions)
        if not hasattr(self, "buffer"):
            self.buffer, self.rows = np.empty((1000, self.num_envs)), itertools.count()
        row = self.buffer[next(self.rows)]
        row[:] = infos["potential"].numpy()
        return *rest, infos | {"potential": row}


class OneMaskForAllKeys(SegmentationVectorEnv):
    """Shows the memory that it reads later under two names."""

    def step(self, actions):
        if hasattr(self, "shown"):
            actions = torch.where(self.shown[:, None], actions, 0)
        *rest, infos = super().step(actions)
        self.shown = infos["_potential"]
        return *rest, infos | {"_step_count": self.shown}


class InternalFlags(SegmentationVectorEnv):
    """Shows the memory that says who is over; the next step begins with a copy of it."""

    def _begin_after_end(self):
        self._autoreset.is_over = self._autoreset.is_over.copy()
        return super()._begin_after_end()

    def step(self, actions):
        observations, rewards, terminated, truncated, infos = super().step(actions)
        if not truncated.any() and self.autoreset_mode is not SAME_STEP:
            terminated = torch.from_numpy(self._autoreset.is_over)
        return observations, rewards, terminated, truncated, infos


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


class IgnoredSeed(SegmentationVectorEnv):
    """Counts its own seeds: what the system would give could be the same scenes twice."""

    seeds = itertools.count()

    def reset(self, *, seed=None, options=None):
        return super().reset(seed=next(self.seeds), options=options)


class OwnMeaningOfSeedLists(SegmentationVectorEnv):
    def reset(self, *, seed=None, options=None):
        return super().reset(seed=seed[::-1] if isinstance(seed, list) else seed, options=options)


class OptionsTakenOut(SegmentationVectorEnv):
    def reset(self, *, seed=None, options=None):
        options = {} if options is None else options
        mask = options.pop("reset_mask", None)
        return super().reset(seed=seed, options=None if mask is None else {"reset_mask": mask})


class OptionsFilledIn(SegmentationVectorEnv):
    def reset(self, *, seed=None, options=None):
        options.setdefault("scene_index", None)
        return super().reset(seed=seed, options=options)


class ChangedActions(SegmentationVectorEnv):
    def step(self, actions):
        return super().step(actions.mul_(0.5))


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


class OneFrame(SegmentationVectorEnv):
    def render(self, env_ids=None):
        return super().render([0])[0]


class StackedFrames(SegmentationVectorEnv):
    def render(self, env_ids=None):
        return np.stack(super().render())


class FloatFrames(SegmentationVectorEnv):
    def render(self, env_ids=None):
        return tuple(frame / 255 for frame in super().render())


class RenderThatSteps(SegmentationVectorEnv):
    def render(self, env_ids=None):
        frames = super().render()
        self.step(torch.ones(self.num_envs, 4))
        return frames


class ClosesOnce(SegmentationVectorEnv):
    def close(self):
        if self.closed:
            raise RuntimeError("closed already")
        super().close()


DEFECTS = [
    (ReusedBuffer, SAME_STEP, r"step 1 returned what a later call has changed: observations"),
    (BufferOfRows, SAME_STEP, r"step 2: rewards must be new in every call, but shares memory with rewards of step 1"),
    (NumpyBufferOfRows, SAME_STEP, r"infos\['potential'\] must be new in every call, but shares memory"),
    (OneMaskForAllKeys, SAME_STEP, r"overwriting what earlier calls returned must change nothing"),
    (
        InternalFlags,
        NEXT_STEP,
        r"overwriting what earlier calls returned must change nothing, but then step",
    ),
    (InfoWithoutMask, SAME_STEP, r"step 1: infos\['potential'\] must have a mask '_potential' beside it"),
    (FinalInfoWithoutMask, SAME_STEP, r"infos\['final_info'\]\['sbd'\] must have a mask"),
    (MaskOfNumbers, SAME_STEP, r"infos\['_step_count'\] must be bool \[num_envs\] = \[3\], got int64 \[3\]"),
    (MaskOfOneSlot, SAME_STEP, r"infos\['_step_count'\] must be bool \[num_envs\] = \[3\], got bool \[1\]"),
    (InfoOfOneSlot, SAME_STEP, r"infos\['potential'\] must be \[num_envs, ...\] = \[3, ...\], got float32 \[\]"),
    (LostFinalObs, SAME_STEP, r"infos\['final_obs'\] is missing, though slots \[.*\] are done"),
    (FinalObsAtEveryStep, SAME_STEP, r"infos\['final_obs'\] must be absent, since no episode ended"),
    (FinalObsOfEverySlot, SAME_STEP, r"infos\['_final_obs'\] must be the slots that are done"),
    (FinalObsOfTheReset, SAME_STEP, r"infos\['final_obs'\] must be the observation before the reset"),
    (FinalObsInAnotherUnit, SAME_STEP, r"infos\['final_obs'\] of slot \d must lie within its space"),
    (WholeRewards, SAME_STEP, r"step 1: rewards must be float \[num_envs\] = \[3\], got int64 \[3\]"),
    (RewardsInAColumn, SAME_STEP, r"step 1: rewards must be float \[num_envs\] = \[3\], got float32 \[3, 1\]"),
    (InfiniteRewards, SAME_STEP, r"step 1: rewards must be finite"),
    (FlagsOfNumbers, SAME_STEP, r"step 1: terminated must be bool \[num_envs\] = \[3\], got float32 \[3\]"),
    (DoubleObservations, SAME_STEP, r"observations must be float32 \[3, \d+\], got float64 \[3, \d+\]"),
    (ObservationsOutOfRange, SAME_STEP, r"step 1: observations must lie within its space, got \[-"),
    (ObservationsOfOneSlot, SAME_STEP, r"observations must be float32 \[3, \d+\], got float32 \[\d+\]"),
    (SpaceOfOneSlot, SAME_STEP, r"observation_space must hold num_envs = 3 times single_observation_space"),
    (OtherDevice, SAME_STEP, r"infos\['potential'\] must be on cpu as the environment is, got meta"),
    (IgnoredSeed, SAME_STEP, r"the same seed and actions must give bitwise the same run, but reset\(seed=0\) differs"),
    (OwnMeaningOfSeedLists, SAME_STEP, r"seed=\[0, 1, 2\] must be as seed=0, but .* differs"),
    (OptionsTakenOut, DISABLED, r"must leave the options it is given as they were: reset_mask is None"),
    (OptionsFilledIn, SAME_STEP, r"must leave the options it is given as they were: \['scene_index'\]"),
    (ChangedActions, SAME_STEP, r"step 1 must leave the actions it is given as they were: actions is"),
    (MetadataOfTheClass, SAME_STEP, r"metadata must be of the instance, but is shared by all of MetadataOfTheClass"),
    (ModeAsText, SAME_STEP, r"must be an instance of gymnasium.vector.AutoresetMode, got 'SameStep'"),
    (ModeOfAnother, SAME_STEP, r"is AutoresetMode.DISABLED, but the attribute autoreset_mode is AutoresetMode.SAME"),
    (ResetOfEverybody, DISABLED, r"slot \d is not in the reset_mask and must stay as it was"),
    (NoTorchMasks, DISABLED, r"reset after step \d raised TypeError: reset_mask must be numpy"),
    (BeginsByItself, DISABLED, r"must refuse slot \d, which is done and was not reset, but it went on"),
    (PaysForIgnoredActions, NEXT_STEP, r"slots \[\d.*\] are being reset and must earn 0, got \[1"),
    (FlagsIgnoredActions, NEXT_STEP, r"slots \[\d.*\] are being reset and must set no flag, got \[ ?True"),
    (TakesIgnoredActions, NEXT_STEP, r"the step after the end of an episode must ignore its action, but step \d"),
    (OneFrame, SAME_STEP, r"render\(\) after reset.* must return a list or tuple of 3 frames, got uint8 \["),
    (StackedFrames, SAME_STEP, r"render\(\) after reset.* must return a list or tuple of 3 frames, got uint8 \[3,"),
    (FloatFrames, SAME_STEP, r"must give uint8 arrays \[h, w, 3\], got float64 .* in slot 0"),
    (RenderThatSteps, SAME_STEP, r"render\(\) must disturb no episode, but step 1 differs"),
    (ClosesOnce, SAME_STEP, r"close\(\) of a closed environment raised RuntimeError: closed already"),
]


@pytest.mark.parametrize(("kind", "mode", "message"), DEFECTS, ids=[kind.__name__ for kind, *_ in DEFECTS])
def test_a_defect_is_named(make_vec, kind, mode, message):
    env = make_vec(kind, autoreset_mode=mode, render_mode="rgb_array")
    with pytest.raises(VectorEnvError, match=message):
        check_vector_env(env, num_steps=NUM_STEPS)


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


def test_gymnasiums_environment_without_copies_fails():
    with pytest.raises(VectorEnvError, match="returned what a later call has changed: observations"):
        check_vector_env(make_cartpole(NEXT_STEP, copy=False))


def test_a_run_that_ends_no_episode_or_does_not_depend_on_the_seed_is_a_warning(make_vec, make_scenes, make_scene):
    with pytest.warns(UserWarning, match="no episode ended in 2 steps"):
        check_vector_env(make_cartpole(SAME_STEP), num_steps=2)
    one = make_scenes([make_scene([(2, 3, 12, 13)])])
    with pytest.warns(UserWarning, match="seeds 0 and 3 give the same observations"):
        check_vector_env(make_vec(scenes=one), num_steps=2)


def test_what_is_no_vector_environment_is_refused():
    with pytest.raises(VectorEnvError, match=r"env must be a gymnasium.vector.VectorEnv, got TimeLimit"):
        check_vector_env(gym.make("CartPole-v1"))
    with pytest.raises(ValueError, match="num_steps must be at least 2, got 1"):
        check_vector_env(make_cartpole(SAME_STEP), num_steps=1)


def test_an_exception_of_the_environment_is_reported_with_the_call(make_vec):
    class Breaks(SegmentationVectorEnv):
        def step(self, actions):
            raise KeyError("image")

    with pytest.raises(VectorEnvError, match="step 1 raised KeyError: 'image'"):
        check_vector_env(make_vec(Breaks))
