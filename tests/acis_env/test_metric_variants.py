"""Variants of the measures: by hand, and against loops that follow what the published scripts do."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acis_env.metric_variants import VARIANTS, variant_metrics
from acis_env.metrics import segmentation_metrics


def dice_of(a, b):
    return 2 * (a & b).sum() / (a.sum() + b.sum()) if a.sum() + b.sum() else 0.0


def best_dice_of_consecutive_labels(a, b):
    """Mean over all numbers from the smallest label of `a`, which is background, to its largest."""
    labels = range(int(a.min()) + 1, int(a.max()) + 1)
    others = range(int(b.min()) + 1, int(b.max()) + 1)
    best = [max([dice_of(a == i, b == j) for j in others], default=0.0) for i in labels]
    return sum(best) / len(best) if best else 0.0


def challenge_by_loops(prediction, ground_truth):
    forward = best_dice_of_consecutive_labels(prediction, ground_truth)
    backward = best_dice_of_consecutive_labels(ground_truth, prediction)
    spread = int(prediction.max()) - int(prediction.min())
    difference = spread - (int(ground_truth.max()) - int(ground_truth.min()))
    return {
        "best_dice": forward,
        "sbd": min(forward, backward),
        "fbd": dice_of(prediction != prediction.min(), ground_truth != ground_truth.min()),
        "dic": difference,
        "abs_dic": abs(difference),
    }


def e2e_by_loops(prediction, ground_truth, most=30):
    """Masks in a list of fixed length, some of them empty, as the script has them."""
    predicted = [prediction == label for label in range(1, most + 1)]
    true = [ground_truth == label for label in np.unique(ground_truth) if label > 0]
    count = max(len(true), 1)
    true += [np.zeros_like(predicted[0])] * (most - len(true))

    def best_dice(a, b):
        return sum(max(dice_of(x, y) for y in b) for x in a[:count]) / count

    usual = segmentation_metrics(prediction, ground_truth)
    kept = ("fbd", "mucov", "mwcov", "avg_fp", "avg_fn", "dic", "abs_dic")
    return {"sbd": min(best_dice(predicted, true), best_dice(true, predicted)), **{name: usual[name] for name in kept}}


@st.composite
def label_map_pairs(draw):
    shape = draw(st.integers(1, 7)), draw(st.integers(1, 7))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    labels = [[0], [5], [0, 1], [0, 0, 0, 1, 2, 3], [3, 7], [1, 2, 3], [0, 2, 9, 20]]
    dtypes = [np.uint8, np.int16, np.int32, np.int64]
    return [rng.choice(draw(st.sampled_from(labels)), shape).astype(draw(st.sampled_from(dtypes))) for _ in range(2)]


@settings(max_examples=150, deadline=None)
@given(label_map_pairs())
def test_variants_agree_with_loops_on_random_label_maps(maps):
    expected = challenge_by_loops(*maps)
    assert variant_metrics("codalab", *maps) == pytest.approx(expected)
    del expected["best_dice"]
    assert variant_metrics("lsc-matlab", *maps) == pytest.approx(expected)
    assert variant_metrics("e2e", *maps) == pytest.approx(e2e_by_loops(*maps))


GROUND_TRUTH = np.array(
    [
        [1, 1, 1, 1, 0, 0],
        [2, 2, 0, 0, 0, 0],
        [3, 3, 3, 3, 0, 0],
    ]
)
PREDICTION = np.array(
    [
        [1, 1, 0, 0, 0, 0],
        [2, 2, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0],
    ]
)
"""Prediction 1 has a Dice of 2 * 2 / (2 + 4) = 2/3 with the first instance, prediction 2 one of 1 with the second."""


def test_the_best_dice_of_codalab_does_not_see_a_missed_instance():
    found = variant_metrics("codalab", PREDICTION, GROUND_TRUTH)
    assert found["best_dice"] == pytest.approx((2 / 3 + 1) / 2)
    assert found["sbd"] == pytest.approx((2 / 3 + 1 + 0) / 3)
    assert found["fbd"] == pytest.approx(2 * 4 / (4 + 10))
    assert (found["dic"], found["abs_dic"]) == (-1, 1)
    assert "best_dice" not in variant_metrics("lsc-matlab", PREDICTION, GROUND_TRUTH)


@pytest.mark.parametrize("name", ["codalab", "lsc-matlab"])
def test_a_gap_in_the_labels_is_an_instance_that_was_not_found(name):
    gap = np.where(PREDICTION == 2, 4, PREDICTION)  # labels 1 and 4: two of four have no pixel
    found = variant_metrics(name, gap, GROUND_TRUTH)
    assert found["sbd"] == pytest.approx((2 / 3 + 0 + 0 + 1) / 4)
    assert found["dic"] == 4 - 3
    if name == "codalab":
        assert found["best_dice"] == pytest.approx((2 / 3 + 0 + 0 + 1) / 4)
    in_truth = np.where(GROUND_TRUTH == 3, 5, GROUND_TRUTH)
    found = variant_metrics(name, PREDICTION, in_truth)
    assert found["sbd"] == pytest.approx((2 / 3 + 1 + 0 + 0 + 0) / 5)
    assert found["dic"] == 2 - 5


@pytest.mark.parametrize("name", ["codalab", "lsc-matlab"])
def test_the_smallest_label_is_the_background_even_where_it_is_none(name):
    everywhere = np.full((3, 6), 7)
    found = variant_metrics(name, everywhere, GROUND_TRUTH)
    assert (found["sbd"], found["fbd"], found["dic"]) == (0, 0, -3)
    no_background = np.where(GROUND_TRUTH == 0, 1, 2 * (GROUND_TRUTH == 3) + 1)  # 1 and 3; 1 counts as background
    found = variant_metrics(name, no_background, GROUND_TRUTH)
    assert found["dic"] == 2 - 3
    assert found["fbd"] == pytest.approx(2 * 4 / (4 + 10))
    assert found["sbd"] == pytest.approx(1 / 3)  # of labels 2 and 3 the second is instance 3: 1/2; of instances 1/3


@pytest.mark.parametrize("name", VARIANTS)
def test_a_missing_prediction_is_an_empty_map(name):
    found = variant_metrics(name, None, GROUND_TRUTH)
    assert found == variant_metrics(name, np.zeros_like(GROUND_TRUTH), GROUND_TRUTH)
    assert (found["sbd"], found["fbd"], found["dic"], found["abs_dic"]) == (0, 0, -3, 3)


def test_a_map_of_another_shape_scores_nothing_on_codalab_and_differs_by_one_in_count():
    expected = {"best_dice": 0, "sbd": 0, "fbd": 0, "dic": -1, "abs_dic": 1}
    for prediction in (GROUND_TRUTH.T, GROUND_TRUTH[:2], np.zeros((1, 1), int)):
        assert variant_metrics("codalab", prediction, GROUND_TRUTH) == expected


def test_a_map_of_another_size_is_resized_by_the_matlab_scorer():
    for factors in ((2, 2), (3, 1), (1, 5)):
        grown = GROUND_TRUTH.repeat(factors[0], 0).repeat(factors[1], 1)
        assert variant_metrics("lsc-matlab", grown, GROUND_TRUTH) == {"sbd": 1, "fbd": 1, "dic": 0, "abs_dic": 0}
        assert variant_metrics("lsc-matlab", GROUND_TRUTH, grown)["sbd"] == 1
    # Of six columns, three take the second of each pair, whose centre is as near as that of the first.
    halved = np.array([[0, 0, 1, 0, 0, 2]])
    expected = variant_metrics("lsc-matlab", np.array([[0, 0, 2]]), np.array([[0, 1, 1]]))
    assert variant_metrics("lsc-matlab", halved, np.array([[0, 1, 1]])) == expected


def test_a_map_of_another_size_is_an_error_for_e2e():
    with pytest.raises(ValueError, match=r"shape of ground_truth, \[3, 6\], got \[6, 3\]"):
        variant_metrics("e2e", GROUND_TRUTH.T, GROUND_TRUTH)


def test_e2e_averages_over_the_first_predictions_only():
    prediction = np.zeros((3, 6), int)
    prediction[2, :4], prediction[1, :2], prediction[0, :4], prediction[:, 5] = 1, 2, 4, 3
    found = variant_metrics("e2e", prediction, GROUND_TRUTH)
    assert found["sbd"] == pytest.approx(2 / 3)  # the third prediction finds nothing, the fourth is not looked at
    usual = segmentation_metrics(prediction, GROUND_TRUTH)
    assert usual["sbd"] == pytest.approx(3 / 4)
    assert found["avg_fp"] == usual["avg_fp"] == 1
    assert found["avg_fn"] == usual["avg_fn"] == 0
    swapped = np.array([0, 1, 2, 4, 3])[prediction]
    assert variant_metrics("e2e", swapped, GROUND_TRUTH)["sbd"] == 1


def test_e2e_counts_a_prediction_that_lost_all_its_pixels_as_one_of_the_first():
    prediction = np.array([0, 1, 3, 4])[GROUND_TRUTH]  # the second has none left
    # Of predictions 1, 2 and 3 two are right; every instance is found by some prediction.
    assert variant_metrics("e2e", prediction, GROUND_TRUTH)["sbd"] == pytest.approx(2 / 3)
    assert variant_metrics("e2e", prediction, GROUND_TRUTH)["dic"] == 0


def test_e2e_divides_by_one_where_there_is_no_instance():
    nothing = np.zeros((3, 6), int)
    found = variant_metrics("e2e", PREDICTION, nothing)
    assert (found["sbd"], found["avg_fp"], found["dic"]) == (0, 2, 2)


@pytest.mark.parametrize("name", VARIANTS)
@settings(max_examples=50, deadline=None)
@given(maps=label_map_pairs(), seed=st.integers(0, 1000))
def test_variants_leave_ignored_pixels_out(name, maps, seed):
    prediction, ground_truth = (labels.astype(int) for labels in maps)
    rng = np.random.default_rng(seed)
    ignored = rng.random(ground_truth.shape) < rng.choice([0.2, 0.8, 1])
    other = np.where(ignored, rng.integers(0, 30, ignored.shape), prediction)
    void = np.where(ignored, -1, ground_truth)
    found = variant_metrics(name, prediction, void)
    assert found == variant_metrics(name, other, void)
    if not ignored.all():
        assert found == variant_metrics(name, prediction[~ignored][None], ground_truth[~ignored][None])


def test_what_is_no_variant_or_no_label_map_is_refused():
    with pytest.raises(ValueError, match=r"one of \['codalab', 'lsc-matlab', 'e2e'\], got 'coco'"):
        variant_metrics("coco", PREDICTION, GROUND_TRUTH)
    with pytest.raises(ValueError, match="prediction must hold labels >= 0"):
        variant_metrics("codalab", PREDICTION - 1, GROUND_TRUTH)
    with pytest.raises(ValueError, match="ground_truth must have an integer dtype"):
        variant_metrics("e2e", PREDICTION, GROUND_TRUTH / 2)
