"""What tests of data sets compare."""

import numpy as np
import pytest


@pytest.fixture
def assert_same_scenes():
    """A function that wants scenes equal, in this order: names, pixels and labels."""

    def check(found, expected):
        assert [scene.name for scene in found] == [scene.name for scene in expected]
        for scene, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(scene.image, other.image)
            np.testing.assert_array_equal(scene.label_map, other.label_map)

    return check
