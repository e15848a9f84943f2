"""The report of `acis reproduce` on one set of scenes: Markdown, plots and the runs, from the result files alone.

Tables and figures are numbered as in Araslanov et al., "Actor-Critic Instance Segmentation", CVPR 2019.
"""

from __future__ import annotations

import json
from pathlib import Path

from acis_env.files import replacing
from agents.experiments.claims import claims
from agents.experiments.figures import figure_3, figure_4, memory_of_update
from agents.experiments.learning import critic_measures, learning_curves
from agents.experiments.markdown import table
from agents.experiments.methods import LabelOrder
from agents.experiments.over_runs import over_runs
from agents.experiments.results import Results, flatten, without_seed
from agents.experiments.single_runs import write_runs
from agents.experiments.tables import beyond, paired_differences, table_1, table_2


def write_set_report(folder: Path, label_order: LabelOrder | None, options: str) -> Path:
    """Write `report.md`, its pictures and `runs.json` into `folder`, from the result files there.

    Args:
        folder: folder of the results of a set of scenes.
        label_order: what the labels of its instances say, if they are in an order.
        options: options of the `acis reproduce` that made them, beside set, methods, seeds and scale.
    """
    results = Results.load(folder)
    write_runs(folder / "runs.json", (result for seeds in results.cells.values() for result in seeds.values()))
    parts = [
        _head(results, options),
        table_1(results),
        paired_differences(results),
        over_runs(results),
        table_2(results),
        figure_3(results),
        figure_4(results, label_order),
        memory_of_update(results),
        learning_curves(results),
        critic_measures(results),
        "## Claims of the paper\n\n" + table(["claim", "here", "evidence"], claims(results, label_order)),
        beyond(results),
        _configurations(results),
    ]
    path = folder / "report.md"
    with replacing(path) as unfinished:
        unfinished.write_text("\n\n".join(part for part in parts if part) + "\n")
    return path


def _head(results: Results, options: str) -> str:
    all_results = [result for seeds in results.cells.values() for result in seeds.values()]
    first = all_results[0]
    env, evaluation = first["configuration"]["train"]["env"], first["configuration"]["evaluation"]
    by_seeds: dict[tuple[int, ...], list[str]] = {}
    for method, cells in results.cells.items():
        by_seeds.setdefault(tuple(cells), []).append(method)
    commands = "\n".join(
        f"    acis reproduce --sets {first['set'].removesuffix('-tune')} --methods {' '.join(methods)}\n"
        f"      --seeds {' '.join(map(str, seeds))} --scale {first['configuration']['scale']} {options}"
        for seeds, methods in by_seeds.items()
    )
    seeds = sorted(set().union(*by_seeds))
    options_of_scenes = json.dumps(env["val_kwargs"]["scene_options"])
    commits = sorted({result["commit"] for result in all_results})
    return f"""# {first["set"]}

{results.references["num_scenes"]} scenes of split `{evaluation["split"]}` of `{env["kwargs"]["scenes"]}`
(options `{options_of_scenes}`), seeds {", ".join(map(str, seeds))}, commit {", ".join(commits)},
torch {", ".join(sorted({result["torch"] for result in all_results}))}.

{commands}

Numbers are means over seeds ± half the width of their 95 % interval (Student's t); a number without ± is of one seed.
Differences are paired by seed: runs begin with the same weights, and those of one schedule see the same scenes.
There is one context network and one decoder of each kind, which the intervals do not vary. The context is predicted."""


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
