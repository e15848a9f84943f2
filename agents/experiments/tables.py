"""The tables of a report: methods, their paired differences, and what the state is worth.

Tables and figures are numbered as in Araslanov et al., "Actor-Critic Instance Segmentation", CVPR 2019.
"""

from __future__ import annotations

from agents.evaluation.evaluation import RANDOM_CODES
from agents.experiments.markdown import number, table
from agents.experiments.methods import CONTROL, METHODS, PAPER_REFERENCE, REFINED_CONTROL
from agents.experiments.results import Results, gain_of, mean_of
from agents.experiments.statistics import mean_interval

MEASURES = {
    "sbd": "SBD",
    "abs_dic": "\\|DiC\\|",
    "sbd_gt_stop": "SBD, true count",
    "dice_star": "Dice\\*, true count",
}
"""Columns of Table 1 by name in the results: with own stopping, then with the true count."""


def table_1(results: Results) -> str:
    """Measures of every method beside the references, and what each method costs.

    What earlier versions wrote as "random" are random codes.
    """
    columns = ["", "seeds", *MEASURES.values(), "SBD / bound", "SBD above its start", "seeds above",
               "actor updates", "CPU min", "peak MiB", "ms per scene"]  # fmt: skip
    reference = PAPER_REFERENCE if PAPER_REFERENCE in results.cells else next(iter(results.cells))
    standard = results.references["rows"][next(iter(results.references["rows"]))]
    blank = [""] * (len(columns) - 2 - len(MEASURES))
    chance = {RANDOM_CODES if name == "random" else name: row for name, row in standard.items() if "random" in name}
    rows = [
        *([name, "", *(number(row["mean"][m]) for m in MEASURES), *blank] for name, row in chance.items()),
        *(["watershed, own stopping", "", *(number(row["mean"][m]) for m in MEASURES), *blank]
          for name, row in standard.items() if name == "watershed"),
        [f"initialised ({reference})", str(len(results.cells[reference])),
         *(str(results.interval(reference, mean_of(m, "initial"))) for m in MEASURES), *blank],
    ]  # fmt: skip
    for method, cells in results.cells.items():
        gains = results.values(method, gain_of("sbd")).values()
        rows.append([
            method,
            str(len(cells)),
            *(str(results.interval(method, mean_of(m))) for m in MEASURES),
            number(results.interval(method, mean_of("sbd")).mean / max(results.bound(method, "sbd"), 1e-6)),
            str(mean_interval(list(gains))),
            f"{sum(gain > 0 for gain in gains)} of {len(gains)}",
            number(results.interval(method, lambda r: r["actor_updates"]).mean, 0),
            number(results.interval(method, lambda r: r["cpu_seconds"] / 60).mean, 1),
            number(results.interval(method, lambda r: r["peak_memory"] / 2**20).mean, 0),
            number(results.interval(method, lambda r: r["inference_seconds"] * 1000).mean, 1),
        ])  # fmt: skip
    for variant, made in results.references["rows"].items():
        values = [number(made["reconstruction"]["mean"][m]) for m in MEASURES]
        rows.append([f"bound: reconstruction, {variant} decoder", "", *values, *blank])
    for method, cells in results.cells.items():
        for name in [row for row in results.first(method)["rows"] if row.startswith("best ")]:
            values = [str(results.interval(method, mean_of(m, name))) for m in MEASURES]
            counted = ", true count" if name.startswith("best of ") else ""
            rows.append([f"{method}, {name}{counted}", str(len(cells)), *values, *blank])
    about = [f"- {method}: {results.first(method)['about']}." for method in results.cells]
    return "\n\n".join([
        "## Table 1: methods",
        table(columns, rows),
        "CPU minutes are those of training, without evaluations; the peak is that of the whole process; milliseconds"
        " are the CPU time of segmenting a scene; the start is the initialised agent, before the main stage. Best of"
        " several: a search with the truth among the policy's mean and candidates around it, in every state by itself."
        " Best outcome: the episodes that the agent chooses from, each stopped after any of its masks.",
        "\n".join(about),
    ])  # fmt: skip


def paired_differences(results: Results) -> str:
    """Differences to the references, paired by seed; empty if there is nothing to compare."""
    parts = ["## Paired differences"]
    for reference in (PAPER_REFERENCE, CONTROL, REFINED_CONTROL):
        if reference in results.cells:
            rows = []
            for method in results.cells:
                found = [results.paired(method, reference, mean_of(m)) for m in MEASURES]
                if method != reference and None not in found:
                    rows.append([method, *map(str, found)])
            if rows:
                parts += [f"To {reference}:", table(["", *MEASURES.values()], rows)]
    return "\n\n".join(parts) if len(parts) > 1 else ""


def table_2(results: Results) -> str:
    """Measures without the memory or without the mask; empty if no method was evaluated so."""
    blocked = {"both": "LSTM + mask", "mask only": "mask only", "LSTM only": "LSTM only"}
    columns = ["", *(f"{title}: {m}" for title in blocked.values() for m in ("Dice\\*", "\\|DiC\\|"))]
    rows = [
        [method, *(str(results.interval(method, mean_of(m, row))) for row in blocked for m in ("dice_star", "abs_dic"))]
        for method, cells in results.cells.items()
        if all(result["rows"].keys() >= blocked.keys() for result in cells.values())
    ]
    if not rows:
        return ""
    steps = results.first()["configuration"]["evaluation"]["table_2_steps"]
    return f"""## Table 2: what the state is worth

The same agents with the LSTM's state, or the accumulated mask, set to zero at every step. Dice\\* with the true count,
\\|DiC\\| with own stopping, at most {steps} masks.

{table(columns, rows)}"""


def beyond(results: Results) -> str:
    """Whether each method beyond the paper beats its rival, which differs by one option; empty if none was run."""
    rows = []
    for method in results.cells:
        rival = METHODS[method].rival if method in METHODS else None
        found = rival and results.paired(method, rival, mean_of("sbd"))
        if rival and found:
            others = [str(results.paired(method, rival, mean_of(m))) for m in MEASURES if m != "sbd"]
            rows.append([f"{method} beats {rival} in SBD", found.is_positive, str(found), *others])
    header = ["claim", "here", *(f"difference of {title}" for title in MEASURES.values())]
    return f"## Beyond the paper\n\n{table(header, rows)}" if rows else ""
