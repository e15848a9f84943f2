"""Files that are taken away from a session."""

import numpy as np
import pytest
from PIL import Image

from acis_env.rendering import overlay
from agents.watch.exports import EXPORTS
from agents.watch.session import Session


@pytest.fixture
def session(agent, plant):
    """Three masks in a picture that is larger than the networks."""
    large = [np.ascontiguousarray(x.repeat(2, -1).repeat(3, -2)) for x in (plant.image, plant.label_map)]
    found = Session(agent, *large)
    for _ in range(3):
        found.accept()
    return found


def export(session, folder):
    for name, write in EXPORTS.items():
        write(session, folder / name)
    return {name: Image.open(folder / name) for name in EXPORTS}


def test_the_exported_label_map_is_the_shown_one_in_16_bits(session, tmp_path):
    file = export(session, tmp_path)["label_map.png"]
    assert file.mode == "I;16"
    assert np.array_equal(np.array(file), session.label_map())
    assert np.array(file).max() > 0


def test_the_order_picture_is_the_picture_with_its_masks(session, tmp_path):
    drawn = np.array(export(session, tmp_path)["order.png"])
    assert np.array_equal(drawn, overlay(session.image, session.label_map()))
    background = session.label_map() == 0
    assert np.array_equal(drawn[background], session.image.transpose(1, 2, 0)[background])


@pytest.mark.parametrize("is_known", [True, False])
def test_the_gif_has_a_frame_for_every_step_of_the_episode(session, is_known, tmp_path):
    if not is_known:
        blind = Session(session.agent, session.image)
        for _ in range(3):
            blind.accept()
        session = blind
    assert export(session, tmp_path)["episode.gif"].n_frames == 4


def test_a_session_without_masks_is_exported_too(agent, plant, tmp_path):
    for truth in (None, plant.label_map):
        session = Session(agent, plant.image, truth)
        files = export(session, tmp_path)
        assert np.array(files["label_map.png"]).max() == 0
        assert np.array_equal(np.array(files["order.png"]), plant.image.transpose(1, 2, 0))
