"""The claims of the paper, each answered by an interval over seeds.

Araslanov et al., "Actor-Critic Instance Segmentation", CVPR 2019, section 6.
"""

from __future__ import annotations

from agents.experiments.methods import PAPER_REFERENCE, LabelOrder
from agents.experiments.results import Results, gain_slopes, mean_of, order_interval
from agents.experiments.statistics import Interval

ACTOR_CRITIC = "AC-Dice"
"""The paper's method, in its claims."""
FAR_LESS = 0.5
"""Share of BL's memory below which that of AC is called far less."""


def claims(results: Results, label_order: LabelOrder | None) -> list[list[str]]:
    """Every claim of the paper with its answer by the interval, and the interval: rows of three."""
    ac, reference = ACTOR_CRITIC, PAPER_REFERENCE
    fewer = results.paired(reference, ac, mean_of("abs_dic"))
    tests: list[tuple[str, Interval | None, str]] = [
        (f"{ac} beats {reference} in SBD", results.paired(ac, reference, mean_of("sbd")), "difference of SBD"),
        (f"{ac} beats {reference} in counting", fewer, "difference of \\|DiC\\|, sign turned"),
        ("its gain grows with the time step", gain_slopes(results, ac, reference), "slope of the gain per step"),
        ("the KL term is needed", results.paired(ac, "AC-Dice-NoKL", mean_of("sbd")),
         "SBD minus that of AC-Dice-NoKL"),
        ("the State Pyramid is needed", results.paired(ac, "AC-Dice-NoSP", mean_of("sbd")),
         "SBD minus that of AC-Dice-NoSP"),
        ("large instances come before small ones", order_interval(results, ac, "size", -1), "correlation, sign turned"),
    ]  # fmt: skip
    if label_order is not None:
        tests.append((label_order.claim, order_interval(results, ac, "label", -1),
                      f"correlation with the {label_order.quantity}, sign turned"))  # fmt: skip
    rows = [[claim, "not run" if found is None else found.is_positive,
             "" if found is None else f"{what}: {found}"] for claim, found, what in tests]  # fmt: skip
    memory = results.references["memory"]
    share = memory["bytes"][ac][-1] / memory["bytes"]["BL"][-1]
    answer = "holds" if share <= FAR_LESS else "does not hold"
    evidence = f"{share:.2f} of BL's at {memory['steps'][-1]} steps; far less: at most {FAR_LESS}"
    return [*rows, ["AC needs far less memory than BL", answer, evidence]]
