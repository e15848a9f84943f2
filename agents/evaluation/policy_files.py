"""Policies of any library on disk: saved beside the recipe of their environment, and loaded again.

A network of another library is written as a program of `torch.export`, which needs neither the library nor the code of
the network to run again.
"""

from __future__ import annotations

import importlib
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from acis_env.files import replacing, write_json
from acis_env.observations import Observation
from agents.evaluation.policies import Policy, ProgramPolicy

CARD = "policy.json"
"""Name of the file that says what a policy's folder holds."""
SB3_LIBRARIES = ("stable_baselines3", "sb3_contrib")


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
        ValueError: the arguments cannot be written as JSON.
    """
    card = {"kind": "program", "arguments": _plain(arguments)}
    batch = torch.export.Dim("batch", min=1)
    if isinstance(example_observation, Tensor):
        shapes: Any = ({0: batch},)
    else:
        shapes = ({name: {0: batch} for name in example_observation},)
    program = torch.export.export(network.eval(), (example_observation,), dynamic_shapes=shapes)
    folder.mkdir(parents=True, exist_ok=True)
    content = io.BytesIO()
    torch.export.save(program, content)
    with replacing(folder / "policy.pt2") as unfinished:
        unfinished.write_bytes(content.getvalue())
    write_json(folder / CARD, card)


def load_policy(folder: Path, device: str = "cpu") -> tuple[Policy, dict[str, Any]]:
    """Read what `save_sb3` or `save_program` wrote: the policy, and the arguments of its environment.

    Raises:
        FileNotFoundError: the folder holds no policy.
        ValueError: a file is damaged.
    """
    path = folder / CARD
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; save_sb3 and save_program of agents.evaluation write it")
    try:
        card = json.loads(path.read_text())
        kind, arguments = card["kind"], {**card["arguments"], "device": device}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: not the card of a policy ({error!r})") from error
    if kind == "sb3":
        return _sb3_algorithm(card["algorithm"], path).load(folder / "model.zip", device=device), arguments
    if kind != "program":
        raise ValueError(f"{path}: kind must be 'sb3' or 'program', got {kind!r}")
    try:
        program = torch.export.load(folder / "policy.pt2")
    except Exception as error:  # damaged files raise errors of many kinds
        raise ValueError(f"{folder / 'policy.pt2'}: not a whole program ({type(error).__name__})") from error
    return ProgramPolicy(program.module(), device), arguments


def _sb3_algorithm(name: str, path: Path) -> Any:
    for library in SB3_LIBRARIES:
        try:
            module = importlib.import_module(library)
        except ImportError:
            continue
        if hasattr(module, name):
            return getattr(module, name)
    raise ValueError(f'{path}: {name!r} is in none of {SB3_LIBRARIES} as installed; pip install "acis-env[sb3]"')


def _plain(arguments: Mapping[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in arguments.items() if name != "device"}
    try:
        json.dumps(kept)
    except TypeError as error:
        raise ValueError(
            f"arguments must be plain JSON, name scenes and weights by path: {error}, got {sorted(kept)}"
        ) from error
    return kept
