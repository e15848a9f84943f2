"""What the pixels of a file mean, whatever its type: ramps of known shades, and labels of known instances."""

import struct
import warnings

import cv2
import numpy as np
import pytest
from PIL import Image

from acis_env import pictures
from acis_env.pictures import Reading

READ = Reading()
RAMP = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64) * 16
SHADES = np.rint(RAMP / 257).astype(np.uint8)
UPRIGHT = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)


@pytest.fixture(autouse=True)
def _nothing_said(monkeypatch):
    monkeypatch.setattr(pictures, "_said", set())


def save(path, array, **options):
    Image.fromarray(array).save(path, **options)
    return path


def camera(path, orientation, pixels=UPRIGHT):
    """A picture whose sensor was turned so that it is upright only by its EXIF orientation."""
    undo = {6: lambda a: np.rot90(a), 8: lambda a: np.rot90(a, -1), 3: lambda a: np.rot90(a, 2), 2: np.fliplr}
    undo |= {4: np.flipud, 5: lambda a: a.swapaxes(0, 1), 7: lambda a: np.rot90(a, 2).swapaxes(0, 1), 1: lambda a: a}
    exif = Image.Exif()
    exif[274] = orientation
    return save(path, np.ascontiguousarray(undo[orientation](pixels)), exif=exif)


def tiff_of_16_bit_colours(path, pixels, orientation=1):
    """A small uncompressed TIFF, written by hand: no library here writes this kind with an orientation."""
    height, width = pixels.shape[:2]
    tags = [(256, 3, width), (257, 3, height), (259, 3, 1), (262, 3, 2), (274, 3, orientation), (277, 3, 3)]
    bits, data = 8, 14
    tags += [(258, 3, bits), (273, 4, data), (278, 3, height), (279, 4, pixels.nbytes), (284, 3, 1)]
    directory = data + pixels.nbytes
    entries = [struct.pack("<HHII", tag, kind, 3 if tag == 258 else 1, value) for tag, kind, value in sorted(tags)]
    body = struct.pack("<2sHI3H", b"II", 42, directory, 16, 16, 16) + pixels.astype("<u2").tobytes()
    path.write_bytes(body + struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4))
    return path


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.pgm"])
def test_16_bit_grey_keeps_its_shades_and_the_log_says_how_once(tmp_path, caplog, name):
    for _ in range(2):
        picture = READ.picture(save(tmp_path / name, RAMP))
        np.testing.assert_array_equal(picture, np.repeat(SHADES[..., None], 3, axis=2))
    assert caplog.text.count("uint16 values from 0 to 65535 become 0 to 255") == 1
    assert name in caplog.text


def test_a_big_endian_tiff_is_read_as_one_of_ones_own(tmp_path):
    Image.frombytes("I;16B", (64, 64), RAMP.astype(">u2").tobytes()).save(tmp_path / "a.tif")
    np.testing.assert_array_equal(READ.picture(tmp_path / "a.tif")[..., 0], SHADES)


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_16_bit_colours_are_read_as_deep_as_they_are(tmp_path, name):
    deep = np.stack([RAMP, RAMP[::-1], RAMP // 2], axis=2)
    cv2.imwrite(str(tmp_path / name), deep[..., ::-1])
    np.testing.assert_array_equal(READ.picture(tmp_path / name), np.rint(deep / 257).astype(np.uint8))
    dark = Reading(percentiles=(0, 100)).picture(tmp_path / name)
    np.testing.assert_allclose(dark, deep / deep.max() * 255, atol=0.51)


def test_floats_from_0_to_1_are_shades_and_others_need_percentiles(tmp_path):
    whole = save(tmp_path / "a.tif", (RAMP / 65520).astype(np.float32))
    np.testing.assert_allclose(READ.picture(whole)[..., 0], RAMP / 65520 * 255, atol=0.51)
    for array in (RAMP.astype(np.float32), RAMP.astype(np.int32), RAMP.astype(np.int32) - 5):
        path = save(tmp_path / "b.tif", array)
        with pytest.raises(ValueError, match=r"b\.tif holds .* values from .* to .*: give percentiles"):
            READ.picture(path)
        np.testing.assert_allclose(
            Reading(percentiles=(0, 100)).picture(path)[..., 0], RAMP / RAMP.max() * 255, atol=0.51
        )
    with pytest.raises(ValueError, match=r"c\.tif must hold finite values"):
        READ.picture(save(tmp_path / "c.tif", np.full((4, 4), np.nan, np.float32)))


def test_percentiles_stretch_what_lies_between_them(tmp_path):
    values = np.arange(101, dtype=np.uint8)[None]
    picture = Reading(percentiles=(10, 90)).picture(save(tmp_path / "a.png", values))[0, :, 0]
    np.testing.assert_allclose(picture, np.clip((values[0] - 10.0) / 80 * 255, 0, 255), atol=0.51)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.webp"])
def test_a_picture_is_read_as_it_is_shown(tmp_path, orientation, name):
    options = {"lossless": True, "exact": True} if name == "a.webp" else {}
    path = camera(tmp_path / name, orientation)
    if options:
        with Image.open(camera(tmp_path / "b.png", orientation)) as image:
            image.save(path, exif=image.getexif(), **options)
    assert READ.size(path) == (4, 6)
    np.testing.assert_array_equal(READ.picture(path), UPRIGHT)


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_16_bit_colours_are_turned_once(tmp_path, orientation):
    deep = UPRIGHT.astype(np.uint16) * 257
    undo = {1: 0, 3: 2, 6: 1, 8: -1}[orientation]
    path = tiff_of_16_bit_colours(tmp_path / "a.tif", np.rot90(deep, undo), orientation)
    np.testing.assert_array_equal(READ.picture(path), UPRIGHT)
    assert READ.size(path) == (4, 6)


def test_of_several_pages_one_has_to_be_chosen(tmp_path):
    pages = [Image.fromarray(np.full((4, 4), 50 * number, np.uint8)) for number in range(3)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    for read in (READ.picture, READ.size):
        with pytest.raises(ValueError, match=r"a\.tif has 3 pages: choose one by page=0 to 2"):
            read(tmp_path / "a.tif")
    assert Reading(page=2).picture(tmp_path / "a.tif").max() == 100
    with pytest.raises(ValueError, match=r"page must be below 3, the number of its pages, got 3"):
        Reading(page=3).picture(tmp_path / "a.tif")


def test_a_page_of_16_bit_colours_is_the_one_that_was_chosen(tmp_path):
    deep = [np.full((4, 5, 3), 257 * number, np.uint16) for number in (10, 20, 30)]
    cv2.imwritemulti(str(tmp_path / "a.tif"), deep)
    assert [int(Reading(page=page).picture(tmp_path / "a.tif").max()) for page in range(3)] == [10, 20, 30]


def test_more_pixels_than_fit_are_refused_in_a_line(tmp_path, monkeypatch):
    path = save(tmp_path / "a.png", np.zeros((40, 50), np.uint8))
    bitmap = save(tmp_path / "b.bmp", np.zeros((8, 8, 3), np.uint8))
    damaged = bytearray(bitmap.read_bytes())
    damaged[21] = damaged[25] = 0x7F
    bitmap.write_bytes(damaged)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 999)
        for large in (path, bitmap):
            for read in (READ.picture, READ.size, READ.label_map):
                with pytest.raises(ValueError, match=rf"{large.name} must have at most"):
                    read(large)
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
        assert READ.size(path) == (40, 50)


def refusal(path):
    """Why a picture is not read, or None."""
    try:
        READ.picture(path)
    except ValueError as error:
        return str(error)
    return None


@pytest.mark.filterwarnings("ignore")  # of Pillow, about the damage
@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.jpg", "a.gif", "a.bmp", "a.webp"])
def test_whatever_byte_is_damaged_a_file_is_read_or_refused_in_a_line(tmp_path, name):
    whole = save(tmp_path / name, UPRIGHT).read_bytes()
    for place in range(0, len(whole), max(1, len(whole) // 60)):
        (tmp_path / name).write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        message = refusal(tmp_path / name)
        assert message is None or (name in message and "\n" not in message)


def test_a_programme_of_postscript_is_not_run(tmp_path):
    (tmp_path / "a.eps").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n")
    with pytest.raises(ValueError, match=r"a\.eps cannot be opened"):
        READ.picture(tmp_path / "a.eps")


LABELS = np.array([[0, 0, 1, 1], [2, 2, 2, 0]])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float32])
def test_labels_are_the_numbers_of_the_file_whatever_its_type(tmp_path, dtype):
    found = READ.label_map(save(tmp_path / "a.tif", LABELS.astype(dtype)))
    assert np.issubdtype(found.dtype, np.integer)
    np.testing.assert_array_equal(found, LABELS)


def test_labels_that_are_negative_or_not_whole_are_refused(tmp_path):
    negative = save(tmp_path / "a.tif", LABELS.astype(np.int32) - 1)
    with pytest.raises(ValueError, match=r"labels from 0 on .*, got -1; with ignore=-1 its pixels do not count"):
        READ.label_map(negative)
    np.testing.assert_array_equal(Reading(ignore=-1).label_map(negative), LABELS.astype(int) - 1)
    with pytest.raises(ValueError, match=r"b\.tif must hold whole numbers as labels, got 0\.5"):
        READ.label_map(save(tmp_path / "b.tif", LABELS.astype(np.float32) / 2))
    with pytest.raises(ValueError, match=r"c\.tif must hold whole numbers as labels, got nan"):
        READ.label_map(save(tmp_path / "c.tif", np.full((2, 2), np.nan, np.float32)))


def test_each_colour_is_an_instance_where_labels_may_be_coloured(tmp_path):
    colours = np.array([[0, 0, 0], [128, 0, 0], [0, 128, 1]], np.uint8)[LABELS]
    path = save(tmp_path / "a.png", colours)
    with pytest.raises(ValueError, match="coloured_labels=True"):
        READ.label_map(path)
    coded = np.array([0, 128, 128 * 256 + 65536])[LABELS]
    np.testing.assert_array_equal(Reading(coloured_labels=True).label_map(path), coded)
    ignoring = Reading(coloured_labels=True, ignore=[128]).label_map(path)
    np.testing.assert_array_equal(ignoring, np.where(LABELS == 1, -1, coded))


def test_a_label_map_of_one_bit_is_one_instance(tmp_path):
    np.testing.assert_array_equal(READ.label_map(save(tmp_path / "a.png", LABELS > 0)), LABELS > 0)


def test_a_label_map_is_turned_as_its_picture_is(tmp_path):
    path = camera(tmp_path / "a.png", 6, LABELS.astype(np.uint8))
    np.testing.assert_array_equal(READ.label_map(path), LABELS)
