"""A run that is resumed notices what it learns from has changed."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from acis_env.datasets import PackedScenes
from acis_env.weights import save_weights
from agents.algorithms import BaselineConfig
from agents.models.checkpoints import load_checkpoint
from agents.training.config import Stage
from agents.training.origin import describe_origin, find_changes
from agents.training.trainer import Trainer


@pytest.fixture
def scenes(tmp_path):
    """A folder of two scenes with two squares each."""
    for split in ("train", "val"):
        (tmp_path / "scenes" / split).mkdir(parents=True)
        for name in ("a", "b"):
            label_map = np.zeros((32, 32), np.uint8)
            label_map[4:12, 4:12], label_map[16:28, 16:28] = 1, 2
            write_pair(tmp_path / "scenes" / split, name, label_map)
    return tmp_path / "scenes"


def write_pair(folder, name, label_map, colour=90):
    Image.fromarray(label_map).save(folder / f"{name}_label.png")
    Image.fromarray(np.stack([label_map * colour] * 3, -1)).save(folder / f"{name}_rgb.png")


@pytest.fixture
def stopped(config, tiny_weights, scenes, tmp_path):
    """Folder of a run that was stopped after one of two iterations."""
    env = replace(config.env, id="ACIS/Scenes-v0", kwargs={"scenes": str(scenes), "weights": str(tiny_weights)})
    settings = replace(config, env=replace(env, val_kwargs={}), stages=(Stage("main", BaselineConfig(), 2),))
    trainer = Trainer(settings, tmp_path / "run")
    trainer.train_iteration()
    trainer.save()
    return tmp_path / "run"


def change_labels(scenes, weights, make_tiny):
    label_map = np.array(Image.open(scenes / "train" / "b_label.png"))
    label_map[27, 27] = 0
    Image.fromarray(label_map).save(scenes / "train" / "b_label.png")


def change_images(scenes, weights, make_tiny):
    image = np.array(Image.open(scenes / "train" / "a_rgb.png"))
    image[0, 0] += 1
    Image.fromarray(image).save(scenes / "train" / "a_rgb.png")


def rename_scene(scenes, weights, make_tiny):
    for kind in ("rgb", "label"):
        (scenes / "train" / f"b_{kind}.png").rename(scenes / "train" / f"c_{kind}.png")


def add_scene(scenes, weights, make_tiny):
    for kind in ("rgb", "label"):
        shutil.copy(scenes / "train" / f"b_{kind}.png", scenes / "train" / f"c_{kind}.png")


def train_weights_again(scenes, weights, make_tiny):
    save_weights(weights, make_tiny(seed=1).context_network)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (change_labels, "labels of scenes not the same"),
        (change_images, "images of scenes not the same"),
        (rename_scene, "ids of scenes not the same"),
        (add_scene, "number of scenes 3 instead of 2"),
        (train_weights_again, "weights not the same"),
    ],
)
def test_a_run_whose_scenes_or_weights_have_changed_is_resumed_only_when_told(
    stopped, scenes, tiny_weights, make_tiny, change, named
):
    change(scenes, tiny_weights, make_tiny)
    with pytest.raises(ValueError, match=rf"checkpoint\.pt: .*{named}.*--allow-changes") as error:
        Trainer.resume(stopped)
    assert "\n" not in str(error.value)
    assert Trainer.resume(stopped, allow_changes=True).iteration == 1


def test_a_run_with_other_threads_is_resumed_only_when_told(stopped):
    torch.set_num_threads(2)
    try:
        with pytest.raises(ValueError, match="number of threads 2 instead of 1"):
            Trainer.resume(stopped)
        Trainer.resume(stopped, allow_changes=True)
    finally:
        torch.set_num_threads(1)


def test_nothing_has_changed_where_nothing_was_touched(stopped):
    resumed = Trainer.resume(stopped)
    assert find_changes(load_checkpoint(stopped / "checkpoint.pt")["origin"], resumed.origin) == []
    assert len(resumed.origin) == 7


def test_another_preprocessing_of_the_same_scenes_is_a_change(tiny, leaves):
    squeezed, shorter = (
        describe_origin(PackedScenes(leaves.dataset, (32, 32), preprocessing=name), tiny)
        for name in ("squeeze", "shorter-side")
    )
    assert find_changes(squeezed, shorter) == ["preprocessing not the same"]


def test_a_description_of_an_earlier_version_is_compared_as_far_as_it_goes():
    assert find_changes({}, {"weights": "a"}) == []
    assert find_changes({"weights": "a", "number of scenes": 3}, {"weights": "a", "number of scenes": 4}) == [
        "number of scenes 4 instead of 3"
    ]
