"""Trees of tensors: tuples, lists, dicts, named tuples and registered dataclasses of them (see `optree`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from operator import attrgetter
from typing import Any, TypeVar

import optree
from torch import Tensor

NAMESPACE = "acis_env"
"""Where our dataclasses are registered, so that no other library takes them apart."""

NO_CHILD = {"acis_env.tree": "no child"}
"""`metadata` of a dataclass field that is no part of the tree: whatever is made from the tree has its default."""

Class = TypeVar("Class", bound=type)
Tree = TypeVar("Tree")


def register(cls: Class) -> Class:
    """Class decorator: makes a dataclass a branch of trees, whose children are its fields in their order.

    Fields that are `NO_CHILD` come after all others.
    """
    names = [f.name for f in fields(cls) if f.metadata != NO_CHILD]
    children_of = attrgetter(*names) if len(names) > 1 else lambda branch: (getattr(branch, names[0]),)

    def flatten(branch: Any) -> tuple[tuple[Any, ...], None]:
        return children_of(branch), None

    def unflatten(_: Any, children: Any) -> Any:
        return cls(*children)

    optree.register_pytree_node(cls, flatten, unflatten, namespace=NAMESPACE)
    return cls


def map_tensors(function: Callable[..., Any], tree: Tree, *others: Tree) -> Tree:
    """The tree of `function(tensor, *those of the others at the same place)`.

    Raises:
        ValueError: the others have another structure.
    """
    return optree.tree_map(function, tree, *others, namespace=NAMESPACE)  # type: ignore[arg-type, return-value]


def tensors(tree: Any) -> list[Tensor]:
    """All tensors of a tree, in the order in which `map_tensors` visits them."""
    return optree.tree_leaves(tree, namespace=NAMESPACE)


def signature(tree: Any) -> tuple[optree.PyTreeSpec, list[tuple[int, ...]]]:
    """Structure of a tree of tensors `[B, ...]`, and their shapes without `B`: what trees must share to be joined."""
    leaves, structure = optree.tree_flatten(tree, namespace=NAMESPACE)
    return structure, [tuple(leaf.shape[1:]) for leaf in leaves]


def check_batch(tree: Any, batch: int, what: str) -> None:
    """Make sure that `tree` is one of tensors `[B, ...]`.

    Raises:
        ValueError: it is not; names `what` made it.
    """
    for leaf in tensors(tree):
        if not isinstance(leaf, Tensor):
            raise ValueError(
                f"{what} must give tensors, or tuples, lists, dicts or dataclasses of them, got {type(leaf).__name__}; "
                "a dataclass needs the decorator acis_env.tree.register"
            )
        if leaf.dim() == 0 or len(leaf) != batch:
            raise ValueError(f"{what} must give tensors [B, ...] with B = {batch}, got {list(leaf.shape)}")
        if any(size > 1 and stride == 0 for size, stride in zip(leaf.shape, leaf.stride(), strict=True)):
            raise ValueError(f"{what} must give tensors in memory of their own, got an expanded one; call clone()")
