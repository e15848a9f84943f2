"""How to train: one frozen dataclass, the schedule as data in it, and named presets."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import tyro

from acis_env.augment import Augmentation
from acis_env.precision import Precision
from acis_env.reward import ScoreName
from agents.algorithms.search import SearchConfig
from agents.models.actor import ActorConfig
from agents.models.critic import CriticConfig


def _parse_json(arguments: list[str]) -> dict[str, Any]:
    value = json.loads(arguments[0])
    if not isinstance(value, dict):
        raise ValueError(f"expected a JSON object, got {arguments[0]!r}")
    return value


JsonObject = Annotated[
    dict[str, Any],
    tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="JSON",
        instance_from_str=_parse_json,
        is_instance=lambda value: isinstance(value, dict),
        str_from_instance=lambda value: [json.dumps(value)],
    ),
]
"""A dictionary that is written as a JSON object on the command line."""

Objective = Literal["bl-bce", "bl-score", "ac", "ac-score", "search", "critic", "judge"]
"""What the actor follows:

bl-bce: cross-entropy of each mask with the instance that max-matching assigns to it (the paper's baseline BL).
bl-score: the same with the soft score (Dice or IoU) in place of the cross-entropy.
ac: the critic's value of each mask, through the frozen decoder (the paper's AC, Algorithm 1).
ac-score: the soft score of the assigned instance plus the discounted value of what follows, by the critic.
search: the soft score as in bl-score, while the mean is drawn towards the best of several candidates.
critic: nothing; only the critic learns (the paper's warm-up).
judge: likewise, but the critic learns to compare candidates in the same state, and the agent then acts by it.
"""


@dataclass(frozen=True)
class Phase:
    """A stretch of training with one objective."""

    name: str
    objective: Objective
    iterations: int
    learning_rate: float = 3e-4
    """Of the actor."""
    decay: tuple[tuple[float, float], ...] = ((0.7, 0.3), (0.9, 0.1))
    """Pairs: from this share of the phase on, the learning rates of actor, termination unit and judge are multiplied
    by this factor."""
    sequence_length: int | None = None
    """Longest episode: in a scene of more instances the others are given in `M_1`. None: all instances."""
    kl_weight: float = 0.0
    """Factor of the KL divergence of the policy from the latent prior."""
    sample: bool = False
    """Act by samples of the policy where the objective is bl-bce or bl-score; ac and ac-score always do."""
    critic_learning_rate: float | None = None
    """Of the critic; None: that of the run."""

    def decay_at(self, share: float) -> float:
        """The factor when `share` of the phase is done."""
        return next((factor for start, factor in reversed(self.decay) if share >= start), 1.0)


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides a run."""

    scenes: str = "leaves"
    """"leaves", or a folder of `<id>_rgb.png` and `<id>_label.png` with subfolders train and val."""
    scene_options: JsonObject = field(default_factory=dict)
    """Further arguments of the training scenes (of `Leaves` or `FolderScenes`)."""
    val_options: JsonObject = field(default_factory=dict)
    """Likewise of the validation scenes."""
    weights: str = "leaves-64"
    """Bundled name or folder of the pre-trained networks."""
    phases: tuple[Phase, ...] = ()
    """The schedule, in order."""
    seed: int = 0
    """Of initialisation, batches, augmentation and noise."""
    device: str = "cpu"
    """Where to train."""
    batch_size: int = 16
    """Scenes per iteration, of all processes together."""
    accumulate: int = 1
    """Micro-batches per update, for small GPUs: each process goes through its scenes in so many parts."""
    precision: Precision = "float32"
    """Of convolutions and decoder while training; weights, scores and losses are float32 in any case."""
    compile: bool = False
    """Whether actor and critic are compiled (`torch.compile`), which takes a minute and pays on GPUs."""
    score: ScoreName = "dice"
    """Score of the reward, and of the objectives named after it."""
    gamma: float = 0.9
    """Discount per predicted mask."""
    bptt_steps: int | None = 1
    """Steps after which the gradient through `M_t` and `h_t` is cut (1: BL-Trunc). None: it runs through the whole
    episode (BL)."""
    matching_noise: float = 0.0
    """Standard deviation of the noise on the scores when masks are assigned to instances, Eq. (2)."""
    refine: bool = False
    """Pass each mask through the autoencoder once more before it counts, by which it becomes more of an instance."""
    actor: ActorConfig = ActorConfig()
    """Sizes of the actor."""
    critic: CriticConfig = CriticConfig()
    """Sizes and inputs of the critic."""
    start_from_encoder: bool = True
    """Begin actor and critic as copies of the autoencoder's encoder; False is the paper's random start."""
    weight_decay: float = 0.0
    """L2 penalty in Adam, of actor and critic."""
    clip_norm: float = 1.0
    """Largest norm of the actor's and the critic's gradients."""
    clip_norm_bce: float = 200.0
    """Largest norm of the gradient of bl-bce, a sum over pixels."""
    critic_learning_rate: float = 1e-3
    """Of the critic."""
    critic_updates: int = 3
    """Critic updates per actor update (the paper: 4)."""
    critic_batch_size: int = 48
    """Steps per critic update."""
    replay_size: int = 8
    """Batches of episodes that the critic learns from (the paper: 1)."""
    exploration: tuple[float, ...] = (0.0, 0.0, 0.5, 1.0)
    """Standard deviations of prior noise added to actions in collected episodes, one drawn per scene."""
    search: SearchConfig = SearchConfig()
    """Candidates of the objectives search and judge."""
    termination_updates: int = 8
    """Updates of the termination unit per actor update."""
    termination_learning_rate: float = 3e-3
    """Of the termination unit, which has its own optimiser; falls with the actor's."""
    augmentation: Augmentation = Augmentation(brightness=0.1, contrast=0.1, saturation=0.1)
    """Applied to the training scenes on their device."""
    max_steps: int | None = None
    """Cap on the number of masks when the termination unit does not stop. None: the instances of the fullest training
    scene, as the paper has it (21 on CVPPP, 16 on KITTI)."""
    threshold: float = 0.5
    """Probability below which a pixel of the label map is background."""
    eval_every: int = 100
    """Iterations between evaluations on validation scenes."""
    eval_scenes: int = 50
    """Validation scenes in an evaluation while training."""
    monitor_every: int = 10
    """Iterations between comparisons of the critic's gradient with the score's."""
    checkpoint_every: int = 50
    """Iterations between checkpoints."""

    def __post_init__(self) -> None:
        if not 1 <= self.accumulate <= self.batch_size:
            raise ValueError(
                f"accumulate must be from 1 to batch_size, so that no micro-batch is empty, got {self.accumulate} with "
                f"batch_size {self.batch_size}"
            )
        if self.bptt_steps is not None and self.bptt_steps < 1:
            raise ValueError(f"bptt_steps must be at least 1, or None, got {self.bptt_steps}")
        if self.matching_noise < 0:
            raise ValueError(f"matching_noise must be at least 0, got {self.matching_noise}")
        if self.start_from_encoder and (self.critic.trunk_widths or not self.actor.skip):
            raise ValueError(
                "start_from_encoder needs actor.skip and no critic.trunk_widths, got "
                f"{self.actor.skip} and {self.critic.trunk_widths}"
            )
        objectives = {phase.objective for phase in self.phases}
        if self.refine and "bl-bce" in objectives:
            # A cross-entropy's gradient needs the probability that it is passed on through.
            raise ValueError("refine must be False with the objective bl-bce, got True")
        for rivals in ({"ac", "ac-score"}, {"judge", "critic"}, {"judge", "ac"}, {"judge", "ac-score"}):
            if rivals <= objectives:
                raise ValueError(
                    f"phases must not mix the objectives {sorted(rivals)}: their critics learn other targets"
                )
        if "judge" in objectives and self.critic.remaining_steps:
            raise ValueError("critic.remaining_steps must be False with a judge, since nobody knows them at inference")

    @property
    def estimates_returns(self) -> bool:
        """Whether there is a critic that learns from the returns of whole episodes."""
        return any(phase.objective in ("critic", "ac", "ac-score") for phase in self.phases)

    @property
    def values_the_future(self) -> bool:
        """Whether the critic estimates what follows a step, rather than the return from it on."""
        return any(phase.objective == "ac-score" for phase in self.phases)


SMALL_ACTOR = ActorConfig(memory_size=256, layers=2, hidden=256)
"""For the bundled networks, which are small, too."""


def short_schedule(objective: Objective, iterations: int) -> tuple[Phase, ...]:
    """Initialisation, then the main phase; an actor-critic objective with warm-up in between."""
    start = (Phase("init", "bl-score", 60, 1e-3, sequence_length=1),)
    if objective in ("ac", "ac-score"):
        warm_up = Phase("warm-up", "critic", 40)
        return (*start, warm_up, Phase("main", objective, iterations, 3e-4, kl_weight=1e-3))
    return (*start, Phase("main", objective, iterations, 2e-3))


def judge_schedule(iterations: int, judge_iterations: int) -> tuple[Phase, ...]:
    """Initialisation, the policy's myopic training, then that of the critic that judges its candidates."""
    return (*short_schedule("bl-score", iterations), Phase("judge", "judge", judge_iterations))


def _short(objective: Objective, iterations: int = 400, refine: bool = False) -> TrainConfig:
    return TrainConfig(phases=short_schedule(objective, iterations), actor=SMALL_ACTOR, refine=refine)


def _paper(
    name: str, score: ScoreName, lengths: tuple[int, ...], batches: int, max_steps: int, threshold: float
) -> TrainConfig:
    """The published schedule (`batches` make an epoch), where the supplement and the public code give it.

    Scenes and weights are the user's, in `data/<name>` and `weights/<name>` unless others are named. Gradients are
    clipped by norm rather than by value, and the termination unit has its own optimiser.
    """
    init = [
        Phase("init", "bl-bce", 400 * batches, 5e-4, (), sequence_length=1, kl_weight=0.1, sample=True),
        Phase("init-mean", "bl-bce", 200 * batches, 5e-5, (), sequence_length=1, kl_weight=0.1),
    ]
    curriculum = [
        Phase(f"curriculum-{length}", "bl-bce", 100 * batches, 5e-4, (), sequence_length=length) for length in lengths
    ]
    rates = (("1", 5e-4, 1e-4), ("2", 5e-5, 1e-5), ("3", 1e-6, 1e-5))
    main = [
        Phase(f"ac-{number}", "ac", 200 * batches, rate, (), kl_weight=kl, critic_learning_rate=2 * rate)
        for number, rate, kl in rates
    ]
    return TrainConfig(
        scenes=f"data/{name}",
        weights=f"weights/{name}",
        phases=(*init, *curriculum, Phase("warm-up", "critic", 1024), *main),
        batch_size=8,
        score=score,
        critic_learning_rate=1e-3,
        critic_updates=4,
        critic_batch_size=8 * max_steps,  # all steps of the newest batch
        weight_decay=1e-5,
        start_from_encoder=False,
        actor=ActorConfig(skip=False),
        critic=CriticConfig(
            trunk_widths=(32, 64, 128, 256, 512), hidden=(1024, 512), products=False, remaining_steps=False
        ),
        replay_size=1,
        exploration=(0.0,),
        max_steps=max_steps,
        threshold=threshold,
        eval_every=20 * batches,
        checkpoint_every=5 * batches,
    )


PRESETS: dict[str, TrainConfig] = {
    "quick": _short("bl-score", 200, refine=True),
    "small": _short("bl-score", 3600, refine=True),
    "best": TrainConfig(
        phases=judge_schedule(2310, 462),
        actor=SMALL_ACTOR,
        refine=True,
        critic=CriticConfig(remaining_steps=False),
        search=SearchConfig(judged=8),
    ),
    "paper-cvppp": _paper("cvppp", "dice", (5, 10, 21), 13, 21, 0.3),
    "paper-kitti": _paper("kitti", "iou", (5, 10, 16), 464, 16, 0.5),
    "bl-bce": _short("bl-bce"),
    "bl-score": _short("bl-score"),
    "ac": _short("ac"),
    "ac-score": _short("ac-score"),
}
"""Named starting points; every field can be overridden.

quick: minutes on a CPU. small: the same for a quarter of an hour. best: in that time a policy, then a judge of its
candidates.
paper-cvppp, paper-kitti: the published schedule, for scenes in data/cvppp or data/kitti and networks of the published
sizes in weights/cvppp or weights/kitti; other places can be named.
The rest: one objective each, a few CPU minutes.
"""
