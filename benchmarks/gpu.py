"""Measurements that need a GPU: how far a step is from the decoder alone in reduced precision, and whether it waits."""

from __future__ import annotations

import tempfile
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import torch

from acis_env.weights import Pretrained
from benchmarks.arguments import Arguments
from benchmarks.cases import NUM_INSTANCES, cases, random_actions, shape_of
from benchmarks.environment import DECODER, decode, fixed_env
from benchmarks.learning import iterate, make_trainer, training_config
from benchmarks.timing import Calls, Row, interleave

NUM_ENVS = 1024
GRAPH_ENVS = (1, 16, 64, NUM_ENVS)
BFLOAT16: dict[str, Any] = {"precision": "bfloat16"}


def gpu(args: Arguments) -> list[Row]:
    """A step of 1024 environments beside the decoder alone, steps as one CUDA graph, and training in bfloat16."""
    if torch.device(args.device).type != "cuda":
        return [Row("gpu", "", note="not measured: needs --device cuda")]
    num_envs = 8 if args.quick else NUM_ENVS
    ours = [
        _step(args, pretrained, num_envs, options)
        for pretrained, *_ in cases(args, ((64, 64), (224, 224)))
        for options in (BFLOAT16, {})
    ]
    graphs = [_graph(args, pretrained, b) for pretrained, *_ in cases(args, ((64, 64),)) for b in GRAPH_ENVS]
    return [*ours, *graphs, _training(args)]


def _step(args: Arguments, pretrained: Pretrained, num_envs: int, options: dict[str, Any]) -> Row:
    env = fixed_env(args, pretrained, num_envs, NUM_INSTANCES, **options)
    actions = random_actions(env)

    def begin(number: int) -> None:
        if number % (NUM_INSTANCES - 1) == 0:  # no episode ends in a timed step
            env.reset(seed=number)

    calls: Calls = {"ours": partial(env.step, actions), DECODER: decode(env, actions)}
    times = interleave(calls, args.repeats, args.device, begin)
    env.reset(seed=0)
    waits = count_waits(partial(env.step, actions))
    per_second = 1000 * num_envs / times["ours"].median
    precision = options.get("precision", "float32")
    note = f"{precision}: {per_second:,.0f} environment steps/s, the host waits {waits} times in a step"
    return Row("step", shape_of(pretrained.size, num_envs), times["ours"], times[DECODER], DECODER, note)


def _graph(args: Arguments, pretrained: Pretrained, num_envs: int) -> Row:
    """A step that is launched as one CUDA graph, beside one whose kernels are launched one by one."""
    envs = {
        name: fixed_env(args, pretrained, num_envs, NUM_INSTANCES, cuda_graph=name == "ours")
        for name in ("ours", "plain")
    }
    actions = random_actions(envs["ours"])

    def begin(number: int) -> None:
        if number % (NUM_INSTANCES - 1) == 0:
            for env in envs.values():
                env.reset(seed=number)

    times = interleave(
        {name: partial(env.step, actions) for name, env in envs.items()}, args.repeats, args.device, begin
    )
    shape = shape_of(pretrained.size, num_envs)
    return Row("step with cuda_graph=True", shape, times["ours"], times["plain"], "a step without")


def count_waits(call: partial[Any]) -> int:
    """Number of times the host waits for the GPU in `call`."""
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            call()
    finally:
        torch.cuda.set_sync_debug_mode(before)
    return sum("synchroniz" in str(warning.message) for warning in caught)


def _training(args: Arguments) -> Row:
    pretrained, _, _ = next(cases(args, ((64, 64),)))
    config = training_config(args)
    with tempfile.TemporaryDirectory() as folder:
        half, full = (make_trainer(args, config, Path(folder), pretrained, **options) for options in (BFLOAT16, {}))
        times = interleave({"ours": iterate(half), "float32": iterate(full)}, args.repeats, args.device)
    note = f"bfloat16: {1000 / times['ours'].median:.2f} iterations/s"
    shape = shape_of(pretrained.size, config.batch_size)
    return Row("training", shape, times["ours"], times["float32"], "float32", note)
