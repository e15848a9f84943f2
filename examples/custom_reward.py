"""A score of one's own: what the same random actions earn under Dice, IoU, and an IoU that must be above one half.

python examples/custom_reward.py
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import gymnasium as gym
import torch
import tyro
from torch import Tensor

import acis_env  # noqa: F401 (registers the environments)
from acis_env.reward import overlap


@dataclass(frozen=True)
class Args:
    """Take random actions on the bundled leaves, and score them in three ways."""

    num_envs: int = 8
    """Number of scenes side by side."""
    steps: int = 200
    """Number of steps in every slot."""
    seed: int = 1
    """Seed of actions and scenes."""
    device: str = "cpu"
    """Device of the environment: "cpu" or "cuda"."""
    quick: bool = False
    """Take fewer steps."""


def detection_score(masks: Tensor, label_maps: Tensor, areas: Tensor) -> Tensor:
    """IoU where it is above one half, else nothing: a mask that finds an instance only roughly earns nothing.

    Args:
        masks: `[B, H, W]` in [0, 1], the newest mask of every scene.
        label_maps: `[B, H, W]` int64, 0 = background.
        areas: `[B, N]`, pixels of each instance, zero for padding.

    Returns:
        `[B, N]` in [0, 1].
    """
    common = overlap(masks, label_maps, areas.shape[1])
    union = masks.sum((1, 2))[:, None] + areas - common
    iou = common / union.clamp_min(1e-6)
    return torch.where(iou > 0.5, iou, 0).clamp(0, 1)


def main(args: Args) -> dict[str, float]:
    """Print the mean return per instance under each score."""
    if args.quick:
        args = replace(args, steps=30)
    found = {}
    for name, score in {"dice": "dice", "iou": "iou", "detection": detection_score}.items():
        env = gym.make_vec("ACIS/Leaves-v0", num_envs=args.num_envs, device=args.device, score=score)
        generator = torch.Generator(args.device).manual_seed(args.seed)
        env.reset(seed=args.seed)
        returns, instances = torch.zeros((), device=args.device), torch.zeros((), device=args.device)
        for _ in range(args.steps):
            actions = 2 * torch.rand(args.num_envs, 16, generator=generator, device=args.device) - 1
            _, _, terminated, _, infos = env.step(actions)
            if terminated.any():
                final = infos["final_info"]
                returns += final["potential"][terminated].sum()
                instances += final["num_instances"][terminated].sum()
        found[name] = float(returns / instances)
        print(f"{name:<10} return per instance {found[name]:.3f}")
    return found


if __name__ == "__main__":
    main(tyro.cli(Args))
