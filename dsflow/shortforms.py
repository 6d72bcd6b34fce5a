"""Short forms of expectations, as specs and `job.expect` have them, turned into plain SQL.

unique: [city, hour]                      count(*) OVER (PARTITION BY "city", "hour") = 1
not_null: city                            "city" IS NOT NULL
accepted_values: {column, values}         "city" IN ('paris', 'lyon')
row_count: {min, max}                     count(*) >= 1 AND count(*) <= 100
row_count: {min, max, against: previous}  count(*) >= 0.5 * (SELECT count(*) FROM "NAME@previous")
freshness: {column, within}               max(CAST("at" AS TIMESTAMP)) >= TIMESTAMP '...', that long before the end
references: {column, table, to}           "station" IN (SELECT "id" FROM "dim_stations")
schema: {columns, types, on_change}       no SQL: it is about the columns themselves
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dsflow.errors import UsageError, did_you_mean
from dsflow.model import Action, Expectation, Input, Severity, Shape
from dsflow.quantities import seconds

FORMS = ("unique", "not_null", "accepted_values", "row_count", "freshness", "references", "schema")
_WHOLE = ("row_count", "freshness", "schema")
_KEYS = {
    "accepted_values": {"column", "values"},
    "row_count": {"min", "max", "against"},
    "freshness": {"column", "within"},
    "references": {"column", "table", "to", "optional"},
    "schema": {"columns", "types", "on_change"},
}
_REQUIRED = {
    "accepted_values": ("column", "values"),
    "freshness": ("column", "within"),
    "references": ("column", "table"),
}
_LONGEST_NAME = 1000
_ACTIONS = ("allow", "drop", "fail")
_SEVERITIES = ("info", "warn", "error")
PREVIOUS = "@previous"


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What short forms need to know of the partition they are about.

    Attributes:
        table: The table.
        end: Where the partition ends, ISO 8601.
        previous: Gives the partition before it as a source.
        source: Gives another table as a source.
    """

    table: str
    end: str
    previous: Callable[[], Input]
    source: Callable[[str], Input]


def previous(table: str, last: str) -> Input:
    """Give the partition before as a source.

    Args:
        table: The table.
        last: The last ds that it may have.
    """
    return Input(name=f"{table}{PREVIOUS}", kind="table", target=table, as_of=last)


def name_of(given: Mapping[str, Any]) -> str:
    """Give the name of an expectation: its own, or what its short form is about."""
    if given.get("name"):
        return str(given["name"])
    form = next((form for form in FORMS if given.get(form) is not None), "")
    value = given.get(form)
    if form in ("unique", "not_null"):
        return f"{form} {', '.join(_names(value))}"
    if isinstance(value, Mapping) and value.get("column"):
        return f"{form} {value['column']}"
    return "row_count against previous" if form == "row_count" and _against(value) else form


def problems(given: Mapping[str, Any], action: str) -> list[str]:
    """Find what is wrong between the keys of an expectation; each alone has what it may have.

    Args:
        given: The expectation as a mapping.
        action: Its action, the one for all included.
    """
    forms = [key for key in ("constraint", *FORMS) if given.get(key) is not None]
    if len(forms) != 1:
        return [f"name exactly one of 'constraint', {', '.join(map(repr, FORMS))}"]
    [form] = forms
    found = [] if given.get("name") or form != "constraint" else ["required key 'name' is missing"]
    if form in _WHOLE:
        if action == "drop":
            found.append(f"{form} is about the whole partition, nothing of which can be dropped: give it an action")
        if given.get("max_failures") is not None:
            found.append(f"'max_failures' counts rows, and {form} is about the whole partition")
    value = given[form]
    if form == "row_count" and isinstance(value, Mapping):
        bounds = [bound for key in ("min", "max") if isinstance(bound := value.get(key), int | float)]
        if not bounds:
            found.append("row_count needs 'min' or 'max'")
        elif bounds != sorted(bounds):
            found.append(f"row_count: min {bounds[0]} is more than max {bounds[1]}")
    if given.get("severity") in ("info", "warn") and action == "fail":
        found.append(f"severity {given['severity']!r} does not go with action 'fail', which ends the run")
    return found


def check(given: Mapping[str, Any], action: str) -> None:
    """Make sure that what code passed to `job.expect` is an expectation.

    Raises:
        UsageError: it is not.
    """
    where = f"expectation {name_of(given)!r}"
    if not 0 < len(name_of(given)) <= _LONGEST_NAME or not name_of(given).isprintable():
        raise UsageError(f"{where[:80]}: a name is one line of at most {_LONGEST_NAME} characters")
    for key in given.keys() - {"name", "constraint", "severity", "max_failures", *FORMS}:
        raise UsageError(f"{where}: unknown key {key!r}{did_you_mean(key, [*FORMS, 'severity', 'max_failures'])}")
    for key, allowed in (("action", _ACTIONS), ("severity", _SEVERITIES)):
        word = action if key == "action" else given.get(key)
        if word is not None and word not in allowed:
            raise UsageError(f"{where}: {key} {word!r} is not one of {', '.join(allowed)}")
    if given.get("max_failures") is not None:
        try:
            check_most(given["max_failures"])
        except ValueError as error:
            raise UsageError(f"{where}: max_failures: {error}") from None
    for form, keys in _KEYS.items():
        _check_keys(f"{where}: {form}", given.get(form), keys, _REQUIRED.get(form, ()))
    for problem in problems(given, action):
        raise UsageError(f"{where}: {problem}")


def expectation(given: Mapping[str, Any], action: Action, setting: Setting) -> Expectation:
    """Turn an expectation as a person writes it into one with plain SQL.

    Args:
        given: Its keys: `name`, `constraint` or a short form, `severity`, `max_failures`.
        action: What happens to rows that break it.
        setting: The partition it is about.
    """
    count, share = _most(given.get("max_failures"))
    severity: Severity = given.get("severity") or ("error" if action == "fail" else "warn")
    sources: tuple[Input, ...] = ()
    shape = None
    if given.get("constraint") is not None:
        sql = str(given["constraint"])
    elif given.get("schema") is not None:
        shape = _shape(given["schema"])
        sql = _in_words(shape)
    else:
        sql, sources = _sql(given, setting)
    return Expectation(
        name=name_of(given),
        constraint=sql,
        action=action,
        severity=severity,
        max_failures=count,
        max_share=share,
        sources=sources,
        shape=shape,
    )


def _sql(given: Mapping[str, Any], setting: Setting) -> tuple[str, tuple[Input, ...]]:
    form = next(form for form in FORMS if given.get(form) is not None)
    value = given[form]
    match form:
        case "unique":
            return f"count(*) OVER (PARTITION BY {', '.join(map(_identifier, _names(value)))}) = 1", ()
        case "not_null":
            return " AND ".join(f"{_identifier(name)} IS NOT NULL" for name in _names(value)), ()
        case "accepted_values":
            return _among(value["column"], value["values"]), ()
        case "row_count":
            return _count(value, setting)
        case "freshness":
            return _recent(value, setting), ()
        case _:
            return _found_in(value, setting)


def _among(column: str, values: Sequence[Any]) -> str:
    there = [_literal(value) for value in values if value is not None]
    parts = [f"{_identifier(column)} IN ({', '.join(there)})"] if there else []
    return " OR ".join([*parts, f"{_identifier(column)} IS NULL"] if None in values else parts)


def _count(value: Mapping[str, Any], setting: Setting) -> tuple[str, tuple[Input, ...]]:
    previous = setting.previous() if _against(value) else None
    of = f" * (SELECT count(*) FROM {_identifier(previous.name)})" if previous else ""
    bounds = (("min", ">="), ("max", "<="))
    parts = [f"count(*) {sign} {_number(value[key])}{of}" for key, sign in bounds if value.get(key) is not None]
    return " AND ".join(parts), (previous,) if previous else ()


def _recent(value: Mapping[str, Any], setting: Setting) -> str:
    try:
        within = seconds(str(value["within"]))
    except ValueError as error:
        raise UsageError(f"freshness: {error}") from None
    oldest = dt.datetime.fromisoformat(setting.end) - dt.timedelta(seconds=within)
    moment = oldest.isoformat(sep=" ")
    return f"max(CAST({_identifier(value['column'])} AS TIMESTAMP)) >= TIMESTAMP '{moment}'"


def _found_in(value: Mapping[str, Any], setting: Setting) -> tuple[str, tuple[Input, ...]]:
    column, table = value["column"], value["table"]
    # A table may point at itself: then the rows that are checked are looked up among themselves.
    sources = () if table == setting.table else (setting.source(table),)
    sql = f"{_identifier(column)} IN (SELECT {_identifier(value.get('to') or column)} FROM {_identifier(table)})"
    return (f"{_identifier(column)} IS NULL OR {sql}" if value.get("optional") else sql), sources


def _shape(value: Mapping[str, Any]) -> Shape:
    return Shape(
        columns=tuple(value.get("columns") or ()),
        types=dict(value.get("types") or {}),
        on_change=value.get("on_change") or "allow",
    )


def _in_words(shape: Shape) -> str:
    parts = [f"columns {', '.join(shape.columns)}"] if shape.columns else []
    parts += [f"{name} is {type_}" for name, type_ in shape.types.items()]
    return "; ".join([*parts, "no change"] if shape.on_change == "fail" else parts) or "any columns"


def _most(value: Any) -> tuple[int | None, float | None]:
    """Give `max_failures` as a count or a share of the rows: `10`, `1%`, `0.01`."""
    if value is None:
        return None, None
    if isinstance(value, str) and value.strip().endswith("%"):
        return None, _share(value)
    return (None, value) if isinstance(value, float) else (int(value), None)


def check_most(value: Any) -> Any:
    """Give back a value that `max_failures` may have: `10`, `1%` or `0.01`.

    Raises:
        ValueError: it may not.
    """
    if isinstance(value, str) and value.strip().endswith("%"):
        good = 0 <= _share(value) <= 1
    elif isinstance(value, float):
        good = 0 <= value < 1
    else:
        good = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    if not good:
        raise ValueError(f"{str(value)[:40]!r} is neither a number of rows nor a share such as 1% or 0.01")
    return value


def _share(text: str) -> float:
    try:
        return float(text.strip().removesuffix("%")) / 100
    except ValueError:
        return math.nan


def _check_keys(where: str, value: Any, keys: set[str], required: Sequence[str]) -> None:
    if value is None:
        return
    if not isinstance(value, Mapping):
        raise UsageError(f"{where} takes {', '.join(sorted(keys))}")
    for key in value:
        if key not in keys:
            raise UsageError(f"{where}: unknown key {key!r}{did_you_mean(str(key), keys)}")
    for key in required:
        if value.get(key) is None:
            raise UsageError(f"{where}: required key {key!r} is missing")


def _against(value: Any) -> bool:
    return isinstance(value, Mapping) and value.get("against") is not None


def _names(value: Any) -> list[str]:
    return [str(name) for name in (value if isinstance(value, list | tuple) else [value])]


def _identifier(name: str) -> str:
    return '"' + str(name).replace('"', '""') + '"'


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else str(value)


def _literal(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else "'" + str(value).replace("'", "''") + "'"
