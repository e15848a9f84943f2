"""A scene and an episode to draw."""

import numpy as np

from acis_env.rendering import episode_frame


def scene(height=20, width=30, num_instances=3):
    """A noisy image and vertical stripes as instances, with background between them."""
    image = np.random.default_rng(0).integers(0, 256, (3, height, width), dtype=np.uint8)
    label_map = np.zeros((height, width), np.int32)
    for label in range(1, num_instances + 1):
        start = (label - 1) * width // num_instances
        label_map[4:-4, start + 1 : start + width // num_instances - 1] = label
    return image, label_map


def episode(num_instances=3, **options):
    image, label_map = scene(num_instances=num_instances)
    return [
        episode_frame(image, label_map, label_map * (label_map <= step), step, num_instances, 0.9 * step, **options)
        for step in range(num_instances + 1)
    ]
