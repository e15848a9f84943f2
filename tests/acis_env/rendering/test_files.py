"""Files of pictures appear whole or not at all."""

import numpy as np
import pytest
from PIL import Image

from acis_env.rendering import (
    plot_curves,
    write_gif,
    write_png,
)
from tests.acis_env.rendering.conftest import episode


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


PICTURE = np.zeros((4, 4, 3), np.uint8)


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
