"""Arithmetic on `ds` values. A ds is a string everywhere; its form tells its grain.

hour `2026-11-20T05`, day `2026-11-20`, week `2026-W47` (ISO 8601), month `2026-11`.
"""

from __future__ import annotations

import datetime as dt
import re
from typing import get_args

from dsflow.errors import UsageError
from dsflow.model import Grain

GRAINS: tuple[Grain, ...] = get_args(Grain)
_FORMS: dict[Grain, tuple[str, str]] = {
    "hour": (r"\d{4}-\d{2}-\d{2}T\d{2}", "2026-11-20T05"),
    "day": (r"\d{4}-\d{2}-\d{2}", "2026-11-20"),
    "week": (r"\d{4}-W\d{2}", "2026-W47"),
    "month": (r"\d{4}-\d{2}", "2026-11"),
}


def start_of(ds: str, grain: Grain = "day") -> dt.datetime:
    """Give the first moment of a partition.

    Raises:
        UsageError: `ds` is not a real date of that grain.
    """
    pattern, example = _FORMS[grain]
    try:
        if not re.fullmatch(pattern, ds, re.ASCII):
            raise ValueError
        if grain == "week":
            return dt.datetime.fromisocalendar(int(ds[:4]), int(ds[6:]), 1)
        if grain == "month":
            return dt.datetime(int(ds[:4]), int(ds[5:]), 1)
        return dt.datetime.strptime(ds, "%Y-%m-%dT%H" if grain == "hour" else "%Y-%m-%d")
    except ValueError:
        shown = ds if len(ds) <= 40 else ds[:37] + "..."
        raise UsageError(f"{shown!r} is not a {grain} partition", f"Write it like {example}.") from None


def end_of(ds: str, grain: Grain = "day") -> dt.datetime:
    """Give the first moment after a partition."""
    return start_of(shift(ds, 1, grain), grain)


def ds_of(moment: dt.datetime, grain: Grain = "day") -> str:
    """Give the ds of the partition that holds a moment."""
    if grain == "hour":
        return moment.isoformat(timespec="hours")[:13]
    if grain == "week":
        year, week, _ = moment.isocalendar()
        return f"{year:04d}-W{week:02d}"
    return f"{moment.year:04d}-{moment.month:02d}" + ("" if grain == "month" else f"-{moment.day:02d}")


def shift(ds: str, steps: int, grain: Grain = "day") -> str:
    """Give the ds that lies `steps` partitions later (earlier where negative).

    Raises:
        UsageError: `ds` is not of that grain, or the result would leave the calendar.
    """
    start = start_of(ds, grain)
    try:
        if grain == "month":
            months = start.year * 12 + start.month - 1 + steps
            return ds_of(dt.datetime(months // 12, months % 12 + 1, 1), grain)
        unit = {"hour": dt.timedelta(hours=1), "day": dt.timedelta(days=1), "week": dt.timedelta(weeks=1)}[grain]
        return ds_of(start + steps * unit, grain)
    except (ValueError, OverflowError):
        raise UsageError(f"{ds} moved by {steps} {grain}s is outside the calendar") from None


def window(ds: str, length: int, grain: Grain = "day") -> tuple[str, ...]:
    """Give the `length` partitions that end with `ds`, oldest first."""
    return tuple(shift(ds, step - length + 1, grain) for step in range(length))


def resolve(text: str, grain: Grain = "day", now: dt.datetime | None = None) -> str:
    """Give the ds a person meant: a ds of the grain, `today` or `yesterday` (the current and the previous partition).

    Raises:
        UsageError: it is none of these.
    """
    if text in ("today", "yesterday"):
        current = ds_of(now or dt.datetime.now(), grain)
        return current if text == "today" else shift(current, -1, grain)
    start_of(text, grain)
    return text
