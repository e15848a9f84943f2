"""JSON of any kind is an object, or one line that says what it is instead."""

import json
import time
import tracemalloc
from contextlib import nullcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acis_env.json_files import MAX_BYTES, MAX_DEPTH, parse_json, read_json

VALUES = st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=10)


@given(st.dictionaries(st.text(), VALUES))
def test_an_object_is_read_as_it_was_written(values):
    assert parse_json(json.dumps(values), "here") == values


@given(st.binary() | st.text())
def test_anything_else_is_one_line_with_its_source(text):
    problem = None
    try:
        value = parse_json(text, "here")
    except ValueError as error:
        problem = str(error)
    if problem is None:
        assert isinstance(value, dict)
    else:
        assert problem.startswith("here: expected a JSON object, got ")
        assert "\n" not in problem


@pytest.mark.parametrize("bracket", ["[", '{"a":', "[[],", '[{"a":'])
def test_brackets_without_end_are_refused_at_once_and_without_memory(tmp_path, bracket):
    (tmp_path / "deep.json").write_text(bracket * 100_000)
    tracemalloc.start()
    started = time.monotonic()
    with pytest.raises(ValueError, match=r"deep\.json: expected a JSON object, got"):
        read_json(tmp_path / "deep.json")
    assert time.monotonic() - started < 5
    assert tracemalloc.get_traced_memory()[1] < 2**26
    tracemalloc.stop()


def test_what_is_nested_more_deeply_than_any_configuration_is_refused_though_it_could_be_read():
    for depth, is_refused in ((MAX_DEPTH, False), (MAX_DEPTH + 1, True)):
        text = '{"a": ' * (depth - 1) + "{}" + "}" * (depth - 1)
        with pytest.raises(ValueError, match="nested too deeply") if is_refused else nullcontext():
            parse_json(text, "here")


def test_numbers_with_many_digits_are_refused(tmp_path):
    with pytest.raises(ValueError, match="here: expected a JSON object"):
        parse_json(f'{{"seed": {"9" * 10_000}}}', "here")


def test_a_file_that_is_larger_than_any_of_ours_is_not_read(tmp_path):
    with (tmp_path / "large.json").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(ValueError, match=r"large\.json: expected JSON of at most"):
        read_json(tmp_path / "large.json")
