"""Parts of two runs, or of two calls, that must be equal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from acis_env.testing.errors import expect
from acis_env.testing.player import Call
from acis_env.testing.tree import blanked, difference, leaves


def expect_same(expected: Sequence[Call], calls: Sequence[Call], rule: str) -> None:
    """Compare two runs up to the end of the shorter one."""
    for first, second in zip(expected, calls, strict=False):
        changed = difference(meaningful(first), meaningful(second))
        expect(changed is None, f"{rule}, but {first.name} differs: {changed}")


def outcome(call: Call) -> dict[str, Any]:
    """Everything that a call returned but its infos."""
    return {name: value for name, value in call.copies.items() if name != "infos"}


def observations_of(run: Sequence[Call]) -> list[bytes]:
    return [b"".join(leaf.tobytes() for _, leaf in leaves(call.copies["observations"])) for call in run]


def meaningful(call: Call) -> dict[str, Any]:
    """Everything that two equal runs share: infos only in the slots of their masks, and no durations."""
    return {**call.copies, "infos": without_blanks(call.copies["infos"])}


def without_blanks(infos: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in infos.items():
        kept = without_blanks(value) if isinstance(value, Mapping) else value
        if key == "episode" and isinstance(kept, dict):
            kept.pop("t", None)  # seconds, as RecordEpisodeStatistics measures them
        mask = infos.get(f"_{key}")
        found[key] = kept if mask is None else blanked(kept, mask)
    return found
