"""Says in our words what pydantic found wrong: file, key path, what was expected, and a guess."""

from __future__ import annotations

import re
import types
import typing
from typing import Any, TypeVar

import pydantic

from dsflow.errors import did_you_mean
from dsflow.specs.fields import Spec
from dsflow.specs.yaml import SpecError, short

Place = tuple[str | int, ...]
S = TypeVar("S", bound=Spec)

_EXPECTED = {
    "string_type": "text",
    "bool_type": "true or false",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a number",
    "dict_type": "keys and values",
    "model_type": "keys and values",
    "model_attributes_type": "keys and values",
    "list_type": "a list",
    "tuple_type": "a list",
}
_BOUNDS = {
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "string_too_long": "must be at most {max_length} characters long",
    "string_too_short": "must not be empty",
    "too_short": "must not be empty",
}


def sentence(shown: str, place: Place, problem: str) -> str:
    """Give one mistake as a sentence: `jobs/x/job_specs.yaml: inputs.raw.pth: unknown key`."""
    # pydantic ends the place of a bad key with a mark of its own.
    parts = [part for part in place if part != "[key]"]
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{short_key(part)}" for part in parts)[1:]
    return f"{shown}: {path}: {problem}" if path else f"{shown}: {problem}"


def sentences(error: pydantic.ValidationError, model: type[pydantic.BaseModel], shown: str) -> list[str]:
    """Give every mistake that pydantic found as a sentence.

    Args:
        error: What pydantic raised.
        model: The model it was checking, to guess which key was meant.
        shown: How messages call the file.
    """
    return [_sentence(details, model, shown) for details in error.errors(include_url=False)]


def short_key(key: str) -> str:
    """Give a key as it appears in a key path: as it is, or quoted and cut where it is long or odd."""
    return key if re.fullmatch(r"[\w-]{1,60}", key) else short(key)


def _sentence(details: Any, model: type[pydantic.BaseModel], shown: str) -> str:
    kind, place, given = details["type"], details["loc"], details["input"]
    context = details.get("ctx", {})
    if kind == "missing":
        problem = "required key is missing"
    elif kind == "extra_forbidden":
        problem = f"unknown key{did_you_mean(str(place[-1]), _keys_at(model, place[:-1]))}"
    elif kind == "literal_error":
        allowed = re.findall(r"'([^']*)'", context["expected"]) or [context["expected"]]
        problem = f"{_got(given)} is not one of {', '.join(allowed)}{did_you_mean(str(given), allowed)}"
    elif kind == "value_error":
        problem = str(context["error"])
    elif kind in _BOUNDS:
        problem = _BOUNDS[kind].format(**context)
    else:
        problem = f"expected {_EXPECTED.get(kind, 'something else')}, got {_got(given)}"
    return sentence(shown, place, problem)


def _got(value: Any) -> str:
    if isinstance(value, dict):
        return "keys and values"
    return "a list" if isinstance(value, list) else short(value)


def _keys_at(model: type[pydantic.BaseModel], place: Place) -> list[str]:
    current: Any = model
    for part in place:
        current = _inside(current, part)
    return [field.alias or name for name, field in current.model_fields.items()] if _is_model(current) else []


def _inside(annotation: Any, part: str | int) -> Any:
    if _is_model(annotation):
        field = next((field for name, field in annotation.model_fields.items() if part in (name, field.alias)), None)
        return _bare(field.annotation) if field is not None else None
    arguments = typing.get_args(annotation)
    is_mapping = typing.get_origin(annotation) is dict
    return _bare(arguments[1 if is_mapping else 0]) if arguments else None


def _bare(annotation: Any) -> Any:
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return _bare(next(arg for arg in typing.get_args(annotation) if arg is not type(None)))
    if typing.get_origin(annotation) is typing.Annotated:
        return _bare(typing.get_args(annotation)[0])
    return annotation


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, pydantic.BaseModel)


def checked(model: type[S], data: dict[str, Any], shown: str, more: list[str] | None = None) -> S:
    """Validate, with the mistakes of `more` (key path first) beside those that pydantic finds."""
    mistakes = [f"{shown}: {problem}" for problem in more or []]
    try:
        spec = model.model_validate(data)
    except pydantic.ValidationError as error:
        mistakes = sentences(error, model, shown) + mistakes
    if mistakes:
        raise SpecError(mistakes)
    return spec
