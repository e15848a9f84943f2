"""Pictures of scenes and episodes: arrays in, uint8 RGB arrays or files out, without a window."""

from acis_env.rendering.charts import draw_histograms, plot_curves
from acis_env.rendering.colours import colour_by_order, colour_instances, instance_colours, order_colours, overlay
from acis_env.rendering.files import write_gif, write_png
from acis_env.rendering.frames import episode_frame
from acis_env.rendering.overview import draw_overview
from acis_env.rendering.pictures import Picture
from acis_env.rendering.sheets import contact_sheet

__all__ = [
    "Picture",
    "colour_by_order",
    "colour_instances",
    "contact_sheet",
    "draw_histograms",
    "draw_overview",
    "episode_frame",
    "instance_colours",
    "order_colours",
    "overlay",
    "plot_curves",
    "write_gif",
    "write_png",
]
