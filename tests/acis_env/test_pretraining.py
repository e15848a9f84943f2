"""Pre-training: very short runs, and evaluations of networks whose quality is known."""

import json
import os
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from acis_env import pretraining
from acis_env.augment import Augmentation
from acis_env.autoencoder import MaskAutoencoder
from acis_env.context import ContextConfig, UNet, oracle_context, quantise_angles
from acis_env.datasets import PackedScenes, Scene
from acis_env.decoder import AutoencoderConfig
from acis_env.interruption import Interrupted
from acis_env.metrics import segmentation_metrics
from acis_env.networks import TrunkConfig
from acis_env.pretraining import (
    PretrainConfig,
    evaluate_autoencoder,
    evaluate_context,
    image_statistics,
    is_finished,
    iterate,
    pretrain_autoencoder,
    pretrain_context,
    state_file,
)
from acis_env.unfinished import Unfinished
from acis_env.weights import load_autoencoder, load_context_network, load_pretrained

AS_DRAWN = Augmentation(flip=False, quarter_turns=False)
SHORT = PretrainConfig(iterations=4, batch_size=3, eval_every=3, seed=5)
CONTEXT = ContextConfig(widths=(4, 6), size=(32, 32))
AUTOENCODER = AutoencoderConfig((32, 32), 3, 8, 2, (4, 4), TrunkConfig((4, 4), 8, "stride"))


class PaintedContext(nn.Module):
    """Knows the context by heart: the red channel of the image is the label map."""

    def __init__(self, change=lambda context: context):
        super().__init__()
        self.change = change

    def context(self, images):
        return self.change(oracle_context(images, images[:, 0].long(), 4))


class Copy(nn.Module):
    """Reconstructs every mask as `change` of it."""

    def __init__(self, change=lambda masks: masks):
        super().__init__()
        self.change = change

    def reconstruct(self, context, masks):
        return self.change(masks)


@pytest.fixture
def packed(scenes):
    return PackedScenes(scenes, (32, 32))


@pytest.fixture
def painted(scenes, make_scenes):
    """The scenes, with the label map as red channel of the image."""
    images = [np.stack([scene.label_map] * 3).astype(np.uint8) for scene in scenes]
    return PackedScenes(
        make_scenes(Scene(image, scene.label_map, "") for image, scene in zip(images, scenes, strict=True)), (32, 32)
    )


def same(first, second):
    """Whether two networks have equal weights."""
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_pretraining_writes_the_networks_it_returns(packed, tmp_path):
    context_network = pretrain_context(packed, packed, CONTEXT, SHORT, tmp_path)
    autoencoder = pretrain_autoencoder(packed, packed, context_network, AUTOENCODER, SHORT, tmp_path)
    loaded = load_pretrained(tmp_path)
    assert same(loaded.context_network, context_network)
    assert same(loaded.autoencoder, autoencoder)
    for network in (context_network, autoencoder):
        assert not network.training
        assert not any(parameter.requires_grad for parameter in network.parameters())


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(packed, tmp_path):
    other_seed = PretrainConfig(iterations=4, batch_size=3, seed=6)
    networks = []
    for name, config in (("a", SHORT), ("b", SHORT), ("c", other_seed)):
        context_network = pretrain_context(packed, packed, CONTEXT, config, tmp_path / name)
        torch.rand(7)  # moves torch's own generator between the runs
        networks.append(
            (
                context_network,
                pretrain_autoencoder(packed, packed, context_network, AUTOENCODER, config, tmp_path / name),
            )
        )
    for first, second, third in zip(*networks, strict=True):
        assert same(first, second)
        assert not same(first, third)


def test_the_notes_beside_the_weights_tell_the_settings_and_the_scores(packed, tmp_path):
    network = pretrain_context(packed, packed, CONTEXT, SHORT, tmp_path)
    notes = json.loads((tmp_path / "context.json").read_text())["training"]
    assert notes["iteration"] == 4
    assert notes["seed"] == 5
    assert notes["held_out"] == pytest.approx(evaluate_context(network, packed))


def test_longer_training_of_the_context_network_scores_better(packed, tmp_path):
    config = PretrainConfig(iterations=60, batch_size=5, learning_rate=1e-2, augmentation=AS_DRAWN)
    before = pretrain_context(packed, packed, CONTEXT, SHORT, tmp_path / "short")
    after = pretrain_context(packed, packed, CONTEXT, config, tmp_path / "long")
    scores = [evaluate_context(network, packed) for network in (before, after)]
    assert scores[1]["foreground_dice"] > scores[0]["foreground_dice"]
    assert scores[1]["foreground_dice"] > 0.8
    assert scores[1]["angle_accuracy"] > max(0.3, scores[0]["angle_accuracy"])
    assert same(load_context_network(tmp_path / "long"), after)


def test_longer_training_of_the_autoencoder_scores_better(painted, tmp_path):
    sizes = AutoencoderConfig((32, 32), 4, 16, 4, (8, 6), TrunkConfig((8, 8), 16, "stride"))
    config = PretrainConfig(iterations=120, batch_size=5, learning_rate=3e-3, kl_weight=0.1, augmentation=AS_DRAWN)
    scores = []
    for name, schedule in (("short", SHORT), ("long", config)):
        autoencoder = pretrain_autoencoder(painted, painted, PaintedContext(), sizes, schedule, tmp_path / name)
        scores.append(evaluate_autoencoder(autoencoder, PaintedContext(), painted)["reconstruction_dice"])
    assert scores[1] > max(0.6, scores[0])
    assert same(load_autoencoder(tmp_path / "long"), autoencoder)


def test_the_autoencoder_is_trained_on_one_instance_at_a_time_and_in_the_end_on_all(painted, tmp_path, monkeypatch):
    found, loss = set(), MaskAutoencoder.loss

    def record(autoencoder, context, masks, *args):
        label_maps = (context[:, 0] * 255).round()
        for label_map, mask in zip(label_maps, masks[:, 0], strict=True):
            (label,) = label_map[mask > 0].unique().tolist()
            assert label > 0
            assert torch.equal(mask, (label_map == label).float())
            found.add((label_map.numpy().tobytes(), label))
        return loss(autoencoder, context, masks, *args)

    monkeypatch.setattr(MaskAutoencoder, "loss", record)
    config = PretrainConfig(iterations=25, batch_size=5, augmentation=AS_DRAWN)
    pretrain_autoencoder(painted, painted, PaintedContext(), AUTOENCODER, config, tmp_path)
    assert len(found) == 2 + 3 + 1 + 4 + 3


def test_training_that_diverges_stops_with_the_iteration(packed, tmp_path):
    config = PretrainConfig(iterations=30, batch_size=3, learning_rate=1e30)
    with pytest.raises(FloatingPointError, match=r"at iteration \d+; lower the learning rate"):
        pretrain_context(packed, packed, CONTEXT, config, tmp_path)
    assert not (tmp_path / "context.safetensors").exists()


def test_a_perfect_context_scores_one(painted):
    assert evaluate_context(PaintedContext(), painted) == {"foreground_dice": 1, "angle_accuracy": 1}


def test_an_empty_context_has_no_foreground(painted):
    scores = evaluate_context(PaintedContext(lambda context: context * 0), painted)
    assert scores["foreground_dice"] == 0


def test_the_angle_accuracy_counts_instance_pixels_in_the_right_bin(painted):
    # Shifted by one bin, no pixel is right; with "right" everywhere, those whose bin is 4 are.
    def shift(context):
        return torch.cat([context[:, :4], context[:, 4:].roll(1, dims=1)], dim=1)

    def constant(context):
        return torch.cat([context[:, :4], torch.eye(8)[4].view(1, 8, 1, 1).expand(len(context), 8, 32, 32)], dim=1)

    label_maps = torch.from_numpy(np.stack([scene.label_map for scene in painted.dataset])).long()
    bins = quantise_angles(label_maps, 4)
    assert evaluate_context(PaintedContext(shift), painted)["angle_accuracy"] == 0
    expected = float(bins[:, 4].sum() / bins.sum())
    assert evaluate_context(PaintedContext(constant), painted)["angle_accuracy"] == pytest.approx(expected)


def test_the_foreground_dice_is_that_of_all_pixels_together(painted):
    # With everything foreground: 2 * instance pixels / (all pixels + instance pixels).
    scores = evaluate_context(PaintedContext(torch.ones_like), painted)
    area = sum(int((scene.label_map > 0).sum()) for scene in painted.dataset)
    assert scores["foreground_dice"] == pytest.approx(2 * area / (5 * 32 * 32 + area))


def test_a_perfect_autoencoder_scores_one_and_an_empty_one_zero(painted):
    perfect = evaluate_autoencoder(Copy(), PaintedContext(), painted)
    assert perfect == {"reconstruction_dice": 1, "reconstruction_dice_q10": 1, "reconstruction_sbd": 1}
    empty = evaluate_autoencoder(Copy(torch.zeros_like), PaintedContext(), painted)
    assert empty == {"reconstruction_dice": 0, "reconstruction_dice_q10": 0, "reconstruction_sbd": 0}


def test_the_bound_is_the_sbd_of_the_label_maps_that_reconstructions_make(painted):
    def drop_half(masks):
        halved = masks * 0.9
        halved[:, :, :, 16:] = 0
        return halved

    scores = evaluate_autoencoder(Copy(drop_half), PaintedContext(), painted)
    expected = []
    for scene in painted.dataset:
        kept = scene.label_map.copy()
        kept[:, 16:] = 0
        expected.append(segmentation_metrics(kept, scene.label_map)["sbd"])
    assert 0 < np.mean(expected) < 1
    assert scores["reconstruction_sbd"] == pytest.approx(np.mean(expected))


def test_a_hopeless_training_is_warned_of_after_its_first_tenth(packed, tmp_path, monkeypatch, caplog):
    scores = iter([{"foreground_dice": 0.2}, {"foreground_dice": 0.9}])
    seen = []

    def evaluate(network, scenes):
        assert network.training
        seen.append(json.loads((tmp_path / "context.json").read_text())["training"] if seen else None)
        return next(scores)

    monkeypatch.setattr("acis_env.pretraining.evaluate_context", evaluate)
    pretrain_context(packed, packed, CONTEXT, PretrainConfig(iterations=20, batch_size=2, eval_every=1000), tmp_path)
    assert [record.getMessage() for record in caplog.records] == [
        "after 2 of 20 iterations: foreground Dice of the context network is 0.200 on held-out scenes, expected at "
        "least 0.5 at the end"
    ]
    assert (seen[1]["iteration"], seen[1]["held_out"]) == (2, {"foreground_dice": 0.2})


def test_an_early_measurement_changes_nothing_of_the_training(packed, tmp_path):
    networks = []
    for every in (1, 1000):
        config = PretrainConfig(iterations=11, batch_size=2, eval_every=every)
        networks.append(pretrain_context(packed, packed, CONTEXT, config, tmp_path / str(every)))
    assert same(*networks)


def test_the_reconstruction_dice_averages_over_instances(painted):
    scores = evaluate_autoencoder(Copy(torch.ones_like), PaintedContext(), painted)
    areas = [(scene.label_map == k + 1).sum() for scene in painted.dataset for k in range(scene.num_instances)]
    dice = [2 * area / (area + 32 * 32) for area in areas]
    assert len(dice) == 13
    assert scores["reconstruction_dice"] == pytest.approx(np.mean(dice))
    assert scores["reconstruction_dice_q10"] == pytest.approx(np.quantile(dice, 0.1))


def test_an_iteration_over_a_data_set_visits_every_scene_once_in_order(packed):
    batches = [batch.indices.tolist() for batch in iterate(packed, batch_size=2)]
    assert batches == [[0, 1], [2, 3], [4]]


def test_statistics_are_those_of_the_pixels_in_the_unit_interval(packed, scenes):
    mean, std = image_statistics(packed, limit=2)
    pixels = np.stack([scene.image for scene in scenes[:2]]).transpose(1, 0, 2, 3).reshape(3, -1) / 255
    assert mean == pytest.approx(pixels.mean(1), abs=1e-4)
    assert std == pytest.approx(pixels.std(1), abs=1e-4)


@pytest.fixture
def signal_at(monkeypatch):
    """A function that sends a signal with one call of a function of `pretraining`, and returns all of its calls."""

    def patch(name, call, number):
        function, calls = getattr(pretraining, name), []

        def counted(*arguments):
            calls.append(1)
            if len(calls) == call:
                os.kill(os.getpid(), number)
            return function(*arguments)

        monkeypatch.setattr(pretraining, name, counted)
        return calls

    return patch


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_pre_training_with_its_state_from_which_it_goes_on_to_the_same_bits(
    packed, tmp_path, signal_at, number
):
    config = PretrainConfig(iterations=8, batch_size=2, eval_every=1000)
    whole = pretrain_context(packed, packed, CONTEXT, config, tmp_path / "whole")
    drawn = signal_at("draw_batch", 3, number)
    with pytest.raises(
        Interrupted, match=f"{number.name} after iteration 3 of 8: {tmp_path / 'stopped'} holds"
    ) as info:
        pretrain_context(packed, packed, CONTEXT, config, tmp_path / "stopped")
    assert info.value.number == number
    assert same(pretrain_context(packed, packed, CONTEXT, config, tmp_path / "stopped"), whole)
    assert len(drawn) == 8


def test_a_signal_during_the_last_evaluation_ends_a_pre_training_that_then_has_nothing_left_to_learn(
    packed, tmp_path, monkeypatch, signal_at
):
    whole = pretrain_context(packed, packed, CONTEXT, SHORT, tmp_path / "whole")
    signal_at("evaluate_context", 2, signal.SIGINT)
    with pytest.raises(Interrupted, match="SIGINT after iteration 4 of 4"):
        pretrain_context(packed, packed, CONTEXT, SHORT, tmp_path / "stopped")
    monkeypatch.setattr(pretraining, "draw_batch", lambda *_: pytest.fail("goes on learning"))
    assert same(pretrain_context(packed, packed, CONTEXT, SHORT, tmp_path / "stopped"), whole)
    assert not list((tmp_path / "stopped").glob(".*.pt"))


def test_a_finished_network_and_the_state_of_another_training_are_replaced_only_where_that_is_asked_for(
    packed, tmp_path
):
    pretrain_context(packed, packed, CONTEXT, SHORT, tmp_path, overwrite=False)
    assert is_finished(tmp_path, "context")
    before = (tmp_path / "context.safetensors").read_bytes()
    with pytest.raises(ValueError, match=f"{tmp_path} holds a finished context already: choose another folder"):
        pretrain_context(packed, packed, CONTEXT, replace(SHORT, seed=6), tmp_path, overwrite=False)
    assert (tmp_path / "context.safetensors").read_bytes() == before
    (tmp_path / "other").mkdir()
    Unfinished(state_file(tmp_path / "other", "context"), {"training": "another"}).save(
        nn.Linear(1, 1), torch.optim.Adam([nn.Parameter(torch.zeros(1))]), 1
    )
    with pytest.raises(ValueError, match="holds the state of an unfinished training of its context with other"):
        pretrain_context(packed, packed, CONTEXT, SHORT, tmp_path / "other", overwrite=False)
    pretrain_context(packed, packed, CONTEXT, SHORT, tmp_path / "other")
    assert is_finished(tmp_path / "other", "context")


def test_an_autoencoder_beside_another_context_network_than_its_own_is_warned_of(packed, tmp_path, caplog):
    context_network = pretrain_context(packed, packed, CONTEXT, SHORT, tmp_path)
    pretrain_autoencoder(packed, packed, context_network, AUTOENCODER, SHORT, tmp_path)
    caplog.clear()
    load_pretrained(tmp_path)
    assert not caplog.records
    pretrain_context(packed, packed, CONTEXT, replace(SHORT, seed=6), tmp_path)
    load_pretrained(tmp_path)
    assert "was trained with another context network than the one beside it" in caplog.text


def test_dropout_draws_the_same_where_a_pre_training_goes_on(packed, tmp_path, monkeypatch, signal_at):
    class Dropping(UNet):
        def forward(self, images):
            return nn.functional.dropout(super().forward(images), 0.5, self.training)

    monkeypatch.setattr("acis_env.context.UNet", Dropping)
    whole = pretrain_context(packed, packed, CONTEXT, SHORT, tmp_path / "whole")
    signal_at("draw_batch", 2, signal.SIGTERM)
    with pytest.raises(Interrupted):
        pretrain_context(packed, packed, CONTEXT, SHORT, tmp_path / "stopped")
    assert same(pretrain_context(packed, packed, CONTEXT, SHORT, tmp_path / "stopped"), whole)


@pytest.mark.parametrize("failing", [1, 2])
def test_what_was_learnt_before_an_evaluation_failed_is_kept(packed, tmp_path, monkeypatch, failing):
    whole = pretrain_context(packed, packed, CONTEXT, SHORT, tmp_path / "whole")
    drawn, measured, draw, evaluate = [], [], pretraining.draw_batch, pretraining.evaluate_context

    def count_and_draw(*arguments):
        drawn.append(1)
        return draw(*arguments)

    def fail_once(*arguments):
        measured.append(1)
        if len(measured) == failing:
            raise FileNotFoundError("val/00_rgb.png: no such image")
        return evaluate(*arguments)

    monkeypatch.setattr(pretraining, "draw_batch", count_and_draw)
    monkeypatch.setattr(pretraining, "evaluate_context", fail_once)
    with pytest.raises(FileNotFoundError, match="no such image"):
        pretrain_context(packed, packed, CONTEXT, SHORT, tmp_path / "failed")
    assert len(drawn) == (3 if failing == 1 else 4)
    assert same(pretrain_context(packed, packed, CONTEXT, SHORT, tmp_path / "failed"), whole)
    assert len(drawn) == 4
    first, second = (json.loads((tmp_path / n / "context.json").read_text()) for n in ("whole", "failed"))
    assert first["training"]["held_out"] == second["training"]["held_out"]
    assert not list((tmp_path / "failed").glob(".*.pt"))
