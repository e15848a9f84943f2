"""The report of `acis benchmark`, computed from result files alone: Markdown with pictures, and one HTML file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from acis_env.files import replacing
from agents.benchmark.document import Block, Code, Heading, Items, Picture, Table, Text, to_html, to_markdown
from agents.benchmark.figures import draw_dice_per_step, draw_order
from agents.benchmark.over_runs import over_runs
from agents.benchmark.published import PUBLISHED
from agents.benchmark.results import SetResults
from agents.experiments.markdown import number
from agents.experiments.over_runs import ABOUT
from agents.experiments.results import mean_of

MEASURES = {
    "sbd": "SBD",
    "abs_dic": "|DiC|",
    "sbd_gt_stop": "SBD, true count",
    "dice_star": "Dice*",
    "fbd": "FBD",
    "mwcov": "MWCov",
    "mucov": "MUCov",
    "avg_fp": "AvgFP",
    "avg_fn": "AvgFN",
}
"""Columns of the table, by name in the results."""
COMPARED = ("sbd", "abs_dic", "sbd_gt_stop", "dice_star", "mwcov")
"""Measures of which paired differences are reported."""
ALL_SETS = "all-sets"
"""Name of all sets together, in the picture of their profiles."""
MEGABYTE = 2**20


def write_report(folders: Sequence[Path], path: Path, reference: str, command: str) -> None:
    """Write the report `path`, its pictures into the folder beside it that has its name, and the HTML file.

    Args:
        folders: of the results of one set of scenes each.
        path: Markdown file.
        reference: agent that the others are compared with.
        command: the command that made the results, with the names of folders left open.
    """
    sets = [SetResults.load(folder) for folder in folders]
    pictures = path.with_suffix("")
    blocks = [*_head(sets, command), *(block for own in sets for block in _set(own, pictures, reference))]
    if len(sets) > 1 and (together := over_runs(sets, ALL_SETS, pictures, reference)):
        blocks += [Heading("All sets together"), *together]
    blocks += [*_agents(sets), *_add_your_own()]
    with replacing(path) as unfinished:
        unfinished.write_text(to_markdown(blocks, path.parent))
    with replacing(path.with_suffix(".html")) as unfinished:
        unfinished.write_text(to_html(blocks))


def _head(sets: Sequence[SetResults], command: str) -> list[Block]:
    results = [result for own in sets for seeds in own.cells.values() for result in seeds.values()]
    budgets, commits, processors = (
        ", ".join(sorted({part for result in results for part in result[name].split(", ")}))
        for name in ("budget", "commit", "processor")
    )
    versions = sorted({f"{k} {v}" for r in results for k, v in {"torch": r["torch"], **r["versions"]}.items()})
    return [
        Heading("Leaderboard", 1),
        Text(
            "After this page you know how agents of any kind compare on the same scenes, with the same networks around"
            f" the actions, at about the CPU time of budget `{budgets}`. Made by `acis benchmark` from result files"
            " alone; the last section says how to add an agent of your own."
        ),
        Code(command, "bash"),
        Text(f"Commit {commits}; {', '.join(versions)}; {processors}; one thread per process."),
        Text(
            "Numbers are means over seeds ± half the width of their 95 % interval (Student's t); a number without ± is"
            " of one run. Networks around the actions are the same for all seeds, so intervals leave them out."
        ),
        Items([
            "SBD, |DiC|, FBD (Dice of the foregrounds), MWCov, MUCov, AvgFP and AvgFN (per image) are measured with the"
            " agent's own stopping where it has one, at the resolution of the scenes.",
            "Stopping: `own`: the agent says when to stop; `true count`: it is given the number of instances, so its"
            " SBD and |DiC| are no achievement in counting; `random`: a number drawn uniformly.",
            "SBD, true count and Dice* stop every agent at the true number of instances.",
            "Foreground: `none` means that no official foreground was used; every agent sees the one that the context"
            " network predicts.",
            "`random-actions` are uniform in the action space of the environment, `random-codes` come from the prior of"
            " the decoder: two rows, since they differ.",
            "CPU min is the time of training or tuning. Agents that were trained before have none: they come from a"
            " folder or with the package, and their cards say how long that took.",
            "`reconstruction` is the decoder's reconstruction of the true instances: a bound on what any agent can"
            " reach with that decoder.",
            ABOUT,
        ]),
    ]  # fmt: skip


def _set(results: SetResults, pictures: Path, reference: str) -> list[Block]:
    """The section of a set of scenes."""
    configuration = results.scenes["configuration"]
    options = {k: v for k, v in configuration["val_options"].items() if k != "root"}
    said = f", options `{options}`" if options else ""
    blocks: list[Block] = [
        Heading(results.name),
        Text(f"{results.scenes['num_scenes']} scenes of split `{configuration['split']}`{said}{_filling(results)}."),
        _table(results),
        *(_published(results)),
        *_differences(results, reference),
        Heading("Over runs", 3),
        *over_runs([results], results.name, pictures, reference),
        Heading("Dice per step", 3),
        Picture(draw_dice_per_step(results, pictures), "Dice of the mask of every step, true count"),
        Heading("Predictions by order", 3),
        Text("Blue is the first prediction of a scene, red the last; own stopping where there is one, first seed."),
        Picture(draw_order(results, pictures), "Predictions coloured by order"),
        Heading("Speed and memory", 3),
        Text(
            "CPU minutes are those of training or tuning; milliseconds are the CPU time of segmenting a scene once its"
            " context is known; parameters are those that were trained; the peak is that of the process while it"
            " trained."
        ),
        _costs(results),
    ]
    return blocks


def _filling(results: SetResults) -> str:
    """What is said of the rule by which label maps are filled, if they are."""
    fill = results.first()["rows"]["agent"].get("fill", 0)
    return f"; label maps filled up to {fill:g} px, in every row" if fill else ""


def _table(results: SetResults) -> Table:
    rows = []
    for name in results.by_score():
        first = results.first(name)
        measured = [str(results.interval(name, mean_of(measure))) for measure in MEASURES]
        seeds = str(len(results.cells[name])) if first["is_seeded"] else "–"
        rows.append([name, seeds, first["stopping"], first["foreground"], *measured, _minutes(results, name)])
    return Table(["agent", "seeds", "stopping", "foreground", *MEASURES.values(), "CPU min"], rows)


def _minutes(results: SetResults, name: str) -> str:
    """CPU minutes of training or tuning; none of an agent without seeds, which was trained before."""
    first = results.first(name)
    if first["kind"] == "agent" and not first["is_seeded"]:
        return "–"
    return number(results.interval(name, lambda r: r["cpu_seconds"] / 60).mean, 1)


def _published(results: SetResults) -> list[Block]:
    blocks: list[Block] = []
    for table in PUBLISHED.get(results.name, ()):
        blocks += [
            Text(f"Published, other scenes or protocol than above: {table.title}."),
            Table(table.header, table.rows),
        ]
    return blocks


def _differences(results: SetResults, reference: str) -> list[Block]:
    if reference not in results.cells:
        return []
    rows = []
    for name in results.by_score():
        if name == reference:
            continue
        found = [results.difference(name, reference, measure) for measure in COMPARED]
        if None not in found:
            rows.append([name, *map(str, found)])
    if not rows:
        return []
    return [
        Heading(f"Paired differences to {reference}", 3),
        Text(f"Agent minus {reference}, paired by seed; below zero in SBD, the agent is worse."),
        Table(["agent", *(MEASURES[measure] for measure in COMPARED)], rows),
    ]


def _costs(results: SetResults) -> Table:
    rows = []
    for name in results.by_score():
        first = results.first(name)
        peak = results.interval(name, lambda r: r["peak_memory"] / MEGABYTE).mean
        facts = "; ".join(f"{key.replace('_', ' ')} {_fact(value)}" for key, value in first["facts"].items())
        rows.append([
            name,
            _minutes(results, name),
            number(results.interval(name, lambda r: r["inference_seconds"] * 1000).mean, 1),
            f"{first['parameters']:,}" if first["parameters"] else "–",
            number(peak, 0) if peak else "–",
            facts,
        ])  # fmt: skip
    return Table(["agent", "CPU min", "ms per scene", "parameters", "peak MiB", "training"], rows)


def _fact(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {number_of}" for name, number_of in value.items())
    return number(value) if isinstance(value, float) else str(value)


def _agents(sets: Sequence[SetResults]) -> list[Block]:
    about = {name: own.first(name)["about"] for own in sets for name in own.cells}
    return [Heading("Agents"), Items([f"`{name}`: {line}." for name, line in about.items()])]


def _add_your_own() -> list[Block]:
    return [
        Heading("Add your own agent"),
        Text(
            "Without any code: train it with whatever library you like in the environment, save it with `save_sb3` or"
            " `save_program` of `agents.evaluation` (or train a run with `acis train`), and name its folder. `--trust`"
            " lets the files of other libraries be loaded, which can hold code."
        ),
        Code("acis benchmark --sets leaves --agents watershed Critic-Search mine=runs/my_policy --trust", "bash"),
        Text(
            "To have it trained within the benchmark, with seeds and at an equal budget, write a class with the members"
            " of `Contender` (`agents/benchmark/contender.py`) in a file of its own, and add one line to `AGENTS` in"
            " `agents/benchmark/registry.py`. `prepare` gets scenes, networks, seed and budget, trains on the splits"
            " train and val, and returns what makes a segmenter; `agents/benchmark/sb3.py` is an example, and"
            " `docs/benchmark.md` says more."
        ),
    ]
