"""Slots can be looked at and changed: attributes, rules, spaces and pictures."""

import pickle

import gymnasium as gym
import numpy as np
import pytest
import torch

from acis_env import vector_env


def go_on(envs, actions):
    return [envs.step(action) for action in actions]


@pytest.mark.parametrize("obs", ["dict", "stacked", "coarse"])
def test_the_batched_spaces_are_built_only_when_they_are_asked_for(make_vec, random_actions, monkeypatch, obs):
    def refuse(*arguments):
        raise AssertionError("a batched space was built")

    with monkeypatch.context() as patch:
        patch.setattr(vector_env, "batch_space", refuse)
        envs = make_vec(3, obs=obs, render_mode="rgb_array")
        envs.reset(seed=0)
        go_on(envs, random_actions(5, 3))
        envs.render()
        pickle.dumps(envs)
        with pytest.raises(AssertionError, match="was built"):
            _ = envs.observation_space
    observations, _ = envs.reset()
    single = envs.single_observation_space
    if obs == "dict":
        assert {key: space.shape for key, space in envs.observation_space.items()} == {
            key: (3, *space.shape) for key, space in single.items()
        }
        observations = {key: value.numpy() for key, value in observations.items()}
    else:
        assert (envs.observation_space.shape, envs.observation_space.dtype) == ((3, *single.shape), single.dtype)
        observations = observations.numpy()
    assert envs.observation_space.contains(observations)
    assert envs.observation_space is envs.observation_space
    assert envs.action_space == gym.spaces.Box(-1, 1, (3, 4), np.float32)


def test_call_gives_one_result_for_each_slot(make_vec):
    envs = make_vec(3, render_mode="rgb_array")
    envs.reset(options={"scene_index": [4, 0, 2]})
    assert [scene.name for scene in envs.call("scene")] == ["boxes-4", "boxes-0", "boxes-2"]
    assert envs.call("max_episode_steps") == (None, None, None)
    frames = envs.call("render")
    assert len(frames) == 3
    np.testing.assert_array_equal(frames[1], envs.render()[1])
    with pytest.raises(AttributeError, match="nothing"):
        envs.call("nothing")


def test_call_deals_tensors_out_to_the_slots(make_vec):
    envs = make_vec(3)
    envs.reset(seed=0)
    assert [label_map.shape for label_map in envs.call("label_map")] == [(32, 32)] * 3
    assert envs.get_attr("is_over") == (False,) * 3


@pytest.mark.parametrize("name", ["reset", "step", "close"])
def test_call_refuses_what_acts_on_all_slots(make_vec, name):
    with pytest.raises(ValueError, match=f"'{name}' acts on all slots at once"):
        make_vec(3).call(name)


def test_get_attr_gives_attributes_and_rules_of_each_slot(make_vec):
    envs = make_vec(3, score="iou", action_scale=2.0)
    assert envs.get_attr("score") == ("iou",) * 3
    assert envs.get_attr("action_scale") == (2.0,) * 3
    assert envs.get_attr("stop") == ("ground_truth",) * 3
    assert [sampler is own for sampler, own in zip(envs.get_attr("samplers"), envs.samplers, strict=True)] == [True] * 3
    with pytest.raises(AttributeError, match="nothing"):
        envs.get_attr("nothing")


def test_call_looks_rules_up_as_get_attr_does(make_vec):
    assert make_vec(3).call("score") == ("dice",) * 3


def test_a_sequence_length_is_a_whole_number(make_vec):
    with pytest.raises(ValueError, match=r"sequence_length must be .*, got 2.5"):
        make_vec(sequence_length=2.5)


def test_set_attr_takes_one_value_or_as_many_equal_ones(make_vec):
    envs = make_vec(3)
    envs.set_attr("sequence_length", 2)
    assert envs.get_attr("sequence_length") == (2, 2, 2)
    envs.set_attr("sequence_length", [3, 3, 3])
    assert envs.get_attr("sequence_length") == (3, 3, 3)
    envs.set_attr("sequence_length", None)
    assert envs.get_attr("sequence_length") == (None,) * 3
    for values in ([1, 2, 3], [1, 1], []):
        with pytest.raises(ValueError, match="sequence_length must be one value for all 3 slots, got"):
            envs.set_attr("sequence_length", values)
    assert envs.get_attr("sequence_length") == (None,) * 3


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("score", "f1"),
        ("reward", "none"),
        ("matching_noise", -1),
        ("count_penalty", float("nan")),
        ("sequence_length", 0),
        ("prefill", "all"),
    ],
)
def test_set_attr_refuses_what_the_constructor_refuses(make_vec, name, value):
    envs = make_vec()
    before = envs.rules
    with pytest.raises(ValueError, match=f"{name} must be .*, got {value!r}"):
        envs.set_attr(name, value)
    assert envs.rules == before
    with pytest.raises(ValueError, match=f"{name} must be .*, got {value!r}"):
        make_vec(**{name: value})


@pytest.mark.parametrize("name", ["stop", "num_envs", "render_mode", "scenes", "nothing"])
def test_what_is_fixed_is_not_set(make_vec, name):
    with pytest.raises(AttributeError, match=rf"set_attr changes \('score', .*\), got '{name}'"):
        make_vec().set_attr(name, 1)


def test_only_the_slots_asked_for_are_drawn(make_vec, random_actions, monkeypatch):
    envs = make_vec(4, render_mode="rgb_array")
    envs.reset(options={"scene_index": [0, 1, 2, 3]})
    envs.step(random_actions(1, 4)[0])
    everything = envs.render()
    assert isinstance(everything, tuple)
    assert len(everything) == 4
    drawn = []
    draw = vector_env.frame
    monkeypatch.setattr(vector_env, "frame", lambda *a: drawn.append(a) or draw(*a))
    some = envs.render([3, 1])
    assert len(drawn) == 2
    np.testing.assert_array_equal(some, [everything[3], everything[1]])
    assert all(frame.dtype == np.uint8 and frame.ndim == 3 for frame in some)
    assert envs.render([]) == ()


DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"))]


def spoilt(actions, slot, value):
    """The same actions with one entry that is no number, and with 0 there."""
    wrong, right = actions.copy(), actions.copy()
    wrong[slot, 0], right[slot, 0] = value, 0
    return wrong, right


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("device", DEVICES)
def test_what_is_no_number_counts_as_zero_and_the_next_reset_names_its_slots(
    make_vec, random_actions, assert_same, value, device
):
    envs, same = make_vec(3, device=device), make_vec(3, device=device)
    for each in (envs, same):
        each.reset(seed=0, options={"scene_index": 3})
    wrong, right = spoilt(random_actions(1, 3)[0], 1, value)
    assert_same(envs.step(wrong), same.step(right))
    for each in (envs, same):
        each.step(random_actions(1, 3, seed=1)[0])
    with pytest.raises(ValueError, match=r"actions must be finite, got NaN or infinity in slots \[1\] since the last"):
        envs.reset(options={"reset_mask": np.array([True, False, False])})
    same.reset(options={"reset_mask": np.array([True, False, False])})
    action = random_actions(1, 3, seed=2)[0]
    assert_same(envs.step(action), same.step(action))  # the episodes had begun before the error was raised


@pytest.mark.parametrize("device", DEVICES)
def test_the_action_of_a_slot_that_is_reset_in_place_of_a_step_may_be_anything(
    make_vec, random_actions, assert_same, device
):
    envs, same = (make_vec(2, autoreset_mode="NextStep", device=device) for _ in range(2))
    for each in (envs, same):
        each.reset(seed=0, options={"scene_index": [2, 3]})  # one instance and four
        each.step(random_actions(1, 2)[0])
    assert envs.is_over.tolist() == [True, False]
    wrong, right = spoilt(random_actions(1, 2, seed=1)[0], 0, np.nan)
    assert_same(envs.step(wrong), same.step(right))
    envs.reset()  # tells of bad actions since


@pytest.mark.parametrize("mode", ["SameStep", "NextStep"])
def test_an_automatic_reset_tells_of_bad_actions_too(make_vec, random_actions, mode):
    envs = make_vec(2, autoreset_mode=mode)
    envs.reset(options={"scene_index": [2, 3]})  # one instance and four
    wrong, right = spoilt(random_actions(1, 2)[0], 1, np.nan)
    if mode == "NextStep":
        envs.step(wrong)
    with pytest.raises(ValueError, match=r"NaN or infinity in slots \[1\]"):
        envs.step(wrong if mode == "SameStep" else right)
    assert envs.state.step_count.tolist() == [0, 1]
    envs.step(right)


def test_closing_tells_of_bad_actions_once(make_vec, random_actions):
    envs = make_vec(2)
    envs.reset(options={"scene_index": 3})
    envs.step(spoilt(random_actions(1, 2)[0], 0, np.inf)[0])
    with pytest.raises(ValueError, match=r"NaN or infinity in slots \[0\]"):
        envs.close()
    envs.close()
    with pytest.raises(RuntimeError, match="call reset"):
        envs.state  # noqa: B018 (it raises)
