"""Renaming by a table, beside renaming by sorted pixels."""

import numpy as np
import pytest
import torch

from acis_env.ops import labels
from acis_env.ops.labels import count_instances, label_areas, relabel, relabel_by_sorting, relabel_by_table


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.uint32, np.int64])
@pytest.mark.parametrize("min_area", [0, 1, 2, 30])
def test_a_table_renames_as_sorting_does(dtype, min_area, monkeypatch):
    monkeypatch.setattr(labels, "BLOCK", 100)
    label_map = np.random.default_rng(0).integers(0, 120, (40, 33)).astype(dtype)
    label_map[label_map % 7 == 1] = 0
    np.testing.assert_array_equal(relabel_by_table(label_map, min_area), relabel_by_sorting(label_map, min_area))
    assert relabel(label_map, min_area).dtype == np.int32


@pytest.mark.parametrize("shape", [(0, 0), (0, 4), (3, 3)])
def test_maps_without_pixels_or_instances_stay_as_they_are(shape):
    empty = np.zeros(shape, np.uint8)
    np.testing.assert_array_equal(relabel(empty), empty)
    np.testing.assert_array_equal(relabel_by_table(empty), empty)


@pytest.mark.parametrize("low", [-9, 2**31, 2**40])
def test_labels_of_any_size_are_renamed_in_their_order(low):
    label_map = np.array([[low, 0, low + 5], [low + 2, low, 0]])
    expected = np.searchsorted(np.unique(label_map[label_map != 0]), label_map) + 1
    np.testing.assert_array_equal(relabel(label_map), np.where(label_map == 0, 0, expected))


def test_areas_count_every_label_up_to_the_largest():
    assert label_areas(np.array([[0, 3], [3, 1]])).tolist() == [1, 1, 0, 2]


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32, np.int64])
@pytest.mark.parametrize("rename", [relabel, relabel_by_table, relabel_by_sorting])
def test_ignored_pixels_stay_ignored_and_have_no_label(rename, dtype, monkeypatch):
    monkeypatch.setattr(labels, "BLOCK", 4)
    label_map = np.array([[-1, 0, 7, 7], [-1, 5, 0, -1], [7, 5, 5, 9]], dtype)
    np.testing.assert_array_equal(rename(label_map), [[-1, 0, 2, 2], [-1, 1, 0, -1], [2, 1, 1, 3]])
    np.testing.assert_array_equal(rename(label_map, 2), [[-1, 0, 2, 2], [-1, 1, 0, -1], [2, 1, 1, 0]])


def test_ignored_pixels_have_no_area(monkeypatch):
    monkeypatch.setattr(labels, "BLOCK", 4)
    assert label_areas(np.array([[-1, 0, 3, -1], [3, 1, -1, -1]], np.int8)).tolist() == [1, 1, 0, 2]
    assert label_areas(np.full((2, 2), -1)).tolist() == [0]


def test_labels_up_to_the_largest_of_a_byte_leave_room_for_ignored_pixels():
    label_map = np.arange(-1, 127, dtype=np.int8).reshape(8, 16)
    np.testing.assert_array_equal(relabel(label_map), label_map)
    np.testing.assert_array_equal(label_areas(label_map), np.ones(127))


def test_a_label_map_has_as_many_instances_as_its_largest_label_or_none():
    label_maps = torch.tensor([[[0, 2], [-1, 1]], [[-1, 0], [0, 0]], [[-1, -1], [-1, -1]]])
    assert count_instances(label_maps).tolist() == [2, 0, 0]
