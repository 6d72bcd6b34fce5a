"""When a job is due, by the cron line of its `schedule:`, and for which partition.

A tick stands for the partition that had ended by then: a daily job's at 06:00 on 2026-11-20 for ds=2026-11-19, on the
clock of the schedule's time zone; with `partition: current` for the one it falls into, ds=2026-11-20. Where that clock
is moved, ticks behave as in Debian's cron: a time that is left out comes right after the gap, one that comes twice
counts once.
"""

from __future__ import annotations

import datetime as dt
import zoneinfo
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from cronsim import CronSim, CronSimError

from dsflow import partitions
from dsflow.model import Grain

_NAMED = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
}


class Schedule(Protocol):
    """What a job's spec says of when it is due."""

    @property
    def cron(self) -> str:
        """Minute, hour, day of the month, month, day of the week."""

    @property
    def timezone(self) -> str:
        """The zone of the clock that `cron` goes by."""

    @property
    def partition(self) -> partitions.Standing:
        """Which partition a tick stands for."""

    @property
    def paused_until(self) -> str | None:
        """A date or moment in that zone; no tick before it counts."""


@dataclass(frozen=True, kw_only=True)
class Due:
    """A partition that is due since a moment."""

    ds: str
    since: dt.datetime


def check_cron(text: str) -> None:
    """Refuse what is no cron line.

    Raises:
        ValueError: with the reason.
    """
    line = _NAMED.get(text, text)
    reason = "it has five fields: minute, hour, day of the month, month, day of the week"
    try:
        if len(line.split()) == 5:
            next(CronSim(line, dt.datetime(2026, 1, 1)))
            return
    except CronSimError as error:
        reason = str(error).lower()
    except StopIteration:
        reason = "no day is like that"
    raise ValueError(f"{text[:60]!r} is not a cron line ({reason}); write it like '30 4 * * *'")


def due(schedule: Schedule, grain: Grain, now: dt.datetime) -> Iterator[Due]:
    """Give the partitions that are due by now, newest first, each once, with the tick that first asked for it.

    Args:
        schedule: When.
        grain: The grain of the job's partitions.
        now: The present moment, with a time zone.
    """
    zone = zoneinfo.ZoneInfo(schedule.timezone)
    since = _moment(schedule.paused_until, zone)
    found: Due | None = None
    # The moment itself counts, and going backwards the library begins before it.
    for tick in CronSim(_NAMED.get(schedule.cron, schedule.cron), now.astimezone(zone) + dt.timedelta(seconds=1), True):
        if since is not None and tick < since:
            break
        ds = partitions.stands_for(tick, grain, schedule.partition)
        if found is not None and found.ds != ds:
            yield found
        found = Due(ds=ds, since=tick)
    if found is not None:
        yield found


def _moment(text: str | None, zone: zoneinfo.ZoneInfo) -> dt.datetime | None:
    if text is None:
        return None
    moment = dt.datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=zone)
