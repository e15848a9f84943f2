"""`acis segment`: label maps of images of any kind, all of them or none."""

import numpy as np
import pytest
import torch
from PIL import Image

from agents.models.agent import Agent


def test_segmenting_writes_a_16_bit_label_map_and_an_overlay_of_the_images_size(acis, agent_folder, picture, tmp_path):
    printed = acis("segment", picture, "--agent", agent_folder, "--out", tmp_path / "out", "--max-steps", 3)
    expected = Agent.load(agent_folder).segment(np.array(Image.open(picture)), 3)
    with Image.open(tmp_path / "out" / "a plant_label.png") as labels:
        assert labels.mode == "I;16"
        np.testing.assert_array_equal(np.array(labels), expected.label_map)
    with Image.open(tmp_path / "out" / "a plant_overlay.png") as overlay:
        assert overlay.size == (70, 50)
        assert overlay.mode == "RGB"
    assert f"{len(expected.order)} instances" in printed
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a plant_label.png", "a plant_overlay.png"]


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK"])
def test_images_of_any_mode_are_segmented_as_rgb(acis, agent_folder, picture, tmp_path, mode):
    path = tmp_path / "other.tif"
    Image.open(picture).convert(mode).save(path)
    acis("segment", path, "--agent", agent_folder / "agent.pt", "--out", tmp_path / "out")
    with Image.open(tmp_path / "out" / "other_label.png") as labels:
        assert labels.size == (70, 50)


def test_a_missing_image_is_named_and_nothing_is_written(mistake, agent_folder, picture, tmp_path):
    message = mistake("segment", picture, tmp_path / "none.png", "--agent", agent_folder, "--out", tmp_path / "out")
    assert f"{tmp_path / 'none.png'}: no such image" in message
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", ["half", "text", "empty"])
def test_a_corrupt_image_is_named(mistake, agent_folder, picture, tmp_path, content):
    whole = picture.read_bytes()
    picture.write_bytes({"half": whole[: len(whole) // 2], "text": b"no image\n", "empty": b""}[content])
    message = mistake("segment", picture, "--agent", agent_folder, "--out", tmp_path / "out")
    assert f"{picture}: not a readable image" in message


def test_a_call_without_images_is_a_mistake(mistake, agent_folder, tmp_path):
    assert "image" in mistake("segment", "--agent", agent_folder, "--out", tmp_path / "out")


def test_images_that_would_overwrite_each_others_label_map_are_refused(mistake, agent_folder, picture, tmp_path):
    namesake = tmp_path / "elsewhere" / picture.name
    namesake.parent.mkdir()
    namesake.write_bytes(picture.read_bytes())
    message = mistake("segment", picture, namesake, "--agent", agent_folder, "--out", tmp_path / "out")
    assert "'a plant'" in message
    assert not (tmp_path / "out").exists()


def test_a_wrong_agent_is_named(mistake, picture, tmp_path):
    wanted = tmp_path / "nowhere"
    assert f"{wanted}: no such file" in mistake("segment", picture, "--agent", wanted, "--out", tmp_path)
    assert "agent.pt: no such file" in mistake("segment", picture, "--agent", tmp_path, "--out", tmp_path)
    assert f"{picture}: not a whole checkpoint" in mistake("segment", picture, "--agent", picture, "--out", tmp_path)


def test_an_output_folder_that_is_a_file_is_named(mistake, agent_folder, picture, tmp_path):
    (tmp_path / "taken").write_text("")
    message = mistake("segment", picture, "--agent", agent_folder, "--out", tmp_path / "taken")
    assert str(tmp_path / "taken") in message


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_there_is_a_mistake(mistake, agent_folder, picture, tmp_path):
    arguments = ["segment", picture, "--agent", agent_folder, "--out", tmp_path / "out", "--device", "cuda"]
    assert "CUDA" in mistake(*arguments)
