"""What a run learns from: checksums of scenes and networks, by which a resumed run knows whether they changed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from acis_env.checksums import tensors_sum
from acis_env.datasets.packed import PackedScenes
from acis_env.weights import Pretrained

COMPARED = 200
"""Scenes that are compared, spread evenly over the data set; all, if it has no more."""


def describe_origin(scenes: PackedScenes, pretrained: Pretrained) -> dict[str, Any]:
    """Number and content of the training scenes, the networks around the actions, and the number of threads.

    Threads belong to it, since they decide the order in which numbers are added up.
    """
    networks = {"context": pretrained.context_network, "autoencoder": pretrained.autoencoder}
    tensors = ((f"{name}.{key}", value) for name, net in networks.items() for key, value in net.state_dict().items())
    return {
        "number of scenes": len(scenes),
        "number of threads": torch.get_num_threads(),
        "preprocessing": scenes.preprocessing.name,
        **_sum_scenes(scenes),
        "weights": tensors_sum(tensors),
    }


def find_changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs, in words; what the earlier description lacks is not compared."""
    return [
        f"{name} not the same" if isinstance(now[name], str) else f"{name} {now[name]} instead of {before[name]}"
        for name in now
        if name in before and before[name] != now[name]
    ]


def _sum_scenes(scenes: PackedScenes) -> dict[str, str]:
    """Checksums of ids, images and labels at their native resolution."""
    sums = {name: hashlib.sha256() for name in ("ids of scenes", "images of scenes", "labels of scenes")}
    chosen = np.linspace(0, len(scenes) - 1, min(COMPARED, len(scenes))).astype(int)
    for index in chosen.tolist():
        scene = scenes.scene(index)
        labels = np.zeros(0) if scene.label_map is None else scene.label_map
        parts = (scene.name.encode(), _bytes_of(scene.image), _bytes_of(labels))
        for total, part in zip(sums.values(), parts, strict=True):
            total.update(part + b"\n")
    return {name: total.hexdigest() for name, total in sums.items()}


def _bytes_of(array: np.typing.NDArray[Any]) -> bytes:
    return f"{array.shape}".encode() + array.astype(np.uint8 if array.dtype == np.uint8 else np.int32).tobytes()
