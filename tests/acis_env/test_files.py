"""Files that are whole at every moment, and errors of the system that say which and why."""

import errno

import pytest

from acis_env.files import one_line, remove_unfinished, replacing, write_json


def test_an_error_of_the_system_names_the_file_what_was_written_and_why(tmp_path):
    (tmp_path / "a").write_text("old")

    def fail():
        with replacing(tmp_path / "a", "curve") as unfinished:
            unfinished.write_text("half")
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match=r"/a: cannot write the curve: No space left on device$") as error:
        fail()
    assert error.value.errno == errno.ENOSPC
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a", "old")]


def test_a_file_in_place_of_the_folder_is_named(tmp_path):
    (tmp_path / "a").write_text("a file")
    with pytest.raises(OSError, match=r"/a/b: cannot write the file: "):
        write_json(tmp_path / "a" / "b", {})


def test_the_old_file_is_kept_under_another_name(tmp_path):
    for text in ("one", "two", "three"):
        with replacing(tmp_path / "a", previous=tmp_path / "before") as unfinished:
            unfinished.write_text(text)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "three", "before": "two"}


def test_an_error_keeps_the_last_two_files(tmp_path):
    for text in ("one", "two"):
        with replacing(tmp_path / "a", previous=tmp_path / "before") as unfinished:
            unfinished.write_text(text)

    def fail():
        with replacing(tmp_path / "a", previous=tmp_path / "before") as unfinished:
            unfinished.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "two", "before": "one"}


def test_only_what_killed_writers_left_is_removed(tmp_path):
    kept = {".config", "a.tmp", ".a.tmp", ".a.b.tmp", "checkpoint.pt"}
    for name in (*kept, ".checkpoint.pt.123.tmp", ".a.json.1.tmp"):
        (tmp_path / name).touch()
    (tmp_path / ".folder.123.tmp").mkdir()  # may be in the making: nobody claims the folder that it will appear in
    remove_unfinished(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {*kept, ".folder.123.tmp"}


def test_an_error_of_the_system_is_told_by_its_file_and_reason(tmp_path):
    with pytest.raises(FileNotFoundError) as error:
        (tmp_path / "none").read_bytes()
    assert one_line(error.value) == f"{tmp_path / 'none'}: No such file or directory"
    assert one_line(ValueError("two\nlines")) == "two lines"
