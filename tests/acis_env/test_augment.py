import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from acis_env.augment import Augmentation, augment, compact_labels

NO_AUGMENTATION = Augmentation(flip=False, quarter_turns=False)
EVERYTHING = Augmentation(rotation=30, scale=(0.7, 1.5), brightness=0.3, contrast=0.3, saturation=0.3)


def random_batch(batch=4, height=64, width=64, instances=5, seed=0):
    rng = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (batch, 3, height, width), dtype=torch.uint8, generator=rng)
    label_maps = torch.randint(0, instances + 1, (batch, height, width), generator=rng)
    return images, label_maps


def rows(*changes):
    """One row of parameters per dictionary: what to change about doing nothing, by column."""
    parameters = np.stack([Augmentation.identity()] * len(changes))
    for row, change in zip(parameters, changes, strict=True):
        for column, value in change.items():
            row[column] = value
    return torch.from_numpy(parameters)


FLIP, TURNS, ROTATION, ZOOM, BRIGHTNESS, CONTRAST, SATURATION = range(7)


@pytest.mark.parametrize("side", [32, 96, 224, 256])
def test_flips_and_quarter_turns_move_every_pixel_exactly(side):
    images, label_maps = random_batch(batch=8, height=side, width=side)
    symmetries = [(flip, turns) for flip in (0, 1) for turns in range(4)]
    parameters = rows(*({FLIP: flip, TURNS: turns} for flip, turns in symmetries))
    new_images, new_maps = augment(images, label_maps, parameters)
    for scene, (flip, turns) in enumerate(symmetries):
        for old, new in ((images[scene], new_images[scene]), (label_maps[scene], new_maps[scene])):
            flipped = old.flip(-1) if flip else old
            assert torch.equal(new, torch.rot90(flipped, turns, (-2, -1)))


def test_a_picture_that_is_not_square_makes_half_turns_only():
    images, label_maps = random_batch(batch=4, height=32, width=96)
    new_images, _ = augment(images, label_maps, rows(*({TURNS: turns} for turns in range(4))))
    for scene, half_turns in enumerate([0, 0, 1, 1]):
        assert torch.equal(new_images[scene], torch.rot90(images[scene], 2 * half_turns, (1, 2)))


def test_the_identity_changes_no_pixel_and_no_label():
    images, label_maps = random_batch(height=96, width=160)
    new_images, new_maps = augment(images, label_maps, rows({}, {}, {}, {}))
    assert torch.equal(new_images, images)
    assert torch.equal(new_maps, label_maps)


def test_nothing_is_drawn_when_nothing_may_change():
    row = NO_AUGMENTATION.draw(np.random.default_rng(0))
    np.testing.assert_array_equal(row, Augmentation.identity())
    assert row.dtype == np.float32


def test_draws_reach_all_eight_symmetries_and_stay_within_the_limits():
    generator = np.random.default_rng(0)
    drawn = np.stack([EVERYTHING.draw(generator) for _ in range(500)])
    assert len(np.unique(drawn[:, [FLIP, TURNS]], axis=0)) == 8
    limit = np.radians(30)
    for column, low, high in [(ROTATION, -limit, limit), (ZOOM, 0.7, 1.5), (BRIGHTNESS, 0.7, 1.3)]:
        assert low - 1e-6 <= drawn[:, column].min() < low + 0.05
        assert high - 0.05 < drawn[:, column].max() <= high + 1e-6


def test_every_augmentation_takes_the_same_count_of_random_numbers():
    generators = [np.random.default_rng(3) for _ in range(3)]
    for augmentation, generator in zip((NO_AUGMENTATION, Augmentation(), EVERYTHING), generators, strict=True):
        augmentation.draw(generator)
    assert len({generator.random() for generator in generators}) == 1


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_labels_still_lie_on_their_pixels_after_any_augmentation_of_shape(seed):
    _, label_maps = random_batch(batch=1, height=8, width=8, instances=6, seed=seed)
    label_maps = label_maps.repeat_interleave(8, 1).repeat_interleave(8, 2)
    label_maps = compact_labels(label_maps, 6)
    images = (40 * label_maps)[:, None].expand(-1, 3, -1, -1).to(torch.uint8)
    shape_only = Augmentation(rotation=180, scale=(0.6, 1.2))
    parameters = torch.from_numpy(shape_only.draw(np.random.default_rng(seed)))[None]
    new_images, new_maps = augment(images, label_maps, parameters)
    present = new_images[0, 0][new_maps[0] > 0].unique()
    old_label = torch.round(new_images[0, 0] / 40).long()
    # Pixels mixed from two instances may round to a third; all others must agree up to the renaming.
    unmixed = (new_images[0, 0] % 40 == 0) & _equal_to_neighbours(new_images[0, 0])
    for label in new_maps.unique():
        shown = old_label[(new_maps[0] == label) & unmixed].unique()
        assert len(shown) <= 1, f"label {label} lies on pixels of {shown.tolist()}"
    assert len(present) > 0


def _equal_to_neighbours(picture):
    padded = torch.nn.functional.pad(picture[None, None].float(), (1, 1, 1, 1), mode="replicate")
    highest = torch.nn.functional.max_pool2d(padded, 3, 1)
    lowest = -torch.nn.functional.max_pool2d(-padded, 3, 1)
    return (highest == lowest)[0, 0]


def test_surroundings_of_a_rotated_picture_mirror_image_and_labels_alike():
    images = torch.full((1, 3, 64, 64), 200, dtype=torch.uint8)
    label_maps = torch.ones(1, 64, 64, dtype=torch.int64)
    new_images, new_maps = augment(images, label_maps, rows({ROTATION: 0.7, ZOOM: 0.8}))
    assert new_images.eq(200).all()
    assert new_maps.eq(1).all()


def test_rotation_is_counter_clockwise_and_zoom_magnifies():
    label_maps = torch.zeros(1, 65, 65, dtype=torch.int64)
    label_maps[0, 31:34, 47:50] = 1  # 16 px right of the centre
    images = torch.zeros(1, 3, 65, 65, dtype=torch.uint8)
    _, new_maps = augment(images, label_maps, rows({ROTATION: np.radians(30), ZOOM: 1.5}))
    y, x = new_maps[0].nonzero().float().mean(0).tolist()
    assert (y, x) == pytest.approx((32 - 24 * 0.5, 32 + 24 * np.cos(np.radians(30))), abs=0.3)
    assert new_maps.sum() == pytest.approx(9 * 1.5**2, abs=3)


def test_rotation_keeps_shapes_on_a_picture_that_is_not_square():
    label_maps = torch.zeros(1, 64, 128, dtype=torch.int64)
    label_maps[0, 24:40, 56:72] = 1
    images = torch.zeros(1, 3, 64, 128, dtype=torch.uint8)
    _, new_maps = augment(images, label_maps, rows({ROTATION: np.pi / 2}))
    # Further out the mirror image of the picture begins.
    assert torch.equal(new_maps[..., 32:96], label_maps[..., 32:96])


def test_instances_that_leave_the_picture_are_dropped_and_labels_closed_up():
    label_maps = torch.zeros(1, 64, 64, dtype=torch.int64)
    label_maps[0, :4, :4] = 1
    label_maps[0, 28:32, 28:32] = 2
    label_maps[0, 34:38, 34:38] = 3
    images = torch.zeros(1, 3, 64, 64, dtype=torch.uint8)
    _, new_maps = augment(images, label_maps, rows({ZOOM: 2}))
    assert new_maps.unique().tolist() == [0, 1, 2]
    assert new_maps[0, 28, 28] == 1
    assert new_maps[0, 40, 40] == 2


def test_a_scene_that_would_lose_all_instances_stays_as_it_was_and_others_do_not():
    images, _ = random_batch(batch=2)
    label_maps = torch.zeros(2, 64, 64, dtype=torch.int64)
    label_maps[0, :4, :4] = 1
    label_maps[1, 30:34, 30:34] = 1
    new_images, new_maps = augment(images, label_maps, rows(*[{ZOOM: 2, BRIGHTNESS: 0.5}] * 2))
    assert torch.equal(new_images[0], images[0])
    assert torch.equal(new_maps[0], label_maps[0])
    assert new_maps[1].sum() == 64


def test_a_scene_looks_the_same_alone_and_in_a_batch():
    images, label_maps = random_batch(batch=6)
    generators = [np.random.default_rng([7, scene]) for scene in range(6)]
    parameters = torch.from_numpy(np.stack([EVERYTHING.draw(generator) for generator in generators]))
    together = augment(images, label_maps, parameters, max_instances=5)
    for scene in range(6):
        part = slice(scene, scene + 1)
        alone = augment(images[part], label_maps[part], parameters[part], max_instances=9)
        assert torch.equal(alone[0][0], together[0][scene])
        assert torch.equal(alone[1][0], together[1][scene])


def test_colour_factors_do_what_their_names_say():
    images, label_maps = random_batch(batch=3)
    images = images // 4 + 90
    changed, _ = augment(images, label_maps, rows({BRIGHTNESS: 0.5}, {CONTRAST: 0.5}, {SATURATION: 0.0}))
    old, new = images.float(), changed.float()
    torch.testing.assert_close(new[0], old[0] * 0.5, atol=0.51, rtol=0)
    assert new[1].std() == pytest.approx(old[1].std().item() * 0.5, rel=0.02)
    assert new[1].mean() == pytest.approx(old[1].mean().item(), abs=1)
    assert new[2].std(0).max() == 0


def test_colours_saturate_instead_of_wrapping_around():
    images = torch.full((1, 3, 32, 32), 250, dtype=torch.uint8)
    label_maps = torch.ones(1, 32, 32, dtype=torch.int64)
    assert augment(images, label_maps, rows({BRIGHTNESS: 1.5}))[0].eq(255).all()


def test_compacting_matches_renaming_by_hand():
    label_maps = torch.tensor([[[0, 5, 5], [2, 0, 9]], [[1, 1, 1], [1, 1, 1]], [[0, 0, 0], [0, 0, 0]]])
    expected = [[[0, 2, 2], [1, 0, 3]], [[1, 1, 1], [1, 1, 1]], [[0, 0, 0], [0, 0, 0]]]
    assert compact_labels(label_maps, 9).tolist() == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rotation": -1}, "rotation"),
        ({"rotation": 181}, "rotation"),
        ({"scale": (0.0, 1.0)}, "scale"),
        ({"scale": (1.2, 1.0)}, "scale"),
        ({"brightness": 1.0}, "brightness"),
        ({"contrast": -0.1}, "contrast"),
        ({"saturation": float("nan")}, "saturation"),
    ],
)
def test_a_limit_out_of_range_is_refused(options, message):
    with pytest.raises(ValueError, match=f"{message} must be"):
        Augmentation(**options)


def test_a_batch_of_the_wrong_shape_or_type_is_refused_by_name():
    images, label_maps = random_batch()
    with pytest.raises(ValueError, match="images must be uint8"):
        augment(images.float(), label_maps, rows({}, {}, {}, {}))
    with pytest.raises(ValueError, match=r"label_maps must be int64 \[B, H, W\] = \[4, 64, 64\]"):
        augment(images, label_maps[:3], rows({}, {}, {}, {}))
    with pytest.raises(ValueError, match=r"parameters must be \[B, P\] = \[4, 7\], got \[3, 7\]"):
        augment(images, label_maps, rows({}, {}, {}))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_augmentation_on_a_gpu_never_makes_the_host_wait_and_agrees_with_the_cpu():
    images, label_maps = random_batch()
    generator = np.random.default_rng(0)
    parameters = torch.from_numpy(np.stack([EVERYTHING.draw(generator) for _ in range(4)]))
    on_gpu = [tensor.cuda() for tensor in (images, label_maps, parameters)]
    torch.cuda.set_sync_debug_mode("error")
    try:
        gpu_images, gpu_maps = augment(*on_gpu, max_instances=5)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    cpu_images, cpu_maps = augment(images, label_maps, parameters, max_instances=5)
    assert (gpu_images.cpu().int() - cpu_images.int()).abs().max() <= 1
    assert (gpu_maps.cpu() == cpu_maps).float().mean() > 0.999
