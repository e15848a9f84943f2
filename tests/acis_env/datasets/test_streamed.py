"""Scenes that do not fit the budget: the same batches, whoever makes them and when, and few of them in memory."""

import copy
import gc
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import acis_env
from acis_env.datasets import FolderScenes, PackedScenes, Scene, streamed
from acis_env.pictures import Reading

ROOT = Path(acis_env.__file__).parents[1]
SIZE = (32, 64)


class Drawn:
    """Scenes whose pixels are their number, which note who draws them; one of them may fail."""

    max_instances = 3

    def __init__(self, length=20, is_thread_safe=True):
        self.length, self.is_thread_safe = length, is_thread_safe
        self.drawn = []  # number of the scene, and of the thread
        self.broken = None

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        if index == self.broken:
            raise ValueError(f"scene {index} is damaged")
        self.drawn.append((index, threading.get_ident()))
        label_map = np.zeros((40, 50), np.int32)
        for label in range(1, 1 + index % 4):
            label_map[12 * label - 10 : 12 * label, 5:40] = label
        label_map[-1] = -1
        return Scene(np.full((3, 40, 50), index, np.uint8), label_map, f"drawn-{index}")

    def __iter__(self):
        return (self[index] for index in range(self.length))

    @property
    def numbers(self):
        return [number for number, _ in self.drawn]


@pytest.fixture(autouse=True)
def threads():
    """A function that lists the threads of this test that make scenes ahead of need; none is left in the end."""
    before = threading.enumerate()

    def find():
        started = [thread for thread in threading.enumerate() if thread not in before]
        return [thread for thread in started if thread.name.startswith("acis-scenes")]

    yield find
    wait_for(lambda: not find())


def wait_for(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def assert_same_batches(first, second):
    for ours, theirs in zip(first, second, strict=True):
        assert ours.dtype == theirs.dtype
        assert torch.equal(ours, theirs)


def test_the_budget_decides(folder):
    scenes = FolderScenes(folder)
    nbytes = 12 * 32 * 64 * 4
    for memory_budget, is_streamed in ((nbytes, False), (nbytes - 1, True), (0, True)):
        packed = PackedScenes(scenes, SIZE, memory_budget=memory_budget)
        assert packed.nbytes == nbytes
        assert packed.is_streamed == is_streamed
    assert not PackedScenes(scenes, SIZE).is_streamed


@pytest.mark.parametrize("budget", [-1, 1.5, None, True, "2GB"])
def test_a_budget_that_is_no_number_of_bytes_is_refused(budget):
    with pytest.raises(ValueError, match=f"memory_budget must be a number of bytes from 0 on, got {budget!r}"):
        PackedScenes(Drawn(), SIZE, memory_budget=budget)


@pytest.mark.parametrize("make", [Drawn, lambda: Drawn(is_thread_safe=False)])
def test_streamed_batches_names_and_counts_are_those_of_scenes_in_memory(make):
    kept, packed = PackedScenes(make(), SIZE), PackedScenes(make(), SIZE, memory_budget=0)
    for indices in ([3], [5, 5, 0], range(20), torch.tensor([19, 2]), []):
        assert_same_batches(packed.gather(indices), kept.gather(indices))
    assert packed.gather([5])[1].dtype == torch.int64
    assert packed.gather([5])[1].min() == -1
    assert packed.names == kept.names == tuple(f"drawn-{index}" for index in range(20))
    assert packed.num_instances.tolist() == kept.num_instances.tolist() == [0, 1, 2, 3] * 5
    packed.close()


def test_folders_are_streamed_as_they_are_kept_with_a_cold_cache_and_with_a_warm_one(folder):
    kept = PackedScenes(FolderScenes(folder), SIZE)
    for _ in range(2):
        packed = PackedScenes(FolderScenes(folder), SIZE, memory_budget=0)
        for indices in ([7, 0], range(12)):
            assert_same_batches(packed.gather(indices), kept.gather(indices))
        assert packed.names == kept.names
        packed.close()


def test_a_warm_cache_is_read_and_no_picture_decoded(folder, monkeypatch):
    packed = PackedScenes(FolderScenes(folder), SIZE, memory_budget=0)
    batch = packed.gather(range(12))
    packed.close()
    monkeypatch.setattr(Reading, "picture", None)
    packed = PackedScenes(FolderScenes(folder), SIZE, memory_budget=0)
    assert_same_batches(packed.gather(range(12)), batch)
    packed.close()


def test_a_cache_of_files_or_options_that_have_changed_is_not_used(folder, caches):
    def open_all(**options):
        packed = PackedScenes(FolderScenes(folder), SIZE, memory_budget=0, **options)
        images, label_maps = packed.gather(range(12))
        packed.close()
        return images, label_maps

    images, label_maps = open_all()
    assert open_all(min_area=200)[1].max() < label_maps.max()
    path = folder / "0003_rgb.png"
    Image.fromarray(255 - np.asarray(Image.open(path))).save(path)
    changed, _ = open_all()
    assert (changed != images).flatten(1).any(1).nonzero().tolist() == [[3]]
    assert len(list(caches.glob("scenes/*/scenes.bin"))) == 3


def test_a_damaged_record_is_made_anew_and_nobody_notices(folder, caches):
    packed = PackedScenes(FolderScenes(folder), SIZE, memory_budget=0)
    batch = packed.gather(range(12))
    packed.close()
    (path,) = caches.glob("scenes/*/scenes.bin")
    data = bytearray(path.read_bytes())
    for place in range(500, len(data), 5000):
        data[place] ^= 255
    path.write_bytes(data)
    packed = PackedScenes(FolderScenes(folder), SIZE, memory_budget=0)
    assert_same_batches(packed.gather(range(12)), batch)
    packed.close()


def test_data_sets_without_a_fingerprint_are_not_kept_on_disk(caches):
    packed = PackedScenes(Drawn(), SIZE, memory_budget=0)
    packed.gather(range(20))
    packed.close()
    assert not list(caches.iterdir())


def test_expected_scenes_are_made_by_other_threads_before_they_are_asked_for():
    scenes = Drawn()
    packed = PackedScenes(scenes, SIZE, memory_budget=0)
    packed.expect([3, 8, 3])
    wait_for(lambda: sorted(scenes.numbers) == [3, 8])
    packed.gather([8, 3])
    assert sorted(scenes.numbers) == [3, 8]
    assert all(thread != threading.get_ident() for _, thread in scenes.drawn)
    packed.close()


def test_a_data_set_that_does_not_promise_to_stand_threads_is_asked_by_the_caller_alone(threads):
    for memory_budget in (0, 2**30):
        scenes = Drawn(is_thread_safe=False)
        packed = PackedScenes(scenes, SIZE, memory_budget=memory_budget)
        packed.expect([3])
        assert scenes.drawn == []
        packed.gather([3, 5])
        assert scenes.drawn == [(3, threading.get_ident()), (5, threading.get_ident())]
        assert not threads()


def test_scenes_in_memory_are_packed_by_several_threads_where_the_data_set_stands_it(monkeypatch):
    monkeypatch.setattr("acis_env.threads.num_threads", lambda: 2)
    scenes = Drawn(length=100)
    packed = PackedScenes(scenes, SIZE)
    assert_same_batches(packed.gather(range(100)), PackedScenes(Drawn(100, False), SIZE).gather(range(100)))
    assert sorted(scenes.numbers) == list(range(100))
    assert all(thread != threading.get_ident() for _, thread in scenes.drawn)


def test_only_the_last_scenes_are_held_in_memory(monkeypatch):
    monkeypatch.setattr(streamed, "AHEAD_BYTES", 0)
    monkeypatch.setattr(streamed, "AHEAD_SCENES", 3)
    scenes = Drawn()
    packed = PackedScenes(scenes, SIZE, memory_budget=0)
    for index in (0, 1, 2, 0, 1, 3, 0):
        packed.gather([index])
    assert sorted(scenes.numbers) == [0, 1, 2, 3]
    packed.gather([2])
    assert sorted(scenes.numbers) == [0, 1, 2, 2, 3]
    assert packed.gather(range(20))[0].flatten(1).amax(1).tolist() == list(range(20))  # more than are held
    drawn = len(scenes.drawn)
    packed.expect(range(4, 20))
    wait_for(lambda: len(scenes.drawn) == drawn + 3)  # not more than are held
    packed.gather([4, 5, 6])
    assert len(scenes.drawn) == drawn + 3
    packed.close()


@pytest.mark.parametrize("is_thread_safe", [True, False])
def test_an_error_is_raised_when_the_scene_is_asked_for_and_gone_when_it_is_mended(is_thread_safe):
    scenes = Drawn(is_thread_safe=is_thread_safe)
    scenes.broken = 4
    packed = PackedScenes(scenes, SIZE, memory_budget=0)
    packed.expect([4, 5])
    packed.gather([5])
    for _ in range(2):
        with pytest.raises(ValueError, match="scene 4 is damaged"):
            packed.gather([5, 4])
    scenes.broken = None
    assert packed.gather([4])[0].unique().tolist() == [4]
    packed.close()


@pytest.mark.parametrize("index", [-1, 20])
def test_an_index_outside_of_a_streamed_data_set_is_refused(index):
    with pytest.raises(IndexError, match=rf"\[0, 20\), got {index}"):
        PackedScenes(Drawn(), SIZE, memory_budget=0).gather([0, index])


def test_closing_ends_all_threads_and_they_come_back_if_they_are_needed(threads):
    packed = PackedScenes(Drawn(), SIZE, memory_budget=0)
    for _ in range(2):
        packed.gather([1, 2])
        assert threads()
        packed.expect(range(20))
        packed.close()
        packed.close()
        assert not threads()


@pytest.mark.parametrize("copied", [lambda packed: pickle.loads(pickle.dumps(packed)), copy.deepcopy])
def test_copies_stream_by_themselves(folder, copied):
    packed = PackedScenes(FolderScenes(folder), SIZE, memory_budget=0)
    batch = packed.gather(range(5))
    other = copied(packed)
    packed.close()
    assert_same_batches(other.gather(range(5)), batch)
    other.close()


BEGIN = """
import os, sys, time
import numpy as np
from acis_env.datasets import Leaves, PackedScenes
packed = PackedScenes(Leaves("val", (64, 64)), (64, 64), memory_budget=0)
expected = packed.gather(range(8))
packed.expect(range(8, 200))
"""
FORK = """
for attempt in range(20):  # the parent's threads are in the middle of different things
    if (child := os.fork()) == 0:
        found = packed.gather(range(8))
        packed.expect(range(100, 120))
        packed.gather([100])
        os._exit(7 if all(map(np.array_equal, found, expected)) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    packed.expect(range(8, 200))
packed.gather([150])
print("done")
"""
WORKERS = """
import multiprocessing

def play(connection):
    connection.send(sum(int(part.sum()) for part in packed.gather(range(8))))

ours, theirs = multiprocessing.Pipe()
worker = multiprocessing.get_context("fork").Process(target=play, args=(theirs,))
worker.start()
assert ours.recv() == sum(int(part.sum()) for part in expected)
worker.join()  # its threads end with it
print("done", worker.exitcode)
"""
LEAVE = """
print("done")
"""


def test_what_is_no_longer_used_is_freed_at_once_and_its_threads_end(threads):
    """A cycle of references would keep gigabytes until it is found."""
    gc.disable()
    try:
        for memory_budget in (0, 2**30):
            packed = PackedScenes(Drawn(), SIZE, memory_budget=memory_budget)
            packed.gather([1, 2])
            store = weakref.ref(packed._store)
            del packed
            wait_for(lambda: store() is None and not threads())  # noqa: B023
    finally:
        gc.enable()


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="forks")
@pytest.mark.parametrize("program", [FORK, WORKERS, LEAVE], ids=["fork", "workers", "leave"])
def test_a_forked_process_streams_by_itself_and_nobody_hangs_at_the_end(program):
    process = subprocess.Popen(
        [sys.executable, "-c", BEGIN + program],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        printed, errors = process.communicate(timeout=100)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        pytest.fail("the program hangs")
    assert process.returncode == 0, errors
    assert printed.split()[0] == "done"
    assert printed.split()[1:] in ([], ["0"])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_streamed_batches_are_the_same_on_a_gpu():
    on_host = PackedScenes(Drawn(), SIZE, memory_budget=0)
    on_gpu = PackedScenes(Drawn(), SIZE, device="cuda", memory_budget=0)
    for indices in ([3, 1], range(20)):
        for host, gpu in zip(on_host.gather(indices), on_gpu.gather(torch.tensor(indices).cuda()), strict=True):
            assert gpu.device.type == "cuda"
            assert torch.equal(host, gpu.cpu())
    on_host.close()
    on_gpu.close()
