"""PPO of RLlib with a small perceptron on the coarse observation.

RLlib wants Gymnasium 1.2, so give it an environment of its own: pip install acis-env 'ray[rllib]'
python examples/rllib_ppo.py
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
import tyro
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig
from ray.tune.registry import register_env

from agents.evaluation import compare_with_random


@dataclass(frozen=True)
class Args:
    """Train RLlib's PPO in this process, and compare it with random actions."""

    seed: int = 1
    """Seed of the networks and of the episodes."""
    env_id: str = "ACIS/Leaves-v0"
    """Id of a registered environment with bundled scenes."""
    num_envs: int = 8
    """Number of environments of a runner, which steps them one after the other."""
    num_env_runners: int = 0
    """Number of processes that collect steps; 0: this one does."""
    iterations: int = 40
    """Number of updates."""
    num_steps: int = 1024
    """Number of steps between two updates."""
    learning_rate: float = 1e-3
    """Learning rate of Adam."""
    batch_size: int = 256
    """Number of steps in a minibatch."""
    update_epochs: int = 10
    """Number of passes over the collected steps in an update."""
    gamma: float = 0.5
    """Discount per mask; most of a reward is owed to the last action."""
    quick: bool = False
    """Take some two minutes, only to show that everything works."""
    run_dir: Path = Path("runs")
    """Folder of all runs; each gets a folder in it."""


class MeanPolicy:
    """The mean of RLlib's module, by the protocol of Stable-Baselines3."""

    def __init__(self, module: Any, length: int) -> None:
        self.module, self.length = module, length

    @torch.no_grad()
    def predict(self, observation, state=None, episode_start=None, deterministic=True):
        """Actions `[B, l]` in [-1, 1], and no memory."""
        found = self.module.forward_inference({"obs": torch.as_tensor(np.asarray(observation))})
        return found["action_dist_inputs"][:, : self.length].clamp(-1, 1).numpy(), state


def main(args: Args) -> None:
    """Train, and compare with random actions on held-out scenes."""
    if args.quick:
        args = replace(args, num_envs=2, iterations=1, num_steps=128, batch_size=64, update_epochs=2)
    env_id = f"acis_env:{args.env_id}"  # workers import the package by it
    register_env("acis", lambda config: gym.make(env_id, obs="coarse", sampler="shuffle"))
    config = (
        PPOConfig()
        .environment("acis")
        .env_runners(num_env_runners=args.num_env_runners, num_envs_per_env_runner=args.num_envs)
        .learners(num_learners=0)
        .rl_module(model_config=DefaultModelConfig(fcnet_hiddens=[256, 256], fcnet_activation="tanh"))
        .training(
            lr=args.learning_rate,
            gamma=args.gamma,
            lambda_=0.9,
            train_batch_size_per_learner=args.num_steps,
            minibatch_size=args.batch_size,
            num_epochs=args.update_epochs,
        )
        .debugging(seed=args.seed)
    )
    algorithm = config.build_algo()
    folder = args.run_dir / f"{args.env_id}__rllib_ppo__{args.seed}__{int(time.time())}".replace("/", "-")
    begin = time.time()
    for _ in range(args.iterations):
        found = algorithm.train()["env_runners"]
        print(f"step {found['num_env_steps_sampled_lifetime']}: return {found['episode_return_mean']:.3f}")
    seconds = time.time() - begin
    core = gym.make_vec(env_id, num_envs=1, obs="coarse").unwrapped
    policy = MeanPolicy(algorithm.get_module(), core.single_action_space.shape[0])
    about = {"seed": args.seed, "total_timesteps": args.iterations * args.num_steps, "seconds": seconds}
    compare_with_random(policy, core.arguments, folder, 3 if args.quick else 100, **about)
    algorithm.stop()


if __name__ == "__main__":
    main(tyro.cli(Args))
