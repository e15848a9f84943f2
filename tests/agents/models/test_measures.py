"""Measures of a mask, beside ones computed pixel by pixel, and the critic that reads them."""

import math

import numpy as np
import pytest
import torch

from acis_env.context import oracle_context
from acis_env.networks import CONTEXT_CHANNELS, FOREGROUND
from agents.models.measures import MEASURES, mask_measures, pointing, widened
from agents.models.ranking_critic import RankingCritic, RankingCriticConfig

SIZE = (32, 64)


def random_scene(seed=0, batch=2):
    """Masks, `M_t` and contexts of noise, smoothed so that masks have an inside."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(batch, 2, *SIZE, generator=generator)
    masks = torch.sigmoid(8 * torch.nn.functional.avg_pool2d(noise, 9, 1, 4))
    context = torch.rand(batch, CONTEXT_CHANNELS, *SIZE, generator=generator)
    return masks[:, :1], masks[:, 1:], context


def measures_of(mask, covered, context):
    return mask_measures(mask, covered, context[:, FOREGROUND : FOREGROUND + 1], pointing(context))


def slow_measures(m, covered, context):
    """The twelve measures of one mask `[H, W]`, by loops over pixels."""
    height, width = m.shape
    f = context[FOREGROUND]
    pixels = [(r, c) for r in range(height) for c in range(width)]
    reach = max(round(min(height, width) / 32), 1)

    def rim(r, c):
        window = m[max(r - reach, 0) : r + reach + 1, max(c - reach, 0) : c + reach + 1]
        return max(window.max() - m[r, c], 0.0)

    def mean(value, weight):
        total = sum(weight(r, c) for r, c in pixels)
        return sum(value(r, c) * weight(r, c) for r, c in pixels) / (total + 1e-3)

    def inside(r, c):
        return m[r, c]

    def rounded(r, c):
        return float(m[r, c] >= 0.5)

    def outward(weight):
        row, column = mean(lambda r, c: r, weight), mean(lambda r, c: c, weight)

        def agreement(r, c):
            x = y = 0.0
            for k in range(8):
                probability, angle = context[FOREGROUND + 1 + k, r, c], -math.pi + k * math.pi / 4
                y, x = y + probability * math.sin(angle), x + probability * math.cos(angle)
            down, right = r - row, c - column
            return (y * down + x * right) / math.sqrt(down**2 + right**2 + 0.25)

        return agreement, mean(lambda r, c: (r - row) ** 2 + (c - column) ** 2, weight)

    agreement, moment = outward(inside)
    agreement_rounded, _ = outward(rounded)
    area = m.sum()
    return [
        math.sqrt(area / (height * width) + 1e-8),
        (m * f).sum() / max(f.sum(), 1),
        mean(inside, inside),
        area / (2 * math.pi * moment + 1),
        mean(lambda r, c: covered[r, c], inside),
        mean(lambda r, c: f[r, c], inside),
        mean(lambda r, c: f[r, c] * (1 - covered[r, c]), inside),
        mean(lambda r, c: f[r, c] * (1 - covered[r, c]), rim),
        mean(lambda r, c: 1 - f[r, c], rim),
        mean(agreement, inside),
        mean(agreement_rounded, rounded),
        mean(lambda r, c: f[r, c] * (1 - covered[r, c]) * agreement(r, c), rim),
    ]


def test_measures_are_those_computed_pixel_by_pixel():
    mask, covered, context = random_scene()
    found = measures_of(mask, covered, context).double().numpy()
    assert found.shape == (2, len(MEASURES))
    for scene in range(2):
        slow = slow_measures(*(x[scene].squeeze(0).double().numpy() for x in (mask, covered, context)))
        np.testing.assert_allclose(found[scene], slow, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [(32, 32), (64, 96), (224, 160), (352, 352)])
def test_the_rim_is_as_wide_as_the_picture_asks_for(size):
    reach = min(size) // 32
    mask = torch.rand(2, *size, generator=torch.Generator().manual_seed(1)) ** 8
    padded = np.pad(mask.numpy(), ((0, 0), (reach, reach), (reach, reach)))
    window = (2 * reach + 1, 2 * reach + 1)
    expected = np.lib.stride_tricks.sliding_window_view(padded, window, axis=(1, 2)).max((3, 4))
    assert np.array_equal(widened(mask, reach).numpy(), expected)


def test_an_empty_mask_has_measures_of_zero_and_finite_gradients():
    _, covered, context = random_scene()
    mask = torch.zeros(2, 1, *SIZE, requires_grad=True)
    found = measures_of(mask, covered, context)
    found.sum().backward()
    assert found.abs().max() < 2e-4
    assert torch.isfinite(mask.grad).all()


def disc(row, column, radius):
    rows, columns = torch.meshgrid(torch.arange(SIZE[0]), torch.arange(SIZE[1]), indexing="ij")
    return ((rows - row) ** 2 + (columns - column) ** 2 <= radius**2).float()


@pytest.fixture
def two_discs():
    """Context by the truth of two discs, and the discs `[1, 1, H, W]`."""
    left, right = disc(16, 16, 9), disc(16, 44, 9)
    label_map = (left + 2 * right).long()[None]
    context = oracle_context(torch.zeros(1, 3, *SIZE, dtype=torch.uint8), label_map, 2)
    return context, left[None, None], right[None, None]


def test_pixels_of_a_whole_instance_point_away_from_its_centre_and_those_of_parts_and_pairs_do_not(two_discs):
    context, left, right = two_discs
    nothing = torch.zeros_like(left)
    part = disc(16, 11, 4)[None, None] * left
    inside, around = MEASURES.index("pointing inside"), MEASURES.index("pointing around")
    whole, half, both, between = (
        measures_of(mask, nothing, context)[0] for mask in (left, part, left + right, disc(16, 30, 9)[None, None])
    )
    assert whole[inside] > 0.9
    assert max(half[inside], both[inside], between[inside]) < whole[inside] - 0.3
    assert half[around].abs() > whole[around].abs()
    assert whole[MEASURES.index("compactness")] > 0.9 > both[MEASURES.index("compactness")] + 0.3
    assert whole[MEASURES.index("background around")] > 0.95
    assert half[MEASURES.index("uncovered around")] > 0.3


def test_where_pixels_lie_is_exact_whatever_the_precision_of_the_networks(two_discs):
    context, _, _ = two_discs
    exact = pointing(context)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(pointing(context), exact)


def test_what_is_covered_already_counts_as_covered(two_discs):
    context, left, right = two_discs
    overlap, uncovered = MEASURES.index("overlap"), MEASURES.index("uncovered inside")
    again, fresh = measures_of(left, left, context)[0], measures_of(right, left, context)[0]
    assert (again[overlap] > 0.99, fresh[overlap] < 0.01) == (True, True)
    assert (again[uncovered] < 0.01, fresh[uncovered] > 0.99) == (True, True)


def test_the_gradient_of_every_measure_is_that_of_finite_differences():
    mask, covered, context = random_scene(3, batch=1)
    mask.requires_grad_()
    direction = mask.detach().roll((3, 5), (2, 3))  # as smooth as the mask: the same neighbour stays the largest
    smooth = [i for i, name in enumerate(MEASURES) if "rounded" not in name]
    for i in smooth:
        (slope,) = torch.autograd.grad(measures_of(mask, covered, context)[0, i], mask)
        with torch.no_grad():
            ends = [measures_of(mask + e * direction, covered, context)[0, i].double() for e in (1e-3, -1e-3)]
        expected = (ends[0] - ends[1]) / 2e-3
        assert (slope * direction).sum().item() == pytest.approx(expected.item(), rel=0.05, abs=2e-4), MEASURES[i]


def test_a_critic_that_ranks_reads_measures_and_nothing_else(tiny, begin):
    state = begin(tiny, [1, 2])
    torch.manual_seed(0)
    critic = RankingCritic(RankingCriticConfig(hidden=(8,)))
    masks = torch.rand(2, 1, 32, 32)
    value = critic(critic.condition(state.context), state.accumulated_mask, masks)
    expected = critic.head(measures_of(masks, state.accumulated_mask, state.context))[:, 0]
    torch.testing.assert_close(value, expected)
    other = state.context.clone()
    other[:, :FOREGROUND] = 0  # the image
    torch.testing.assert_close(critic(critic.condition(other), state.accumulated_mask, masks), value)
