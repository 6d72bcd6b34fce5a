"""Frozen dataclasses as JSON, and back: keys in the order of declaration, unknown ones ignored, types checked."""

from __future__ import annotations

import dataclasses
import enum
import functools
import json
import types
import typing
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


def to_json(value: Any, *, in_one_line: bool = False) -> str:
    """Give a dataclass as JSON text with its keys in the order of declaration, each in its own line."""
    if in_one_line:
        return _encode(value)
    # Lines for what is deeper inside too would make it many times slower.
    lines = (f"  {_encode(key)}: {_encode(item)}" for key, item in _fields_of(value).items())
    return "{\n" + ",\n".join(lines) + "\n}"


def _fields_of(value: Any) -> Any:
    if not dataclasses.is_dataclass(type(value)):
        return str(value)
    return {name: getattr(value, name) for name in _hints(type(value))}  # type: ignore[arg-type]


_encode = json.JSONEncoder(ensure_ascii=False, default=_fields_of).encode


def from_json(cls: type[T], text: str) -> T:
    """Build a `cls` from `to_json` text; keys that `cls` does not know are ignored.

    Raises:
        ValueError: the text is not JSON, or a required key is missing.
    """
    return from_dict(cls, json.loads(text))


def from_dict(cls: type[T], data: Any) -> T:
    """Build a `cls` from plain dicts and lists, as `from_json` does."""
    if not isinstance(data, dict):
        raise ValueError(f"expected an object for {cls.__name__}, got {type(data).__name__}")
    hints = _hints(cls)  # type: ignore[arg-type]
    try:
        return cls(**{key: _builder(hints[key])(value) for key, value in data.items() if key in hints})
    except TypeError as error:
        raise ValueError(f"{cls.__name__}: {error}") from error


@functools.cache
def _hints(cls: Any) -> dict[str, Any]:
    """Give the types of a dataclass's fields; working them out takes longer than using them."""
    hints = typing.get_type_hints(cls)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}


@functools.cache
def _builder(hint: Any) -> Callable[[Any], Any]:
    """Give what turns plain data into a value of a field's type."""
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        some = _builder(next(arg for arg in typing.get_args(hint) if arg is not type(None)))
        return lambda value: None if value is None else some(value)
    if origin is tuple:
        item = _builder(typing.get_args(hint)[0])
        return lambda value: tuple(map(item, value))
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return functools.partial(from_dict, hint)
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return hint
    if hint in (str, int, float, bool):
        return functools.partial(_plain, hint, (int, float) if hint is float else hint)
    return lambda value: value


def _plain(hint: type, allowed: Any, value: Any) -> Any:
    if not isinstance(value, allowed):
        raise ValueError(f"expected {hint.__name__}, got {value!r:.60}")
    return value
