"""Scenes of one's own, from the first network to the trained agent.

A data set is anything that can be indexed, has a length, and knows its largest number of instances. For pairs of
picture files there is `FolderScenes`; here coins are drawn on the spot.

python examples/custom_scenes.py --out runs/coins
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tyro

from acis_env import PackedScenes, Scene, SegmentationVectorEnv, load_pretrained
from acis_env.context import ContextConfig
from acis_env.decoder import AutoencoderConfig
from acis_env.pretraining import PretrainConfig, image_statistics, pretrain_autoencoder, pretrain_context
from agents import PRESETS, Trainer
from agents.algorithms import BaselineConfig
from agents.environment import TRAINING
from agents.evaluation import agent_segmenter, compare, format_table, write_report
from agents.training.presets import short_schedule


@dataclass(frozen=True)
class Args:
    """Pre-train both networks on coins, then train an agent."""

    out: Path = Path("runs/coins")
    """Folder of weights, run and report."""
    size: tuple[int, int] = (64, 64)
    """Height and width of the pictures, multiples of 32."""
    pretrain_iterations: int = 800
    """Number of training iterations of the context network, and of the autoencoder."""
    iterations: int = 100
    """Number of training iterations of the agent."""
    seed: int = 1
    """Seed of all random numbers, except for those of the coins."""
    device: str = "cpu"
    """Device to train on: "cpu" or "cuda"."""
    quick: bool = False
    """Take under two minutes, only to show that everything works."""


class Coins:
    """Discs on a table that may cover each other; scene `i` of a split is always the same."""

    def __init__(self, split: str, size: tuple[int, int], length: int, max_instances: int = 6) -> None:
        self.split, self.size, self.length = split, size, length
        self.max_instances = max_instances

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[Scene]:
        return (self[index] for index in range(len(self)))

    def __getitem__(self, index: int) -> Scene:
        if not 0 <= index < len(self):
            raise IndexError(f"index must be in [0, {len(self)}), got {index}")
        generator = np.random.default_rng([("train", "val", "test").index(self.split), index])
        height, width = self.size
        table = generator.integers(30, 110, 3)
        image = np.full((height, width, 3), table, np.uint8)
        label_map = np.zeros((height, width), np.int32)
        for label in range(1, generator.integers(2, self.max_instances, endpoint=True) + 1):
            radius = int(generator.integers(min(self.size) // 10, min(self.size) // 5))
            centre = (int(generator.integers(radius, width - radius)), int(generator.integers(radius, height - radius)))
            metal = generator.integers(120, 250, 3)
            cv2.circle(label_map, centre, radius, label, -1)
            cv2.circle(image, centre, radius, metal.tolist(), -1)
            cv2.circle(image, centre, radius, (metal * 0.6).tolist(), 1)
        noisy = image + generator.normal(0, 6, image.shape)
        # A coin that others cover entirely is not in the label map, so the labels that are left close up.
        _, label_map = np.unique(label_map, return_inverse=True)
        return Scene(
            noisy.clip(0, 255).astype(np.uint8).transpose(2, 0, 1),
            label_map.reshape(self.size).astype(np.int32),
            f"coins-{self.split}-{index}",
        )


def main(args: Args) -> None:
    """Pre-train, train, evaluate on coins that nothing was trained on."""
    if args.quick:
        args = replace(args, pretrain_iterations=6, iterations=3)
    num_train, num_held_out = (20, 3) if args.quick else (1000, 100)
    train_data, val_data = Coins("train", args.size, num_train), Coins("val", args.size, num_held_out)
    train, val = (PackedScenes(data, args.size, args.device) for data in (train_data, val_data))

    weights = args.out / "weights"
    iterations = args.pretrain_iterations
    config = PretrainConfig(iterations, batch_size=16, seed=args.seed, eval_every=iterations)
    mean, std = image_statistics(train)
    context = ContextConfig.compact(args.size, image_mean=mean, image_std=std)
    context_network = pretrain_context(train, val, context, config, weights)
    autoencoder = AutoencoderConfig.compact(args.size, image_mean=mean, image_std=std)
    pretrain_autoencoder(train, val, context_network, autoencoder, config, weights)

    # The environment is open to any agent from here on, and the agent of this package is one of them.
    pretrained = load_pretrained(str(weights))

    def make_env(num_envs: int, data: Coins, **options: Any) -> SegmentationVectorEnv:
        settings = {"weights": pretrained, "device": args.device, "autoreset_mode": "Disabled", **options}
        return SegmentationVectorEnv(num_envs, scenes=data, **settings)

    schedule = short_schedule(BaselineConfig(), args.iterations)
    if args.quick:
        schedule = tuple(replace(stage, iterations=3) for stage in schedule)
    settings = replace(PRESETS["bl-trunc-dice"], stages=schedule, seed=args.seed, device=args.device)
    env, val_env = make_env(settings.batch_size, train_data, **TRAINING), make_env(1, val_data)
    env.reset(seed=args.seed)
    _, rewards, *_ = env.step(env.action_space.sample())
    print(f"mean reward of random actions: {float(rewards.mean()):.3f}")

    agent = Trainer(settings, args.out / "run", env, val_env).run()
    held_out = make_env(1, Coins("test", args.size, num_held_out)).source
    evaluations = compare({"agent": agent_segmenter(agent)}, agent.pretrained, held_out, agent.composition)
    write_report(args.out / "report", evaluations, held_out, {"seed": args.seed})
    print(f"{format_table(evaluations)}\n\npictures in {args.out / 'report'}")


if __name__ == "__main__":
    main(tyro.cli(Args))
