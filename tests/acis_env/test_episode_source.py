"""What an episode begins with: its scene, its context, and the instances that the curriculum gives away."""

import gc
import pickle

import numpy as np
import pytest
import torch

from acis_env.context import ContextNetwork, oracle_context
from acis_env.context_cache import ContextCache
from acis_env.datasets import Scene

COLOURFUL = {"rotation": 20, "brightness": 0.2, "saturation": 0.3}


def relabelled(scenes, make_scenes):
    """The same images, with the label maps of other scenes."""
    label_maps = [scene.label_map for scene in (*scenes[1:], scenes[0])]
    return make_scenes(
        Scene(scene.image, label_map, scene.name) for scene, label_map in zip(scenes, label_maps, strict=True)
    )


def test_a_prediction_never_sees_the_label_map_and_the_oracle_does(make_vec, scenes, make_scenes, random_actions):
    contexts, masks = {}, {}
    for source in ("predicted", "oracle"):
        for name, data in (("own", scenes), ("other", relabelled(scenes, make_scenes))):
            envs = make_vec(5, scenes=data, context=source)
            envs.reset(options={"scene_index": list(range(5))})
            contexts[source, name] = envs.state.context.clone()
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


@pytest.mark.parametrize("context", ["predicted", "oracle"])
@pytest.mark.parametrize("options", [{}, {"augmentation": COLOURFUL}, {"sequence_length": 1}])
def test_a_context_can_be_made_again_from_what_the_infos_say(make_vec, random_actions, context, options):
    envs = make_vec(4, context=context, **options)
    _, infos = envs.reset(seed=0)
    for action in [None, *random_actions(5, 4)]:
        if action is not None:
            *_, infos = envs.step(action)
        again = envs.source.context_again(infos["scene_index"], infos["augmentation"])
        torch.testing.assert_close(again, envs.state.context, atol=1e-5, rtol=0)


def test_a_context_made_again_is_the_same_bit_by_bit_for_the_same_batch(make_vec):
    envs = make_vec(4, augmentation=COLOURFUL)
    _, infos = envs.reset(seed=0)
    assert torch.equal(envs.source.context_again(infos["scene_index"], infos["augmentation"]), envs.state.context)


# The curriculum


@pytest.fixture
def begun_twice(make_vec):
    """A function that begins the same five scenes without and with a curriculum: the two environments."""

    def begin(seed, **options):
        pair = make_vec(5, augmentation=COLOURFUL), make_vec(5, augmentation=COLOURFUL, **options)
        for envs in pair:
            envs.reset(seed=seed, options={"scene_index": list(range(5))})
        return pair

    return begin


def split_by_fate(whole, rest):
    """Labels of a scene that remain to be found and those given away; none may be in part."""
    kept = {int(label) for label in np.unique(whole[rest > 0])}
    given = {int(label) for label in np.unique(whole[(whole > 0) & (rest == 0)])}
    assert not kept & given
    return kept, given


@pytest.mark.parametrize("context", ["predicted", "oracle"])
@pytest.mark.parametrize("length", [1, 2, 3, 4, 9])
def test_all_but_as_many_instances_as_the_sequence_is_long_are_in_the_first_mask(begun_twice, length, context):
    full, envs = begun_twice(0, sequence_length=length, context=context)
    observations = envs.observer(envs.state)
    for slot, (whole, rest) in enumerate(zip(full.scene, envs.scene, strict=True)):
        kept, given = split_by_fate(whole.label_map, rest.label_map)
        assert len(kept) == min(length, whole.num_instances)
        assert len(given) == whole.num_instances - len(kept)
        assert rest.num_instances == len(kept) == int(envs.state.num_instances[slot])
        union = np.isin(whole.label_map, sorted(given))
        np.testing.assert_array_equal(envs.state.accumulated_mask[slot, 0], union)
        np.testing.assert_array_equal(observations["mask"][slot, 0], union * 255)
        np.testing.assert_array_equal(rest.image, whole.image)
        areas = sorted(np.bincount(whole.label_map.ravel())[sorted(kept)].tolist())
        assert sorted(int(area) for area in envs.state.areas[slot] if area > 0) == areas


def test_which_instances_are_given_away_is_random_and_that_of_the_seed(begun_twice):
    fates = []
    for seed in range(8):
        full, envs = begun_twice(seed, sequence_length=1)
        again = begun_twice(seed, sequence_length=1)[1]
        assert torch.equal(again.state.label_map, envs.state.label_map)
        fates.append(split_by_fate(full.scene[3].label_map, envs.scene[3].label_map)[0].pop())
    assert len(set(fates)) >= 3


def test_an_episode_of_the_curriculum_ends_with_the_instances_that_were_left(make_vec, random_actions):
    envs = make_vec(5, sequence_length=2, autoreset_mode="Disabled")
    _, infos = envs.reset(seed=0, options={"scene_index": list(range(5))})
    assert infos["num_instances"].tolist() == [2, 2, 1, 2, 2]
    first, second = random_actions(2, 5)
    assert envs.step(first)[2].tolist() == [False, False, True, False, False]
    envs.reset(options={"reset_mask": np.arange(5) == 2, "scene_index": 3})
    _, _, terminated, truncated, infos = envs.step(second)
    assert terminated.tolist() == [True, True, False, True, True]
    assert not truncated.any()
    assert (infos["potential"] <= infos["num_instances"]).all()


def test_any_number_up_to_the_surplus_is_given_away_at_random(begun_twice):
    remaining = []
    for seed in range(14):
        full, envs = begun_twice(seed, sequence_length=2, prefill="random")
        remaining.append(envs.state.num_instances.tolist())
        for slot, (whole, rest) in enumerate(zip(full.scene, envs.scene, strict=True)):
            _, given = split_by_fate(whole.label_map, rest.label_map)
            union = np.isin(whole.label_map, sorted(given))
            np.testing.assert_array_equal(envs.state.accumulated_mask[slot, 0], union)
    assert [set(column) for column in zip(*remaining, strict=True)] == [{2}, {2, 3}, {1}, {2, 3, 4}, {2, 3}]


def test_a_random_number_of_gifts_truncates_the_episode_after_the_sequence(make_vec, random_actions):
    envs = make_vec(5, sequence_length=2, prefill="random", autoreset_mode="Disabled")
    seen = set()
    for seed in range(8):
        _, infos = envs.reset(seed=seed, options={"scene_index": [0, 1, 0, 3, 4]})
        count = infos["num_instances"]
        first, second = random_actions(2, 5, seed=seed)
        _, _, terminated, truncated, _ = envs.step(first)
        assert not (terminated | truncated).any()
        _, _, terminated, truncated, infos = envs.step(second)
        assert terminated.tolist() == (count == 2).tolist()
        assert truncated.tolist() == (count > 2).tolist()
        assert infos["_sbd"].all()
        seen |= set(count.tolist())
    assert seen == {2, 3, 4}


def test_the_smaller_of_both_limits_truncates(make_vec, random_actions):
    for limit, expected in ((1, 1), (3, 2)):
        options = {"sequence_length": 2, "prefill": "random", "max_episode_steps": limit, "stop": "agent"}
        envs = make_vec(1, autoreset_mode="Disabled", **options)
        envs.reset(seed=0, options={"scene_index": 3})
        flags = []
        for action in random_actions(expected, length=5):
            action[:, 4] = -1
            flags.append(bool(envs.step(action)[3]))
        assert flags == [False] * (expected - 1) + [True]


def test_a_sequence_length_set_in_between_holds_from_the_next_reset_of_a_slot(make_vec, random_actions):
    envs = make_vec(3)
    envs.reset(seed=0, options={"scene_index": 3})
    envs.set_attr("sequence_length", 1)
    envs.step(random_actions(1, 3)[0])
    assert envs.state.num_instances.tolist() == [4, 4, 4]
    _, infos = envs.reset(options={"reset_mask": np.array([True, False, False]), "scene_index": 3})
    assert infos["num_instances"].tolist() == [1, 4, 4]
    *_, terminated, _, infos = envs.step(random_actions(1, 3)[0])
    assert terminated.tolist() == [True, False, False]
    assert infos["num_instances"].tolist() == [1, 4, 4]  # also by an automatic reset
    envs.set_attr("sequence_length", None)
    assert envs.reset(options={"scene_index": 3})[1]["num_instances"].tolist() == [4, 4, 4]


def test_a_random_prefill_set_in_between_does_not_cut_the_episodes_under_way(make_vec, random_actions):
    envs = make_vec(1)
    envs.reset(options={"scene_index": 3})
    actions = random_actions(4)
    envs.step(actions[0])
    envs.set_attr("prefill", "random")
    envs.set_attr("sequence_length", 2)
    flags = [[bool(flag) for flag in envs.step(action)[2:4]] for action in actions[1:]]
    assert flags == [[False, False], [False, False], [True, False]]


@pytest.mark.parametrize("augmentation", [None, COLOURFUL])
def test_a_context_made_again_in_bfloat16_is_the_same(make_vec, augmentation):
    envs, other = (make_vec(2, augmentation=augmentation, precision="bfloat16") for _ in range(2))
    _, infos = envs.reset(seed=0)
    again = other.source.context_again(infos["scene_index"], infos["augmentation"])  # knows of no scene yet
    assert torch.equal(again, envs.state.context)


@pytest.fixture
def count_predictions(monkeypatch):
    """A function that says for how many pictures a context has been predicted so far."""
    seen = []
    predict = ContextNetwork.context

    def predict_and_count(network, images):
        assert len(images) > 0
        seen.append(len(images))
        return predict(network, images)

    monkeypatch.setattr(ContextNetwork, "context", predict_and_count)
    return lambda: sum(seen)


def test_the_context_of_a_scene_is_predicted_once_and_does_not_depend_on_what_was_shown_before(
    make_vec, count_predictions
):
    envs = make_vec(5)
    envs.reset(options={"scene_index": [3, 1, 0, 2, 4]})
    first = envs.state.context.clone()
    assert count_predictions() == 5
    envs.reset(options={"scene_index": [4, 2, 0, 1, 3]})
    assert count_predictions() == 5
    assert torch.equal(envs.state.context[[4, 3, 2, 1, 0]], first)
    crowd = make_vec(3)
    crowd.reset(options={"scene_index": 2})
    assert count_predictions() == 5 + 1
    alone = make_vec(1)
    alone.reset(options={"scene_index": 4})
    assert torch.equal(alone.state.context[0], envs.state.context[0])


@pytest.fixture
def little_memory(monkeypatch):
    """Memory for two contexts more than are kept already."""
    size = 4 * 12 * 32 * 32
    gc.collect()  # environments of other tests
    monkeypatch.setattr("acis_env.context_cache.KEPT_BYTES", ContextCache.held_by_all + 2 * size)


@pytest.mark.usefixtures("little_memory")
def test_no_more_contexts_are_kept_than_there_is_memory_for(make_vec, count_predictions):
    envs = make_vec(5)
    for _ in range(2):
        envs.reset(options={"scene_index": [0, 1, 2, 3, 4]})
    assert count_predictions() == 5 + 3


@pytest.mark.usefixtures("little_memory")
def test_all_environments_of_a_process_share_the_memory_until_they_are_gone(make_vec, count_predictions):
    before = ContextCache.held_by_all
    first, second = make_vec(1), make_vec(1)
    for env in (first, second):
        for scene in (0, 1, 0, 1):
            env.reset(options={"scene_index": scene})
    assert count_predictions() == 2 + 4
    assert ContextCache.held_by_all == before + 2 * 4 * 12 * 32 * 32
    assert len(pickle.dumps(first.source._kept)) < 200
    del env, first, second
    gc.collect()
    assert ContextCache.held_by_all <= before


def test_contexts_of_augmented_scenes_are_predicted_anew(make_vec, count_predictions):
    envs = make_vec(2, augmentation={})
    for _ in range(2):
        envs.reset(options={"scene_index": [0, 1]})
    assert count_predictions() == 4
