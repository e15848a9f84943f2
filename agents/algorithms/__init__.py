"""Ways to learn: one file, one class and one configuration each.

`actor_critic` is Algorithm 1 of the paper, `baseline` its BL and BL-Trunc; the others go beyond it.
"""

from agents.algorithms.actor_critic import ActorCritic, ActorCriticConfig
from agents.algorithms.base import Algorithm, AlgorithmConfig, Learner, LearnerConfig, Progress
from agents.algorithms.baseline import Baseline, BaselineConfig
from agents.algorithms.candidate_actor_critic import CandidateActorCritic, CandidateActorCriticConfig
from agents.algorithms.critic_ranking import CriticRanking, CriticRankingConfig
from agents.algorithms.metric_stopping import MetricStopping, MetricStoppingConfig
from agents.algorithms.outcome_judging import OutcomeJudging, OutcomeJudgingConfig
from agents.algorithms.search_distillation import SearchDistillation, SearchDistillationConfig
from agents.algorithms.value_expansion import ValueExpansion, ValueExpansionConfig

__all__ = [
    "ActorCritic",
    "ActorCriticConfig",
    "Algorithm",
    "AlgorithmConfig",
    "Baseline",
    "BaselineConfig",
    "CandidateActorCritic",
    "CandidateActorCriticConfig",
    "CriticRanking",
    "CriticRankingConfig",
    "Learner",
    "LearnerConfig",
    "MetricStopping",
    "MetricStoppingConfig",
    "OutcomeJudging",
    "OutcomeJudgingConfig",
    "Progress",
    "SearchDistillation",
    "SearchDistillationConfig",
    "ValueExpansion",
    "ValueExpansionConfig",
]
