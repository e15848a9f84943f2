"""The report of `acis reproduce` on one set of scenes: Markdown and plots, computed from the result files alone.

Tables and figures are numbered as in Araslanov et al., "Actor-Critic Instance Segmentation", CVPR 2019.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from acis_env.files import replacing
from acis_env.rendering import colour_by_order, colour_instances, contact_sheet, plot_curves, write_png
from agents.experiments.methods import CONTROL, METHODS, PAPER_REFERENCE, REFINED_CONTROL
from agents.experiments.results import (
    Result,
    Results,
    flatten,
    gain_of,
    gain_slopes,
    mean_of,
    order_interval,
    without_seed,
)
from agents.experiments.statistics import Interval, mean_interval

Curve = tuple[NDArray[np.float64], list[Interval]]
"""`x` `[n]`, and `n` intervals over seeds."""

MEASURES = {
    "sbd": "SBD",
    "abs_dic": "\\|DiC\\|",
    "sbd_gt_stop": "SBD, true count",
    "dice_star": "Dice\\*, true count",
}
"""Columns of Table 1 by name in the results: with own stopping, then with the true count."""
FAR_LESS = 0.5
"""Share of BL's memory below which that of AC is called far less."""
ACTOR_CRITIC = "AC-Dice"
"""The paper's method, in its claims."""
NUM_COLOURS = 10
"""Curves of a plot before colours repeat."""
SHARES = (0.25, 0.5, 0.75, 1.0)
"""Of the training, at which its progress is tabulated."""


def write_set_report(folder: Path, is_stack: bool, options: str) -> Path:
    """Write `report.md` and its pictures into `folder`, from the result files there.

    Args:
        folder: of a set of scenes.
        is_stack: whether the labels of its instances say how high they lie.
        options: of the `acis reproduce` that made it, beside set, methods, seeds and scale.
    """
    results = Results.load(folder)
    parts = [
        _head(results, options),
        _table_1(results),
        _differences(results),
        _table_2(results),
        _figure_3(results),
        _figure_4(results, is_stack),
        _memory(results),
        _learning(results),
        _critics(results),
        "## Claims of the paper\n\n" + _table(["claim", "here", "evidence"], claims(results, is_stack)),
        _beyond(results),
        _configurations(results),
    ]
    path = folder / "report.md"
    with replacing(path) as unfinished:
        unfinished.write_text("\n\n".join(part for part in parts if part) + "\n")
    return path


def _head(results: Results, options: str) -> str:
    all_results = [result for seeds in results.cells.values() for result in seeds.values()]
    first = all_results[0]
    train, evaluation = first["configuration"]["train"], first["configuration"]["evaluation"]
    by_seeds: dict[tuple[int, ...], list[str]] = {}
    for method, cells in results.cells.items():
        by_seeds.setdefault(tuple(cells), []).append(method)
    commands = "\n".join(
        f"    acis reproduce --sets {first['set'].removesuffix('-tune')} --methods {' '.join(methods)}\n"
        f"      --seeds {' '.join(map(str, seeds))} --scale {first['configuration']['scale']} {options}"
        for seeds, methods in by_seeds.items()
    )
    seeds = sorted(set().union(*by_seeds))
    commits = sorted({result["commit"] for result in all_results})
    return f"""# {first["set"]}

{results.references["num_scenes"]} scenes of split `{evaluation["split"]}` of `{train["scenes"]}`
(options `{json.dumps(train["val_options"])}`), seeds {", ".join(map(str, seeds))}, commit {", ".join(commits)},
torch {", ".join(sorted({result["torch"] for result in all_results}))}.

{commands}

Numbers are means over seeds ± half the width of their 95 % interval (Student's t); a number without ± is of one seed.
Differences are paired by seed: runs begin with the same weights, and those of one schedule see the same scenes.
There is one context network and one decoder of each kind, which the intervals do not vary. The context is predicted."""


def _table_1(results: Results) -> str:
    columns = ["", "seeds", *MEASURES.values(), "SBD / bound", "SBD above its start", "seeds above",
               "actor updates", "CPU min", "peak MiB", "ms per scene"]  # fmt: skip
    reference = PAPER_REFERENCE if PAPER_REFERENCE in results.cells else next(iter(results.cells))
    standard = next(iter(results.references["rows"]))
    blank = [""] * (len(columns) - 2 - len(MEASURES))
    rows = [
        ["random", "", *(_number(results.references["rows"][standard]["random"]["mean"][m]) for m in MEASURES), *blank],
        [f"initialised ({reference})", str(len(results.cells[reference])),
         *(str(results.interval(reference, mean_of(m, "initial"))) for m in MEASURES), *blank],
    ]  # fmt: skip
    for method, cells in results.cells.items():
        gains = results.values(method, gain_of("sbd")).values()
        rows.append([
            method,
            str(len(cells)),
            *(str(results.interval(method, mean_of(m))) for m in MEASURES),
            _number(results.interval(method, mean_of("sbd")).mean / max(results.bound(method, "sbd"), 1e-6)),
            str(mean_interval(list(gains))),
            f"{sum(gain > 0 for gain in gains)} of {len(gains)}",
            _number(results.interval(method, lambda r: r["actor_updates"]).mean, 0),
            _number(results.interval(method, lambda r: r["cpu_seconds"] / 60).mean, 1),
            _number(results.interval(method, lambda r: r["peak_memory"] / 2**20).mean, 0),
            _number(results.interval(method, lambda r: r["inference_seconds"] * 1000).mean, 1),
        ])  # fmt: skip
    for variant, made in results.references["rows"].items():
        values = [_number(made["reconstruction"]["mean"][m]) for m in MEASURES]
        rows.append([f"bound: reconstruction, {variant} decoder", "", *values, *blank])
    for method, cells in results.cells.items():
        for name in [row for row in results.first(method)["rows"] if row.startswith("best of ")]:
            values = [str(results.interval(method, mean_of(m, name))) for m in MEASURES]
            rows.append([f"{method}, {name}, true count", str(len(cells)), *values, *blank])
    about = [f"- {method}: {results.first(method)['about']}." for method in results.cells]
    return "\n\n".join([
        "## Table 1: methods",
        _table(columns, rows),
        "CPU minutes are those of training, without evaluations; the peak is that of the whole process; milliseconds"
        " are the CPU time of segmenting a scene; the start is the agent before the last phase. Best of several: a"
        " search with the truth among the policy's mean and candidates around it, in every state by itself.",
        "\n".join(about),
    ])  # fmt: skip


def _differences(results: Results) -> str:
    parts = ["## Paired differences"]
    for reference in (PAPER_REFERENCE, CONTROL, REFINED_CONTROL):
        if reference in results.cells:
            rows = []
            for method in results.cells:
                found = [results.paired(method, reference, mean_of(m)) for m in MEASURES]
                if method != reference and None not in found:
                    rows.append([method, *map(str, found)])
            if rows:
                parts += [f"To {reference}:", _table(["", *MEASURES.values()], rows)]
    return "\n\n".join(parts) if len(parts) > 1 else ""


def _table_2(results: Results) -> str:
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

{_table(columns, rows)}"""


def plotted(results: Results) -> dict[str, list[str]]:
    """Methods that share a plot, by what is added to its name: the paper's; those beyond it, with their rivals."""
    beyond = [method for method in results.cells if method in METHODS and METHODS[method].rival]
    rivals = {METHODS[method].rival for method in beyond}
    paper = [method for method in results.cells if method not in beyond]
    groups = {"": paper, "_beyond": [method for method in results.cells if method in rivals or method in beyond]}
    return {suffix: group for suffix, group in groups.items() if group and not (suffix == "" and rivals >= set(group))}


def _figure_3(results: Results) -> str:
    curves = {method: _over_steps(results, method) for method in results.cells}
    gaps = {method: gap for method in results.cells if (gap := _gap_per_step(results, method)) is not None}
    longest = len(next(iter(curves.values()))[0])
    counts = results.first()["rows"]["agent"]["scenes_at_step"]
    header = ["", *(f"t = {t + 1}" for t in range(longest))]
    rows = [["scenes", *map(str, counts)], *([name, *map(str, curve[1])] for name, curve in curves.items())]
    difference = f"Difference to {PAPER_REFERENCE}"
    parts = [
        "## Figure 3: Dice per time step",
        *_plots(results, "dice_per_step", curves, "step", "Dice of the mask", "Dice per time step"),
        _table(header, rows),
    ]
    if gaps:
        parts += [
            *_plots(results, "dice_difference", gaps, "step", f"Dice minus that of {PAPER_REFERENCE}", difference),
            _table(header, [[name, *map(str, gap[1])] for name, gap in gaps.items()]),
        ]
    return "\n\n".join(parts)


def _dice_at(t: int) -> Callable[[Result], float]:
    return lambda result: float(result["rows"]["agent"]["dice_at_step"][t])


def _over_steps(results: Results, method: str) -> Curve:
    longest = len(results.first(method)["rows"]["agent"]["dice_at_step"])
    return np.arange(1.0, longest + 1), [results.interval(method, _dice_at(t)) for t in range(longest)]


def _gap_per_step(results: Results, method: str) -> Curve | None:
    """Paired difference to the paper's reference at every step."""
    steps, _ = _over_steps(results, method)
    gaps = [results.paired(method, PAPER_REFERENCE, _dice_at(t)) for t in range(len(steps))]
    return None if method == PAPER_REFERENCE or None in gaps else (steps, cast(list[Interval], gaps))


def _figure_4(results: Results, is_stack: bool) -> str:
    titles = {"size": "size"} | ({"label": "height in the stack"} if is_stack else {})
    rows = [[method, *(str(order_interval(results, method, n) or "") for n in titles)] for method in results.cells]
    text = "Below zero: large instances first."
    if is_stack:
        text += "\nThe height is that of the leaf in the plant; below zero: the topmost, least occluded come first."
    with np.load(results.folder / "scenes.npz") as scenes:
        indices = sorted(int(name.removeprefix("image-")) for name in scenes if name.startswith("image-"))
        given = [[scenes[f"image-{i}"].transpose(1, 2, 0), colour_instances(scenes[f"truth-{i}"])] for i in indices]
    pictures = []
    for suffix, methods in plotted(results).items():
        sheet = [list(row) for row in given]
        for method in methods:
            path = results.folder / method / f"seed-{min(results.cells[method])}" / "label_maps.npz"
            with np.load(path) as label_maps:
                for row, index in zip(sheet, indices, strict=True):
                    row.append(colour_by_order(label_maps[f"label-{index}"]))
        name = f"order{suffix}.png"
        write_png(results.folder / name, contact_sheet(sheet, ["image", "ground truth", *methods], min_panel=128))
        pictures.append(f"![Predictions coloured by order]({name})")
    images = "\n\n".join(pictures)
    return f"""## Figure 4: order of prediction

Blue is the first prediction of a scene, red the last; own stopping, each method's first seed.

{images}

Spearman's rank correlation of the order with properties of the instances found (Dice at least 0.5), mean over scenes
with three of them. {text}

{_table(["", *titles.values()], rows)}"""


def _memory(results: Results) -> str:
    memory = results.references["memory"]
    steps = np.array(memory["steps"])
    curves = {name: (steps, np.array(values) / 2**20) for name, values in memory["bytes"].items()}
    plot_curves(results.folder / "memory.png", curves, "steps of the episode", "MiB", "Memory of one update")
    header = ["MiB", *(f"T = {step}" for step in steps)]
    rows = [[name, *(_number(value, 0) for value in values)] for name, (_, values) in curves.items()]
    return f"""## Memory

Largest sum of what autograd keeps for the backward pass of one update on {memory["batch_size"]} scenes
of T steps, weights left out; of AC-Dice, that of the hungriest of its parts.

![Memory of one update](memory.png)

{_table(header, rows)}"""


def _watched(name: str, index: int) -> Callable[[Result], float]:
    """Reads what an evaluation while training noted."""
    return lambda result: float(result["history"][index][name])


def _learning(results: Results) -> str:
    standard = next(iter(results.references["rows"].values()))["reconstruction"]["mean"]
    parts = [
        "## Learning curves",
        "On the validation scenes that are watched while training; dashed is the bound of the standard decoder, on the"
        " scenes that are evaluated.",
    ]
    for measure, title in (("dice_star", "Dice*, true count"), ("sbd", "SBD, own stopping")):
        curves = {}
        for method in results.cells:
            points = range(len(results.first(method)["history"]))
            minutes = np.array([results.interval(method, _watched("cpu_seconds", i)).mean / 60 for i in points])
            curves[method] = minutes, [results.interval(method, _watched(measure, i)) for i in points]
        parts += _plots(results, f"learning_{measure}", curves, "CPU minutes", title, title, standard[measure])
        rows = []
        for method, (minutes, values) in curves.items():
            done = np.array([scores["iteration"] for scores in results.first(method)["history"]])
            places = [np.abs(done - share * done[-1]).argmin() for share in SHARES]
            missing = _number(results.bound(method, measure) - values[-1].mean)
            rows.append([method, _number(minutes[-1], 1), *(str(values[i]) for i in places), missing])
        header = ["", "CPU min", *(f"{share:.0%}" for share in SHARES), "to the bound"]
        parts += [
            f"{title.replace('*', chr(92) + '*')}, by the share of the training that is over:",
            _table(header, rows),
        ]
    return "\n\n".join(parts)


CRITIC_CURVES = {
    "critic/explained_variance": "Explained variance in training",
    "critic/gradient_cosine": "Cosine of the critic's and the score's action gradients",
    "critic/explained_spread": "Explained spread of the candidates of a state",
    "critic/rank_correlation": "Rank correlation of values of the candidates of a state",
}
"""Curves of the critic that are shown, by tag."""


def _critics(results: Results) -> str:
    parts = []
    for tag, title in CRITIC_CURVES.items():
        curves = {}
        for method, cells in results.cells.items():
            runs = [result["curves"][tag] for result in cells.values() if tag in result["curves"]]
            if runs:
                means = [mean_interval(values) for values in zip(*(run["value"] for run in runs), strict=True)]
                curves[method] = (np.array(runs[0]["iteration"]), means)
        if curves:
            name = f"{tag.replace('/', '_')}.png"
            plot_intervals(results.folder / name, curves, "iteration", title, f"{title}, 95 % intervals")
            ends = [f"{m}: {values[0]} at first, {values[-1]} in the end" for m, (_, values) in curves.items()]
            parts += [f"![{title}]({name})", f"{title}. {'; '.join(ends)}."]
    rows, counts = [], []
    for method, cells in results.cells.items():
        critics = [result["critic"] for result in cells.values() if "critic" in result]
        if critics:
            values = zip(*(critic["explained_variance"] for critic in critics), strict=True)
            rows.append([method, *(str(mean_interval(value)) for value in values)])
            counts = critics[0]["count"]
    if rows:
        parts += [
            "Explained variance of the Monte-Carlo returns of held-out episodes, played with the noise of training, by"
            " time step:",
            _table(["", *(f"t = {t + 1}" for t in range(len(counts)))], [["episodes", *map(str, counts)], *rows]),
        ]
    rows = []
    for method, cells in results.cells.items():
        found = [result["rank_correlation"] for result in cells.values() if "rank_correlation" in result]
        if found:
            rows.append([method, *(str(mean_interval([f[name] for f in found])) for name in ("reward", "return"))])
    if rows:
        parts += [
            "Rank correlation (Spearman) of the critic's values with the true ones, among the candidates of a held-out"
            " state:",
            _table(["", "with the reward", "with the return"], rows),
        ]
    return "\n\n".join(["## Critic", *parts]) if parts else ""


def claims(results: Results, is_stack: bool) -> list[list[str]]:
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
    if is_stack:
        tests.append(("unoccluded instances come before occluded ones", order_interval(results, ac, "label", -1),
                      "correlation with the height, sign turned"))  # fmt: skip
    rows = [[claim, "not run" if found is None else found.is_positive,
             "" if found is None else f"{what}: {found}"] for claim, found, what in tests]  # fmt: skip
    memory = results.references["memory"]
    share = memory["bytes"][ac][-1] / memory["bytes"]["BL"][-1]
    answer = "holds" if share <= FAR_LESS else "does not hold"
    evidence = f"{share:.2f} of BL's at {memory['steps'][-1]} steps; far less: at most {FAR_LESS}"
    return [*rows, ["AC needs far less memory than BL", answer, evidence]]


def _beyond(results: Results) -> str:
    """Whether each option beats its rival, which is as it is but for the option."""
    rows = []
    for method in results.cells:
        rival = METHODS[method].rival if method in METHODS else None
        found = rival and results.paired(method, rival, mean_of("sbd"))
        if rival and found:
            others = [str(results.paired(method, rival, mean_of(m))) for m in MEASURES if m != "sbd"]
            rows.append([f"{method} beats {rival} in SBD", found.is_positive, str(found), *others])
    header = ["claim", "here", *(f"difference of {title}" for title in MEASURES.values())]
    return f"## Beyond the paper\n\n{_table(header, rows)}" if rows else ""


def _configurations(results: Results) -> str:
    base_name, base_cells = next(iter(results.cells.items()))
    base = results.first(base_name)
    parts = [
        "## Configuration",
        f"Of {base_name}, seed {min(base_cells)}:",
        f"```json\n{json.dumps(base['configuration'], indent=1)}\n```",
    ]
    flat = flatten(without_seed(base))
    for method in results.cells:
        other = flatten(without_seed(results.first(method)))
        changed = [f"`{k}` = {json.dumps(other.get(k))}" for k in sorted(flat | other) if flat.get(k) != other.get(k)]
        if changed:
            parts.append(f"{method} differs in {', '.join(changed)}.")
    return "\n\n".join(parts)


def _plots(
    results: Results,
    name: str,
    curves: Mapping[str, Curve],
    xlabel: str,
    ylabel: str,
    title: str,
    level: float | None = None,
) -> list[str]:
    """Draw `curves`, by method, into `<name>.png`, those beyond the paper into another file; the links to them."""
    links = []
    for suffix, methods in plotted(results).items():
        shown = {method: curves[method] for method in methods if method in curves}
        if shown:
            path = results.folder / f"{name}{suffix}.png"
            plot_intervals(path, shown, xlabel, ylabel, f"{title}, 95 % intervals", level)
            links.append(f"![{title}]({path.name})")
    return links


def plot_intervals(
    path: Path, curves: Mapping[str, Curve], xlabel: str, ylabel: str, title: str, level: float | None = None
) -> None:
    """Draw curves with their intervals as bands into one PNG, and a dashed line at `level`."""
    from matplotlib.figure import Figure  # takes a second

    figure = Figure(figsize=(7.6, 4.0), dpi=150, layout="constrained")
    axes = figure.subplots()
    for index, (name, (x, intervals)) in enumerate(curves.items()):
        style = "-" if index < NUM_COLOURS else ":"
        means = [i.mean for i in intervals]
        line = axes.plot(x, means, style, label=name, linewidth=1.6, marker="o", markersize=3)[0]
        if all(np.isfinite(i.high) for i in intervals):
            low, high = [i.low for i in intervals], [i.high for i in intervals]
            axes.fill_between(x, low, high, color=line.get_color(), alpha=0.15, linewidth=0)
    if level is not None:
        axes.axhline(level, color="0.4", linestyle="--", linewidth=1.0)
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.set_title(title, loc="left", fontsize="large")
    axes.grid(color="0.9")
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside right center", frameon=False, fontsize="small")
    with replacing(path) as unfinished:
        figure.savefig(unfinished, format="png")


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _number(value: float, digits: int = 3) -> str:
    return f"{value:.{digits}f}"
