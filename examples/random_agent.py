"""The smallest loop: random actions in eight slots of the vector environment.

python examples/random_agent.py --steps 100
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import gymnasium as gym
import torch
import tyro

import acis_env  # noqa: F401 (registers the environments)


@dataclass(frozen=True)
class Args:
    """Take random actions on the bundled leaves, and print how well they did."""

    num_envs: int = 8
    """Number of scenes side by side."""
    steps: int = 100
    """Number of steps in every slot."""
    seed: int = 0
    """Seed of the scenes: that of slot i is seed + i."""
    device: str = "cpu"
    """Device of the environment: "cpu" or "cuda"."""
    quick: bool = False
    """Take fewer steps."""


def main(args: Args) -> None:
    """Print the mean potential per instance and SBD of the episodes that ended."""
    if args.quick:
        args = replace(args, steps=30)
    env = gym.make_vec("ACIS/Leaves-v0", num_envs=args.num_envs, device=args.device)
    generator = torch.Generator(args.device).manual_seed(args.seed)
    env.reset(seed=args.seed)
    scores, sbd = [], []
    for _ in range(args.steps):
        actions = 2 * torch.rand(env.action_space.shape, generator=generator, device=args.device) - 1
        *_, infos = env.step(actions)
        if "final_info" in infos:
            final, ended = infos["final_info"], infos["_final_info"]
            scores.append((final["potential"] / final["num_instances"])[ended])
            sbd.append(final["sbd"][ended])
    ended_sbd, ended_scores = torch.cat(sbd), torch.cat(scores)
    print(f"{len(ended_sbd)} episodes: Dice per instance {ended_scores.mean():.3f}, SBD {ended_sbd.mean():.3f}")


if __name__ == "__main__":
    main(tyro.cli(Args))
