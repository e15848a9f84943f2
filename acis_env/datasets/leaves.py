"""Drawn rosette plants with their leaves: a data set to learn on without a download.

The pictures imitate the top views of the CVPPP Leaf Segmentation Challenge (Minervini et al., "Finely-grained
annotated datasets for image-based plant phenotyping", 2016): leaves of a stalk and a blade grow from one centre
at about the golden angle, and each one lies above the older ones and shades them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from acis_env.configs import is_count
from acis_env.datasets.noise import noise_tile
from acis_env.datasets.scene import Scene

Floats = NDArray[np.float32]

SPLITS = {
    "train": (0, 4000),
    "val": (1, 200),
    "test": (2, 200),
}  # number of the random stream, default length
MOST_LEAVES = 20
SMALLEST_SIDE = 32
SMALLEST_AREA = 12 / 64**2  # visible part of a leaf, as a share of the square over the picture's shorter side
SLIVER = 1 / 64  # a leaf must show a square of about 3 times this share of the shorter side: a mere rim is not seen
GOLDEN_ANGLE = np.pi * (3 - 5**0.5)
OUTLINE_ALONG = np.sin(np.linspace(0, np.pi / 2, 36))  # one side of a leaf; denser at the tip, which is round
ATTEMPTS = 200
PALE_GREEN: Floats = np.array([0.72, 0.78, 0.5], np.float32)  # colour of stalks and veins


class Leaves:
    """Rosette plants drawn on demand; scene `i` depends on `seed`, `split` and `i` alone.

    The number of leaves is uniform from `min_leaves` to `max_leaves`. Every leaf shows at least 12 pixels
    of a 64 x 64 picture, and as much of a larger one. Labels run from the oldest, lowest leaf to the youngest.

    Args:
        split: "train", "val" or "test"; they share no scene.
        size: `(H, W)` of the pictures, each at least 32.
        min_leaves: fewest leaves of a plant, at least 1.
        max_leaves: most leaves of a plant, at most 20.
        length: number of scenes; by default 4000 for "train" and 200 for "val" and "test".
        seed: a second set of plants for every other number.

    Raises:
        ValueError: an argument is outside of these ranges.
    """

    is_thread_safe = True

    def __init__(
        self,
        split: str = "train",
        size: tuple[int, int] = (64, 64),
        min_leaves: int = 2,
        max_leaves: int = 10,
        length: int | None = None,
        seed: int = 0,
    ) -> None:
        if split not in SPLITS:
            raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
        if len(size) != 2 or min(size) < SMALLEST_SIDE:
            raise ValueError(f"size must be (height, width), each at least {SMALLEST_SIDE}, got {size}")
        counts = {"min_leaves": min_leaves, "max_leaves": max_leaves, "length": length or 0, "seed": seed}
        for name, count in counts.items():
            if not is_count(count, least=-(2**63), most=2**63 - 1):
                raise ValueError(f"{name} must be an int of 64 bits, got {count!r}")
        if not 1 <= min_leaves <= max_leaves:
            raise ValueError(f"min_leaves must be from 1 to max_leaves = {max_leaves}, got {min_leaves}")
        if max_leaves > MOST_LEAVES:
            raise ValueError(f"max_leaves must be at most {MOST_LEAVES}, got {max_leaves}")
        if length is not None and length < 1:
            raise ValueError(f"length must be at least 1, or None for the split's own, got {length}")
        if seed < 0:
            raise ValueError(f"seed must be at least 0, got {seed}")
        self.split = split
        self.size = (int(size[0]), int(size[1]))
        self.min_leaves = min_leaves
        self.max_instances = max_leaves
        self.seed = seed
        self._stream, default_length = SPLITS[split]
        self._length = default_length if length is None else length

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Scene:
        """Draw scene `index`; negative indices count from the end.

        Raises:
            IndexError: the index is out of range.
        """
        if not -self._length <= index < self._length:
            raise IndexError(f"index {index} is out of range for {self._length} scenes")
        index = int(index) % self._length
        rng = np.random.default_rng(np.random.SeedSequence([self.seed, self._stream, index]))
        num_leaves = int(rng.integers(self.min_leaves, self.max_instances + 1))
        plant, labels, shares, label_map = _place_plant(rng, num_leaves, self.size)
        image = _photograph(rng, plant, labels, shares)
        return Scene(image, label_map, f"leaves-{self.split}-{index:05d}")

    def __iter__(self) -> Iterator[Scene]:
        return (self[index] for index in range(len(self)))


@dataclass(frozen=True)
class _Plant:
    """`N` leaves on a canvas of `zoom` times the picture's size, the oldest and lowest first."""

    zoom: int
    outlines: NDArray[np.int32]  # [N, P, 2], (x, y)
    centre: Floats  # [2], (x, y)
    angles: Floats  # [N], direction of the stalk
    lengths: Floats  # [N], from the centre to the tip in canvas pixels
    bends: Floats  # [N], sideways shift of the tip as a share of the length
    half_widths: Floats  # [N], of the blade, as a share of the length
    stalks: Floats  # [N], where the blade begins, as a share of the length


def _place_plant(
    rng: np.random.Generator, num_leaves: int, size: tuple[int, int]
) -> tuple[_Plant, NDArray[np.uint8], Floats, NDArray[np.int32]]:
    """A plant all of whose leaves can be seen, its labels on the canvas, pixel shares and label map.

    A pixel belongs to a leaf where leaves cover at least half of it, and then to the leaf with the most of it.
    """
    for attempt in range(ATTEMPTS):
        # Narrower leaves hide less of each other, so that a crowded plant gets through in the end.
        plant = _grow(rng, num_leaves, size, width=max(0.6, 0.97**attempt))
        labels = np.zeros((size[0] * plant.zoom, size[1] * plant.zoom), np.uint8)
        for label, outline in enumerate(plant.outlines, start=1):
            cv2.fillPoly(labels, [outline], label)
        shares = _pixel_shares(labels, plant.zoom, num_leaves)
        label_map = np.where(shares[..., 0] <= 0.5, shares[..., 1:].argmax(-1) + 1, 0).astype(np.int32)
        if _all_visible(label_map, num_leaves):
            return plant, labels, shares, label_map
    raise RuntimeError(f"found no plant with {num_leaves} visible leaves at {size} in {ATTEMPTS} attempts")


def _grow(rng: np.random.Generator, num_leaves: int, size: tuple[int, int], width: float) -> _Plant:
    """Draw the shape of every leaf and fit the plant into the picture."""
    age = np.linspace(1, 0, num_leaves) if num_leaves > 1 else np.ones(1)
    youngest = np.clip(1.05 - 0.07 * num_leaves, 0.36, 0.95)
    lengths = (youngest + (1 - youngest) * age**0.7) * rng.uniform(0.86, 1.1, num_leaves)
    if 4 < num_leaves <= 12:
        lengths[:2] *= rng.uniform(0.65, 0.9)  # seed leaves stay small
    stalks = rng.uniform(0.12, min(0.2 + 0.05 * num_leaves, 0.5)) * (0.5 + 0.5 * age)
    stalks *= rng.uniform(0.85, 1.15, num_leaves)
    crowding = np.interp(num_leaves, [1, 6, 20], [1.0, 0.95, 0.72])
    half_widths = (1 - stalks) * rng.uniform(0.3, 0.44) * crowding * width
    half_widths *= rng.uniform(0.85, 1.15, num_leaves)
    angles = _directions(rng, num_leaves)
    bends = rng.normal(0, 0.08, num_leaves)

    along, across = _leaf_profiles(rng, stalks, half_widths)
    across = across + bends[:, None] * along**2
    cos, sin = np.cos(angles)[:, None], np.sin(angles)[:, None]
    outlines = np.stack([along * cos - across * sin, along * sin + across * cos], -1) * lengths[:, None, None]

    zoom = 3 if min(size) < 100 else 2  # a large picture has smooth edges with fewer
    canvas = zoom * np.array(size[::-1])
    low, high = outlines.min((0, 1)), outlines.max((0, 1))
    scale = min((canvas / (high - low)).min(), 0.66 * canvas.min()) * rng.uniform(0.87, 1.0)
    slack = canvas - scale * (high - low)
    centre = canvas / 2 - scale * (high + low) / 2 + slack * rng.uniform(-0.25, 0.25, 2)
    shapes = (centre, angles, lengths * scale, bends, half_widths, stalks)
    return _Plant(zoom, np.rint(outlines * scale + centre).astype(np.int32), *(x.astype(np.float32) for x in shapes))


def _directions(rng: np.random.Generator, num_leaves: int) -> NDArray[np.float64]:
    """Angles of the leaves `[N]`: a golden spiral, which may start with two pairs of opposite leaves."""
    angles = np.arange(num_leaves) * GOLDEN_ANGLE
    if num_leaves == 2 or rng.random() < 0.5:
        pairs = np.array([0, np.pi, np.pi / 2, 3 * np.pi / 2])[:num_leaves]
        angles[: len(pairs)] = pairs
        angles[len(pairs) :] += 3 * np.pi / 2 - 3 * GOLDEN_ANGLE
    turn = 1 if rng.random() < 0.5 else -1
    return rng.normal(turn * angles + rng.uniform(0, 2 * np.pi), 0.14)


def _leaf_profiles(
    rng: np.random.Generator, stalks: NDArray[Any], half_widths: NDArray[Any]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Outlines of straight leaves of length 1, up one side and down the other: two `[N, P]`."""
    along = OUTLINE_ALONG
    blade = np.clip((along - stalks[:, None]) / (1 - stalks[:, None]), 0, 1)
    flare, round_tip = rng.uniform(0.7, 1.3), rng.uniform(0.5, 0.72)
    widest = flare / (flare + round_tip)
    profile = blade**flare * (1 - blade) ** round_tip
    profile /= widest**flare * (1 - widest) ** round_tip
    phases = rng.uniform(0, 2 * np.pi, (2, len(stalks), 1))
    waves = rng.uniform(0, 0.08) * np.sin(phases + rng.uniform(8, 26) * along)
    stalk = rng.uniform(0.028, 0.044) * (1 - 0.3 * along) * (along < 0.97)
    left, right = np.maximum(half_widths[:, None] * profile * (1 + waves), stalk)
    along = np.broadcast_to(along, left.shape)
    return np.hstack([along, along[:, ::-1]]), np.hstack([left, -right[:, ::-1]])


def _pixel_shares(labels: NDArray[np.uint8], zoom: int, num_leaves: int) -> Floats:
    """Shares of soil and of every leaf in every pixel of the picture, `[H, W, N + 1]`."""
    height, width = labels.shape[0] // zoom, labels.shape[1] // zoom
    rows, columns = (np.arange(side) // zoom * (num_leaves + 1) for side in labels.shape)
    bins = (rows[:, None] * width + columns) + labels
    counts = np.bincount(bins.ravel(), minlength=height * width * (num_leaves + 1))
    return counts.reshape(height, width, num_leaves + 1).astype(np.float32) / np.float32(zoom**2)


def _all_visible(label_map: NDArray[np.int32], num_leaves: int) -> bool:
    """Whether every leaf has a connected part that is large, not a mere sliver, and two thirds of the leaf."""
    side = min(label_map.shape)
    labels = label_map.astype(np.uint8)
    smallest_core = np.ones((2 * round(SLIVER * side) + 1,) * 2, np.uint8)
    cores = labels[cv2.erode(labels, smallest_core) == cv2.dilate(labels, smallest_core)]
    if np.bincount(cores, minlength=num_leaves + 1)[1:].min() == 0:
        return False
    for label in range(1, num_leaves + 1):
        leaf = (labels == label).view(np.uint8)
        parts = cv2.connectedComponentsWithStats(leaf)[2][1:, cv2.CC_STAT_AREA]
        if parts.max() < max(SMALLEST_AREA * side**2, parts.sum() * 2 / 3):
            return False
    return True


def _photograph(
    rng: np.random.Generator, plant: _Plant, labels: NDArray[np.uint8], shares: Floats
) -> NDArray[np.uint8]:
    """Light the plant, put it on soil and take its picture, `[3, H, W]`."""
    height, width, _ = shares.shape
    light, pale = _light_plant(rng, plant, labels)
    soil = (labels == 0).astype(np.float32)
    parts = (light * soil, light * (1 - soil), pale)
    soil_light, leaf_light, pale = (_shrink(part, plant.zoom) for part in parts)
    # Colours are mixed by the leaves' shares of a pixel first and lit second: few operations touch the canvas.
    covered = np.maximum(1 - shares[..., :1], 1e-3)
    leaf = shares[..., 1:] @ _leaf_colours(rng, len(plant.lengths))
    leaf += pale * (PALE_GREEN - leaf / covered)
    leaf *= leaf_light / covered * (1 + 0.06 * _noise(rng, (height, width), 150))
    return _expose(rng, leaf + _background(rng, (height, width)) * soil_light)


def _shrink(canvas: Floats, zoom: int) -> Floats:
    """Means of the canvas over the picture's pixels, `[H, W, 1]`."""
    size = (canvas.shape[1] // zoom, canvas.shape[0] // zoom)
    return np.asarray(cv2.resize(canvas, size, interpolation=cv2.INTER_AREA)[..., None], np.float32)


def _light_plant(rng: np.random.Generator, plant: _Plant, labels: NDArray[np.uint8]) -> tuple[Floats, Floats]:
    """Brightness and paleness of the whole canvas, `[H, W]` each; soil is 1 without shadow, and not pale."""
    sun, strength, veins = rng.uniform(0, 2 * np.pi), rng.uniform(0.5, 0.75), rng.uniform(0.1, 0.4)
    light = _cast_shadows(plant, labels, sun, strength)
    pale = np.zeros(labels.shape, np.float32)
    inside = np.flatnonzero(labels)
    shade, pale.ravel()[inside] = _shade_blades(plant, labels, inside, sun, veins)
    light.ravel()[inside] *= shade
    return light, pale


def _cast_shadows(plant: _Plant, labels: NDArray[np.uint8], sun: float, strength: float) -> Floats:
    """Light that every leaf leaves to the soil and to the leaves below it, `[H, W]` of the canvas, in [0, 1]."""
    light = np.ones(labels.shape, np.float32)
    reach = int(0.022 * min(labels.shape)) + 1
    shift = np.rint(-0.5 * reach * np.array([np.cos(sun), np.sin(sun)])).astype(np.int32)
    for label, outline in enumerate(plant.outlines, start=1):
        low = np.maximum(outline.min(0) - 2 * reach, 0)
        high = np.minimum(outline.max(0) + 2 * reach, labels.shape[::-1])
        window = np.s_[low[1] : high[1], low[0] : high[0]]
        shadow = np.zeros((high - low)[::-1], np.uint8)
        cv2.fillPoly(shadow, [outline - low + shift], int(255 * strength))
        shadow = np.asarray(cv2.blur(shadow, (2 * reach + 1,) * 2), np.uint8)
        shadow = np.asarray(cv2.blur(shadow, (reach + 1,) * 2), np.uint8)
        shadow *= labels[window] < label
        light[window] *= 1 - shadow * np.float32(1 / 255)
    return light


def _shade_blades(
    plant: _Plant, labels: NDArray[np.uint8], inside: NDArray[np.int64], sun: float, veins: float
) -> tuple[Floats, Floats]:
    """Brightness and paleness, without shadows, of the canvas pixels at the flat indices `inside`."""
    widths = plant.half_widths * plant.lengths
    cos, sin = np.cos(plant.angles) / plant.lengths, np.sin(plant.angles) / plant.lengths
    towards, sideways = np.cos(sun - plant.angles), np.sin(sun - plant.angles)
    table = np.stack([cos, sin, plant.bends, plant.half_widths, plant.stalks, widths, towards, sideways], 1)
    owner = labels.ravel()[inside] - 1
    cos, sin, bends, half_widths, stalks, widths, towards, sideways = table[owner].T.copy()

    y, x = (offset.astype(np.float32) for offset in np.divmod(inside.astype(np.int32), labels.shape[1]))
    x, y = x - plant.centre[0], y - plant.centre[1]
    along = x * cos + y * sin  # 0 at the centre of the plant, 1 at the tip
    across = (y * cos - x * sin - bends * along * along) / half_widths  # 0 on the midrib, 1 at the margin
    aside = np.abs(across)
    borders = cv2.morphologyEx(labels, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) == 0
    edge = cv2.distanceTransform(borders.astype(np.uint8), cv2.DIST_L2, 3).ravel()[inside]
    edge = np.minimum(edge / (0.35 * widths), 1)

    ribs = np.cos(40 * along - 60 * half_widths * aside)  # side veins run from the midrib towards the tip
    shade = 0.68 + (0.3 + 0.05 * ribs) * edge
    # The two halves of a blade are tilted a little against each other, as in an open book.
    shade += sideways * (0.15 * across + 0.08 * np.clip(8 * across, -1, 1)) + 0.2 * towards * (along - 0.6)
    shade *= np.minimum(0.65 + 1.1 * along, 1)  # little light reaches the centre of the rosette
    midrib = np.maximum(1 - aside * half_widths / (0.03 * (1.35 - along)), 0)
    pale = midrib * (0.6 - (0.6 - veins) * np.clip((along - stalks) * 8, 0, 1))
    return shade, pale + 0.2 * veins * np.maximum(ribs - 0.5, 0)


def _leaf_colours(rng: np.random.Generator, num_leaves: int) -> Floats:
    """Colour of every leaf, `[N, 3]` in [0, 1]."""
    dark, fresh, grey = np.array([[0.25, 0.42, 0.13], [0.55, 0.72, 0.25], [0.42, 0.55, 0.36]])
    plant: NDArray[np.float64] = dark + rng.uniform(0.15, 0.75) * (fresh - dark)
    plant += rng.uniform(0, 0.5) * (grey - plant)
    youth = np.linspace(0, 1, num_leaves)[:, None]
    leaf: NDArray[np.float64] = plant + (0.35 * youth + rng.normal(0, 0.12, (num_leaves, 1))) * (fresh - dark)
    leaf *= rng.uniform(0.85, 1.15, (num_leaves, 1)) * rng.uniform(0.96, 1.04, (num_leaves, 3))
    if rng.random() < 0.15:
        leaf[0] += rng.uniform(0.3, 0.8) * (np.array([0.68, 0.6, 0.2]) - leaf[0])  # the oldest leaf yellows
    return leaf.astype(np.float32)


def _background(rng: np.random.Generator, size: tuple[int, ...]) -> Floats:
    """Soil with moss and crumbs, perhaps in a pot on a tray, `[H, W, 3]` in [0, 1]."""
    brown = np.array([0.27, 0.21, 0.16]) * rng.uniform(0.7, 1.4) + rng.normal(0, 0.008, 3)
    green = np.array([0.27, 0.34, 0.13]) * rng.uniform(0.7, 1.2)
    moss = np.clip(0.6 * _noise(rng, size, 120) + rng.uniform(-1.6, 0.4), 0, 0.8)
    fine = _noise(rng, size, 512)
    grain = 1 + rng.uniform(0.12, 0.25) * fine + 0.1 * _noise(rng, size, 100)
    crumbs = np.clip(fine - rng.uniform(1.6, 3), 0, 1) * rng.uniform(0, 0.5)
    soil, plants = brown.astype(np.float32), green.astype(np.float32)
    ground: Floats = (soil + moss * (plants - soil)) * grain + crumbs
    if rng.random() < 0.45:
        _add_pot(rng, ground)
    return np.maximum(ground, 0.02)


def _add_pot(rng: np.random.Generator, ground: Floats) -> None:
    """Draw in place the rim of a round or a square pot and the tray around it."""
    height, width = ground.shape[:2]
    side = min(height, width)
    x = ((np.arange(width) - width * rng.uniform(0.46, 0.54)) / side).astype(np.float32)
    y = ((np.arange(height) - height * rng.uniform(0.46, 0.54)) / side).astype(np.float32)[:, None]
    distance = np.hypot(x, y) if rng.random() < 0.6 else np.maximum(np.abs(x), np.abs(y))
    outside = (distance - rng.uniform(0.4, 0.56))[..., None]
    tray = np.clip(outside * side + 0.5, 0, 1)
    rim = tray * np.clip((rng.uniform(0.02, 0.05) - outside) * side + 0.5, 0, 1)
    tray_colour = rng.uniform(0.08, 0.5) + rng.normal(0, 0.015, 3)
    rim_colour = rng.choice([0.12, 0.4, 0.65]) * rng.uniform(0.8, 1.2) + rng.normal(0, 0.02, 3)
    ground *= 1 - 0.4 * np.clip(1 + outside * 12, 0, 1)  # the rim shades the soil
    ground += 0.85 * tray * (tray_colour.astype(np.float32) - ground)
    ground += rim * (rim_colour.astype(np.float32) - ground)


def _expose(rng: np.random.Generator, image: Floats) -> NDArray[np.uint8]:
    """Light, blur and noise of the camera: `[H, W, 3]` in [0, 1] to `[3, H, W]` in [0, 255]."""
    height, width = image.shape[:2]
    vertical, horizontal = (rng.uniform(-0.3, 0.3) * (np.arange(side) / side - 0.5) for side in (height, width))
    light = rng.uniform(0.9, 1.25) * (1 + vertical[:, None] + horizontal)
    image = image * light.astype(np.float32)[..., None] * rng.uniform(0.94, 1.06, 3).astype(np.float32)
    blur = rng.uniform(0.2, 0.55) * max(1.0, min(height, width) / 150)
    if blur > 0.3:
        cv2.GaussianBlur(image, (0, 0), blur, dst=image)
    image += np.float32(rng.uniform(0.004, 0.02)) * rng.standard_normal(image.shape, np.float32)
    pixels = (255 * np.clip(image, 0, 1) + 0.5).astype(np.uint8)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _noise(rng: np.random.Generator, size: tuple[int, ...], span: int) -> Floats:
    """A random part of the noise tile, `span` of its pixels along the shorter side, `[H, W, 1]`."""
    tile = noise_tile()
    stride = max(1, span // min(size))  # without averaging: soil stays grainy in a small picture
    rows, columns = (
        stride * np.arange(-(-side * span // min(size) // stride)) + rng.integers(len(tile)) for side in size
    )
    part = tile[rows % len(tile)][:, columns % len(tile)]
    resized = cv2.resize(part, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)
    return np.asarray(resized[..., None], np.float32)
