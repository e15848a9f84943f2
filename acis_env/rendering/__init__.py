"""Pictures of scenes and episodes: arrays in, uint8 RGB arrays or files out, without a window.

Predicted masks are coloured by their order as in Araslanov et al., "Actor-Critic Instance Segmentation", CVPR 2019,
Fig. 4: blue is the first, red the last. True instances have no order; they get muted colours."""

from acis_env.rendering.colours import (
    Picture,
    colour_by_order,
    colour_instances,
    instance_colours,
    order_colours,
    overlay,
)
from acis_env.rendering.episode import episode_frame
from acis_env.rendering.files import plot_curves, write_gif, write_png
from acis_env.rendering.sheets import contact_sheet

__all__ = [
    "Picture",
    "colour_by_order",
    "colour_instances",
    "contact_sheet",
    "episode_frame",
    "instance_colours",
    "order_colours",
    "overlay",
    "plot_curves",
    "write_gif",
    "write_png",
]
