"""Many slots at once: independent of each other, repeatable, and open to be looked at, copied and changed."""

import copy
import pickle
import re

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AutoresetMode

from acis_env import SegmentationVectorEnv, tree, vector_env
from acis_env.matching import from_scratch
from acis_env.reward import score

COLOURFUL = {"rotation": 20, "brightness": 0.2, "saturation": 0.3}


def test_the_bundled_environment_runs_in_many_slots_under_its_name():
    envs = gym.make_vec("ACIS/Leaves-v0", num_envs=3, scene_options={"length": 3})
    assert isinstance(envs, SegmentationVectorEnv)
    observations, _ = envs.reset(seed=0)
    assert observations["image"].shape == (3, 3, 64, 64)
    _, rewards, *_ = envs.step(envs.action_space.sample())
    assert rewards.shape == (3,)


@pytest.mark.parametrize("options", [{}, {"augmentation": COLOURFUL, "context": "oracle", "score": "iou"}])
def test_a_slot_of_many_plays_as_the_single_environment_with_its_seed(
    make_env, make_vec, options, random_actions, assert_close_observations
):
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


def test_changing_what_was_returned_changes_nothing_later(make_vec, random_actions, info_keys):
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
                [observations[key].clone() for key in sorted(observations)]
                + [infos[key].clone() for key in sorted(info_keys)]
            )
            if step:
                results[-1] += [part.clone() for part in returned[1:4]]
            for part in returned if change else ():
                spoil(part)
        return results

    for kept, spoiled in zip(run(change=False), run(change=True), strict=True):
        for a, b in zip(kept, spoiled, strict=True):
            assert torch.equal(a, b)


def test_no_two_calls_return_the_same_memory(make_vec, random_actions):
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


def test_networks_in_training_mode_do_not_tie_the_slots_to_each_other(make_vec, make_networks):
    networks = make_networks()
    networks.context_network.train()
    envs, contexts = make_vec(2, weights=networks), []
    for neighbour in (2, 3):
        envs.reset(options={"scene_index": [1, neighbour]})
        contexts.append(envs.state.context[0])
    torch.testing.assert_close(*contexts)


def test_refined_masks_are_the_autoencoders_of_the_drafts(make_vec, random_actions):
    plain, refining = (make_vec(3, refine=refine, autoreset_mode="Disabled") for refine in (False, True))
    for envs in (plain, refining):
        envs.reset(seed=4)
    action = random_actions(1, 3)[0]
    _, rewards, *_ = refining.step(action)
    plain.step(action)
    state, draft = refining.state, plain.state.predicted_mask
    expected = refining.pretrained.autoencoder.reconstruct(state.context, (draft >= 0.5).float())
    torch.testing.assert_close(state.predicted_mask, expected)
    assert (expected - draft).abs().max() > 0.01
    scores = score(expected[:, 0], state.label_map, state.areas)
    torch.testing.assert_close(rewards, scores.amax(1))


def test_a_snapshot_of_plain_masks_is_no_state_of_refined_ones(make_vec):
    plain, refining = make_vec(2), make_vec(2, refine=True)
    plain.reset(seed=0)
    with pytest.raises(ValueError, match="same decoder, refined or not: its conditioning has tensors"):
        refining.set_state(plain.get_state())


def test_no_slot_at_all_is_refused(make_vec):
    with pytest.raises(ValueError, match="num_envs must be at least 1, got 0"):
        make_vec(0)


# Seeds


def episodes_of(envs, actions, **reset):
    """Everything that `reset` and the steps return."""
    return [envs.reset(**reset), *(envs.step(action) for action in actions)]


@pytest.mark.parametrize("mode", ["SameStep", "NextStep"])
@pytest.mark.parametrize("num_envs", [1, 3, 17])
def test_the_same_seeds_give_bitwise_the_same_episodes_again(make_vec, random_actions, assert_same, num_envs, mode):
    actions = random_actions(8, num_envs)
    options = {"augmentation": COLOURFUL, "autoreset_mode": mode, "sampler": "shuffle", "matching_noise": 0.2}
    envs = make_vec(num_envs, **options)
    first, again = (episodes_of(envs, actions, seed=5) for _ in range(2))
    fresh = episodes_of(make_vec(num_envs, **options), actions, seed=5)
    other = episodes_of(make_vec(num_envs, **options), actions, seed=6)
    assert_same(first, again)
    assert_same(first, fresh)
    assert not torch.equal(first[0][0]["image"], other[0][0]["image"])


@pytest.mark.parametrize("num_envs", [1, 3, 17])
def test_the_same_seeds_give_bitwise_the_same_episodes_without_automatic_resets(
    make_vec, random_actions, assert_same, num_envs
):
    def run():
        envs, record = make_vec(num_envs, augmentation=COLOURFUL, autoreset_mode="Disabled"), []
        record.append(envs.reset(seed=5))
        for action in random_actions(8, num_envs):
            record.append(envs.step(action))
            if (is_over := record[-1][2]).any():
                record.append(envs.reset(options={"reset_mask": is_over}))
        return record

    assert_same(run(), run())


@pytest.mark.parametrize("sampler", ["random", "shuffle", "sequential"])
def test_a_slot_draws_the_same_scenes_whatever_their_number(make_vec, assert_same, rows, sampler):
    options = {"augmentation": COLOURFUL, "sampler": sampler, "max_episode_steps": 1}

    def draws(num_envs):
        """`scene_index` and `augmentation` of nine episodes in every slot."""
        envs = make_vec(num_envs, **options)
        infos = [envs.reset(seed=40)[1]]
        infos += [envs.step(np.zeros((num_envs, 4), np.float32))[-1] for _ in range(8)]
        return [{key: info[key] for key in ("scene_index", "augmentation")} for info in infos]

    most = draws(17)
    for num_envs in (1, 3):
        slots = list(range(num_envs))
        assert_same(list(rows(draws(num_envs), slots)), list(rows(most, slots)))
    indices = torch.stack([draw["scene_index"] for draw in most])
    assert len({tuple(column.tolist()) for column in indices.T}) >= 5


def test_slot_i_begins_as_the_single_environment_with_the_seed_plus_i(make_vec, make_env):
    envs = make_vec(3, augmentation=COLOURFUL)
    observations, infos = envs.reset(seed=30)
    for slot in range(3):
        observation, info = make_env(augmentation=COLOURFUL).reset(seed=30 + slot)
        np.testing.assert_array_equal(observations["image"][slot], observation["image"])
        assert int(infos["scene_index"][slot]) == info["scene_index"]
        np.testing.assert_array_equal(infos["augmentation"][slot], info["augmentation"])


def test_seeds_may_be_one_for_each_slot_and_none_lets_a_slot_go_on(make_vec, rows, assert_same):
    envs, listed, going_on = (make_vec(3, augmentation=COLOURFUL) for _ in range(3))
    for env in (envs, listed, going_on):
        first = env.reset(seed=9)
    assert_same(listed.reset(seed=[9, 10, 11]), first)
    assert_same(listed.reset(seed=(9, 10, 11)), first)
    partly, free = envs.reset(seed=[None, 10, None]), going_on.reset()
    assert_same(rows(partly, 1), rows(first, 1))
    assert_same(rows(partly, [0, 2]), rows(free, [0, 2]))
    assert not torch.equal(rows(free, 1)[0]["image"], rows(first, 1)[0]["image"])


@pytest.mark.parametrize("seeds", [[1, 2], [1, 2, 3, 4], []])
def test_another_number_of_seeds_than_slots_is_refused(make_vec, seeds):
    with pytest.raises(ValueError, match=rf"seed must be an int or 3 ints, .*, got {re.escape(str(seeds))}"):
        make_vec(3).reset(seed=seeds)


@pytest.mark.parametrize("seed", [1.5, "abc", [1.5, 2, 3], ["1", "2", "3"]])
def test_a_seed_that_is_no_whole_number_is_refused(make_vec, seed):
    with pytest.raises(ValueError, match="seed must be an int or 3 ints"):
        make_vec(3).reset(seed=seed)


def test_the_sequential_sampler_shows_every_slot_the_next_scene(make_vec):
    envs = make_vec(3, sampler="sequential", max_episode_steps=1)
    infos = [envs.reset(seed=8)[1]] + [envs.step(np.zeros((3, 4), np.float32))[-1] for _ in range(5)]
    shown = torch.stack([info["scene_index"] for info in infos])
    assert shown.T.tolist() == [[3, 4, 0, 1, 2, 3], [4, 0, 1, 2, 3, 4], [0, 1, 2, 3, 4, 0]]


# Snapshots


def go_on(envs, actions):
    return [envs.step(action) for action in actions]


@pytest.mark.parametrize("mode", ["SameStep", "NextStep"])
@pytest.mark.parametrize("sampler", ["random", "shuffle", "sequential"])
def test_a_snapshot_replays_what_followed_it_bit_by_bit(make_vec, random_actions, assert_same, mode, sampler):
    options = {"augmentation": COLOURFUL, "sampler": sampler, "autoreset_mode": mode, "matching_noise": 0.2}
    envs, another = make_vec(3, **options), make_vec(3, **options)
    actions = random_actions(14, 3)
    envs.reset(seed=1)
    go_on(envs, actions[:3])  # in NEXT_STEP some slots wait for their reset now, or sat one step out
    snapshot = envs.get_state()
    expected = go_on(envs, actions[3:])
    assert any(result[2].any() for result in expected[:-1])
    envs.set_state(snapshot)
    assert_same(go_on(envs, actions[3:]), expected)
    another.set_state(snapshot)
    assert_same(go_on(another, actions[3:]), expected)


def test_a_snapshot_keeps_that_an_episode_is_over(make_vec, random_actions):
    envs, another = make_vec(2, autoreset_mode="Disabled"), make_vec(2, autoreset_mode="Disabled")
    envs.reset(options={"scene_index": [2, 3]})
    action = random_actions(1, 2)[0]
    envs.step(action)
    another.set_state(envs.get_state())
    with pytest.raises(RuntimeError, match=r"slots \[0\] are over"):
        another.step(action)


def test_a_snapshot_of_some_slots_replays_in_these_and_leaves_the_others_alone(
    make_vec, random_actions, rows, assert_same
):
    envs = make_vec(4, augmentation=COLOURFUL)
    actions = random_actions(10, 4)
    envs.reset(seed=1)
    go_on(envs, actions[:2])
    snapshot = envs.get_state([3, 1])
    first = go_on(envs, actions[2:6])
    others = envs.get_state([0, 2])
    envs.set_state(snapshot, [3, 1])
    assert_same(envs.get_state([0, 2]).state.tensors(), others.state.tensors())
    assert envs.get_state([0, 2]).samplers == others.samplers
    assert_same(rows(go_on(envs, actions[2:6]), [1, 3]), rows(first, [1, 3]))


def test_the_snapshot_of_one_slot_can_be_taken_up_by_another(make_vec, random_actions, rows, assert_same):
    envs = make_vec(3, augmentation=COLOURFUL)
    actions = random_actions(8, 3)
    actions[:, 0] = actions[:, 2]
    envs.reset(seed=1)
    envs.set_state(envs.get_state([2]), [0])
    for result in go_on(envs, actions):
        observations, rewards, _, _, infos = result
        assert_same(observations["image"][0], observations["image"][2])
        assert_same(infos["augmentation"][0], infos["augmentation"][2])
        torch.testing.assert_close(rewards[0], rewards[2])


def test_a_snapshot_is_a_copy(make_vec, random_actions, assert_same):
    envs = make_vec(3)
    actions = random_actions(6, 3)
    envs.reset(seed=1)
    snapshot = envs.get_state()
    kept = [tensor.clone() for tensor in snapshot.state.tensors()]
    expected = go_on(envs, actions)
    assert_same(snapshot.state.tensors(), kept)
    envs.set_state(snapshot)
    for tensor in (*snapshot.state.tensors(), snapshot.is_over, snapshot.scene_index, snapshot.augmentation):
        tensor.fill_(0)
    assert_same(go_on(envs, actions), expected)


def test_the_single_environment_replays_a_snapshot(make_env, random_actions):
    env, another = make_env(augmentation=COLOURFUL), make_env(augmentation=COLOURFUL)
    actions = random_actions(4)[:, 0]
    env.reset(seed=0, options={"scene_index": 3})
    env.step(actions[0])
    snapshot = env.get_state()

    def rest(of):
        steps = [of.step(action) for action in actions[1:]]
        return [step[1:4] for step in steps], [step[0]["mask"].tobytes() for step in steps], of.reset()[0]["image"]

    expected = rest(env)
    for other in (env, another):
        other.set_state(snapshot)
        found = rest(other)
        assert found[:2] == expected[:2]
        np.testing.assert_array_equal(found[2], expected[2])


def test_a_snapshot_of_another_number_of_slots_is_refused(make_vec):
    envs = make_vec(3)
    envs.reset(seed=0)
    with pytest.raises(ValueError, match="env_ids must name 2 slots as the snapshot does, got 3"):
        envs.set_state(envs.get_state([0, 1]))
    with pytest.raises(ValueError, match="env_ids must name 3 slots as the snapshot does, got 1"):
        envs.set_state(envs.get_state(), [0])


def test_there_is_no_snapshot_before_the_first_episode(make_vec):
    with pytest.raises(RuntimeError, match=r"call reset\(\)"):
        make_vec().get_state()


def test_a_first_snapshot_must_be_of_all_slots(make_vec):
    envs, fresh = make_vec(3), make_vec(3)
    envs.reset(seed=0)
    with pytest.raises(RuntimeError, match="must fill all 3 slots"):
        fresh.set_state(envs.get_state([1]), [1])


@pytest.mark.parametrize("is_fresh", [True, False])
def test_a_snapshot_of_other_sizes_is_refused(make_vec, make_scenes, scenes, is_fresh):
    envs, smaller = make_vec(2), make_vec(2, scenes=make_scenes(scenes[:2]))
    envs.reset(seed=0)
    if not is_fresh:
        smaller.reset(seed=0)
    with pytest.raises(ValueError, match="snapshot"):
        smaller.set_state(envs.get_state())


def test_a_snapshot_fits_into_no_slot_twice(make_vec):
    envs = make_vec(2)
    envs.reset(seed=0)
    with pytest.raises(ValueError, match="env_ids"):
        envs.set_state(envs.get_state(), [1, 1])


# Pickling and the spec


@pytest.mark.parametrize("copied", [lambda env: pickle.loads(pickle.dumps(env)), copy.deepcopy], ids=["pickle", "copy"])
def test_a_pickled_environment_goes_on_in_the_middle_of_its_episodes(make_vec, random_actions, assert_same, copied):
    envs = make_vec(3, augmentation=COLOURFUL, sampler="shuffle", autoreset_mode="NextStep", score="iou", obs="stacked")
    actions = random_actions(10, 3)
    envs.reset(seed=0)
    go_on(envs, actions[:2])
    envs.set_attr("count_penalty", 0.5)
    other = copied(envs)
    assert other is not envs
    assert other.rules == envs.rules
    assert other.rules.score == "iou"
    assert other.metadata == envs.metadata
    assert other.single_observation_space == envs.single_observation_space
    assert_same(go_on(other, actions[2:]), go_on(envs, actions[2:]))


def test_an_environment_without_episodes_can_be_pickled(make_vec, make_env, assert_same):
    envs = make_vec(2, max_episode_steps=2, render_mode="rgb_array")
    other = pickle.loads(pickle.dumps(envs))
    assert (other.num_envs, other.max_episode_steps, other.render_mode) == (2, 2, "rgb_array")
    with pytest.raises(RuntimeError, match=r"call reset\(\)"):
        other.step(np.zeros((2, 4), np.float32))
    assert_same(other.reset(seed=1), envs.reset(seed=1))
    env = make_env()
    single = pickle.loads(pickle.dumps(env))
    np.testing.assert_array_equal(single.reset(seed=1)[0]["image"], env.reset(seed=1)[0]["image"])


def test_a_spec_survives_json_with_all_its_arguments(assert_same):
    arguments = {
        "scene_options": {"length": 3, "max_leaves": 4},
        "split": "val",
        "augmentation": {"rotation": 10.0, "scale": (0.9, 1.1)},
        "autoreset_mode": "NextStep",
        "max_episode_steps": 3,
        "obs": "coarse",
        "sampler": "shuffle",
        "stop": "agent",
        "count_penalty": 0.5,
        "sequence_length": 2,
        "prefill": "random",
        "matching_noise": 0.1,
        "score": "iou",
    }
    envs = gym.make_vec("ACIS/Leaves-v0", num_envs=2, **arguments)
    again = gym.make_vec(EnvSpec.from_json(envs.spec.to_json()))
    assert again.num_envs == 2
    assert again.rules == envs.rules
    assert again.autoreset_mode is AutoresetMode.NEXT_STEP
    assert pickle.loads(pickle.dumps(envs)).spec == envs.spec
    actions = np.random.default_rng(0).uniform(-1, 0.5, (6, 2, 17)).astype(np.float32)
    assert_same(episodes_of(again, actions, seed=4), episodes_of(envs, actions, seed=4))


def test_the_registered_spec_survives_json():
    spec = EnvSpec.from_json(gym.spec("ACIS/Leaves-v0").to_json())
    envs = gym.make_vec(spec, num_envs=2, scene_options={"length": 2})
    assert isinstance(envs, SegmentationVectorEnv)
    assert envs.num_envs == 2
    assert envs.spec.id == "ACIS/Leaves-v0"


# Batched spaces


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


# Attributes, pictures and the end


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


def test_actions_may_carry_a_graph(make_vec, random_actions, recwarn):
    envs = make_vec(2)
    envs.reset(seed=0)
    _, rewards, *_ = envs.step(torch.as_tensor(random_actions(1, 2)[0]).requires_grad_())
    assert not rewards.requires_grad
    assert not recwarn.list


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


def test_closing_twice_is_no_error_and_a_step_after_it_is(make_vec, make_env):
    for env, action in ((make_vec(3), np.zeros((3, 4), np.float32)), (make_env(), np.zeros(4, np.float32))):
        env.reset(seed=0)
        env.close()
        env.close()
        with pytest.raises(RuntimeError, match=r"call reset\(\)"):
            env.step(action)
    make_vec().close()  # without an episode


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"autoreset_mode": "Sometimes"}, "autoreset_mode must be one of .*'SameStep'.*, got 'Sometimes'"),
        ({"obs": "rgb"}, "obs must be one of .*'coarse'.*, got 'rgb'"),
        ({"obs_dtype": "float64"}, "obs_dtype must be one of .*'float32'.*, got 'float64'"),
        ({"sampler": "sorted"}, "sampler must be one of .*'shuffle'.*, got 'sorted'"),
        ({"stop": "never"}, "stop must be .*, got 'never'"),
        ({"max_steps": 3}, r"rules may hold \['score', .*\], got \['max_steps'\]"),
        ({"augmentation": {"noise": 1}}, r"augmentation may hold .*'rotation'.*, got \['noise'\]"),
    ],
)
def test_an_argument_of_the_slots_out_of_range_is_refused_by_name(make_vec, option, message):
    with pytest.raises(ValueError, match=message):
        make_vec(**option)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("mode", ["SameStep", "NextStep", "Disabled"])
def test_between_resets_a_step_on_a_gpu_never_makes_the_host_wait(make_vec, pretrained, mode):
    envs = make_vec(4, device="cuda", weights=copy.deepcopy(pretrained), autoreset_mode=mode)
    envs.reset(seed=0, options={"scene_index": 3})  # four instances
    actions = torch.zeros(4, 4, device="cuda")
    envs.step(actions)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(2):
            envs.step(actions)
    finally:
        torch.cuda.set_sync_debug_mode("default")


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


def test_in_bfloat16_episodes_are_those_of_float32_but_for_rounding(make_vec, random_actions):
    exact, coarse = make_vec(3), make_vec(3, precision="bfloat16")
    for envs in (exact, coarse):
        envs.reset(seed=0, options={"scene_index": 3})
    for action in random_actions(3, 3):
        _, expected, *_ = exact.step(action)
        _, rewards, *_ = coarse.step(action)
        torch.testing.assert_close(rewards, expected, atol=0.05, rtol=0)
    assert {share.dtype for share in tree.tensors(coarse.state.conditioning)} == {torch.bfloat16}
    assert coarse.state.accumulated_mask.dtype == rewards.dtype == torch.float32
    assert not torch.equal(coarse.state.accumulated_mask, exact.state.accumulated_mask)
    with pytest.raises(ValueError, match=r"precision must be one of \('float32', 'bfloat16'\), got 'half'"):
        make_vec(3, precision="half")


def test_a_compiled_environment_decodes_by_the_compiled_decoder(make_vec, random_actions, monkeypatch):
    compiled = []

    def compile_module(module):
        compiled.append(module)
        return lambda *inputs: module(*inputs) / 2

    monkeypatch.setattr(torch, "compile", compile_module)
    plain, envs = make_vec(2), make_vec(2, compile=True)
    assert compiled == [envs.decoder]
    for each in (plain, envs):
        each.reset(seed=0, options={"scene_index": 3})
        each.step(random_actions(1, 2)[0])
    assert torch.equal(envs.state.predicted_mask, plain.state.predicted_mask / 2)


def test_the_potential_goes_on_from_the_best_assignment_after_a_greedy_stretch(make_vec, random_actions):
    envs = make_vec(1, reward="greedy")
    for seed in range(20):  # until the greedy assignment is not the best one
        envs.reset(seed=0, options={"scene_index": 3})
        first, second, third = random_actions(3, seed=seed)
        envs.step(first)
        envs.step(second)
        state = envs.state
        if not torch.equal(state.assignment, from_scratch(state.scores, state.step_count, state.num_instances)[0]):
            break
    envs.set_attr("reward", "potential")
    state = envs.state
    best, _ = from_scratch(state.scores, state.step_count, state.num_instances)
    assert torch.equal(state.assignment, best)
    envs.step(third)
    state = envs.state
    assert torch.equal(state.potential, from_scratch(state.scores, state.step_count, state.num_instances)[1])
