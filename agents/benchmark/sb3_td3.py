"""TD3 of Stable-Baselines3 with the settings of examples/sb3_td3.py, which docs/plugging_in.md found to learn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

NUM_ENVS = 64
"""Number of scenes side by side."""
ENV = {"obs": "stacked", "action_scale": 1.5}
"""Pictures, and actions that are nearer to the mean of the prior."""
STEPS = {"smoke": 256, "quick": 17_600, "medium": 30_000, "small": 120_000}
"""Environment steps by budget: 2.1 CPU seconds per thousand with random actions, then 7.8, on one thread of an AMD EPYC
(Zen 5)."""


@dataclass(frozen=True)
class TD3Settings:
    """Settings of TD3."""

    learning_rate: float = 5e-4
    buffer_size: int = 100_000
    learning_starts: int = 10_000
    """Steps with random actions before the first update; at most half of all."""
    batch_size: int = 256
    gradient_steps: int = 2
    gamma: float = 0.5
    policy_delay: int = 1
    tau: float = 0.02
    exploration_noise: float = 0.3
    widths: tuple[int, ...] = (256, 256)
    """Widths of the actor's hidden layers."""


def build_td3(settings: TD3Settings, env: Any, steps: int, seed: int, device: str) -> Any:
    """The algorithm, with critics that multiply features of state and action."""
    from stable_baselines3 import TD3
    from stable_baselines3.common.noise import NormalActionNoise

    from acis_env.adapters.sb3 import SceneReplayBuffer
    from agents.benchmark.product_policy import CoarsePlanes, ProductPolicy

    length = env.action_space.shape[0]
    return TD3(
        ProductPolicy,
        env,
        learning_rate=settings.learning_rate,
        buffer_size=settings.buffer_size,
        learning_starts=min(settings.learning_starts, steps // 2),
        batch_size=settings.batch_size,
        tau=settings.tau,
        gamma=settings.gamma,
        policy_delay=settings.policy_delay,
        train_freq=1,
        gradient_steps=settings.gradient_steps,
        action_noise=NormalActionNoise(np.zeros(length), np.full(length, settings.exploration_noise)),
        replay_buffer_class=SceneReplayBuffer,
        replay_buffer_kwargs={"source": env.replay_source},
        # Dividing every pixel by 255 would take longer than the network, which does it for those that it looks at.
        policy_kwargs={
            "features_extractor_class": CoarsePlanes,
            "normalize_images": False,
            "net_arch": list(settings.widths),
        },
        seed=seed,
        device=device,
    )
