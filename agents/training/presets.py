"""Named configurations, every field of which can be overridden."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from agents.algorithms import (
    ActorCriticConfig,
    AlgorithmConfig,
    BaselineConfig,
    CandidateActorCriticConfig,
    CriticRankingConfig,
    LearnerConfig,
    MetricStoppingConfig,
    OutcomeJudgingConfig,
    ValueExpansionConfig,
)
from agents.environment import EnvConfig
from agents.models.actor import ActorConfig
from agents.models.critic import CriticConfig
from agents.training.config import Stage, TrainConfig

COMPACT_ACTOR = ActorConfig(memory_size=256, layers=2, hidden=256)
"""An actor for the bundled networks, which are compact, too."""

CROSS_ENTROPY = BaselineConfig(objective="cross-entropy", clip_norm=200.0)
"""The paper's baseline. Its loss is a sum over pixels, and so is the norm of its gradient."""


KITTI_CROPS = {"crop": [256, 768], "crops_per_image": 4}
"""Windows of KITTI's training images at native scale. The published code draws one whenever it shows an image."""
PAPER_AUGMENTATION: dict[str, dict[str, Any]] = {
    "cvppp": {"flip": False, "quarter_turns": False, "rotation": 180.0},
    "kitti": {"flip": True, "quarter_turns": False},
}
"""How the published code shows training scenes: plants at any angle, streets from left to right or right to left."""


def short_schedule(algorithm: AlgorithmConfig, iterations: int) -> tuple[Stage, ...]:
    """Initialisation, with one missing instance per scene, and then `algorithm`, whose critic warms up beforehand.

    The initialisation follows the score, but where `algorithm` does without its gradient: then it is that itself.
    """
    is_free = isinstance(algorithm, CandidateActorCriticConfig)
    first = replace(algorithm, learning_rate=1e-3) if is_free else BaselineConfig(learning_rate=1e-3)
    start = Stage("init", first, 60, sequence_length=1)
    warmup = algorithm.critic_warmup if isinstance(algorithm, ActorCriticConfig) else 0
    return (start, Stage("main", algorithm, warmup + iterations))


def search_schedule(
    iterations: int, policy: AlgorithmConfig | None = None, ranking: bool = True, outcomes: bool = False
) -> tuple[Stage, ...]:
    """Initialisation, the policy, the critic that searches for better actions than its own, and when to stop.

    Args:
        iterations: those of the policy. The critic gets an eighth of them, up to 32, and stopping a 24th, up to 24:
            more would not be worth the time.
        policy: how the policy learns; None: by the gradient of the score, step by step.
        ranking: whether a critic learns after the policy; False where the policy has one, or should act alone.
        outcomes: whether another one learns at the end to choose among whole episodes. It gets a twelfth of
            the iterations, up to 24.
    """
    stages = list(short_schedule(policy or BaselineConfig(), iterations))
    if ranking:
        stages.append(Stage("critic", CriticRankingConfig(), min(max(iterations // 8, 1), 32)))
    stages.append(Stage("stopping", MetricStoppingConfig(), min(max(iterations // 24, 1), 24)))
    if outcomes:
        stages.append(Stage("outcomes", OutcomeJudgingConfig(), min(max(iterations // 12, 1), 24)))
    return tuple(stages)


def _refined(stages: tuple[Stage, ...]) -> TrainConfig:
    return TrainConfig(EnvConfig().having(refine=True), stages, LearnerConfig(COMPACT_ACTOR))


def _short(algorithm: AlgorithmConfig, iterations: int = 400) -> TrainConfig:
    return TrainConfig(stages=short_schedule(algorithm, iterations), learner=LearnerConfig(COMPACT_ACTOR))


def _paper(
    name: str,
    score: str,
    lengths: tuple[int, ...],
    batches: int,
    max_steps: int,
    threshold: float,
    scene_options: dict[str, Any] | None = None,
) -> TrainConfig:
    """The published schedule (`batches` make an epoch), where the supplement and the public code give it.

    The scenes are the data set `name`, whose folder the user names; the networks are in `weights/<name>` unless others
    are named. Gradients are clipped by norm rather than by value, and the termination unit has its own optimiser.
    """
    supervised = replace(CROSS_ENTROPY, learning_rate=5e-4, decay=())
    start = replace(supervised, kl_weight=0.1, sample=True)
    stages = [
        Stage("init", start, 400 * batches, sequence_length=1),
        Stage("init-mean", replace(start, learning_rate=5e-5, sample=False), 200 * batches, sequence_length=1),
        *(Stage(f"curriculum-{length}", supervised, 100 * batches, sequence_length=length) for length in lengths),
    ]
    critic = CriticConfig(trunk_widths=(32, 64, 128, 256, 512), hidden=(1024, 512), products=False)
    for number, rate, kl_weight, warmup in ((1, 5e-4, 1e-4, 1024), (2, 5e-5, 1e-5, 0), (3, 1e-6, 1e-5, 0)):
        algorithm = ActorCriticConfig(
            learning_rate=rate,
            decay=(),
            kl_weight=kl_weight,
            critic=critic,
            max_remaining=None,
            critic_learning_rate=2 * rate,
            critic_updates=4,
            critic_batch_size=8 * max_steps,  # about all steps of the newest episodes
            critic_warmup=warmup,
            replay_size=1,
            exploration=(0.0,),
        )
        stages.append(Stage(f"actor-critic-{number}", algorithm, warmup + 200 * batches))
    kwargs = {
        "scenes": f"dataset:{name}",
        "weights": f"weights/{name}",
        "score": score,
        "threshold": threshold,
        "augmentation": PAPER_AUGMENTATION[name],
    }
    if scene_options is not None:
        kwargs["scene_options"] = scene_options
    return TrainConfig(
        env=EnvConfig("ACIS/Scenes-v0").having(**kwargs),
        stages=tuple(stages),
        learner=LearnerConfig(ActorConfig(skip=False), start_from_encoder=False, weight_decay=1e-5),
        batch_size=8,
        max_steps=max_steps,
        eval_every=20 * batches,
        checkpoint_every=5 * batches,
    )


PRESETS: dict[str, TrainConfig] = {
    "quick": _refined(search_schedule(104)),
    "best": _refined(search_schedule(2850, outcomes=True)),
    "small": _refined(search_schedule(3577, ranking=False)),
    "candidate-actor-critic": TrainConfig(
        stages=search_schedule(130, CandidateActorCriticConfig(), ranking=False), learner=LearnerConfig(COMPACT_ACTOR)
    ),
    "paper-cvppp": _paper("cvppp", "dice", (5, 10, 21), 13, 21, 0.3),
    "paper-kitti": _paper("kitti", "iou", (5, 10, 16), 464, 16, 0.5, KITTI_CROPS),
    "bl-trunc": _short(replace(CROSS_ENTROPY, learning_rate=2e-3)),
    "bl-trunc-dice": _short(BaselineConfig()),
    "ac-dice": _short(ActorCriticConfig()),
    "value-expansion": _short(ValueExpansionConfig()),
}
"""Starting points by name.

quick: minutes on a CPU: a policy, a critic that searches for better actions than its own, and when to stop. best: the
same for a quarter of an hour, with another critic that chooses among whole episodes at inference. small: in that time a
policy that acts alone, with refined masks, and so has no search to wait for at inference. candidate-actor-critic: actor
and critic without any gradient of the reward.
paper-cvppp, paper-kitti: the published schedule, for the data in the folder that is named (--root) and networks of the
published sizes in weights/cvppp or weights/kitti, unless others are named; `acis paper` makes all of it.
The rest: one method each, a few CPU minutes.
"""
