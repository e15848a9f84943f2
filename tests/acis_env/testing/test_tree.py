"""Nested data are taken apart and put together in the same shape, whatever they hold."""

import numpy as np
import torch

from acis_env.testing.tree import blanked, difference, leaves, mapped, row, to_numpy, with_rows


def separate(*observations):
    """An object array with an observation, or None, per slot, as `final_obs` is in numpy."""
    array = np.empty(len(observations), dtype=object)
    array[:] = observations
    return array


def test_every_leaf_of_nested_data_is_named_in_its_order():
    value = {"infos": {"potential": 1.0, "final_obs": separate({"mask": 2}, None)}, "flags": (True, [3])}
    assert list(leaves(value)) == [
        ("infos['potential']", 1.0),
        ("infos['final_obs'][0]['mask']", 2),
        ("infos['final_obs'][1]", None),
        ("flags[0]", True),
        ("flags[1][0]", 3),
    ]


def test_a_copy_in_numpy_has_the_same_leaves_and_none_of_the_memory():
    value = {"b": torch.ones(2), "a": (np.zeros(2), None, separate({"mask": torch.ones(1)}, None)), "n": {}}
    copied = mapped(to_numpy, value)
    assert difference(mapped(to_numpy, value), copied) is None
    assert list(copied) == ["b", "a", "n"]
    value["b"].zero_()
    value["a"][0][:] = 1
    value["a"][2][0]["mask"].zero_()
    assert copied["b"].tolist() == [1, 1]
    assert copied["a"][0].tolist() == [0, 0]
    assert copied["a"][2][0]["mask"].tolist() == [1]
    assert copied["a"][2][1] is None


def test_the_row_of_a_slot_is_taken_from_every_array():
    value = {"mask": np.arange(6).reshape(3, 2), "parts": (np.arange(3), separate("a", None, "c"))}
    taken = row(value, 2)
    assert taken["mask"].tolist() == [4, 5]
    assert taken["parts"] == (2, "c")


def test_rows_of_another_are_put_in_where_the_mask_says():
    value, other = ({"a": np.full((3, 2), fill), "b": (np.full(3, fill),)} for fill in (0, 1))
    mixed = with_rows(value, other, np.array([True, False, True]))
    assert mixed["a"].tolist() == [[1, 1], [0, 0], [1, 1]]
    assert mixed["b"][0].tolist() == [1, 0, 1]
    assert value["a"].sum() == 0


def test_slots_outside_of_the_mask_are_blank():
    mask = np.array([True, False])
    value = {"number": np.array([1.5, np.nan]), "name": np.array(["a", "b"]), "seen": separate({"x": 1}, {"x": 2})}
    blank = blanked(value, mask)
    assert difference(blanked({**value, "number": np.array([1.5, 7.0])}, mask), blank) is None
    assert blank["name"].tolist() == ["a", ""]
    assert blank["seen"][0] == {"x": 1}
    assert blank["seen"][1] != {"x": 2}
    assert blanked({"text": "a"}, mask) == {"text": "a"}
