"""The rule of composition that is chosen on some scenes: what it is measured by, and what it does not depend on."""

import pytest
import torch

from agents.evaluation.evaluation import evaluate
from agents.evaluation.rules import candidate_rules, choose_rule, format_rules, measure_rules
from agents.models.composition import Composition
from agents.models.prediction import Prediction

RULES = [Composition(), Composition(fill=3.0), Composition(overlaps="first-predicted")]


@pytest.fixture
def cores():
    """A segmenter that finds of each true instance only the pixels whose eight neighbours are its own, too."""

    def segment(state):
        labels = torch.arange(1, max(int(state.num_instances.max()), 1) + 1)[:, None, None]
        masks = (state.label_map[:, None] == labels).float()
        shrunk = -torch.nn.functional.max_pool2d(-masks, 3, stride=1, padding=1)
        return Prediction(shrunk, state.num_instances, torch.ones(len(masks), dtype=torch.bool))

    return segment


def test_rules_are_measured_as_evaluations_are(source, truth, cores):
    segmenters = {"two": truth(2), "cores": cores}
    measured = measure_rules(segmenters, source, RULES)
    for rule in RULES:
        for name, segmenter in segmenters.items():
            assert measured[rule][name] == pytest.approx(evaluate(name, segmenter, source, rule).mean["sbd"], abs=1e-12)


def test_masks_are_predicted_once_for_all_rules_and_of_scenes_all_over_the_set(source, truth):
    asked = []

    def segment(state):
        asked.extend(state.num_instances.tolist())
        return truth(2)(state)

    measure_rules({"two": segment}, source, RULES, num_scenes=3)
    expected = [int(source.begin([index])[0].num_instances[0]) for index in (0, 6, 11)]
    assert asked == expected


def test_the_best_rule_is_that_of_the_largest_mean_over_segmenters_and_the_first_of_equals():
    first, second, third = RULES
    assert choose_rule({first: {"a": 0.5, "b": 0.5}, second: {"a": 0.9, "b": 0.0}}) == first
    assert choose_rule({first: {"a": 0.5, "b": 0.5}, second: {"a": 0.9, "b": 0.3}}) == second
    assert choose_rule({first: {"a": 0.5}, second: {"a": 0.5}, third: {"a": 0.4}}) == first


def test_filling_is_chosen_where_masks_are_too_small_for_their_foreground(make_env, cores):
    source = make_env(num_envs=1).source  # whose context is the truth
    measured = measure_rules({"cores": cores}, source, candidate_rules())
    assert choose_rule(measured).fill > 0
    assert measured[Composition(fill=8.0)]["cores"] > measured[Composition()]["cores"] + 0.1


def test_every_rule_is_tried_once_and_ones_own_first():
    own = Composition(0.3, "first-predicted", 5.0)
    rules = candidate_rules(own)
    assert rules[0] == own
    assert len(set(rules)) == len(rules) == 13
    assert {rule.threshold for rule in rules} == {0.3}
    assert len(candidate_rules()) == 12


def test_the_table_has_a_row_per_rule_and_a_column_per_segmenter():
    lines = format_rules({rule: {"agent": 0.5, "watershed": 0.25} for rule in RULES}).splitlines()
    assert lines[0].split() == ["overlaps", "fill", "agent", "watershed"]
    assert [line.split() for line in lines[1:]] == [
        [rule.overlaps, f"{rule.fill:g}", "0.5000", "0.2500"] for rule in RULES
    ]
