"""What a reader of the pictures relies on, checked on small arrays."""

import numpy as np
import pytest
from PIL import Image

from acis_env.rendering import (
    colour_by_order,
    colour_instances,
    contact_sheet,
    episode_frame,
    instance_colours,
    order_colours,
    overlay,
    plot_curves,
    write_gif,
    write_png,
)


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


def distances(a, b):
    return np.linalg.norm(a[:, None].astype(float) - b[None].astype(float), axis=-1)


@pytest.mark.parametrize("n", [2, 3, 9, 21])
def test_order_runs_from_blue_to_red(n):
    first, last = order_colours(n)[[0, -1]].tolist()
    assert first[2] > 200 > 2 * max(first[:2])
    assert last[0] > 200 > 2 * max(last[1:])


def test_neighbours_in_the_order_are_told_apart_up_to_the_longest_episode():
    colours = order_colours(21)
    assert colours.shape == (21, 3)
    assert colours.dtype == np.uint8
    assert distances(colours, colours)[~np.eye(21, dtype=bool)].min() > 20


def test_no_prediction_and_a_single_one_have_colours_too():
    assert order_colours(0).shape == (0, 3)
    assert order_colours(1).tolist() == order_colours(5)[:1].tolist()


def test_a_true_instance_is_not_mistaken_for_a_prediction():
    assert distances(instance_colours(21), order_colours(21)).min() > 40


def test_true_instances_next_in_number_are_told_apart():
    colours = instance_colours(21)
    assert np.diag(distances(colours, colours), k=1).min() > 60
    assert instance_colours(4).tolist() == colours[:4].tolist()


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64, np.uint64])
def test_a_label_gets_the_colour_of_its_step(dtype):
    label_map = np.array([[0, 1, 3]], dtype)
    assert colour_by_order(label_map)[0].tolist() == [[0, 0, 0], *order_colours(3)[[0, 2]].tolist()]
    assert colour_by_order(label_map, 9)[0, 2].tolist() == order_colours(9)[2].tolist()


def test_a_prediction_beyond_the_scale_is_white():
    assert colour_by_order(np.array([[2, 3, 255]], np.uint8), 2)[0, 1:].tolist() == [[255] * 3] * 2
    assert colour_by_order(np.array([[0, 1]]), 0)[0].tolist() == [[0] * 3, [255] * 3]


def test_true_instances_lie_on_black():
    picture = colour_instances(np.array([[0, 2]]))
    assert picture[0].tolist() == [[0, 0, 0], instance_colours(2)[1].tolist()]


def test_an_overlay_leaves_the_background_and_its_arguments_untouched():
    image, label_map = scene()
    image_before, labels_before = image.copy(), label_map.copy()
    picture = overlay(image, label_map)
    background = label_map == 0
    assert (picture[background] == image.transpose(1, 2, 0)[background]).all()
    assert (image == image_before).all()
    assert (label_map == labels_before).all()


def test_an_overlay_tints_the_inside_and_fills_the_border():
    image = np.zeros((3, 5, 6), np.uint8)
    label_map = np.zeros((5, 6), np.int32)
    label_map[:, 3:] = 1  # reaches three edges of the image, which are no borders
    picture = overlay(image, label_map, alpha=0.5)
    colour = order_colours(1)[0].astype(int)
    assert (picture[:, 3] == colour).all()
    assert (abs(picture[:, 4:] - colour / 2) <= 0.5).all()


def test_two_touching_instances_are_separated_by_a_border():
    picture = overlay(np.zeros((3, 1, 6), np.uint8), np.array([[1, 1, 1, 2, 2, 2]]), alpha=0.0)
    assert picture.any(axis=-1)[0].tolist() == [False, False, True, True, False, False]


@pytest.mark.parametrize("min_panel", [16, 33, 160])
def test_frames_of_an_episode_are_equal_in_size_and_even(min_panel):
    (shape,) = {frame.shape for frame in episode(min_panel=min_panel)}
    height, width, channels = shape
    assert height % 2 == width % 2 == 0
    assert height >= min_panel
    assert channels == 3


@pytest.mark.parametrize(("height", "width"), [(20, 30), (21, 30), (20, 31), (21, 31)])
def test_odd_images_have_even_frames(height, width):
    image, label_map = scene(height, width)
    frame = episode_frame(image, label_map, label_map, 3, 3, min_panel=1)
    assert frame.shape[0] % 2 == frame.shape[1] % 2 == 0


def test_a_frame_does_not_change_size_with_what_its_captions_say():
    image, label_map = scene()
    plain = episode_frame(image, label_map, label_map, 0, 3)
    wordy = episode_frame(image, label_map, label_map, 123456789, 3, potential=123456789.0)
    assert plain.shape == wordy.shape
    assert (plain != wordy).any()


def test_a_frame_shows_the_image_pixel_for_pixel_enlarged():
    image, label_map = scene()  # 20 rows become 40 at a factor of 2
    frame = episode_frame(image, label_map, label_map, 3, 3, min_panel=40)
    enlarged = image.transpose(1, 2, 0).repeat(2, axis=0).repeat(2, axis=1)
    windows = np.lib.stride_tricks.sliding_window_view(frame[:, :80], enlarged.shape)
    assert (windows == enlarged).all(axis=(-3, -2, -1)).sum() == 1


def test_a_frame_shows_exactly_the_masks_so_far():
    frames = episode()
    colours = order_colours(3)
    shown = [[(frame == colour).all(axis=-1).any() for colour in colours] for frame in frames]
    assert shown == [[step > k for k in range(3)] for step in range(4)]


def test_a_scene_without_instances_has_a_frame():
    image, label_map = scene()
    assert episode_frame(image, 0 * label_map, label_map, 3, 0).shape == episode()[0].shape


def test_a_contact_sheet_holds_every_picture_whatever_its_size():
    sizes = [[(10, 12, 7), (40, 9, 8)], [(20, 20, 12), (5, 30, 13)]]  # height, width, grey value
    pictures = [[np.full((h, w, 3), value, np.uint8) for h, w, value in row] for row in sizes]
    sheet = contact_sheet(pictures, ["left", "right"], ["one", "two"], min_panel=20)
    assert sheet.shape[0] % 2 == sheet.shape[1] % 2 == 0
    for (h, w, value), factor in zip(sizes[0] + sizes[1], (2, 1, 1, 4), strict=True):
        assert (sheet == value).all(axis=-1).sum() >= h * w * factor**2


def test_the_legend_of_a_contact_sheet_can_be_left_out():
    rows = [[np.zeros((50, 50, 3), np.uint8)]]
    with_legend = contact_sheet(rows, ["image"])
    without = contact_sheet(rows, ["image"], order_legend=False)
    assert with_legend.shape[0] > without.shape[0]
    for colour in order_colours(2):
        assert (with_legend == colour).all(axis=-1).any()
        assert not (without == colour).all(axis=-1).any()


def test_a_png_reads_back_as_it_was_and_creates_its_folder(tmp_path):
    path = tmp_path / "new" / "folder" / "frame.png"
    frame = episode()[2]
    write_png(path, frame)
    assert (np.asarray(Image.open(path)) == frame).all()
    assert [file.name for file in path.parent.iterdir()] == ["frame.png"]


def test_a_gif_has_all_frames_and_holds_the_last_one(tmp_path):
    path, frames = tmp_path / "episode.gif", episode(num_instances=5)
    write_gif(path, frames, fps=4)
    with Image.open(path) as gif:
        assert gif.n_frames == len(frames) == 6
        assert gif.info["loop"] == 0
        durations = []
        for index, frame in enumerate(frames):
            gif.seek(index)
            durations.append(gif.info["duration"])
            assert abs(np.asarray(gif.convert("RGB")).astype(int) - frame).mean() < 3
    assert durations[:-1] == [250] * 5
    assert durations[-1] >= 1000


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_an_interrupted_write_leaves_the_old_file_and_no_rest(tmp_path, monkeypatch, error):
    path = tmp_path / "frame.png"
    write_png(path, episode()[0])
    before = path.read_bytes()

    def half_a_save(_, file, **__):
        file.write_bytes(before[:20])
        raise error

    monkeypatch.setattr(Image.Image, "save", half_a_save)
    with pytest.raises(error):
        write_png(path, episode()[1])
    with pytest.raises(error):
        write_gif(path, episode())
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_curves_of_different_length_and_with_gaps_make_one_picture(tmp_path):
    path = tmp_path / "new" / "dice.png"
    steps = np.arange(1, 6)
    curves = {"actor-critic": (steps, [0.9, 0.8, np.nan, 0.7, 0.6]), "baseline": ([1, 2], [0.9, 0.7])}
    plot_curves(path, curves, "time step", "Dice", "Dice per time step")
    picture = np.asarray(Image.open(path).convert("RGB"))
    assert picture.shape[1] > picture.shape[0] > 300
    colours = {tuple(pixel) for pixel in picture.reshape(-1, 3).tolist()}
    assert {(0x1F, 0x77, 0xB4), (0xFF, 0x7F, 0x0E)} <= colours  # one colour per curve


IMAGE, LABELS = scene()
PICTURE = np.zeros((4, 4, 3), np.uint8)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: order_colours(-1), "n must be at least 0, got -1"),
        (lambda: colour_by_order(LABELS / 2), "label_map must have an integer dtype, got float64"),
        (lambda: colour_instances(LABELS - 1), "label_map must hold labels >= 0 .* got -1"),
        (lambda: overlay(IMAGE / 255, LABELS), r"image must be uint8 \[3, H, W\] .* got float64 \[3, 20, 30\]"),
        (lambda: overlay(IMAGE, LABELS.T), r"label_map must be .* \[20, 30\] as image, got \[30, 20\]"),
        (lambda: overlay(IMAGE, LABELS, alpha=2), r"alpha must lie in \[0, 1\], got 2"),
        (lambda: episode_frame(IMAGE, LABELS.T, LABELS, 0, 3), "ground_truth must be"),
        (lambda: episode_frame(IMAGE, LABELS, LABELS.T, 0, 3), "prediction must be"),
        (lambda: episode_frame(IMAGE, LABELS, LABELS, -1, 3), "step must be at least 0, got -1"),
        (lambda: contact_sheet([], ["image"]), "must not be empty, got 0 and 1"),
        (lambda: contact_sheet([[PICTURE]], ["a", "b"]), r"rows\[0\] must hold 2 pictures .* got 1"),
        (lambda: contact_sheet([[PICTURE[0]]], ["a"]), r"rows\[0\]\[0\] must be uint8 \[H, W, 3\]"),
        (lambda: contact_sheet([[PICTURE]], ["a"], []), "captions must hold one per row, 1, got 0"),
    ],
)
def test_a_bad_argument_is_refused_by_name(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_files_of_bad_arrays_are_refused_before_anything_is_written(tmp_path):
    path = tmp_path / "new" / "file"
    with pytest.raises(ValueError, match=r"picture must be uint8 \[H, W, 3\] with pixels, got float64"):
        write_png(path, PICTURE / 2)
    with pytest.raises(ValueError, match="at least one picture, got none"):
        write_gif(path, [])
    with pytest.raises(ValueError, match=r"expected \[4, 4, 3\] as frames\[0\], got \[2, 4, 3\] for frames\[1\]"):
        write_gif(path, [PICTURE, PICTURE[:2]])
    with pytest.raises(ValueError, match="fps must lie"):
        write_gif(path, [PICTURE], fps=0)
    with pytest.raises(ValueError, match="at least one curve, got none"):
        plot_curves(path, {}, "x", "y")
    with pytest.raises(ValueError, match=r"curves\['a'\] must be x \[n\] and y \[n\], got \[1\] and \[2\]"):
        plot_curves(path, {"a": ([1], [1, 2])}, "x", "y")
    assert not path.parent.exists()
