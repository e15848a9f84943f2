"""A job of `acis reproduce`: pre-train the networks around the actions of a set of scenes that brings none."""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from acis_env.context import ContextConfig
from acis_env.datasets import PackedScenes, open_scenes
from acis_env.decoder import AutoencoderConfig
from acis_env.files import write_json
from acis_env.pretraining import image_statistics, pretrain_autoencoder, pretrain_context
from acis_env.weights import find_weights, load_autoencoder, load_context_network
from agents.experiments.methods import Pretraining, SceneSet, Variant
from agents.experiments.provenance import origin
from agents.experiments.scenes import scenes_of


def weights_of(scene_set: SceneSet, variant: Variant, out: Path) -> str:
    """Name or folder of the weights of a set: those at hand, else the place where they are made."""
    if variant in scene_set.weights:
        return scene_set.weights[variant]
    name = (scene_set.whole or scene_set).name
    return str(out / "weights" / (name if variant == "standard" else f"{name}-{variant}"))


@dataclass(frozen=True)
class Networks:
    """The job of training a context network and a decoder."""

    folder: Path
    scene_set: SceneSet
    variant: Variant
    context_from: str | None
    """Weights whose context network is taken; None: one is trained."""
    pretraining: Pretraining = Pretraining()

    @property
    def name(self) -> str:
        """Name of the job in messages."""
        return f"weights {self.folder.name}"

    @property
    def configuration(self) -> dict[str, Any]:
        """All that decides the result."""
        made = {"size": list(self.scene_set.size), "latent_size": self.scene_set.latent_size}
        return {"weights": self.variant, **scenes_of(self.scene_set), **made, **asdict(self._pretraining)}

    @property
    def _pretraining(self) -> Pretraining:
        """How to pre-train on these scenes."""
        if not self.scene_set.is_upright:
            return self.pretraining
        context, decoder = (
            replace(config, augmentation=replace(config.augmentation, quarter_turns=False))
            for config in (self.pretraining.context, self.pretraining.decoder)
        )
        return replace(self.pretraining, context=context, decoder=decoder)

    @property
    def result(self) -> Path:
        """File that is written at the very end."""
        return self.folder / "result.json"

    @property
    def is_done(self) -> bool:
        """Whether the networks are there, which may also have been made elsewhere."""
        if not (self.folder / "job.json").exists():
            return (self.folder / "autoencoder.json").exists() and (self.folder / "context.json").exists()
        return self.result.exists()

    @property
    def is_resumable(self) -> bool:
        """The folder is the job's own."""
        return True

    def run(self) -> None:
        """Train the context network, then the decoder."""
        pretraining = self._pretraining
        size, options = self.scene_set.size, self.scene_set
        train = PackedScenes(open_scenes(options.scenes, "train", size, options.scene_options), size)
        val = PackedScenes(open_scenes(options.scenes, "val", size, options.val_options), size)
        mean, std = image_statistics(train)
        if self.context_from is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            for name in ("context.safetensors", "context.json"):
                shutil.copy(find_weights(self.context_from) / name, self.folder)
        elif not (self.folder / "context.done").exists():
            config = ContextConfig.compact(size, image_mean=mean, image_std=std)
            pretrain_context(train, val, config, pretraining.context, self.folder)
            (self.folder / "context.done").touch()
        context_network = load_context_network(self.folder)
        autoencoder = AutoencoderConfig.compact(
            size,
            latent_size=self.scene_set.latent_size,
            image_mean=mean,
            image_std=std,
            state_pyramid=self.variant == "standard",
        )
        pretrain_autoencoder(train, val, context_network, autoencoder, pretraining.decoder, self.folder)
        load_autoencoder(self.folder)
        write_json(self.result, {"configuration": self.configuration, **origin(self.folder)})
