"""The way of a policy through episodes."""

import pytest
import torch

COUNTS = [1, 4, 0, 2, 1, 3]


@pytest.fixture
def state(agent):
    """Fresh episodes in six pictures."""
    images = torch.randint(0, 256, (len(COUNTS), 3, 32, 32), generator=torch.Generator().manual_seed(0))
    return agent.source.begin_images(images.to(torch.uint8), 6)


@pytest.fixture
def decoded(agent, monkeypatch):
    """Numbers of masks that are decoded at a time."""
    numbers, decoder = [], agent.decoder

    def counting(latent, conditioning):
        numbers.append(len(latent))
        return decoder(latent, conditioning)

    monkeypatch.setattr(agent, "decoder", counting)
    return numbers


def test_scenes_that_are_done_are_left_out_once_they_are_half_and_masks_stay_those_of_each_scene(
    agent, state, stop_after, decoded
):
    whole = agent.predict_masks(state, min_steps=4)
    decoded.clear()
    stop_after(agent.actor, COUNTS)
    found = agent.predict_masks(state)
    assert decoded == [6, 3, 3, 1]  # three of six are done by the first mask, two of three by the third
    assert found.num_masks.tolist() == COUNTS
    assert found.stopped.all()
    for mine, all_masks in zip(found.counted(), whole.masks.numpy(), strict=True):
        assert mine == pytest.approx(all_masks[: len(mine)], abs=1e-4)
    assert max(mine.max() for mine in found.counted() if len(mine)) > 0.1


def test_none_is_left_out_as_long_as_so_many_masks_are_wanted(agent, state, stop_after, decoded):
    stop_after(agent.actor, COUNTS)
    found = agent.predict_masks(state, min_steps=3)
    assert decoded == [6, 6, 6, 1]
    assert found.num_masks.tolist() == COUNTS
    assert (found.masks[:, :3].amax((2, 3)) > 0).all()
