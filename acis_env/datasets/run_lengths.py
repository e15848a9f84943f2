"""Run-length encoded masks of COCO, decoded with every length checked.

Lin et al., "Microsoft COCO: Common Objects in Context", ECCV 2014. Runs alternate between outside and inside, beginning
outside, down the columns. In the compressed form each length from the third on is its difference to the last but one;
numbers are written five bits at a time, the lowest first, in characters from `0` on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

MORE, SIGN = 0x20, 0x10
"""Bits of a character: whether another one of the same number follows, and whether the number is negative."""
LONGEST = 40
"""Bits of a number before its last character."""


def decode_runs(runs: Mapping[str, Any], size: tuple[int, int]) -> NDArray[np.bool_]:
    """The mask `[H, W]` of `{"size": [H, W], "counts": lengths}`, the lengths being a list or compressed text.

    Raises:
        ValueError: it is of another size, or the lengths are no numbers of pixels that add up to it.
    """
    if runs.get("size") != list(size):
        raise ValueError(
            f"size of the runs must be that of the image, {list(size)} (height, width), got {runs.get('size')!r}"
        )
    counts = runs.get("counts")
    lengths = _decompressed(counts) if isinstance(counts, str) else counts
    if not isinstance(lengths, list) or not all(type(length) is int and length >= 0 for length in lengths):
        raise ValueError(
            f"counts must be lengths of runs, as text or a list of ints from 0 on, got {str(counts)[:40]!r}"
        )
    if sum(lengths) != size[0] * size[1]:
        raise ValueError(f"runs must add up to {size[0] * size[1]} pixels, got {sum(lengths)}")
    is_inside = np.arange(len(lengths)) % 2 == 1
    return np.repeat(is_inside, lengths).reshape(size[::-1]).T


def _decompressed(text: str) -> list[int]:
    lengths: list[int] = []
    number = shift = 0
    for character in text:
        bits = ord(character) - ord("0")
        if not 0 <= bits < 2 * MORE or shift > LONGEST:
            raise ValueError(f"counts must be numbers in the characters 0 to o, got {character!r} in {text[:20]!r}")
        number |= (bits & (MORE - 1)) << shift
        shift += 5
        if not bits & MORE:
            number -= 2 * (number & (SIGN << shift - 5))
            lengths.append(number + (lengths[-2] if len(lengths) > 2 else 0))
            number = shift = 0
    if shift:
        raise ValueError(f"counts must be whole, but their text ends within a number: {text[-10:]!r}")
    return lengths
