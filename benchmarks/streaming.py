"""Data sets that are larger than memory: opening a folder, stepping through streamed scenes, and memory."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import thread_time
from typing import Any

import numpy as np
from PIL import Image

from acis_env.allocator import peak_memory
from acis_env.datasets import FolderScenes, Leaves
from acis_env.datasets.roots import CACHE_VARIABLE
from acis_env.vector_env import SegmentationVectorEnv
from acis_env.weights import Pretrained
from benchmarks.arguments import Arguments
from benchmarks.cases import DEFAULTS, Size, random_actions, random_networks, shape_of
from benchmarks.timing import Calls, Row, Times, interleave

SIZE: Size = (224, 224)
QUICK_SIZE: Size = (64, 64)
PAIRS, QUICK_PAIRS = 20_000, 1_200
PICTURES = 200
"""Different pictures; the pairs are hard links to them, so all files are in the memory of the system."""
STEPPED = 4_000
"""Pairs to step through, since all have to be in memory, too; a few hundred are shown."""
BATCH = 8
STEPS = 10
"""Steps of all environments in a timed call."""
OPENINGS = 3
"""Most processes that open the folder."""
EVERYTHING = 2**40
"""A budget that every data set fits."""

OPEN = """
import json, sys, time
import acis_env.threads
from acis_env.datasets import FolderScenes
if sys.argv[2] == "one":
    acis_env.threads.num_threads = lambda: 1
start, busy = time.perf_counter(), time.process_time()
FolderScenes(sys.argv[1])
print(json.dumps({"ms": 1000 * (time.perf_counter() - start), "busy": time.process_time() - busy}))
"""
STEP = """
import json, sys
from dataclasses import replace
import torch
from acis_env.allocator import keep_freed_memory
from acis_env.datasets import FolderScenes
from benchmarks.streaming import make_env, peak_resident
from benchmarks.cases import DEFAULTS, random_actions, random_networks
keep_freed_memory()
torch.set_num_threads(int(sys.argv[2]))
imported = peak_resident()
networks = random_networks(replace(DEFAULTS, size=tuple(json.loads(sys.argv[4]))))
env = make_env(networks, FolderScenes(sys.argv[1]), 0, sys.argv[5])
env.reset(seed=0)
for _ in range(int(sys.argv[3])):
    env.step(random_actions(env))
env.close()
print(json.dumps({"imported": imported, "peak": peak_resident()}))
"""


def streaming(args: Arguments) -> list[Row]:
    """Opening 20,000 pairs, steps beside those of an environment with all scenes in memory, and resident memory."""
    size, pairs = (QUICK_SIZE, QUICK_PAIRS) if args.quick else (SIZE, PAIRS)
    with TemporaryDirectory(prefix="acis-streaming-") as folder:
        place = Path(folder)
        write_pairs(place / "pairs", size, pairs)
        shape = f"{pairs} pairs of {shape_of(size)}"
        return [*_opening(args, place, shape), *_stepping(args, place, size, pairs), _memory(args, place, size, shape)]


def write_pairs(folder: Path, size: Size, pairs: int) -> None:
    """Write `pairs` pairs of plants of 2 to 10 leaves, `PICTURES` of which differ."""
    folder.mkdir()
    for number, scene in enumerate(Leaves("val", size, length=min(PICTURES, pairs))):
        assert scene.label_map is not None
        files = {"rgb": scene.image.transpose(1, 2, 0), "label": scene.label_map.astype(np.uint8)}
        for part, pixels in files.items():
            first = folder / f"{number:05d}_{part}.png"
            Image.fromarray(pixels).save(first)
            for link in range(number + PICTURES, pairs, PICTURES):
                os.link(first, folder / f"{link:05d}_{part}.png")


def make_env(networks: Pretrained, scenes: FolderScenes, memory_budget: int, device: str) -> SegmentationVectorEnv:
    """An environment that shows every scene once before it shows one again, augmented, so that no context is kept."""
    options: dict[str, Any] = {"sampler": "shuffle", "augmentation": {}, "device": device}
    return SegmentationVectorEnv(BATCH, scenes=scenes, weights=networks, memory_budget=memory_budget, **options)


def peak_resident() -> float:
    """Largest resident memory of this process in bytes, where `getrusage` may give that of its parent."""
    status = Path("/proc/self/status")
    if not status.exists():
        return peak_memory()
    (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return 1024 * float(line.split()[1])


def _opening(args: Arguments, place: Path, shape: str) -> list[Row]:
    """Opening in fresh processes, whose imports are not timed."""
    found: dict[str, list[dict[str, float]]] = {"one": [], "first": [], "again": []}
    for _ in range(min(args.repeats, OPENINGS)):
        for name in found:
            if name != "again":
                shutil.rmtree(place / "opening", ignore_errors=True)
            found[name].append(_run(OPEN, place / "opening", place / "pairs", name))
    times = {name: Times(np.array([run["ms"] for run in runs])) for name, runs in found.items()}
    busy = {name: f"{np.median([run['busy'] for run in runs]):.1f} s of CPU time" for name, runs in found.items()}
    return [
        Row("opening, the first time", shape, times["first"], times["one"], "one thread", busy["first"]),
        Row("opening again", shape, times["again"], times["first"], "the first time", busy["again"]),
    ]


def _stepping(args: Arguments, place: Path, size: Size, pairs: int) -> list[Row]:
    """The same episodes with all scenes in memory, with all of them on disk, and with none of them there."""
    networks = random_networks(replace(DEFAULTS, size=size)).to(args.device)
    with _cache_in(place / "opening"):
        scenes = FolderScenes(place / "pairs", ids=[f"{number:05d}" for number in range(min(pairs, STEPPED))])
    envs: dict[str, SegmentationVectorEnv] = {}
    for name in ("memory", "warm", "cold"):
        with _cache_in(place / name):
            envs[name] = make_env(networks, scenes, EVERYTHING if name == "memory" else 0, args.device)
            if name == "warm":  # what is written by this one is read by another
                _play(envs[name], args.repeats + 1)
                envs[name].close()
                envs[name] = make_env(networks, scenes, 0, args.device)
    _play(envs["memory"], args.repeats + 1)
    actions = random_actions(envs["memory"])
    for env in envs.values():
        env.reset(seed=0)

    busy = dict.fromkeys(envs, 0.0)

    def steps(name: str) -> None:
        start = thread_time()
        for _ in range(STEPS):
            envs[name].step(actions)
        busy[name] += thread_time() - start

    calls: Calls = {name: partial(steps, name) for name in envs}
    times = interleave(calls, args.repeats, args.device)
    for env in envs.values():
        env.close()
    shape = f"{shape_of(size, BATCH)}, {STEPS} steps and their resets"
    notes = {name: f"{busy[name] / busy['memory']:.3f} of the CPU time in the thread that steps" for name in envs}
    return [
        Row(f"stepping, {name} cache", shape, times[name], times["memory"], "the same scenes in memory", notes[name])
        for name in ("warm", "cold")
    ]


def _play(env: SegmentationVectorEnv, rounds: int) -> None:
    """Show the scenes that `rounds` calls will show."""
    env.reset(seed=0)
    actions = random_actions(env)
    for _ in range(rounds * STEPS):
        env.step(actions)


def _memory(args: Arguments, place: Path, size: Size, shape: str) -> Row:
    steps = (args.repeats + 1) * STEPS
    found = _run(STEP, place / "cold", place / "pairs", args.threads, steps, json.dumps(size), args.device)
    peak, imported = (found[name] / 2**20 for name in ("peak", "imported"))
    note = f"peak {peak:.0f} MB of a fresh process, {imported:.0f} MB after its imports; {steps} steps of {BATCH} slots"
    return Row("resident memory while stepping", shape, note=note)


def _run(program: str, cache: Path, *arguments: object) -> dict[str, float]:
    """What `program` prints in a process of its own."""
    env = {**os.environ, CACHE_VARIABLE: str(cache)}
    command = [sys.executable, "-c", program, *map(str, arguments)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"a process of the suite streaming failed: {done.stderr}")
    printed: dict[str, float] = json.loads(done.stdout)
    return printed


@contextmanager
def _cache_in(folder: Path) -> Iterator[None]:
    """Make caches in `folder`."""
    before = os.environ.get(CACHE_VARIABLE)
    os.environ[CACHE_VARIABLE] = str(folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ[CACHE_VARIABLE]
        else:
            os.environ[CACHE_VARIABLE] = before
