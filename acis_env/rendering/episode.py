"""Frames of episodes under way."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from acis_env.dynamics import EnvState, label_prediction
from acis_env.rendering.frames import episode_frame
from acis_env.rendering.pictures import Picture


def frame(episode: EnvState, threshold: float) -> Picture:
    """`episode_frame` of one episode, `B = 1`."""
    prediction = label_prediction(episode, threshold)[0].numpy(force=True)
    step, count, potential = int(episode.step_count), int(episode.num_instances), float(episode.potential)
    return episode_frame(*picture(episode), prediction, step, count, potential)


def picture(episode: EnvState) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """Image `[3, H, W]` and label map `[H, W]` of one episode, `B = 1`."""
    image = (episode.context[0, :3] * 255).round().byte().numpy(force=True)
    return image, episode.label_map[0].int().numpy(force=True)
