"""The hand-made scenes in three slots."""

import pytest

from acis_env import SegmentationVectorEnv


@pytest.fixture
def make_vec(pretrained, scenes):
    """A function that opens the hand-made scenes in three slots; episodes have 1 to 4 steps."""

    def make(kind=SegmentationVectorEnv, **options):
        return kind(3, **{"scenes": scenes, "weights": pretrained, "obs": "coarse", **options})

    return make
