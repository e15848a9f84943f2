"""Libraries that come with the extra "benchmark"."""

from __future__ import annotations

import importlib.util

NAMES = {"skimage": "scikit-image", "stable_baselines3": "Stable-Baselines3", "submitit": "submitit"}
"""What a library is called, by the module to import."""


def require(module: str) -> None:
    """Make sure that a library is there, before anything is run.

    Raises:
        ValueError: it is not; the message says how to install it.
    """
    if importlib.util.find_spec(module) is None:
        raise ValueError(f"{NAMES[module]} is not installed, which this needs: pip install 'acis-env[benchmark]'")
