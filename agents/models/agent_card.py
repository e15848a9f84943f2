"""What is known of an agent beside its weights, and the page that tells strangers: a model card."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from acis_env.configs import config_from_dict
from acis_env.json_files import read_json

FORMAT = "acis-card-1"
"""Marks a file as the card of a shared agent."""
CARD = "card.json"
"""Name of the card in the folder of a shared agent, and of another one in that of an agent of the package."""
COMMANDS = "commands.json"
"""File in the folder of a run that holds the commands that made it."""
MEASURES = ("sbd", "abs_dic", "sbd_gt_stop", "dice_star")
OWN_LICENCE = "apache-2.0"
"""Licence of the package and of the agents in it."""
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Scores:
    """Means over held-out scenes."""

    scenes: str  # what they show
    split: str  # part of them that was measured on
    num_scenes: int
    means: dict[str, float]  # by the names in MEASURES
    bound: float | None = None  # SBD of the truth after the autoencoder, which no agent passes by much


@dataclass(frozen=True)
class AgentCard:
    """Origin, scores, limits and licence of an agent; what is not known is empty."""

    commands: tuple[str, ...] = ()  # those that made it, as they were given
    seed: int | None = None
    scenes: str = UNKNOWN  # what it was trained on
    stages: tuple[str, ...] = ()  # name, algorithm and iterations of each
    scores: tuple[Scores, ...] = ()
    text: str = ""  # Markdown, written by hand
    limits: str = ""  # what it is not for, in the words of whoever shares it
    licence: str = UNKNOWN  # identifier of the Hugging Face Hub

    def __post_init__(self) -> None:
        if not self.licence.replace("-", "").replace(".", "").isalnum():
            raise ValueError(f"licence must be an identifier such as 'apache-2.0' or 'cc-by-4.0', got {self.licence!r}")


def read_card(folder: Path) -> AgentCard:
    """The card of an agent that came from `folder`: one that was shared, one of the package, or a run.

    Raises:
        ValueError: a file of it is damaged.
    """
    if (folder / CARD).is_file():
        content = read_json(folder / CARD)
        if content.get("format") == FORMAT:
            return config_from_dict(AgentCard, member(content, "card", folder / CARD), str(folder / CARD))
        return _bundled(folder, content)
    return _of_run(folder) if (folder / "config.json").is_file() else AgentCard()


def markdown(card: AgentCard, name: str, facts: Sequence[str]) -> str:
    """The page, with the header that the Hugging Face Hub reads.

    Args:
        card: what is known.
        name: of the repository, or of the folder.
        facts: limits that the agent itself knows of, one line each.
    """
    sections = [
        f"# {name}",
        card.text
        or "An agent that takes a picture apart into its instances, one mask per step, until it says that none is "
        f"left.\nTrained on: {card.scenes}.",
        f"## How to load it\n\n{_loading(name)}",
        "## How it was made\n\n" + "\n".join(_origin(card)),
        "## Scores\n\n" + _scores(card.scores),
        "## Limits\n\n" + "\n".join(f"- {line}" for line in [*facts, *filter(None, [card.limits])]),
        f"## Licence\n\n{card.licence if card.licence != UNKNOWN else 'Not stated: ask whoever shares it.'}",
    ]
    header = f"""---
license: {card.licence}
library_name: acis-env
pipeline_tag: image-segmentation
tags:
- acis-env
- instance-segmentation
- reinforcement-learning
---
"""
    return header + "\n" + "\n\n".join(sections) + "\n"


def _loading(name: str) -> str:
    return f"""```python
from agents import Agent

agent = Agent.from_pretrained("{name}")
result = agent.segment(image)  # RGB, uint8 [h, w, 3]; result.label_map is [h, w], 0 is background
```

`pip install 'acis-env[hub]'` brings what this needs.
`agent.safetensors` holds tensors and text: nothing in it is run."""


def _origin(card: AgentCard) -> Iterator[str]:
    """Lines of a list."""
    yield f"- Trained on: {card.scenes}"
    yield f"- Seed: {UNKNOWN if card.seed is None else card.seed}"
    if card.stages:
        yield f"- Stages: {', '.join(card.stages)}"
    if card.commands:
        yield "- Made by:\n\n```\n" + "\n".join(card.commands) + "\n```"
    elif not card.text:
        yield "- Command: unknown"


def _scores(rows: Sequence[Scores]) -> str:
    if not rows:
        return "Not measured."
    lines = [
        "| scenes | split | number | SBD | \\|DiC\\| | SBD, true count | Dice\\*, true count | SBD of the decoder |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        values = [f"{row.means[name]:.3f}" if name in row.means else "" for name in MEASURES]
        bound = "" if row.bound is None else f"{row.bound:.3f}"
        lines.append(f"| {' | '.join([row.scenes, row.split, str(row.num_scenes), *values, bound])} |")
    return (
        "\n".join(lines)
        + "\n\nMeans over scenes that it was not trained on. SBD and Dice\\*: 1 is perfect; \\|DiC\\|: "
        "error of the count. The SBD of the decoder is that of the truth, encoded and decoded."
    )


def _bundled(folder: Path, content: Mapping[str, Any]) -> AgentCard:
    """The card of an agent of the package: figures in JSON, and a page."""
    path = folder / CARD
    names = {"split": str, "num_scenes": int, "scores": Mapping, "seed": int, "stages": Mapping}
    for name, kind in names.items():
        if not isinstance(content.get(name), kind):
            raise ValueError(f"{path}: {name} must be {kind.__name__}, got {content.get(name)!r}")
    page = folder / "CARD.md"
    text = page.read_text(encoding="utf-8").partition("\n")[2].strip() if page.is_file() else ""
    scenes = folder.name.split("-")[0]
    scores = Scores(scenes, content["split"], content["num_scenes"], dict(content["scores"]))
    stages = tuple(
        f"{name} ({kind}, {iterations} iterations)" for name, (kind, iterations) in content["stages"].items()
    )
    return AgentCard((), content["seed"], scenes, stages, (scores,), text, licence=OWN_LICENCE)


def _of_run(folder: Path) -> AgentCard:
    """The card of a run: its configuration, its commands and its evaluations, or else its last validation scores."""
    path = folder / "config.json"
    config = read_json(path)
    env = member(config, "env", path)
    scenes = _scenes(member(env, "kwargs", path).get("scenes") or env.get("id"))
    stages = tuple(
        f"{stage['name']} ({stage['algorithm']['kind']}, {stage['iterations']} iterations)"
        for stage in config["stages"]
    )
    commands = tuple(read_json(folder / COMMANDS)["commands"]) if (folder / COMMANDS).is_file() else ()
    reports = sorted(folder.glob("evaluation*/evaluation.json")) + sorted(folder.glob("evaluation.json"))
    scores = [_reported(report, scenes) for report in reports] or list(_validation(folder, config, scenes))
    return AgentCard(commands, config["seed"], scenes, stages, tuple(scores))


def _reported(path: Path, scenes: str) -> Scores:
    """What a report says of the agent; `scenes` are those of the run, if it does not name others."""
    report = read_json(path)
    about, rows = member(report, "about", path), member(report, "rows", path)
    means = member(member(rows, "agent", path), "mean", path)
    bound = rows.get("reconstruction", {}).get("mean", {}).get("sbd")
    shown = _scenes(about["scenes"]) if "scenes" in about else scenes
    return Scores(shown, about.get("split", "held-out"), report["num_scenes"], _measures(means), bound)


def _validation(folder: Path, config: Mapping[str, Any], scenes: str) -> Iterator[Scores]:
    path = folder / "history.json"
    history = read_json(path)["history"] if path.is_file() else []
    if history:
        yield Scores(scenes, "val, while training", config["eval_scenes"], _measures(history[-1]))


def _measures(means: Mapping[str, float]) -> dict[str, float]:
    return {name: float(means[name]) for name in MEASURES if name in means}


def _scenes(named: Any) -> str:
    """A name of scenes that says nothing of where they are on this machine."""
    name = str(named).removeprefix("dataset:")
    return PurePath(name).name if PurePath(name).is_absolute() else name


def member(content: Mapping[str, Any], name: str, path: Path | str) -> Mapping[str, Any]:
    """The object that `content`, of the file `path`, holds under `name`."""
    found = content.get(name)
    if not isinstance(found, Mapping):
        raise ValueError(f"{path}: {name} must be an object, got {type(found).__name__}")
    return found
