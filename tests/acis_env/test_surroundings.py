"""Whatever a program has set for all of torch, environments give what they give without it."""

import threading
import time

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from acis_env import SegmentationVectorEnv, tree
from acis_env.surroundings import as_tensor, unaffected

LEAVES = {"scenes": "leaves", "weights": "leaves-64", "scene_options": {"length": 6, "max_leaves": 4}}


def open_env(**options):
    return SegmentationVectorEnv(3, **{**LEAVES, **options})


def play(env, steps=9):
    """All that an environment gives in some steps, episode ends included."""
    rng = np.random.default_rng(0)
    given = [env.reset(seed=4)]
    given += [env.step(rng.uniform(-1, 1, (3, 16)).astype(np.float32)) for _ in range(steps)]
    return given


def assert_same(one, other):
    one, other = tree.tensors(one), tree.tensors(other)
    assert len(one) == len(other) > 0
    for mine, theirs in zip(one, other, strict=True):
        assert mine.dtype == theirs.dtype
        assert mine.device == theirs.device
        assert not mine.is_inference()
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize("context", ["predicted", "oracle"])
def test_an_environment_made_and_played_there_gives_the_same(surroundings, context):
    options = {"obs": "coarse", "context": context, "refine": True, "augmentation": {"rotation": 20.0}}
    options |= {"sequence_length": 3, "prefill": "random", "matching_noise": 0.1, "render_mode": "rgb_array"}
    expected = play(open_env(**options))
    with surroundings():
        env = open_env(**options)
        given = play(env)
        env.set_state(env.get_state())
        env.render()
    assert_same(given, expected)


def test_an_environment_may_move_in_and_out(surroundings):
    expected, env = play(open_env()), open_env()
    with surroundings():
        env.reset(seed=1)
    assert_same(play(env), expected)
    with surroundings():
        assert_same(play(env), expected)


def test_a_rule_may_be_changed_there(surroundings):
    env, other = (open_env(autoreset_mode="Disabled") for _ in range(2))
    for each in (env, other):
        each.reset(seed=0)
    with surroundings():
        env.set_attr("reward", "sbd")
    other.set_attr("reward", "sbd")
    options = {"reset_mask": np.array([True, False, False])}
    assert_same(*([each.reset(options=options), play(each, 2)] for each in (env, other)))


def test_what_surrounds_a_call_is_there_again_after_it_even_after_an_error(surroundings):
    def state():
        modes = torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu"), torch.is_grad_enabled()
        return torch.get_default_dtype(), torch.get_default_device(), modes

    @unaffected
    def fail():
        assert torch.zeros(1).dtype is torch.float32
        assert torch.zeros(1).device.type == "cpu"
        raise KeyError

    with surroundings():
        before = state()
        with pytest.raises(KeyError):
            fail()
        assert state() == before


def test_threads_that_leave_at_different_times_all_compute_in_float32(set_default_dtype):
    found = []

    @unaffected
    def compute(seconds):
        for _ in range(5):
            time.sleep(seconds / 5)
            found.append(torch.zeros(1).dtype)

    with set_default_dtype(torch.float64):
        threads = [threading.Thread(target=compute, args=(seconds,)) for seconds in (0.05, 0.2, 0.1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert torch.get_default_dtype() is torch.float64
    assert set(found) == {torch.float32}


def test_a_step_makes_no_float64_which_some_devices_lack():
    found = set()

    class NoDouble(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            found.update(str(func) for x in tree_leaves(out) if getattr(x, "dtype", None) is torch.float64)
            return out

    env = open_env()
    with NoDouble():
        play(env)
    assert not found


BACKWARDS = {
    "backwards": lambda array: np.flip(np.flip(array).copy()),
    "other bytes": lambda array: array.astype(array.dtype.newbyteorder()),
    "every other": lambda array: np.repeat(array, 2, axis=-1)[..., ::2],
}


@pytest.mark.parametrize("layout", BACKWARDS.values(), ids=BACKWARDS)
def test_arrays_in_any_layout_are_taken_for_what_they_hold(layout):
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    assert as_tensor(layout(array)).tolist() == array.tolist()
    actions, mask = np.linspace(-1, 1, 48, dtype=np.float32).reshape(3, 16), np.array([True, False, True])
    given = []
    for change in (lambda x: x, layout):
        env = open_env()
        env.reset(seed=0)
        given.append([env.step(change(actions)), env.reset(options={"reset_mask": change(mask)})])
    assert_same(*given)
