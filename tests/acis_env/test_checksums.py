"""Checksums: any flipped bit is noticed, wherever it is."""

import json
import random

import pytest
import torch

from acis_env.checksums import LENGTH, check_seal, check_sum, file_sum, read_json, sealed, tensors_sum
from acis_env.files import write_json


@pytest.fixture
def file(tmp_path):
    with sealed(tmp_path / "file.pt") as writer:
        torch.save({"a": torch.arange(100), "b": [1, "two"]}, writer)
    return tmp_path / "file.pt"


def test_a_sealed_file_is_read_by_torch_as_any_other(file):
    assert torch.load(file, weights_only=True)["b"] == [1, "two"]
    check_seal(file)


def test_every_bit_of_the_end_and_a_thousand_others_are_noticed_when_they_flip(file):
    whole = file.read_bytes()
    draw = random.Random(0)
    flips = {(len(whole) - n, bit) for n in range(2, LENGTH + 1) for bit in range(8)}
    flips |= {(draw.randrange(len(whole) - 1), draw.randrange(8)) for _ in range(1000)}
    for place, bit in flips:
        content = bytearray(whole)
        content[place] ^= 1 << bit
        file.write_bytes(content)
        with pytest.raises(ValueError, match=r"file\.pt: (damaged|not a whole checkpoint)"):
            check_seal(file)


def test_a_file_that_was_cut_anywhere_is_noticed(file):
    whole = file.read_bytes()
    for length in (0, 1, 100, len(whole) - LENGTH - 1, len(whole) - LENGTH + 1, len(whole) - 1):
        file.write_bytes(whole[:length])
        with pytest.raises(ValueError, match="not a whole checkpoint"):
            check_seal(file)


def test_a_file_of_an_earlier_version_is_read_with_a_warning(tmp_path, caplog):
    torch.save({"a": 1}, tmp_path / "old.pt")
    check_seal(tmp_path / "old.pt")
    assert "old.pt has no checksum" in caplog.text


def test_a_flipped_bit_of_a_json_file_changes_nothing_or_is_noticed(tmp_path, caplog):
    path, content = tmp_path / "a.json", {"size": (64, 32), "rate": 0.25, "names": {"x": None}, "wide": 1e-7}
    write_json(path, content, checksum=True)
    whole, expected = path.read_bytes(), {**content, "size": [64, 32]}
    assert read_json(path) == expected
    noticed = 0
    for place in range(len(whole)):
        for bit in range(8):
            flipped = bytearray(whole)
            flipped[place] ^= 1 << bit
            path.write_bytes(flipped)
            try:
                found = read_json(path)
            except ValueError:
                noticed += 1
            else:
                assert {name: found[name] for name in expected} == expected
    assert noticed > 0.8 * 8 * len(whole)


def test_a_json_file_that_was_edited_says_what_the_editor_has_to_do(tmp_path, caplog):
    path = tmp_path / "a.json"
    write_json(path, {"size": 64}, checksum=True)
    path.write_text(path.read_text().replace("64", "32"))
    with pytest.raises(ValueError, match=r"a\.json: damaged: .* whoever edits it takes 'sha256' out$"):
        read_json(path)
    path.write_text(json.dumps({"size": 32}))
    assert read_json(path) == {"size": 32}
    assert "a.json has no checksum" in caplog.text


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "expected a JSON object, got what is not JSON"),
        ("[" * 100_000, "expected a JSON object, got brackets that are nested too deeply"),
        ("[1]", "expected a JSON object, got list"),
    ],
)
def test_what_is_no_json_object_is_named(tmp_path, text, named):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ValueError, match=rf"a\.json: {named}"):
        read_json(tmp_path / "a.json")


def test_a_sum_of_the_beginning_is_that_of_a_file_which_ends_there(tmp_path):
    (tmp_path / "one").write_bytes(b"x" * 3_000_000 + b"y")
    (tmp_path / "two").write_bytes(b"x" * 3_000_000)
    assert file_sum(tmp_path / "one", 3_000_000) == file_sum(tmp_path / "two") != file_sum(tmp_path / "one")
    check_sum(tmp_path / "two", file_sum(tmp_path / "two"))


@pytest.mark.parametrize(
    "other",
    [
        {"b": torch.zeros(4)},
        {"a": torch.zeros(2, 2)},
        {"a": torch.zeros(4, dtype=torch.int32)},
        {"a": torch.tensor([0, 0, 0, 1e-9])},
        {"a": torch.tensor([0, 0, 0, -0.0])},
        {},
    ],
)
def test_a_sum_of_tensors_tells_names_shapes_kinds_and_every_bit_apart(other):
    assert tensors_sum(other.items()) != tensors_sum([("a", torch.zeros(4))])
    assert tensors_sum([("a", torch.zeros(8)[::2])]) == tensors_sum([("a", torch.zeros(4))])
