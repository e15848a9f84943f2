"""A checker of vector environments, since Gymnasium's `check_env` takes single ones alone."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from gymnasium.vector import AutoresetMode, VectorEnv

from acis_env.testing.episode_ends import check_episode_ends
from acis_env.testing.errors import VectorEnvError
from acis_env.testing.form import check_attributes, check_spaces
from acis_env.testing.modes import check_modes_agree
from acis_env.testing.player import Player
from acis_env.testing.rules import check_close, check_memory, check_overwriting, check_render, check_seeds

__all__ = ["VectorEnvError", "check_vector_env"]


def check_vector_env(
    env: VectorEnv[Any, Any, Any],
    *,
    seed: int = 0,
    num_steps: int = 40,
    make: Callable[[AutoresetMode], VectorEnv[Any, Any, Any]] | None = None,
) -> None:
    """Check that a vector environment does what Gymnasium and the libraries built on it expect.

    Plays the same random actions several times, so `num_steps` should be long enough for some episodes to end.
    Data may be numpy arrays or torch tensors. Checked are:

    - attributes: `num_envs`, `metadata` with `render_modes` and the autoreset mode as an enum, of this instance and
      not of its class; batched spaces of `num_envs` times the single ones;
    - every call: observations with the structure, dtype, shape and range of `observation_space`; finite rewards
      `[num_envs]` of a float dtype; flags `[num_envs]` bool (both may be set); a bool mask `_key` `[num_envs]` for
      every key of the infos (a nested dict may do without); all tensors on `env.device`;
    - arguments: `actions` and `options` are left as they were;
    - seeds: the same seed and actions give bitwise the same run; where lists are taken, `[s, s + 1, ...]` is `s`;
      a run that does not depend on the seed is a warning;
    - memory: no later call changes what one returned, no two share memory, and overwriting it changes nothing later;
    - SAME_STEP: infos have `final_obs` and `final_info` exactly when an episode ends, masked by the slots that are
      done, and the former is no observation of the next episode;
    - NEXT_STEP: the step after an end ignores its action, pays 0 and sets no flag;
    - DISABLED: a finished slot is not stepped, and `options={"reset_mask": ...}`, numpy bool or, in an
      environment of tensors, torch bool, begins these slots and no other;
    - `render()` in mode "rgb_array": a list or tuple of `num_envs` frames `[h, w, 3]` uint8; it disturbs no episode;
    - `close()` can be called twice. The environment is closed afterwards.

    Args:
        env: to be checked, in its own autoreset mode.
        seed: seed of episodes and actions.
        num_steps: length of one run, at least 2; two runs of observations are held in memory.
        make: builds the same environment in another mode. Then all three must give the same rewards, flags and
            observations: `final_obs` in SAME_STEP and the last observation in NEXT_STEP are what DISABLED ends with,
            `final_info` agrees with its infos, and a reset of some slots leaves the others bitwise alone. NEXT_STEP
            is compared up to the first end, where its steps fall behind.

    Raises:
        VectorEnvError: a contract is broken.
        ValueError: `num_steps` is less than 2.
    """
    if num_steps < 2:
        raise ValueError(f"num_steps must be at least 2, got {num_steps}")
    check_attributes(env)
    check_spaces(env)
    player = Player.of(env, seed, num_steps)
    run = player.play()
    check_seeds(player, run)
    check_memory(run)
    check_overwriting(player, run)
    if not any(call.done.any() for call in run):
        warnings.warn(f"no episode ended in {num_steps} steps: what happens then was not checked", stacklevel=2)
    check_episode_ends(player, run)
    if env.render_mode == "rgb_array":
        check_render(player, run)
    if make is not None:
        check_modes_agree(player, make)
    check_close(env)
