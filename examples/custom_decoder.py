"""A decoder of one's own: an action is a rotated ellipse of five numbers, without any network. PPO learns to place it.

python examples/custom_decoder.py --seed 1
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import gymnasium as gym
import torch
import tyro
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import VecMonitor
from torch import Tensor

from acis_env import SegmentationVectorEnv
from acis_env.adapters.sb3 import SB3VecEnv
from acis_env.networks import FOREGROUND
from agents.evaluation.policies import compare_with_random


@dataclass(frozen=True)
class Args:
    """PPO with `obs="coarse"` and a small perceptron."""

    seed: int = 1
    """Seed of the networks, the actions and the episodes."""
    context: Literal["oracle", "predicted"] = "oracle"
    """What the agent sees beside the image: made from the label map, or predicted by the bundled network."""
    num_envs: int = 32
    """Scenes side by side."""
    total_timesteps: int = 40_000
    """Steps in all slots together."""
    learning_rate: float = 1e-3
    """Step size of Adam."""
    num_steps: int = 32
    """Steps of every slot between updates."""
    batch_size: int = 256
    """Steps in one gradient step."""
    update_epochs: int = 10
    """Passes over the steps between updates."""
    gamma: float = 0.5
    """Discount per predicted mask."""
    gae_lambda: float = 0.9
    """Weight between the critic's word (0) and the rewards alone (1)."""
    log_std_init: float = -1.0
    """Logarithm of the first standard deviation of actions."""
    device: str = "cpu"
    """Device of the environment and the networks."""
    quick: bool = False
    """Run for under two minutes, only to show that everything works."""
    run_dir: Path = Path("runs")
    """Each run gets a folder in it."""


class EllipseDecoder:
    """Decodes five numbers in [-1, 1] to a soft ellipse: column, row, two half-axes and an angle.

    It stays on the foreground of the context, which is all that it keeps of an episode. Masks are differentiable with
    respect to the five numbers.
    """

    latent_size = 5

    def __init__(self, size: tuple[int, int] = (64, 64), sharpness: float = 8.0) -> None:
        """Choose the height and width of masks, and how steep their edges are."""
        self.size, self.sharpness = size, sharpness

    def condition(self, context: Tensor) -> Tensor:
        """The foreground `[B, 1, H, W]` of `context` `[B, 12, H, W]`."""
        return context[:, FOREGROUND : FOREGROUND + 1].clone()

    def __call__(self, latent: Tensor, foreground: Tensor) -> Tensor:
        """Masks `[B, 1, H, W]` in [0, 1] of `latent` `[B, 5]`."""
        x, y, a, b, angle = latent[:, :, None, None, None].unbind(1)
        rows = torch.linspace(-1, 1, self.size[0], device=latent.device, dtype=latent.dtype)[:, None] - y
        columns = torch.linspace(-1, 1, self.size[1], device=latent.device, dtype=latent.dtype)[None, :] - x
        cosine, sine = torch.cos(angle * math.pi / 2), torch.sin(angle * math.pi / 2)
        along = (cosine * columns + sine * rows) / half_axis(a)
        across = (cosine * rows - sine * columns) / half_axis(b)
        radius = (along**2 + across**2 + 1e-6).sqrt()  # 1 on the ellipse
        return torch.sigmoid(self.sharpness * (1 - radius)) * foreground


def half_axis(number: Tensor) -> Tensor:
    """A twelfth to three quarters of half the picture, a quarter where `number` is 0."""
    return 0.25 * 3**number


def build(args: Args) -> tuple[SegmentationVectorEnv, PPO]:
    """Make the environment, and the algorithm that learns in it."""
    env = gym.make_vec(
        "ACIS/Scenes-v0",
        num_envs=args.num_envs,
        device=args.device,
        scenes="leaves",
        decoder=EllipseDecoder(),
        context=args.context,
        weights=None if args.context == "oracle" else "leaves-64",
        action_scale=1.0,
        obs="coarse",
        sampler="shuffle",
    )
    model = PPO(
        "MlpPolicy",
        VecMonitor(SB3VecEnv(env)),
        learning_rate=args.learning_rate,
        n_steps=args.num_steps,
        batch_size=args.batch_size,
        n_epochs=args.update_epochs,
        gamma=args.gamma,
        gae_lambda=args.gae_lambda,
        policy_kwargs={"log_std_init": args.log_std_init, "net_arch": [256, 256]},
        seed=args.seed,
        device=args.device,
    )
    return env, model


def main(args: Args) -> None:
    """Train, save, and compare with random actions on held-out scenes."""
    if args.quick:
        args = replace(args, num_envs=8, total_timesteps=8 * args.num_steps)
    folder = args.run_dir / f"ellipse-{args.context}__sb3_ppo__{args.seed}__{int(time.time())}"
    env, model = build(args)
    begin = time.time()
    model.learn(args.total_timesteps)
    about = {"seed": args.seed, "total_timesteps": args.total_timesteps, "seconds": time.time() - begin}
    folder.mkdir(parents=True, exist_ok=True)
    model.save(folder / "model")
    compare_with_random(model, env.arguments, folder, 3 if args.quick else 100, **about)


if __name__ == "__main__":
    main(tyro.cli(Args))
