"""The environment with one scene keeps the contracts of Gymnasium and of its checkers."""

import warnings

import cv2
import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode
from stable_baselines3.common.env_checker import check_env as check_env_of_sb3

from acis_env import Leaves, SegmentationEnv
from acis_env.context import oracle_context
from acis_env.matching import from_scratch
from acis_env.reward import instance_areas, score
from acis_env.weights import save_weights

COLOURFUL = {"rotation": 20, "brightness": 0.2, "saturation": 0.3}


# Contracts of other libraries


@pytest.fixture(params=["ACIS/Leaves-v0", "ACIS/Scenes-v0"])
def name(request):
    return request.param


@pytest.fixture(params=["ground_truth", "agent"])
def stop(request):
    return request.param


@pytest.fixture(params=["dict", "stacked", "coarse"])
def obs(request):
    return request.param


@pytest.fixture
def checked_env(make_networks, name, stop, obs):
    """Leaves at 64x64, because stable-baselines3 warns of pictures smaller than 36x36."""
    options = {"scene_options": {"length": 5, "max_leaves": 4}}
    if name == "ACIS/Scenes-v0":
        options = {"scenes": Leaves(length=5, max_leaves=4), "weights": make_networks(size=(64, 64))}
    return gym.make(name, render_mode="rgb_array", stop=stop, obs=obs, **options).unwrapped


def test_gymnasium_finds_nothing_to_object_to(checked_env):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(checked_env)


def test_stable_baselines3_finds_nothing_to_object_to(checked_env):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env_of_sb3(checked_env, warn=True, skip_render_check=False)


def test_the_registered_ids_name_both_environments():
    for name, arguments in {"Leaves": {"scenes": "dataset:leaves", "weights": "leaves-64"}, "Scenes": {}}.items():
        spec = gym.spec(f"ACIS/{name}-v0")
        assert spec.entry_point == "acis_env.env:SegmentationEnv"
        assert spec.vector_entry_point == "acis_env.vector_env:SegmentationVectorEnv"
        assert spec.kwargs == arguments


def test_the_bundled_environment_runs_under_its_name():
    env = gym.make("ACIS/Leaves-v0", scene_options={"length": 3})
    observation, info = env.reset(seed=0)
    assert env.observation_space.contains(observation)
    assert observation["image"].shape == (3, 64, 64)
    terminated = False
    for _ in range(info["num_instances"]):
        assert not terminated
        _, _, terminated, truncated, info = env.step(env.action_space.sample())
        assert not truncated
    assert terminated
    assert 0 < info["potential"] <= info["num_instances"]


def test_own_scenes_run_under_their_name(pretrained, scenes):
    env = gym.make("ACIS/Scenes-v0", scenes=scenes, weights=pretrained)
    assert env.reset(seed=0)[0]["image"].shape == (3, 32, 32)
    envs = gym.make_vec("ACIS/Scenes-v0", num_envs=2, scenes=scenes, weights=pretrained, max_episode_steps=1)
    envs.reset(seed=0, options={"scene_index": 0})
    assert envs.step(envs.action_space.sample())[3].tolist() == [True, True]


def test_weights_can_be_given_as_a_folder_and_leaves_by_name(pretrained, tmp_path):
    save_weights(tmp_path, pretrained.context_network)
    save_weights(tmp_path, pretrained.autoencoder)
    env = SegmentationEnv(scenes="leaves", weights=str(tmp_path), split="val", scene_options={"length": 2})
    env.reset(seed=0)
    assert env.scene.name in {"leaves-val-00000", "leaves-val-00001"}
    assert env.scene.image.shape == (3, 32, 32)


def test_scenes_can_be_given_as_a_folder_of_splits(make_env, tmp_path, scenes):
    for split, index in (("train", 0), ("val", 3)):
        (tmp_path / split).mkdir()
        cv2.imwrite(str(tmp_path / split / "a_rgb.png"), scenes[index].image.transpose(1, 2, 0)[..., ::-1])
        cv2.imwrite(str(tmp_path / split / "a_label.png"), scenes[index].label_map.astype(np.uint16))
    for split, index in (("train", 0), ("val", 3)):
        observation, info = make_env(scenes=str(tmp_path), split=split).reset()
        np.testing.assert_array_equal(observation["image"], scenes[index].image)
        assert info["num_instances"] == scenes[index].num_instances


# Spaces and episodes


def test_every_observation_and_action_lies_in_its_space(make_env, make_vec, random_actions, play):
    env, envs = make_env(), make_vec()
    assert env.action_space == gym.spaces.Box(-1, 1, (4,), np.float32)
    observations, rewards, _ = play(env, random_actions(4)[:, 0], seed=0)
    assert all(env.observation_space.contains(observation) for observation in observations)
    assert all(isinstance(reward, float) for reward in rewards)
    observations, _ = envs.reset(seed=0)
    assert envs.observation_space.contains({key: value.numpy() for key, value in observations.items()})
    assert envs.single_observation_space == env.observation_space
    assert envs.action_space.shape == (3, 4)
    assert envs.metadata["autoreset_mode"] == AutoresetMode.SAME_STEP


def test_the_same_seed_gives_the_same_episode(make_env, random_actions, play):
    actions = random_actions(4)[:, 0]
    first, second = (play(make_env(augmentation=COLOURFUL), actions, seed=11) for _ in range(2))
    assert first[1] == second[1]
    for a, b in zip(first[0], second[0], strict=True):
        assert all(np.array_equal(a[key], b[key]) for key in a)


def test_a_seed_starts_the_same_episodes_in_a_used_environment_and_a_fresh_one(make_env):
    used, fresh = make_env(augmentation=COLOURFUL), make_env(augmentation=COLOURFUL)
    for _ in range(3):
        used.reset()
    for seed in (4, None, None):
        (first, _), (second, _) = used.reset(seed=seed), fresh.reset(seed=seed)
        assert np.array_equal(first["image"], second["image"])


def test_different_seeds_and_successive_episodes_show_different_scenes(make_env):
    env = make_env()
    by_seed = {env.reset(seed=seed)[0]["image"].tobytes() for seed in range(60)}
    assert len(by_seed) == 5
    env.reset(seed=0)
    assert len({env.reset()[0]["image"].tobytes() for _ in range(60)}) == 5


def test_rewards_are_never_negative_and_sum_to_the_final_potential(make_env, random_actions, play):
    env = make_env()
    for seed in range(8):
        _, rewards, info = play(env, random_actions(4, seed=seed)[:, 0], seed=seed)
        assert min(rewards) >= 0
        assert sum(rewards) == pytest.approx(info["potential"], abs=1e-5)
        assert 0 < info["potential"] <= info["num_instances"]


@pytest.mark.parametrize("name", ["dice", "iou"])
def test_the_potential_is_that_of_the_decoded_masks_under_the_chosen_score(
    make_env, pretrained, name, random_actions, play
):
    env = make_env(score=name, context="oracle", action_scale=2.0)
    actions = random_actions(3, seed=5)[:, 0]
    _, _, info = play(env, actions, options={"scene_index": 1})
    scene = env.scene
    label_map = torch.from_numpy(scene.label_map)[None].long()
    context = oracle_context(torch.from_numpy(scene.image)[None], label_map, 4)
    latents = 2.0 * torch.from_numpy(actions).clamp(-1, 1)
    masks = env.decoder(latents, env.decoder.condition(context.expand(3, -1, -1, -1)))[:, 0]
    label_maps = label_map.expand(3, -1, -1)
    scores = score(masks, label_maps, instance_areas(label_maps, 3), name)
    assignment, phi = from_scratch(scores[None], torch.tensor([3]), torch.tensor([3]))
    assert info["potential"] == pytest.approx(phi.item(), abs=1e-5)
    assert info["assignment"][: info["step_count"]].tolist() == assignment[0].tolist()
    np.testing.assert_allclose(
        play(env, actions, options={"scene_index": 1})[0][-1]["mask"][0], masks.amax(0) * 255, atol=1
    )


def test_an_action_beyond_the_space_does_what_its_border_does(make_env, play):
    env = make_env()
    _, first, _ = play(env, np.array([[1, -1, 1, 0.5]], np.float32), options={"scene_index": 2})
    _, second, _ = play(env, np.array([[3, -1.5, 1, 0.5]], np.float32), options={"scene_index": 2})
    _, other, _ = play(env, np.array([[0.5, -1, 1, 0.5]], np.float32), options={"scene_index": 2})
    assert first == second != other


def test_an_episode_has_as_many_steps_as_its_scene_has_instances(make_env, random_actions, play):
    env = make_env()
    for index, count in enumerate((2, 3, 1, 4, 3)):
        _, rewards, info = play(env, random_actions(9)[:, 0], options={"scene_index": index})
        assert len(rewards) == info["num_instances"] == info["step_count"] == count


def test_the_option_scene_index_chooses_the_scene_of_every_slot(make_env, make_vec, scenes):
    env, envs = make_env(), make_vec(3)
    observation, _ = env.reset(options={"scene_index": 3})
    np.testing.assert_array_equal(observation["image"], scenes[3].image)
    observations, infos = envs.reset(options={"scene_index": [4, 0, 2]})
    assert infos["num_instances"].tolist() == [3, 2, 1]
    np.testing.assert_array_equal(observations["image"], np.stack([scenes[i].image for i in (4, 0, 2)]))
    assert [scene.name for scene in envs.scene] == ["boxes-4", "boxes-0", "boxes-2"]
    assert envs.reset(options={"scene_index": 1})[1]["num_instances"].tolist() == [3, 3, 3]
    with pytest.raises(IndexError, match=r"in \[0, 5\), got 5"):
        env.reset(options={"scene_index": 5})


def test_an_episode_is_truncated_after_the_steps_allowed_unless_it_ends_there(make_env, random_actions):
    env = make_env(max_episode_steps=2)
    flags = {}
    for index in range(5):
        env.reset(options={"scene_index": index})
        flags[index] = []
        for action in random_actions(2)[:, 0]:
            if flags[index] and any(flags[index][-1]):
                break
            flags[index].append(env.step(action)[2:4])
    going_on, terminated, truncated = (False, False), (True, False), (False, True)
    assert flags == {
        0: [going_on, terminated],  # two instances: both ends at once are no truncation
        1: [going_on, truncated],
        2: [terminated],
        3: [going_on, truncated],
        4: [going_on, truncated],
    }


def test_the_single_environment_measures_only_finished_episodes(make_env, random_actions, info_keys, final_keys):
    env = make_env()
    _, info = env.reset(options={"scene_index": 0})
    assert set(info) == info_keys
    assert info["assignment"].tolist() == [-1] * 4
    first, second = random_actions(2)[:, 0]
    assert set(env.step(first)[4]) == info_keys
    info = env.step(second)[4]
    assert set(info) == info_keys | final_keys
    assert sorted(info["assignment"][:2].tolist()) == [0, 1]


def test_changing_an_observation_of_the_single_environment_changes_nothing_later(make_env, random_actions):
    results = []
    for change in (False, True):
        env = make_env()
        observation, info = env.reset(options={"scene_index": 3})
        for action in random_actions(3)[:, 0]:
            if change:
                for value in (*observation.values(), info["assignment"], env.label_map):
                    value.fill(1)
            observation, reward, _, _, info = env.step(action)
        results.append((observation["mask"].copy(), observation["image"].copy(), reward, info["potential"]))
    for a, b in zip(*results, strict=True):
        assert np.array_equal(a, b)


# What can be looked at


def test_the_label_map_gives_pixels_above_the_cut_off_to_the_largest_mask(make_env, random_actions):
    env = make_env(threshold=0.6)
    env.reset(options={"scene_index": 3})
    assert not env.label_map.any()
    masks = []
    for action in random_actions(3)[:, 0]:
        env.step(action)
        masks.append(env._slot.state.predicted_mask[0, 0].numpy())
    expected = np.where(np.max(masks, axis=0) >= 0.6, np.argmax(masks, axis=0) + 1, 0)
    assert env.label_map.dtype == np.int64
    np.testing.assert_array_equal(env.label_map, expected)
    assert len(np.unique(expected)) > 2


def test_the_decoder_turns_actions_into_the_masks_of_the_environment_and_is_frozen(make_env, pretrained):
    env = make_env()
    assert env.decoder is pretrained.autoencoder.decoder
    assert not any(parameter.requires_grad for parameter in env.decoder.parameters())
    assert not env.decoder.training


def test_frames_are_pictures_of_constant_size(make_env, make_vec, random_actions):
    env = make_env(render_mode="rgb_array")
    frames = []
    for index in range(5):
        env.reset(options={"scene_index": index})
        frames.append(env.render())
        for action in random_actions(4)[: env.scene.num_instances, 0]:
            env.step(action)
            frames.append(env.render())
    assert len(frames) == 5 + 13
    assert {frame.shape for frame in frames} == {frames[0].shape}
    assert frames[0].shape[2] == 3
    assert all(frame.dtype == np.uint8 for frame in frames)
    assert not np.array_equal(frames[0], frames[1])
    envs = make_vec(2, render_mode="rgb_array")
    envs.reset(options={"scene_index": [0, 1]})
    pictures = envs.render()
    assert [picture.shape for picture in pictures] == [frames[0].shape] * 2
    np.testing.assert_array_equal(pictures[0], frames[0])


def test_an_environment_without_a_render_mode_draws_nothing(make_env, make_vec):
    for env in (make_env(), make_vec(2)):
        env.reset()
        assert env.render() is None


# Bad input


def test_an_action_of_another_shape_is_refused_with_both_shapes(make_env, make_vec):
    env, envs = make_env(), make_vec(3)
    env.reset()
    envs.reset()
    with pytest.raises(ValueError, match=r"action must be \[l\] = \[4\], got \[5\]"):
        env.step(np.zeros(5, np.float32))
    with pytest.raises(ValueError, match=r"action must be \[l\] = \[4\], got \[1, 4\]"):
        env.step(np.zeros((1, 4), np.float32))
    with pytest.raises(ValueError, match=r"actions must be \[num_envs, l\] = \[3, 4\], got \[2, 4\]"):
        envs.step(torch.zeros(2, 4))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_an_action_that_is_not_finite_is_refused_and_leaves_the_episode_as_it_was(make_env, value):
    env = make_env()
    _, before = env.reset()
    with pytest.raises(ValueError, match=r"action must be finite, got \[0.0, 0.0, -?(nan|inf), 0.0\]"):
        env.step(np.array([0, 0, value, 0], np.float32))
    *_, infos = env.step(np.zeros(4, np.float32))
    assert infos["step_count"] == before["step_count"] + 1 == 1


def test_a_step_needs_a_reset_first(make_env, make_vec):
    with pytest.raises(RuntimeError, match=r"call reset\(\)"):
        make_env().step(np.zeros(4, np.float32))
    with pytest.raises(RuntimeError, match=r"call reset\(\)"):
        make_vec().step(torch.zeros(3, 4))


def test_a_step_after_the_end_is_refused_until_the_next_reset(make_env):
    env = make_env()
    env.reset(options={"scene_index": 2})
    env.step(np.zeros(4, np.float32))
    with pytest.raises(RuntimeError, match="the episode is over"):
        env.step(np.zeros(4, np.float32))
    env.reset()
    env.step(np.zeros(4, np.float32))


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"score": "f1"}, r"score must be one of .*'dice', 'iou'.*, got 'f1'"),
        ({"context": "guess"}, "context must be .*predicted.*oracle.*, got 'guess'"),
        ({"max_episode_steps": 0}, "max_episode_steps must be None or an int from 1 on, got 0"),
        ({"render_mode": "human"}, "render_mode must be .*rgb_array.*, got 'human'"),
        ({"action_scale": 0.0}, "action_scale must be a positive number, got 0.0"),
        ({"action_scale": float("nan")}, "action_scale must be a positive number, got nan"),
        ({"threshold": 1.0}, "threshold must be a number between 0 and 1, got 1.0"),
        ({"augmentation": {"rotation": 400}}, r"rotation must be in \[0, 180\] degrees, got 400"),
        ({"scenes": "leaves", "split": "tset"}, "split must be one of train, val, test, got 'tset'"),
        (
            {"scenes": "leaves", "scene_options": {"most_leaves": 3}},
            "unknown 'most_leaves', the nearest are 'min_leaves'",
        ),
    ],
)
def test_an_argument_out_of_range_is_refused_by_name(make_env, option, message):
    with pytest.raises(ValueError, match=message):
        make_env(**option)


def test_a_missing_folder_of_scenes_or_weights_is_named(make_env, tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        make_env(scenes=str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match="nowhere"):
        make_env(weights=str(tmp_path / "nowhere"))


@pytest.mark.parametrize(("name", "value"), [("num_envs", 2), ("autoreset_mode", "SameStep")])
def test_an_argument_of_many_scenes_is_refused_for_one(make_env, name, value):
    with pytest.raises(ValueError, match=f"{name} is of many scenes at a time, got {value!r} for one"):
        make_env(**{name: value})
