"""Evaluation: native resolution, own stopping beside the true count, and a table that repeats itself."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from acis_env.datasets import Scene
from acis_env.datasets.preprocessing import resize_masks
from acis_env.datasets.scene import IGNORED
from acis_env.metrics import dice_star, segmentation_metrics
from agents.evaluation.evaluation import Evaluation, evaluate, order_correlations
from agents.evaluation.segmenters import agent_segmenter
from agents.evaluation.whole_pictures import iterate
from agents.models.composition import Composition, compose_label_map
from agents.models.prediction import Prediction


def test_own_stopping_is_told_from_the_true_count(make_source, leaves, truth):
    areas = np.bincount(leaves.dataset[1].label_map.ravel())[1:]
    evaluation = evaluate("stops after two", truth(2), make_source([leaves.dataset[1]]))  # of four leaves
    (scene,) = evaluation.scenes
    assert scene["abs_dic"] == 2
    assert scene["dic"] == -2
    assert scene["sbd"] == pytest.approx(0.5)  # two of four leaves are perfect, two are missed
    assert scene["avg_fn"] == 2
    assert scene["fbd"] == pytest.approx(2 * areas[:2].sum() / (areas[:2].sum() + areas.sum()))
    assert scene["sbd_gt_stop"] == scene["dice_star"] == pytest.approx(1)
    assert evaluation.dice_per_step == [[pytest.approx(1)] * 4]


def test_masks_beyond_the_true_count_do_not_help(make_source, leaves, truth):
    """The true masks of four leaves, but the first one of another leaf again: five masks, four of which count."""

    def segment(state):
        masks = truth(4)(state).masks
        return Prediction(torch.cat([masks[:, 1:2], masks[:, [1, 2, 3, 0]]], dim=1), torch.tensor([5]), torch.ones(1))

    (scene,) = evaluate("repeats", segment, make_source([leaves.dataset[1]])).scenes
    assert scene["dice_star"] == pytest.approx(0.75)  # the fourth leaf comes too late
    assert scene["sbd_gt_stop"] == pytest.approx(0.75)
    assert scene["sbd"] == pytest.approx(1)  # in the label map the repetition owns no pixel
    assert scene["abs_dic"] == 0


def test_measures_are_taken_at_the_resolution_of_the_scene(large, truth):
    def soft_segmenter(state):
        masks = truth(2)(state).masks
        blurred = torch.nn.functional.avg_pool2d(masks, 3, stride=1, padding=1)
        return Prediction(blurred, torch.tensor([2, 2]), torch.ones(2, dtype=torch.bool))

    evaluation = evaluate("blurred", soft_segmenter, large, num_pictures=1)
    masks = soft_segmenter(large.begin([0, 1])[0]).masks.numpy()
    for index, scene in enumerate(large.scenes.dataset):
        resized = resize_masks(masks[index], (96, 64))
        expected = segmentation_metrics(compose_label_map(resized[:2]), scene.label_map)
        own = evaluation.scenes[index]
        assert {key: own[key] for key in expected} == expected
        assert own["dice_star"] == dice_star(resized[: scene.num_instances] >= 0.5, scene.label_map)
        assert 0.8 < own["sbd_gt_stop"] < 1
    assert [label_map.shape for label_map in evaluation.label_maps.values()] == [(96, 64)]
    coarse = segmentation_metrics(compose_label_map(masks[0, :2]), large.scenes.gather([0])[1][0].numpy())
    assert coarse["sbd"] != evaluation.scenes[0]["sbd"]


def test_a_scene_without_labels_cannot_be_evaluated_and_is_named(large, truth):
    scenes = large.scenes.dataset
    scenes[1] = Scene(scenes[1].image, None, "test-7")
    with pytest.raises(ValueError, match="test-7: expected a scene with a label map, which evaluation"):
        evaluate("agent", truth(2), large)


def test_the_threshold_decides_which_pixels_count(large, truth):
    def faint_segmenter(state):
        prediction = truth(3)(state)
        return Prediction(0.4 * prediction.masks, prediction.num_masks, prediction.stopped)

    assert evaluate("faint", faint_segmenter, large, composition=Composition(0.5)).mean["fbd"] == 0
    assert evaluate("faint", faint_segmenter, large, composition=Composition(0.3)).mean["fbd"] > 0.9


def test_the_agent_is_asked_for_enough_masks_for_the_true_count_though_it_stops_early(agent, source, stop_after):
    stop_after(agent.actor, [1] * 12)
    evaluation = evaluate("agent", agent_segmenter(agent), source)
    assert [len(dice) for dice in evaluation.dice_per_step] == [2, 4, 3, 4, 1, 1, 4, 1, 1, 3, 3, 4]
    counts = [scene["dic"] + len(dice) for scene, dice in zip(evaluation.scenes, evaluation.dice_per_step, strict=True)]
    assert max(counts) <= 1


@pytest.mark.parametrize("size", [1, 5, 12])
def test_every_scene_is_shown_once_in_order_whole_and_whatever_the_size_of_a_batch(source, leaves, size):
    shown = list(iterate(source, size=size))
    assert [index for _, indices in shown for index in indices] == list(range(12))
    label_maps = torch.cat([state.label_map for state, _ in shown])
    assert torch.equal(label_maps.long(), leaves.gather(range(12))[1].long())
    assert all(state.step_count.eq(0).all() and state.accumulated_mask.eq(0).all() for state, _ in shown)
    assert max(len(state) for state, _ in shown) == size


def test_only_the_first_scenes_are_measured_if_so_many_are_asked_for(source, truth):
    whole, few = (evaluate("truth", truth(4), source, num_scenes=n) for n in (None, 5))
    assert few.scenes == whole.scenes[:5]
    assert len(evaluate("truth", truth(4), source, num_scenes=100).scenes) == 12


def test_dice_at_a_step_is_a_mean_over_the_scenes_that_have_so_many_instances():
    evaluation = Evaluation("any", [], [[0.8], [0.4, 0.6, 1.0], [0.6, 0.2]], [])
    assert evaluation.dice_at_step() == pytest.approx([0.6, 0.4, 1.0])


def test_means_are_over_scenes():
    evaluation = Evaluation("any", [{"sbd": 0.5, "fbd": 1.0}, {"sbd": 1.0, "fbd": 0.0}], [], [])
    assert evaluation.mean == {"sbd": 0.75, "fbd": 0.5}


def test_the_comparison_has_a_row_for_every_reference_and_repeats_itself(agent, rows):
    names = [evaluation.name for evaluation in rows(initialised=agent)]
    assert names == ["random actions", "random codes", "initialised", "agent", "reconstruction"]
    first, again = rows(), rows()
    assert [evaluation.name for evaluation in first] == ["random actions", "random codes", "agent", "reconstruction"]
    assert [e.mean for e in first] == [e.mean for e in again]


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


def test_ignored_pixels_change_no_order_correlation():
    label_map = np.zeros((12, 12), np.int32)
    for label, size in enumerate((2, 6, 4, 8), start=1):
        label_map[3 * label - 3 : 3 * label - 1, :size] = label
    label_map[:, 9:] = IGNORED
    masks = np.stack([label_map == label for label in (4, 2, 3, 1)])
    expected = order_correlations(masks, label_map)
    assert expected == order_correlations(masks, np.maximum(label_map, 0))
    masks[:, :, 9:] = True  # without a look at the label map, no mask would have a Dice of one half
    assert order_correlations(masks, label_map) == expected


def test_the_truth_is_perfect_where_pixels_are_ignored_whatever_is_predicted_there(large, make_source, truth):
    scenes = []
    for scene in large.own_scenes.dataset:
        label_map = scene.label_map.copy()
        label_map[:, 30:] = IGNORED
        scenes.append(replace(scene, label_map=label_map))

    def painted(state):
        prediction = truth(3)(state)
        prediction.masks[:, :, :, 17:] = 1  # a column from the border, over which resizing may smear it
        return prediction

    evaluation = evaluate("truth", painted, make_source(scenes), num_pictures=2)
    assert evaluation.mean["sbd"] == evaluation.mean["dice_star"] == evaluation.mean["fbd"] == 1
    assert evaluation.mean["avg_fp"] == evaluation.mean["avg_fn"] == 0
    assert all(label_map[:, 40:].all() for label_map in evaluation.label_maps.values())  # drawn as predicted
