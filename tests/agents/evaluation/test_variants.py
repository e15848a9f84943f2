"""Columns of published variants are those of the label map that would be submitted."""

import numpy as np
import pytest

from acis_env.metric_variants import VARIANTS, variant_metrics
from agents.evaluation.variants import variant_columns, variant_names

TRUTH = np.array([[1, 1, 2, 2, 3, 3]])
SECOND_IS_HIDDEN = np.array([[1, 1, 3, 3, 4, 4]])


def test_columns_are_named_after_their_variants_in_the_order_asked_for():
    columns = variant_columns(["e2e", "codalab"], TRUTH, TRUTH)
    assert [name.split(".")[0] for name in columns] == ["e2e"] * 8 + ["codalab"] * 5
    assert variant_names({"sbd": 1.0, **columns, "dice_star": 1.0}) == list(columns)
    assert variant_columns([], TRUTH, TRUTH) == {}


def test_every_variant_can_be_a_column():
    for variant in VARIANTS:
        columns = variant_columns([variant], TRUTH, TRUTH)
        assert columns[f"{variant}.fbd"] == 1


def test_a_hidden_prediction_is_no_gap_of_a_submission_and_a_lost_step_of_e2e():
    assert (
        variant_metrics("codalab", SECOND_IS_HIDDEN, TRUTH)["dic"] == 3 - 2
    )  # the smallest label counts as background
    with_background = (np.pad(labels, ((0, 1), (0, 0))) for labels in (SECOND_IS_HIDDEN, TRUTH))
    columns = variant_columns(["codalab", "e2e"], *with_background)
    assert columns["codalab.best_dice"] == columns["codalab.sbd"] == 1
    assert columns["codalab.dic"] == columns["e2e.dic"] == 0
    assert columns["e2e.sbd"] == pytest.approx(2 / 3)
