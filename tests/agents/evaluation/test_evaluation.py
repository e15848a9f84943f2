"""Evaluation: references with known answers, native resolution, and a report that says what the table says."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from acis_env.datasets import PackedScenes, Scene
from acis_env.datasets.preprocessing import resize_masks
from acis_env.metrics import dice_star, segmentation_metrics
from acis_env.reward import instance_areas, score
from acis_env.sampling import load_batch
from agents.evaluation.evaluation import (
    TABLE,
    Evaluation,
    agent_segmenter,
    block,
    candidate_correlation,
    compare,
    evaluate,
    explained_variance_per_step,
    format_table,
    order_correlations,
    random_segmenter,
    reconstruction_segmenter,
    scene_sheet,
    search_bounds,
    write_report,
)
from agents.models.agent import Prediction, compose_label_map
from agents.models.critic import CriticConfig

PERFECT = {"sbd": 1, "abs_dic": 0, "sbd_gt_stop": 1, "dice_star": 1, "fbd": 1, "mucov": 1, "avg_fp": 0, "avg_fn": 0}


class ListedScenes(list):
    """A list of scenes, which is a data set."""

    @property
    def max_instances(self):
        return max(scene.num_instances for scene in self)


@pytest.fixture
def large_scenes():
    """Two scenes of 96x64 pixels, with 2 and 3 instances in whole blocks of 3x2, so that shrinking loses nothing."""
    scenes = ListedScenes()
    for count in (2, 3):
        label_map = np.zeros((96, 64), np.int32)
        for label in range(1, count + 1):
            label_map[30 * label - 24 : 30 * label - 3, 10 : 20 + 10 * label] = label
        image = (60 * label_map[None] + np.array([10, 30, 50])[:, None, None]).astype(np.uint8)
        scenes.append(Scene(image, label_map, f"large-{count}"))
    return PackedScenes(scenes, (32, 32))


def perfect_autoencoder(context, masks):
    return masks


def truth_segmenter(count):
    """Predicts the true instances at the network's size, and stops after `count` of them."""

    def segment(batch):
        labels = range(1, int(batch.label_maps.max()) + 1)
        masks = torch.stack([(batch.label_maps == label).float() for label in labels], dim=1)
        counts = torch.full((len(masks),), count)
        return Prediction(masks, counts, torch.ones(len(masks), dtype=torch.bool))

    return segment


def test_the_reconstruction_of_a_perfect_autoencoder_is_perfect(tiny, leaves):
    pretrained = SimpleNamespace(
        context_network=tiny.context_network, autoencoder=SimpleNamespace(reconstruct=perfect_autoencoder)
    )
    evaluation = evaluate("bound", reconstruction_segmenter(pretrained), leaves)
    assert {key: evaluation.mean[key] for key in PERFECT} == pytest.approx(PERFECT)
    assert evaluation.dice_at_step() == pytest.approx([1] * 4)


def test_the_reconstruction_of_a_poor_autoencoder_is_not(tiny, leaves):
    mean = evaluate("bound", reconstruction_segmenter(tiny), leaves).mean
    assert mean["sbd"] < 0.9


def test_a_reconstruction_has_no_mask_where_a_scene_has_no_such_instance(tiny, leaves):
    batch = load_batch(leaves, [1, 4])  # of 4 leaves and of 1
    prediction = reconstruction_segmenter(tiny)(batch)
    assert prediction.num_masks.tolist() == [4, 1]
    assert prediction.masks.shape[1] == 4
    assert prediction.masks[0].amax((1, 2)).min() > 0
    assert prediction.masks[1, 1:].abs().sum() == 0


def test_the_random_segmenter_is_decided_by_its_seed(tiny, leaves):
    batch = load_batch(leaves, range(12))
    first, again, other = (random_segmenter(tiny, 5, seed)(batch) for seed in (0, 0, 1))
    assert torch.equal(first.masks, again.masks)
    assert torch.equal(first.num_masks, again.num_masks)
    assert not torch.equal(first.masks, other.masks)
    assert not torch.equal(first.num_masks, other.num_masks)
    assert first.masks.shape == (12, 5, 32, 32)
    assert first.num_masks.min() >= 1
    assert first.num_masks.max() <= 5


def test_own_stopping_is_told_from_the_true_count(leaves):
    four_leaves = PackedScenes(ListedScenes([leaves.dataset[1]]), (32, 32))
    areas = np.bincount(leaves.dataset[1].label_map.ravel())[1:]
    evaluation = evaluate("stops after two", truth_segmenter(2), four_leaves)
    (scene,) = evaluation.scenes
    assert scene["abs_dic"] == 2
    assert scene["dic"] == -2
    assert scene["sbd"] == pytest.approx(0.5)  # two of four leaves are perfect, two are missed
    assert scene["avg_fn"] == 2
    assert scene["fbd"] == pytest.approx(2 * areas[:2].sum() / (areas[:2].sum() + areas.sum()))
    assert scene["sbd_gt_stop"] == scene["dice_star"] == pytest.approx(1)
    assert evaluation.dice_per_step == [[pytest.approx(1)] * 4]


def test_masks_beyond_the_true_count_do_not_help(leaves):
    """The true masks of four leaves, but the first one of another leaf again: five masks, four of which count."""

    def segment(batch):
        masks = truth_segmenter(4)(batch).masks
        return Prediction(torch.cat([masks[:, 1:2], masks[:, [1, 2, 3, 0]]], dim=1), torch.tensor([5]), torch.ones(1))

    scenes = PackedScenes(ListedScenes([leaves.dataset[1]]), (32, 32))
    (scene,) = evaluate("repeats", segment, scenes).scenes
    assert scene["dice_star"] == pytest.approx(0.75)  # the fourth leaf comes too late
    assert scene["sbd_gt_stop"] == pytest.approx(0.75)
    assert scene["sbd"] == pytest.approx(1)  # in the label map the repetition owns no pixel
    assert scene["abs_dic"] == 0


def test_measures_are_taken_at_the_resolution_of_the_scene(large_scenes):
    def soft_segmenter(batch):
        masks = truth_segmenter(2)(batch).masks
        blurred = torch.nn.functional.avg_pool2d(masks, 3, stride=1, padding=1)
        return Prediction(blurred, torch.tensor([2, 2]), torch.ones(2, dtype=torch.bool))

    evaluation = evaluate("blurred", soft_segmenter, large_scenes, num_pictures=1)
    masks = soft_segmenter(load_batch(large_scenes, [0, 1])).masks.numpy()
    for index, scene in enumerate(large_scenes.dataset):
        resized = resize_masks(masks[index], (96, 64))
        expected = segmentation_metrics(compose_label_map(resized[:2]), scene.label_map)
        own = evaluation.scenes[index]
        assert {key: own[key] for key in expected} == expected
        assert own["dice_star"] == dice_star(resized[: scene.num_instances] >= 0.5, scene.label_map)
        assert 0.8 < own["sbd_gt_stop"] < 1
    assert [label_map.shape for label_map in evaluation.label_maps.values()] == [(96, 64)]
    coarse = segmentation_metrics(compose_label_map(masks[0, :2]), large_scenes.gather([0])[1][0].numpy())
    assert coarse["sbd"] != evaluation.scenes[0]["sbd"]


def test_a_scene_without_labels_cannot_be_evaluated_and_is_named(large_scenes):
    large_scenes.dataset[1] = Scene(large_scenes.dataset[1].image, None, "test-7")
    with pytest.raises(ValueError, match="test-7: expected a scene with a label map, which evaluation"):
        evaluate("agent", truth_segmenter(2), large_scenes)


def test_the_cut_off_decides_which_pixels_count(large_scenes):
    def faint_segmenter(batch):
        prediction = truth_segmenter(3)(batch)
        return Prediction(0.4 * prediction.masks, prediction.num_masks, prediction.stopped)

    assert evaluate("faint", faint_segmenter, large_scenes, threshold=0.5).mean["fbd"] == 0
    assert evaluate("faint", faint_segmenter, large_scenes, threshold=0.3).mean["fbd"] > 0.9


def test_the_agent_is_asked_for_enough_masks_for_the_true_count_though_it_stops_early(
    agent, leaves, stop_after, monkeypatch
):
    monkeypatch.setattr("agents.evaluation.evaluation.iterate", lambda scenes: [load_batch(scenes, range(12))])
    stop_after(agent.actor, [1] * 12)
    evaluation = evaluate("agent", agent_segmenter(agent), leaves)
    assert [len(dice) for dice in evaluation.dice_per_step] == [2, 4, 3, 4, 1, 1, 4, 1, 1, 3, 3, 4]
    counts = [scene["dic"] + len(dice) for scene, dice in zip(evaluation.scenes, evaluation.dice_per_step, strict=True)]
    assert max(counts) <= 1


def test_dice_at_a_step_is_a_mean_over_the_scenes_that_have_so_many_instances():
    evaluation = Evaluation("any", [], [[0.8], [0.4, 0.6, 1.0], [0.6, 0.2]], [])
    assert evaluation.dice_at_step() == pytest.approx([0.6, 0.4, 1.0])


def test_means_are_over_scenes():
    evaluation = Evaluation("any", [{"sbd": 0.5, "fbd": 1.0}, {"sbd": 1.0, "fbd": 0.0}], [], [])
    assert evaluation.mean == {"sbd": 0.75, "fbd": 0.5}


def rows(agent, scenes, initialised=None, num_pictures=8):
    """The table of an agent, with the one it was before if there is one."""
    segmenters = {} if initialised is None else {"initialised": agent_segmenter(initialised)}
    segmenters["agent"] = agent_segmenter(agent)
    return compare(segmenters, agent.pretrained, scenes, num_pictures=num_pictures)


def test_the_comparison_has_a_row_for_every_reference_and_repeats_itself(agent, leaves):
    names = [evaluation.name for evaluation in rows(agent, leaves, initialised=agent)]
    assert names == ["random", "initialised", "agent", "reconstruction"]
    first, again = rows(agent, leaves), rows(agent, leaves)
    assert [evaluation.name for evaluation in first] == ["random", "agent", "reconstruction"]
    assert [e.mean for e in first] == [e.mean for e in again]


def test_the_report_says_what_the_table_says(agent, leaves, tmp_path):
    evaluations = rows(agent, leaves, num_pictures=3)
    write_report(tmp_path / "report", evaluations, leaves, {"run": "here"})
    report = json.loads((tmp_path / "report" / "evaluation.json").read_text())
    assert report["about"] == {"run": "here"}
    assert report["num_scenes"] == 12
    header, *lines = format_table(evaluations).splitlines()
    assert header.split() == list(TABLE)
    assert [line.split()[0] for line in lines] == list(report["rows"])
    for line in lines:
        name, *numbers = line.split()
        row = report["rows"][name]
        assert [float(number) for number in numbers] == pytest.approx([row["mean"][c] for c in TABLE], abs=5.1e-4)
        assert len(row["scenes"]) == 12
        for column in TABLE:
            assert np.mean([scene[column] for scene in row["scenes"]]) == pytest.approx(row["mean"][column])
        assert len(row["dice_at_step"]) == 4
    for picture in ("scenes.png", "dice_per_step.png"):
        with Image.open(tmp_path / "report" / picture) as image:
            assert np.array(image).std() > 0


def test_the_sheet_has_a_row_per_scene_and_a_column_per_evaluation(agent, leaves):
    few, more = (rows(agent, leaves, num_pictures=n) for n in (1, 3))
    assert scene_sheet(more, leaves).shape[0] > 2 * scene_sheet(few, leaves).shape[0]
    assert scene_sheet(more, leaves).shape[1] > scene_sheet(more[:1], leaves).shape[1]


def test_a_blocked_actor_reads_zeros_and_the_agent_itself_goes_on_as_before(agent, leaves):
    context = agent.pretrained.context_network.context(leaves.gather([0, 1])[0])
    shares = agent.actor.condition(context)
    mask, memory = torch.rand(2, 1, 32, 32), torch.rand_like(agent.actor.initial_memory(2))
    without_mask = agent.actor(shares, torch.zeros_like(mask), memory)
    without_memory = agent.actor(shares, mask, torch.zeros_like(memory))
    with_both = agent.actor(shares, mask, memory)
    for blocked, expected in ((block(agent, "mask"), without_mask), (block(agent, "memory"), without_memory)):
        out = blocked.actor(shares, mask, memory)
        assert torch.equal(out.mean, expected.mean)
        assert torch.equal(out.continue_logit, expected.continue_logit)
        assert not torch.equal(out.mean, with_both.mean)
    assert torch.equal(agent.actor(shares, mask, memory).mean, with_both.mean)


def test_order_correlations_are_those_of_the_instances_found():
    label_map = np.zeros((12, 12), np.int32)
    for label, size in enumerate((2, 6, 4, 8), start=1):
        label_map[3 * label - 3 : 3 * label - 1, :size] = label
    masks = np.stack([label_map == label for label in (4, 2, 3, 1)])  # from the largest to the smallest
    assert order_correlations(masks, label_map)["size"] == pytest.approx(-1)
    # Ranks 4, 2, 3, 1 of the labels: 1 - 6 (9 + 0 + 0 + 9) / (4 (16 - 1)) = -0.8
    assert order_correlations(masks, label_map)["label"] == pytest.approx(-0.8)
    masks[1] = False  # what is not found has no place in the order
    assert order_correlations(masks, label_map)["label"] == pytest.approx(-1)
    masks[2] = False
    assert order_correlations(masks, label_map) == {}


def test_a_critic_that_knows_the_returns_explains_them_and_a_constant_one_does_not(make_learner, tiny, leaves):
    learner = make_learner()
    learner.predict_values = lambda played: played.returns[:, None]
    knowing = explained_variance_per_step(learner, tiny, leaves)
    counts = leaves.gather(range(12))[1].flatten(1).amax(1)
    assert knowing["count"] == [int((counts > t).sum()) for t in range(int(counts.max()))]
    assert all(value in (0.0, 1.0) for value in knowing["explained_variance"])
    assert knowing["explained_variance"][0] == 1
    assert knowing["target"] == knowing["prediction"]

    learner.predict_values = lambda played: torch.full_like(played.returns[:, None], 5.0)
    ignorant = explained_variance_per_step(learner, tiny, leaves)
    assert ignorant["target"] == knowing["target"]  # the same episodes
    assert max(ignorant["explained_variance"]) <= 0


def test_a_choice_by_the_truth_begins_at_least_as_well_as_the_mean_in_every_scene(agent, leaves):
    batch = load_batch(leaves, range(12))
    first = []
    for segmenter in (agent_segmenter(agent), *search_bounds(agent).values()):
        prediction = segmenter(batch)
        areas = instance_areas(batch.label_maps, leaves.max_instances)
        first.append(score(prediction.masks[:, 0], batch.label_maps, areas).amax(1))
    mean, by_reward, by_return = first
    assert (by_reward >= mean - 1e-6).all()
    assert (by_reward > mean + 1e-4).any()
    assert not torch.allclose(by_reward, by_return)  # what follows counts, too
    assert prediction.num_masks.tolist() == batch.label_maps.flatten(1).amax(1).tolist()


def test_the_candidates_of_a_critic_that_knows_their_values_are_in_order(make_learner, tiny, leaves):
    learner = make_learner(critic=CriticConfig(hidden=(8, 8), remaining_steps=False))
    learner.predict_values = lambda compared: compared.returns
    known = candidate_correlation(learner, tiny, leaves)
    learner.predict_values = lambda compared: -compared.returns
    reversed_ = candidate_correlation(learner, tiny, leaves)
    assert known.keys() == {"reward", "return"}
    for name, value in known.items():
        assert value > 0.9  # 0 in states where all candidates are worth the same
        assert reversed_[name] == pytest.approx(-value)
