"""How a table develops: the usual range of its row counts, and numbers as a line of bars.

A count is unusual when it is further from the median of those before it than 3.5 times their spread. The spread is the
median absolute deviation, scaled by 1.4826 so that for a normal distribution it is the standard deviation; a few wild
days among those before do not move it. This is the modified z-score of Iglewicz and Hoaglin, How to Detect and Handle
Outliers (1993), chapter 3.3, with the limit they recommend. Where most counts are equal their spread would be zero;
it is taken to be at least the square root of the median, which is how much a number of independent events varies.
"""

from __future__ import annotations

import datetime as dt
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dsflow import partitions
from dsflow.errors import UsageError

# How many partitions before are looked at, how many there must be, and how many of the same weekday to take only those.
LOOKED_AT = 28
NEEDED = 7
NEEDED_OF_WEEKDAY = 8

_LIMIT = 3.5
_TO_STANDARD_DEVIATION = 1.4826
_BARS = "▁▂▃▄▅▆▇█"
_UNKNOWN = "·"


@dataclass(frozen=True, kw_only=True)
class Usual:
    """The range that a count is expected in; `of` says what it was taken from."""

    low: int
    high: int
    of: str

    def __contains__(self, count: object) -> bool:
        return isinstance(count, int) and self.low <= count <= self.high


def usual_before(counts: Mapping[str, int], ds: str) -> Usual | None:
    """Give the usual range for a partition, from those before it; None where there are too few.

    Days are compared with the same day of the week as soon as there are eight of those: many tables have weekends.

    Args:
        counts: Rows by ds.
        ds: The partition; it need not be among them.
    """
    earlier = [other for other in sorted(counts) if other < ds]
    weekday = _weekday(ds)
    alike = [other for other in earlier if weekday is not None and _weekday(other) == weekday]
    taken, what = earlier[-LOOKED_AT:], "partitions"
    if len(alike) >= NEEDED_OF_WEEKDAY:
        taken, what = alike[-LOOKED_AT:], f"{dt.date.fromisoformat(ds):%A}s"
    if len(taken) < NEEDED:
        return None
    values = [counts[other] for other in taken]
    middle = statistics.median(values)
    spread = _TO_STANDARD_DEVIATION * statistics.median(abs(value - middle) for value in values)
    reach = _LIMIT * max(spread, math.sqrt(middle), 1.0)
    return Usual(
        low=max(0, math.ceil(middle - reach)), high=math.floor(middle + reach), of=f"the {len(taken)} {what} before"
    )


def sparkline(values: Sequence[float | None], width: int, *, from_zero: bool = False) -> str:
    """Give numbers as a line of bars, the last ones where not all have room; a dot where there is no number.

    Args:
        values: The numbers, oldest first.
        width: How many bars may be shown, at most.
        from_zero: The lowest bar is 0 instead of the least number.
    """
    shown = values[-width:] if width > 0 else []
    known = [value for value in shown if value is not None]
    low = 0.0 if from_zero else min(known, default=0.0)
    reach = max(known, default=0.0) - low
    return "".join(_UNKNOWN if value is None else _bar(value - low, reach) for value in shown)


def _bar(height: float, reach: float) -> str:
    return _BARS[0] if reach <= 0 else _BARS[min(len(_BARS) - 1, int(height / reach * len(_BARS)))]


def _weekday(ds: str) -> int | None:
    try:
        return partitions.start_of(ds, "day").weekday()
    except UsageError:
        return None
