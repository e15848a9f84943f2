"""What is taken away from a session: its label map, a picture of the order, and the episode as a GIF."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from acis_env.dynamics import label_prediction
from acis_env.files import replacing
from acis_env.rendering import Picture, contact_sheet, overlay, write_gif, write_png
from acis_env.rendering.episode import frame, picture
from agents.watch.session import Session


def write_label_map(session: Session, path: Path) -> None:
    """The label map at the picture's own size, 16 bits, 0 = background."""
    with replacing(path) as unfinished:
        Image.fromarray(session.label_map().astype(np.uint16)).save(unfinished, format="PNG")


def write_order(session: Session, path: Path) -> None:
    """The picture with its masks, whose colours are their order, blue the first."""
    write_png(path, overlay(session.image, session.label_map()))


def write_episode(session: Session, path: Path) -> None:
    """The episode mask by mask, at the size of the networks; with the truth beside it where that is known."""
    steps = range(session.step + 1)
    write_gif(path, [_frame_without_truth(session, t) if session.truth is None else _frame(session, t) for t in steps])


EXPORTS: dict[str, Callable[[Session, Path], None]] = {
    "label_map.png": write_label_map,
    "order.png": write_order,
    "episode.gif": write_episode,
}
"""What can be had of a session, by the name of its file."""


def _frame(session: Session, step: int) -> Picture:
    return frame(session.history[step].state, session.agent.composition.threshold)


def _frame_without_truth(session: Session, step: int) -> Picture:
    state = session.history[step].state
    image, _ = picture(state)
    labels = label_prediction(state, session.agent.composition.threshold)[0].numpy(force=True)
    panels = [image.transpose(1, 2, 0), overlay(image, labels, num_colours=session.step)]
    return contact_sheet([panels], ("image", "masks"), [f"step {step}"])
