"""The mask autoencoder against the plain layers it is an efficient form of."""

import itertools

import numpy as np
import pytest
import torch
from torch.distributions import Normal, kl_divergence
from torch.nn import functional as F

from acis_env import tree
from acis_env.autoencoder import MaskAutoencoder, kl_to_prior
from acis_env.context import oracle_context
from acis_env.decoder import AutoencoderConfig, StatePyramid, UpsampleConv, border, picture, pixels
from acis_env.networks import TrunkConfig
from acis_env.refinement import RefiningDecoder

MEAN, STD = (0.3, 0.4, 0.5), (0.1, 0.2, 0.3)


@pytest.fixture
def autoencoder(make_networks):
    """A tiny autoencoder in float64, so that rounding does not hide errors."""
    return make_networks(image_mean=MEAN, image_std=STD).autoencoder.double()


@pytest.fixture
def context():
    """Random contexts `[3, 12, 32, 32]` in [0, 1], float64."""
    return torch.rand(3, 12, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def latent():
    return torch.randn(3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def normalise(context):
    """Image channels minus mean, over deviation; the others as they are."""
    mean, std = (torch.tensor(values, dtype=context.dtype).view(1, 3, 1, 1) for values in (MEAN, STD))
    return torch.cat([(context[:, :3] - mean) / std, context[:, 3:]], dim=1)


def gaussian_kernel():
    """4x4 Gaussian of 2/3 pixel standard deviation around the middle of the kernel, with sum 1."""
    kernel = np.array(
        [[np.exp(-((i - 1.5) ** 2 + (j - 1.5) ** 2) / (2 * (2 / 3) ** 2)) for j in range(4)] for i in range(4)]
    )
    return kernel / kernel.sum()


def slow_level(image):
    """`image` `[H, W]` smoothed and halved by loops: kernel 4x4, stride 2, padding 1 with zeros."""
    kernel, padded = gaussian_kernel(), np.pad(image, 1)
    level = np.zeros((image.shape[0] // 2, image.shape[1] // 2))
    for row, column in itertools.product(*map(range, level.shape)):
        level[row, column] = (padded[2 * row : 2 * row + 4, 2 * column : 2 * column + 4] * kernel).sum()
    return level


def upsample_then_convolve(x, weight, bias=None):
    """Nearest upsampling x2, replication padding and a 3x3 convolution, one after the other."""
    return F.conv2d(
        F.pad(F.interpolate(x, scale_factor=2, mode="nearest"), (1, 1, 1, 1), mode="replicate"), weight, bias
    )


def naive_decoder(decoder, latent, context):
    """The decoder as the paper's code has it: features and pyramid level are concatenated at every stage."""
    levels = [normalise(context)]
    for _ in decoder.convs:
        flat = levels[-1].flatten(0, 1).numpy()
        coarser = torch.from_numpy(np.stack([slow_level(channel) for channel in flat]))
        levels.append(coarser.view(len(context), 12, *coarser.shape[1:]))
    x = F.leaky_relu(decoder.expand(F.leaky_relu(decoder.hidden(latent), 0.01)), 0.01).view(-1, *decoder.coarse)
    for conv, context_conv in zip(decoder.convs, decoder.context_convs, strict=True):
        weight = torch.cat([conv.weight, context_conv.weight], dim=1)
        x = upsample_then_convolve(torch.cat([x, levels.pop()], dim=1), weight, context_conv.bias)
        x = F.leaky_relu(x, 0.01)
    weight = torch.cat([decoder.head.weight, decoder.context_head.weight], dim=1)
    return torch.sigmoid(F.conv2d(torch.cat([x, levels.pop()], dim=1), weight, decoder.context_head.bias))


def upsample_convolve_and_pad(layer, x):
    """What `layer` makes of the bordered `x`, as a picture with its border."""
    return picture(pixels(layer(border(x))).transpose(2, 3))


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (4, 2)])
def test_the_folded_convolution_equals_upsampling_padding_and_convolving(size):
    torch.manual_seed(0)
    layer = UpsampleConv(3, 2).double()
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    expected = upsample_then_convolve(x, layer.weight, layer.bias)
    assert expected.shape == (2, 2, 2 * size[0], 2 * size[1])
    torch.testing.assert_close(upsample_convolve_and_pad(layer, x)[:, :, 1:-1, 1:-1], expected)


def test_the_border_of_a_picture_is_still_a_border_after_the_folded_convolution():
    torch.manual_seed(0)
    layer = UpsampleConv(3, 2).double()
    found = upsample_convolve_and_pad(layer, torch.randn(2, 3, 3, 5, dtype=torch.float64))
    torch.testing.assert_close(found, border(found[:, :, 1:-1, 1:-1]))


def test_cells_become_a_picture_whose_pixels_are_in_their_places():
    cells = torch.arange(2 * 12 * 2 * 3).view(2, 12, 2, 3)  # 3 channels of 2x3 cells
    found = picture(pixels(cells).transpose(2, 3))
    assert found.shape == (2, 3, 4, 6)
    for row, column in itertools.product(range(4), range(6)):
        first = 3 * (2 * (row % 2) + column % 2)
        assert torch.equal(found[:, :, row, column], cells[:, first : first + 3, row // 2, column // 2])


def test_the_folded_convolution_has_the_gradients_of_the_plain_one():
    torch.manual_seed(0)
    layer = UpsampleConv(3, 2).double()
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64, requires_grad=True)
    direction = torch.randn(2, 2, 8, 10, dtype=torch.float64)
    inputs = (x, layer.weight, layer.bias)
    found = upsample_convolve_and_pad(layer, x)[:, :, 1:-1, 1:-1]
    folded = torch.autograd.grad((found * direction).sum(), inputs)
    plain = torch.autograd.grad((upsample_then_convolve(*inputs) * direction).sum(), inputs)
    for gradient, expected in zip(folded, plain, strict=True):
        torch.testing.assert_close(gradient, expected)


def test_the_decoder_equals_one_that_concatenates_the_context_at_every_stage(autoencoder, context, latent):
    decoder = autoencoder.decoder
    masks = decoder(latent, decoder.condition(context))
    assert masks.shape == (3, 1, 32, 32)
    assert masks.std() > 0.05
    # The smoothing kernel was rounded to float32.
    torch.testing.assert_close(masks, naive_decoder(decoder, latent, context), atol=1e-5, rtol=0)


def test_the_decoder_of_the_papers_depth_and_an_oblong_size_has_full_resolution(make_networks):
    decoder = make_networks(size=(64, 96), decoder_widths=(6, 5, 4, 3, 2)).autoencoder.decoder
    context = torch.rand(2, 12, 64, 96)
    assert decoder.coarse == (4, 2, 3)
    assert decoder(torch.randn(2, 4), decoder.condition(context)).shape == (2, 1, 64, 96)


def test_the_encoder_equals_one_that_concatenates_context_and_mask(autoencoder, context):
    encoder, trunk = autoencoder.encoder, autoencoder.encoder.trunk
    masks = (context[:, :1] > 0.5).double()
    weight = torch.cat([trunk.context_conv.weight, trunk.mask_conv.weight], dim=1)
    x = F.conv2d(torch.cat([normalise(context), masks], dim=1), weight, trunk.context_conv.bias, stride=2, padding=1)
    x = F.relu(F.conv2d(F.relu(x), trunk.convs[0].weight, trunk.convs[0].bias, stride=2, padding=1))
    expected = encoder.head(F.leaky_relu(trunk.linear(x.flatten(1))))
    torch.testing.assert_close(torch.cat(encoder(context, masks), dim=1), expected)


def test_the_gradient_to_the_latent_equals_finite_differences(autoencoder, context, latent):
    decoder = autoencoder.decoder
    conditioning = decoder.condition(context)
    direction = torch.randn(3, 1, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(2))

    def value(code):
        return (decoder(code, conditioning) * direction).sum()

    code = latent.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(value(code), code)
    assert gradient.abs().min() > 0
    for scene, component in itertools.product(range(3), range(4)):
        shift = torch.zeros_like(latent)
        shift[scene, component] = 1e-6
        slope = (value(latent + shift) - value(latent - shift)) / 2e-6
        assert float(gradient[scene, component]) == pytest.approx(float(slope), rel=1e-4, abs=1e-6)


def test_the_smoothing_kernel_sums_to_one_and_is_the_gaussian_of_the_paper():
    kernel = StatePyramid(3).kernel
    assert kernel.shape == (12, 1, 4, 4)
    torch.testing.assert_close(kernel.sum((1, 2, 3)), torch.ones(12))
    torch.testing.assert_close(kernel[7, 0].double(), torch.from_numpy(gaussian_kernel()), atol=1e-6, rtol=0)


def test_levels_of_the_pyramid_equal_a_slow_convolution(context):
    levels = StatePyramid(2).double()(context)
    assert [tuple(level.shape[2:]) for level in levels] == [(32, 32), (16, 16), (8, 8)]
    assert torch.equal(levels[0], context)
    for fine, coarse in itertools.pairwise(levels):
        for scene, channel in [(0, 0), (1, 5), (2, 11)]:
            expected = torch.from_numpy(slow_level(fine[scene, channel].numpy()))
            torch.testing.assert_close(coarse[scene, channel], expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("state_pyramid", [True, False])
def test_only_a_decoder_without_state_pyramid_ignores_the_context(make_networks, context, state_pyramid):
    decoder = make_networks(state_pyramid=state_pyramid).autoencoder.decoder
    context, code = context.float(), torch.full((3, 4), 0.5)
    first, second = decoder(code, decoder.condition(context)), decoder(code, decoder.condition(1 - context))
    assert torch.equal(first, second) is not state_pyramid


def test_a_frozen_decoder_takes_no_gradient_but_passes_it_on_to_the_latent(make_networks, context, latent):
    autoencoder = make_networks().autoencoder.requires_grad_(True).train()
    decoder = autoencoder.decoder
    assert decoder.freeze() is decoder
    assert not any(parameter.requires_grad for parameter in decoder.parameters())
    assert not decoder.training
    code = latent.float().requires_grad_()
    decoder(code, decoder.condition(context.float())).sum().backward()
    assert (code.grad.abs().sum(1) > 0).all()
    assert all(parameter.grad is None for parameter in decoder.parameters())
    assert all(parameter.requires_grad for parameter in autoencoder.encoder.parameters())


def test_a_frozen_decoder_follows_weights_that_are_loaded_or_trained_later(make_networks, context, latent):
    frozen, other = make_networks().autoencoder.decoder.freeze(), make_networks().autoencoder.decoder
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(0.1)
    other.freeze()
    context, code = context.float(), latent.float()
    expected = other(code, other.condition(context))
    assert not torch.allclose(frozen(code, frozen.condition(context)), expected, atol=1e-3)
    frozen.load_state_dict(other.state_dict())
    torch.testing.assert_close(frozen(code, frozen.condition(context)), expected)
    frozen.requires_grad_(True)(code, frozen.condition(context)).sum().backward()
    assert all(parameter.grad is not None for parameter in frozen.parameters())


def test_a_batch_larger_than_a_chunk_is_decoded_as_scenes_are_alone(make_networks, monkeypatch):
    monkeypatch.setattr("acis_env.decoder.CPU_CHUNK_PIXELS", 4 * 32 * 32)
    decoder = make_networks().autoencoder.decoder.freeze()
    rng = torch.Generator().manual_seed(0)
    size = 11
    context, code = torch.rand(size, 12, 32, 32, generator=rng), torch.randn(size, 4, generator=rng)
    conditioning = decoder.condition(context)
    with torch.no_grad():
        masks = decoder(code, conditioning)
    assert masks.shape == (size, 1, 32, 32)
    torch.testing.assert_close(masks, torch.sigmoid(decoder.logits(code, conditioning)))


def test_autocast_decodes_in_half_the_bits_and_returns_float32(make_networks, context, latent):
    decoder = make_networks().autoencoder.decoder.freeze()
    context, code = context.float(), latent.float()
    exact = decoder(code, decoder.condition(context))
    with torch.autocast("cpu", torch.bfloat16):
        conditioning = decoder.condition(context)
        masks = decoder(code, conditioning)
    assert {share.dtype for share in tree.tensors(conditioning)} == {torch.bfloat16}
    assert masks.dtype == torch.float32
    torch.testing.assert_close(masks, exact, atol=0.02, rtol=0)
    assert not torch.equal(masks, exact)


def test_the_divergence_from_the_prior_is_that_of_two_gaussians():
    rng = torch.Generator().manual_seed(0)
    mean, log_variance = torch.randn(2, 5, 6, generator=rng)
    expected = kl_divergence(Normal(mean, (log_variance / 2).exp()), Normal(0.0, 1.0)).sum(1)
    torch.testing.assert_close(kl_to_prior(mean, log_variance), expected)
    assert float(kl_to_prior(torch.zeros(1, 6), torch.zeros(1, 6))) == 0


@pytest.mark.parametrize("kl_weight", [0.0, 1.0, 2.5])
def test_the_loss_is_cross_entropy_summed_over_pixels_plus_weighted_divergence(autoencoder, context, kl_weight):
    masks = (context[:, 4:5] > 0.7).double()
    noise = torch.randn(3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    mean, log_variance = autoencoder.encoder(context, masks)
    code = mean + noise * (log_variance / 2).exp()
    probability = autoencoder.decoder(code, autoencoder.decoder.condition(context))
    likelihood = torch.where(masks > 0, probability, 1 - probability).log().sum() / 3
    expected = kl_weight * kl_to_prior(mean, log_variance).mean() - likelihood
    torch.testing.assert_close(autoencoder.loss(context, masks, noise, kl_weight), expected)


def test_a_reconstruction_is_decoded_from_the_mean_code(autoencoder, context):
    masks = (context[:, 4:5] > 0.7).double()
    mean, _ = autoencoder.encoder(context, masks)
    expected = autoencoder.decoder(mean, autoencoder.decoder.condition(context))
    torch.testing.assert_close(autoencoder.reconstruct(context, masks), expected)


def test_training_on_one_scene_learns_its_instances(scenes):
    torch.manual_seed(0)
    config = AutoencoderConfig((32, 32), 4, 16, 4, (8, 6), TrunkConfig(widths=(8, 8), features=16, downsample="stride"))
    autoencoder = MaskAutoencoder(config)
    label_map = torch.from_numpy(scenes[3].label_map).long()
    context = oracle_context(torch.from_numpy(scenes[3].image)[None], label_map[None], 4).expand(4, -1, -1, -1)
    masks = torch.stack([label_map == label for label in range(1, 5)]).float()[:, None]
    optimizer = torch.optim.Adam(autoencoder.parameters(), 1e-2)
    losses = []
    for _ in range(250):
        loss = autoencoder.loss(context, masks, torch.randn(4, 4))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(autoencoder.parameters(), 100)  # as in pre-training; without it some seeds stall
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.15 * losses[0]
    found = autoencoder.reconstruct(context, masks) >= 0.5
    common = (found * masks).sum((1, 2, 3))
    assert (2 * common / (found.sum((1, 2, 3)) + masks.sum((1, 2, 3)))).min() > 0.9


def test_a_size_that_cannot_be_halved_often_enough_is_refused(make_networks):
    with pytest.raises(ValueError, match=r"multiples of 32, got \(48, 32\)"):
        make_networks(size=(48, 32))
    with pytest.raises(ValueError, match="6 decoder widths need sides divisible by 64"):
        make_networks(size=(32, 32), decoder_widths=(2,) * 6)


def test_a_refined_mask_is_the_reconstruction_of_the_rounded_draft(autoencoder, context, latent):
    refining = autoencoder.frozen_decoder(refine=True)
    draft = autoencoder.decoder(latent, autoencoder.decoder.condition(context))
    expected = autoencoder.reconstruct(context, (draft >= 0.5).double())
    mask = refining(latent, refining.condition(context))
    torch.testing.assert_close(mask, expected)
    assert (mask - draft).abs().max() > 0.01
    code = refining.refine(latent, refining.condition(context))
    torch.testing.assert_close(autoencoder.decoder(code, autoencoder.decoder.condition(context)), expected)


def test_the_gradient_of_a_refined_mask_is_that_of_its_draft(autoencoder, context, latent):
    plain, refining = (autoencoder.frozen_decoder(refine) for refine in (False, True))
    weights = torch.rand(3, 1, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    gradients = []
    for decoder in (plain, refining):
        leaf = latent.clone().requires_grad_()
        (decoder(leaf, decoder.condition(context)) * weights).sum().backward()
        gradients.append(leaf.grad)
    torch.testing.assert_close(*gradients)
    assert gradients[0].norm() > 0
    with torch.no_grad():
        value = refining(latent, refining.condition(context))
    leaf = latent.clone().requires_grad_()
    torch.testing.assert_close(refining(leaf, refining.condition(context)).detach(), value)


def test_a_scene_is_refined_alone_as_in_a_batch(autoencoder, context, latent):
    refining = autoencoder.frozen_decoder(refine=True)
    conditioning = refining.condition(context)
    alone = refining(latent[1:2], tree.map_tensors(lambda share: share[1:2], conditioning))
    torch.testing.assert_close(alone, refining(latent, conditioning)[1:2])


def test_refining_changes_no_weights_and_leaves_the_decoder_as_it_was(autoencoder, context, latent):
    before = {name: value.clone() for name, value in autoencoder.state_dict().items()}
    assert isinstance(autoencoder.frozen_decoder(refine=True), RefiningDecoder)
    assert autoencoder.frozen_decoder(refine=False) is autoencoder.decoder
    assert not any(parameter.requires_grad for parameter in autoencoder.parameters())
    for name, value in autoencoder.state_dict().items():
        assert torch.equal(value, before[name])
