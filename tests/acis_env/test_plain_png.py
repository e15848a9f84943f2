"""What is read without Pillow is what Pillow reads, and whatever is unusual or damaged is left to it."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from acis_env import pictures
from acis_env.pictures import Reading
from acis_env.plain_png import SIGNATURE, plain_grey, plain_size

RNG = np.random.default_rng(0)
NOISE = RNG.integers(0, 256, (9, 14), dtype=np.uint8)
BLOCKS = np.kron(RNG.integers(0, 5, (5, 7)), np.ones((20, 30))).astype(np.uint8)


def turned():
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def save(path, picture, **options):
    picture.save(path, format="PNG", **options)
    return path


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


@pytest.mark.parametrize("pixels", [NOISE, BLOCKS, NOISE[:1, :1], NOISE[:, :1], NOISE[:1]])
@pytest.mark.parametrize("options", [{}, {"compress_level": 0}, {"dpi": (72, 72)}, {"optimize": True}])
def test_grey_pictures_are_read_as_pillow_reads_them(tmp_path, pixels, options):
    path = save(tmp_path / "a.png", Image.fromarray(pixels), **options)
    np.testing.assert_array_equal(plain_grey(path), np.asarray(Image.open(path)))
    assert plain_size(path) == pixels.shape


def test_a_picture_in_several_chunks_of_pixels_is_read(tmp_path):
    pixels = RNG.integers(0, 256, (600, 700), dtype=np.uint8)
    path = save(tmp_path / "a.png", Image.fromarray(pixels))
    assert path.read_bytes().count(b"IDAT") > 1
    np.testing.assert_array_equal(plain_grey(path), pixels)
    assert plain_size(path) == (600, 700)


OTHERS = {
    "palette": (Image.fromarray(BLOCKS, mode="P"), {}, True),
    "colour": (Image.fromarray(np.stack([NOISE] * 3, 2)), {}, True),
    "alpha": (Image.fromarray(np.stack([NOISE] * 2, 2), mode="LA"), {}, True),
    "16 bits": (Image.fromarray(NOISE.astype(np.uint16) * 200), {}, True),
    "one bit": (Image.fromarray(NOISE > 100), {}, True),
    "turned": (Image.fromarray(NOISE), {"exif": turned()}, False),
    "transparent": (Image.fromarray(NOISE), {"transparency": 3}, False),
    "several pages": (Image.fromarray(NOISE), {"save_all": True, "append_images": [Image.fromarray(NOISE + 1)]}, False),
}


@pytest.mark.parametrize(("picture", "options", "has_plain_size"), OTHERS.values(), ids=OTHERS)
def test_other_pictures_are_left_to_pillow(tmp_path, picture, options, has_plain_size):
    path = save(tmp_path / "a.png", picture, **options)
    assert plain_grey(path) is None
    assert plain_size(path) == ((picture.height, picture.width) if has_plain_size else None)


@pytest.mark.parametrize(
    ("picture", "options"), [(Image.fromarray(BLOCKS), {}), *(other[:2] for other in OTHERS.values())]
)
def test_sizes_and_label_maps_are_those_of_pillow_whatever_the_kind(tmp_path, monkeypatch, picture, options):
    path = save(tmp_path / "a.png", picture, **options)

    def outcomes():
        found = []
        for read in (Reading().size, Reading(page=0).size, Reading(page=1).size, Reading(ignore=3).label_map):
            try:
                found.append(np.asarray(read(path)).tolist())
            except ValueError as error:
                found.append(str(error))
        return found

    plain = outcomes()
    for name in ("plain_size", "plain_grey"):
        monkeypatch.setattr(pictures, name, lambda path: None)
    assert plain == outcomes()


def test_a_damaged_file_is_left_to_pillow_wherever_it_is_damaged(tmp_path):
    file = io.BytesIO()
    Image.fromarray(NOISE).save(file, format="PNG")
    data, path = file.getvalue(), tmp_path / "a.png"
    for place in range(len(data)):
        path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        assert plain_grey(path) is None
        assert plain_size(path) in (None, NOISE.shape)
        path.write_bytes(data[:place])
        assert plain_grey(path) is None
        assert plain_size(path) in (None, NOISE.shape)
    path.write_bytes(data)
    assert plain_grey(path) is not None


@pytest.mark.parametrize("length", [0, 90, 134, 135, 150])
@pytest.mark.parametrize("cut", [0, 1, 5])
def test_pixels_that_were_wrong_from_the_beginning_are_whatever_pillow_makes_of_them(tmp_path, length, cut):
    header = struct.pack(">IIBBBBB", 14, 9, 8, 0, 0, 0, 0)
    stream = zlib.compress(bytes(length))
    path = tmp_path / "a.png"
    content = chunk(b"IHDR", header) + chunk(b"IDAT", stream[: len(stream) - cut]) + chunk(b"IEND", b"")
    path.write_bytes(SIGNATURE + content)
    try:
        expected = np.asarray(Image.open(path))
    except OSError:
        with pytest.raises(ValueError, match=r"a\.png cannot be decoded"):
            Reading().label_map(path)
    else:
        np.testing.assert_array_equal(Reading().label_map(path), expected)


def test_what_is_too_large_or_begins_with_much_else_is_left_to_pillow(tmp_path, monkeypatch):
    path = save(tmp_path / "a.png", Image.fromarray(NOISE))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", NOISE.size - 1)
    assert plain_size(path) is None
    assert plain_grey(path) is None
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert plain_size(path) == NOISE.shape
    text = PngImagePlugin.PngInfo()
    text.add_text("about", "a" * 5000)
    path = save(tmp_path / "b.png", Image.fromarray(NOISE), pnginfo=text)
    assert plain_size(path) is None
    np.testing.assert_array_equal(plain_grey(path), NOISE)


def test_a_file_that_is_not_there_or_no_png_is_left_to_pillow(tmp_path):
    (tmp_path / "text.png").write_text("text")
    Image.fromarray(NOISE).save(tmp_path / "other.png", format="BMP")
    for name in ("none.png", "text.png", "other.png", "."):
        assert plain_size(tmp_path / name) is None
        assert plain_grey(tmp_path / name) is None
