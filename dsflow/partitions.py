"""Arithmetic on `ds` values. A ds is a string everywhere; its form tells its grain.

hour `2026-11-20T05`, day `2026-11-20`, week `2026-W47` (ISO 8601), month `2026-11`. A week belongs to the month in
which it begins.
"""

from __future__ import annotations

import datetime as dt
import functools
import re
from typing import Literal, get_args

from dsflow.errors import UsageError
from dsflow.model import Grain

GRAINS: tuple[Grain, ...] = get_args(Grain)
# Which partition a tick of a clock stands for: the one that had ended by then, or the one it falls into.
Standing = Literal["ended", "current"]
_FORMS: dict[Grain, tuple[str, str]] = {
    "hour": (r"\d{4}-\d{2}-\d{2}T\d{2}", "2026-11-20T05"),
    "day": (r"\d{4}-\d{2}-\d{2}", "2026-11-20"),
    "week": (r"\d{4}-W\d{2}", "2026-W47"),
    "month": (r"\d{4}-\d{2}", "2026-11"),
}
_UNITS = {"hour": dt.timedelta(hours=1), "day": dt.timedelta(days=1), "week": dt.timedelta(weeks=1)}
# More than a hundred years of hours: whoever asks for that has mistyped a date.
_MOST = 1_000_000


@functools.lru_cache(maxsize=50_000)
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
        return dt.datetime.fromisoformat(ds)
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


def stands_for(moment: dt.datetime, grain: Grain = "day", which: Standing = "ended") -> str:
    """Give the ds that a moment stands for, on the clock of its time zone.

    Args:
        moment: When something fires, with a time zone.
        grain: The grain of the partition.
        which: `ended`: the partition that was complete by then. `current`: the one that holds the moment.
    """
    if which == "current":
        return ds_of(moment, grain)
    start = start_of(ds_of(moment, grain), grain).replace(tzinfo=moment.tzinfo)
    # Through UTC: on the clock itself the moment before midnight may be another than the one that was there.
    before = start.astimezone(dt.UTC) - dt.timedelta(microseconds=1)
    return ds_of(before.astimezone(moment.tzinfo), grain)


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
        return ds_of(start + steps * _UNITS[grain], grain)
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


def grain_of(ds: str) -> Grain | None:
    """Give the grain that a ds has by its form, or None where it is no ds."""
    for grain, (pattern, _) in _FORMS.items():
        if re.fullmatch(pattern, ds, re.ASCII):
            try:
                start_of(ds, grain)
            except UsageError:
                return None
            return grain
    return None


def holding(ds: str, grain: Grain, coarser: Grain) -> str:
    """Give the partition of a coarser (or the same) grain in which a partition begins."""
    return ds if grain == coarser else ds_of(start_of(ds, grain), coarser)


def inside(ds: str, grain: Grain, finer: Grain) -> tuple[str, ...]:
    """Give the partitions of a finer (or the same) grain that begin inside a partition, oldest first."""
    if grain == finer:
        return (ds,)
    start, end = start_of(ds, grain), end_of(ds, grain)
    first = ds_of(start, finer)
    return _run(first if start_of(first, finer) >= start else shift(first, 1, finer), end, finer)


def between(first: str, last: str, grain: Grain) -> tuple[str, ...]:
    """Give the partitions of a grain that a stretch of time touches, oldest first.

    Args:
        first: The partition with which the stretch begins, of any grain.
        last: The one with which it ends, of any grain.
        grain: The grain wanted: of `2026-10` to `2026-10` the 31 days, or the weeks with days in October.

    Raises:
        UsageError: one is no ds, or the stretch ends before it begins.
    """
    start, end = start_of(first, _grain_of(first)), end_of(last, _grain_of(last))
    if end <= start:
        raise UsageError(f"{first}..{last} ends before it begins", f"Write {last}..{first}.")
    return _run(ds_of(start, grain), end, grain)


def span(text: str, now: dt.datetime | None = None) -> tuple[str, str]:
    """Give the first and the last ds of a stretch of time as a person writes it.

    Args:
        text: `A..B`, `A...B` or `A`; each is a ds of any grain, `today` or `yesterday` (days).
        now: The present moment.

    Raises:
        UsageError: it is nothing of the kind, or ends before it begins.
    """
    first, dots, last = text.partition("..")
    ends = [first, last.removeprefix(".") if dots else first]
    days = [resolve(end, "day", now) if end in ("today", "yesterday") else end for end in ends]
    if start_of(days[0], _grain_of(days[0])) >= end_of(days[1], _grain_of(days[1])):
        raise UsageError(f"{text} ends before it begins", f"Write {ends[1]}..{ends[0]}.")
    return days[0], days[1]


def _grain_of(ds: str) -> Grain:
    grain = grain_of(ds)
    if grain is None:
        shown = ds if len(ds) <= 40 else ds[:37] + "..."
        raise UsageError(
            f"{shown!r} is not a date", "Write 2026-11-20, 2026-10 (a month) or 2026-10-01..2026-11-19; also `today`."
        )
    return grain


def _run(ds: str, end: dt.datetime, grain: Grain) -> tuple[str, ...]:
    """Give the partitions from one on that begin before a moment."""
    found: list[str] = []
    moment = start_of(ds, grain)
    while moment < end:
        if len(found) == _MOST:
            raise UsageError(f"from ds={ds} on there are more than {_MOST:,} {grain}s", "Ask for less at a time.")
        found.append(ds_of(moment, grain))
        try:
            moment = end_of(found[-1], grain) if grain == "month" else moment + _UNITS[grain]
        except OverflowError:  # the last week of the calendar
            break
    return tuple(found)
