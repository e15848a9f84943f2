"""How well a critic foretells held-out episodes, and how well it ranks candidates there."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from acis_env.dynamics import EnvState
from acis_env.episode_source import EpisodeSource
from agents.algorithms.actor_critic import ActorCritic
from agents.algorithms.critic_ranking import CriticRanking
from agents.algorithms.replay import transitions
from agents.algorithms.rollout import run_episodes, sampler, split_episodes
from agents.algorithms.search import CandidateValue
from agents.evaluation.whole_pictures import iterate


def candidate_correlation(algorithm: CriticRanking, source: EpisodeSource, seed: int = 0) -> dict[str, float]:
    """Spearman's correlation of the critic's and the true values among the candidates of held-out states.

    Returns:
        Means over states: of "reward", the immediate one, and "return", discounted to the end of the episode.
    """
    values: tuple[CandidateValue, ...] = ("reward", "return")
    result: dict[str, float] = {}
    for value in values:
        generator = torch.Generator().manual_seed(seed)
        total, states = 0.0, 0
        for state in _episodes(source):
            compared, _ = algorithm.compare(state, generator, value)
            total += float(algorithm.critic.rank_correlation(compared)) * len(compared)
            states += len(compared)
        result[value] = total / states
    return result


@torch.no_grad()
def explained_variance_per_step(
    algorithm: ActorCritic, source: EpisodeSource, seed: int = 0, num_scenes: int | None = None
) -> dict[str, list[float]]:
    """How well the critic foretells held-out episodes, in which the policy is sampled, with the noise of training.

    Args:
        algorithm: actor and critic.
        source: all of its scenes are played once.
        seed: seed of the noise.
        num_scenes: only the first so many scenes.

    Returns:
        For step 1, 2, ...: "count" of episodes that reach it; "explained_variance" of what the critic learns, the
        Monte-Carlo returns or what follows the reward, 0 where it does not vary; and its mean "target" beside the
        mean "prediction".
    """
    core, actor = algorithm.learner.core, algorithm.learner.actor
    generator = torch.Generator().manual_seed(seed)
    levels = torch.tensor(algorithm.config.exploration)
    steps, targets, predictions = [], [], []
    for state in _episodes(source, num_scenes):
        shape = (len(state), state.scores.shape[1], core.decoder.latent_size)
        policy, prior = (torch.randn(shape, generator=generator) for _ in range(2))
        level = levels[torch.randint(len(levels), (len(state), 1, 1), generator=generator)]
        choose = sampler(policy, level * prior)
        episodes = run_episodes(actor, core.decoder, state, core.rules, choose, precision=core.precision)
        played = transitions(episodes, algorithm.config.gamma)
        steps.append(played.step)
        targets.append(algorithm.critic_targets(played).cpu())
        predictions.append(algorithm.critic.values(played).cpu())
    step, target, prediction = map(torch.cat, (steps, targets, predictions))
    result: dict[str, list[float]] = {"count": [], "explained_variance": [], "target": [], "prediction": []}
    for t in range(int(step.max()) + 1):
        true, guess = target[step == t].double(), prediction[step == t].double()
        variance = float(true.var(correction=0))
        error = float((true - guess).square().mean())
        result["count"].append(len(true))
        result["explained_variance"].append(1 - error / variance if variance > 1e-6 else 0.0)
        result["target"].append(float(true.mean()))
        result["prediction"].append(float(guess.mean()))
    return result


def _episodes(source: EpisodeSource, num_scenes: int | None = None, size: int = 16) -> Iterator[EnvState]:
    """Fresh episodes in the scenes of `source`, `size` at a time and each time the longest first."""
    total = len(source.own_scenes)
    for state, _ in iterate(source, range(total if num_scenes is None else min(num_scenes, total)), size):
        yield from split_episodes(state)
