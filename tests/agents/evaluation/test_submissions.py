"""Submissions hold what was predicted, with labels 1..N in 8 bits, or there is none."""

import h5py
import numpy as np
import pytest
from PIL import Image

from agents.evaluation.submissions import eight_bits, write_cvppp_submission, write_label_pngs

GAPS = np.array([[0, 7, 7], [300, 0, 9]], np.int32)
CLOSED = [[0, 1, 1], [3, 0, 2]]
MANY = np.arange(300).reshape(20, 15)


def test_the_hdf5_file_has_all_subsets_and_consecutive_labels_in_8_bits(tmp_path):
    predictions = [("A1/plant003", GAPS), ("A4/plant0863", np.zeros((4, 5), int)), ("A1/plant004", GAPS.T)]
    counts = write_cvppp_submission(tmp_path / "out.h5", iter(predictions))
    assert counts == {"A1/plant003": 3, "A4/plant0863": 0, "A1/plant004": 3}
    with h5py.File(tmp_path / "out.h5") as file:
        assert {subset: sorted(file[subset]) for subset in file} == {
            "A1": ["plant003", "plant004"],
            "A2": [],
            "A3": [],
            "A4": ["plant0863"],
            "A5": [],
        }
        plant = file["A1/plant003"]
        assert sorted(plant) == ["label", "label_filename"]
        assert plant["label"].dtype == np.uint8
        assert plant["label"][()].tolist() == CLOSED
        assert plant["label_filename"][()] == b"plant003_label.png"
        assert file["A4/plant0863/label"].shape == (4, 5)
    assert [path.name for path in tmp_path.iterdir()] == ["out.h5"]


def test_pngs_have_8_bits_and_the_suffix_that_is_asked_for(tmp_path):
    counts = write_label_pngs(tmp_path / "out", [("000003", GAPS), ("000008_10", GAPS.T)], "_labels.png")
    assert counts == {"000003": 3, "000008_10": 3}
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["000003_labels.png", "000008_10_labels.png"]
    with Image.open(tmp_path / "out" / "000003_labels.png") as image:
        assert (image.mode, np.array(image).tolist()) == ("L", CLOSED)


@pytest.mark.parametrize("write", [write_cvppp_submission, write_label_pngs])
def test_what_8_bits_cannot_hold_is_refused_and_nothing_is_left(write, tmp_path):
    with pytest.raises(ValueError, match=r"A1/plant004 must have at most 255 instances, .* got 299"):
        write(tmp_path / "out", [("A1/plant003", MANY % 256), ("A1/plant004", MANY)][write is write_label_pngs :])
    assert not list(tmp_path.iterdir())


def test_255_instances_are_not_too_many():
    assert eight_bits("scene", MANY % 256).max() == 255


@pytest.mark.parametrize("write", [write_cvppp_submission, write_label_pngs])
def test_an_error_of_the_agent_leaves_nothing(write, tmp_path):
    def predictions():
        yield "A1" if write is write_label_pngs else "A1/plant003", GAPS
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "out", predictions())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("write", [write_cvppp_submission, write_label_pngs])
def test_a_submission_of_nothing_is_refused(write, tmp_path):
    with pytest.raises(ValueError, match=r"out: there are no predictions to submit"):
        write(tmp_path / "out", [])
    assert not list(tmp_path.iterdir())


def test_a_file_that_reads_otherwise_than_it_was_written_is_refused(tmp_path, monkeypatch):
    save = Image.Image.save

    def damaged(image, path, **options):
        pixels = np.array(image)
        pixels[0, 0] += 1
        save(Image.fromarray(pixels), path, **options)

    monkeypatch.setattr(Image.Image, "save", damaged)
    with pytest.raises(ValueError, match=r"out: 000003 does not read as it was written"):
        write_label_pngs(tmp_path / "out", [("000003", GAPS)])
    assert not list(tmp_path.iterdir())


def test_a_folder_that_holds_something_is_left_alone(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.png").write_bytes(b"mine")
    with pytest.raises(ValueError, match=r"out: expected a folder that is new or empty, found mine\.png in it"):
        write_label_pngs(tmp_path / "out", [("000003", GAPS)])
    assert (tmp_path / "out" / "mine.png").read_bytes() == b"mine"
