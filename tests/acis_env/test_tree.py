"""Trees of tensors."""

from collections import namedtuple
from dataclasses import dataclass, field

import optree
import pytest
import torch

from acis_env import tree


@tree.register
@dataclass(frozen=True)
class Pair:
    first: torch.Tensor
    second: tuple
    notes: list = field(default_factory=list, metadata=tree.NO_CHILD)


@tree.register
@dataclass(frozen=True)
class Single:
    only: torch.Tensor


Point = namedtuple("Point", "x y")
ONE, TWO, THREE = (torch.full((2, n), float(n)) for n in (1, 2, 3))


@pytest.mark.parametrize(
    "branch",
    [
        ONE,
        (ONE, [TWO]),
        {"b": ONE, "a": TWO},
        Point(ONE, TWO),
        Pair(ONE, (TWO, THREE), ["kept"]),
        Single(ONE),
        Pair(Single(ONE), ()),
        (),
    ],
)
def test_mapping_keeps_the_structure_and_visits_all_tensors_in_one_order(branch):
    doubled = tree.map_tensors(lambda x: 2 * x, branch)
    assert type(doubled) is type(branch)
    assert tree.signature(doubled) == tree.signature(branch)
    for after, before in zip(tree.tensors(doubled), tree.tensors(branch), strict=True):
        assert torch.equal(after, 2 * before)
    sums = tree.map_tensors(torch.add, branch, doubled)
    for after, before in zip(tree.tensors(sums), tree.tensors(branch), strict=True):
        assert torch.equal(after, 3 * before)


def test_a_field_that_is_no_child_has_its_default_afterwards():
    pair = Pair(ONE, (TWO,), ["kept"])
    assert len(tree.tensors(pair)) == 2
    assert tree.map_tensors(torch.clone, pair).notes == []
    assert pair.notes == ["kept"]


def test_signatures_differ_by_structure_and_by_shape_but_not_by_batch():
    assert tree.signature((ONE, TWO)) == tree.signature((ONE[:1], TWO[:1]))
    assert tree.signature((ONE, TWO)) != tree.signature((ONE, THREE))
    assert tree.signature((ONE, TWO)) != tree.signature([ONE, TWO])
    assert tree.signature(Single(ONE)) != tree.signature(ONE)


def test_trees_of_other_structures_are_not_mapped_together():
    with pytest.raises(ValueError, match=r"[Ee]xpected"):
        tree.map_tensors(torch.add, (ONE, TWO), (ONE,))


def test_only_our_namespace_knows_our_branches():

    assert optree.tree_leaves(Single(ONE), namespace="somebody") != [ONE]
