"""Weights on disk: a safetensors file, and beside it a JSON file with configuration, scores and checksums."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from acis_env.autoencoder import MaskAutoencoder
from acis_env.checksums import check_sum, file_sum, read_json
from acis_env.configs import config_from_dict, nearest_first
from acis_env.context import ContextConfig, ContextNetwork
from acis_env.decoder import AutoencoderConfig
from acis_env.files import replacing, write_json
from acis_env.networks import on_device
from acis_env.surroundings import unaffected

BUNDLED = Path(__file__).parent / "pretrained"
"""Folder of the weights that come with the package."""

WEIGHTS_SUM = "weights_sha256"
"""Member of the JSON file that holds the checksum of the weights."""

CONTEXT_SUM = "context_sha256"
"""Note on an autoencoder: the checksum of the context network that it was trained with."""

logger = logging.getLogger(__name__)

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
    _warn_of_another_context(folder)
    return Pretrained(context_network, autoencoder)


def find_weights(weights: str | os.PathLike[str]) -> Path:
    """The folder of `weights`: a path, or the name of a bundled one."""
    for folder in (Path(weights), BUNDLED / Path(weights)):
        if folder.is_dir():
            return folder
    bundled = sorted(path.name for path in BUNDLED.iterdir() if path.is_dir())
    known = nearest_first(str(weights), bundled)
    raise FileNotFoundError(f"weights {str(weights)!r}: expected a folder or one of the bundled {known}")


def weights_sum(weights: str | os.PathLike[str]) -> str:
    """Checksum of both networks, as their cards have it; other networks have another.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a card is damaged.
    """
    folder = find_weights(weights)
    return "-".join(str(read_json(folder / f"{stem}.json").get(WEIGHTS_SUM)) for stem in ("context", "autoencoder"))


@unaffected
def load_context_network(folder: Path) -> ContextNetwork:
    """Load the context network in `folder`, frozen."""
    return _load(ContextNetwork, ContextConfig, folder / "context.json")


@unaffected
def load_autoencoder(folder: Path) -> MaskAutoencoder:
    """Load the mask autoencoder in `folder`, frozen."""
    return _load(MaskAutoencoder, AutoencoderConfig, folder / "autoencoder.json")


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
    stem = stem_of(module)
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}
    if half:
        state = {name: x.half() if x.is_floating_point() else x for name, x in state.items()}
    with replacing(folder / f"{stem}.safetensors", "weights") as unfinished:
        unfinished.write_bytes(save(state))  # save_file would make the file unreadable for others
        content = {"config": asdict(module.config), "training": dict(training or {}), WEIGHTS_SUM: file_sum(unfinished)}
    write_json(folder / f"{stem}.json", content, checksum=True)


def stem_of(module: ContextNetwork | MaskAutoencoder) -> str:
    """Name of the files of `module`, without their ends."""
    return "context" if isinstance(module, ContextNetwork) else "autoencoder"


def build(make: Callable[[], Module], state: Mapping[str, Any], source: str) -> Module:
    """The network that `make` makes, frozen, with the tensors in `state`, which are compared before memory is taken.

    Raises:
        ValueError: naming `source`, and the configuration's value that no network can have, or every tensor that is
            missing, unknown, or of another shape or kind, or that holds NaN or infinity.
    """
    try:
        with torch.device("meta"):
            skeleton = make()
    except (ValueError, RuntimeError) as error:
        raise ValueError(f"{source}: {str(error).splitlines()[0]}") from error
    _check_state(skeleton, state, source)
    module = make()
    module.load_state_dict(dict(state))
    module.requires_grad_(False)
    return module.eval()


def _load(network_class: Callable[[Any], Module], config_class: type[Any], card: Path) -> Module:
    """The network whose configuration is in the JSON file `card`."""
    path = card.with_suffix(".safetensors")
    for file in (card, path):
        if not file.is_file():
            raise FileNotFoundError(f"{file}: no such file; `acis pretrain` writes it")
    content = read_json(card)
    if not isinstance(content.get("config"), dict):
        found = type(content["config"]).__name__ if "config" in content else "no such key"
        raise ValueError(f'{card}: "config" must be an object, got {found}')
    config = config_from_dict(config_class, content["config"], str(card))
    try:
        state = load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path}: not a whole safetensors file ({error})") from error
    if WEIGHTS_SUM in content:
        check_sum(path, content[WEIGHTS_SUM])
    return build(lambda: network_class(config), state, str(path))


def _warn_of_another_context(folder: Path) -> None:
    """Say so if the context network is not the one that the autoencoder was trained with, as far as that is known."""
    notes = read_json(folder / "autoencoder.json").get("training")
    learned = notes.get(CONTEXT_SUM) if isinstance(notes, dict) else None
    now = read_json(folder / "context.json").get(WEIGHTS_SUM)
    if None not in (learned, now) and learned != now:
        logger.warning(
            "%s: the autoencoder was trained with another context network than the one beside it; pre-train the "
            "decoder again",
            folder,
        )


def _check_state(module: nn.Module, state: Mapping[str, Any], source: str) -> None:
    """Make sure that `state` holds the tensors of `module`, and that they are numbers."""
    own = module.state_dict()
    problems = [f"{name} is missing" for name in own.keys() - state.keys()]
    problems += [f"{name} is unknown" for name in state.keys() - own.keys()]
    for name in own.keys() & state.keys():
        expected, found = own[name], state[name]
        if not isinstance(found, torch.Tensor):
            problems.append(f"{name} is {type(found).__name__}, expected a tensor")
        elif found.shape != expected.shape:
            problems.append(f"{name} is {list(found.shape)}, expected {list(expected.shape)}")
        elif found.is_floating_point() != expected.is_floating_point() or found.is_complex():
            problems.append(f"{name} is {found.dtype}, expected {expected.dtype}")
        elif not bool(torch.isfinite(found).all()):
            problems.append(f"{name} holds NaN or infinity")
    if problems:
        raise ValueError(f"{source} does not fit its configuration: {'; '.join(sorted(problems))}")
