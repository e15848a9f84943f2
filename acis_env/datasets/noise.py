"""Noise that looks like soil, asphalt, leaves or clouds, depending on how much of it is shown."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray


@lru_cache(maxsize=1)
def noise_tile() -> NDArray[np.float32]:
    """Cloudy noise that repeats without seams, `[512, 512]` of mean 0 and deviation 1."""
    rng = np.random.default_rng(0)
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(512), np.fft.rfftfreq(512), indexing="ij"))
    frequency[0, 0] = np.inf
    spectrum = np.fft.rfft2(rng.standard_normal((512, 512))) / np.maximum(frequency, 0.02) ** 0.9
    tile = np.fft.irfft2(spectrum)
    return np.asarray(tile / tile.std(), np.float32)
