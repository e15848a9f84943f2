"""One protocol for agents of every library: play held-out scenes with any policy, and measure it.

A policy is anything with the `predict` of Stable-Baselines3, so that library's algorithms and `agents.Agent` are
policies as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from acis_env import dynamics
from acis_env.dynamics import EnvState
from acis_env.files import write_json
from acis_env.observations import NumpyObservation, Observation
from acis_env.precision import autocast
from acis_env.vector_env import SegmentationVectorEnv
from agents.evaluation.evaluation import RANDOM_ACTIONS, Conditions, evaluate
from agents.evaluation.segmenters import Segmenter
from agents.models.composition import Composition
from agents.models.prediction import Prediction


class Policy(Protocol):
    """Chooses actions for a batch of observations."""

    def predict(
        self,
        observation: Any,
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = True,
    ) -> tuple[NDArray[np.float32], Any]:
        """Actions `[B, a]` in [-1, 1] for numpy observations `[B, ...]`, and the state for the next call.

        Args:
            observation: observations `[B, ...]` as the environment gives them, in numpy.
            state: what the last call returned; None begins new episodes.
            episode_start: `[B]` bool, True where a new episode begins.
            deterministic: take the most likely action.
        """


class RandomPolicy:
    """Draws actions uniformly from their space."""

    def __init__(self, space: gym.spaces.Box, seed: int = 0) -> None:
        """Take the action space of one environment."""
        self.length = space.shape[0]
        self.generator = np.random.default_rng(seed)

    def predict(
        self, observation: NumpyObservation, state: Any = None, episode_start: Any = None, deterministic: bool = True
    ) -> tuple[NDArray[np.float32], Any]:
        """Draw actions, whatever `deterministic` says; see `Policy.predict`."""
        first = next(iter(observation.values())) if isinstance(observation, dict) else observation
        return self.generator.uniform(-1, 1, (len(first), self.length)).astype(np.float32), state


class ProgramPolicy:
    """A network without memory, exported by `agents.evaluation.save_program`."""

    def __init__(self, network: nn.Module, device: str | torch.device) -> None:
        """Take a module that maps observations `[B, ...]` to actions `[B, a]` in [-1, 1]."""
        self.network = network.to(device)
        self.device = device

    @torch.no_grad()
    def predict(
        self, observation: NumpyObservation, state: Any = None, episode_start: Any = None, deterministic: bool = True
    ) -> tuple[NDArray[np.float32], Any]:
        """Apply the network, whatever `deterministic` says; see `Policy.predict`."""
        actions: Tensor = self.network(_to_tensors(observation, self.device))
        return actions.clamp(-1, 1).numpy(force=True), state


def evaluate_policy(
    policy: Policy, arguments: Mapping[str, Any], num_scenes: int = 100, num_envs: int = 10, split: str = "test"
) -> dict[str, float]:
    """Play the first scenes of a split once each, without augmentation, and average what the episodes earned.

    Args:
        policy: policy that any library has trained.
        arguments: keyword arguments of `SegmentationVectorEnv` the policy was trained with.
        num_scenes: number of scenes, at most those of the split.
        num_envs: scenes played at a time.
        split: "train", "val" or "test"; scenes that are given as a data set are played as they are, so `arguments` has
            to have the held-out ones.

    Returns:
        Means over episodes: `return`, `length` and what else the environment tells at the end of one; and the metrics
        of `evaluate`, at each scene's own resolution (`sbd`, `abs_dic`, ...).
    """
    return _measure(policy, arguments, num_scenes, num_envs, split)[0]


def _measure(
    policy: Policy, arguments: Mapping[str, Any], num_scenes: int, num_envs: int = 10, split: str = "test"
) -> tuple[dict[str, float], Conditions, int]:
    """What `evaluate_policy` returns, how it was measured, and on how many scenes."""
    if isinstance(arguments.get("scenes"), str | Path):
        arguments = {**arguments, "split": split}
    options = {**arguments, "augmentation": None, "num_envs": num_envs, "autoreset_mode": "Disabled"}
    env = SegmentationVectorEnv(**{**options, "render_mode": None, "sequence_length": None})
    rule = Composition(env.threshold)
    measured = evaluate("policy", policy_segmenter(policy, env), env.source, rule, num_scenes=num_scenes)
    played = _play(policy, env, min(num_scenes, len(env.scenes)))
    return {**played, **measured.mean}, measured.conditions, len(measured.scenes)


def _play(policy: Policy, env: SegmentationVectorEnv, num_scenes: int) -> dict[str, float]:
    """Play the first scenes once each, and average what the environment tells of the episodes."""
    num_envs = env.num_envs
    waiting = list(range(num_scenes))[::-1]
    rows: list[dict[str, float]] = []
    first = [waiting.pop() if waiting else -1 for _ in range(num_envs)]
    playing = np.array(first) >= 0
    observations, _ = env.reset(seed=0, options={"scene_index": np.maximum(first, 0)})
    state, is_start, returns = None, np.ones(num_envs, dtype=bool), np.zeros(num_envs)
    while playing.any():
        actions, state = policy.predict(_to_numpy(observations), state, is_start, deterministic=True)
        observations, rewards, terminated, truncated, infos = env.step(actions)
        returns += rewards.numpy(force=True)
        is_start = (terminated | truncated).numpy(force=True)
        for slot in np.flatnonzero(is_start & playing).tolist():
            rows.append({"return": returns[slot], **_episode(infos, slot)})
        if is_start.any():
            following = np.array([waiting.pop() if waiting and over else -1 for over in is_start & playing])
            playing = np.where(is_start, following >= 0, playing)
            returns[is_start] = 0
            scenes = {"scene_index": np.maximum(following, 0), "reset_mask": is_start}
            observations, _ = env.reset(options=scenes)
    return {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}


def compare_with_random(
    policy: Policy, arguments: Mapping[str, Any], folder: Path, num_scenes: int = 100, **about: Any
) -> dict[str, Any]:
    """Play the same held-out scenes with `policy` and with random actions; print a table and keep it.

    Args:
        policy: policy that any library has trained.
        arguments: keyword arguments of `SegmentationVectorEnv` the policy was trained with.
        folder: where `evaluation.json`, and TensorBoard scalars `eval/*`, are written.
        num_scenes: scenes of the split "test", or of the data set that is given as scenes.
        about: written into the file, too: `seed`, `total_timesteps` (that of the scalars), `seconds`.

    Returns:
        What the file holds: `policy` and `random actions`, both as from `evaluate_policy` with their `Conditions`, and
        `about`.
    """
    space = SegmentationVectorEnv(**{**arguments, "num_envs": 1}).single_action_space
    assert isinstance(space, gym.spaces.Box)
    rows = {"policy": policy, RANDOM_ACTIONS: RandomPolicy(space, seed=0)}
    measured = {name: _measure(row, arguments, num_scenes) for name, row in rows.items()}
    print(f"{measured['policy'][2]} held-out scenes   return     SBD    stopping")
    for name, (means, conditions, _) in measured.items():
        print(f"{name:<20} {means['return']:9.3f} {means['sbd']:7.3f}    {conditions.stopping}")
    with SummaryWriter(str(folder)) as writer:
        for name, (means, *_) in measured.items():
            tag = "eval" if name == "policy" else "eval_random"
            for key, value in means.items():
                writer.add_scalar(f"{tag}/{key}", value, about.get("total_timesteps"))
    report = {name: {**means, **asdict(conditions)} for name, (means, conditions, _) in measured.items()} | about
    write_json(folder / "evaluation.json", report)
    return report


def policy_segmenter(policy: Policy, env: SegmentationVectorEnv) -> Segmenter:
    """The policy's masks for the tables of `acis evaluate`.

    An agent that ends its own episodes counts the masks up to there; any other is given the true count, and its own
    stopping is no achievement of its own.

    Args:
        policy: policy that any library has trained.
        env: gives the kind of observations, the decoder and the rules; its episodes are not touched.
    """
    latent_size = env.decoder.latent_size
    stops_itself = env.rules.stop == "agent"

    @torch.no_grad()
    def segment(state: EnvState) -> Prediction:
        limit = (env.max_episode_steps or 0) if stops_itself else 0
        max_steps = max(limit, int(state.num_instances.max()))  # measures with the true count need so many masks
        has_stopped = torch.full_like(state.num_instances, not stops_itself, dtype=torch.bool)
        counts = torch.full_like(state.num_instances, limit) if stops_itself else state.num_instances
        memory, is_start, masks = None, np.ones(len(state), dtype=bool), []
        for step in range(max_steps):
            chosen, memory = policy.predict(_to_numpy(env.observer(state)), memory, is_start, deterministic=True)
            actions = torch.as_tensor(chosen, dtype=torch.float32, device=env.device).clamp(-1, 1)
            if stops_itself and step < limit:
                stops = (actions[:, latent_size] > 0) & ~has_stopped
                counts, has_stopped = torch.where(stops, step, counts), has_stopped | stops
            with autocast(env.device, env.precision):
                state = dynamics.transition(state, actions[:, :latent_size] * env.action_scale, env.decoder)
            masks.append(state.predicted_mask[:, 0])
            is_start = np.zeros(len(state), dtype=bool)
        found = torch.stack(masks, dim=1) if masks else state.accumulated_mask[:, :0]
        return Prediction(found, counts, has_stopped, "own" if stops_itself else "true count")

    return segment


def _episode(infos: Mapping[str, Any], slot: int) -> dict[str, float]:
    names = [name for name in infos if infos[name].dim() == 1 and not name.startswith("_") and name != "scene_index"]
    row = {name: float(infos[name][slot]) for name in names}
    row["length"] = row.pop("step_count")
    return row


def _to_numpy(observations: Observation) -> NumpyObservation:
    if isinstance(observations, Tensor):
        return observations.numpy(force=True)
    return {name: value.numpy(force=True) for name, value in observations.items()}


def _to_tensors(observations: NumpyObservation, device: str | torch.device) -> Observation:
    if isinstance(observations, dict):
        return {name: torch.as_tensor(value, device=device) for name, value in observations.items()}
    return torch.as_tensor(observations, device=device)
