"""A trained agent as ONNX files, which run without torch.

Four networks that read and write tensors by name, so that a loop hands a dictionary from one to the next:

| file | reads | writes |
| --- | --- | --- |
| `context.onnx` | `images` `[B, 3, H, W]` uint8 | `context` `[B, 12, H, W]` |
| `condition.onnx` | `context` | what stays fixed in an episode: `actor_0`, `decoder_0`, ... |
| `actor.onnx` | `mask`, `memory`, what is fixed | `action` `[B, l]`, `continue_logit` `[B]`, `next_memory` |
| `decoder.onnx` | `action`, what is fixed | `predicted_mask` `[B, 1, H, W]` |

`mask` `[B, 1, H, W]` is `M_t`; it and `memory` `[B, M, S]` are zero at first. Where a critic chooses among candidates,
it does so in `actor.onnx`; where masks are refined, `decoder.onnx` does it. `agent.json` says the rest.
"""

from __future__ import annotations

import importlib.util
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.export import Dim

from acis_env import tree
from acis_env.decoder import Conditioning, MaskDecoder
from acis_env.encoder import MaskEncoder
from acis_env.files import replacing, write_json
from acis_env.refinement import RefiningDecoder
from agents.models.agent import Agent
from agents.models.selection import search

logger = logging.getLogger(__name__)

FORMAT = "acis-onnx-1"
"""Marks `agent.json`, and the names of the networks and of what they read and write."""
CARD = "agent.json"
"""File beside the networks, written last."""
LIBRARIES = ("onnx", "onnxscript")
"""What writing ONNX needs beside torch."""


def export_onnx(agent: Agent, folder: Path) -> list[Path]:
    """Write the networks of `agent` and `agent.json` into `folder`; returns the files.

    A critic of outcomes stays behind: what is written plays one episode, which the termination unit ends.

    Raises:
        ValueError: `folder` holds something already, or a library is missing.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} must be a new or an empty folder, and something is there: choose another one")
    if missing := [name for name in LIBRARIES if importlib.util.find_spec(name) is None]:
        raise ValueError(f'writing ONNX needs {" and ".join(missing)}: pip install "acis-env[onnx]"')
    if agent.outcomes is not None:
        logger.warning(
            "the agent chooses by a critic of outcomes where an episode stops (episodes: %d), and it is not exported: "
            "play one episode, until continue_logit is below 0",
            agent.outcomes.config.episodes,
        )
    content = {f"{name}.onnx": model for name, model in _models(agent)}  # all of them before any is written
    for name, model in content.items():
        with replacing(folder / name) as unfinished:
            unfinished.write_bytes(model)
    actor, networks = agent.actor, agent.pretrained
    card = {
        "format": FORMAT,
        "size": list(networks.size),
        "latent_size": agent.decoder.latent_size,
        "memory_size": list(actor.initial_memory(1).shape[1:]),
        "max_steps": agent.max_steps,
        **asdict(agent.composition),
        "preprocessing": agent.preprocessing.name,
        "refine": agent.refine,
        "candidates": 1 if agent.selection is None else 1 + len(agent.selection.offsets.flatten(0, 1)),
    }
    write_json(folder / CARD, card)
    return [*(folder / name for name in content), folder / CARD]


def _models(agent: Agent) -> Iterator[tuple[str, bytes]]:
    """The networks by name, as the content of their files."""
    agent = Agent.from_state_dict(agent.state_dict(), "the agent to export").to("cpu")
    images = torch.zeros(2, 3, *agent.pretrained.size, dtype=torch.uint8)
    yield "context", _model(_Context(agent), {"images": images}, ["context"])
    context = agent.pretrained.context_network.context(images)
    condition = _Condition(agent)
    with torch.no_grad():
        fixed = dict(zip(condition.names, condition(context), strict=True))
    yield "condition", _model(condition, {"context": context}, condition.names)
    parts = ("actor", "decoder", "critic") if agent.selection else ("actor",)
    changing = {"mask": context[:, :1] * 0, "memory": agent.actor.initial_memory(2)}
    inputs = changing | {name: tensor for name, tensor in fixed.items() if name.split("_")[0] in parts}
    yield "actor", _model(_Actor(agent, condition), inputs, ["action", "continue_logit", "next_memory"])
    inputs = {"action": context.new_zeros(2, agent.decoder.latent_size)}
    inputs |= {name: tensor for name, tensor in fixed.items() if name.startswith("decoder_")}
    yield "decoder", _model(_Decoder(agent, condition), inputs, ["predicted_mask"])


def _model(module: nn.Module, inputs: dict[str, Tensor], outputs: list[str]) -> bytes:
    """`module` as ONNX, for any number of scenes; its arguments and what it returns get their names."""
    shapes = ({0: Dim("B")},) * len(inputs)
    with _quiet():
        program = torch.onnx.export(
            module.eval(),
            tuple(inputs.values()),
            input_names=list(inputs),
            output_names=outputs,
            dynamic_shapes={"tensors": shapes},
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    content: bytes = program.model_proto.SerializeToString()
    return content


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps back what the exporter says of itself."""
    exporter = logging.getLogger("torch.onnx")
    level = exporter.level
    exporter.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        exporter.setLevel(level)


class _Context(nn.Module):
    """Images to contexts."""

    def __init__(self, agent: Agent) -> None:
        super().__init__()
        self.network = agent.pretrained.context_network

    def forward(self, *tensors: Tensor) -> Tensor:
        return self.network.context(tensors[0])


class _Condition(nn.Module):
    """Contexts to all that stays fixed in an episode, as one list of tensors, and back to what the networks take."""

    def __init__(self, agent: Agent) -> None:
        super().__init__()
        parts: dict[str, Any] = {"actor": agent.actor, "decoder": agent.decoder}
        if agent.selection is not None:
            parts["critic"] = agent.selection.critic
        self.parts: Any = nn.ModuleDict(parts)
        with torch.no_grad():
            context = torch.zeros(1, 12, *agent.pretrained.size)
            self.kinds: dict[str, Conditioning] = {name: part.condition(context) for name, part in parts.items()}
        self.counts = {name: len(tree.tensors(kind)) for name, kind in self.kinds.items()}
        self.names = [f"{name}_{i}" for name, count in self.counts.items() for i in range(count)]

    def forward(self, *tensors: Tensor) -> list[Tensor]:
        return [leaf for part in self.parts.values() for leaf in tree.tensors(part.condition(tensors[0]))]

    def rebuild(self, name: str, leaves: tuple[Tensor, ...]) -> Conditioning:
        """The conditioning of the part `name` with `leaves`."""
        remaining = iter(leaves)
        return tree.map_tensors(lambda _: next(remaining), self.kinds[name])


class _Actor(nn.Module):
    """One step of the policy, with the critic's choice where there is one."""

    offsets: Tensor

    def __init__(self, agent: Agent, condition: _Condition) -> None:
        super().__init__()
        self.actor, self.condition, self.selection = agent.actor, condition, agent.selection
        if agent.selection is not None:
            self.decoder, self.critic = _Masks(agent.decoder), agent.selection.critic
            self.register_buffer("offsets", agent.selection.offsets)

    def forward(self, *tensors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mask, memory, *fixed = tensors
        first = self.condition.counts["actor"]
        out = self.actor(self.condition.rebuild("actor", tuple(fixed[:first])), mask, memory)
        action = out.mean
        if self.selection is not None:
            second = first + self.condition.counts["decoder"]
            for_decoder = self.condition.rebuild("decoder", tuple(fixed[first:second]))
            for_critic = self.condition.rebuild("critic", tuple(fixed[second:]))
            action = search(
                action, self.offsets, lambda latent: self.critic(for_critic, mask, self.decoder(latent, for_decoder))
            )
        return action, out.continue_logit, out.memory


class _Decoder(nn.Module):
    """One mask."""

    def __init__(self, agent: Agent, condition: _Condition) -> None:
        super().__init__()
        self.masks, self.condition = _Masks(agent.decoder), condition

    def forward(self, *tensors: Tensor) -> Tensor:
        masks: Tensor = self.masks(tensors[0], self.condition.rebuild("decoder", tensors[1:]))
        return masks


class _Masks(nn.Module):
    """The decoder's masks by operations alone: it cuts large batches into parts, which a graph cannot."""

    def __init__(self, decoder: Any) -> None:
        super().__init__()
        self.encoder: MaskEncoder | None = decoder.encoder if isinstance(decoder, RefiningDecoder) else None
        inner = decoder.decoder if isinstance(decoder, RefiningDecoder) else decoder
        self.decoder = cast(MaskDecoder, inner)

    def forward(self, latent: Tensor, conditioning: Any) -> Tensor:
        if self.encoder is None:
            return torch.sigmoid(self.decoder.logits(latent, conditioning))
        draft = torch.sigmoid(self.decoder.logits(latent, conditioning.decoder))
        code, _ = self.encoder.encode(conditioning.encoder, (draft >= 0.5).to(draft))
        return torch.sigmoid(self.decoder.logits(code, conditioning.decoder))
