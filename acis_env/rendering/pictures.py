"""The type of pictures, and checks of what users pass as one."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from acis_env.metrics import check_ground_truth, check_label_map

Picture = NDArray[np.uint8]  # [H, W, 3] in [0, 255], RGB


def check_picture(name: str, picture: Picture) -> None:
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8 or not picture.size:
        raise ValueError(f"{name} must be uint8 [H, W, 3] with pixels, got {picture.dtype} {list(picture.shape)}")


def check_image(
    image: Picture, label_map: NDArray[Any], name: str = "label_map", *, is_ground_truth: bool = False
) -> None:
    (check_ground_truth if is_ground_truth else check_label_map)(name, label_map)
    if image.ndim != 3 or image.shape[0] != 3 or image.dtype != np.uint8 or not image.size:
        raise ValueError(f"image must be uint8 [3, H, W] with pixels, got {image.dtype} {list(image.shape)}")
    if label_map.shape != image.shape[1:]:
        raise ValueError(f"{name} must be [H, W] = {list(image.shape[1:])} as image, got {list(label_map.shape)}")


def check_count(name: str, count: int) -> None:
    if count < 0:
        raise ValueError(f"{name} must be at least 0, got {count}")
