"""The numpy view is that of Gymnasium's own vector environment."""

import warnings

import numpy as np
import pytest
from gymnasium.vector import SyncVectorEnv
from gymnasium.wrappers.vector import DictInfoToList
from gymnasium.wrappers.vector import RecordEpisodeStatistics as GymnasiumStatistics

from acis_env import SegmentationEnv
from acis_env.wrappers import RecordEpisodeStatistics, TorchToNumpy


def random_actions(steps, num_envs=3, seed=0):
    """Actions `[steps, num_envs, 4]` in [-1, 1]."""
    return np.random.default_rng(seed).uniform(-1, 1, (steps, num_envs, 4)).astype(np.float32)


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
def test_the_numpy_view_is_that_of_gymnasiums_own_vector_environment(run, make_vec, make_sync, mode, options):
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


def test_single_environments_run_in_gymnasiums_own_vector_environment(run, pretrained, scenes):
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
        for given in (actions, actions.tolist(), actions.astype(np.float64), frozen, actions[::-1].copy()[::-1]):
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


def test_gymnasiums_wrappers_run_on_the_numpy_view(mended_gymnasium, run, make_vec):
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


def test_the_numpy_view_has_the_statistics_of_the_tensors(run, make_vec):
    env = TorchToNumpy(RecordEpisodeStatistics(make_vec()))
    entries = [infos["episode"] for *_, infos in run(env, random_actions(6), "SameStep") if "episode" in infos]
    assert entries
    assert {type(value) for entry in entries for value in entry.values()} == {np.ndarray}
    assert sum(entry["r"].sum() for entry in entries) == pytest.approx(sum(env.env.return_queue), abs=1e-4)
