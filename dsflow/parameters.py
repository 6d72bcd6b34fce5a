"""The parameters of a job: what it declares, with types, and the values a run gets.

A value comes from the command line (`-p name=value`, or by position for version '0.1' jobs), else from the environment
variable `DSFLOW_PARAM_NAME`, else from the job's spec, else from the notebook's own parameters cell.
"""

from __future__ import annotations

import ast
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dsflow.errors import UsageError, did_you_mean
from dsflow.masking import MASK, is_secret
from dsflow.notebooks import parse
from dsflow.specs.load import JobSpec

# What a parameters cell may declare to be told, besides the job's parameters.
RUN_NAMES = ("ds", "start", "end", "run_id")

_WORDS = {
    "str": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "list": "a JSON list of plain values",
    "dict": "a JSON object",
}
_BOOLEANS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


class Missing:
    """The default of a parameter whose cell computes it; it has no value until the notebook runs."""


@dataclass(frozen=True)
class Parameter:
    """A declared parameter: the name of its type (a key of Python's own names), and its default."""

    name: str
    type: str
    default: Any


def parse_given(texts: Sequence[str], option: str = "-p") -> dict[str, str]:
    """Give `{"k": "v"}` for the `k=v` texts that an option collected.

    Raises:
        UsageError: one has no `=` or no name, or a name comes twice.
    """
    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise UsageError(f"{option} {text[:60]!r}: expected NAME=VALUE")
        if name in found:
            raise UsageError(f"{option} {name[:60]}: given twice")
        found[name] = value
    return found


def declared_in(source: str, where: str) -> dict[str, Parameter]:
    """Give the parameters that a parameters cell declares, in order.

    Args:
        source: The cell's Python: assignments, with annotations or without.
        where: How messages call the cell.

    Raises:
        UsageError: it is not valid Python, or a default does not fit its annotation.
    """
    found: dict[str, Parameter] = {}
    for statement in parse(source, where).body:
        kind: str | None
        value: ast.expr | None
        match statement:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                kind = None
            case ast.AnnAssign(target=ast.Name(id=name), annotation=annotation):
                value, kind = statement.value, _annotated(annotation)
            case _:
                continue
        default = _literal(value)
        found[name] = _checked(Parameter(name, kind or _type_of(default), default), f"{where}: {name}")
    return found


def declared(job: JobSpec, cell: Mapping[str, Parameter], where: str) -> dict[str, Parameter]:
    """Give all parameters of a job: those of its spec, and those of its notebook's parameters cell.

    Args:
        job: The job; its spec's defaults win over those of the cell.
        cell: What `declared_in` gave for the notebook, empty for other jobs.
        where: How messages call the spec.

    Raises:
        UsageError: a default of the spec does not fit the type that the cell annotates.
    """
    found = {name: parameter for name, parameter in cell.items() if name not in RUN_NAMES}
    for name in job.positional:
        found[name] = Parameter(name, "str", Missing)
    for name, default in job.parameters.items():
        kind = found[name].type if name in found else _type_of(default)
        found[name] = _checked(Parameter(name, kind, default), f"{where}: parameters.{name}")
    return found


def positional(job: JobSpec, values: Sequence[str], given: Mapping[str, str]) -> dict[str, str]:
    """Give names to the positional values of a version '0.1' job.

    Args:
        job: The job.
        values: What stood behind the job's name, in order.
        given: Values given by name.

    Raises:
        UsageError: there are more than the job declares.
    """
    acceptable = list(job.positional)
    if values and not acceptable:
        raise UsageError("this job doesn't accept parameters", f"Type `dsflow run {job.name}`.")
    if len(values) > len(acceptable):
        raise _wrong(job)
    return {**dict(zip(acceptable, values, strict=False)), **given}


def settle(
    job: JobSpec, parameters: Mapping[str, Parameter], given: Mapping[str, str], environment: Mapping[str, str]
) -> dict[str, Any]:
    """Give the value of every parameter that has one.

    Args:
        job: The job.
        parameters: What it declares.
        given: Values from the command line, as text.
        environment: Where `DSFLOW_PARAM_NAME` may give others.

    Raises:
        UsageError: a name is unknown, a value does not fit its type, or a value is missing.
    """
    for name in given:
        if name not in parameters:
            takes = f"It takes: {', '.join(parameters)}." if parameters else "It takes none."
            raise UsageError(f"{job.name}: no parameter {name[:60]!r}{did_you_mean(name, parameters)}", takes)
    values: dict[str, Any] = {}
    for name, parameter in parameters.items():
        variable = f"DSFLOW_PARAM_{name.upper()}"
        if name in given:
            values[name] = value_of(parameter, given[name], f"-p {name}")
        elif variable in environment:
            values[name] = value_of(parameter, environment[variable], variable)
        elif parameter.default is not Missing:
            values[name] = parameter.default
        elif name in job.positional and job.task_specs:
            raise _wrong(job)
    return values


def value_of(parameter: Parameter, text: str, where: str) -> Any:
    """Turn the text a person gave into a value of the parameter's type.

    Raises:
        UsageError: it is none.
    """
    shown = MASK if is_secret(parameter.name) else repr(text if len(text) <= 60 else text[:57] + "...")
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise UsageError(f"{where}: {shown} is not text that can be passed on")
    try:
        value = _converted(parameter.type, text)
    except (ValueError, KeyError, RecursionError):
        raise UsageError(f"{where}: expected {_WORDS[parameter.type]}, got {shown}") from None
    return value


def _wrong(job: JobSpec) -> UsageError:
    usage = " ".join([job.name, *(name.upper() for name in job.positional)])
    return UsageError(
        f"wrong parameters. Acceptable parameters are: {list(job.positional)}", f"Type `dsflow run {usage}`."
    )


def _converted(kind: str, text: str) -> Any:
    if kind == "str":
        return text
    if kind == "bool":
        return _BOOLEANS[text.strip().lower()]
    value = {"int": int, "float": float}.get(kind, json.loads)(text)
    if not _fits(kind, value):
        raise ValueError
    return value


def _fits(kind: str, value: Any) -> bool:
    match kind:
        case "bool":
            return isinstance(value, bool)
        case "int":
            return isinstance(value, int) and not isinstance(value, bool)
        case "float":
            return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        case "list":
            return isinstance(value, list) and not any(isinstance(item, list | dict) or item != item for item in value)
        case "dict":
            return isinstance(value, dict)
    return isinstance(value, str)


def _checked(parameter: Parameter, where: str) -> Parameter:
    if parameter.default is None or parameter.default is Missing or _fits(parameter.type, parameter.default):
        return parameter
    shown = MASK if is_secret(parameter.name) else repr(parameter.default)[:60]
    raise UsageError(f"{where}: expected {_WORDS[parameter.type]}, got {shown}")


def _type_of(default: Any) -> str:
    return type(default).__name__ if type(default).__name__ in _WORDS else "str"


def _literal(value: ast.expr | None) -> Any:
    """Give the value of a literal; Missing for anything that JSON could not carry or that must be computed."""
    try:
        literal = ast.literal_eval(value) if value is not None else Missing
        literal = list(literal) if isinstance(literal, tuple) else literal
        if literal is not Missing:
            json.dumps(literal, allow_nan=False)
    except (ValueError, TypeError, RecursionError, MemoryError, SyntaxError):
        return Missing
    return literal


def _annotated(annotation: ast.expr) -> str | None:
    """Give the type that an annotation such as `int`, `list[str]`, `str | None` or `Optional[float]` stands for."""
    match annotation:
        case ast.Name(id=name):
            return name.lower() if name.lower() in _WORDS else None
        case ast.Subscript(value=ast.Name(id="Optional"), slice=inner):
            return _annotated(inner)
        case ast.Subscript(value=outer):
            return _annotated(outer)
        case ast.BinOp(left=left, right=right):
            return _annotated(left) or _annotated(right)
    return None
