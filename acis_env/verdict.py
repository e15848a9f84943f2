"""What the scores of networks from pre-training mean for an agent, and which networks are too weak to train one on."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from acis_env.checksums import read_json
from acis_env.weights import find_weights

WEAK = 0.5
"""Score on held-out scenes below which an agent is trained for nothing. Those of the bundled networks are above 0.8."""

JUDGED = {
    "context": ("foreground_dice", "foreground Dice of the context network"),
    "autoencoder": ("reconstruction_dice", "reconstruction Dice of the decoder"),
}
"""The score by which a network is judged and its name in messages, by the name of the network's card."""


def describe(stem: str, scores: Mapping[str, float]) -> str:
    """What `scores` on held-out scenes mean for an agent, in two sentences.

    Args:
        stem: "context" or "autoencoder".
        scores: those of `evaluate_context` or of `evaluate_autoencoder`.
    """
    if stem == "context":
        return (
            f"Foreground Dice {scores['foreground_dice']:.3f} on held-out scenes, and the right angle at "
            f"{scores['angle_accuracy']:.0%} of the pixels of instances. An agent looks for instances in this "
            "foreground: what it lacks is hardly ever found."
        )
    return (
        f"Reconstruction Dice {scores['reconstruction_dice']:.3f} on held-out scenes, "
        f"{scores['reconstruction_dice_q10']:.3f} or less for the worst tenth of the instances. Bound: the true "
        f"instances, as the decoder draws them, have an SBD of {scores['reconstruction_sbd']:.3f}, "
        "and agents stay below."
    )


def weakness(stem: str, scores: Mapping[str, Any]) -> str | None:
    """Why a network with these `scores` is too weak, with the value and what was expected; None if it is not."""
    score, name = JUDGED[stem]
    value = scores.get(score)
    if value is None or value >= WEAK:  # NaN is weak
        return None
    return f"{name} is {value:.3f} on held-out scenes, expected at least {WEAK}"


def check_weights(weights: str | os.PathLike[str]) -> None:
    """Make sure that the networks in `weights` are no weaker than `WEAK`, as far as their cards say.

    Raises:
        FileNotFoundError: there is no such folder, nor bundled weights of that name.
        ValueError: naming the folder, every weak score and what was expected.
    """
    folder = find_weights(weights)
    found = [weakness(stem, held_out_scores(folder / f"{stem}.json")) for stem in JUDGED]
    problems = [problem for problem in found if problem is not None]
    if problems:
        raise ValueError(f"{folder}: {'; '.join(problems)}")


def held_out_scores(card: Path) -> dict[str, Any]:
    """The scores that a card of weights holds; none if there is no such card, or it has none."""
    if not card.is_file():
        return {}
    training = read_json(card).get("training")
    scores = training.get("held_out") if isinstance(training, dict) else None
    return {name: s for name, s in scores.items() if isinstance(s, int | float)} if isinstance(scores, dict) else {}
