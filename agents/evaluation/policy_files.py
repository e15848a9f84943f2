"""Policies of any library on disk: saved beside the recipe of their environment, and loaded again.

A network of another library is written as a program of `torch.export`, which needs neither the library nor the code of
the network to run again.
"""

from __future__ import annotations

import importlib
import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from acis_env.configs import nearest_first
from acis_env.files import replacing, write_json
from acis_env.json_files import parse_json, read_json
from acis_env.observations import Observation
from agents.evaluation.policies import Policy, ProgramPolicy

CARD = "policy.json"
"""Name of the file that says what a policy's folder holds."""
SB3_LIBRARIES = ("stable_baselines3", "sb3_contrib")
SB3_BASE = "stable_baselines3.common.base_class"
REASONS = {
    "sb3": "a model of Stable-Baselines3 is unpickled, which runs whatever code its file names",
    "program": "a program of torch.export runs, which is code, on this machine",
}
"""Why a policy of each kind is only loaded if it is trusted."""


def save_sb3(folder: Path, model: Any, arguments: Mapping[str, Any]) -> None:
    """Write an algorithm of Stable-Baselines3 or sb3-contrib.

    Args:
        folder: to write into.
        model: the algorithm.
        arguments: keyword arguments of the environment, `SegmentationVectorEnv.arguments`.

    Raises:
        ValueError: the arguments cannot be written as JSON.
    """
    card = {"kind": "sb3", "algorithm": type(model).__name__, "arguments": _plain(arguments)}
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / "model.zip") as unfinished:
        model.save(unfinished)
    write_json(folder / CARD, card)


def save_program(
    folder: Path, network: nn.Module, arguments: Mapping[str, Any], example_observation: Observation
) -> None:
    """Write a network without memory as a program of `torch.export`.

    Args:
        folder: to write into.
        network: maps observations `[B, ...]` to actions `[B, a]` in [-1, 1].
        arguments: keyword arguments of the environment, `SegmentationVectorEnv.arguments`.
        example_observation: a batch of at least two, as the environment gives it.

    Raises:
        ValueError: the arguments cannot be written as JSON, or this torch is too old: it saves programs as pickles,
            which `load_policy` refuses.
    """
    card = {"kind": "program", "arguments": _plain(arguments)}
    batch = torch.export.Dim("batch", min=1)
    if isinstance(example_observation, Tensor):
        shapes: Any = ({0: batch},)
    else:
        shapes = ({name: {0: batch} for name in example_observation},)
    program = torch.export.export(network.eval(), (example_observation,), dynamic_shapes=shapes)
    stream = io.BytesIO()
    torch.export.save(program, stream)
    content = stream.getvalue()
    try:
        _refuse_pickles(content)
    except _PickleError as error:
        raise ValueError(f"torch {torch.__version__} saves {error}, which load_policy refuses: update torch") from error
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / "policy.pt2") as unfinished:
        unfinished.write_bytes(content)
    write_json(folder / CARD, card)


def load_policy(folder: Path, device: str = "cpu", *, trust: bool = False) -> tuple[Policy, dict[str, Any]]:
    """Read what `save_sb3` or `save_program` wrote: the policy, and the arguments of its environment.

    Args:
        folder: holds the policy.
        device: to put it on.
        trust: whether code of whoever made the folder may run. Without it nothing is loaded, for the files of other
            libraries hold more than numbers.

    Raises:
        FileNotFoundError: the folder holds no policy.
        ValueError: a file is damaged or holds something else, or is not trusted.
    """
    path = folder / CARD
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; save_sb3 and save_program of agents.evaluation write it")
    card = read_json(path)
    kind, arguments = card.get("kind"), card.get("arguments")
    if not isinstance(kind, str) or kind not in REASONS:
        raise ValueError(f"{path}: kind must be one of {', '.join(map(repr, REASONS))}, got {kind!r}")
    if not isinstance(arguments, dict):
        raise ValueError(f"{path}: arguments must be an object, got {arguments!r}")
    if not trust:
        raise ValueError(
            f"{folder}: {REASONS[kind]}: if you trust whoever made the folder, pass --trust (in Python trust=True)"
        )
    load = _load_sb3 if kind == "sb3" else _load_program
    return load(card, folder, device), {**arguments, "device": device}


def _load_sb3(card: Mapping[str, Any], folder: Path, device: str) -> Policy:
    algorithm, file = _sb3_algorithm(card.get("algorithm"), folder / CARD), folder / "model.zip"
    try:
        policy: Policy = algorithm.load(file, device=device)
    except Exception as error:  # damaged files raise errors of many kinds
        raise ValueError(f"{file}: not a whole {card['algorithm']} ({type(error).__name__})") from error
    return policy


def _sb3_algorithm(name: Any, path: Path) -> Any:
    """The algorithm of that name, and never anything else that the libraries happen to hold."""
    known: dict[str, Any] = {}
    for library in SB3_LIBRARIES:
        try:
            module, base = importlib.import_module(library), importlib.import_module(SB3_BASE).BaseAlgorithm
        except ImportError:
            continue
        known |= {n: c for n, c in vars(module).items() if isinstance(c, type) and issubclass(c, base)}
    if not isinstance(name, str) or name not in known:
        expected = ", ".join(nearest_first(str(name), known)) or 'pip install "acis-env[sb3]" first'
        raise ValueError(f"{path}: algorithm must be one of {' and '.join(SB3_LIBRARIES)}, got {name!r}: {expected}")
    return known[name]


def _load_program(card: Mapping[str, Any], folder: Path, device: str) -> Policy:
    file = folder / "policy.pt2"
    try:
        content = file.read_bytes()
        _refuse_pickles(content)
        module = torch.export.load(io.BytesIO(content)).module()
    except Exception as error:  # damaged files raise errors of many kinds
        reason = f"it holds {error}" if isinstance(error, _PickleError) else type(error).__name__
        raise ValueError(f"{file}: not a whole program ({reason})") from error
    return ProgramPolicy(module, device)


class _PickleError(ValueError):
    """A program holds a pickle of more than tensors, or compiled code."""


def _refuse_pickles(content: bytes) -> None:
    """Make sure that `torch.export.load` finds nothing to unpickle but tensors; it would fall back to all of pickle.

    Raises:
        _PickleError: naming the part.
    """
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        names = archive.namelist()
        if not any(name.endswith("/archive_format") for name in names):
            raise _PickleError("pickles, as earlier versions of torch do")
        for name in names:
            part = name.split("/", 1)[-1]
            if part.startswith(("data/aotinductor/", "data/constants/custom_obj", "data/constants/opaque_obj")):
                raise _PickleError(f"{name}, which is code or an object, where only tensors are expected")
            if part.endswith("_config.json"):
                tensors = parse_json(archive.read(name), name).get("config", {})
                if any(tensor.get("use_pickle", True) for tensor in tensors.values()):
                    raise _PickleError(f"{name}, which names a pickle, where only tensors are expected")
            elif part.endswith(".pt") and archive.getinfo(name).file_size:
                torch.load(io.BytesIO(archive.read(name)), weights_only=True)


def _plain(arguments: Mapping[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in arguments.items() if name != "device"}
    try:
        json.dumps(kept)
    except TypeError as error:
        raise ValueError(
            f"arguments must be plain JSON, name scenes and weights by path: {error}, got {sorted(kept)}"
        ) from error
    return kept
