"""Frozen dataclasses as JSON, and back: keys in the order of declaration, unknown ones ignored, types checked."""

from __future__ import annotations

import dataclasses
import enum
import functools
import json
import types
import typing
from typing import Any, TypeVar

T = TypeVar("T")


def to_json(value: Any, *, indent: int | None = 2) -> str:
    """Give a dataclass as JSON text with its keys in the order of declaration."""
    return json.dumps(dataclasses.asdict(value), indent=indent, ensure_ascii=False, default=str)


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
        return cls(**{key: _build(hints[key], value) for key, value in data.items() if key in hints})
    except TypeError as error:
        raise ValueError(f"{cls.__name__}: {error}") from error


@functools.cache
def _hints(cls: type) -> dict[str, Any]:
    """Give the types of a dataclass's fields; working them out takes longer than using them."""
    hints = typing.get_type_hints(cls)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}


def _build(hint: Any, value: Any) -> Any:
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        options = [arg for arg in typing.get_args(hint) if arg is not type(None)]
        return None if value is None else _build(options[0], value)
    if origin is tuple:
        item = typing.get_args(hint)[0]
        return tuple(_build(item, element) for element in value)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return from_dict(hint, value)
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return hint(value)
    if hint in (str, int, float, bool) and not isinstance(value, (int, float) if hint is float else hint):
        raise ValueError(f"expected {hint.__name__}, got {value!r:.60}")
    return value
