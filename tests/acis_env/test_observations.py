"""Observations show the state, in each of their three kinds, and share no memory with it."""

import numpy as np
import pytest
import torch

from acis_env import SegmentationVectorEnv
from acis_env.observations import Observer, unpack


@pytest.fixture
def state(pretrained, scenes):
    """Five scenes after two steps."""
    env = SegmentationVectorEnv(5, scenes=scenes, weights=pretrained, stop="agent")
    env.reset(seed=0, options={"scene_index": range(5)})
    rng = np.random.default_rng(0)
    for _ in range(2):
        actions = rng.uniform(-1, 1, (5, 5)).astype(np.float32)
        actions[:, -1] = -1
        env.step(actions)
    return env.state


def observer(kind, dtype="uint8", levels=2):
    return Observer(kind, dtype, (32, 32), levels)


def test_a_dict_shows_the_context_and_the_accumulated_mask_as_uint8(state):
    observation = observer("dict")(state)
    assert {key: value.shape[1] for key, value in observation.items()} == {
        "image": 3,
        "mask": 1,
        "foreground": 1,
        "angles": 8,
    }
    assert all(value.dtype == torch.uint8 and value.shape[2:] == (32, 32) for value in observation.values())
    seen = torch.cat([observation["image"], observation["foreground"], observation["angles"]], dim=1).float()
    assert (seen - 255 * state.context).abs().max() <= 0.5 + 1e-4
    assert (observation["mask"].float() - 255 * state.accumulated_mask).abs().max() <= 0.5 + 1e-4
    assert observation["mask"].max() > 200


def test_an_observed_image_is_the_recorded_one_bit_for_bit(scenes, state):
    image = observer("dict")(state)["image"]
    np.testing.assert_array_equal(image.numpy(), np.stack([scene.image for scene in scenes]))


def test_floats_are_the_state_itself(state):
    observation = observer("dict", "float32")(state)
    assert torch.equal(observation["image"], state.context[:, :3])
    assert torch.equal(observation["mask"], state.accumulated_mask)
    assert torch.equal(observation["foreground"], state.context[:, 3:4])
    assert torch.equal(observation["angles"], state.context[:, 4:])


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_a_stack_holds_the_planes_of_the_dict_in_order(state, dtype):
    parts = observer("dict", dtype)(state)
    assert torch.equal(observer("stacked", dtype)(state), torch.cat(list(parts.values()), dim=1))
    assert list(parts) == ["image", "mask", "foreground", "angles"]


def test_the_coarse_vector_is_the_planes_smoothed_and_halved(state):
    """Against the pyramid of the decoder for the context, and for the mask on a picture without structure."""
    vector = observer("coarse")(state)
    assert vector.shape == (5, 13 * 8 * 8)
    assert vector.dtype == torch.float32
    planes = vector.view(5, 13, 8, 8)
    context = torch.cat((planes[:, :3], planes[:, 4:]), dim=1)
    assert torch.allclose(context, decoder_pyramid(state), atol=1e-6)
    full = state.map(torch.ones_like)
    inside = observer("coarse")(full).view(5, 13, 8, 8)[:, :, 1:-1, 1:-1]
    assert torch.allclose(inside, torch.ones_like(inside), atol=1e-5)


def decoder_pyramid(state):
    from acis_env.decoder import StatePyramid

    return StatePyramid(2)(state.context)[-1]


@pytest.mark.parametrize("kind", ["dict", "stacked", "coarse"])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_the_space_contains_what_is_observed_and_nothing_wider(state, kind, dtype):
    watch = observer(kind, dtype)
    observation = watch(state)
    first = {k: v[0].numpy() for k, v in observation.items()} if kind == "dict" else observation[0].numpy()
    assert watch.space.contains(first)
    spaces = watch.space.values() if kind == "dict" else [watch.space]
    high = 255 if dtype == "uint8" and kind != "coarse" else 1
    assert all(space.low.min() == 0 and space.high.min() == space.high.max() == high for space in spaces)


@pytest.mark.parametrize("kind", ["dict", "stacked", "coarse"])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_changing_an_observation_leaves_the_state_alone(state, kind, dtype):
    before = [tensor.clone() for tensor in state.tensors()]
    observation = observer(kind, dtype)(state)
    for tensor in observation.values() if kind == "dict" else [observation]:
        tensor.zero_()
    assert all(torch.equal(now, then) for now, then in zip(state.tensors(), before, strict=True))


@pytest.mark.parametrize("kind", ["dict", "stacked"])
@pytest.mark.parametrize(("dtype", "error"), [("uint8", 0.5 / 255 + 1e-6), ("float32", 0)])
def test_unpacking_gives_the_context_and_the_mask_back(state, kind, dtype, error):
    observation = observer(kind, dtype)(state)
    context, mask = unpack(observation, torch.device("cpu"))
    assert (context - state.context).abs().max() <= error
    assert (mask - state.accumulated_mask).abs().max() <= error
    single = {k: v[0].numpy() for k, v in observation.items()} if kind == "dict" else observation[0].numpy()
    assert torch.equal(unpack(single, torch.device("cpu"))[0], context[0])


def test_what_has_no_planes_cannot_be_unpacked(state):
    for wrong in (observer("coarse")(state), {"image": torch.zeros(3, 32, 32)}, torch.zeros(12, 32, 32)):
        with pytest.raises(ValueError, match=r'"dict" or "stacked"'):
            unpack(wrong, torch.device("cpu"))
