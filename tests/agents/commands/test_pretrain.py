"""`acis pretrain`: weights that fit each other, or one line that says why not."""

import json
import shutil
from dataclasses import replace

import pytest

from acis_env.datasets import DATASETS, parse_preprocessing
from acis_env.datasets.tiles import TiledScenes
from acis_env.testing.trees import WRITERS
from acis_env.weights import load_pretrained
from agents.commands.pretrain import Pretrain


def test_pretraining_leaves_weights_that_fit_each_other(run):
    pretrained = load_pretrained(run.weights)
    assert pretrained.size == (32, 32)
    assert pretrained.autoencoder.config.latent_size == 3
    assert pretrained.context_network.config.image_mean == pretrained.autoencoder.config.image_mean
    for stem in ("context", "autoencoder"):
        training = json.loads((run.weights / f"{stem}.json").read_text())["training"]
        assert training["iteration"] == 2
        assert training["held_out"]
    assert [str(run.weights) in text for text in run.printed[:2]] == [True, True]


def test_pretraining_ends_with_a_verdict_of_the_scores_that_the_card_keeps(run):
    context, decoder = (
        json.loads((run.weights / f"{stem}.json").read_text())["training"]["held_out"]
        for stem in ("context", "autoencoder")
    )
    assert f"Foreground Dice {context['foreground_dice']:.3f} on held-out scenes" in run.printed[0]
    assert f"Reconstruction Dice {decoder['reconstruction_dice']:.3f} on held-out scenes" in run.printed[1]
    assert f"have an SBD of {decoder['reconstruction_sbd']:.3f}, and agents stay below" in run.printed[1]


@pytest.mark.parametrize(("score", "is_weak"), [(0.49, True), (0.5, False)])
def test_a_network_below_one_half_is_a_warning(acis, few_scenes, run, tmp_path, monkeypatch, caplog, score, is_weak):
    shutil.copytree(run.weights, tmp_path / "weights")
    scores = {"reconstruction_dice": score, "reconstruction_dice_q10": 0.1, "reconstruction_sbd": 0.2}
    monkeypatch.setattr("acis_env.pretraining.evaluate_autoencoder", lambda *networks: scores)
    tiny = ["--size", 32, 32, "--iterations", 1, "--batch-size", 2, "--latent-size", 3]
    acis("pretrain", "decoder", "--out", tmp_path / "weights", "--overwrite", *tiny, *few_scenes)
    warnings = [record.getMessage() for record in caplog.records if "--accept-weak-weights" in record.getMessage()]
    assert len(warnings) == is_weak
    for warning in warnings:
        assert f"{tmp_path / 'weights'}: reconstruction Dice of the decoder is 0.490 on held-out scenes" in warning


def test_a_decoder_of_another_size_than_its_context_network_is_refused_before_it_is_trained(few_scenes, mistake, run):
    before = (run.weights / "autoencoder.json").read_bytes()
    few = [*few_scenes, "--iterations", 1, "--batch-size", 2]
    message = mistake("pretrain", "decoder", "--out", run.weights, "--size", 64, 64, *few)
    assert "(32, 32)" in message
    assert "(64, 64)" in message
    assert (run.weights / "autoencoder.json").read_bytes() == before


def test_a_decoder_without_a_context_network_is_a_mistake(few_scenes, mistake, tmp_path):
    few = [*few_scenes, "--size", 32, 32]
    message = mistake("pretrain", "decoder", "--out", tmp_path / "empty", *few)
    assert "context.json: no such file; `acis pretrain` writes it" in message


def test_sizes_that_the_networks_cannot_halve_are_a_mistake(mistake, tmp_path):
    message = mistake("pretrain", "context", "--out", tmp_path, "--size", 40, 40, "--iterations", 1)
    assert "multiples of 32" in message


@pytest.mark.parametrize("option", [("--latent-size", 3), ("--no-state-pyramid",)])
def test_a_setting_of_the_decoder_is_a_mistake_where_the_context_network_is_trained(mistake, tmp_path, option):
    message = mistake("pretrain", "context", "--out", tmp_path / "weights", *option)
    assert "are of the decoder and have no effect on the context network" in message
    assert not (tmp_path / "weights").exists()


@pytest.mark.parametrize(("given", "expected"), [([], "shorter-side"), (["--preprocessing", "tile"], "squeeze")])
def test_networks_learn_from_pictures_made_as_asked_or_as_the_protocol_says(
    acis, few_scenes, tmp_path, monkeypatch, given, expected
):
    seen = []

    def spy(train, val, *others):
        seen.extend((train, val))

    monkeypatch.setattr("agents.commands.pretrain.pretrain_context", spy)
    monkeypatch.setattr(Pretrain, "_judge", lambda *arguments: None)
    leaves = replace(DATASETS["leaves"], protocol={"preprocessing": "shorter-side"})
    monkeypatch.setitem(DATASETS, "leaves", leaves)
    acis("pretrain", "context", "--out", tmp_path, "--size", 32, 32, *few_scenes, *given)
    for scenes in seen:
        assert scenes.preprocessing == parse_preprocessing(expected, (32, 32))
        assert isinstance(scenes.dataset, TiledScenes) == ("tile" in given)


@pytest.mark.parametrize(("given", "expected"), [([], 3), (["--val-options", '{"max_leaves": 5}'], 5)])
def test_held_out_scenes_have_the_options_of_the_training_unless_they_have_their_own(
    acis, tmp_path, monkeypatch, given, expected
):
    seen = []
    monkeypatch.setattr("agents.commands.pretrain.pretrain_context", lambda train, val, *_: seen.extend((train, val)))
    monkeypatch.setattr(Pretrain, "_judge", lambda *arguments: None)
    few = ["--scene-options", '{"max_leaves": 3, "length": 5}']
    acis("pretrain", "context", "--out", tmp_path, "--size", 32, 32, *few, *given)
    assert [scenes.dataset.max_instances for scenes in seen] == [3, expected]


def test_held_out_scenes_that_are_the_training_scenes_are_warned_of(acis, tmp_path, monkeypatch, caplog):
    pytest.importorskip("pycocotools")
    monkeypatch.setattr("agents.commands.pretrain.pretrain_context", lambda *arguments: None)
    monkeypatch.setattr(Pretrain, "_judge", lambda *arguments: None)
    WRITERS["coco"](tmp_path)
    data = ["--scenes", "dataset:coco", "--root", tmp_path, "--size", 32, 32, "--out", tmp_path / "weights"]
    acis("pretrain", "context", *data)
    assert "held-out scenes" not in caplog.text
    one_file = {"annotations": "annotations/instances_train2017.json", "images": "train2017"}
    acis("pretrain", "context", *data, "--scene-options", json.dumps(one_file))
    assert "held-out scenes are the training scenes" in caplog.text


def test_what_is_no_preprocessing_is_a_mistake(mistake, tmp_path):
    message = mistake("pretrain", "context", "--out", tmp_path, "--preprocessing", "stretch", "--iterations", 1)
    assert "preprocessing must be one of" in message
