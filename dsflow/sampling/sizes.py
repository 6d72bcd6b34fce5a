"""How large a sample would be, and the limit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dsflow.errors import UsageError
from dsflow.quantities import show_count
from dsflow.sampling.contract import Rows, Tables
from dsflow.sampling.estimate import of_files
from dsflow.sampling.limits import OverLimit
from dsflow.sampling.places import parquet_files

# What a value takes on average, uncompressed; so that limits mean what they meant in DDataFlow.
_BYTES_PER_VALUE = 50
_GB = 1024**3


class BiggerThanMaxSize(OverLimit):
    """A sample is larger than `data_source_size_limit_gb`."""


def by_rows(tables: Tables, rows: Rows) -> float:
    """Print and give the size of some rows in GB; they are counted once."""
    count, width = tables.count(rows), len(rows.columns)
    return _said(
        count * width * _BYTES_PER_VALUE / _GB,
        f"{show_count(count, 'row')} x {show_count(width, 'column')} x {_BYTES_PER_VALUE} bytes",
    )


def by_files(path: Path) -> float | None:
    """Print and give the size of Parquet files in GB; no row is read. None where there are none on this machine.

    Raises:
        JobFailed: one of them is none.
    """
    files = parquet_files(path)
    if not files:
        return None
    found = of_files(files)
    rows = "" if found.rows is None else f", {show_count(found.rows, 'row')} by {found.how}"
    return _said((found.bytes or 0) / _GB, f"the size of {show_count(len(files), 'file')}{rows}")


def refuse_if_larger(name: str, size: float, limit: float) -> None:
    """Refuse a sample above the limit.

    Raises:
        BiggerThanMaxSize: it is.
    """
    if size > limit:
        raise BiggerThanMaxSize(
            f"the sample of {name} has about {size:.4g} GB, and the limit is {limit:g} GB",
            "Give it a `filter` that keeps less, or raise `data_source_size_limit_gb`.",
        )


def read_limit_gb(given: Any) -> float:
    """Give the limit of a configuration.

    Raises:
        UsageError: it is no number, or a negative one.
    """
    if isinstance(given, bool) or not isinstance(given, int | float) or not given >= 0:
        raise UsageError(f"data_source_size_limit_gb must be a number of GB, not {given!r}")
    return float(given)


def _said(size: float, how: str) -> float:
    print(f"Estimated size of the Dataset in GB:  {size:.4g}\n  ({how})")
    return size
