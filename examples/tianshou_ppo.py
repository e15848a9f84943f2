"""PPO of Tianshou with a small perceptron on the coarse observation.

pip install 'acis-env[tianshou]'
python examples/tianshou_ppo.py
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

import gymnasium as gym
import torch
import tyro
from tianshou.algorithm import PPO
from tianshou.algorithm.modelfree.reinforce import ProbabilisticActorPolicy
from tianshou.algorithm.optim import AdamOptimizerFactory
from tianshou.data import Collector, CollectStats, VectorReplayBuffer
from tianshou.env import DummyVectorEnv
from tianshou.trainer import OnPolicyTrainerParams
from tianshou.utils.net.common import Net
from tianshou.utils.net.continuous import ContinuousActorProbabilistic, ContinuousCritic
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal

from agents.evaluation import compare_with_random


@dataclass(frozen=True)
class Args:
    """Train Tianshou's PPO, and compare it with random actions."""

    seed: int = 1
    """Seed of the networks, the actions and the episodes."""
    env_id: str = "ACIS/Leaves-v0"
    """Id of a registered environment with bundled scenes."""
    num_envs: int = 8
    """Number of environments; Tianshou steps them one after the other."""
    total_timesteps: int = 40_000
    """Number of steps, summed over the environments."""
    num_steps: int = 1024
    """Number of steps between two updates, summed over the environments."""
    learning_rate: float = 1e-3
    """Learning rate of Adam."""
    batch_size: int = 256
    """Number of steps in a minibatch."""
    update_epochs: int = 10
    """Number of passes over the collected steps in an update."""
    gamma: float = 0.5
    """Discount per mask; most of a reward is owed to the last action."""
    log_std: float = -1.5
    """Logarithm of the first standard deviation of actions."""
    quick: bool = False
    """Take under two minutes, only to show that everything works."""
    run_dir: Path = Path("runs")
    """Folder of all runs; each gets a folder in it."""


class MeanPolicy:
    """The mean of the actor, by the protocol of Stable-Baselines3."""

    def __init__(self, actor: nn.Module) -> None:
        self.actor = actor

    @torch.no_grad()
    def predict(self, observation, state=None, episode_start=None, deterministic=True):
        """Actions `[B, l]` in [-1, 1], and no memory."""
        (mean, _), _ = self.actor(torch.as_tensor(observation))
        return mean.clamp(-1, 1).numpy(), state


def normal(parameters: tuple[Tensor, Tensor]) -> Distribution:
    """A distribution of actions of its mean and standard deviation, each `[B, l]`."""
    return Independent(Normal(*parameters), 1)


def build(args: Args) -> tuple[PPO, Collector[CollectStats], nn.Module]:
    """The algorithm, what collects its steps, and its actor."""
    envs = DummyVectorEnv(
        [lambda: gym.make(f"acis_env:{args.env_id}", obs="coarse", sampler="shuffle") for _ in range(args.num_envs)]
    )
    envs.seed(args.seed)
    shape, actions = envs.observation_space[0].shape, envs.action_space[0]

    def net() -> Net:
        return Net(state_shape=shape, hidden_sizes=[256, 256], activation=nn.Tanh)

    actor = ContinuousActorProbabilistic(preprocess_net=net(), action_shape=actions.shape, unbounded=True)
    nn.init.constant_(actor.sigma_param, args.log_std)
    policy = ProbabilisticActorPolicy(actor=actor, dist_fn=normal, action_space=actions, action_bound_method="clip")
    algorithm = PPO(
        policy=policy,
        critic=ContinuousCritic(preprocess_net=net()),
        optim=AdamOptimizerFactory(lr=args.learning_rate),
        gamma=args.gamma,
        gae_lambda=0.9,
        max_grad_norm=0.5,
    )
    buffer = VectorReplayBuffer(max(args.num_steps * 2, 1024), args.num_envs)
    return algorithm, Collector[CollectStats](algorithm, envs, buffer), actor


def main(args: Args) -> None:
    """Train, and compare with random actions on held-out scenes."""
    if args.quick:
        args = replace(args, num_envs=2, total_timesteps=256, num_steps=128, update_epochs=2)
    torch.manual_seed(args.seed)
    folder = args.run_dir / f"{args.env_id}__tianshou_ppo__{args.seed}__{int(time.time())}".replace("/", "-")
    algorithm, collector, actor = build(args)
    begin = time.time()
    result = algorithm.run_training(
        OnPolicyTrainerParams(
            training_collector=collector,
            max_epochs=1,
            epoch_num_steps=args.total_timesteps,
            collection_step_num_env_steps=args.num_steps,
            update_step_num_repetitions=args.update_epochs,
            batch_size=args.batch_size,
            test_in_training=False,
            verbose=False,
            show_progress=False,
        )
    )
    seconds = time.time() - begin
    print(f"{result.train_step} steps in {seconds:.0f} s")
    arguments = gym.make_vec(f"acis_env:{args.env_id}", num_envs=1, obs="coarse").unwrapped.arguments
    about = {"seed": args.seed, "total_timesteps": args.total_timesteps, "seconds": seconds}
    compare_with_random(MeanPolicy(actor), arguments, folder, 3 if args.quick else 100, **about)


if __name__ == "__main__":
    main(tyro.cli(Args))
