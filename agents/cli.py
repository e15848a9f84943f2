"""The command `acis`: pre-train, train, evaluate, segment."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from acis_env.context import ContextConfig
from acis_env.datasets import PackedScenes, open_scenes
from acis_env.decoder import AutoencoderConfig
from acis_env.networks import TrunkConfig
from acis_env.pretraining import PretrainConfig, image_statistics, pretrain_autoencoder, pretrain_context
from acis_env.weights import load_context_network

SMALL_TRUNK = TrunkConfig(widths=(24, 32, 48, 64), features=256, downsample="stride")
SMALL = AutoencoderConfig(decoder_widths=(64, 48, 32, 16), bottleneck_channels=32, encoder=SMALL_TRUNK)
"""About a tenth of the paper's cost per mask, for small pictures and CPUs."""


@dataclass(frozen=True)
class Pretrain:
    """Train the networks around the actions on single instances: first "context", then "decoder"."""

    network: Annotated[Literal["context", "decoder"], tyro.conf.Positional]
    """"context" predicts foreground and angles; "decoder" is the mask autoencoder, which needs the former."""
    out: Path
    """Folder of the weights; holds both networks in the end."""
    config: Annotated[PretrainConfig, tyro.conf.arg(name="")] = PretrainConfig()
    """How to train."""
    scenes: str = "leaves"
    """"leaves", or a folder with subfolders train and val of `<id>_rgb.png` and `<id>_label.png`."""
    scene_options: str = "{}"
    """Further arguments of `Leaves` or `FolderScenes`, as a JSON object."""
    val_options: str | None = None
    """Likewise of the validation scenes; by default the same."""
    size: tuple[int, int] = (64, 64)
    """Height and width of images and masks, multiples of 32."""
    architecture: Literal["small", "paper"] = "small"
    """Sizes: ours for small pictures, or the paper's (FCN-8s, autoencoder "simple")."""
    latent_size: int = 16
    """Length of an action (decoder only)."""
    state_pyramid: bool = True
    """Whether the decoder sees the context (decoder only; False is the paper's ablation NoSP)."""
    device: str = "cpu"
    """Where to train."""

    def run(self) -> None:
        """Train, evaluate and write the weights."""
        options = parse_json(self.scene_options, "scene_options")
        val_options = options if self.val_options is None else parse_json(self.val_options, "val_options")
        train = PackedScenes(open_scenes(self.scenes, "train", self.size, options), self.size, self.device)
        val = PackedScenes(open_scenes(self.scenes, "val", self.size, val_options), self.size, self.device)
        mean, std = image_statistics(train)
        if self.network == "context":
            network = ContextConfig("unet" if self.architecture == "small" else "fcn8s", size=self.size)
            network = replace(network, image_mean=mean, image_std=std)
            pretrain_context(train, val, network, self.config, self.out)
        else:
            base = SMALL if self.architecture == "small" else AutoencoderConfig(bottleneck_channels=self.latent_size)
            autoencoder = replace(
                base, size=self.size, latent_size=self.latent_size, state_pyramid=self.state_pyramid,
                image_mean=mean, image_std=std,
            )  # fmt: skip
            context_network = load_context_network(self.out).to(self.device)
            pretrain_autoencoder(train, val, context_network, autoencoder, self.config, self.out)
        print(f"weights of the {self.network} network are in {self.out}")


def parse_json(text: str, argument: str) -> dict[str, Any]:
    """Read a JSON object given as the command-line `argument`.

    Raises:
        ValueError: it is not one.
    """
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{argument} must be a JSON object, got {text!r} ({error})") from error
    if not isinstance(value, dict):
        raise ValueError(f"{argument} must be a JSON object, got {text!r}")
    return value


def main() -> None:
    """Run `acis`; errors of the user are one line on stderr and exit status 2."""
    command = tyro.cli(Pretrain, prog="acis", description=__doc__)
    try:
        command.run()
    except (ValueError, FileNotFoundError, FloatingPointError) as error:
        sys.exit(f"acis: {error}")
