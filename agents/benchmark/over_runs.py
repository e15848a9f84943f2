"""What the runs of a benchmark say beyond means, on one set of scenes or over several: statistics of SBD."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from agents.benchmark.document import Block, Picture, Table, Text
from agents.benchmark.figures import draw_profiles
from agents.benchmark.results import SetResults
from agents.experiments.bootstrap import (
    CAUTION,
    interquartile_mean,
    performance_profile,
    probability_of_improvement,
)
from agents.experiments.over_runs import IQM, MEASURE, PROFILE
from agents.experiments.results import Result, mean_of, scene_by_scene

Found = Mapping[str, Sequence[Sequence[Result]]]
"""Results by agent, set and run: as many runs on every set."""


def over_runs(sets: Sequence[SetResults], name: str, pictures: Path, reference: str) -> list[Block]:
    """Table and profiles of the agents that ran on all of `sets`, of the seeds that they have on all, as blocks.

    All sets have the same weight. Empty without such an agent.

    Args:
        sets: results of one set of scenes each.
        name: of the sets, in the picture and its file.
        pictures: folder of the picture.
        reference: agent that the others are compared with.
    """
    found = {agent: runs for agent in sets[0].cells if (runs := _common(sets, agent))}
    if not found:
        return []
    profiles = {
        agent: performance_profile([list(map(scene_by_scene(MEASURE), own)) for own in runs])
        for agent, runs in found.items()
    }
    picture = Picture(draw_profiles(profiles, name, pictures), PROFILE)
    return [Text(CAUTION), _table(found, reference), picture]


def _common(sets: Sequence[SetResults], agent: str) -> list[list[Result]]:
    """Results of the agent on every set, with the seeds that it has on all; empty without any."""
    cells = [own.cells.get(agent, {}) for own in sets]
    if not all(cells):
        return []
    if not sets[0].first(agent)["is_seeded"]:
        return [[next(iter(own.values()))] for own in cells]
    seeds = sorted(set.intersection(*map(set, cells)))
    return [[own[seed] for seed in seeds] for own in cells] if seeds else []


def _table(found: Found, reference: str) -> Table:
    """Rows by interquartile mean, agents that know the truth last."""
    scores = {agent: np.array([list(map(mean_of(MEASURE), own)) for own in runs]) for agent, runs in found.items()}
    first = {agent: runs[0][0] for agent, runs in found.items()}
    # An agent without randomness scores the same with every seed; two equal runs leave nothing open.
    settled = {agent: own if first[agent]["is_seeded"] else np.repeat(own, 2, 1) for agent, own in scores.items()}
    means = {agent: interquartile_mean(own) for agent, own in scores.items()}
    rows = []
    for agent in sorted(scores, key=lambda name: (first[name]["kind"] == "bound", -means[name].mean)):
        row = [agent, str(scores[agent].shape[1]) if first[agent]["is_seeded"] else "–", str(means[agent])]
        if reference in scores:
            is_other = agent != reference
            row.append(str(probability_of_improvement(settled[agent], settled[reference])) if is_other else "")
        rows.append(row)
    return Table(["agent", "seeds", IQM, *([f"better than {reference}"] if reference in scores else [])], rows)
