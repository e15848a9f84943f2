"""RecurrentPPO of sb3-contrib on short vectors: the policy also remembers what it did.

python examples/sb3_recurrent_ppo.py --seed 1
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import tyro
from sb3_contrib import RecurrentPPO
from stable_baselines3.common.logger import HumanOutputFormat, KVWriter, Logger
from stable_baselines3.common.vec_env import VecMonitor
from torch.utils.tensorboard import SummaryWriter

from acis_env import SegmentationVectorEnv
from acis_env.adapters.sb3 import SB3VecEnv
from agents.evaluation import compare_with_random, save_sb3

TAGS = {
    "rollout/ep_rew_mean": "charts/episodic_return",
    "rollout/ep_len_mean": "charts/episodic_length",
    "time/fps": "charts/SPS",
}


@dataclass(frozen=True)
class Args:
    """Train RecurrentPPO with an LSTM on `obs="coarse"`, and compare it with random actions."""

    seed: int = 1
    """Seed of the networks, the actions and the episodes."""
    env_id: str = "ACIS/Leaves-v0"
    """Id of a registered environment that needs no further arguments."""
    num_envs: int = 32
    """Number of scenes side by side."""
    total_timesteps: int = 40_000
    """Number of steps, summed over the slots."""
    learning_rate: float = 1e-3
    """Learning rate of Adam."""
    num_steps: int = 32
    """Number of steps in every slot between two updates."""
    batch_size: int = 256
    """Number of steps in a minibatch."""
    update_epochs: int = 10
    """Number of passes over the collected steps in an update."""
    gamma: float = 0.5
    """Discount per predicted mask; episodes are short, and most of a reward is owed to the last action."""
    gae_lambda: float = 0.9
    """Weight of later steps in generalised advantage estimation: 0 trusts the critic, 1 the rewards alone."""
    log_std_init: float = -1.5
    """Logarithm of the first standard deviation of actions. An action of 1 is 3 standard deviations of the latent
    prior, so this explores about two thirds as widely as the prior."""
    lstm_hidden_size: int = 128
    """Width of the LSTMs of actor and critic."""
    device: str = "cpu"
    """Device of environment and networks: "cpu" or "cuda"."""
    quick: bool = False
    """Take under two minutes, only to show that everything works."""
    run_dir: Path = Path("runs")
    """Folder of all runs; each gets a folder in it."""


class TensorBoard(KVWriter):
    """Writes what Stable-Baselines3 logs under the names of CleanRL."""

    def __init__(self, writer: SummaryWriter) -> None:
        self.writer = writer

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0) -> None:
        """Write one scalar per key."""
        for key, value in key_values.items():
            if key in TAGS or key.startswith("train/"):
                self.writer.add_scalar(TAGS.get(key, key.replace("train/", "losses/")), value, step)

    def close(self) -> None:
        """Close the file."""
        self.writer.close()


def build(args: Args) -> tuple[SegmentationVectorEnv, RecurrentPPO]:
    """The environment and the algorithm that learns in it."""
    env = gym.make_vec(args.env_id, num_envs=args.num_envs, device=args.device, obs="coarse", sampler="shuffle")
    model = RecurrentPPO(
        "MlpLstmPolicy",
        VecMonitor(SB3VecEnv(env)),
        learning_rate=args.learning_rate,
        n_steps=args.num_steps,
        batch_size=args.batch_size,
        n_epochs=args.update_epochs,
        gamma=args.gamma,
        gae_lambda=args.gae_lambda,
        policy_kwargs={"log_std_init": args.log_std_init, "net_arch": [256], "lstm_hidden_size": args.lstm_hidden_size},
        seed=args.seed,
        device=args.device,
    )
    return env, model


def main(args: Args) -> None:
    """Train, save, and compare with random actions on held-out scenes."""
    if args.quick:
        args = replace(args, num_envs=8, total_timesteps=8 * args.num_steps)
    name = f"{args.env_id}__sb3_recurrent_ppo__{args.seed}__{int(time.time())}".replace("/", "-")
    folder = args.run_dir / name
    env, model = build(args)
    writer = SummaryWriter(str(folder))
    model.set_logger(Logger(str(folder), [HumanOutputFormat(sys.stdout), TensorBoard(writer)]))
    begin = time.time()
    model.learn(args.total_timesteps, log_interval=10)
    seconds = time.time() - begin
    writer.close()
    save_sb3(folder, model, env.arguments)
    about = {"seed": args.seed, "total_timesteps": args.total_timesteps, "seconds": seconds}
    compare_with_random(model, env.arguments, folder, 3 if args.quick else 100, **about)


if __name__ == "__main__":
    main(tyro.cli(Args))
