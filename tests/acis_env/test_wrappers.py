"""The wrappers add statistics, files and numpy to the vector environment, and hide nothing of it."""

import copy
import pickle
import time
import warnings

import cv2
import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv
from gymnasium.wrappers.vector import DictInfoToList
from gymnasium.wrappers.vector import RecordEpisodeStatistics as GymnasiumStatistics
from PIL import Image

from acis_env import SegmentationEnv, SegmentationVectorEnv
from acis_env.wrappers import RecordEpisodes, RecordEpisodeStatistics, TorchToNumpy, recorder
from acis_env.wrappers.recorder import write_mp4

MODES = ("SameStep", "NextStep", "Disabled")
ANY_MODE = pytest.mark.parametrize("mode", MODES)


@pytest.fixture
def make_vec(pretrained, scenes):
    """A function that opens the hand-made scenes in `num_envs` slots."""
    return lambda num_envs=3, **options: SegmentationVectorEnv(
        num_envs, **{"scenes": scenes, "weights": pretrained, **options}
    )


@pytest.fixture
def make_sync(pretrained, scenes):
    """A function that opens them as so many single environments in Gymnasium's own vector environment."""

    class WithoutAssignment(gym.Wrapper):
        """Its length differs between the slots, which `SyncVectorEnv` cannot batch."""

        def reset(self, **kwargs):
            observation, info = self.env.reset(**kwargs)
            return observation, {key: value for key, value in info.items() if key != "assignment"}

        def step(self, action):
            *results, info = self.env.step(action)
            return *results, {key: value for key, value in info.items() if key != "assignment"}

    def make(num_envs, mode, **options):
        options = {"scenes": scenes, "weights": pretrained, **options}
        return SyncVectorEnv(
            [lambda: WithoutAssignment(SegmentationEnv(**options))] * num_envs, autoreset_mode=AutoresetMode(mode)
        )

    return make


def random_actions(steps, num_envs=3, seed=0):
    """Actions `[steps, num_envs, 4]` in [-1, 1]."""
    return np.random.default_rng(seed).uniform(-1, 1, (steps, num_envs, 4)).astype(np.float32)


def run(env, actions, mode, seed=5):
    """What `reset` and every `step` return; where resets are disabled, slots are reset as soon as they are over."""
    record = [env.reset(seed=seed)]
    for action in actions:
        # Gymnasium's statistics write into masks that they returned earlier.
        record.append(copy.deepcopy(env.step(action)))
        is_over = np.asarray(record[-1][2] | record[-1][3])
        if mode == "Disabled" and is_over.any():
            record.append(env.reset(options={"reset_mask": is_over}))
    return record


def assert_close(first, second, path=""):
    """Equal types, shapes, dtypes and keys; numbers equal up to rounding, pictures up to one grey level."""
    assert type(first) is type(second), path
    if isinstance(first, dict):
        assert set(first) == set(second), path
        for key in first:
            assert_close(first[key], second[key], f"{path}/{key}")
    elif isinstance(first, np.ndarray) and first.dtype == object:
        for index, (a, b) in enumerate(zip(first, second, strict=True)):
            assert_close(a, b, f"{path}/{index}")
    elif isinstance(first, np.ndarray):
        assert (first.shape, first.dtype) == (second.shape, second.dtype), path
        tolerance = 1 if first.dtype == np.uint8 else 1e-4
        np.testing.assert_allclose(first.astype(float), second.astype(float), atol=tolerance, err_msg=path)
    else:
        assert first == second, path


# What all of them show


def test_a_stack_of_wrappers_shows_what_the_environment_has(make_vec, tmp_path):
    env = make_vec(2, autoreset_mode="NextStep", render_mode="rgb_array")
    wrapped = RecordEpisodeStatistics(RecordEpisodes(env, tmp_path))
    for outer in (wrapped, TorchToNumpy(wrapped)):
        assert outer.unwrapped is env
        assert outer.device == torch.device("cpu")
        assert outer.autoreset_mode is outer.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
        assert outer.num_envs == 2
        outer.set_attr("count_penalty", outer.get_attr("count_penalty")[0] + 0.5)
        assert outer.call("rules") == (env.rules, env.rules)
        outer.reset(seed=1)
        outer.set_state(outer.get_state())
        assert len(outer.render()) == 2
        assert len(outer.render(env_ids=[1])) == 1
    assert env.rules.count_penalty == 1
    outer.close()
    outer.close()
    assert env.closed


def test_what_the_environment_inside_lacks_the_wrapper_lacks_too(make_sync):
    env = RecordEpisodeStatistics(make_sync(2, "SameStep"))
    assert env.autoreset_mode is AutoresetMode.SAME_STEP
    assert not hasattr(env, "device")
    assert not hasattr(env, "get_state")
    with pytest.raises(AttributeError, match=r"RecordEpisodeStatistics has no attribute 'decoder'.*`unwrapped`"):
        _ = env.decoder


def test_wrapped_environments_can_be_pickled(make_vec):
    env = TorchToNumpy(RecordEpisodeStatistics(make_vec()))
    actions = random_actions(12)
    run(env, actions[:4], "SameStep")
    restored = pickle.loads(pickle.dumps(env))
    assert restored.env.episode_count == env.env.episode_count > 0
    for action in actions[4:]:
        first, second = env.step(action), restored.step(action)
        np.testing.assert_array_equal(first[1], second[1])
        assert ("episode" in first[4]) == ("episode" in second[4])
    assert list(restored.env.return_queue) == list(env.env.return_queue)


# Statistics


@ANY_MODE
def test_statistics_are_those_of_gymnasium(make_vec, mode):
    actions = random_actions(25)
    ours = RecordEpisodeStatistics(make_vec(autoreset_mode=mode), buffer_length=7)
    theirs = GymnasiumStatistics(TorchToNumpy(make_vec(autoreset_mode=mode)), buffer_length=7)
    for first, second in zip(run(ours, actions, mode), run(theirs, actions, mode), strict=True):
        infos, expected = first[-1], second[-1]
        assert ("episode" in infos) == ("_episode" in infos) == ("episode" in expected)
        if "episode" in infos:
            assert infos["_episode"].tolist() == expected["_episode"].tolist()
            assert infos["episode"]["l"].tolist() == expected["episode"]["l"].tolist()
            np.testing.assert_allclose(infos["episode"]["r"], expected["episode"]["r"], atol=1e-5)
            assert infos["episode"]["l"].dtype == torch.int64
            assert set(infos["episode"]) == {"r", "l", "t"}
    assert ours.episode_count == theirs.episode_count > 10
    assert len(ours.return_queue) == len(ours.time_queue) == 7
    np.testing.assert_allclose(ours.return_queue, theirs.return_queue, atol=1e-5)
    assert list(ours.length_queue) == list(theirs.length_queue)
    np.testing.assert_allclose(ours.episode_returns, theirs.episode_returns, atol=1e-5)
    assert ours.episode_lengths.tolist() == theirs.episode_lengths.tolist()


@ANY_MODE
def test_an_episode_is_as_long_as_its_scene_has_instances_and_returns_its_potential(make_vec, mode):
    env = RecordEpisodeStatistics(make_vec(autoreset_mode=mode))
    lengths, returns = [], []
    for *_, infos in run(env, random_actions(20), mode):
        if "episode" in infos:
            done = infos["_episode"]
            final = infos.get("final_info", infos)
            assert infos["episode"]["l"][done].tolist() == final["num_instances"][done].tolist()
            torch.testing.assert_close(infos["episode"]["r"][done], final["potential"][done])
            assert not infos["episode"]["r"][~done].any()
            lengths += infos["episode"]["l"][done].tolist()
            returns += infos["episode"]["r"][done].tolist()
    assert len(lengths) > 10
    assert (lengths, returns) == (list(env.length_queue), list(env.return_queue))


@ANY_MODE
@pytest.mark.parametrize("kind", [np.array, torch.tensor])
def test_a_partial_reset_begins_only_the_statistics_of_its_slots(make_vec, mode, kind):
    env = RecordEpisodeStatistics(make_vec(autoreset_mode=mode))
    env.reset(options={"scene_index": 3})  # four instances
    for action in random_actions(2):
        env.step(action)
    returns = env.episode_returns.clone()
    options = {"reset_mask": kind([False, True, False]), "scene_index": 3}
    env.reset(options=options)
    assert set(options) == {"reset_mask", "scene_index"}
    assert env.episode_lengths.tolist() == [2, 0, 2]
    assert env.episode_returns.tolist() == [returns[0], 0, returns[2]]
    env.step(random_actions(1)[0])
    assert env.episode_lengths.tolist() == [3, 1, 3]
    env.reset()
    assert env.episode_lengths.tolist() == [0, 0, 0]


def test_a_reset_of_a_slot_that_waits_for_its_own_counts_the_next_step(make_vec):
    env = RecordEpisodeStatistics(make_vec(autoreset_mode="NextStep"))
    env.reset(options={"scene_index": 2})  # one instance
    action = random_actions(1)[0]
    env.step(action)
    env.reset(options={"reset_mask": np.array([True, False, False]), "scene_index": 3})
    env.step(action)
    assert env.episode_lengths.tolist() == [1, 0, 0]


def test_the_duration_of_an_episode_leaves_out_the_wait_for_its_begin(make_vec, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    env = RecordEpisodeStatistics(make_vec(1, autoreset_mode="NextStep", sampler="sequential"))
    actions = random_actions(4, 1)
    now[0] = 110.0
    env.reset(options={"scene_index": 2})  # one instance
    now[0] = 111.5
    infos = env.step(actions[0])[-1]
    assert infos["episode"]["t"].tolist() == [1.5]
    now[0] = 150.0
    env.step(actions[1])  # begins the next, of two instances
    now[0] = 151.0
    env.step(actions[2])
    now[0] = 152.25
    infos = env.step(actions[3])[-1]
    assert infos["episode"]["t"].tolist() == [2.25]
    assert list(env.time_queue) == [1.5, 2.25]


class MetaEnv(VectorEnv):
    """Tensors without values: whoever looks at one raises. No episode ends."""

    num_envs = 2
    device = torch.device("meta")
    metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}  # noqa: RUF012 (Gymnasium's contract)

    def reset(self, *, seed=None, options=None):
        return torch.zeros(2, 3, device="meta"), {}

    def step(self, actions):
        rewards = torch.zeros(2, device="meta")
        return torch.zeros(2, 3, device="meta"), rewards, rewards > 0, rewards > 0, {}


def test_a_step_without_an_end_moves_nothing_to_the_host():
    env = RecordEpisodeStatistics(MetaEnv())
    env.reset()
    for _ in range(3):
        env.step(None)
    assert env.episode_returns.device.type == "meta"
    # The control: had a step looked at a value, it would have failed like this.
    with pytest.raises((NotImplementedError, RuntimeError)):
        env.episode_returns.tolist()


def test_statistics_never_take_the_place_of_another_entry(make_vec):
    env = RecordEpisodeStatistics(RecordEpisodeStatistics(make_vec()))
    with pytest.raises(ValueError, match=r"must not hold 'episode'.*choose another stats_key"):
        run(env, random_actions(5), "SameStep")
    env = RecordEpisodeStatistics(RecordEpisodeStatistics(make_vec()), stats_key="own")
    entries = [infos for *_, infos in run(env, random_actions(5), "SameStep") if "own" in infos]
    assert entries
    assert all(torch.equal(infos["own"]["r"], infos["episode"]["r"]) for infos in entries)
    assert all(torch.equal(infos["_own"], infos["_episode"]) for infos in entries)


def test_statistics_count_on_from_a_state_that_was_put_back(make_vec):
    env = RecordEpisodeStatistics(make_vec(autoreset_mode="NextStep"))
    actions = random_actions(4)
    env.reset(options={"scene_index": [2, 3, 3]})  # one instance and four
    env.step(actions[0])
    snapshot = env.get_state([0, 1])
    env.step(actions[1])
    env.set_state(snapshot, [0, 1])
    assert env.episode_lengths.tolist() == [0, 0, 2]
    env.step(actions[2])  # slot 0 was over, and begins again
    assert env.episode_lengths.tolist() == [0, 1, 3]


def test_an_environment_must_name_its_autoreset_mode(make_vec):
    env = make_vec()
    del env.metadata["autoreset_mode"]
    with pytest.raises(ValueError, match=r"metadata\['autoreset_mode'\] must be an AutoresetMode, got None"):
        RecordEpisodeStatistics(env)


# Numpy


@pytest.mark.parametrize(
    ("mode", "options"),
    [
        ("SameStep", {"augmentation": {"rotation": 20, "brightness": 0.2}}),
        ("SameStep", {"obs": "coarse", "max_episode_steps": 2}),
        ("NextStep", {"augmentation": {"rotation": 20}, "max_episode_steps": 2}),
        ("NextStep", {"obs": "stacked", "obs_dtype": "float32", "sampler": "shuffle"}),
        ("Disabled", {"stop": "agent"}),
    ],
)
def test_the_numpy_view_is_that_of_gymnasiums_own_vector_environment(make_vec, make_sync, mode, options):
    actions = random_actions(12)
    if options.get("stop") == "agent":
        actions = np.concatenate((actions, random_actions(12, seed=1)[..., :1] - 0.5), axis=2)
    ours = run(TorchToNumpy(make_vec(autoreset_mode=mode, **options)), actions, mode)
    theirs = run(make_sync(3, mode, **options), actions, mode)
    num_ends = 0
    for step, (first, second) in enumerate(zip(ours, theirs, strict=True)):
        infos = first[-1]
        num_ends += "final_obs" in infos
        for found in (infos, infos.get("final_info", {})):
            found.pop("assignment", None)
            found.pop("_assignment", None)
        for position, (a, b) in enumerate(zip(first, second, strict=True)):
            assert_close(a, b, f"{step}/{position}")
    assert (num_ends > 3) == (mode == "SameStep")


def test_single_environments_run_in_gymnasiums_own_vector_environment(pretrained, scenes):
    envs = SyncVectorEnv([lambda: SegmentationEnv(scenes=scenes, weights=pretrained)] * 3)
    run(envs, random_actions(10), "NextStep")


def test_final_observations_are_separate_arrays_of_the_finished_slots(make_vec):
    env = TorchToNumpy(make_vec())
    env.reset(options={"scene_index": [2, 0, 3]})  # one, two and four instances
    observations, rewards, terminated, _, infos = env.step(random_actions(1)[0])
    assert terminated.tolist() == [True, False, False]
    assert rewards.dtype == np.float64
    final = infos["final_obs"]
    assert [type(value) for value in final] == [dict, type(None), type(None)]
    assert env.single_observation_space.contains(final[0])
    assert final[0]["mask"].any()
    assert all(value.base is None or value.base.nbytes == value.nbytes for value in final[0].values())
    assert not observations["mask"][0].any()
    assert infos["final_info"]["potential"].tolist()[1:] == [0, 0]
    assert infos["final_info"]["_potential"].tolist() == [True, False, False]


def test_numpy_observations_lie_in_the_batched_space(make_vec):
    for kind in ("dict", "stacked", "coarse"):
        env = TorchToNumpy(make_vec(obs=kind))
        observations, _ = env.reset(seed=0)
        assert env.observation_space.contains(observations)
        assert env.observation_space.contains(env.step(env.action_space.sample())[0])


def test_actions_may_be_lists_or_of_another_dtype_or_read_only(make_vec):
    actions = random_actions(1)[0]
    frozen = actions.copy()
    frozen.setflags(write=False)
    rewards = []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for given in (actions, actions.tolist(), actions.astype(np.float64), frozen):
            env = TorchToNumpy(make_vec())
            env.reset(seed=3)
            rewards.append(env.step(given)[1])
    assert all(np.array_equal(rewards[0], other) for other in rewards)
    with pytest.raises(ValueError, match=r"actions must be \[num_envs, l\] = \[3, 4\], got \[2, 4\]"):
        env.step(actions[:2])


def test_seeds_and_options_reach_the_environment_and_stay_as_they_are(make_vec, scenes):
    env = TorchToNumpy(make_vec())
    options = {"scene_index": [4, 0, 2]}
    observations, infos = env.reset(seed=[3, 1, 2], options=options)
    assert options == {"scene_index": [4, 0, 2]}
    assert infos["scene_index"].tolist() == [4, 0, 2]
    np.testing.assert_array_equal(observations["image"][1], scenes[0].image)
    options = {"reset_mask": np.array([False, True, False]), "scene_index": 3}
    _, infos = env.reset(options=options)
    assert set(options) == {"reset_mask", "scene_index"}
    assert infos["scene_index"].tolist() == [0, 3, 0]  # only what was reset has an entry
    assert infos["_scene_index"].tolist() == [False, True, False]
    assert len(set(env.reset(seed=[7, 7, 7])[1]["scene_index"])) == 1
    assert len(set(env.reset(seed=7)[1]["scene_index"])) > 1


def test_gymnasiums_wrappers_run_on_the_numpy_view(make_vec):
    env = DictInfoToList(GymnasiumStatistics(TorchToNumpy(make_vec())))
    num_ends = 0
    for *_, infos in run(env, random_actions(12), "SameStep"):
        assert len(infos) == 3
        for info in infos:
            assert info["potential"].shape == ()
            assert ("final_obs" in info) == ("final_info" in info) == ("episode" in info)
            if "episode" in info:
                num_ends += 1
                assert info["episode"]["l"] == info["final_info"]["num_instances"]
                assert info["episode"]["r"] == pytest.approx(info["final_info"]["potential"], abs=1e-5)
                assert env.single_observation_space.contains(info["final_obs"])
    assert num_ends > 5


def test_the_numpy_view_has_the_statistics_of_the_tensors(make_vec):
    env = TorchToNumpy(RecordEpisodeStatistics(make_vec()))
    entries = [infos["episode"] for *_, infos in run(env, random_actions(6), "SameStep") if "episode" in infos]
    assert entries
    assert {type(value) for entry in entries for value in entry.values()} == {np.ndarray}
    assert sum(entry["r"].sum() for entry in entries) == pytest.approx(sum(env.env.return_queue), abs=1e-4)


# Files


@pytest.fixture
def written(monkeypatch):
    """The frames of every GIF, by the name of the file, instead of the file."""
    found = {}

    def keep(path, frames, fps):
        assert path.name not in found
        found[path.name] = list(frames)

    monkeypatch.setattr(recorder, "write_gif", keep)
    return found


def episodes_of_single(env, actions, seed):
    """Frames of each episode that ends, from the reset to the last step, of a single environment."""
    env.reset(seed=seed)
    frames, episodes = [env.render()], []
    for action in actions:
        _, _, terminated, truncated, _ = env.step(action)
        frames.append(env.render())
        if terminated or truncated:
            episodes.append(frames)
            env.reset()
            frames = [env.render()]
    return episodes


@pytest.mark.parametrize(
    ("mode", "inner"),
    [("SameStep", None), ("NextStep", None), ("Disabled", None), ("SameStep", TorchToNumpy)],
)
def test_a_file_shows_an_episode_from_its_first_frame_to_its_last(
    make_vec, pretrained, scenes, tmp_path, written, mode, inner
):
    env = make_vec(2, autoreset_mode=mode, render_mode="rgb_array")
    env = RecordEpisodes(env if inner is None else inner(env), tmp_path, slots=(1,))
    actions = random_actions(12, 2)
    record = run(env, actions, mode, seed=5)
    steps, was_over = [], False  # the actions that slot 1 took
    for action, result in zip(actions, [result for result in record if len(result) == 5], strict=True):
        if not (mode == "NextStep" and was_over):
            steps.append(action[1])
        was_over = bool((result[2] | result[3])[1])
    single = SegmentationEnv(render_mode="rgb_array", scenes=scenes, weights=pretrained)
    expected = episodes_of_single(single, steps, seed=6)
    assert len(expected) >= 3
    assert list(written) == [f"episode_slot1_{n:06d}.gif" for n in range(len(expected))]
    for frames, others in zip(written.values(), expected, strict=True):
        assert len(frames) == len(others)
        for frame, other in zip(frames, others, strict=True):
            assert frame.shape == other.shape
            assert np.abs(frame.astype(int) - other).mean() < 0.05
        assert not np.array_equal(frames[-1], frames[-2])


def test_only_every_kth_episode_of_the_chosen_slots_is_drawn_and_written(make_vec, tmp_path, written, monkeypatch):
    base = make_vec(4, render_mode="rgb_array")
    env = RecordEpisodes(base, tmp_path, every=3, slots=(0, 2), name_prefix="leaf")
    drawn, render = [], base.render
    monkeypatch.setattr(base, "render", lambda slots, **kwargs: drawn.extend(slots) or render(slots, **kwargs))
    run(env, random_actions(20, 4), "SameStep")
    assert all(count > 3 for count in env.episode_counts.values())
    expected = {f"leaf_slot{slot}_{n:06d}.gif" for slot in (0, 2) for n in range(0, env.episode_counts[slot], 3)}
    assert set(written) == expected
    unfinished = sum(len(frames) for frames in env._frames.values())
    assert len(drawn) == sum(len(frames) for frames in written.values()) + unfinished


def test_the_gif_on_disk_ends_with_the_finished_label_map(make_vec, tmp_path):
    env = RecordEpisodes(make_vec(1, render_mode="rgb_array"), tmp_path / "new", fps=4)
    env.reset(options={"scene_index": 1})
    for action in random_actions(3, 1):
        env.step(action)
    (path,) = (tmp_path / "new").iterdir()
    assert path.name == "episode_slot0_000000.gif"
    last = env.render(before_reset=True)[0]
    with Image.open(path) as gif:
        assert gif.n_frames == 4
        assert gif.info["duration"] == 250
        gif.seek(3)
        shown = np.asarray(gif.convert("RGB"))
    assert shown.shape == last.shape
    assert np.abs(shown.astype(int) - last).mean() < 4
    assert np.abs(shown.astype(int) - env.render()[0]).mean() > 10


def test_an_mp4_holds_every_frame(make_vec, tmp_path):
    env = RecordEpisodes(make_vec(1, render_mode="rgb_array"), tmp_path, fps=5, format="mp4")
    env.reset(options={"scene_index": 1})
    frames = [env.render()[0]]
    for action in random_actions(3, 1):
        env.step(action)
        frames.append(env.render(before_reset=True)[0])
    (path,) = tmp_path.iterdir()
    assert path.name == "episode_slot0_000000.mp4"
    video = cv2.VideoCapture(str(path))
    assert video.get(cv2.CAP_PROP_FPS) == 5
    for frame in frames:
        is_read, shown = video.read()
        assert is_read
        assert shown.shape == frame.shape
        assert np.abs(shown[..., ::-1].astype(int) - frame).mean() < 8
    assert not video.read()[0]


def test_without_a_codec_no_file_appears_and_the_error_names_the_way_out(tmp_path, monkeypatch):
    monkeypatch.setattr(recorder, "CODECS", ("none",))
    with pytest.raises(OSError, match=r"none of the MP4 codecs \('none',\) here; format=\"gif\" needs none"):
        write_mp4(tmp_path / "a.mp4", [np.zeros((8, 8, 3), np.uint8)])
    assert list(tmp_path.iterdir()) == []


def test_an_episode_that_a_reset_cuts_short_is_neither_written_nor_counted(make_vec, tmp_path, written):
    env = RecordEpisodes(make_vec(2, render_mode="rgb_array"), tmp_path, every=2, slots=(0, 1))
    action = random_actions(1, 2)[0]
    env.reset(options={"scene_index": 0})  # two instances
    env.step(action)
    env.reset(options={"scene_index": 3, "reset_mask": np.array([True, False])})  # four in slot 0
    env.step(action)
    assert list(written) == ["episode_slot1_000000.gif"]
    assert env.episode_counts == {0: 0, 1: 1}
    for _ in range(3):
        env.step(action)
    assert len(written["episode_slot0_000000.gif"]) == 5
    assert len(written["episode_slot1_000000.gif"]) == 3
    env.close()
    assert len([name for name in written if "slot0" in name]) == 1


@ANY_MODE
def test_a_state_that_was_put_back_is_recorded_from_there_on(make_vec, tmp_path, written, mode):
    env = RecordEpisodes(make_vec(1, autoreset_mode=mode, render_mode="rgb_array"), tmp_path)
    actions = random_actions(8, 1)
    env.reset(options={"scene_index": 1})  # three instances
    env.step(actions[0])
    snapshot = env.get_state()
    env.step(actions[1])
    env.set_state(snapshot)
    env.step(actions[2])
    env.step(actions[3])
    assert [len(frames) for frames in written.values()] == [3]


def test_the_state_before_a_reset_is_drawn_until_the_next_call_and_kept_only_to_be_drawn(make_vec):
    env = make_vec(2, render_mode="rgb_array")
    env.reset(options={"scene_index": [2, 3]})  # one instance and four
    action = random_actions(1, 2)[0]
    env.step(action)
    last, now = env.render(before_reset=True), env.render()
    assert not np.array_equal(last[0], now[0])
    np.testing.assert_array_equal(last[1], now[1])
    env.reset(options={"reset_mask": np.array([False, True])})
    np.testing.assert_array_equal(env.render(before_reset=True), env.render())
    for _ in range(2):
        env.reset(options={"scene_index": [2, 3]})
        env.step(action)
        env.set_state(env.get_state())
        np.testing.assert_array_equal(env.render(before_reset=True), env.render())
    env = make_vec(2)
    env.reset(options={"scene_index": 2})
    env.step(action)
    assert not env._slots.before_reset


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"every": 0}, "every must be at least 1, got 0"),
        ({"slots": ()}, r"slots must be different ints in \[0, 3\), got \(\)"),
        ({"slots": (0, 3)}, r"slots must be different ints in \[0, 3\), got \(0, 3\)"),
        ({"slots": (1, 1)}, r"slots must be different ints in \[0, 3\), got \(1, 1\)"),
        ({"fps": 0}, r"fps must be in \(0, 50\], got 0"),
        ({"format": "avi"}, r"format must be one of \('gif', 'mp4'\), got 'avi'"),
    ],
)
def test_an_argument_of_the_recorder_out_of_range_is_refused_by_name(make_vec, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        RecordEpisodes(make_vec(render_mode="rgb_array"), tmp_path, **options)


def test_the_recorder_needs_an_environment_that_draws(make_vec, make_sync, tmp_path):
    with pytest.raises(ValueError, match=r'env.render_mode must be "rgb_array", got None'):
        RecordEpisodes(make_vec(), tmp_path)
    with pytest.raises(TypeError, match="env must be a SegmentationVectorEnv, wrapped or not, got SyncVectorEnv"):
        RecordEpisodes(make_sync(1, "SameStep", render_mode="rgb_array"), tmp_path)
