"""`acis pretrain`: the context network and the mask autoencoder, from single instances."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from acis_env.context import ContextConfig
from acis_env.datasets import PackedScenes, open_scenes
from acis_env.datasets.registry import protocol_of
from acis_env.decoder import AutoencoderConfig
from acis_env.folders import claimed
from acis_env.networks import check_device
from acis_env.pretraining import (
    PretrainConfig,
    image_statistics,
    pretrain_autoencoder,
    pretrain_context,
    scenes_identity,
)
from acis_env.verdict import describe, held_out_scores, weakness
from acis_env.weights import load_context_network
from agents.environment import JsonObject

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pretrain:
    """Train the networks around the agent on single instances: first "context", then "decoder"."""

    network: Annotated[Literal["context", "decoder"], tyro.conf.Positional]
    """Network to train: "context" predicts foreground and angles; "decoder" is the mask autoencoder, and needs the
    context network."""
    out: Path
    """Folder of the weights; holds both networks in the end."""
    config: Annotated[PretrainConfig, tyro.conf.arg(name="")] = PretrainConfig()
    """Settings of the training."""
    scenes: str = "leaves"
    """Scenes to train on: "leaves", "cars", or a folder of `<id>_rgb.png` and `<id>_label.png` with subfolders train
    and val."""
    root: Path | None = None
    """Folder of the data of a registered data set, such as CVPPP; by default that in its environment variable, such as
    ACIS_CVPPP_ROOT."""
    scene_options: JsonObject = field(default_factory=dict)
    """Further arguments of the training scenes (of `Leaves`, `Cars` or `FolderScenes`)."""
    val_options: JsonObject | None = None
    """Further arguments of the validation scenes (of `Leaves`, `Cars` or `FolderScenes`); by default those of the
    training scenes, so give them where these name pictures or a number of them, such as `annotations` or `length`."""
    size: tuple[int, int] = (64, 64)
    """Height and width of images and masks, multiples of 32."""
    preprocessing: str | None = None
    """How pictures become those of that size: "squeeze", "shorter-side", "halve-crop", "tile" or "tile:SCALE"; by
    default as the protocol of the data set says, or "squeeze"."""
    architecture: Literal["compact", "paper"] = "compact"
    """Widths of the networks: "compact" for CPUs, with more layers for larger pictures, or "paper" (FCN-8s, autoencoder
    "simple")."""
    latent_size: int = 16
    """Length of an action (decoder only)."""
    state_pyramid: bool = True
    """Show the context to the decoder at every scale (decoder only); without it is the paper's ablation NoSP."""
    device: str = "cpu"
    """Device to train on: "cpu" or "cuda"."""
    overwrite: bool = False
    """Replace a finished network of that kind in `out`, or the state of an unfinished training with other settings."""

    def run(self) -> None:
        """Train, evaluate and write the weights.

        Raises:
            ValueError: the context network in `out` is for another size, or gets a setting of the decoder's; or `out`
                holds what would be replaced.
        """
        if self.network == "context" and (self.latent_size, self.state_pyramid) != (16, True):
            raise ValueError(
                f"--latent-size {self.latent_size} and --state-pyramid {self.state_pyramid} are of the decoder "
                "and have no effect on the context network: leave them out"
            )
        check_device(self.device)
        val_options = self.scene_options if self.val_options is None else self.val_options
        train, val = self._open("train", self.scene_options), self._open("val", val_options)
        if scenes_identity(train) == scenes_identity(val) and getattr(train.dataset, "fingerprint", None) is not None:
            logger.warning(
                "held-out scenes are the training scenes, by the same files and options: scores on them say nothing "
                "about others; name others by --val-options"
            )
        with claimed(self.out):
            if self.network == "context":
                self._pretrain_context(train, val)
            else:
                self._pretrain_decoder(train, val)
            print(f"weights of the {self.network} network are in {self.out}")
            self._judge("context" if self.network == "context" else "autoencoder")

    def _judge(self, stem: str) -> None:
        """Say what the network is good for, and warn of one that is too weak."""
        scores = held_out_scores(self.out / f"{stem}.json")
        print(describe(stem, scores))
        problem = weakness(stem, scores)
        if problem is not None:
            logger.warning(
                "%s: %s: train it longer (--iterations), or look at its scenes by `acis data check`; `acis train` "
                "refuses it without --accept-weak-weights",
                self.out,
                problem,
            )

    def _open(self, split: str, options: Mapping[str, Any]) -> PackedScenes:
        preprocessing = self.preprocessing
        if preprocessing is None:
            preprocessing = protocol_of(self.scenes).get("preprocessing", "squeeze")
        place = {} if self.root is None else {"root": self.root}
        scenes = open_scenes(self.scenes, split, self.size, {**place, **options})
        return PackedScenes(scenes, self.size, self.device, preprocessing=preprocessing)

    def _pretrain_context(self, train: PackedScenes, val: PackedScenes) -> None:
        mean, std = image_statistics(train)
        statistics: dict[str, Any] = {"image_mean": mean, "image_std": std}
        if self.architecture == "compact":
            config = ContextConfig.compact(self.size, **statistics)
        else:
            config = ContextConfig("fcn8s", size=self.size, **statistics)
        pretrain_context(train, val, config, self.config, self.out, self.overwrite)

    def _pretrain_decoder(self, train: PackedScenes, val: PackedScenes) -> None:
        mean, std = image_statistics(train)
        latent_size = self.latent_size
        others: dict[str, Any] = {"latent_size": latent_size, "state_pyramid": self.state_pyramid}
        others |= {"image_mean": mean, "image_std": std}
        if self.architecture == "compact":
            config = AutoencoderConfig.compact(self.size, **others)
        else:
            config = AutoencoderConfig(size=self.size, bottleneck_channels=latent_size, **others)
        context_network = load_context_network(self.out).to(self.device)
        if context_network.config.size != self.size:
            raise ValueError(
                f"--size {self.size} must be that of the context network in {self.out}, "
                f"{context_network.config.size} (height, width)"
            )
        pretrain_autoencoder(train, val, context_network, config, self.config, self.out, self.overwrite)
