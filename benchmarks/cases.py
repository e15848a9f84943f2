"""The cases to measure: sizes, networks, scenes and environments."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from acis_env.autoencoder import MaskAutoencoder
from acis_env.context import ContextConfig, ContextNetwork
from acis_env.datasets import Leaves, Scene
from acis_env.decoder import AutoencoderConfig
from acis_env.vector_env import SegmentationVectorEnv
from acis_env.weights import Pretrained, load_pretrained
from benchmarks.arguments import Arguments

Size = tuple[int, int]

BATCHES: dict[Size, tuple[int, ...]] = {(64, 64): (1, 8, 64), (224, 224): (1, 8, 64), (256, 768): (1, 8)}
"""Batch sizes to measure at every picture size: our own, CVPPP's and KITTI's."""
QUICK_BATCHES: dict[Size, tuple[int, ...]] = {(64, 64): (1, 8)}
NUM_INSTANCES = 20
"""Number of instances in scenes where it is fixed, about as many as in CVPPP."""
DEFAULTS = AutoencoderConfig()
KITTI = AutoencoderConfig(size=(256, 768), latent_size=64, bottleneck_channels=64)


class Drawn(list[Scene]):
    """Scenes that were drawn once, which is a data set."""

    @property
    def max_instances(self) -> int:
        """Number of instances in the fullest scene."""
        return max(scene.num_instances for scene in self)


def leaves(size: Size, length: int = 32) -> Drawn:
    """Plants of 2 to 10 leaves."""
    return Drawn(Leaves("val", size, length=length))


def grid(size: Size, num_instances: int, length: int = 4) -> Drawn:
    """Scenes of exactly `num_instances` rectangles in rows and columns, on noise."""
    columns = int(np.ceil(np.sqrt(num_instances)))
    height, width = size[0] // columns, size[1] // columns
    label_map = np.zeros(size, np.int32)
    for label in range(num_instances):
        top, left = label // columns * height, label % columns * width
        label_map[top : top + height - 1, left : left + width - 1] = label + 1
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (length, 3, *size), dtype=np.uint8)
    return Drawn(Scene(image, label_map, f"grid-{i}") for i, image in enumerate(images))


def cases(args: Arguments, sizes: Iterable[Size] = tuple(BATCHES)) -> Iterator[tuple[Pretrained, str, tuple[int, ...]]]:
    """Networks on the device, where their weights come from, and batch sizes, for each of `sizes`.

    Folders of `--weights` stand in for the networks of their size, or come on top; --quick leaves the smallest size.
    """
    trained = {(found := load_pretrained(name)).size: (found, str(name)) for name in ("leaves-64", *args.weights)}
    wanted = [size for size in sizes if not args.quick or size in QUICK_BATCHES]
    wanted += [size for size in trained if size not in BATCHES and not args.quick]
    for size in wanted:
        config = KITTI if size == KITTI.size else replace(DEFAULTS, size=size)
        networks, source = trained.get(size) or (random_networks(config), "random")
        batches = QUICK_BATCHES[size] if args.quick else BATCHES.get(size, (1, 8))
        yield networks.to(args.device), f"{source} weights", batches


def random_networks(config: AutoencoderConfig) -> Pretrained:
    """Untrained networks."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        context_network, autoencoder = ContextNetwork(ContextConfig(size=config.size)), MaskAutoencoder(config)
    for network in (context_network, autoencoder):
        network.eval().requires_grad_(False)
    return Pretrained(context_network, autoencoder)


def make_env(
    args: Arguments, pretrained: Pretrained, scenes: Drawn, num_envs: int, **options: Any
) -> SegmentationVectorEnv:
    """Our environment, with all scenes drawn and packed."""
    env = SegmentationVectorEnv(num_envs, device=args.device, scenes=scenes, weights=pretrained, **options)
    env.scenes.gather(range(len(scenes)))
    return env


def contexts(pretrained: Pretrained, batch: int) -> torch.Tensor:
    """Predicted contexts `[B, 12, H, W]` of leaves, on the networks' device."""
    scenes = leaves(pretrained.size, length=min(batch, 8))
    device = pretrained.autoencoder.decoder.hidden.weight.device
    found = [pretrained.context_network.context(torch.from_numpy(scene.image[None]).to(device)) for scene in scenes]
    return torch.cat([found[i % len(scenes)] for i in range(batch)])


def latents(pretrained: Pretrained, batch: int) -> torch.Tensor:
    """Latent codes `[B, l]` from the prior, on the networks' device."""
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(batch, pretrained.autoencoder.config.latent_size, generator=generator)
    return latents.to(pretrained.autoencoder.decoder.hidden.weight.device)


def random_actions(env: SegmentationVectorEnv) -> torch.Tensor:
    """Actions `[num_envs, l]` in [-1, 1] on the device that end no episode."""
    length = env.decoder.latent_size
    actions = 2 * torch.rand(env.num_envs, length, generator=torch.Generator().manual_seed(0)) - 1
    if env.rules.stop == "agent":
        actions = torch.nn.functional.pad(actions, (0, 1), value=-1.0)
    return actions.to(env.device)


def shape_of(size: Size, batch: int | None = None) -> str:
    """Size and batch in words, such as "224x224, B=8"."""
    picture = f"{size[0]}x{size[1]}"
    return picture if batch is None else f"{picture}, B={batch}"
