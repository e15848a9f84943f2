"""What `acis reproduce` compares: sets of scenes, methods, and how long each method trains. All of it is data.

The methods are those of Araslanov et al., "Actor-Critic Instance Segmentation", CVPR 2019, Tables 1 and 2, and
controls.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from acis_env.datasets.folder import IMAGE_SUFFIX, LABEL_SUFFIX
from acis_env.pretraining import PretrainConfig
from agents.algorithms.search import SearchConfig
from agents.models.critic import CriticConfig
from agents.training.config import SMALL_ACTOR, Objective, Phase, TrainConfig, judge_schedule, short_schedule

Variant = Literal["standard", "no-pyramid"]
"""Which decoder: the paper's, or that of its ablation NoSP."""

PAPER_REFERENCE = "BL-Trunc"
"""The method that the paper's claims compare with."""
CONTROL = "BL-Trunc-Dice"
"""A control without a critic: BL-Trunc that follows the score itself."""
REFINED_CONTROL = "Refined"
"""The strongest one: the same with refined masks."""


@dataclass(frozen=True)
class SceneSet:
    """Where scenes come from, and the networks around the actions."""

    name: str
    scenes: str
    """"leaves" or a folder, as in `TrainConfig`."""
    scene_options: Mapping[str, Any] = field(default_factory=dict)
    """Of the training scenes."""
    val_options: Mapping[str, Any] = field(default_factory=dict)
    """Of the validation scenes, and of those that are evaluated."""
    split: str = "val"
    """The one that is evaluated."""
    weights: Mapping[Variant, str] = field(default_factory=dict)
    """Names or folders of networks at hand; others are pre-trained."""
    is_stack: bool = False
    """Whether labels run from the lowest, most occluded instance to the topmost."""
    whole: SceneSet | None = None
    """The set that this one is a part of, whose networks it uses."""


@dataclass(frozen=True)
class Pretraining:
    """How the networks of a set are made; their architecture is that of the bundled ones."""

    context: PretrainConfig = PretrainConfig(iterations=1000)
    decoder: PretrainConfig = PretrainConfig(iterations=1800, half=True)  # as the bundled one, to compare with
    template: str = "leaves-64"
    """Weights whose architecture is taken."""


@dataclass(frozen=True)
class Method:
    """A row of the tables."""

    name: str
    about: str
    kind: str
    """Its length of training in a `Scale`."""
    schedule: Callable[[int], tuple[Phase, ...]]
    """The phases, given the iterations of the main one."""
    changes: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the `TrainConfig`."""
    weights: Variant = "standard"
    rival: str | None = None
    """Where it goes beyond the paper's tables, and runs only if it is named: the method that it has to beat."""


@dataclass(frozen=True)
class Scale:
    """How long to train."""

    name: str
    updates: Mapping[str, int]
    """Iterations of the main phase by kind of method, so many that all kinds take about the same CPU time."""
    evaluations: int = 8
    """On validation scenes while training."""


def _schedule(objective: Objective, **changes: Any) -> Callable[[int], tuple[Phase, ...]]:
    """The short schedule, its last phase with `changes`."""

    def make(iterations: int) -> tuple[Phase, ...]:
        *start, main = short_schedule(objective, iterations)
        return (*start, replace(main, **changes))

    return make


_ACTOR_CRITIC = {"termination_updates": 24}
"""At equal time an actor-critic makes a third of the updates, and its termination unit should not trail for that."""
_JUDGE = CriticConfig(remaining_steps=False)

_PAPER_METHODS = (
    Method("BL", "cross-entropy, gradient through the whole episode", "bl-bptt", _schedule("bl-bce"),
           {"bptt_steps": None}),
    Method("BL-Trunc", "cross-entropy, gradient cut at every step", "bl", _schedule("bl-bce")),
    Method("BL-Dice", "as BL with the soft Dice score", "bl-bptt", _schedule("bl-score"), {"bptt_steps": None}),
    Method("BL-Trunc-Dice", "as BL-Trunc with the soft Dice score", "bl", _schedule("bl-score")),
    Method("AC-Dice", "actor-critic, Dice reward", "ac", _schedule("ac"), _ACTOR_CRITIC),
    Method("AC-Dice-NoKL", "without the KL term, with the noise in collected episodes", "ac",
           _schedule("ac", kl_weight=0.0), _ACTOR_CRITIC),
    Method("AC-Dice-NoSP", "decoder without State Pyramid", "ac", _schedule("ac"), _ACTOR_CRITIC, "no-pyramid"),
    Method("AC-IoU", "actor-critic, IoU reward", "ac", _schedule("ac"), {"score": "iou", **_ACTOR_CRITIC}),
)  # fmt: skip


def _judge_schedule(iterations: int) -> tuple[Phase, ...]:
    """Nearly half of the time goes to the judge, whose iterations cost about as much as three of the policy's."""
    return judge_schedule(iterations, iterations // 4)


def _refined_judge_schedule(iterations: int) -> tuple[Phase, ...]:
    """The same where masks are refined, whose judge costs nearly three of the policy's iterations."""
    return judge_schedule(iterations, iterations // 5)


_OPTIONS = (
    Method("Refined", "BL-Trunc-Dice, masks pass through the autoencoder once more before they count",
           "refined", _schedule("bl-score"), {"refine": True}),
    Method("Judge-Refined", "likewise, then a critic that learns the rewards of candidates and chooses among them",
           "judge-refined", _refined_judge_schedule,
           {"refine": True, "critic": _JUDGE, "search": SearchConfig(judged=8)}, rival=REFINED_CONTROL),
    Method("Judge", "BL-Trunc-Dice, then a critic that learns the rewards of candidates and chooses among them",
           "judge", _judge_schedule, {"critic": _JUDGE}),
    Method("Judge-Return", "likewise, with the returns of candidates", "judge-return",
           _judge_schedule, {"critic": _JUDGE, "search": SearchConfig(value="return")}),
    Method("Search", "BL-Trunc-Dice, drawn to the best of 4 candidates by reward", "search", _schedule("search")),
    Method("Search-Return", "likewise by return", "search-return", _schedule("search"),
           {"search": SearchConfig(value="return")}),
    Method("Value-Expansion", "the score's gradient plus the critic's of what follows", "ac", _schedule("ac-score"),
           _ACTOR_CRITIC),
    Method("Window-3", "BL-Dice, gradient cut after every third step", "bl-bptt", _schedule("bl-score"),
           {"bptt_steps": 3}),
    Method("Window-3-Critic", "value expansion over three steps, closed by the critic", "ac", _schedule("ac-score"),
           {"bptt_steps": 3, **_ACTOR_CRITIC}),
    Method("Hard-Masks", "BL-Trunc-Dice, the actor reads rounded masks", "bl", _schedule("bl-score"),
           {"actor": replace(SMALL_ACTOR, hard_mask=True)}),
    Method("Matching-Noise", "BL-Trunc-Dice with noise of 0.1 on the matching, Eq. (2)", "bl", _schedule("bl-score"),
           {"matching_noise": 0.1}),
)  # fmt: skip
METHODS = {
    method.name: method for method in (*_PAPER_METHODS, *(replace(o, rival=o.rival or CONTROL) for o in _OPTIONS))
}
"""All methods by name, in the order of the tables."""

_SCALES = (
    Scale(
        "smoke",
        {
            "bl": 2,
            "bl-bptt": 2,
            "ac": 2,
            "search": 2,
            "search-return": 2,
            "judge": 4,
            "judge-return": 4,
            "refined": 2,
            "judge-refined": 5,
        },
        evaluations=1,
    ),
    Scale(
        "quick",
        {
            "bl": 300,
            "bl-bptt": 300,
            "ac": 120,
            "search": 150,
            "search-return": 45,
            "judge": 180,
            "judge-return": 100,
            "refined": 250,
            "judge-refined": 160,
        },
    ),
    Scale(
        "medium",
        {
            "bl": 900,
            "bl-bptt": 900,
            "ac": 400,
            "search": 450,
            "search-return": 135,
            "judge": 550,
            "judge-return": 300,
            "refined": 750,
            "judge-refined": 480,
        },
    ),
    Scale(
        "small",
        {
            "bl": 4320,
            "bl-bptt": 4140,
            "ac": 1990,
            "search": 2100,
            "search-return": 626,
            "judge": 2600,
            "judge-return": 1390,
            "refined": 3600,
            "judge-refined": 2310,
        },
        evaluations=20,
    ),
)
SCALES = {scale.name: scale for scale in _SCALES}
"""By name. CPU time of training per cell on one thread of an AMD EPYC (Zen 5): quick 80 seconds, medium 3 minutes,
small 11 to 19. Older cores took three times that at quick. smoke: to see that all runs."""

_CROWD = {"min_leaves": 7, "max_leaves": 12}
_NUCLEI = {"crop": "random", "crop_size": [64, 160], "min_instances": 2, "max_instances": 10, "min_area": 30}


def scene_sets(bbbc038: Path | None = None, scenes: Path | None = None) -> dict[str, SceneSet]:
    """All sets by name: the drawn ones, and those whose folders are given.

    Args:
        bbbc038: folder with train and val of the nuclei of BBBC038.
        scenes: any other folder with train and val; the set has its name.
    """
    bundled: dict[Variant, str] = {"standard": "leaves-64"}
    leaves = SceneSet("leaves", "leaves", split="test", weights=bundled, is_stack=True)
    crowded = replace(leaves, name="leaves-crowded", scene_options=_CROWD, val_options=_CROWD, whole=leaves)
    sets = [leaves, crowded]
    if bbbc038 is not None:
        train, val = ({**_NUCLEI, "crops_per_image": number} for number in (8, 4))
        sets.append(SceneSet("bbbc038", str(bbbc038), train, val))
    if scenes is not None:
        sets.append(SceneSet(scenes.resolve().name, str(scenes)))
    return {scene_set.name: scene_set for scene_set in sets}


def tuning_set(scene_set: SceneSet, out: Path) -> SceneSet:
    """A set to choose settings on, which leaves the evaluated split alone.

    Leaves are evaluated on the stream "val". Of a folder, a quarter of the training images, chosen by a checksum of
    their names, is evaluated and the rest trained on: a folder of links in `out` says which. The networks around the
    actions are those of the whole set, which have seen all training images.
    """
    name = f"{scene_set.name}-tune"
    if scene_set.scenes == "leaves":
        return replace(scene_set, name=name, split="val", whole=scene_set.whole or scene_set)
    source, folder = Path(scene_set.scenes) / "train", out / "scenes" / name
    if not source.is_dir():
        raise FileNotFoundError(f"{source}: no such folder; the training scenes are expected there")
    for image in sorted(source.glob(f"*{IMAGE_SUFFIX}")):
        scene_id = image.name.removesuffix(IMAGE_SUFFIX)
        part = folder / ("val" if zlib.crc32(scene_id.encode()) % 4 == 0 else "train")
        part.mkdir(parents=True, exist_ok=True)
        for file in (image, source / f"{scene_id}{LABEL_SUFFIX}"):
            if not os.path.lexists(part / file.name):
                (part / file.name).symlink_to(file.resolve())
    return replace(scene_set, name=name, scenes=str(folder), split="val", whole=scene_set)


def cell_config(
    scene_set: SceneSet, method: Method, scale: Scale, weights: str, seed: int, device: str = "cpu"
) -> TrainConfig:
    """The configuration of one run.

    Raises:
        ValueError: the scale does not say how long the method trains.
    """
    if method.kind not in scale.updates:
        raise ValueError(f"scale {scale.name!r} has no number of updates for methods of kind {method.kind!r}")
    phases = method.schedule(scale.updates[method.kind])
    total = sum(phase.iterations for phase in phases)
    fields: dict[str, Any] = {
        "scenes": scene_set.scenes,
        "scene_options": dict(scene_set.scene_options),
        "val_options": dict(scene_set.val_options),
        "weights": weights,
        "phases": phases,
        "seed": seed,
        "device": device,
        "actor": SMALL_ACTOR,
        "eval_every": max(total // scale.evaluations, 1),
    }
    return TrainConfig(**{**fields, **method.changes})
