"""A defect of seeds, memory, arguments, pictures or the end is named. Each is the environment with one of them."""

import itertools

import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode

from acis_env import SegmentationVectorEnv
from acis_env.testing.checker import VectorEnvError, check_vector_env

NEXT_STEP, SAME_STEP, DISABLED = AutoresetMode
NUM_STEPS = 5


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
    (IgnoredSeed, SAME_STEP, r"the same seed and actions must give bitwise the same run, but reset\(seed=0\) differs"),
    (OwnMeaningOfSeedLists, SAME_STEP, r"seed=\[0, 1, 2\] must be as seed=0, but .* differs"),
    (OptionsTakenOut, DISABLED, r"must leave the options it is given as they were: reset_mask is None"),
    (OptionsFilledIn, SAME_STEP, r"must leave the options it is given as they were: \['scene_index'\]"),
    (ChangedActions, SAME_STEP, r"step 1 must leave the actions it is given as they were: actions is"),
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
