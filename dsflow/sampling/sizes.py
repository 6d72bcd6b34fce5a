"""How large a sample would be, and the limit."""

from __future__ import annotations

from typing import Any

from dsflow.errors import UsageError
from dsflow.quantities import show_count
from dsflow.sampling.contract import Rows, Tables
from dsflow.sampling.limits import OverLimit

# What a value takes on average, uncompressed; so that limits mean what they meant in DDataFlow.
_BYTES_PER_VALUE = 50
_GB = 1024**3


class BiggerThanMaxSize(OverLimit):
    """A sample is larger than `data_source_size_limit_gb`."""


def estimate(tables: Tables, rows: Rows) -> float:
    """Print and give the size of some rows in GB; they are counted once."""
    count, width = tables.count(rows), len(rows.columns)
    size = count * width * _BYTES_PER_VALUE / _GB
    print(f"Estimated size of the Dataset in GB:  {size:.4g}")
    print(f"  {show_count(count, 'row')} x {show_count(width, 'column')} x {_BYTES_PER_VALUE} bytes")
    return size


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
