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

from acis_env.datasets.bbbc038 import CROPS, CROPS_PER_IMAGE, LARGE_CROPS, SPLITS
from acis_env.datasets.folder_files import find_pairs
from acis_env.datasets.registry import PREFIX
from acis_env.pretraining import PretrainConfig
from agents.algorithms import (
    ActorCriticConfig,
    AlgorithmConfig,
    BaselineConfig,
    CandidateActorCriticConfig,
    LearnerConfig,
    SearchDistillationConfig,
    ValueExpansionConfig,
)
from agents.algorithms.search import CandidateConfig
from agents.environment import TRAINING, EnvConfig
from agents.training.config import Stage, TrainConfig
from agents.training.presets import COMPACT_ACTOR, CROSS_ENTROPY, search_schedule, short_schedule

Variant = Literal["standard", "no-pyramid"]
"""Which decoder: the paper's, or that of its ablation NoSP."""

PAPER_REFERENCE = "BL-Trunc"
"""The method that the paper's claims compare with."""
CONTROL = "BL-Trunc-Dice"
"""A control without a critic: BL-Trunc that follows the score itself."""
REFINED_CONTROL = "BL-Trunc-Dice-Refined"
"""The strongest control: BL-Trunc-Dice with refined masks."""


@dataclass(frozen=True)
class LabelOrder:
    """What grows with the labels of a set's instances, to compare with the order of prediction (Fig. 4)."""

    quantity: str
    title: str
    """Heading of the column of rank correlations."""
    note: str
    """Sentence that says how to read them."""
    claim: str
    """What the paper says of the order."""


HEIGHT = LabelOrder(
    "height",
    "height in the stack",
    "The height is that of the leaf in the plant; below zero: the topmost, least occluded come first.",
    "unoccluded instances come before occluded ones",
)
NEARNESS = LabelOrder(
    "nearness",
    "nearness",
    "The nearness is that of the car to the camera; below zero: near cars come before far ones.",
    "near cars come before far ones",
)


@dataclass(frozen=True)
class SceneSet:
    """Where scenes come from, and the networks around the actions."""

    name: str
    scenes: str
    """"dataset:leaves", "dataset:cars" or a folder, as environments take them."""
    scene_options: Mapping[str, Any] = field(default_factory=dict)
    """Further arguments of the training scenes."""
    val_options: Mapping[str, Any] = field(default_factory=dict)
    """Further arguments of the validation scenes, and of those that are evaluated."""
    split: str = "val"
    """The one that is evaluated."""
    weights: Mapping[Variant, str] = field(default_factory=dict)
    """Names or folders of networks at hand; others are pre-trained."""
    label_order: LabelOrder | None = None
    """What labels say, if they are in an order."""
    size: tuple[int, int] = (64, 64)
    """Height and width of the networks that are pre-trained."""
    latent_size: int = 16
    """Length of an action of the decoder that is pre-trained."""
    is_upright: bool = False
    """Whether scenes have an up and a down: augmentation does not turn them."""
    whole: SceneSet | None = None
    """The set that this one is a part of, whose networks it uses."""
    env: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments of every environment with these scenes, such as the threshold of its protocol."""
    fill: float = 0.0
    """Distance up to which label maps are filled, the same in every row of the set's tables (see `Composition`)."""


@dataclass(frozen=True)
class Pretraining:
    """How the networks of a set are made; they are compact ones of its size."""

    context: PretrainConfig = PretrainConfig(iterations=1000)
    decoder: PretrainConfig = PretrainConfig(iterations=1800, half=True)  # like the bundled one, to compare with


Schedule = Callable[[int], tuple[Stage, ...]]
"""Makes the stages, given the iterations of the main one."""


@dataclass(frozen=True)
class Method:
    """A row of the tables."""

    name: str
    about: str
    budget: str
    """Name of its length of training in a `Scale`."""
    schedule: Schedule
    env: Mapping[str, Any] = field(default_factory=dict)
    """Further keyword arguments of the environment."""
    learner: LearnerConfig = LearnerConfig(COMPACT_ACTOR)
    weights: Variant = "standard"
    rival: str | None = None
    """Where it goes beyond the paper's tables, and runs only if it is named: the method that it has to beat."""


@dataclass(frozen=True)
class Scale:
    """How long to train."""

    name: str
    updates: Mapping[str, int]
    """Iterations of the main stage by budget, so many that all methods take about the same CPU time."""
    evaluations: int = 8
    """On validation scenes while training."""


def _main(algorithm: AlgorithmConfig) -> Schedule:
    """Initialisation, then `algorithm`."""
    return lambda iterations: short_schedule(algorithm, iterations)


_SCORE = BaselineConfig()
_ACTOR_CRITIC = LearnerConfig(COMPACT_ACTOR, termination_updates=24)
"""At equal time an actor-critic makes a third of the updates, and its termination unit should not trail for that."""
_RETURN = CandidateConfig(value="return")
_REFINE = {"refine": True}
"""Argument of the environment by which masks pass through the autoencoder once more."""

_PAPER_METHODS = (
    Method("BL", "cross-entropy, gradient through the whole episode", "baseline-bptt",
           _main(replace(CROSS_ENTROPY, bptt_steps=None))),
    Method("BL-Trunc", "cross-entropy, gradient cut at every step", "baseline", _main(CROSS_ENTROPY)),
    Method("BL-Dice", "BL with the soft Dice score", "baseline-bptt", _main(replace(_SCORE, bptt_steps=None))),
    Method("BL-Trunc-Dice", "BL-Trunc with the soft Dice score", "baseline", _main(_SCORE)),
    Method("AC-Dice", "actor-critic, Dice reward", "actor-critic", _main(ActorCriticConfig()), learner=_ACTOR_CRITIC),
    Method("AC-Dice-NoKL", "AC-Dice without the KL term, with the noise in collected episodes", "actor-critic",
           _main(ActorCriticConfig(kl_weight=0.0)), learner=_ACTOR_CRITIC),
    Method("AC-Dice-NoSP", "AC-Dice with a decoder without State Pyramid", "actor-critic", _main(ActorCriticConfig()),
           learner=_ACTOR_CRITIC, weights="no-pyramid"),
    Method("AC-IoU", "actor-critic, IoU reward", "actor-critic", _main(ActorCriticConfig()), {"score": "iou"},
           _ACTOR_CRITIC),
)  # fmt: skip

_OPTIONS = (
    Method("Critic-Search", "BL-Trunc-Dice-Refined, then a critic that searches, and stopping by the metric",
           "critic-search", search_schedule, _REFINE, rival=REFINED_CONTROL),
    Method("Critic-Search-Outcomes", "Critic-Search, then a critic that chooses among whole episodes",
           "critic-search-outcomes", lambda n: search_schedule(n, outcomes=True), _REFINE, rival="Critic-Search"),
    Method("Critic-Search-NoStop", "Critic-Search, which stops by the count", "critic-search-no-stop",
           lambda n: search_schedule(n)[:-1], _REFINE, rival="Critic-Search"),
    Method("Critic-Search-NoRefine", "Critic-Search, whose masks count as they are decoded", "critic-search-no-refine",
           search_schedule, rival="Critic-Search"),
    Method("Candidate-AC", "no gradient of the reward: candidates move the actor and teach the critic, which searches",
           "candidate-ac", lambda n: search_schedule(n, CandidateActorCriticConfig(), ranking=False),
           rival=PAPER_REFERENCE),
    Method("BL-Trunc-Dice-Refined-Stop", "BL-Trunc-Dice-Refined, then stopping by the metric", "refined-stop",
           lambda n: search_schedule(n, ranking=False), _REFINE, rival="Critic-Search"),
    Method("BL-Trunc-Dice-Refined", "BL-Trunc-Dice, masks pass through the autoencoder once more before they count",
           "refined", _main(_SCORE), _REFINE),
    Method("Search-Distillation", "BL-Trunc-Dice, drawn to the best of 4 candidates by reward", "search",
           _main(SearchDistillationConfig())),
    Method("Search-Distillation-Return", "Search-Distillation with the returns of candidates", "search-return",
           _main(SearchDistillationConfig(candidates=_RETURN))),
    Method("Value-Expansion", "the score's gradient plus the critic's of what follows", "actor-critic",
           _main(ValueExpansionConfig()), learner=_ACTOR_CRITIC),
    Method("BL-Dice-3", "BL-Dice, gradient cut after every third step", "baseline-bptt",
           _main(replace(_SCORE, bptt_steps=3))),
    Method("Value-Expansion-3", "value expansion over three steps, closed by the critic", "actor-critic",
           _main(ValueExpansionConfig(bptt_steps=3)), learner=_ACTOR_CRITIC),
    Method("Hard-Masks", "BL-Trunc-Dice, the actor reads rounded masks", "baseline", _main(_SCORE),
           learner=LearnerConfig(replace(COMPACT_ACTOR, hard_mask=True))),
    Method("Matching-Noise", "BL-Trunc-Dice with noise of 0.1 on the matching, Eq. (2)", "baseline", _main(_SCORE),
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
            "baseline": 2,
            "baseline-bptt": 2,
            "actor-critic": 2,
            "search": 2,
            "search-return": 2,
            "critic-search": 8,
            "critic-search-outcomes": 8,
            "critic-search-no-stop": 8,
            "critic-search-no-refine": 8,
            "candidate-ac": 2,
            "refined-stop": 2,
            "refined": 2,
        },
        evaluations=1,
    ),
    Scale(
        "quick",
        {
            "baseline": 300,
            "baseline-bptt": 300,
            "actor-critic": 120,
            "search": 150,
            "search-return": 45,
            "critic-search": 147,
            "critic-search-outcomes": 83,
            "critic-search-no-stop": 185,
            "critic-search-no-refine": 203,
            "candidate-ac": 126,
            "refined-stop": 238,
            "refined": 250,
        },
    ),
    Scale(
        "medium",
        {
            "baseline": 900,
            "baseline-bptt": 900,
            "actor-critic": 400,
            "search": 450,
            "search-return": 135,
            "critic-search": 484,
            "critic-search-outcomes": 238,
            "critic-search-no-stop": 660,
            "critic-search-no-refine": 704,
            "candidate-ac": 401,
            "refined-stop": 714,
            "refined": 750,
        },
    ),
    Scale(
        "small",
        {
            "baseline": 4320,
            "baseline-bptt": 4140,
            "actor-critic": 1990,
            "search": 2100,
            "search-return": 626,
            "critic-search": 3306,
            "critic-search-outcomes": 2850,
            "critic-search-no-stop": 3510,
            "critic-search-no-refine": 4122,
            "candidate-ac": 2134,
            "refined-stop": 3577,
            "refined": 3600,
        },
        evaluations=20,
    ),
)
SCALES = {scale.name: scale for scale in _SCALES}
"""By name. CPU time of training per cell on one thread of an AMD EPYC (Zen 5): quick 80 seconds, medium 3 minutes,
small 11 to 19. Older cores took three times that at quick. smoke: to see that all runs."""

LEAVES, CARS = PREFIX + "leaves", PREFIX + "cars"
_CROWD = {"min_leaves": 7, "max_leaves": 12}
_LARGE = {"min_leaves": 2, "max_leaves": 20}  # as in the plants of CVPPP's A1


def scene_sets(bbbc038: Path | None = None, scenes: Path | None = None) -> dict[str, SceneSet]:
    """All sets by name: the drawn ones, and those whose folders are given.

    Args:
        bbbc038: folder with train and val of the nuclei of BBBC038.
        scenes: any other folder with train and val; the set has its name.
    """
    bundled: dict[Variant, str] = {"standard": "leaves-64"}
    leaves = SceneSet("leaves", LEAVES, split="test", weights=bundled, label_order=HEIGHT)
    crowded = replace(leaves, name="leaves-crowded", scene_options=_CROWD, val_options=_CROWD, whole=leaves)
    large = replace(
        leaves,
        name="leaves-224",
        scene_options=_LARGE,
        val_options=_LARGE,
        weights={"standard": "leaves-224"},
        size=(224, 224),
    )
    cars = SceneSet(
        "cars",
        CARS,
        split="test",
        weights={"standard": "cars-64x192"},
        label_order=NEARNESS,
        size=(64, 192),
        latent_size=32,
        is_upright=True,
    )
    large_cars = replace(
        cars, name="cars-256x768", weights={"standard": "cars-256x768"}, size=(256, 768), latent_size=64
    )
    sets = [leaves, crowded, large, cars, large_cars]
    if bbbc038 is not None:
        train, val = ({**CROPS, "crops_per_image": CROPS_PER_IMAGE[split]} for split in SPLITS)
        sets.append(SceneSet("bbbc038", str(bbbc038), train, val))
        train, val = ({**LARGE_CROPS, "crops_per_image": CROPS_PER_IMAGE[split]} for split in SPLITS)
        large_weights: dict[Variant, str] = {"standard": "nuclei-224"}
        sets.append(SceneSet("bbbc038-224", str(bbbc038), train, val, weights=large_weights, size=(224, 224)))
    if scenes is not None:
        sets.append(SceneSet(scenes.resolve().name, str(scenes)))
    return {scene_set.name: scene_set for scene_set in sets}


def tuning_set(scene_set: SceneSet, out: Path) -> SceneSet:
    """A set to choose settings on, which leaves the evaluated split alone.

    Drawn scenes are evaluated on the stream "val". Of a folder, a quarter of the training images, chosen by a checksum
    of their names, is evaluated and the rest trained on: a folder of links in `out` says which. The networks around the
    actions are those of the whole set, which have seen all training images.
    """
    name = f"{scene_set.name}-tune"
    if scene_set.scenes in (LEAVES, CARS):
        return replace(scene_set, name=name, split="val", whole=scene_set.whole or scene_set)
    source, folder = Path(scene_set.scenes) / "train", out / "scenes" / name
    if not source.is_dir():
        raise FileNotFoundError(f"{source}: no such folder; the training scenes are expected there")
    for scene_id, pair in find_pairs(source).items():
        part = folder / ("val" if zlib.crc32(scene_id.encode()) % 4 == 0 else "train")
        part.mkdir(parents=True, exist_ok=True)
        for file in (pair.image, pair.label):
            if file is not None and not os.path.lexists(part / file.name):
                (part / file.name).symlink_to(file.resolve())
    return replace(scene_set, name=name, scenes=str(folder), split="val", whole=scene_set)


def cell_config(
    scene_set: SceneSet, method: Method, scale: Scale, weights: str, seed: int, device: str = "cpu"
) -> TrainConfig:
    """The configuration of one run.

    Raises:
        ValueError: the scale does not say how long the method trains.
    """
    if method.budget not in scale.updates:
        raise ValueError(f"scale {scale.name!r} has no number of updates for the budget {method.budget!r}")
    stages = method.schedule(scale.updates[method.budget])
    total = sum(stage.iterations for stage in stages)
    return TrainConfig(
        env=env_of(scene_set, weights, **method.env),
        stages=stages,
        learner=method.learner,
        seed=seed,
        device=device,
        fill=scene_set.fill,
        eval_every=max(total // scale.evaluations, 1),
    )


def env_of(scene_set: SceneSet, weights: str, **kwargs: Any) -> EnvConfig:
    """Recipe of an environment with the scenes of a set and the networks `weights`; `kwargs` are further arguments."""
    named = {"scenes": scene_set.scenes, "scene_options": dict(scene_set.scene_options), "weights": weights}
    turns = {"augmentation": {**TRAINING["augmentation"], "quarter_turns": False}} if scene_set.is_upright else {}
    env = EnvConfig("ACIS/Scenes-v0").having(**named, **{**turns, **scene_set.env, **kwargs})
    return replace(env, val_kwargs={"scene_options": dict(scene_set.val_options)})
