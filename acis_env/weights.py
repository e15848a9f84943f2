"""Weights on disk: a safetensors file, and beside it a JSON file with the configuration and the scores."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from acis_env.autoencoder import MaskAutoencoder
from acis_env.configs import config_from_dict
from acis_env.context import ContextConfig, ContextNetwork
from acis_env.decoder import AutoencoderConfig
from acis_env.files import replacing, write_json
from acis_env.json_files import read_json
from acis_env.networks import on_device
from acis_env.surroundings import unaffected

BUNDLED = Path(__file__).parent / "pretrained"
"""Folder of the weights that come with the package."""

Module = TypeVar("Module", bound=nn.Module)


@dataclass(frozen=True)
class Pretrained:
    """What `acis pretrain` makes: the networks around the actions."""

    context_network: ContextNetwork
    autoencoder: MaskAutoencoder

    def __post_init__(self) -> None:
        self.autoencoder.decoder.freeze()

    def to(self, device: str | torch.device) -> Pretrained:
        """These networks if they are on `device`, else copies there: others may be using them here."""
        context_network, autoencoder = on_device(self.context_network, device), on_device(self.autoencoder, device)
        if context_network is self.context_network and autoencoder is self.autoencoder:
            return self
        return Pretrained(context_network, autoencoder)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of images and masks."""
        return self.autoencoder.config.size


@unaffected
def load_pretrained(weights: str | os.PathLike[str]) -> Pretrained:
    """Load a context network and a mask autoencoder, frozen and on the CPU.

    Args:
        weights: a folder written by `acis pretrain`, or the name of a bundled one ("leaves-64", "nuclei-64").

    Raises:
        FileNotFoundError: if a file is missing.
        ValueError: if a file is damaged, or its configuration and its tensors do not fit this version.
    """
    folder = find_weights(weights)
    context_network = load_context_network(folder)
    autoencoder = load_autoencoder(folder)
    if context_network.config.size != autoencoder.config.size:
        raise ValueError(
            f"{folder}: the context network is for {context_network.config.size} and the autoencoder for "
            f"{autoencoder.config.size} (height, width); they must be equal"
        )
    return Pretrained(context_network, autoencoder)


def find_weights(weights: str | os.PathLike[str]) -> Path:
    """The folder of `weights`: a path, or the name of a bundled one."""
    for folder in (Path(weights), BUNDLED / Path(weights)):
        if folder.is_dir():
            return folder
    bundled = sorted(path.name for path in BUNDLED.iterdir() if path.is_dir())
    raise FileNotFoundError(f"weights {str(weights)!r}: expected a folder or one of the bundled {bundled}")


@unaffected
def load_context_network(folder: Path) -> ContextNetwork:
    """Load the context network in `folder`, frozen."""
    config = _read_config(ContextConfig, folder / "context.json")
    return _load(ContextNetwork(config), folder / "context.safetensors")


@unaffected
def load_autoencoder(folder: Path) -> MaskAutoencoder:
    """Load the mask autoencoder in `folder`, frozen."""
    config = _read_config(AutoencoderConfig, folder / "autoencoder.json")
    return _load(MaskAutoencoder(config), folder / "autoencoder.safetensors")


def save_weights(
    folder: Path,
    module: ContextNetwork | MaskAutoencoder,
    training: Mapping[str, Any] | None = None,
    half: bool = False,
) -> None:
    """Write the weights and the configuration of `module` into `folder`; each file is whole or the old one.

    Args:
        folder: created if it is missing.
        module: a context network or a mask autoencoder.
        training: JSON-able notes on how it was trained and what it scores.
        half: store floats as float16, for half the size; loading gives float32 again.
    """
    stem = "context" if isinstance(module, ContextNetwork) else "autoencoder"
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}
    if half:
        state = {name: x.half() if x.is_floating_point() else x for name, x in state.items()}
    with replacing(folder / f"{stem}.safetensors") as unfinished:
        unfinished.write_bytes(save(state))  # save_file would make the file unreadable for others
    write_json(folder / f"{stem}.json", {"config": asdict(module.config), "training": dict(training or {})})


def _read_config(config_class: type[Any], path: Path) -> Any:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; `acis pretrain` writes it")
    content = read_json(path)
    if "config" not in content:
        raise ValueError(f'{path}: expected a JSON object with the key "config", got {sorted(content)}')
    config = content["config"]
    if not isinstance(config, dict):
        raise ValueError(f'{path}: "config" must be an object, got {type(config).__name__}')
    return config_from_dict(config_class, config, str(path))


def _load(module: Module, path: Path) -> Module:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; `acis pretrain` writes it")
    try:
        state = load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path}: not a whole safetensors file ({error})") from error
    load_state(module, state, str(path))
    module.requires_grad_(False)
    return module.eval()


def load_state(module: nn.Module, state: Mapping[str, torch.Tensor], source: str) -> None:
    """Copy `state` into `module`.

    Raises:
        ValueError: naming `source` and every tensor that is missing, unknown or of another shape.
    """
    own = module.state_dict()
    problems = [f"{name} is missing" for name in own.keys() - state.keys()]
    problems += [f"{name} is unknown" for name in state.keys() - own.keys()]
    problems += [
        f"{name} is {list(state[name].shape)}, expected {list(own[name].shape)}"
        for name in own.keys() & state.keys()
        if own[name].shape != state[name].shape
    ]
    if problems:
        raise ValueError(f"{source} does not fit its configuration: {'; '.join(sorted(problems))}")
    module.load_state_dict(dict(state))
