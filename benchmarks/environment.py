"""Whole environments: a step, a reset, vectors of episodes as they come, and growth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from time import perf_counter
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from numpy.typing import NDArray

from acis_env.precision import autocast
from acis_env.vector_env import SegmentationVectorEnv
from acis_env.weights import Pretrained
from benchmarks.arguments import Arguments
from benchmarks.cases import (
    DEFAULTS,
    NUM_INSTANCES,
    Drawn,
    cases,
    grid,
    leaves,
    make_env,
    random_actions,
    random_networks,
    shape_of,
)
from benchmarks.parts import NAIVE
from benchmarks.straightforward import NaiveDecoder, NaiveEnv
from benchmarks.timing import Calls, Row, Times, draw_growth, interleave

DECODER = "the decoder alone"


def step(args: Arguments) -> list[Row]:
    """A step of `B` scenes under way, beside the straightforward one and beside the decoder in it."""
    return [
        row
        for pretrained, source, batches in cases(args)
        for b in batches
        for row in _step(args, pretrained, b, source)
    ]


def _step(args: Arguments, pretrained: Pretrained, batch: int, source: str) -> list[Row]:
    scenes = grid(pretrained.size, NUM_INSTANCES)
    env = make_env(args, pretrained, scenes, batch)
    actions = random_actions(env)
    naive = naive_envs(pretrained, scenes, batch)
    host_actions = actions.numpy(force=True)

    def naive_step() -> None:
        for one, action in zip(naive, host_actions, strict=True):
            one.step(action)

    def begin(number: int) -> None:
        if number % (NUM_INSTANCES - 1) == 0:  # no episode ends in a timed step
            env.reset(seed=number)
            for slot, one in enumerate(naive):
                one.reset(seed=number + slot)

    calls: Calls = {
        "ours": lambda: env.step(actions),
        DECODER: decode(env, actions),
        NAIVE: naive_step,
    }
    times = interleave(calls, args.repeats, args.device, begin)
    outside = []
    for number in range(args.repeats + 1):  # one after the other, as in training: nothing else fills the caches
        if number % (NUM_INSTANCES - 1) == 0:
            env.reset(seed=number)
        outside.append(share_outside_decoder(env, actions))
    shape, per_second = shape_of(pretrained.size, batch), 1000 * batch / times["ours"].median
    return [
        Row("step", shape, times["ours"], times[NAIVE], NAIVE, f"{per_second:.0f} environment steps/s, {source}"),
        Row(
            "step",
            shape,
            times["ours"],
            times[DECODER],
            DECODER,
            f"{np.median(outside[1:]):.1%} of the step outside the decoder",
        ),
    ]


def reset(args: Arguments) -> list[Row]:
    """The beginning of `B` episodes: with contexts that are known to ours, and with augmentation, predicted anew."""
    found = cases(args)
    return [row for pretrained, _, batches in found for batch in batches for row in _resets(args, pretrained, batch)]


def _resets(args: Arguments, pretrained: Pretrained, batch: int) -> list[Row]:
    scenes, rows = grid(pretrained.size, NUM_INSTANCES), []
    naive = naive_envs(pretrained, scenes, batch)
    for name, augmentation in (("reset, contexts known", None), ("reset, augmented", {})):
        env = make_env(args, pretrained, scenes, batch, augmentation=augmentation)
        for scene in range(len(scenes)):
            env.reset(options={"scene_index": scene})
        calls: Calls = {"ours": env.reset, NAIVE: lambda: [one.reset() for one in naive]}
        times = interleave(calls, args.repeats, args.device)
        rows.append(Row(name, shape_of(pretrained.size, batch), times["ours"], times[NAIVE], NAIVE))
    return rows


def vector(args: Arguments) -> list[Row]:
    """Steps of 16 environments with episodes as they come, beside vectors of single ones in other libraries.

    All scenes have been shown before, as they have been after the first epoch of any training.
    """
    num_envs = 4 if args.quick else 16
    return [
        row for pretrained, *_ in cases(args, ((64, 64), (224, 224))) for row in _vector(args, pretrained, num_envs)
    ]


def _vector(args: Arguments, pretrained: Pretrained, num_envs: int) -> list[Row]:
    scenes = leaves(pretrained.size)
    env = make_env(args, pretrained, scenes, num_envs)
    actions = random_actions(env)
    host_actions = actions.numpy(force=True)
    decoder = NaiveDecoder(pretrained.autoencoder.decoder)
    constructors = [partial(NaiveEnv, scenes, pretrained, decoder) for _ in range(num_envs)]
    sync = SyncVectorEnv(constructors, autoreset_mode=AutoresetMode.SAME_STEP)
    for first in range(0, len(scenes), num_envs):  # a context that is known is not predicted again
        env.reset(options={"scene_index": [(first + slot) % len(scenes) for slot in range(num_envs)]})
    env.reset(seed=0)
    sync.reset(seed=0)
    shape = shape_of(pretrained.size, num_envs)
    calls: dict[str, Callable[[], object]] = {
        "ours": lambda: env.step(actions),
        "SyncVectorEnv of straightforward": lambda: sync.step(host_actions),
    }
    rows: list[Row] = []
    if find_spec("stable_baselines3"):
        calls["DummyVecEnv of straightforward"] = _sb3_step(constructors, host_actions)
    else:
        rows = [Row("vector", shape, against="DummyVecEnv", note="not measured: Stable-Baselines3 is not installed")]
    times = interleave(calls, args.repeats, args.device)
    ours = times.pop("ours")
    for name, other in times.items():
        # Episodes end in some steps and not in others, so the sums are told, too.
        per_second = 1000 * num_envs / ours.samples.mean()
        total = other.samples.sum() / ours.samples.sum()
        note = f"{per_second:.0f} environment steps/s, resets included; ratio of the sums {total:.2f}"
        rows.append(Row("vector", shape, ours, other, name, note))
    return rows


def _sb3_step(
    constructors: Sequence[Callable[[], gym.Env[Any, Any]]], actions: NDArray[np.float32]
) -> Callable[[], object]:
    from stable_baselines3.common.vec_env import DummyVecEnv

    dummy = DummyVecEnv(list(constructors))
    dummy.seed(0)
    dummy.reset()
    return lambda: dummy.step(actions)


def growth(args: Arguments) -> list[Row]:
    """The time of a step against everything that can grow; draws a curve of each beside the report."""
    small = next(cases(args, ((64, 64),)))[0]
    sizes = [(64, 64), (128, 128), (224, 224), (320, 320), (256, 768), (512, 512)][: 1 if args.quick else None]
    networks = {h * w: random_networks(replace(DEFAULTS, size=(h, w))).to(args.device) for h, w in sizes}
    most_envs, most_instances = (4, 4) if args.quick else (args.max_envs, 64)
    envs = {n: fixed_env(args, small, n, NUM_INSTANCES) for n in powers_of_two(most_envs)}
    # Where the agent ends episodes, that of a single instance goes on after its first step.
    instances = {n: fixed_env(args, small, 8, n, stop="agent") for n in powers_of_two(most_instances)}
    pixels = {n: fixed_env(args, each, 1, NUM_INSTANCES) for n, each in networks.items()}
    return [
        *_first_steps(args, "environments", envs, ""),
        *_first_steps(args, "instances", instances, "B=8"),
        *_first_steps(args, "pixels", pixels, "B=1"),
        *_step_index(args, small),
    ]


def fixed_env(
    args: Arguments, pretrained: Pretrained, num_envs: int, num_instances: int, **options: Any
) -> SegmentationVectorEnv:
    """An environment in scenes of exactly `num_instances`."""
    return make_env(args, pretrained, grid(pretrained.size, num_instances), num_envs, **options)


def _first_steps(args: Arguments, quantity: str, envs: dict[int, SegmentationVectorEnv], note: str) -> list[Row]:
    calls: Calls = {str(value): partial(env.step, random_actions(env)) for value, env in envs.items()}
    times = interleave(calls, args.repeats, args.device, lambda _: [env.reset(seed=0) for env in envs.values()])
    return _curve(args, quantity, {value: times[str(value)] for value in envs}, note)


def _step_index(args: Arguments, pretrained: Pretrained) -> list[Row]:
    """Every step of whole episodes but the last, which also begins the next."""
    length = NUM_INSTANCES - 1
    env = fixed_env(args, pretrained, 8, NUM_INSTANCES)

    def begin(number: int) -> None:
        if number % length == 1 or number == 0:  # round 0 is not timed
            env.reset(seed=0)

    calls = {"ours": partial(env.step, random_actions(env))}
    samples = interleave(calls, args.repeats * length, args.device, begin)["ours"].samples
    by_index = samples.reshape(args.repeats, length).T
    return _curve(args, "step", {t: Times(each) for t, each in enumerate(by_index, start=1)}, "B=8")


def _curve(args: Arguments, quantity: str, times: dict[int, Times], note: str) -> list[Row]:
    path = args.out / f"growth_{quantity}.png"
    draw_growth(path, quantity, list(times), [each.median for each in times.values()])
    return [Row(f"growth with {quantity}", f"{quantity} {value}", each, note=note) for value, each in times.items()]


def powers_of_two(most: int) -> list[int]:
    """1, 2, 4, ... up to `most`."""
    return [2**k for k in range(most.bit_length()) if 2**k <= most]


def naive_envs(pretrained: Pretrained, scenes: Drawn, num_envs: int) -> list[NaiveEnv]:
    """Straightforward environments that share their networks."""
    decoder = NaiveDecoder(pretrained.autoencoder.decoder)
    return [NaiveEnv(scenes, pretrained, decoder) for _ in range(num_envs)]


def share_outside_decoder(env: SegmentationVectorEnv, actions: torch.Tensor) -> float:
    """Take a step of `env`; returns how much of its time went into other things than the decoder's forward pass."""
    moments: list[float] = []

    def mark(*_: object) -> None:
        if env.device.type == "cuda":
            torch.cuda.synchronize(env.device)
        moments.append(perf_counter())

    assert isinstance(env.decoder, torch.nn.Module)
    hooks = [env.decoder.register_forward_pre_hook(mark), env.decoder.register_forward_hook(mark)]
    mark()
    env.step(actions)
    mark()
    for hook in hooks:
        hook.remove()
    start, decoder_start, decoder_end, end = moments
    return 1 - (decoder_end - decoder_start) / (end - start)


def decode(env: SegmentationVectorEnv, actions: torch.Tensor) -> Callable[[], object]:
    """The forward pass of the decoder in a step of `env`, alone."""

    @torch.no_grad()
    def forward() -> torch.Tensor:
        with autocast(env.device, env.precision):
            masks: torch.Tensor = env.decoder(actions * env.action_scale, env.state.conditioning)
        return masks

    return forward
