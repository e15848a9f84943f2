"""Bounds of what may be uploaded."""

import io

import numpy as np
import pytest
from PIL import Image

from agents.watch import uploads
from agents.watch.uploads import read_upload


def png(pixels):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="PNG")
    return stream.getvalue()


def test_an_upload_is_read_as_the_picture_that_it_is():
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    assert np.array_equal(read_upload("a.png", png(pixels)), pixels)


def test_a_file_of_too_many_bytes_is_refused_although_it_is_a_picture(monkeypatch):
    content = png(np.zeros((4, 4, 3), np.uint8))
    monkeypatch.setattr(uploads, "MOST_BYTES", len(content))
    read_upload("a.png", content)
    with pytest.raises(ValueError, match="must have at most 0 MB, and this file has more"):
        read_upload("a.png", content + b"\0")


def test_a_picture_of_too_many_pixels_is_refused_by_its_header(monkeypatch):
    monkeypatch.setattr(uploads, "MOST_PIXELS", 2_000_000)
    read_upload("a.png", png(np.zeros((1000, 2000), np.uint8)))
    broken = png(np.zeros((1000, 2001), np.uint8))[:60]  # its pixels are missing
    with pytest.raises(ValueError, match=r"^a.png must have at most 2 million pixels, got 1000x2001"):
        read_upload("a.png", broken)


@pytest.mark.parametrize(
    "content",
    [b"", b"no picture", png(np.random.default_rng(0).integers(0, 256, (9, 9, 3), dtype=np.uint8))[:100]],
    ids=["empty", "text", "cut off"],
)
@pytest.mark.parametrize("name", ["plant.png", "../../etc/plant.png", "/plant.png"])
def test_what_is_no_picture_is_refused_in_one_line_that_begins_with_the_files_name(content, name):
    with pytest.raises(ValueError, match=r"^plant\.png cannot be (opened|decoded)") as caught:
        read_upload(name, content)
    assert "\n" not in str(caught.value)
    assert "/tmp" not in str(caught.value)


@pytest.mark.parametrize("name", ["", "..", "/", "~", "ü" * 300 + ".png", "\U0001d49c" * 79 + "a.png"])
def test_any_name_of_a_file_will_do(name):
    assert read_upload(name, png(np.zeros((3, 3, 3), np.uint8))).shape == (3, 3, 3)
