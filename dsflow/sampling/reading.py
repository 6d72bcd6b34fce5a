"""The rows of a source, all of them or its sample; and the functions of a configuration, called."""

from __future__ import annotations

import datetime as dt
import os
import re
from collections.abc import Callable
from typing import Any

from dsflow.errors import UsageError
from dsflow.sampling.contract import Rows, Tables
from dsflow.sampling.mapping import DataSource, takes_nothing


def whole(tables: Tables, entry: DataSource) -> Rows:
    """Give all rows of a source.

    Raises:
        UsageError: its function gives none.
    """
    if entry.source is not None:
        arguments = () if takes_nothing(entry.source) else (tables.session,)
        return _rows_of(tables, f"the source {entry.name!r}", entry.source, *arguments)
    return tables.parquet(entry.name) if entry.parquet else tables.table(entry.name)


def sample(tables: Tables, entry: DataSource, limit: int) -> Rows:
    """Give the rows of a source that its sample keeps: those of its filter, else of the default sampler, else all.

    Raises:
        UsageError: a function gives nothing.
    """
    rows = whole(tables, entry)
    if entry.filter is not None:
        return _rows_of(tables, f"the filter of {entry.name!r}", entry.filter, rows)
    return default_sample(rows, limit) if entry.default_sampling else rows


def default_sample(rows: Rows, limit: int) -> Rows:
    """Give at most so many rows; where there is a column `date`, those of one day: yesterday, or that of the run."""
    if "date" in (name.lower() for name in rows.columns):
        # As text, whatever type it has: every engine understands this, and none fails at a value that is no date.
        rows = rows.filter(f"substr(CAST(date AS STRING), 1, 10) = '{_day()}'")
    return rows.limit(limit)


def call(tables: Tables, what: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function of a configuration; what it raises says which one it was."""
    try:
        return function(*arguments)
    except Exception as error:
        error.add_note(f"That was {what}, with the engine {tables.name}.")
        raise


def _rows_of(tables: Tables, what: str, function: Callable[..., Any], *arguments: Any) -> Rows:
    rows = call(tables, what, function, *arguments)
    if rows is None:
        raise UsageError(f"{what} gives nothing", "Its function must return the rows.")
    return rows  # type: ignore[no-any-return]


def _day() -> str:
    ds = os.environ.get("DSFLOW_DS", "")
    if re.fullmatch(r"\d{4}-\d\d-\d\d", ds):
        return ds
    return (dt.datetime.now() - dt.timedelta(days=1)).date().isoformat()
