"""Agents that are shared: a folder of tensors and text, and the Hugging Face Hub, which keeps such folders.

A shared agent is no `agent.pt`: that is written by `torch.save`, and reading it needs an unpickler, if one that takes
tensors alone. Reading safetensors needs none.
"""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from acis_env.checksums import check_sum, file_sum
from acis_env.files import one_line, replacing, write_json
from acis_env.json_files import parse_json, read_json
from acis_env.weights import WEIGHTS_SUM
from agents.models.agent_card import CARD, FORMAT, AgentCard, markdown

SHARED = "agent.safetensors"
"""Name of the agent's file in its folder."""
PAGE = "README.md"
FILES = (SHARED, CARD, PAGE)
"""All that is uploaded, and all that is downloaded."""
NETWORKS = ("outcome_critic", "critic", "actor", "context", "autoencoder")
MISSING = "huggingface_hub is not installed: pip install 'acis-env[hub]'"


def write_shared(folder: Path, state: Mapping[str, Any], card: AgentCard, name: str) -> None:
    """Write the files of a shared agent, each of which is whole or the old one.

    Args:
        folder: created if it is missing.
        state: `Agent.state_dict`.
        card: what its page says.
        name: of the agent, under which the page loads it.
    """
    tensors = {
        f"{network}.{key}": tensor.detach().cpu().contiguous()
        for network in NETWORKS
        for key, tensor in state[network].items()
    }
    about = {"format": state["format"], "config": json.dumps(state["config"])}
    with replacing(folder / SHARED, "agent") as unfinished:
        unfinished.write_bytes(save(tensors, about))
        total = file_sum(unfinished)
    write_json(folder / CARD, {"format": FORMAT, "card": asdict(card), WEIGHTS_SUM: total})
    with replacing(folder / PAGE, "model card") as unfinished:
        unfinished.write_text(markdown(card, name, list(_facts(state["config"]))), encoding="utf-8")


def read_shared(folder: Path) -> dict[str, Any]:
    """What `Agent.from_state_dict` takes, of the agent in `folder`.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is damaged.
    """
    path = folder / SHARED
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: no such file; `Agent.save_pretrained` and `push_to_hub` write it, and `Agent.load` reads the "
            "folder of a run"
        )
    if (folder / CARD).is_file():
        total = read_json(folder / CARD).get(WEIGHTS_SUM)
        if isinstance(total, str):
            check_sum(path, total)
    state: dict[str, Any] = {network: {} for network in NETWORKS}
    try:
        with safe_open(path, framework="pt") as file:
            about = file.metadata() or {}
            for name in file.keys():  # noqa: SIM118 (no mapping)
                network, _, key = name.partition(".")
                state.setdefault(network, {})[key] = file.get_tensor(name)
    except SafetensorError as error:
        raise ValueError(f"{path}: not a whole safetensors file ({error})") from error
    return {**state, "format": about.get("format"), "config": parse_json(about.get("config", ""), str(path))}


def find_shared(source: str | os.PathLike[str], revision: str | None, token: str | None) -> Path:
    """The folder of a shared agent: `source` itself, or a copy of the repository of that name on the Hub.

    What has been downloaded before is found without a network, too.

    Raises:
        FileNotFoundError: there is neither.
        ValueError: it is no name of a repository, or the library is not installed.
    """
    if Path(source).is_dir():
        return Path(source)
    with _hub(f"{source}: no such folder, and not found on the Hugging Face Hub", FileNotFoundError) as hub:
        return Path(hub.snapshot_download(str(source), revision=revision, token=token, allow_patterns=list(FILES)))


def upload(folder: Path, name: str, private: bool, token: str | None, message: str) -> str:
    """Upload the files of a shared agent into a repository, which is created if there is none.

    Returns:
        Its address.

    Raises:
        OSError: the Hub refuses, or cannot be reached.
        ValueError: it is no name of a repository, or the library is not installed.
    """
    with _hub(f"{name}: cannot be uploaded to the Hugging Face Hub", OSError) as hub:
        api = hub.HfApi(token=token)
        repository = api.create_repo(name, private=private, exist_ok=True)
        api.upload_folder(
            repo_id=repository.repo_id, folder_path=folder, allow_patterns=list(FILES), commit_message=message
        )
        return str(repository)


@contextmanager
def _hub(problem: str, kind: type[OSError]) -> Iterator[Any]:
    """The library, all errors of which are one line that begins with `problem`."""
    try:
        hub = importlib.import_module("huggingface_hub")
    except ImportError as error:
        raise ValueError(f"{problem}: {MISSING}") from error
    try:
        yield hub
    except ValueError as error:
        raise ValueError(f"{problem}: {one_line(error)}") from error
    except Exception as error:  # those of the network are of whichever library the Hub's own one uses
        raise kind(f"{problem}: {one_line(error)}") from error


def _facts(config: Mapping[str, Any]) -> Iterator[str]:
    """What an agent's own settings say of its limits."""
    height, width = config["autoencoder"]["size"]
    yield f"Pictures become {height}x{width} (rows x columns) by {config['preprocessing']!r}, or windows of that size."
    yield f"At most {config['max_steps']} instances in a picture, or in a window of it, unless `max_steps` is given."
    if config["scale"] is not None:
        side = config["scale"]["width"]
        yield (
            f"Trained on instances as large as a square of {side:.0f} pixels at that size; where they are much larger "
            'or smaller, `agent.segment(image, scale="auto")` cuts windows.'
        )
    yield "It finds what looks as in its training; nobody has tried it on anything else, unless the scores say so."
