"""What tests of several adapters need."""

import numpy as np
import pytest


@pytest.fixture
def play_by_hand():
    """A function that resets by hand an environment without automatic resets."""

    def play(env, actions, seed):
        """What happened, one tuple per step."""
        observations, _ = env.reset(seed=seed)
        for action in actions:
            following, rewards, terminated, truncated, infos = env.step(action)
            yield observations, following, rewards.numpy(), terminated.numpy(), truncated.numpy(), infos
            observations, over = following, terminated | truncated
            if over.any():
                observations, _ = env.reset(options={"reset_mask": over})

    return play


@pytest.fixture
def sample_slot(monkeypatch):
    """A function that takes transitions of one slot out of a buffer, which would draw the slots."""

    def sample(buffer, rows, slot):
        with monkeypatch.context() as patch:
            patch.setattr(np.random, "randint", lambda low, high, size: np.full(size, slot))
            return buffer._get_samples(rows)

    return sample
