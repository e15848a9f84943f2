"""Folders of pairs for tests of what is read from them, and what tests of data sets compare."""

import numpy as np
import pytest
from PIL import Image


def write_pairs(folder, count, size=(40, 48), seed=0):
    """Write `count` pairs of noise with three to five rectangles."""
    folder.mkdir(exist_ok=True)
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        label_map = np.zeros(size, np.uint8)
        for label in range(1, 4 + number % 3):
            top, left = (label - 1) // 3 * 20, (label - 1) % 3 * 16
            label_map[top + 1 : top + rng.integers(8, 18), left + 1 : left + rng.integers(8, 15)] = label
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(folder / f"{number:04d}_rgb.png")
        Image.fromarray(label_map).save(folder / f"{number:04d}_label.png")
    return folder


@pytest.fixture(name="write_pairs")
def write_pairs_fixture():
    return write_pairs


@pytest.fixture
def folder(tmp_path):
    """A folder of twelve pairs of 40x48."""
    return write_pairs(tmp_path / "pairs", 12)


@pytest.fixture
def assert_same_scenes():
    """A function that wants scenes equal, in this order: names, pixels and labels."""

    def check(found, expected):
        assert [scene.name for scene in found] == [scene.name for scene in expected]
        for scene, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(scene.image, other.image)
            np.testing.assert_array_equal(scene.label_map, other.label_map)

    return check
