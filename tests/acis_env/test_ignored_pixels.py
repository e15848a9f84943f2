"""Ignored pixels count in nothing: what lies in them changes no reward, loss or measure."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from acis_env.augment import augment, compact_labels
from acis_env.autoencoder import MaskAutoencoder
from acis_env.context import context_loss, oracle_context, quantise_angles
from acis_env.datasets import PackedScenes, Scene
from acis_env.datasets.preprocessing import resize_label_map
from acis_env.datasets.scene import IGNORED
from acis_env.dynamics import Rules, prefill, reset, step
from acis_env.metrics import batch_metrics, contingency_table, dice_star, matched_dice, segmentation_metrics
from acis_env.pretraining import evaluate_autoencoder, evaluate_context
from acis_env.reward import instance_areas, overlap, score

SIZE = (6, 9)
NUM_INSTANCES = 3


class SpelledOut:
    """A decoder whose action `[B, H * W]` is the mask itself."""

    def condition(self, context):
        return (context[:, :1],)

    def __call__(self, latent, conditioning):
        return latent.view(-1, *conditioning[0].shape[1:])


def squared_overlap(masks, label_maps, areas):
    """A score of one's own that reads every pixel, and would be wrong by any ignored one."""
    assert label_maps.min() >= 0
    common = overlap(masks, label_maps, areas.shape[1])
    return common**2 / ((masks**2).sum((1, 2))[:, None] * areas).clamp_min(1e-6) / 2


SCORES = ["dice", "iou", squared_overlap]


@st.composite
def scenes_and_masks(draw, num_masks=4):
    """A label map `[H, W]` with ignored pixels, and masks `[T, H, W]` twice: unlike in ignored pixels, or equal."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    share = draw(st.sampled_from([0.1, 0.5, 0.9, 1.0]))
    label_map = rng.integers(0, draw(st.integers(0, NUM_INSTANCES)) + 1, SIZE)
    label_map[rng.random(SIZE) < share] = IGNORED
    label_map = compact_labels(torch.from_numpy(label_map)[None], NUM_INSTANCES)[0]
    masks, others = (rng.random((num_masks, *SIZE), dtype=np.float32) for _ in range(2))
    if draw(st.booleans()):
        masks[rng.random(masks.shape) < 0.5] = 0  # some are empty
    masks = torch.from_numpy(masks)
    return label_map, masks, torch.where(label_map == IGNORED, torch.from_numpy(others), masks)


def play(label_map, masks, rules, capacity=NUM_INSTANCES):
    """Rewards of `masks` `[T, H, W]`, one after the other, and the last state."""
    context = torch.zeros(1, 12, *label_map.shape)
    state = reset(context, label_map[None], SpelledOut(), capacity, len(masks))
    rewards = []
    for mask in masks:
        state, reward = step(state, mask.reshape(1, -1), SpelledOut(), rules)
        rewards.append(float(reward))
    return rewards, state


def cut(label_map, *pictures):
    """The pixels of `label_map` that are not ignored, as one row, and those of `pictures` `[..., H, W]`."""
    known = label_map != IGNORED
    return label_map[known][None], *(picture[..., known][..., None, :] for picture in pictures)


RULES = [
    Rules(score=function, reward=reward, count_penalty=penalty)
    for function in SCORES
    for reward, penalty in (("potential", 0.0), ("greedy", 0.25), ("sbd", 0.0))
]


@pytest.mark.parametrize(
    "rules", RULES, ids=[f"{rules.reward}-{getattr(rules.score, '__name__', rules.score)}" for rules in RULES]
)
@settings(max_examples=40, deadline=None)
@given(drawn=scenes_and_masks())
def test_masks_that_differ_in_ignored_pixels_only_earn_the_same(rules, drawn):
    label_map, masks, others = drawn
    rewards, state = play(label_map, masks, rules)
    other_rewards, other_state = play(label_map, others, rules)
    assert rewards == other_rewards
    for name in ("potential", "scores", "assignment", "areas", "num_instances"):
        assert torch.equal(getattr(state, name), getattr(other_state, name)), name


@pytest.mark.parametrize(
    "rules", RULES, ids=[f"{rules.reward}-{getattr(rules.score, '__name__', rules.score)}" for rules in RULES]
)
@settings(max_examples=40, deadline=None)
@given(drawn=scenes_and_masks())
def test_a_scene_earns_what_it_earns_when_its_ignored_pixels_are_cut_away(rules, drawn):
    label_map, masks, _ = drawn
    if (label_map == IGNORED).all():
        return
    rest, rest_of_masks = cut(label_map, masks)
    rewards, state = play(label_map, masks, rules)
    expected, rest_state = play(rest, rest_of_masks, rules)
    assert rewards == pytest.approx(expected, abs=1e-6)
    assert torch.equal(state.areas, rest_state.areas)
    assert torch.equal(state.num_instances, rest_state.num_instances)


@settings(max_examples=60, deadline=None)
@given(drawn=scenes_and_masks())
def test_scores_are_sums_over_the_pixels_that_are_not_ignored(drawn):
    label_map, masks, _ = drawn
    label_maps = label_map.expand(len(masks), -1, -1)
    areas = instance_areas(label_maps, NUM_INSTANCES)
    found = {name: score(masks, label_maps, areas, name) for name in ("dice", "iou")}
    with_gradient = masks.clone().requires_grad_()
    by_pixel = {name: score(with_gradient, label_maps, areas, name).detach() for name in ("dice", "iou")}
    for t, mask in enumerate(masks.double()):
        for instance in range(NUM_INSTANCES):
            common = area = own = 0.0
            for label, value in zip(label_map.flatten().tolist(), mask.flatten().tolist(), strict=True):
                if label != IGNORED:
                    own += value
                    area += label == instance + 1
                    common += value * (label == instance + 1)
            assert areas[t, instance] == area
            dice = 2 * common / (own + area) if common else 0.0
            iou = common / (own + area - common) if common else 0.0
            for scores in (found, by_pixel):
                assert float(scores["dice"][t, instance]) == pytest.approx(dice, abs=1e-6)
                assert float(scores["iou"][t, instance]) == pytest.approx(iou, abs=1e-6)


@settings(max_examples=100, deadline=None)
@given(drawn=scenes_and_masks(num_masks=2), seed=st.integers(0, 1000))
def test_measures_are_those_of_the_rest_of_the_picture(drawn, seed):
    ground_truth = drawn[0].numpy()
    masks, others = (masks.numpy() for masks in drawn[1:])
    rng = np.random.default_rng(seed)
    prediction = rng.integers(0, 5, SIZE)
    ignored = ground_truth == IGNORED
    other = np.where(ignored, rng.integers(0, 9, SIZE), prediction)
    rest, rest_of_prediction, rest_of_masks = cut(ground_truth, prediction, masks)

    expected = segmentation_metrics(rest_of_prediction, rest)
    assert segmentation_metrics(prediction, ground_truth) == segmentation_metrics(other, ground_truth) == expected
    table = contingency_table(rest_of_prediction, rest)
    np.testing.assert_array_equal(contingency_table(other, ground_truth), table)
    assert table.sum() == (~ignored).sum()

    pair = torch.from_numpy(np.stack([prediction, other]))
    batch = batch_metrics(pair, drawn[0].expand(2, -1, -1), 8, NUM_INSTANCES)
    for name, values in batch.items():
        assert values.tolist() == pytest.approx([expected[name]] * 2, rel=1e-6), name

    matched = matched_dice(rest_of_masks, rest)
    for played in (masks, others):
        assert matched_dice(played, ground_truth) == pytest.approx(matched)
        assert dice_star(played, ground_truth) == pytest.approx(dice_star(rest_of_masks, rest))


def test_a_prediction_in_ignored_pixels_alone_is_none():
    ground_truth = np.array([[1, 1, 0, -1, -1], [1, 1, 0, -1, -1]])
    prediction = np.array([[1, 1, 0, 2, 2], [1, 1, 0, 3, 1]])
    found = segmentation_metrics(prediction, ground_truth)
    assert (found["sbd"], found["fbd"], found["dic"], found["avg_fp"], found["avg_fn"]) == (1, 1, 0, 0, 0)
    prediction[0, 2] = 2  # one pixel of background is enough to be one
    assert segmentation_metrics(prediction, ground_truth)["avg_fp"] == 1


@settings(max_examples=40, deadline=None)
@given(drawn=scenes_and_masks(), seed=st.integers(0, 1000))
def test_the_loss_of_a_context_is_that_of_the_rest_and_has_no_gradient_in_ignored_pixels(drawn, seed):
    label_map = drawn[0][None]
    generator = torch.Generator().manual_seed(seed)
    foreground, angles = (torch.randn(1, channels, *SIZE, generator=generator).double() for channels in (1, 8))
    foreground.requires_grad_()
    angles.requires_grad_()
    loss = context_loss((foreground, angles), label_map, NUM_INSTANCES)
    loss.backward()
    known = label_map != IGNORED
    assert not foreground.grad.abs().sum(1)[~known].any()
    assert not angles.grad.abs().sum(1)[~known].any()

    bins, entropy, angle_terms, instance_pixels = quantise_angles(label_map, NUM_INSTANCES), 0.0, 0.0, 0
    for row, column in known[0].nonzero().tolist():
        probability = torch.sigmoid(foreground.detach()[0, 0, row, column])
        is_instance = label_map[0, row, column] > 0
        entropy -= float(torch.log(probability if is_instance else 1 - probability))
        if is_instance:
            instance_pixels += 1
            chances = torch.softmax(angles.detach()[0, :, row, column], 0)
            angle_terms -= float(torch.log(chances[bins[0, :, row, column].argmax()]))
    expected = entropy / max(int(known.sum()), 1) + angle_terms / max(instance_pixels, 1)
    assert loss.item() == pytest.approx(expected)


def test_the_angles_of_an_instance_do_not_know_of_ignored_pixels():
    label_map = torch.zeros(1, 8, 8, dtype=torch.int64)
    label_map[0, 2:6, 2:6] = 1
    expected = quantise_angles(label_map, 1)
    label_map[0, :, 6:] = IGNORED
    assert torch.equal(quantise_angles(label_map, 1), expected)
    images = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
    assert torch.equal(oracle_context(images, label_map, 1)[0, 3], (label_map[0] == 1).float())


def test_the_loss_of_the_autoencoder_is_that_of_the_pixels_that_are_not_ignored(pretrained, scenes):
    label_map = torch.from_numpy(scenes[3].label_map).long()[None]
    context = oracle_context(torch.from_numpy(scenes[3].image)[None], label_map, 4)
    is_known = torch.rand(1, 1, 32, 32, generator=torch.Generator().manual_seed(0)) < 0.6
    masks = (label_map == 2).float()[:, None] * is_known
    noise = torch.zeros(1, 4)
    autoencoder = pretrained.autoencoder
    probability = autoencoder.reconstruct(context, masks)
    terms = -torch.where(masks > 0, probability, 1 - probability).log()
    divergence = autoencoder.loss(context, masks, noise, 1.0) - autoencoder.loss(context, masks, noise, 0.0)
    expected = terms[is_known].sum() + divergence
    torch.testing.assert_close(autoencoder.loss(context, masks, noise, 1.0, is_known), expected, rtol=1e-4, atol=1e-2)
    everything = torch.ones_like(is_known)
    assert torch.equal(
        autoencoder.loss(context, masks, noise, 1.0, everything), autoencoder.loss(context, masks, noise)
    )


# Scenes on their way to an episode


@pytest.fixture
def with_void(scenes, make_scenes):
    """The hand-made scenes, in which a frame of ignored pixels eats into the instances."""

    def ignore(scene):
        label_map = scene.label_map.copy()
        label_map[:3], label_map[:, 24:] = IGNORED, IGNORED
        return replace(scene, label_map=label_map)

    return make_scenes(map(ignore, scenes))


@pytest.mark.parametrize("num_instances", [3, 127, 128, 200])
def test_packed_scenes_keep_ignored_pixels_whatever_type_their_labels_have(num_instances, make_scenes):
    label_map = np.arange(64 * 64).reshape(64, 64) // 16
    label_map = np.where(label_map <= num_instances, label_map, IGNORED).astype(np.int32)
    packed = PackedScenes(make_scenes([Scene(np.zeros((3, 64, 64), np.uint8), label_map, "void")]), (64, 64))
    np.testing.assert_array_equal(packed.gather([0])[1][0], label_map)
    np.testing.assert_array_equal(packed.scene(0).label_map, label_map)
    assert packed.num_instances.tolist() == [num_instances]


def test_the_nearest_pixel_decides_whether_a_resized_one_is_ignored():
    label_map = np.zeros((8, 8), np.int32)
    label_map[:, :4], label_map[4:, 4:] = IGNORED, 7
    expected = np.zeros((4, 4), np.int32)
    expected[:, :2], expected[2:, 2:] = IGNORED, 1
    np.testing.assert_array_equal(resize_label_map(label_map, (4, 4)), expected)
    grown = resize_label_map(label_map, (16, 16))
    np.testing.assert_array_equal(grown == IGNORED, (label_map == IGNORED).repeat(2, 0).repeat(2, 1))


def test_the_largest_instance_outlives_resizing_among_ignored_pixels():
    label_map = np.full((64, 64), IGNORED)
    label_map[1, 1], label_map[40, 41:43] = 1, 2
    resized = resize_label_map(label_map, (16, 16), min_area=4)
    expected = np.full((16, 16), IGNORED)
    expected[10, 10] = 1
    np.testing.assert_array_equal(resized, expected)


def test_a_scene_that_is_all_ignored_has_no_instance(scenes, make_scenes, make_vec, random_actions):
    nothing = replace(scenes[0], label_map=np.full((32, 32), IGNORED, np.int32))
    assert nothing.num_instances == 0
    pair = make_scenes([nothing, scenes[1]])
    assert PackedScenes(pair, (32, 32)).num_instances.tolist() == [0, 3]
    envs = make_vec(2, scenes=pair, augmentation={})
    _, infos = envs.reset(options={"scene_index": [0, 1]})
    assert infos["num_instances"].tolist() == [0, 3]
    _, rewards, terminated, _, infos = envs.step(random_actions(1, 2)[0])
    assert rewards[0] == 0
    assert terminated.tolist() == [True, False]
    final = infos["final_info"]
    assert all(final[name][0] == 0 for name in ("sbd", "dic", "avg_fp", "avg_fn", "fbd"))


@pytest.mark.parametrize("flip", [0, 1])
@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_ignored_pixels_move_with_the_picture(flip, turns):
    rng = torch.Generator().manual_seed(0)
    label_maps = torch.randint(-1, 4, (2, 32, 32), generator=rng)
    images = (label_maps[:, None] + 1).to(torch.uint8).expand(-1, 3, -1, -1).contiguous()
    parameters = torch.tensor([[flip, turns, 0, 1, 1, 1, 1]] * 2, dtype=torch.float32)
    moved_images, moved_maps = augment(images, label_maps, parameters)
    assert torch.equal(moved_maps, moved_images[:, 0].long() - 1)


def test_a_scene_without_instances_moves_with_its_ignored_pixels():
    label_maps = torch.zeros(1, 32, 32, dtype=torch.int64)
    label_maps[0, :, :5] = IGNORED
    flipped = torch.tensor([[1, 0, 0, 1, 1, 1, 1]])
    _, found = augment(torch.zeros(1, 3, 32, 32, dtype=torch.uint8), label_maps, flipped)
    assert torch.equal(found, label_maps.flip(2))


def test_surroundings_that_were_never_recorded_mirror_ignored_pixels():
    label_maps = torch.ones(1, 32, 32, dtype=torch.int64)
    label_maps[0, :, :4] = IGNORED
    images = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    half_as_large = torch.tensor([[0, 0, 0, 0.5, 1, 1, 1]])
    _, (found,) = augment(images, label_maps, half_as_large)
    # The picture fills columns 8 to 23; its leftmost two are ignored, and so is their mirror image.
    assert (found == IGNORED).all(0).nonzero()[:, 0].tolist() == [6, 7, 8, 9]
    assert found.min() == IGNORED


def test_a_scene_whose_instances_would_all_leave_the_picture_stays_as_it_was():
    label_maps = torch.full((1, 32, 32), IGNORED)
    label_maps[0, 0, 0] = 1
    images = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    twice_as_large = torch.tensor([[0, 0, 0, 2, 1, 1, 1]])
    assert torch.equal(augment(images, label_maps, twice_as_large)[1], label_maps)


@pytest.mark.parametrize("remaining", [0, 1, 2, 5])
def test_ignored_pixels_are_never_given_away(with_void, remaining):
    label_maps = torch.from_numpy(np.stack([scene.label_map for scene in with_void])).long()
    priority = torch.rand(5, 4, generator=torch.Generator().manual_seed(0))
    rest, given_away = prefill(label_maps, remaining, priority)
    ignored = label_maps == IGNORED
    assert torch.equal(rest == IGNORED, ignored)
    assert not given_away[:, 0][ignored].any()
    assert torch.equal((rest > 0) | (given_away[:, 0] > 0), label_maps > 0)


OPTIONS = [
    {},
    {"context": "oracle", "augmentation": {"rotation": 40, "scale": (0.8, 1.2)}},
    {"sequence_length": 2, "prefill": "random"},
    {"reward": "greedy", "score": squared_overlap},
    {"reward": "sbd"},
]


@pytest.mark.parametrize("options", OPTIONS)
def test_returns_and_final_metrics_of_an_environment_are_those_of_the_rest_of_its_scenes(
    with_void, make_vec, random_actions, options
):
    envs = make_vec(5, scenes=with_void, autoreset_mode="NextStep", **options)
    envs.reset(seed=3, options={"scene_index": list(range(5))})
    rules, num_ended, masks = envs.rules, 0, [[] for _ in range(5)]
    for actions in random_actions(12, 5):
        waits = envs.is_over
        _, _, terminated, truncated, infos = envs.step(actions)
        for slot, scene in enumerate(envs.scene):
            masks[slot] = [] if waits[slot] else [*masks[slot], envs.state.predicted_mask[slot, 0].clone()]
            if not (terminated | truncated)[slot]:
                continue
            num_ended += 1
            assert (scene.label_map == IGNORED).any()
            expected = segmentation_metrics(envs.label_map[slot].numpy(), scene.label_map)
            assert {name: float(infos[name][slot]) for name in expected} == pytest.approx(expected, rel=1e-5)
            label_map = torch.from_numpy(scene.label_map).long()
            rewards, _ = play(*cut(label_map, torch.stack(masks[slot])), rules, capacity=4)
            assert float(infos["potential"][slot]) == pytest.approx(sum(rewards), abs=1e-4)
    assert num_ended > 5


def test_evaluations_of_pretraining_do_not_look_at_ignored_pixels(with_void, pretrained, monkeypatch):
    scenes = PackedScenes(with_void, (32, 32))
    network, autoencoder = pretrained.context_network, pretrained.autoencoder
    ignored = (scenes.gather(range(5))[1] == IGNORED)[:, None]
    assert torch.equal(ignored, ignored[:1].expand_as(ignored))  # the same frame in every scene
    context = network.context(scenes.gather(range(5))[0])
    changed = torch.where(ignored, 1 - context, context)
    before = evaluate_context(network, scenes), evaluate_autoencoder(autoencoder, network, scenes)

    def reconstruct(context, masks):
        return torch.where(ignored[:1], 1.0, MaskAutoencoder.reconstruct(autoencoder, context, masks))

    monkeypatch.setattr(autoencoder, "reconstruct", reconstruct)
    assert evaluate_autoencoder(autoencoder, network, scenes) == before[1]
    monkeypatch.setattr(network, "context", lambda images: changed)
    assert evaluate_context(network, scenes) == before[0]
