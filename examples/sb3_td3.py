"""TD3 of Stable-Baselines3 on pictures, with a replay buffer that keeps masks and no pictures.

python examples/sb3_td3.py --seed 1
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import tyro
from stable_baselines3 import TD3
from stable_baselines3.common.logger import HumanOutputFormat, KVWriter, Logger
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.vec_env import VecMonitor
from torch.utils.tensorboard import SummaryWriter

from acis_env import SegmentationVectorEnv
from acis_env.adapters.sb3 import SB3VecEnv, SceneReplayBuffer
from agents.benchmark.product_policy import CoarsePlanes, ProductPolicy
from agents.evaluation import compare_with_random, save_sb3

TAGS = {
    "rollout/ep_rew_mean": "charts/episodic_return",
    "rollout/ep_len_mean": "charts/episodic_length",
    "time/fps": "charts/SPS",
}


@dataclass(frozen=True)
class Args:
    """Train TD3 on pictures (`obs="stacked"`), and compare it with random actions."""

    seed: int = 1
    """Seed of the networks, the actions and the episodes."""
    env_id: str = "ACIS/Leaves-v0"
    """Id of a registered environment that needs no further arguments."""
    num_envs: int = 64
    """Number of scenes side by side."""
    total_timesteps: int = 60_000
    """Number of steps, summed over the slots."""
    learning_rate: float = 5e-4
    """Learning rate of Adam."""
    buffer_size: int = 100_000
    """Number of transitions that the replay buffer keeps; at 64x64 each takes about 5 kB."""
    learning_starts: int = 10_000
    """Number of steps with random actions before the first update."""
    batch_size: int = 256
    """Number of transitions in an update."""
    gradient_steps: int = 2
    """Number of updates after one step of every slot; many more only fit the noise of the transitions at hand."""
    action_scale: float = 1.5
    """Number of standard deviations of the latent prior that an action of 1 stands for; actors tend to the border."""
    gamma: float = 0.5
    """Discount per predicted mask; most of a reward is owed to the last action."""
    policy_delay: int = 1
    """Number of critic updates per actor update."""
    tau: float = 0.02
    """Share of the new weights in the target networks, per update."""
    exploration_noise: float = 0.3
    """Standard deviation of the exploration noise on actions."""
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


def build(args: Args) -> tuple[SegmentationVectorEnv, TD3]:
    """The environment and the algorithm that learns in it."""
    options = {"obs": "stacked", "sampler": "shuffle", "action_scale": args.action_scale}
    env = gym.make_vec(args.env_id, num_envs=args.num_envs, device=args.device, **options)
    venv = VecMonitor(SB3VecEnv(env))
    length = env.single_action_space.shape[0]
    model = TD3(
        ProductPolicy,
        venv,
        learning_rate=args.learning_rate,
        buffer_size=args.buffer_size,
        learning_starts=args.learning_starts,
        batch_size=args.batch_size,
        tau=args.tau,
        gamma=args.gamma,
        policy_delay=args.policy_delay,
        train_freq=1,
        gradient_steps=args.gradient_steps,
        action_noise=NormalActionNoise(np.zeros(length), np.full(length, args.exploration_noise)),
        replay_buffer_class=SceneReplayBuffer,
        replay_buffer_kwargs={"source": venv.replay_source},
        # Dividing every pixel by 255 would take longer than the network, which does it for those that it looks at.
        policy_kwargs={"features_extractor_class": CoarsePlanes, "normalize_images": False, "net_arch": [256, 256]},
        seed=args.seed,
        device=args.device,
    )
    return env, model


def main(args: Args) -> None:
    """Train, save, and compare with random actions on held-out scenes."""
    if args.quick:
        args = replace(args, num_envs=8, total_timesteps=160, learning_starts=64, gradient_steps=1)
    name = f"{args.env_id}__sb3_td3__{args.seed}__{int(time.time())}".replace("/", "-")
    folder = args.run_dir / name
    env, model = build(args)
    writer = SummaryWriter(str(folder))
    model.set_logger(Logger(str(folder), [HumanOutputFormat(sys.stdout), TensorBoard(writer)]))
    begin = time.time()
    model.learn(args.total_timesteps, log_interval=200)
    seconds = time.time() - begin
    writer.close()
    save_sb3(folder, model, env.arguments)
    about = {"seed": args.seed, "total_timesteps": args.total_timesteps, "seconds": seconds}
    compare_with_random(model, env.arguments, folder, 3 if args.quick else 100, **about)


if __name__ == "__main__":
    main(tyro.cli(Args))
