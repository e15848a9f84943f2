"""Pictures much larger than the networks, with more instances than an episode has steps.

The agent learns on windows, cut from a few large pictures at half their scale. Then it segments other large pictures,
window by window at that scale, and instances that lie in several windows are joined. What a picture costs is printed,
and whether the same one, moved by half a window, has as many instances.

python examples/large_pictures.py --out runs/large
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch
import tyro
from numpy.typing import NDArray

from acis_env.metrics import segmentation_metrics
from acis_env.pretraining import PretrainConfig
from acis_env.rendering import overlay
from agents import PRESETS, Trainer
from agents.algorithms import CriticRankingConfig
from agents.commands.pretrain import Pretrain
from agents.models.selection import SelectionConfig
from agents.training.config import with_length

COINS, RADII = 60, (16, 40)
"""Coins in a picture of 1000x1000, and the range of their radii in px."""
SCALE, WINDOW = 0.5, 128
"""Half of the picture's scale, at which a window of so many pixels fills the networks' 64x64."""
OVERLAP = 0.4
"""Share of a window that it has in common with the next, so that some window shows most coins whole."""
CROPS = {"crop": "random", "crop_size": WINDOW, "min_instances": 0, "max_instances": 8, "min_area": 60}


@dataclass(frozen=True)
class Args:
    """Train an agent on windows of large pictures, and segment others with it."""

    out: Path = Path("runs/large")
    """Folder of pictures, weights and run."""
    pretrain_iterations: int = 1200
    """Number of training iterations of the context network, and of the autoencoder."""
    iterations: int = 208
    """Number of training iterations of the policy."""
    num_pictures: int = 5
    """Number of pictures to segment."""
    side: int = 1000
    """Height and width of a picture."""
    seed: int = 0
    """Seed of networks and agent, but not of the pictures."""
    quick: bool = False
    """Take under a minute, only to show that everything works."""


def draw(seed: int, side: int, margin: int = 0) -> tuple[NDArray[np.uint8], NDArray[np.uint16]]:
    """A table `[side, side, 3]` uint8 with coins on it, some of which lie on others, and its label map.

    Coins are at least `margin` pixels from the border.
    """
    generator = np.random.default_rng(seed)
    picture = np.full((side, side, 3), generator.integers(30, 110, 3), np.uint8)
    label_map = np.zeros((side, side), np.uint16)
    label = 0
    while label < count(side - margin):
        radius = int(generator.integers(*RADII, endpoint=True))
        x, y = (int(place) for place in generator.integers(margin + radius, side - margin - radius, 2))
        disc = cv2.circle(np.zeros_like(label_map), (x, y), radius, 1, -1) > 0
        if (label_map[disc] > 0).mean() > 0.1:
            continue
        label += 1
        label_map[disc] = label
        metal = generator.integers(120, 250, 3)
        cv2.circle(picture, (x, y), radius, metal.tolist(), -1)
        cv2.circle(picture, (x, y), radius, (metal * 0.6).tolist(), 2)
    noisy = picture + generator.normal(0, 6, picture.shape)
    return noisy.clip(0, 255).astype(np.uint8), label_map


def count(side: int) -> int:
    """Number of coins in a picture of `side` pixels."""
    return round(COINS * (side / 1000) ** 2)


def write_pairs(folder: Path, seeds: range, side: int) -> None:
    """Write pictures and label maps as `FolderScenes` reads them."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        picture, label_map = draw(seed, side)
        cv2.imwrite(str(folder / f"{seed}_rgb.png"), picture[..., ::-1])
        cv2.imwrite(str(folder / f"{seed}_label.png"), label_map)


def main(args: Args) -> None:
    """Draw, pre-train, train, and segment what nothing was trained on."""
    if args.quick:
        args = replace(args, pretrain_iterations=10, iterations=2, num_pictures=1, side=300)
    torch.set_num_threads(1)
    data, weights = args.out / "data", args.out / "weights"
    write_pairs(data / "train", range(100, 120), args.side)
    write_pairs(data / "val", range(200, 204), args.side)
    numbers = (4, 2) if args.quick else (100, 25)
    options, val_options = ({"crops_per_image": number, **CROPS} for number in numbers)
    config = PretrainConfig(args.pretrain_iterations, seed=args.seed)
    for network in ("context", "decoder"):
        Pretrain(
            network, weights, config, str(data), scene_options=options, val_options=val_options, overwrite=True
        ).run()

    settings = with_length(PRESETS["quick"], args.iterations)
    # Large pictures have hundreds of windows: 4 candidates for each mask instead of 16.
    few = CriticRankingConfig(selection=SelectionConfig(number=4, rounds=1))
    stages = [replace(stage, algorithm=few) if stage.name == "critic" else stage for stage in settings.stages]
    settings = replace(settings, stages=tuple(stages))
    env = settings.env.having(scenes=str(data), scene_options=options, weights=str(weights))
    settings = replace(settings, env=replace(env, val_kwargs={"scene_options": val_options}), seed=args.seed)
    if args.quick:
        settings = replace(settings, stages=tuple(replace(stage, iterations=1) for stage in settings.stages))
    agent = Trainer(settings, args.out / "run", accept_weak_weights=args.quick).run()

    print("picture | SBD | coins found | moved by half a window | CPU seconds, one thread")
    for seed in range(300, 300 + args.num_pictures):
        half = WINDOW // 2
        picture, label_map = draw(seed, args.side + half, margin=half)
        start = time.process_time()
        result = agent.segment(picture[: args.side, : args.side], scale=SCALE, overlap=OVERLAP)
        seconds = time.process_time() - start
        moved = agent.segment(picture[half:, half:], scale=SCALE, overlap=OVERLAP)
        sbd = segmentation_metrics(result.label_map, label_map[: args.side, : args.side].astype(np.int32))["sbd"]
        print(f"{seed} | {sbd:.3f} | {len(result.order)} of {count(args.side)} | {len(moved.order)} | {seconds:.1f}")
        shown = overlay(picture[: args.side, : args.side].transpose(2, 0, 1), result.label_map)
        cv2.imwrite(str(args.out / f"{seed}_overlay.png"), shown[..., ::-1])


if __name__ == "__main__":
    main(tyro.cli(Args))
