"""Files show episodes from their first frame to their last."""

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from acis_env import SegmentationEnv
from acis_env.wrappers import RecordEpisodes, TorchToNumpy, recorder
from acis_env.wrappers.recorder import write_mp4

MODES = ("SameStep", "NextStep", "Disabled")
ANY_MODE = pytest.mark.parametrize("mode", MODES)


def random_actions(steps, num_envs=3, seed=0):
    """Actions `[steps, num_envs, 4]` in [-1, 1]."""
    return np.random.default_rng(seed).uniform(-1, 1, (steps, num_envs, 4)).astype(np.float32)


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
    run, make_vec, pretrained, scenes, tmp_path, written, mode, inner
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


def test_only_every_kth_episode_of_the_chosen_slots_is_drawn_and_written(run, make_vec, tmp_path, written, monkeypatch):
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
@pytest.mark.parametrize("slots", [None, [0], torch.tensor([0]), np.array([0])], ids=["all", "list", "torch", "numpy"])
def test_a_state_that_was_put_back_is_recorded_from_there_on(make_vec, tmp_path, written, mode, slots):
    env = RecordEpisodes(make_vec(1, autoreset_mode=mode, render_mode="rgb_array"), tmp_path)
    actions = random_actions(8, 1)
    env.reset(options={"scene_index": 1})  # three instances
    env.step(actions[0])
    snapshot = env.get_state()
    env.step(actions[1])
    env.set_state(snapshot, slots)
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
