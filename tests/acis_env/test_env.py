"""The environments keep the contracts of Gymnasium and of `SAME_STEP`, whatever the number of slots."""

import warnings

import cv2
import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode
from stable_baselines3.common.env_checker import check_env as check_env_of_sb3

from acis_env import Leaves, SegmentationEnv, SegmentationVectorEnv
from acis_env.context import oracle_context
from acis_env.datasets import Scene
from acis_env.metrics import METRIC_NAMES, segmentation_metrics
from acis_env.reward import assign, instance_areas, score
from acis_env.weights import save_weights

KEYS = {"image", "mask", "foreground", "angles"}
INFO_KEYS = {"potential", "num_instances", "step_count", "assignment", "scene_index", "augmentation"}
FINAL_KEYS = {*METRIC_NAMES, "is_success"}
COLOURFUL = {"rotation": 20, "brightness": 0.2, "saturation": 0.3}


@pytest.fixture
def make_env(pretrained, scenes):
    """A function that opens the hand-made scenes one at a time."""
    return lambda **options: SegmentationEnv(**{"scenes": scenes, "weights": pretrained, **options})


@pytest.fixture
def make_vec(pretrained, scenes):
    """A function that opens the hand-made scenes in `num_envs` slots."""
    return lambda num_envs=3, **options: SegmentationVectorEnv(
        num_envs, **{"scenes": scenes, "weights": pretrained, **options}
    )


def random_actions(steps, num_envs=1, seed=0):
    """Actions `[steps, num_envs, 4]`, some of them outside of [-1, 1]."""
    return np.random.default_rng(seed).uniform(-1.2, 1.2, (steps, num_envs, 4)).astype(np.float32)


def play(env, actions, seed=None, options=None):
    """One episode of a single env: observations from the reset on, rewards, info of the last step."""
    observation, info = env.reset(seed=seed, options=options)
    observations, rewards = [observation], []
    for action in actions:
        observation, reward, terminated, truncated, info = env.step(action)
        observations.append(observation)
        rewards.append(reward)
        if terminated or truncated:
            break
    return observations, rewards, info


def assert_close_observations(first, second):
    """Equal up to the rounding of one grey level."""
    assert set(first) == set(second) == KEYS
    for key in KEYS:
        a, b = (np.asarray(observation[key]) for observation in (first, second))
        assert a.shape == b.shape
        assert a.dtype == b.dtype == np.uint8
        assert np.abs(a.astype(int) - b.astype(int)).max() <= 1, key


# Contracts of other libraries


@pytest.fixture
def checked_env(make_networks):
    """Leaves at 64x64, because stable-baselines3 warns of pictures smaller than 36x36."""
    options = {"scenes": Leaves(length=5, max_leaves=4), "weights": make_networks(size=(64, 64))}
    return gym.make("ACIS/Scenes-v0", render_mode="rgb_array", **options).unwrapped


def test_gymnasium_finds_nothing_to_object_to(checked_env):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(checked_env)


def test_stable_baselines3_finds_nothing_to_object_to(checked_env):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env_of_sb3(checked_env, warn=True, skip_render_check=False)


def test_the_registered_ids_name_both_environments():
    for name, arguments in {"Leaves": {"scenes": "leaves", "weights": "leaves-64"}, "Scenes": {}}.items():
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


def test_the_bundled_environment_runs_in_many_slots_under_its_name():
    envs = gym.make_vec("ACIS/Leaves-v0", num_envs=3, scene_options={"length": 3})
    assert isinstance(envs, SegmentationVectorEnv)
    observations, _ = envs.reset(seed=0)
    assert observations["image"].shape == (3, 3, 64, 64)
    _, rewards, *_ = envs.step(envs.action_space.sample())
    assert rewards.shape == (3,)


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


def test_every_observation_and_action_lies_in_its_space(make_env, make_vec):
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


def test_the_same_seed_gives_the_same_episode(make_env):
    actions = random_actions(4)[:, 0]
    first, second = (play(make_env(augmentation=COLOURFUL), actions, seed=11) for _ in range(2))
    assert first[1] == second[1]
    for a, b in zip(first[0], second[0], strict=True):
        assert all(np.array_equal(a[key], b[key]) for key in KEYS)


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


@pytest.mark.parametrize("options", [{}, {"augmentation": COLOURFUL, "context": "oracle", "score": "iou"}])
def test_a_slot_of_many_plays_as_the_single_environment_with_its_seed(make_env, make_vec, options):
    num_envs, steps, seed = 3, 14, 21
    actions = random_actions(steps, num_envs)
    envs = make_vec(num_envs, **options)
    observations, _ = envs.reset(seed=seed)
    record = [(observations, None, None, {})]
    for action in actions:
        observations, rewards, terminated, _, infos = envs.step(action)
        record.append((observations, rewards, terminated, infos))

    for slot in range(num_envs):
        env, episodes = make_env(**options), 0
        observation, _ = env.reset(seed=seed + slot)
        assert_close_observations({key: value[slot] for key, value in record[0][0].items()}, observation)
        for action, (observations, rewards, terminated, infos) in zip(actions[:, slot], record[1:], strict=True):
            observation, reward, is_over, _, info = env.step(action)
            assert reward == pytest.approx(float(rewards[slot]), abs=1e-5)
            assert is_over == bool(terminated[slot])
            if is_over:
                episodes += 1
                final = {key: value[slot] for key, value in infos["final_obs"].items()}
                assert_close_observations(final, observation)
                assert info["potential"] == pytest.approx(float(infos["final_info"]["potential"][slot]), abs=1e-5)
                assert info["sbd"] == pytest.approx(float(infos["final_info"]["sbd"][slot]), abs=1e-2)
                observation, _ = env.reset()
            assert_close_observations({key: value[slot] for key, value in observations.items()}, observation)
        assert episodes >= 3


def test_rewards_are_never_negative_and_sum_to_the_final_potential(make_env):
    env = make_env()
    for seed in range(8):
        _, rewards, info = play(env, random_actions(4, seed=seed)[:, 0], seed=seed)
        assert min(rewards) >= 0
        assert sum(rewards) == pytest.approx(info["potential"], abs=1e-5)
        assert 0 < info["potential"] <= info["num_instances"]


@pytest.mark.parametrize("name", ["dice", "iou"])
def test_the_potential_is_that_of_the_decoded_masks_under_the_chosen_score(make_env, pretrained, name):
    env = make_env(score=name, context="oracle", action_scale=2.0)
    actions = random_actions(3, seed=5)[:, 0]
    _, _, info = play(env, actions, options={"scene_index": 1})
    scene = env.scene
    label_map = torch.from_numpy(scene.label_map)[None].long()
    context = oracle_context(torch.from_numpy(scene.image)[None], label_map, 4)
    latents = 2.0 * torch.from_numpy(actions).clamp(-1, 1)
    masks = env.decoder(latents, env.decoder.condition(context.expand(3, -1, -1, -1)))[:, 0]
    label_maps = label_map.expand(3, -1, -1)
    assignment, phi = assign(score(masks, label_maps, instance_areas(label_maps, 3), name).numpy())
    assert info["potential"] == pytest.approx(phi, abs=1e-5)
    assert info["assignment"].tolist() == assignment.tolist()
    np.testing.assert_allclose(
        play(env, actions, options={"scene_index": 1})[0][-1]["mask"][0], masks.amax(0) * 255, atol=1
    )


def test_an_action_beyond_the_space_does_what_its_border_does(make_env):
    env = make_env()
    _, first, _ = play(env, np.array([[1, -1, 1, 0.5]], np.float32), options={"scene_index": 2})
    _, second, _ = play(env, np.array([[3, -1.5, 1, 0.5]], np.float32), options={"scene_index": 2})
    _, other, _ = play(env, np.array([[0.5, -1, 1, 0.5]], np.float32), options={"scene_index": 2})
    assert first == second != other


def test_an_episode_has_as_many_steps_as_its_scene_has_instances(make_env):
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


def test_an_episode_is_truncated_after_the_steps_allowed_unless_it_ends_there(make_env):
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


# What happens at the end of an episode in one of many slots


def test_final_observations_and_infos_are_there_only_when_an_episode_ends(make_vec):
    envs = make_vec(3)
    _, infos = envs.reset(options={"scene_index": [2, 0, 3]})  # 1, 2 and 4 instances
    assert set(infos) == INFO_KEYS | {f"_{key}" for key in INFO_KEYS}
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


def test_a_step_without_an_end_has_no_final_entries(make_vec):
    envs = make_vec(3)
    envs.reset(options={"scene_index": [0, 1, 3]})
    infos = envs.step(random_actions(1, 3)[0])[4]
    assert set(infos) == INFO_KEYS | {f"_{key}" for key in INFO_KEYS}
    assert all(infos[f"_{key}"].tolist() == [True] * 3 for key in INFO_KEYS)
    assert infos["step_count"].tolist() == [1, 1, 1]


def test_a_finished_slot_begins_anew_in_the_same_step_and_the_others_go_on(make_vec, make_env):
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
    assert all(final[f"_{key}"].tolist() == [True, False, False] for key in (*INFO_KEYS, *FINAL_KEYS))


def test_final_metrics_are_those_of_the_final_label_map(make_vec, make_env, scenes):
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


def test_the_single_environment_measures_only_finished_episodes(make_env):
    env = make_env()
    _, info = env.reset(options={"scene_index": 0})
    assert set(info) == INFO_KEYS
    assert info["assignment"].tolist() == []
    first, second = random_actions(2)[:, 0]
    assert set(env.step(first)[4]) == INFO_KEYS
    info = env.step(second)[4]
    assert set(info) == INFO_KEYS | FINAL_KEYS
    assert sorted(info["assignment"].tolist()) == [0, 1]


def test_changing_what_was_returned_changes_nothing_later(make_vec):
    def spoil(value):
        if isinstance(value, dict):
            for part in value.values():
                spoil(part)
        else:
            value.fill_(1)

    def run(change):
        envs, results = make_vec(3), []
        for step, action in enumerate([None, *random_actions(8, 3)]):
            returned = envs.reset(seed=2) if step == 0 else envs.step(action)
            observations, *_, infos = returned
            results.append(
                [observations[key].clone() for key in sorted(KEYS)] + [infos[key].clone() for key in sorted(INFO_KEYS)]
            )
            if step:
                results[-1] += [part.clone() for part in returned[1:4]]
            for part in returned if change else ():
                spoil(part)
        return results

    for kept, spoiled in zip(run(change=False), run(change=True), strict=True):
        for a, b in zip(kept, spoiled, strict=True):
            assert torch.equal(a, b)


def test_no_two_calls_return_the_same_memory(make_vec):
    envs = make_vec(2)

    def addresses(value):
        if isinstance(value, dict):
            return set().union(*(addresses(part) for part in value.values()))
        return {value.data_ptr()}

    kept = [envs.reset(options={"scene_index": 3})]
    kept += [envs.step(action) for action in random_actions(5, 2)]
    seen = [set().union(*(addresses(part) for part in returned)) for returned in kept]
    assert len(set().union(*seen)) == sum(len(found) for found in seen)
    state = {tensor.data_ptr() for tensor in envs.state.tensors()}
    assert not state & set().union(*seen)


def test_changing_an_observation_of_the_single_environment_changes_nothing_later(make_env):
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


# Context, augmentation and what can be looked at


def relabelled(scenes, make_scenes):
    """The same images, with the label maps of other scenes."""
    label_maps = [scene.label_map for scene in (*scenes[1:], scenes[0])]
    return make_scenes(
        Scene(scene.image, label_map, scene.name) for scene, label_map in zip(scenes, label_maps, strict=True)
    )


def test_a_prediction_never_sees_the_label_map_and_the_oracle_does(make_vec, scenes, make_scenes):
    contexts, masks = {}, {}
    for source in ("predicted", "oracle"):
        for name, data in (("own", scenes), ("other", relabelled(scenes, make_scenes))):
            envs = make_vec(5, scenes=data, context=source)
            envs.reset(options={"scene_index": list(range(5))})
            contexts[source, name] = envs.state.context
            # Scenes 1 and 2 have one instance in one of the data sets, and are over after the step.
            masks[source, name] = envs.step(random_actions(1, 5)[0])[0]["mask"][[0, 3, 4]]
    for values in (contexts, masks):
        assert torch.equal(values["predicted", "own"], values["predicted", "other"])
        assert not torch.equal(values["oracle", "own"], values["oracle", "other"])


def test_the_oracle_and_the_prediction_are_those_of_the_scene(make_env, pretrained, scenes):
    image = torch.from_numpy(scenes[1].image)[None]
    contexts = {
        "oracle": oracle_context(image, torch.from_numpy(scenes[1].label_map)[None].long(), 3),
        "predicted": pretrained.context_network.context(image),
    }
    for source, context in contexts.items():
        observation, _ = make_env(context=source).reset(options={"scene_index": 1})
        seen = np.concatenate([observation[key] for key in ("image", "foreground", "angles")])
        np.testing.assert_allclose(seen, context[0] * 255, atol=0.51)


def test_networks_in_training_mode_do_not_tie_the_slots_to_each_other(make_vec, make_networks):
    networks = make_networks()
    networks.context_network.train()
    envs, contexts = make_vec(2, weights=networks), []
    for neighbour in (2, 3):
        envs.reset(options={"scene_index": [1, neighbour]})
        contexts.append(envs.state.context[0])
    torch.testing.assert_close(*contexts)


def test_augmentation_depends_on_the_seed_alone(make_env, scenes):
    env, again = make_env(augmentation=COLOURFUL), make_env(augmentation=COLOURFUL)
    options = {"scene_index": 3}
    first, _ = env.reset(seed=1, options=options)
    second, _ = again.reset(seed=1, options=options)
    other, _ = env.reset(seed=2, options=options)
    assert np.array_equal(first["image"], second["image"])
    assert not np.array_equal(first["image"], other["image"])
    assert not np.array_equal(first["image"], scenes[3].image)


def test_the_scene_is_the_one_under_way_as_it_was_augmented(make_env):
    env = make_env(augmentation=COLOURFUL, context="oracle")
    for seed in range(4):
        observation, info = env.reset(seed=seed)
        scene = env.scene
        np.testing.assert_array_equal(scene.image, observation["image"])
        np.testing.assert_array_equal((scene.label_map > 0) * 255, observation["foreground"][0])
        assert scene.num_instances == info["num_instances"]
        assert scene.name.startswith("boxes-")


def test_scenes_of_another_size_are_resized_to_that_of_the_networks(make_env, make_scenes, make_scene):
    scenes = make_scenes([make_scene([(4, 6, 40, 30), (40, 32, 60, 90)], size=(64, 96))])
    env = make_env(scenes=scenes)
    observation, info = env.reset()
    assert observation["image"].shape == (3, 32, 32)
    assert info["num_instances"] == 2


def test_the_label_map_gives_pixels_above_the_cut_off_to_the_largest_mask(make_env):
    env = make_env(cut_off=0.6)
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


def test_frames_are_pictures_of_constant_size(make_env, make_vec):
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
def test_an_action_that_is_not_finite_is_refused_and_leaves_the_episode_as_it_was(make_env, make_vec, value):
    env, envs = make_env(), make_vec(3)
    env.reset()
    envs.reset()
    actions = np.zeros((3, 4), np.float32)
    actions[1, 2] = value
    with pytest.raises(ValueError, match=r"must be finite, got NaN or infinity in slots \[1\]"):
        envs.step(actions)
    with pytest.raises(ValueError, match="must be finite"):
        env.step(actions[1])
    assert envs.state.step_count.tolist() == [0, 0, 0]
    env.step(np.zeros(4, np.float32))


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
        ({"context": "guess"}, "context must be one of .*'predicted', 'oracle'.*, got 'guess'"),
        ({"max_episode_steps": 0}, "max_episode_steps must be None or at least 1, got 0"),
        ({"render_mode": "human"}, "render_mode must be .*rgb_array.*, got 'human'"),
        ({"action_scale": 0.0}, "action_scale must be positive, got 0.0"),
        ({"action_scale": float("nan")}, "action_scale must be positive, got nan"),
        ({"cut_off": 1.0}, "cut_off must be between 0 and 1, got 1.0"),
        ({"augmentation": {"rotation": 400}}, r"rotation must be in \[0, 180\] degrees, got 400"),
        ({"scenes": "leaves", "split": "tset"}, "split must be one of train, val, test, got 'tset'"),
        ({"scenes": "leaves", "scene_options": {"most_leaves": 3}}, r"\['most_leaves'\].*unexpected keyword"),
    ],
)
def test_an_argument_out_of_range_is_refused_by_name(make_env, option, message):
    with pytest.raises(ValueError, match=message):
        make_env(**option)


def test_no_slot_at_all_is_refused(make_vec):
    with pytest.raises(ValueError, match="num_envs must be at least 1, got 0"):
        make_vec(0)


def test_a_missing_folder_of_scenes_or_weights_is_named(make_env, tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        make_env(scenes=str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match="nowhere"):
        make_env(weights=str(tmp_path / "nowhere"))
