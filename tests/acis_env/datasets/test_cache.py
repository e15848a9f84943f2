"""Packed scenes on disk: what comes back is what was written, whoever was killed, and whatever was damaged."""

import hashlib
import logging
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import acis_env
from acis_env.datasets import FolderScenes, PackedScenes
from acis_env.datasets.cache import open_cache
from acis_env.datasets.packing import ScenePacker
from acis_env.datasets.preprocessing import Squeeze
from acis_env.datasets.roots import cache_root
from acis_env.datasets.scene import PackedScene

ROOT = Path(acis_env.__file__).parents[1]
SIZE = (32, 64)


class Described(list):
    """A data set that only says what its scenes are."""

    def __init__(self, fingerprint, num_scenes):
        super().__init__([None] * num_scenes)
        self.fingerprint = fingerprint


def open_some(fingerprint="leaves", num_scenes=5, max_instances=100, size=SIZE, min_area=4):
    return open_cache(
        ScenePacker(Described(fingerprint, num_scenes), num_scenes, Squeeze(size), min_area, max_instances)
    )


def some_scene(seed=0, name="plant", label_dtype=np.int8):
    rng = np.random.default_rng(seed)
    label_map = rng.integers(-1, 100, SIZE).astype(label_dtype)
    return PackedScene(rng.integers(0, 256, (3, *SIZE), dtype=np.uint8), label_map, name)


def assert_same_scene(found, expected):
    np.testing.assert_array_equal(found.image, expected.image)
    np.testing.assert_array_equal(found.label_map, expected.label_map)
    assert found.label_map.dtype == expected.label_map.dtype
    assert found.name == expected.name


def records_of(caches):
    (path,) = caches.glob("scenes/*/scenes.bin")
    return path


@pytest.mark.parametrize(("max_instances", "dtype"), [(100, np.int8), (300, np.int16), (70_000, np.int32)])
def test_a_scene_comes_back_as_it_was_written(max_instances, dtype):
    scene = some_scene(name="blätter 叶@1,2,3", label_dtype=dtype)
    open_some(max_instances=max_instances).put(3, scene)
    cache = open_some(max_instances=max_instances)
    assert_same_scene(cache.get(3), scene)
    assert [cache.get(index) for index in (0, 1, 2, 4)] == [None] * 4


@pytest.mark.parametrize("place", [0, 4, 8, 12, 3000, 12 + 3 * 2048 + 1, 12 + 4 * 2048 + 2])
def test_a_scene_of_which_one_byte_is_damaged_is_missing_until_it_is_written_again(caches, place):
    cache, scenes = open_some(), [some_scene(seed) for seed in range(5)]
    for index, scene in enumerate(scenes):
        cache.put(index, scene)
    with records_of(caches).open("r+b") as file:
        file.seek(2 * cache.nbytes // 5 + place)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 4]))
    assert cache.get(2) is None
    for index in (0, 1, 3, 4):
        assert_same_scene(cache.get(index), scenes[index])
    cache.put(2, scenes[2])
    assert_same_scene(cache.get(2), scenes[2])


@pytest.mark.parametrize("written", [1, 11, 13, 5000, 12 + 4 * 2048, 12 + 4 * 2048 + 4])
def test_a_scene_that_was_not_wholly_written_is_missing(caches, written):
    cache = open_some(num_scenes=1)
    cache.put(0, some_scene())
    path = records_of(caches)
    data = path.read_bytes()
    path.write_bytes(data[:written] + bytes(len(data) - written))
    assert cache.get(0) is None


def test_a_scene_in_the_place_of_another_is_missing(caches):
    cache = open_some(num_scenes=2)
    cache.put(0, some_scene())
    data = records_of(caches).read_bytes()
    records_of(caches).write_bytes(2 * data[: len(data) // 2])
    assert cache.get(0) is not None
    assert cache.get(1) is None


def test_a_name_that_is_too_long_is_not_kept():
    cache = open_some()
    cache.put(0, some_scene(name=500 * "a"))
    cache.put(1, some_scene(name=501 * "a"))
    assert cache.get(0).name == 500 * "a"
    assert cache.get(1) is None


def cut_off(folder):
    os.truncate(folder / "scenes.bin", 1000)


def forget_a_file(folder):
    (folder / "scenes.bin").unlink()


def change_header(folder):
    header = folder / "header.json"
    header.write_text(header.read_text().replace('"scenes": 5', '"scenes": 4'))


def tear_header(folder):
    os.truncate(folder / "header.json", 20)


@pytest.mark.parametrize("damage", [cut_off, forget_a_file, change_header, tear_header])
def test_a_damaged_cache_is_noticed_while_it_is_used_and_made_anew_by_whoever_opens_it(caches, damage):
    cache = open_some()
    cache.put(4, some_scene())
    damage(cache.folder)
    if damage in (cut_off, forget_a_file):
        assert cache.get(4) is None
    again = open_some()
    assert again.folder == cache.folder
    assert records_of(caches).stat().st_size == cache.nbytes
    assert again.get(4) is None
    again.put(4, some_scene(1))
    assert_same_scene(open_some().get(4), some_scene(1))


def test_whatever_decides_the_content_has_a_cache_of_its_own(caches):
    others = ({"fingerprint": "b"}, {"num_scenes": 6}, {"max_instances": 200}, {"size": (64, 32)}, {"min_area": 5})
    for options in ({}, *others):
        cache = open_some(**options)
        assert cache.get(0) is None
        cache.put(0, PackedScene(np.zeros((3, *cache.size), np.uint8), np.zeros(cache.size, np.int8), "a"))
    assert len(list(caches.glob("scenes/*/header.json"))) == 6


def test_scenes_for_which_there_is_no_room_are_not_kept_and_a_warning_says_so_once(monkeypatch, caplog, caches):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=5 * 4 * 2048))
    assert open_some("crowded") is None
    assert open_some("crowded") is None
    (record,) = caplog.records
    assert "there is not room for all scenes, 0.0 GB; ACIS_CACHE names another folder" in record.getMessage()
    assert not list(caches.glob("scenes/*/scenes.bin"))


def test_a_folder_that_cannot_be_written_to_is_said_once_and_scenes_are_streamed_all_the_same(
    monkeypatch, caplog, tmp_path, folder
):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("ACIS_CACHE", str(tmp_path / "file"))
    kept = PackedScenes(FolderScenes(folder), SIZE).gather(range(12))
    for _ in range(2):
        with caplog.at_level(logging.WARNING):
            streamed = PackedScenes(FolderScenes(folder), SIZE, memory_budget=0).gather(range(12))
        for ours, theirs in zip(streamed, kept, strict=True):
            assert ours.equal(theirs)
    (record,) = caplog.records
    assert "scenes are not kept on disk, and decoded whenever they are shown: Not a directory" in record.getMessage()


def test_a_write_that_is_refused_is_said_once_and_what_was_written_before_is_still_read(caches, caplog):
    cache = open_some()
    cache.put(0, some_scene())
    records = records_of(caches)
    records.rename(caches / "aside")
    records.mkdir()  # which nobody can write to
    for index in (1, 2):
        cache.put(index, some_scene())
    assert len(caplog.records) == 1
    records.rmdir()
    (caches / "aside").rename(records)
    cache.put(1, some_scene())
    assert_same_scene(cache.get(0), some_scene())
    assert cache.get(1) is None


def test_the_folder_is_the_platforms_unless_a_variable_names_another(monkeypatch, tmp_path):
    assert cache_root() == Path(os.environ["ACIS_CACHE"])
    monkeypatch.delenv("ACIS_CACHE")
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    for platform, place in (("linux", ".cache"), ("darwin", "Library/Caches"), ("win32", "local")):
        monkeypatch.setattr(sys, "platform", platform)
        assert cache_root() == tmp_path / place / "acis-env"
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_root() == tmp_path / "xdg" / "acis-env"


BUILD = """
import hashlib, sys, time
from acis_env.datasets import FolderScenes, PackedScenes
packed = PackedScenes(FolderScenes(sys.argv[1]), (32, 64), memory_budget=0)
print("open", flush=True)
sys.stdin.readline()
total = hashlib.sha256()
for index in range(len(packed)):
    for part in packed.gather([index]):
        total.update(part.numpy().tobytes())
    print(index, flush=True)
print(total.hexdigest(), flush=True)
"""


def start(folder):
    """A process that has opened the scenes of `folder`, to stream them, and waits."""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", BUILD, str(folder)]
    return subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def let_go(*processes):
    for process in processes:
        assert process.stdout.readline() == "open\n"
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()


def digest(process):
    """The checksum of all scenes that it printed."""
    printed, _ = process.communicate(timeout=100)
    assert process.returncode == 0
    return printed.split()[-1]


def digest_in_memory(folder):
    """The checksum of all scenes of `folder`, which are in memory."""
    packed, total = PackedScenes(FolderScenes(folder), SIZE), hashlib.sha256()
    for index in range(len(packed)):
        for part in packed.gather([index]):
            total.update(part.numpy().tobytes())
    return total.hexdigest()


def present(folder):
    """Names of the scenes in the only cache of `folder`."""
    packed = PackedScenes(FolderScenes(folder), SIZE, memory_budget=0)
    cache = open_cache(packed._packer)
    found = [cache.get(index) for index in range(len(packed))]
    return [None if scene is None else scene.name for scene in found]


def test_two_processes_that_build_one_cache_at_once_leave_one_whole_cache(tmp_path, write_pairs, caches):
    folder = write_pairs(tmp_path / "pairs", 150)
    first, second = start(folder), start(folder)  # they create the cache at about the same time, too
    let_go(first, second)
    assert digest(first) == digest(second) == digest_in_memory(folder)
    assert present(folder) == [f"{number:04d}" for number in range(150)]
    (cache,) = caches.glob("scenes/*")
    assert {path.name for path in cache.iterdir()} == {".lock", "header.json", "scenes.bin"}


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no process can be killed so")
def test_what_a_killed_process_left_is_whole_and_the_next_process_completes_it(tmp_path, write_pairs, caches):
    folder = write_pairs(tmp_path / "pairs", 150)
    process = start(folder)
    let_go(process)
    while process.stdout.readline() != "10\n":
        pass
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    names = [f"{number:04d}" for number in range(150)]
    found = present(folder)
    assert found[:11] == names[:11]
    assert None in found
    assert all(name in (None, expected) for name, expected in zip(found, names, strict=True))
    following = start(folder)
    let_go(following)
    assert digest(following) == digest_in_memory(folder)
    assert present(folder) == names


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no process can be killed so")
def test_a_process_killed_while_it_makes_the_files_leaves_none_that_is_believed(folder, caches):
    program = """
import os, signal, sys
from acis_env.datasets import FolderScenes, PackedScenes, cache
cache.write_json = lambda *arguments, **options: os.kill(os.getpid(), signal.SIGKILL)
PackedScenes(FolderScenes(sys.argv[1]), (32, 64), memory_budget=0)
"""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", program, str(folder)], env=env, check=False)
    assert done.returncode == -signal.SIGKILL
    assert records_of(caches).exists()
    assert not list(caches.glob("scenes/*/header.json"))
    PackedScenes(FolderScenes(folder), SIZE, memory_budget=0).gather(range(12))
    assert present(folder) == [f"{number:04d}" for number in range(12)]
