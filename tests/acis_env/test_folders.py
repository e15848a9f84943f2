"""Folders that one process at a time writes into."""

import subprocess
import sys
import threading

import pytest

from acis_env.folders import appearing, claimed, new_folder

HOLD = """
import sys, time
from pathlib import Path
from acis_env.folders import claimed
with claimed(Path(sys.argv[1])):
    print("claimed", flush=True)
    time.sleep(100)
"""


@pytest.fixture
def other_process(tmp_path):
    """Another process that has claimed `tmp_path / "run"`."""
    child = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path / "run"], stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "claimed\n"
    yield child
    child.kill()
    child.communicate()


def test_a_folder_that_another_process_writes_into_is_refused_until_that_dies(other_process, tmp_path):
    with pytest.raises(ValueError, match=r"/run: another process is writing there: "), claimed(tmp_path / "run"):
        pass
    assert (tmp_path / "run").exists()
    other_process.kill()
    other_process.wait()
    with claimed(tmp_path / "run"):
        (tmp_path / "run" / "a").touch()
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["a"]


def test_another_thread_is_refused_and_the_same_one_is_not(tmp_path):
    refused = []

    def claim():
        try:
            with claimed(tmp_path):
                pass
        except ValueError as error:
            refused.append(error)

    with claimed(tmp_path), claimed(tmp_path):
        thread = threading.Thread(target=claim)
        thread.start()
        thread.join()
    assert len(refused) == 1
    claim()
    assert len(refused) == 1


def test_a_folder_that_nothing_was_written_into_is_not_left(tmp_path):
    with pytest.raises(RuntimeError), claimed(tmp_path / "new"):
        raise RuntimeError
    assert not (tmp_path / "new").exists()


def test_what_a_killed_writer_left_is_cleared_away_but_not_what_is_being_written(tmp_path):
    left, written = tmp_path / ".a.1.tmp", tmp_path / ".b.2.tmp"
    left.touch()
    with claimed(tmp_path):
        assert not left.exists()
        written.touch()
        with claimed(tmp_path):
            assert written.exists()


def test_a_new_folder_is_nobody_elses(tmp_path):
    names = [new_folder(tmp_path / "runs", "a").name for _ in range(3)]
    assert names == ["a", "a-2", "a-3"]


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"file/run/\.lock: cannot write the lock: "), claimed(tmp_path / "file" / "run"):
        pass


def test_a_folder_that_is_written_elsewhere_appears_whole(tmp_path):
    with appearing(tmp_path / "new") as folder:
        (folder / "a").write_text("a")
        assert not (tmp_path / "new").exists()
    assert [path.name for path in tmp_path.rglob("*")] == ["new", "a"]


def test_after_an_error_a_folder_does_not_appear(tmp_path):
    def write():
        with appearing(tmp_path / "new") as folder:
            (folder / "a").write_text("a")
            raise KeyError

    with pytest.raises(KeyError):
        write()
    assert list(tmp_path.iterdir()) == []


def test_an_empty_folder_is_replaced_and_any_other_is_not(tmp_path):
    (tmp_path / "new").mkdir()
    with appearing(tmp_path / "new") as folder:
        (folder / "a").write_text("a")
    with pytest.raises(ValueError, match="new: expected a folder that is new or empty, found a in it"):
        appearing(tmp_path / "new").__enter__()
    with pytest.raises(ValueError, match="expected a folder that is new or empty, found a file"):
        appearing(tmp_path / "new" / "a").__enter__()
