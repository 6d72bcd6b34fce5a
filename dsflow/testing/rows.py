"""Rows as a person writes them, and as Parquet, CSV and JSON files hold them."""

from __future__ import annotations

import csv
import datetime as dt
import decimal
import io
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dsflow.engines.duckdb import DuckDB
from dsflow.engines.literals import identifier
from dsflow.errors import UsageError

Row = Mapping[str, Any]
_ZONED = re.compile("TIMESTAMP WITH TIME ZONE")
# YAML has no word of its own for these in the form that dsflow reads.
_NOT_FINITE = re.compile(r"[+-]?\.?(nan|inf|infinity)", re.IGNORECASE)
_JSON_FORMATS = {".json", ".jsonl", ".ndjson"}
# DuckDB's names for the options of a CSV file that say how it is written.
_KINDS: dict[type, str] = {
    bool: "BOOLEAN",
    int: "BIGINT",
    float: "DOUBLE",
    decimal.Decimal: "DECIMAL(38, 9)",
    dt.date: "DATE",
    list: "list",
    tuple: "list",
    dict: "dict",
}
_DELIMITERS = ("delim", "sep", "delimiter")


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows with the SQL types of their columns. Moments with a time zone are text, in UTC."""

    types: dict[str, str]
    rows: tuple[dict[str, Any], ...]


def is_not_finite(value: Any) -> bool:
    """Say whether a text stands for a number that is none, or for an infinite one."""
    return isinstance(value, str) and _NOT_FINITE.fullmatch(value) is not None


def write_parquet(engine: DuckDB, rows: Sequence[Row], types: Mapping[str, str], path: Path, where: str) -> None:
    """Write rows into a Parquet file; a column that a row leaves out is NULL there.

    Args:
        engine: Who writes.
        rows: The rows.
        types: The SQL types of columns; those of others are found from their values.
        path: The file; its folder `ds=...` is the partition.
        where: How messages call the rows.

    Raises:
        UsageError: there is no column at all.
        JobFailed: a value is not of its type.
    """
    columns = _columns(rows, types, where)
    # A blob in JSON would keep the escapes of its text.
    read_as = {name: "VARCHAR" if type_.upper() == "BLOB" else type_ for name, type_ in columns.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    source = path.with_suffix(".json")
    source.write_text(json.dumps([_plain(row) for row in rows], default=str), encoding="utf-8")
    options = {"format": "array", "columns": read_as}
    found = engine.read([source], "json", with_ds=False, options=options)
    casts = ", ".join(f"CAST({identifier(name)} AS {type_}) AS {identifier(name)}" for name, type_ in columns.items())
    try:
        engine.write(found.project(casts), path, path.parent.name.removeprefix("ds="))
    finally:
        source.unlink()


def csv_text(rows: Sequence[Row], options: Mapping[str, Any]) -> str:
    """Give rows as the text of a CSV file that a reader with these options reads back."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    out = io.StringIO()
    delimiter = next((str(options[name]) for name in _DELIMITERS if name in options), ",")
    writer = csv.writer(out, delimiter=delimiter, quotechar=str(options.get("quote", '"')), lineterminator="\n")
    if options.get("header", True):
        writer.writerow(names)
    null = str(options.get("nullstr", ""))
    writer.writerows([null if row.get(name) is None else _word(row[name]) for name in names] for row in rows)
    return out.getvalue()


def json_text(rows: Sequence[Row]) -> str:
    """Give rows as the text of a JSON file, one row per line."""
    return "".join(json.dumps(_plain(row), ensure_ascii=False, default=str) + "\n" for row in rows)


def read_files(engine: DuckDB, files: Sequence[Path]) -> Table:
    """Give the rows of Parquet files, in their order.

    Raises:
        JobFailed: they cannot be read.
    """
    return fetch(engine.read(files, "parquet", with_ds=False, options={})) if files else Table(types={}, rows=())


def read_any(engine: DuckDB, file: Path, where: str) -> Any:
    """Give the rows of a CSV, JSON or Parquet file as a lazy relation.

    Raises:
        UsageError: its name says it is something else.
        JobFailed: it cannot be read.
    """
    format_ = "json" if file.suffix in _JSON_FORMATS else file.suffix.removeprefix(".")
    if format_ not in ("csv", "json", "parquet"):
        raise UsageError(f"{where}: {file.name} is no .csv, .json, .jsonl or .parquet file")
    return engine.read([file], format_, with_ds=False, options={"header": True} if format_ == "csv" else {})


def fetch(relation: Any) -> Table:
    """Give the rows of a relation."""
    types = {name: str(type_) for name, type_ in zip(relation.columns, relation.types, strict=True)}
    shown = ", ".join(
        f"CAST({identifier(name)} AS {_ZONED.sub('VARCHAR', type_)}) AS {identifier(name)}"
        if _ZONED.search(type_)
        else identifier(name)
        for name, type_ in types.items()
    )
    return Table(
        types=types, rows=tuple(dict(zip(types, row, strict=True)) for row in relation.project(shown).fetchall())
    )


def _columns(rows: Sequence[Row], types: Mapping[str, str], where: str) -> dict[str, str]:
    names = list(dict.fromkeys([*(name for row in rows for name in row), *types]))
    if not names:
        raise UsageError(
            f"{where}: neither rows nor columns are given", "Write `columns: {NAME: TYPE}` beside no rows."
        )
    return {name: types.get(name) or type_of([row.get(name) for row in rows]) for name in names}


def type_of(values: Sequence[Any]) -> str:
    """Give the SQL type that fits some values; text where they have nothing in common."""
    there = [value for value in values if value is not None]
    kinds = {_kind(value) for value in there}
    if kinds == {"list"}:
        return type_of([item for value in there for item in value]) + "[]"
    if kinds == {"dict"}:
        names = list(dict.fromkeys(name for value in there for name in value))
        fields = (f"{identifier(name)} {type_of([value.get(name) for value in there])}" for name in names)
        return f"STRUCT({', '.join(fields)})"
    if kinds and kinds <= {"BIGINT", "DOUBLE", "not finite"} and kinds != {"not finite"}:
        return "BIGINT" if kinds == {"BIGINT"} else "DOUBLE"
    return next(iter(kinds)) if len(kinds) == 1 and kinds != {"not finite"} else "VARCHAR"


def _kind(value: Any) -> str:
    if is_not_finite(value):
        return "not finite"
    if isinstance(value, dt.datetime):
        return "TIMESTAMP WITH TIME ZONE" if value.tzinfo else "TIMESTAMP"
    return _KINDS.get(type(value), "VARCHAR")


def _plain(value: Any) -> Any:
    """Give a value as JSON can hold it."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value[1:] if is_not_finite(value) and value.startswith(".") else value


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(_plain(value), default=str) if isinstance(value, list | tuple | Mapping) else str(value)
