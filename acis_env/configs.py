"""Typed configurations from JSON values: strict, without conversions, with errors that name the place.

dacite walks through the fields and checks types; the hooks below add what it leaves open."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import fields, is_dataclass
from difflib import SequenceMatcher
from functools import cache, partial
from numbers import Integral, Real
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import dacite

Config = TypeVar("Config")

MOST_CHANNELS, MOST_LAYERS = 2**16, 32
"""Largest width and number of layers; the published networks have 4096 and 15. A file may name any, and memory is taken
before anything else could notice."""


def config_from_dict(config_class: type[Config], values: Mapping[str, Any], source: str) -> Config:
    """Rebuild a frozen dataclass, and those nested in it, from JSON values.

    Missing keys take the defaults of their fields. A list becomes a tuple and an integer passes for a float; nothing
    else is converted. A field whose type is a union of dataclasses takes the class whose field
    `kind: Literal["..."] = "..."` names the value of the key "kind".

    Args:
        config_class: the dataclass.
        values: its fields by name, as `json.loads` or `dataclasses.asdict` give them.
        source: where the values are from, for errors.

    Raises:
        ValueError: one line that names `source`, the dotted place, the value and what was expected: a key is unknown
            or missing, a value has another type, or a class refuses its values.
    """
    try:
        config: Config = _build(config_class, values)
        return config
    except dacite.WrongTypeError as error:
        problem, place = f"expected {_describe(error.field_type)}, got {error.value!r}", error.field_path
    except dacite.MissingValueError as error:
        problem, place = "missing key, and it has no default", error.field_path
    except _Misfit as error:
        problem, place = error.problem, error.field_path
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error
    raise ValueError(f"{source}: {(place or '').replace('.[', '[')}: {problem}")


BEGINNING = 0.8
"""Likeness of two names, of which one begins with the other."""


def nearest_first(name: str, known: Collection[str]) -> list[str]:
    """The names in `known`, those most like `name` first; a name that begins with the other is like it."""

    def likeness(other: str) -> float:
        is_beginning = min(len(name), len(other)) > 2 and (name.startswith(other) or other.startswith(name))
        return max(SequenceMatcher(None, name, other).ratio(), BEGINNING if is_beginning else 0)

    return sorted(known, key=likeness, reverse=True)


def unknown_name(name: str, known: Collection[str]) -> str:
    """What an error says of a name that is none of `known`."""
    names = [repr(other) for other in nearest_first(name, known)]
    others = f", and there are {', '.join(names[3:])}" if len(names) > 3 else ""
    return f"unknown {name!r}, the nearest are {', '.join(names[:3])}{others}"


def check_keywords(source: str, function: Callable[..., Any], keywords: Collection[str]) -> None:
    """Make sure that `function` takes arguments of the names `keywords`, as far as it says which it takes.

    Raises:
        ValueError: naming `source`, the first unknown keyword, and the nearest ones.
    """
    parameters = inspect.signature(function).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    for keyword in keywords:
        if keyword not in parameters:
            options = [name for name, parameter in parameters.items() if parameter.default is not parameter.empty]
            raise ValueError(f"{source}: {unknown_name(keyword, options)}")


def check_at_least(least: float, config: Any, *names: str) -> None:
    """Make sure that the fields `names` of `config`, and the members of tuples, are at least `least`; None passes.

    Raises:
        ValueError: naming the field and its value.
    """
    _check(config, names, lambda number: number >= least, f"at least {least}")


def check_sizes(config: Any, *names: str, most: int = MOST_CHANNELS) -> None:
    """Make sure that the fields `names` of `config` are sizes of layers that there can be, or tuples of them.

    Raises:
        ValueError: naming the field and its value.
    """
    _check(config, names, lambda number: 1 <= number <= most, f"from 1 to {most}")
    for name in names:
        value = getattr(config, name)
        if isinstance(value, tuple) and len(value) > MOST_LAYERS:
            raise ValueError(f"{name} must be at most {MOST_LAYERS} numbers, got {len(value)}")


def check_positive(config: Any, *names: str) -> None:
    """Make sure that the fields `names` of `config`, and the members of tuples, are above 0; None passes.

    Raises:
        ValueError: naming the field and its value.
    """
    _check(config, names, lambda number: number > 0, "positive")


def check_choice(config: Any, name: str) -> None:
    """Make sure that the field `name` of `config` is one of the members of its type, a `Literal`.

    Raises:
        ValueError: naming the field, its value and the members.
    """
    members, value = get_args(get_type_hints(type(config))[name]), getattr(config, name)
    if value not in members:
        raise ValueError(f"{name} must be one of {', '.join(members)}, got {value!r}")


def _check(config: Any, names: Collection[str], holds: Callable[[float], bool], expected: str) -> None:
    for name in names:
        value = getattr(config, name)
        numbers = value if isinstance(value, tuple) else () if value is None else (value,)
        if not all(map(holds, numbers)):  # not a number is neither
            raise ValueError(f"{name} must be {expected}, got {value}")


def is_count(value: object, least: int = 1, most: int = 2**31 - 1) -> bool:
    """Whether `value` is a whole number that something can be counted with."""
    return isinstance(value, Integral) and not isinstance(value, bool) and least <= int(value) <= most


def is_number(value: object) -> bool:
    """Whether `value` is a finite number."""
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


class _Misfit(dacite.DaciteFieldError):
    """A problem that dacite has no words for."""

    def __init__(self, problem: str, field_path: str) -> None:
        super().__init__(field_path)
        self.problem = problem


def _build(config_class: Any, values: Mapping[str, Any]) -> Any:
    known = [field.name for field in fields(config_class) if field.init]
    for key in values:
        if key not in known:
            nearest = ", ".join(map(repr, nearest_first(str(key), known)[:3]))
            raise _Misfit(f"unknown key, the nearest of {config_class.__name__} are {nearest}", str(key))
    return dacite.from_dict(config_class, values, dacite.Config(type_hooks=_hooks(config_class)))


@cache
def _hooks(config_class: Any) -> dict[Any, Callable[[Any], Any]]:
    """What dacite calls on a value before it looks at it, by the type of its field."""
    parts = {part for hint in get_type_hints(config_class).values() for part in _parts(hint)}
    return {part: partial(_prepare, part) for part in parts}


def _parts(hint: Any) -> Iterator[Any]:
    """`hint` and all types inside of it."""
    yield hint
    if get_origin(hint) is not Literal:
        for argument in get_args(hint):
            yield from _parts(argument)


def _prepare(hint: Any, value: Any) -> Any:
    """`value` for a field of type `hint`, as far as dacite would not or not strictly do it."""
    origin = get_origin(hint)
    if origin in (Union, UnionType):
        return _build_member(hint, value)
    if is_dataclass(hint):
        return _build(hint, value) if isinstance(value, Mapping) else value
    if origin is tuple and isinstance(value, list | tuple):
        return _build_tuple(hint, value)
    # To dacite a string is a collection, and True a number.
    if (origin in (tuple, list, dict) and isinstance(value, str)) or (hint in (int, float) and isinstance(value, bool)):
        raise dacite.WrongTypeError(hint, value)
    return value


def _build_member(union: Any, value: Any) -> Any:
    """The dataclass of `union` that an object stands for, by its key "kind" if there are several."""
    members = [member for member in get_args(union) if is_dataclass(member)]
    if not members or not isinstance(value, Mapping):
        return value
    if len(members) == 1:
        return _prepare(members[0], value)
    kinds = {get_args(get_type_hints(member)["kind"])[0]: member for member in members}
    kind = value.get("kind")
    if not isinstance(kind, str) or kind not in kinds:
        found = f"got {kind!r}" if "kind" in value else "but there is no such key"
        raise _Misfit(f"expected one of {', '.join(map(repr, nearest_first(str(kind), kinds)))}, {found}", "kind")
    return _prepare(kinds[kind], value)


def _build_tuple(hint: Any, values: Collection[Any]) -> tuple[Any, ...]:
    types = get_args(hint)
    if types[-1] is Ellipsis:
        types = types[:1] * len(values)
    if len(types) != len(values):
        raise dacite.WrongTypeError(hint, values)
    items = []
    for index, (item_hint, item) in enumerate(zip(types, values, strict=True)):
        try:
            items.append(_prepare(item_hint, item))
        except dacite.DaciteFieldError as error:
            error.update_path(f"[{index}]")
            raise
    return tuple(items)


def _describe(hint: Any) -> str:
    """`hint` in words."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        return "one of " + ", ".join(map(repr, arguments))
    if origin in (Union, UnionType):
        return " or ".join(map(_describe, arguments))
    if origin is not None:
        return f"{origin.__name__}[{', '.join(map(_describe, arguments))}]"
    if is_dataclass(hint):
        return f"an object ({getattr(hint, '__name__', hint)})"
    if hint is Ellipsis:
        return "..."
    return "null" if hint is type(None) else str(getattr(hint, "__name__", hint))
