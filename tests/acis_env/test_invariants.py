"""What holds in every step, whatever the settings, the actions and the resets."""

import gc
import math
import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from acis_env.metrics import METRIC_NAMES

MASK_PLANE = 3
"""Position of the accumulated mask in a stacked and in a coarse observation."""

MODES = [mode.value for mode in AutoresetMode]
SETTINGS = st.fixed_dictionaries(
    {
        "autoreset_mode": st.sampled_from(MODES),
        "obs": st.sampled_from(["dict", "stacked", "coarse"]),
        "obs_dtype": st.sampled_from(["uint8", "float32"]),
        "sampler": st.sampled_from(["random", "shuffle", "sequential"]),
        "context": st.sampled_from(["predicted", "oracle"]),
        "augmentation": st.sampled_from([None, {"rotation": 30, "brightness": 0.2}]),
        "stop": st.sampled_from(["ground_truth", "agent"]),
        "max_episode_steps": st.sampled_from([None, 1, 3, 6]),
        "score": st.sampled_from(["dice", "iou"]),
        "reward": st.sampled_from(["potential", "greedy", "sbd"]),
        "sequence_length": st.sampled_from([None, 1, 2]),
        "prefill": st.sampled_from(["exact", "random"]),
    }
)


class Ledger:
    """Follows the episode of every slot by what is returned, and objects to what cannot be."""

    def __init__(self, envs):
        self.envs, self.kind = envs, envs.observer.kind
        self.returns = torch.zeros(envs.num_envs)
        self.steps = torch.zeros(envs.num_envs, dtype=torch.int64)
        self.waiting = torch.zeros(envs.num_envs, dtype=torch.bool)
        self.masks, self.episodes = None, 0

    def reset(self, seed=None, mask=None):
        """Reset all slots, or those of `mask` `[num_envs]` bool."""
        options = None if mask is None else {"reset_mask": mask}
        observations, infos = self.envs.reset(seed=seed, options=options)
        begun = torch.ones_like(self.waiting) if mask is None else torch.as_tensor(mask)
        masks = self._masks(observations)
        if self.masks is not None:
            assert torch.equal(masks[~begun], self.masks[~begun])
        self._begin(begun, masks, infos)
        self._check_infos(infos, begun)

    def step(self, actions):
        """Step all slots."""
        mode, was_waiting = self.envs.autoreset_mode, self.waiting.clone()
        observations, rewards, terminated, truncated, infos = self.envs.step(actions)
        done = terminated | truncated
        self._check_rewards(rewards, terminated, truncated, was_waiting)
        self.returns += rewards
        self.steps += ~was_waiting
        masks = self._masks(observations)
        last_masks, last_infos = masks, infos
        if mode is AutoresetMode.SAME_STEP:
            assert ("final_obs" in infos) == ("final_info" in infos) == bool(done.any())
            if done.any():
                assert torch.equal(infos["_final_obs"], done)
                assert torch.equal(infos["_final_info"], done)
                self._check_infos(infos["final_info"], done)
                final = self._masks(infos["final_obs"])
                last_masks = torch.where(done.view(-1, *[1] * (masks.dim() - 1)), final, masks)
                last_infos = {
                    key: torch.where(done.view(-1, *[1] * (infos[key].dim() - 1)), infos["final_info"][key], infos[key])
                    for key in ("potential", "step_count", "num_instances", "assignment")
                }
        taken = ~was_waiting
        tolerance = 1e-5 if self.kind == "coarse" else 0  # a smoothed mask is rounded
        assert (last_masks[taken] >= self.masks[taken] - tolerance).all()
        self._check_end(last_infos, taken, terminated, truncated)
        self._check_infos({key: infos[key] for key in infos if "final" not in key}, torch.ones_like(done))
        self.masks = masks
        self.episodes += int(done.sum())
        if mode is AutoresetMode.SAME_STEP:
            self._begin(done, masks, infos)
        else:
            self._begin(was_waiting, masks, infos)
            self.waiting = done

    def _begin(self, slots, masks, infos):
        for counter in (self.returns, self.steps, self.waiting):
            counter[slots] = 0
        self.masks = masks
        assert not infos["potential"][slots].any()
        assert not infos["step_count"][slots].any()
        assert (infos["assignment"][slots] == -1).all()
        if self.envs.rules.sequence_length is None:
            assert not masks[slots].any()

    def _masks(self, observations):
        """What the observations show of `M`; everything in them is finite and in range."""
        parts = observations.values() if self.kind == "dict" else [observations]
        for part in parts:
            assert len(part) == self.envs.num_envs
            assert part.min() >= 0  # which NaN is not
            assert part.max() <= (255 if part.dtype == torch.uint8 else 1)
        if self.kind == "dict":
            return observations["mask"]
        if self.kind == "stacked":
            return observations[:, MASK_PLANE]
        return observations.view(self.envs.num_envs, 13, -1)[:, MASK_PLANE]

    def _check_rewards(self, rewards, terminated, truncated, was_waiting):
        assert rewards.dtype == torch.float32
        assert terminated.dtype == truncated.dtype == torch.bool
        assert torch.isfinite(rewards).all()
        assert (rewards >= (-1 if self.envs.rules.reward == "sbd" else 0)).all()
        assert not (terminated & truncated).any()
        assert not rewards[was_waiting].any()
        assert not (terminated | truncated)[was_waiting].any()

    def _check_end(self, infos, taken, terminated, truncated):
        """Returns are potentials, and episodes are no longer than they may be and end for a reason."""
        assert torch.allclose(self.returns[taken], infos["potential"][taken], atol=1e-5, rtol=0)
        count, number = infos["step_count"], infos["num_instances"]
        rules, limit = self.envs.rules, self.envs.max_episode_steps
        if rules.prefill == "random" and rules.sequence_length is not None:
            limit = min(limit or math.inf, rules.sequence_length)
        if rules.stop == "ground_truth":
            assert torch.equal(count[taken], self.steps[taken])
            assert (count <= number).all()
            assert torch.equal(terminated, taken & (count == number))
            assert torch.equal(truncated, taken & ~terminated & (count >= (limit or math.inf)))
        else:
            assert torch.equal(count[taken], (self.steps - terminated.long())[taken])
            assert (count <= limit).all()
            assert torch.equal(truncated, taken & ~terminated & (count == limit))

    def _check_infos(self, infos, valid):
        """Every entry is finite, and consistent with the others in the slots `valid`."""
        names = {key for key in infos if not key.startswith("_")}
        assert set(infos) == names | {f"_{key}" for key in names}
        for name in names:
            assert len(infos[name]) == self.envs.num_envs
            assert torch.isfinite(infos[name]).all()
            assert infos[f"_{name}"].dtype == torch.bool
            assert not (infos[f"_{name}"] & ~valid).any()
        for name in names - {*METRIC_NAMES, "is_success"}:
            assert torch.equal(infos[f"_{name}"], valid)
        if "sbd" in names:
            assert {*METRIC_NAMES, "is_success"} <= names
            assert ((infos["sbd"] >= 0) & (infos["sbd"] <= 1)).all()
        count, number, assignment = infos["step_count"], infos["num_instances"], infos["assignment"]
        assert ((infos["potential"] >= 0) & (infos["potential"] <= number + 1e-5)).all()
        assert ((infos["scene_index"] >= 0) & (infos["scene_index"] < len(self.envs.scenes))).all()
        is_assigned = assignment >= 0
        assert not (is_assigned & (torch.arange(assignment.shape[1]) >= count[:, None])).any()
        assert (assignment < number[:, None]).all()
        for row, steps, instances in zip(assignment.tolist(), count.tolist(), number.tolist(), strict=True):
            chosen = [instance for instance in row if instance >= 0]
            assert len(set(chosen)) == len(chosen)
            if self.envs.rules.reward == "potential":
                assert len(chosen) == min(steps, instances)


def play_at_random(ledger, rng, steps):
    """Steps with random actions; before one in four of them a random part of the slots is reset."""
    envs = ledger.envs
    low = np.full(envs.single_action_space.shape, -1.2)
    for _ in range(steps):
        mask = rng.random(envs.num_envs) < (0.3 if rng.random() < 0.25 else 0)
        if envs.autoreset_mode is AutoresetMode.DISABLED:
            mask |= ledger.waiting.numpy()
        if mask.any():
            seed = int(rng.integers(2**31)) if rng.random() < 0.2 else None
            ledger.reset(seed, torch.from_numpy(mask) if rng.random() < 0.5 else mask)
        ledger.step(rng.uniform(low, 1.2 if rng.random() < 0.5 else 0, (envs.num_envs, *low.shape)).astype(np.float32))


@given(SETTINGS, st.integers(1, 5), st.integers(0, 2**31))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_invariants_hold_under_all_settings_actions_and_resets(make_vec, options, num_envs, seed):
    ledger = Ledger(make_vec(num_envs, **options))
    ledger.reset(seed)
    play_at_random(ledger, np.random.default_rng(seed), 12)


def live_tensors():
    """Number and bytes of the tensors that are alive."""
    gc.collect()
    sizes = [found.nbytes for found in gc.get_objects() if type(found) is torch.Tensor]
    return len(sizes), sum(sizes)


@pytest.fixture
def crowded(make_scenes, make_scene):
    """Scenes of 5 to 9 squares: long episodes, whose resets do not take most of the time."""
    squares = [(top, left, top + 9, left + 9) for top in (0, 11, 22) for left in (0, 11, 22)]
    return make_scenes(make_scene(squares[:count]) for count in range(5, 10))


@pytest.mark.parametrize("mode", MODES)
def test_ten_thousand_steps_keep_the_invariants_and_need_no_more_memory(make_vec, crowded, mode):
    options = {"scenes": crowded, "obs": "stacked", "obs_dtype": "float32", "sampler": "shuffle"}
    ledger, rng = Ledger(make_vec(50, autoreset_mode=mode, **options)), np.random.default_rng(0)
    ledger.reset(0)
    play_at_random(ledger, rng, 150)
    tensors = live_tensors()
    tracemalloc.start()
    try:
        traced = []
        for steps in (10, 20, 20):
            play_at_random(ledger, rng, steps)
            gc.collect()
            traced.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    # What others leave to be collected may go meanwhile, and a cache may fill once; a leak is there in every stretch.
    assert all(now <= then for now, then in zip(live_tensors(), tensors, strict=True))
    assert min(late - early for early, late in pairwise(traced)) < 24_000  # bytes: a number for each of 1000 steps
    assert ledger.episodes > 800
