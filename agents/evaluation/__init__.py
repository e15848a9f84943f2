"""Measures of agents and of policies of any library, on held-out scenes and beside references."""

from agents.evaluation.evaluation import Conditions, Evaluation, compare, evaluate
from agents.evaluation.policies import Policy, RandomPolicy, compare_with_random, evaluate_policy, policy_segmenter
from agents.evaluation.policy_files import load_policy, save_program, save_sb3
from agents.evaluation.segmenters import (
    Segmenter,
    agent_segmenter,
    random_action_segmenter,
    random_segmenter,
    reconstruction_segmenter,
)
from agents.evaluation.tables import format_table, scene_sheet, write_report

__all__ = [
    "Conditions",
    "Evaluation",
    "Policy",
    "RandomPolicy",
    "Segmenter",
    "agent_segmenter",
    "compare",
    "compare_with_random",
    "evaluate",
    "evaluate_policy",
    "format_table",
    "load_policy",
    "policy_segmenter",
    "random_action_segmenter",
    "random_segmenter",
    "reconstruction_segmenter",
    "save_program",
    "save_sb3",
    "scene_sheet",
    "write_report",
]
