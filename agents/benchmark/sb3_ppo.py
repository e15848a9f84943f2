"""PPO of Stable-Baselines3 with the settings of examples/sb3_ppo.py, which docs/plugging_in.md found to learn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

NUM_ENVS = 32
"""Number of scenes side by side."""
ENV = {"obs": "coarse"}
"""Observations of 208 numbers at 64x64, for a small perceptron."""
STEPS = {"smoke": 64, "quick": 32_000, "medium": 73_000, "small": 360_000}
"""Environment steps by budget: 2.5 CPU seconds per thousand on one thread of an AMD EPYC (Zen 5)."""


@dataclass(frozen=True)
class PPOSettings:
    """Settings of PPO."""

    learning_rate: float = 1e-3
    num_steps: int = 32
    """Steps in every slot between two updates; fewer in the shortest of trainings."""
    batch_size: int = 256
    update_epochs: int = 10
    gamma: float = 0.5
    gae_lambda: float = 0.9
    log_std_init: float = -1.5
    widths: tuple[int, ...] = (256, 256)
    """Widths of the hidden layers of policy and value."""


def build_ppo(settings: PPOSettings, env: Any, steps: int, seed: int, device: str) -> Any:
    """The algorithm, with a perceptron for a policy."""
    from stable_baselines3 import PPO

    num_steps = min(settings.num_steps, max(steps // env.num_envs, 2))
    return PPO(
        "MlpPolicy",
        env,
        learning_rate=settings.learning_rate,
        n_steps=num_steps,
        batch_size=min(settings.batch_size, num_steps * env.num_envs),
        n_epochs=settings.update_epochs,
        gamma=settings.gamma,
        gae_lambda=settings.gae_lambda,
        policy_kwargs={"log_std_init": settings.log_std_init, "net_arch": list(settings.widths)},
        seed=seed,
        device=device,
    )
