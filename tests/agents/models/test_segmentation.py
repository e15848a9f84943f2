"""Pictures of any size: windows, their scale, and instances that lie in several of them.

A stand-in takes the place of the trained networks: it knows every disc of a picture by its colour.
"""

import logging

import numpy as np
import pytest
import torch

from acis_env.datasets.preprocessing import Squeeze, Tile
from acis_env.metrics import segmentation_metrics
from agents.models.agent import Agent
from agents.models.composition import PictureMasks
from agents.models.prediction import Prediction
from agents.models.scale import TrainingScale, estimate_scale, foreground_depth, measure_scale

RADII = (4, 7)


def draw(size, count, radii=RADII, seed=0, margin=2):
    """Label map `[h, w]` of `count` discs that do not touch."""
    random, rows, columns = np.random.default_rng(seed), *np.mgrid[: size[0], : size[1]]
    label_map = np.zeros(size, np.int32)
    label = 0
    while label < count:
        radius = int(random.integers(radii[0], radii[1], endpoint=True))
        y, x = (int(random.integers(radius, side - radius)) for side in size)
        far = (rows - y) ** 2 + (columns - x) ** 2
        if not label_map[far <= (radius + margin) ** 2].any():
            label += 1
            label_map[far <= radius**2] = label
    return label_map


def paint(label_map):
    """Picture `[h, w, 3]` in which every disc has a colour of its own, on black."""
    return np.stack([label_map % 250 + 1, label_map // 250, np.full_like(label_map, 255)], -1).astype(np.uint8) * (
        label_map > 0
    )[..., None].astype(np.uint8)


class StandIn(Agent):
    """Finds the discs of a window, each a little larger or smaller than it is, and none of which little is seen."""

    blur = 1
    least = 20

    def predict_masks(self, state, max_steps=None, min_steps=0):
        found, random = [], np.random.default_rng(int((state.context[:, :3].sum() * 255).round()))
        for image in (state.context[:, :3] * 255).round().long().numpy():
            labels = image[0] - 1 + 250 * image[1]
            labels[image[2] == 0] = 0
            masks = [labels == label for label in np.unique(labels[labels > 0])]
            found.append([self._smudge(mask, random) for mask in masks if mask.sum() >= self.least][:max_steps])
        counts = torch.tensor([len(masks) for masks in found])
        stack = np.zeros((len(found), max(int(counts.max()), 1), *image.shape[1:]), np.float32)
        for place, masks in zip(stack, found, strict=True):
            place[: len(masks)] = masks if masks else place[:0]
        return Prediction(torch.from_numpy(stack), counts, counts < max_steps)

    def _smudge(self, mask, random):
        y, x = random.choice([-1, 0, 0, 0, 0, 1], 2) * self.blur
        height, width = mask.shape
        return 0.9 * np.pad(mask, 1)[1 + y : 1 + y + height, 1 + x : 1 + x + width] + 0.05


@pytest.fixture
def stand_in(agent):
    """An agent that was trained on discs of `RADII`, as it says."""
    network = agent.pretrained.context_network

    def context(images):
        planes = images.float() / 255
        foreground = (planes.amax(1, keepdim=True) > 0).float()
        return torch.cat([planes, foreground, foreground.expand(-1, 8, -1, -1) / 8], dim=1)

    network.context = context
    scale = measure_scale([draw((32, 32), 3, seed=seed) for seed in range(40)])
    return StandIn(agent.actor, agent.pretrained, max_steps=12, scale=scale)


@pytest.mark.parametrize("overlap", [None, 0.25, 0.5])
def test_sixty_discs_are_found_in_a_large_picture_and_as_many_when_it_moves_by_half_a_window(stand_in, overlap):
    label_map = draw((400, 400), 60)
    counts = []
    for shift in (0, 16):
        moved = np.pad(label_map, ((shift, 0), (shift, 0)))
        result = stand_in.segment(paint(moved), scale=1.0, overlap=overlap)
        assert result.stopped
        assert result.label_map.shape == moved.shape
        assert segmentation_metrics(result.label_map, moved)["sbd"] >= 0.85
        counts.append(len(result.order))
    assert min(counts) >= 55
    assert max(counts) <= 62
    assert abs(counts[0] - counts[1]) <= 2


def test_without_errors_in_the_windows_there_are_none_in_the_picture(stand_in):
    label_map = draw((150, 210), 30)
    stand_in.blur, stand_in.least = 0, 1
    result = stand_in.segment(paint(label_map), scale=1.0)
    metrics = segmentation_metrics(result.label_map, label_map)
    assert (metrics["sbd"], metrics["dic"], len(result)) == (1, 0, 30)
    assert len(result) > stand_in.max_steps


def test_the_agent_is_not_asked_about_windows_without_foreground_but_about_a_whole_picture_it_is(stand_in, monkeypatch):
    label_map, asked, predict = np.zeros((100, 100), np.int32), [], stand_in.predict_masks
    label_map[4:14, 4:14] = 1
    monkeypatch.setattr(stand_in, "predict_masks", lambda s, cap: asked.append(len(s)) or predict(s, cap))
    result = stand_in.segment(paint(label_map), scale=1.0, overlap=0.0)
    assert (asked, len(result), result.stopped) == ([1], 1, True)
    assert len(stand_in.segment(np.zeros((32, 32, 3), np.uint8))) == 0
    assert asked == [1, 1]
    nothing = stand_in.segment(np.zeros((100, 100, 3), np.uint8), scale=1.0)
    assert (asked, len(nothing), nothing.label_map.max(), nothing.stopped) == ([1, 1], 0, 0, True)


def test_the_cap_is_that_of_a_window(stand_in):
    label_map = draw((100, 100), 12)
    result = stand_in.segment(paint(label_map), max_steps=1, scale=1.0)
    assert not result.stopped
    assert 1 < len(result.order) <= 12


@pytest.mark.parametrize("factor", [0.4, 1, 2, 3.5])
def test_the_scale_is_estimated_at_which_objects_are_as_large_as_in_training(stand_in, factor):
    radii = tuple(round(factor * radius) for radius in RADII)
    label_map = draw((300, 340), 20, radii)
    expected = np.sqrt(np.mean(np.square(np.arange(RADII[0], RADII[1] + 1)))) / np.sqrt(
        np.mean([np.bincount(label_map.ravel())[1:] / np.pi])
    )
    predict = lambda windows: windows.max(1) > 127  # noqa: E731
    image = paint(np.where(label_map > 0, 1, 0)).transpose(2, 0, 1)
    found = estimate_scale(image, (32, 32), stand_in.scale.depth, predict)
    assert found == pytest.approx(expected, rel=0.25)


def test_an_estimated_scale_is_used(stand_in):
    label_map = draw((300, 300), 30, (12, 21))
    stand_in.least = 1
    result = stand_in.segment(paint(np.where(label_map > 0, 1, 0)), scale="auto")
    assert isinstance(result.parts.preprocessing, Tile)
    assert 0.2 < result.parts.preprocessing.scale < 0.5
    with pytest.raises(ValueError, match="no objects were found in a picture of 40x50 at any scale"):
        stand_in.segment(np.zeros((40, 50, 3), np.uint8), scale="auto")


def test_scales_and_overlaps_that_are_none_are_named(stand_in):
    image = paint(draw((60, 60), 2))
    for how, named in (
        ({"scale": 0.0}, "scale of .* must be a positive number, got 0.0"),
        ({"scale": "large"}, "scale must be a positive number or 'auto', got 'large'"),
        ({"scale": True}, "scale must be a positive number or 'auto', got True"),
        ({"max_steps": -1}, "max_steps must be a number of masks, at least 0, or None, got -1"),
        ({"max_steps": 2.5}, "max_steps must be a number of masks, at least 0, or None, got 2.5"),
        ({"scale": 1.0, "overlap": 0.9}, "overlap of .* got 0.9"),
        ({"overlap": 0.5}, "overlap needs windows.*'squeeze'"),
    ):
        with pytest.raises(ValueError, match=named):
            stand_in.segment(image, **how)
    assert stand_in.segment(image, scale=np.float32(1.0)).parts.preprocessing.scale == 1
    stand_in.scale = None
    with pytest.raises(ValueError, match="does not say at which scale it was trained"):
        stand_in.segment(image, scale="auto")


def test_pictures_together_are_segmented_as_each_alone_and_in_full_batches(stand_in, monkeypatch):
    images = [paint(draw((70, 90), 4, seed=1)), paint(draw((40, 33), 2, seed=2)), paint(draw((100, 32), 3, seed=3))]
    stand_in.blur = 0
    alone = [stand_in.segment(image, scale=1.0) for image in images]
    monkeypatch.setattr("agents.models.segmentation.MAX_WINDOWS", 7)
    sizes, begin = [], stand_in.source.begin_images
    monkeypatch.setattr(stand_in.source, "begin_images", lambda w, cap: sizes.append(len(w)) or begin(w, cap))
    together = stand_in.segment(images, scale=1.0)
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one.label_map, other.label_map)
        np.testing.assert_array_equal(one.masks, other.masks)
    assert set(sizes[:-1]) == {7}
    assert stand_in.segment([]) == []


def test_masks_are_made_large_when_they_are_asked_for_and_not_before(stand_in, monkeypatch):
    image, made, stack = paint(draw((80, 80), 6)), [], PictureMasks._stack
    monkeypatch.setattr(PictureMasks, "_stack", lambda *arguments: made.append(1) or stack(*arguments))
    result = stand_in.segment(image, scale=1.0)
    assert (len(result), made) == (len(result.parts), [])
    assert result.masks.shape == (len(result), 80, 80)
    assert result.masks.dtype == bool
    assert stand_in.segment(image, scale=1.0, soft=True).masks.dtype == np.float32
    assert len(made) == 3


def test_a_warning_names_the_limits_where_objects_are_far_from_the_size_of_training(stand_in, caplog):
    near, far = paint(draw((32, 32), 2)), paint(draw((320, 320), 20))
    with caplog.at_level(logging.WARNING):
        stand_in.segment(near)
        stand_in.segment(far, scale=1.0)
    assert caplog.records == []
    with caplog.at_level(logging.WARNING):
        stand_in.segment(far)
    (record,) = caplog.records
    assert "320x320" in record.getMessage()
    assert "below 0.5 and above 2 times" in record.getMessage()
    assert f"about {stand_in.scale.width:.0f} px wide in windows of 32x32" in record.getMessage()


def test_the_scale_of_training_is_that_of_its_instances():
    label_maps = [draw((40, 50), 5, seed=seed) for seed in range(3)]
    label_maps[1][:, :10] = -1  # ignored
    widths = [np.sqrt((m == k).sum()) for m in label_maps for k in range(1, 6) if (m == k).any()]
    depths = []
    for label_map in label_maps:
        background = np.argwhere(label_map <= 0)
        depths += [np.hypot(*(background - place).T).min() for place in np.argwhere(label_map > 0)]
    scale = measure_scale(label_maps)
    assert scale.width == pytest.approx(np.median(widths))
    assert scale.depth == pytest.approx(np.mean(depths))
    assert measure_scale([np.zeros((4, 4), int)]) is None
    assert foreground_depth([np.ones((4, 4), bool)]) is None


def test_the_scale_of_training_is_kept_in_the_agents_file(agent, tmp_path):
    for scale in (None, TrainingScale(9.5, 2.25)):
        agent.scale = scale
        agent.save(tmp_path / "agent.pt")
        assert Agent.load(tmp_path).scale == scale
    with pytest.raises(ValueError, match="depth must be positive, got 0"):
        TrainingScale(1.0, 0.0)


@pytest.mark.parametrize("scale", [0.31, 0.5, 1.0, 1.7])
@pytest.mark.parametrize("size", [(90, 71), (20, 100)])
def test_a_mask_in_its_rectangle_is_that_of_the_whole_picture(scale, size):
    preprocessing, random = Tile((32, 32), scale), np.random.default_rng(0)
    for number in range(len(preprocessing.windows(size))):
        mask = random.random((32, 32)).astype(np.float32)
        whole = preprocessing.masks_back(mask[None], size, number)[0]
        window, part = preprocessing.mask_back(mask, size, number)
        np.testing.assert_allclose(window.cut(whole), part, atol=1e-5)
        window.cut(whole)[...] = 0
        assert np.abs(whole).max() < 1e-6
    window, part = Squeeze((32, 32)).mask_back(mask, size)
    np.testing.assert_array_equal(part, Squeeze((32, 32)).masks_back(mask[None], size)[0])
