"""`acis segment`: label maps of images of any kind, all of them or none."""

import numpy as np
import pytest
import torch
from PIL import Image

from acis_env.pictures import Reading
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


def test_masks_are_written_whole_if_they_are_asked_for(acis, mistake, agent_folder, picture, tmp_path):
    command = ("segment", picture, "--agent", agent_folder, "--out", tmp_path / "out", "--max-steps", 3, "--masks")
    acis(*command)
    expected = Agent.load(agent_folder).segment(np.array(Image.open(picture)), 3)
    with np.load(tmp_path / "out" / "a plant_masks.npz") as file:
        assert file["masks"].dtype == bool
        np.testing.assert_array_equal(file["masks"], expected.masks)
    (tmp_path / "out" / "a plant_label.png").unlink()
    (tmp_path / "out" / "a plant_overlay.png").unlink()
    assert "a plant_masks.npz exists: choose another --out, or pass --overwrite" in mistake(*command)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK"])
def test_images_of_any_mode_are_segmented_as_rgb(acis, agent_folder, picture, tmp_path, mode):
    path = tmp_path / "other.tif"
    Image.open(picture).convert(mode).save(path)
    acis("segment", path, "--agent", agent_folder / "agent.pt", "--out", tmp_path / "out")
    with Image.open(tmp_path / "out" / "other_label.png") as labels:
        assert labels.size == (70, 50)


def test_a_picture_three_pixels_high_stays_as_it_is(acis, agent_folder, tmp_path):
    Image.fromarray(np.zeros((3, 64, 3), np.uint8)).save(tmp_path / "low.png")
    acis("segment", tmp_path / "low.png", "--agent", agent_folder, "--out", tmp_path / "out", "--max-steps", 2)
    with Image.open(tmp_path / "out" / "low_label.png") as labels:
        assert labels.size == (64, 3)


def test_a_missing_image_is_named_and_nothing_is_written(mistake, agent_folder, picture, tmp_path):
    message = mistake("segment", picture, tmp_path / "none.png", "--agent", agent_folder, "--out", tmp_path / "out")
    assert f"{tmp_path / 'none.png'}: no such image" in message
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", ["half", "text", "empty"])
def test_a_corrupt_image_is_named(mistake, agent_folder, picture, tmp_path, content):
    whole = picture.read_bytes()
    picture.write_bytes({"half": whole[: len(whole) // 2], "text": b"no image\n", "empty": b""}[content])
    message = mistake("segment", picture, "--agent", agent_folder, "--out", tmp_path / "out")
    assert f"{picture} cannot be {'decoded' if content == 'half' else 'opened'} as" in message


def test_a_call_without_images_is_a_mistake(mistake, agent_folder, tmp_path):
    assert "image" in mistake("segment", "--agent", agent_folder, "--out", tmp_path / "out")


def test_images_that_would_overwrite_each_others_label_map_are_refused(mistake, agent_folder, picture, tmp_path):
    namesake = tmp_path / "elsewhere" / picture.name
    namesake.parent.mkdir()
    namesake.write_bytes(picture.read_bytes())
    message = mistake("segment", picture, namesake, "--agent", agent_folder, "--out", tmp_path / "out")
    assert "'a plant'" in message
    assert not (tmp_path / "out").exists()


def test_files_that_are_there_are_kept_unless_overwriting_is_asked_for(acis, mistake, agent_folder, picture):
    label, overlay = (picture.with_name(f"a plant{end}") for end in ("_label.png", "_overlay.png"))
    for path in (label, overlay):
        path.write_bytes(b"mine")
        arguments = ["segment", picture, "--agent", agent_folder, "--out", picture.parent]
        assert f"{path} exists" in mistake(*arguments)
        assert path.read_bytes() == b"mine"
        acis(*arguments, "--overwrite")
        assert path.read_bytes() != b"mine"
        label.unlink()
        overlay.unlink()


def test_what_was_written_is_no_image_of_a_second_run(acis, mistake, agent_folder, picture, tmp_path):
    picture = picture.rename(tmp_path / "a.png")
    acis("segment", picture, "--agent", agent_folder, "--out", tmp_path)
    written = {path: path.read_bytes() for path in sorted(tmp_path.glob("a_*.png"))}
    arguments = ["segment", *sorted(tmp_path.glob("*.png")), "--agent", agent_folder, "--out", tmp_path]
    assert "exists" in mistake(*arguments)
    printed = acis(*arguments, "--overwrite")
    assert all(f"{path}: left out" in printed for path in written)
    assert {path: path.read_bytes() for path in sorted(tmp_path.glob("a_*.png"))} == written
    assert "at least one image" in mistake("segment", *written, "--agent", agent_folder, "--out", tmp_path / "out")


def test_an_image_is_never_replaced_by_the_result_of_another(mistake, agent_folder, picture, tmp_path):
    other = tmp_path / "a plant_label.png"
    other.write_bytes(picture.read_bytes())
    arguments = ["segment", picture, other, "--agent", agent_folder, "--out", tmp_path, "--overwrite"]
    assert f"{other} is one of the images" in mistake(*arguments)
    assert other.read_bytes() == picture.read_bytes()


def test_a_page_and_percentiles_are_chosen_by_option(acis, mistake, agent_folder, picture, tmp_path):
    dark = Image.fromarray(np.random.default_rng(0).integers(0, 4096, (50, 70)).astype(np.int32))
    dark.save(tmp_path / "stack.tif", save_all=True, append_images=[dark])
    arguments = ["segment", tmp_path / "stack.tif", "--agent", agent_folder, "--out", tmp_path / "out"]
    assert "stack.tif has 2 pages" in mistake(*arguments)
    assert "give percentiles" in mistake(*arguments, "--page", 1)
    acis(*arguments, "--page", 1, "--percentiles", 0, 100)
    with Image.open(tmp_path / "out" / "stack_label.png") as labels:
        assert labels.size == (70, 50)


def test_one_picture_is_in_memory_at_a_time(acis, agent_folder, picture, tmp_path, monkeypatch):
    namesake = tmp_path / "b.png"
    namesake.write_bytes(picture.read_bytes())
    done = []
    read, segment = Reading.picture, Agent.segment
    monkeypatch.setattr(Reading, "picture", lambda *arguments: done.append("read") or read(*arguments))
    monkeypatch.setattr(Agent, "segment", lambda *a, **how: done.append("segment") or segment(*a, **how))
    acis("segment", picture, namesake, "--agent", agent_folder, "--out", tmp_path / "out")
    assert done == ["read", "segment"] * 2


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
    assert "device 'cuda': " in mistake(*arguments)


def test_folders_and_patterns_stand_for_the_images_in_them(acis, mistake, agent_folder, picture, tmp_path):
    folder, empty = tmp_path / "plants", tmp_path / "empty"
    folder.mkdir()
    empty.mkdir()
    for name in ("b.png", "a.PNG", "c.jpg"):
        Image.open(picture).convert("RGB").save(folder / name, format="JPEG" if name == "c.jpg" else "PNG")
    (folder / "notes.txt").write_text("no image")
    command = ["--agent", agent_folder, "--out"]
    for given, expected in ((folder, "abc"), (folder / "*.jpg", "c"), (folder / "[ab].*", "ab")):
        out = tmp_path / f"out-{expected}"
        acis("segment", given, *command, out)
        assert sorted(path.name for path in out.glob("*_label.png")) == [f"{name}_label.png" for name in expected]
    acis("segment", folder, folder / "b.png", *command, tmp_path / "twice")  # an image that is given twice counts once
    assert f"{empty}: expected images in this folder, found none" in mistake(
        "segment", empty, *command, tmp_path / "no"
    )
    assert "*.tif: expected images of such names" in mistake("segment", folder / "*.tif", *command, tmp_path / "no")


def test_a_picture_is_segmented_in_windows_at_the_scale_that_is_given(acis, mistake, agent_folder, picture, tmp_path):
    options = ["--agent", agent_folder, "--out", tmp_path / "out", "--overwrite"]
    acis("segment", picture, *options, "--scale", 2, "--overlap", 0.5, "--max-steps", 2)
    expected = Agent.load(agent_folder).segment(np.array(Image.open(picture)), 2, scale=2.0, overlap=0.5)
    with Image.open(tmp_path / "out" / "a plant_label.png") as labels:
        np.testing.assert_array_equal(np.array(labels), expected.label_map)
    assert len(expected.parts.preprocessing.windows((50, 70))) > 1
    assert f"{picture}: scale of the preprocessing 'tile' must be" in mistake(
        "segment", picture, *options, "--scale", 0
    )
    assert "overlap needs windows" in mistake("segment", picture, *options, "--overlap", 0.5)


def test_an_agent_that_plays_one_episode_cannot_choose_among_several(mistake, agent_folder, picture, tmp_path):
    message = mistake(
        "segment", picture, "--agent", agent_folder, "--out", tmp_path / "out", "--max-steps", 3, "--episodes", 2
    )
    assert f"{agent_folder} plays one episode" in message
    assert not (tmp_path / "out").exists()
