"""What the page shows of a session, as JSON."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
from PIL import Image

from acis_env.rendering import Picture, overlay
from acis_env.rendering.episode import picture
from agents.watch.session import FARTHEST, NUM_DIRECTIONS, Candidate, Session

LONGEST_SIDE = 1024
"""Pixels to which a picture is thinned out on the page; exports have all of it."""


def view(session: Session) -> dict[str, Any]:
    """All that the page shows of the moment that a session is in. Numbers that are not known are None."""
    now, (height, width) = session.now, session.size
    stride = -(-max(session.size) // LONGEST_SIDE)
    thinned = np.ascontiguousarray(session.image[:, ::stride, ::stride])
    return {
        "size": [height, width],
        "picture": data_url(overlay(thinned, session.label_map()[::stride, ::stride])),
        "step": session.step,
        "max_steps": session.max_steps,
        "continue_probability": now.continue_probability,
        "agent_stops": session.agent_stops,
        "num_instances": session.num_instances,
        "potential": session.potential,
        "rewards": [moment.reward for moment in session.history[1:]],
        "candidates": [_candidate(session, candidate) for candidate in now.candidates],
        "directions": min(NUM_DIRECTIONS, session.agent.decoder.latent_size),
        "farthest": FARTHEST,
    }


def _candidate(session: Session, candidate: Candidate) -> dict[str, Any]:
    image, _ = picture(session.now.state)
    mask = candidate.mask >= session.agent.composition.threshold
    drawn = data_url(overlay(image, mask.astype(np.int32)))
    return {"kind": candidate.kind, "value": candidate.value, "reward": candidate.reward, "picture": drawn}


def data_url(drawn: Picture) -> str:
    """A picture `[H, W, 3]` uint8 as an address that holds all of it."""
    stream = io.BytesIO()
    Image.fromarray(drawn).save(stream, format="PNG", compress_level=1)
    return f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}"
