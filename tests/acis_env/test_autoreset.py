"""What happens at the end of an episode in one of many slots, in each of Gymnasium's three modes."""

import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode

from acis_env.metrics import METRIC_NAMES, segmentation_metrics

MODES = ("SameStep", "NextStep", "Disabled")
COLOURFUL = {"rotation": 20, "brightness": 0.2, "saturation": 0.3}


def test_final_observations_and_infos_are_there_only_when_an_episode_ends(make_vec, random_actions, info_keys):
    envs = make_vec(3)
    _, infos = envs.reset(options={"scene_index": [2, 0, 3]})  # 1, 2 and 4 instances
    assert set(infos) == info_keys | {f"_{key}" for key in info_keys}
    ends = []
    for action in random_actions(20, 3):
        _, _, terminated, truncated, infos = envs.step(action)
        assert not truncated.any()
        final = {"final_obs", "_final_obs", "final_info", "_final_info"}
        assert final & set(infos) == (final if terminated.any() else set())
        if terminated.any():
            assert infos["_final_obs"].tolist() == infos["_final_info"].tolist() == terminated.tolist()
        ends.append(terminated.tolist())
    assert ends[0] == [True, False, False]
    assert ends[1][1:] == [True, False]
    assert [False] * 3 in ends


def test_a_step_without_an_end_has_no_final_entries(make_vec, random_actions, info_keys):
    envs = make_vec(3)
    envs.reset(options={"scene_index": [0, 1, 3]})
    infos = envs.step(random_actions(1, 3)[0])[4]
    assert set(infos) == info_keys | {f"_{key}" for key in info_keys}
    assert all(infos[f"_{key}"].tolist() == [True] * 3 for key in info_keys)
    assert infos["step_count"].tolist() == [1, 1, 1]


def test_a_finished_slot_begins_anew_in_the_same_step_and_the_others_go_on(
    make_vec, make_env, random_actions, play, assert_close_observations, info_keys, final_keys
):
    envs = make_vec(3)
    envs.reset(options={"scene_index": [2, 0, 3]})
    action = random_actions(1, 3)[0]
    observations, rewards, terminated, _, infos = envs.step(action)
    assert terminated.tolist() == [True, False, False]
    # Slot 0 shows a new scene with an empty mask, and its final observation the old one with the mask.
    assert not observations["mask"][0].any()
    assert observations["mask"][1:].flatten(1).any(1).all()
    assert infos["step_count"].tolist() == [0, 1, 1]
    assert infos["potential"][0] == 0
    env = make_env()
    expected, (reward,), info = play(env, action[:1], options={"scene_index": 2})
    assert_close_observations({key: value[0] for key, value in infos["final_obs"].items()}, expected[-1])
    final = infos["final_info"]
    assert float(rewards[0]) == pytest.approx(reward, abs=1e-5)
    assert float(final["potential"][0]) == pytest.approx(info["potential"], abs=1e-5)
    assert int(final["num_instances"][0]) == int(final["step_count"][0]) == 1
    assert final["assignment"][0].tolist() == [0, -1, -1, -1]
    assert all(final[f"_{key}"].tolist() == [True, False, False] for key in (*info_keys, *final_keys))


def test_final_metrics_are_those_of_the_final_label_map(make_vec, make_env, scenes, random_actions, play):
    envs, env = make_vec(2), make_env()
    actions = random_actions(3, 2, seed=3)
    envs.reset(options={"scene_index": [1, 4]})  # three instances each
    for action in actions:
        _, _, terminated, _, infos = envs.step(action)
    assert terminated.tolist() == [True, True]
    for slot, index in enumerate((1, 4)):
        _, _, info = play(env, actions[:, slot], options={"scene_index": index})
        expected = segmentation_metrics(env.label_map, scenes[index].label_map)
        assert {key: info[key] for key in METRIC_NAMES} == pytest.approx(expected)
        for key in METRIC_NAMES:
            assert float(infos["final_info"][key][slot]) == pytest.approx(expected[key], abs=1e-2)
    assert 0 < expected["fbd"] < 1


# The three modes


@pytest.mark.parametrize("mode", MODES)
def test_the_mode_is_an_attribute_and_an_enum_in_the_metadata_however_it_was_named(make_vec, mode):
    for name in (mode, AutoresetMode(mode)):
        envs = make_vec(autoreset_mode=name)
        assert envs.autoreset_mode is envs.metadata["autoreset_mode"] is AutoresetMode(mode)
    assert make_vec().autoreset_mode is AutoresetMode.SAME_STEP


def test_the_metadata_of_one_environment_are_not_those_of_another(make_vec):
    first, second = make_vec(autoreset_mode="NextStep"), make_vec(autoreset_mode="Disabled")
    first.metadata["render_fps"] = 99
    assert second.metadata["render_fps"] == type(second).metadata["render_fps"] == 2
    assert first.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    assert second.metadata["autoreset_mode"] is AutoresetMode.DISABLED
    assert "autoreset_mode" not in type(second).metadata


def record_of(envs, seed, action_of, calls, rows):
    """Episodes of every slot, each a list of (observation, reward, terminated, truncated, info) from its reset on.

    `action_of(slot, episode, step)` decides by what all modes have in common.
    """
    same_step, disabled = AutoresetMode.SAME_STEP, AutoresetMode.DISABLED
    observations, infos = envs.reset(seed=seed)
    episodes = [[[(rows(observations, slot), None, None, None, told(infos, slot, rows))]] for slot in each(envs)]
    waiting = torch.zeros(envs.num_envs, dtype=torch.bool)
    for _ in range(calls):
        if envs.autoreset_mode is disabled and waiting.any():
            observations, infos = envs.reset(options={"reset_mask": waiting})
            for slot in waiting.nonzero()[:, 0].tolist():
                episodes[slot].append([(rows(observations, slot), None, None, None, told(infos, slot, rows))])
            waiting = torch.zeros_like(waiting)
        actions = np.stack([action_of(s, len(episodes[s]), len(episodes[s][-1])) for s in each(envs)])
        observations, rewards, terminated, truncated, infos = envs.step(actions)
        for slot in each(envs):
            begun = (rows(observations, slot), None, None, None, told(infos, slot, rows))
            if waiting[slot]:  # only in NEXT_STEP
                episodes[slot].append([begun])
                continue
            is_over = bool(terminated[slot] | truncated[slot])
            seen, said = (observations, infos)
            if is_over and envs.autoreset_mode is same_step:
                seen, said = infos["final_obs"], infos["final_info"]
            flags = (float(rewards[slot]), bool(terminated[slot]), bool(truncated[slot]))
            episodes[slot][-1].append((rows(seen, slot), *flags, told(said, slot, rows)))
            if is_over and envs.autoreset_mode is same_step:
                episodes[slot].append([begun])
        waiting = (terminated | truncated) & (envs.autoreset_mode is not same_step)
    return episodes


def each(envs):
    return range(envs.num_envs)


def told(infos, slot, rows):
    """What `infos` say of `slot`, by their masks."""
    keys = [key for key in infos if not key.startswith("_") and not key.startswith("final")]
    return {key: rows(infos[key], slot) for key in keys if infos[f"_{key}"][slot]}


@pytest.mark.parametrize(
    ("num_envs", "options"),
    [
        (1, {}),
        (3, {"augmentation": COLOURFUL, "sampler": "shuffle"}),
        (3, {"stop": "agent", "count_penalty": 0.5, "obs": "coarse", "sampler": "sequential"}),
        (3, {"max_episode_steps": 2, "obs": "stacked", "matching_noise": 0.3}),
        (3, {"sequence_length": 2, "prefill": "random", "obs": "coarse"}),
    ],
)
def test_every_mode_shows_the_same_episodes(make_vec, rows, assert_same, num_envs, options):
    length = 5 if options.get("stop") == "agent" else 4

    def action_of(slot, episode, step):
        action = np.random.default_rng([slot, episode, step]).uniform(-1, 1, length).astype(np.float32)
        action[4:] -= 0.3
        return action

    records = {}
    for mode in MODES:
        envs = make_vec(num_envs, autoreset_mode=mode, **options)
        records[mode] = record_of(envs, 7, action_of, 16, rows)
    finished = 0
    for slot in range(num_envs):
        by_mode = [record[slot] for record in records.values()]
        for episodes in zip(*by_mode, strict=False):
            is_over = [any(episode[-1][2:4]) for episode in episodes]
            if all(is_over):
                finished += 1
                assert {"sbd", "is_success"} <= episodes[0][-1][-1].keys()
                for episode in episodes[1:]:
                    assert_same(episodes[0], episode)
    assert finished >= 3 * num_envs


@pytest.mark.parametrize("options", [{}, {"stop": "agent", "count_penalty": 1.0}, {"max_episode_steps": 1}])
def test_after_an_end_in_next_step_mode_one_step_ignores_the_action_and_earns_nothing(
    make_vec, rows, assert_same, options
):
    copies = [make_vec(3, autoreset_mode="NextStep", **options) for _ in range(2)]
    length = copies[0].single_action_space.shape[0]
    actions = np.random.default_rng(0).uniform(-1, -0.1, (3, 3, length)).astype(np.float32)
    actions[0, 1, -1] = 0.5  # where the agent ends episodes, this does
    for envs in copies:
        envs.reset(seed=0, options={"scene_index": [3, 2, 3]})
        _, _, terminated, truncated, _ = envs.step(actions[0])
    is_over = terminated | truncated
    assert is_over.tolist() == ([True] * 3 if "max_episode_steps" in options else [False, True, False])
    other = np.where(is_over[:, None], -actions[1], actions[1])
    first, second = (envs.step(chosen) for envs, chosen in zip(copies, (actions[1], other), strict=True))
    assert_same(first, second)
    observations, rewards, terminated, truncated, infos = first
    assert not rewards[is_over].any()
    assert not (terminated | truncated)[is_over].any()
    assert not infos["step_count"][is_over].any()
    assert not infos["potential"][is_over].any()
    assert not observations["mask"][is_over].any()
    assert (infos["step_count"][~is_over] == 2).all()
    assert (rewards[~is_over] > 0).all()
    # The step after it is taken.
    *_, infos = copies[0].step(actions[2])
    assert (infos["step_count"][is_over] == 1).all()


def test_in_next_step_mode_the_last_observation_and_the_metrics_come_with_the_end(
    make_vec, random_actions, info_keys, final_keys
):
    envs = make_vec(3, autoreset_mode="NextStep")
    envs.reset(options={"scene_index": [2, 0, 3]})
    observations, _, terminated, _, infos = envs.step(random_actions(1, 3)[0])
    assert terminated.tolist() == [True, False, False]
    assert set(infos) == {key for name in info_keys | final_keys for key in (name, f"_{name}")}
    assert all(infos[f"_{key}"].tolist() == [True, False, False] for key in final_keys)
    assert all(infos[f"_{key}"].tolist() == [True] * 3 for key in info_keys)
    assert infos["step_count"].tolist() == [1, 1, 1]
    assert observations["mask"].flatten(1).any(1).all()
    *_, infos = envs.step(random_actions(1, 3)[0])
    assert not any(infos[f"_{key}"][0] for key in final_keys & infos.keys())


def test_without_automatic_resets_a_finished_slot_is_not_stepped_and_is_named(make_vec, random_actions, assert_same):
    envs = make_vec(4, autoreset_mode="Disabled")
    envs.reset(options={"scene_index": [2, 0, 2, 3]})
    actions = random_actions(2, 4)
    assert envs.step(actions[0])[2].tolist() == [True, False, True, False]
    before = [tensor.clone() for tensor in envs.state.tensors()]
    for _ in range(2):
        with pytest.raises(RuntimeError, match=r"slots \[0, 2\] are over: call reset\(options="):
            envs.step(actions[1])
    assert_same(envs.state.tensors(), before)
    envs.reset(options={"reset_mask": np.array([True, False, False, False])})
    with pytest.raises(RuntimeError, match=r"slots \[2\] are over"):
        envs.step(actions[1])
    envs.reset(options={"reset_mask": np.array([False, False, True, False])})
    *_, infos = envs.step(actions[1])
    assert infos["step_count"].tolist() == [1, 2, 1, 2]


# Resets of some slots


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", [np.array, torch.tensor])
def test_a_partial_reset_leaves_the_other_slots_bitwise_alone(make_vec, random_actions, rows, assert_same, mode, kind):
    options = {"augmentation": COLOURFUL, "autoreset_mode": mode}
    touched, alone = make_vec(4, **options), make_vec(4, **options)
    actions = random_actions(5, 4)
    for envs in (touched, alone):
        envs.reset(seed=3, options={"scene_index": [3, 3, 1, 3]})
        before = envs.step(actions[0])[0]
    mask = [False, True, False, True]
    observations, infos = touched.reset(options={"reset_mask": kind(mask), "scene_index": 3})
    others = [0, 2]
    assert_same(rows(observations, others), rows(before, others))
    assert not observations["mask"][[1, 3]].any()
    assert infos["step_count"].tolist() == [1, 0, 1, 0]
    assert infos["scene_index"].tolist() == [3, 3, 1, 3]
    assert all(infos[f"_{key}"].tolist() == mask for key in infos if not key.startswith("_"))
    for action in actions[1:3]:
        results = [rows(envs.step(action)[:4], others) for envs in (touched, alone)]
        assert_same(*results)
    # Not even the draws of later episodes depend on it.
    results = [envs.reset(options={"reset_mask": np.array([True, False, True, False])}) for envs in (touched, alone)]
    assert_same(*(rows((observations, infos), others) for observations, infos in results))


def test_a_partial_reset_seeds_its_own_slots_alone(make_vec, rows, assert_same):
    envs, others, fresh = (make_vec(3, augmentation=COLOURFUL) for _ in range(3))
    for env in (envs, others):
        env.reset(seed=0)
    envs.reset(seed=50, options={"reset_mask": np.array([False, True, False])})
    after = envs.reset()
    fresh.reset(seed=50)
    assert_same(rows(after, 1), rows(fresh.reset(), 1))
    assert_same(rows(after, [0, 2]), rows(others.reset(), [0, 2]))


@pytest.mark.parametrize("mode", MODES)
def test_a_slot_may_be_reset_in_the_middle_of_its_episode_or_after_its_end(make_vec, random_actions, mode):
    envs = make_vec(3, autoreset_mode=mode)
    envs.reset(options={"scene_index": [2, 3, 3]})
    action = random_actions(1, 3)[0]
    assert envs.step(action)[2].tolist() == [True, False, False]
    _, infos = envs.reset(options={"reset_mask": np.array([True, True, False]), "scene_index": 3})
    assert infos["step_count"].tolist() == [0, 0, 1]
    _, rewards, terminated, _, infos = envs.step(action)
    assert infos["step_count"].tolist() == [1, 1, 2]
    assert not terminated.any()
    assert (rewards[:2] > 0).all()


@pytest.mark.parametrize("kind", [np.array, torch.tensor])
def test_the_options_stay_as_they_were_given(make_vec, kind):
    envs = make_vec(3)
    envs.reset(seed=0)
    mask, index = kind([True, False, True]), np.array([0, 1, 2])
    options = {"reset_mask": mask, "scene_index": index}
    for _ in range(2):
        _, infos = envs.reset(options=options)
        assert options.keys() == {"reset_mask", "scene_index"}
        assert options["reset_mask"] is mask
        assert options["scene_index"] is index
        assert mask.tolist() == [True, False, True]
        assert index.tolist() == [0, 1, 2]
    for value in infos.values():
        value.fill_(0)
    assert mask.tolist() == [True, False, True]


@pytest.mark.parametrize(
    "mask",
    [
        np.array([True, False]),
        np.array([[True, False, True]]),
        np.array(True),
        np.array([1, 0, 1]),
        torch.tensor([1.0, 0.0, 1.0]),
        np.zeros(3, dtype=bool),
    ],
    ids=["short", "matrix", "scalar", "int", "float", "nothing"],
)
def test_a_wrong_reset_mask_is_refused_and_changes_nothing(make_vec, assert_same, mask):
    envs = make_vec(3)
    envs.reset(seed=0)
    before = envs.get_state()
    with pytest.raises(ValueError, match=r"options\['reset_mask'\] must be bool \[num_envs\] = \[3\] with at least"):
        envs.reset(seed=9, options={"reset_mask": mask})
    after = envs.get_state()
    assert_same(after.state.tensors(), before.state.tensors())
    assert after.samplers == before.samplers


def test_an_unknown_option_is_refused(make_vec):
    with pytest.raises(ValueError, match=r"may hold 'scene_index' and 'reset_mask', got \['mask'\]"):
        make_vec().reset(options={"mask": np.ones(3, dtype=bool)})


@pytest.mark.parametrize("index", [1.5, [0, 1], [[0, 1, 2]], [0.0, 1.0, 2.0], [True, False, True]])
def test_scenes_are_chosen_by_whole_numbers_one_for_all_or_one_each(make_vec, index):
    with pytest.raises(ValueError, match=r"options\['scene_index'\] must be an int or \[num_envs\] = \[3\] ints, got"):
        make_vec(3).reset(options={"scene_index": index})


def test_the_first_reset_begins_all_slots(make_vec):
    envs = make_vec(3)
    with pytest.raises(RuntimeError, match="the first reset must begin all slots"):
        envs.reset(options={"reset_mask": np.array([True, False, True])})
    _, infos = envs.reset(options={"reset_mask": np.array([True, True, True]), "scene_index": [0, 1, 2]})
    assert infos["num_instances"].tolist() == [2, 3, 1]


def test_options_of_none_are_no_options(make_vec, assert_same):
    plain, spelled_out = (
        make_vec(3).reset(seed=4, options=o) for o in (None, {"reset_mask": None, "scene_index": None})
    )
    assert_same(plain, spelled_out)
