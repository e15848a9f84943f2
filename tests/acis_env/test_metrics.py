"""The measures against hand-checked scenes and against loops written straight from their definitions."""

from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from acis_env.metrics import METRIC_NAMES, batch_metrics, contingency_table, dice_star, matched_dice, mean_metrics
from acis_env.metrics import segmentation_metrics as metrics_of

EMPTY = np.zeros((4, 5), np.int32)


def instances(label_map):
    return [label_map == label for label in sorted(set(label_map.ravel().tolist()) - {0})]


def dice_by_definition(a, b):
    return 2 * (a * b).sum() / (a.sum() + b.sum()) if a.sum() + b.sum() else 0.0


def iou_by_definition(a, b):
    return (a & b).sum() / (a | b).sum()


def mean_by_definition(values):
    return sum(values) / len(values) if values else 0.0


def best_dice_by_definition(a, b):
    return mean_by_definition([max([dice_by_definition(x, y) for y in b], default=0.0) for x in a])


def metrics_by_definition(prediction, ground_truth):
    predicted, true = instances(prediction), instances(ground_truth)
    coverage = [max([iou_by_definition(t, p) for p in predicted], default=0.0) for t in true]
    false_positives = [not any((p & t).any() for t in true) for p in predicted]
    false_negatives = [not any((p & t).any() for p in predicted) for t in true]
    true_area = sum(t.sum() for t in true)
    return {
        "sbd": min(best_dice_by_definition(predicted, true), best_dice_by_definition(true, predicted)),
        "dic": len(predicted) - len(true),
        "abs_dic": abs(len(predicted) - len(true)),
        "fbd": dice_by_definition(prediction > 0, ground_truth > 0),
        "mucov": mean_by_definition(coverage),
        "mwcov": sum(t.sum() * c for t, c in zip(true, coverage, strict=True)) / true_area if true else 0.0,
        "avg_fp": sum(false_positives),
        "avg_fn": sum(false_negatives),
        "fp_rate": mean_by_definition(false_positives),
        "fn_rate": mean_by_definition(false_negatives),
    }


def matched_sum_by_definition(masks, label_map):
    """Largest sum of Dice over all one-to-one maps; spare rows or columns are matched to nothing."""
    dice = [[dice_by_definition(mask, target) for target in instances(label_map)] for mask in masks]
    num_masks, num_instances = len(masks), len(instances(label_map))
    slots = max(num_masks, num_instances)
    padded = np.zeros((slots, slots))
    for row, values in enumerate(dice):
        padded[row, :num_instances] = values
    return max(sum(padded[row, column] for row, column in enumerate(p)) for p in permutations(range(slots)))


@st.composite
def label_map_pairs(draw):
    shape = draw(st.integers(1, 7)), draw(st.integers(1, 7))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    maps = []
    for _ in range(2):
        labels = draw(st.sampled_from([[0], [5], [0, 1], [0, 0, 0, 1, 2, 3], [3, 7], [0, 2, 9, 200]]))
        dtype = draw(st.sampled_from([np.uint8, np.int16, np.int32, np.int64, np.uint64]))
        maps.append(rng.choice(labels, shape).astype(dtype))
    return maps


def random_label_maps(rng, size, labels, dtype):
    """Label maps `[B, H, W]`, one of each set of `labels`."""
    return torch.from_numpy(np.stack([rng.choice(own, size) for own in labels]).astype(dtype))


@settings(max_examples=150, deadline=None)
@given(label_map_pairs())
def test_every_measure_agrees_with_its_definition_on_random_label_maps(maps):
    prediction, ground_truth = maps
    assert metrics_of(prediction, ground_truth) == pytest.approx(metrics_by_definition(prediction, ground_truth))


@pytest.mark.parametrize("size", [(9, 11), (3, 2), (1, 1)])
@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64])
def test_every_measure_of_a_batch_agrees_with_its_definition(size, dtype):
    # Absent labels, no background, a single label, none at all; the last pair is empty on both sides.
    predicted = [[0, 1, 2, 3], [0, 2, 5], [5, 5, 1], [4], [0], [0, 0, 0, 0, 1, 5], [0], [0, 1, 2, 3, 4, 5], [0]]
    true = [[0, 1, 2, 3], [0, 1, 7], [0, 0, 7], [0, 0, 2], [0, 3, 4], [0], [7], [0, 0, 0, 1, 2, 3, 4, 5, 6, 7], [0]]
    for seed in range(10):
        rng = np.random.default_rng(seed)
        predictions = random_label_maps(rng, size, predicted, dtype)
        label_maps = random_label_maps(rng, size, true, dtype)
        metrics = batch_metrics(predictions, label_maps, max_predictions=5, max_instances=7)
        assert tuple(metrics) == METRIC_NAMES
        assert {(values.shape, values.dtype) for values in metrics.values()} == {((9,), torch.float32)}
        for image, maps in enumerate(zip(predictions.numpy(), label_maps.numpy(), strict=True)):
            measured = {name: float(values[image]) for name, values in metrics.items()}
            assert measured == pytest.approx(metrics_by_definition(*maps), rel=1e-6)


def test_an_image_measures_the_same_alone_in_a_batch_and_with_room_for_more_labels():
    rng = np.random.default_rng(0)
    predictions = random_label_maps(rng, (8, 8), [[0, 1, 2], [0, 1], [0, 0, 0, 2]], np.int64)
    label_maps = random_label_maps(rng, (8, 8), [[0, 1], [0, 2], [0, 1, 2]], np.int64)
    together, roomy = batch_metrics(predictions, label_maps, 2, 2), batch_metrics(predictions, label_maps, 9, 30)
    for image, (prediction, label_map) in enumerate(zip(predictions, label_maps, strict=True)):
        alone = metrics_of(prediction.numpy(), label_map.numpy())
        assert {name: float(values[image]) for name, values in together.items()} == pytest.approx(alone)
        assert {name: float(values[image]) for name, values in roomy.items()} == pytest.approx(alone)


def test_a_batch_without_room_for_any_label_has_measures_of_zero():
    nothing = torch.zeros(2, 4, 4, dtype=torch.int64)
    assert all(values.tolist() == [0, 0] for values in batch_metrics(nothing, nothing, 0, 0).values())


def test_a_batch_is_measured_without_a_look_at_any_value():
    # The meta device holds no values: a wait for the device, or a choice that depends on one, raises.
    maps = torch.zeros(3, 8, 8, dtype=torch.int64, device="meta")
    for values in batch_metrics(maps, maps, 5, 4).values():
        assert (values.shape, values.dtype, values.device.type) == ((3,), torch.float32, "meta")


@pytest.mark.parametrize(
    ("predictions", "label_maps", "message"),
    [
        (torch.zeros(2, 4, 4), torch.zeros(2, 4, 4).int(), "predictions must have an integer dtype, got torch.float32"),
        (torch.zeros(2, 4, 4).int(), torch.zeros(2, 4, 4).bool(), "label_maps must have an integer dtype"),
        (torch.zeros(4, 4).int(), torch.zeros(2, 4, 4).int(), r"predictions must be \[B, H, W\], got \[4, 4\]"),
        (torch.zeros(2, 4, 5).int(), torch.zeros(2, 4, 4).int(), r"label_maps, \[2, 4, 4\], got \[2, 4, 5\]"),
    ],
)
def test_a_bad_batch_of_label_maps_is_refused_by_name(predictions, label_maps, message):
    with pytest.raises(ValueError, match=message):
        batch_metrics(predictions, label_maps, 3, 3)


def test_hand_checked_scene_with_a_split_instance_and_a_spurious_mask():
    ground_truth = np.array(
        [
            [1, 1, 1, 1, 0, 0],
            [1, 1, 1, 1, 0, 0],
            [2, 2, 0, 0, 0, 0],
            [3, 3, 0, 0, 0, 0],
        ]
    )
    prediction = np.array(
        [
            [4, 4, 4, 6, 0, 0],
            [4, 4, 4, 6, 0, 0],
            [7, 7, 7, 7, 0, 0],
            [0, 0, 0, 0, 9, 9],
        ]
    )
    # Areas: instances 8, 2, 2; predictions 6, 2, 4, 2 (labels 4, 6, 7, 9). Overlaps: 4-1 6, 6-1 2, 7-2 2.
    # Dice: 4-1 12/14, 6-1 4/10, 7-2 4/6, rest 0. IoU: 4-1 6/8, 6-1 2/8, 7-2 2/4.
    best_dice_of_predictions = (12 / 14 + 4 / 10 + 4 / 6 + 0) / 4  # 0.481
    best_dice_of_instances = (12 / 14 + 4 / 6 + 0) / 3  # 0.508
    assert best_dice_of_predictions < best_dice_of_instances
    assert metrics_of(prediction, ground_truth) == pytest.approx(
        {
            "sbd": best_dice_of_predictions,
            "dic": 1,
            "abs_dic": 1,
            "fbd": 2 * 10 / (14 + 12),  # foregrounds of 14 and 12 pixels share 6 + 2 + 2
            "mucov": (6 / 8 + 2 / 4 + 0) / 3,
            "mwcov": (8 * 6 / 8 + 2 * 2 / 4 + 2 * 0) / 12,
            "avg_fp": 1,  # label 9
            "avg_fn": 1,  # instance 3
            "fp_rate": 1 / 4,
            "fn_rate": 1 / 3,
        }
    )


def test_a_single_shared_pixel_is_neither_a_false_positive_nor_a_false_negative():
    ground_truth, prediction = EMPTY.copy(), EMPTY.copy()
    ground_truth[0, :3], prediction[0, 2:] = 1, 1
    metrics = metrics_of(prediction, ground_truth)
    assert metrics["avg_fp"] == metrics["avg_fn"] == 0
    assert metrics["mucov"] == pytest.approx(1 / 5)  # 3 + 3 - 1 pixels in the union


def test_a_missing_instance_lowers_the_symmetric_best_dice_though_all_predictions_are_perfect():
    ground_truth = np.array([[1, 1, 0, 2, 2]])
    prediction = np.array([[1, 1, 0, 0, 0]])
    assert metrics_of(prediction, ground_truth)["sbd"] == pytest.approx(1 / 2)
    assert metrics_of(ground_truth, prediction)["sbd"] == pytest.approx(1 / 2)


def test_a_perfect_prediction_is_perfect_whatever_its_labels():
    ground_truth = np.array([[1, 1, 0, 2], [3, 0, 0, 2]])
    renamed = np.array([0, 900, 4, 17])[ground_truth]
    expected = dict.fromkeys(METRIC_NAMES, 0.0) | dict.fromkeys(("sbd", "fbd", "mucov", "mwcov"), 1.0)
    assert metrics_of(renamed, ground_truth) == expected


def test_a_label_without_background_is_not_taken_for_background():
    everything = np.full((2, 2), 7)
    assert metrics_of(everything, everything)["sbd"] == 1.0
    assert contingency_table(everything, everything).tolist() == [[0, 0], [0, 4]]


def test_one_pixel_images():
    zero, one = np.array([[0]]), np.array([[1]])
    assert metrics_of(one, one)["sbd"] == 1.0
    assert metrics_of(one, zero)["fp_rate"] == 1.0
    assert metrics_of(zero, one)["fn_rate"] == 1.0


def test_without_predictions_every_instance_is_missed():
    ground_truth = EMPTY.copy()
    ground_truth[0, 0], ground_truth[1, 1] = 1, 2
    expected = {"dic": -2.0, "abs_dic": 2.0, "avg_fn": 2.0, "fn_rate": 1.0}
    assert metrics_of(EMPTY, ground_truth) == dict.fromkeys(METRIC_NAMES, 0.0) | expected


def test_without_instances_every_prediction_is_false():
    prediction = EMPTY.copy()
    prediction[0, 0], prediction[1, 1] = 1, 2
    expected = {"dic": 2.0, "abs_dic": 2.0, "avg_fp": 2.0, "fp_rate": 1.0}
    assert metrics_of(prediction, EMPTY) == dict.fromkeys(METRIC_NAMES, 0.0) | expected


def test_all_measures_of_two_empty_maps_are_zero():
    assert metrics_of(EMPTY, EMPTY) == dict.fromkeys(METRIC_NAMES, 0.0)


def test_measures_come_in_the_documented_order_as_floats():
    metrics = metrics_of(EMPTY, EMPTY)
    assert tuple(metrics) == METRIC_NAMES
    assert {type(value) for value in metrics.values()} == {float}


@pytest.mark.parametrize(
    ("prediction", "ground_truth", "message"),
    [
        (EMPTY.astype(np.float32), EMPTY, "prediction must have an integer dtype, got float32"),
        (EMPTY, EMPTY.astype(bool), "ground_truth must have an integer dtype, got bool"),
        (EMPTY[None], EMPTY, r"prediction must be \[H, W\], got \[1, 4, 5\]"),
        (EMPTY, EMPTY[0], r"ground_truth must be \[H, W\], got \[5\]"),
        (EMPTY, EMPTY.T, r"\[5, 4\], got \[4, 5\]"),
        (EMPTY - 3, EMPTY, "prediction must hold labels >= 0 .* got -3"),
        (EMPTY - 1, EMPTY, "prediction must hold labels >= 0 .* got -1"),
        (EMPTY, EMPTY - 2, r"ground_truth must hold labels >= -1 \(0 = background, -1 = ignored\), got -2"),
    ],
)
def test_a_bad_label_map_is_refused_by_name(prediction, ground_truth, message):
    with pytest.raises(ValueError, match=message):
        metrics_of(prediction, ground_truth)


def test_mean_gives_every_image_the_same_weight():
    assert mean_metrics([{"sbd": 1.0, "dic": -2.0}, {"sbd": 0.5, "dic": 1.0}]) == {"sbd": 0.75, "dic": -0.5}


def test_mean_of_no_image_or_of_unlike_images_is_refused():
    with pytest.raises(ValueError, match="at least one image, got none"):
        mean_metrics([])
    with pytest.raises(ValueError, match="for image 1"):
        mean_metrics([{"sbd": 1.0}, {"dic": 1.0}])


@pytest.mark.parametrize(("num_masks", "num_instances"), [(1, 4), (2, 3), (3, 3), (4, 2), (5, 1), (3, 0), (0, 2)])
@pytest.mark.parametrize("soft", [True, False])
def test_matching_reaches_the_best_of_all_permutations(num_masks, num_instances, soft):
    rng = np.random.default_rng(10 * num_masks + num_instances)
    for _ in range(10):
        masks = rng.random((num_masks, 6, 7))
        masks = masks if soft else masks > 0.6
        label_map = rng.permutation(np.resize(np.arange(num_instances + 1) * 3, 42)).reshape(6, 7)
        matched = matched_dice(masks, label_map)
        assert matched.shape == (num_masks,)
        assert matched.sum() == pytest.approx(matched_sum_by_definition(masks, label_map))
        assert np.count_nonzero(matched) <= num_instances
        star = matched_sum_by_definition(masks[:num_instances], label_map) / max(num_instances, 1)
        assert dice_star(masks, label_map) == pytest.approx(star)


def test_the_second_copy_of_a_mask_gets_no_instance():
    label_map = np.array([[1, 1, 0, 2]])
    masks = np.array([[[1, 1, 0, 0]], [[1, 1, 0, 0]], [[0, 0, 0.5, 0.5]]])
    # The third mask: 2 * 0.5 / (1 + 1) with instance 2.
    assert sorted(matched_dice(masks, label_map).tolist()) == pytest.approx([0, 0.5, 1])
    assert matched_dice(masks, label_map)[2] == pytest.approx(0.5)


def test_dice_star_ignores_masks_after_the_last_instance():
    label_map = np.array([[1, 1, 0, 2]])
    first, second = label_map == 1, label_map == 2
    assert dice_star(np.array([first, first, second]), label_map) == pytest.approx(1 / 2)
    assert dice_star(np.array([first, second, first]), label_map) == pytest.approx(1)


def test_dice_star_counts_a_missing_mask_as_zero():
    label_map = np.array([[1, 1, 0, 2]])
    assert dice_star((label_map == 1)[None], label_map) == pytest.approx(1 / 2)
    assert dice_star(np.zeros((0, 1, 4)), label_map) == 0.0


def test_an_empty_mask_has_no_dice():
    assert matched_dice(np.zeros((1, 1, 4)), np.array([[1, 1, 0, 2]])).tolist() == [0.0]


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        (np.zeros((4, 5)), r"masks must be \[T, H, W\] = \[T, 4, 5\] as label_map, got \[4, 5\]"),
        (np.zeros((2, 5, 4)), r"got \[2, 5, 4\]"),
        (np.full((1, 4, 5), 1.5), "got values from 1.5 to 1.5"),
        (np.full((1, 4, 5), -0.5), "got values from -0.5"),
        (np.full((1, 4, 5), np.nan), "got values from nan"),
        (np.full((1, 4, 5), 255, np.uint8), "to 255"),
    ],
)
def test_bad_masks_are_refused(masks, message):
    with pytest.raises(ValueError, match=message):
        matched_dice(masks, EMPTY)
