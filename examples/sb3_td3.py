"""TD3 of Stable-Baselines3 on pictures, with a replay buffer that keeps masks and no pictures.

Pictures take long to learn from on a CPU: after three minutes on one core the policy is still worse than random
actions, while that of sb3_ppo.py, which sees short vectors, is better.

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
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import VecMonitor
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from acis_env import SegmentationVectorEnv
from acis_env.adapters.sb3 import SB3VecEnv, SceneReplayBuffer
from agents.policies import compare_with_random, save_sb3

TAGS = {
    "rollout/ep_rew_mean": "charts/episodic_return",
    "rollout/ep_len_mean": "charts/episodic_length",
    "time/fps": "charts/SPS",
}


@dataclass(frozen=True)
class Args:
    """TD3 with `obs="stacked"` and a small convolutional network."""

    seed: int = 1
    """Of the networks, the actions and the episodes."""
    env_id: str = "ACIS/Leaves-v0"
    """A registered environment that needs no further arguments."""
    num_envs: int = 32
    """Scenes side by side."""
    total_timesteps: int = 40_000
    """Steps in all slots together."""
    learning_rate: float = 3e-4
    """Of Adam."""
    buffer_size: int = 100_000
    """Transitions; at 64x64 each takes about 5 kB."""
    learning_starts: int = 2048
    """Steps with random actions before the first update."""
    batch_size: int = 32
    """Transitions of one gradient step."""
    gradient_steps: int = 16
    """After one step of every slot."""
    gamma: float = 0.3
    """Discount per predicted mask; most of a reward is owed to the last action."""
    policy_delay: int = 4
    """Critic updates per actor update: a critic that knows little drives the actor to the border of the actions."""
    tau: float = 0.01
    """Share of the new weights in the target networks' after each gradient step."""
    exploration_noise: float = 0.5
    """Standard deviation of the noise on actions, one standard deviation of the latent prior being 1/3."""
    device: str = "cpu"
    """Of the environment and the networks."""
    quick: bool = False
    """A run of under two minutes that only shows that everything works."""
    run_dir: Path = Path("runs")
    """Each run gets a folder in it."""


class SmallCNN(BaseFeaturesExtractor):
    """Two convolutions over every fourth pixel: far less work than Stable-Baselines3's `NatureCNN`."""

    def __init__(self, observation_space: gym.spaces.Box) -> None:
        channels, height, width = observation_space.shape
        super().__init__(observation_space, features_dim=64 * (height // 16) * (width // 16))
        self.layers = nn.Sequential(
            nn.Conv2d(channels, 32, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 64, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
        )

    def forward(self, observations: Tensor) -> Tensor:
        """Features `[B, F]` of observations `[B, 13, H, W]` in [0, 255]."""
        features: Tensor = self.layers(observations[:, :, ::4, ::4] / 255)
        return features


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
    env = gym.make_vec(args.env_id, num_envs=args.num_envs, device=args.device, obs="stacked", sampler="shuffle")
    venv = VecMonitor(SB3VecEnv(env))
    length = env.single_action_space.shape[0]
    model = TD3(
        "CnnPolicy",
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
        policy_kwargs={"features_extractor_class": SmallCNN, "normalize_images": False, "net_arch": [256, 256]},
        seed=args.seed,
        device=args.device,
    )
    return env, model


def main(args: Args) -> None:
    """Train, save, and compare with random actions on held-out scenes."""
    if args.quick:
        args = replace(args, num_envs=8, total_timesteps=512, learning_starts=128, gradient_steps=1)
    name = f"{args.env_id}__sb3_td3__{args.seed}__{int(time.time())}".replace("/", "-")
    folder = args.run_dir / name
    env, model = build(args)
    writer = SummaryWriter(str(folder))
    model.set_logger(Logger(str(folder), [HumanOutputFormat(sys.stdout), TensorBoard(writer)]))
    begin = time.time()
    model.learn(args.total_timesteps, log_interval=100)
    seconds = time.time() - begin
    writer.close()
    save_sb3(folder, model, env.arguments)
    about = {"seed": args.seed, "total_timesteps": args.total_timesteps, "seconds": seconds}
    compare_with_random(model, env.arguments, folder, 10 if args.quick else 100, **about)


if __name__ == "__main__":
    main(tyro.cli(Args))
