"""What a job reads, and which partitions of it a run for one ds needs.

The grain of a source may differ from the job's. Of a finer one all partitions inside the job's are read (the 24 hours
of a day), of a coarser one the partition that holds the job's.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Literal

from dsflow import partitions
from dsflow.model import Grain


@dataclass(frozen=True, kw_only=True)
class Read:
    """One source of a job.

    Attributes:
        name: What the job calls it.
        store: What `dataset` is: a table, a raw dataset, or a path or URL (not rendered).
        dataset: The name, or the path.
        window: How many partitions of the job's grain are read, the last of them the one that holds ds.
        lookback: How many after ds are read too, those that exist: late data.
        as_of: Only the newest partition at or before ds is read; see `newest_at`.
        grain: The grain of the source.
        own: It is the job's own output, of which a run reads only what lies before its ds.
        in_code: Only the code names it (`job.table`): it is read when the code asks, and a run may do without.
        where: The file and the place in it, for messages.
    """

    name: str
    store: Literal["table", "raw", "path"]
    dataset: str
    window: int = 1
    lookback: int = 0
    as_of: bool = False
    grain: Grain = "day"
    own: bool = False
    in_code: bool = False
    where: str = ""


def partitions_read(read: Read, ds: str, job_grain: Grain) -> tuple[str, ...]:
    """Give the partitions that a run for ds reads, oldest first; none for a path and with `as_of`.

    Of a window those that exist are taken. What `lookback` adds is in `later`.
    """
    if read.as_of or read.store == "path":
        return ()
    return _stretch(ds, 1 - read.window, -1 if read.own else 0, job_grain, read.grain)


def later(read: Read, ds: str, job_grain: Grain) -> tuple[str, ...]:
    """Give the partitions after ds that a run for ds reads too where they exist, oldest first."""
    if not read.lookback:
        return ()
    known = _stretch(ds, 1 - read.window, 0, job_grain, read.grain)
    return tuple(one for one in _stretch(ds, 1, read.lookback, job_grain, read.grain) if one not in known)


def newest_at(read: Read, ds: str, job_grain: Grain) -> str:
    """Give the last partition, in the grain of the source, that a run for ds may read: the bound of `as_of`."""
    if read.own:
        return partitions.shift(ds, -1, job_grain)
    return _stretch(ds, 0, 0, job_grain, read.grain)[-1]


@functools.lru_cache(maxsize=50_000)
def _stretch(ds: str, first: int, last: int, grain: Grain, wanted: Grain) -> tuple[str, ...]:
    """Give the partitions of the wanted grain for those from `first` to `last` steps away from ds."""
    found: dict[str, None] = {}
    finer = partitions.GRAINS.index(wanted) <= partitions.GRAINS.index(grain)
    for step in range(first, last + 1):
        one = partitions.shift(ds, step, grain) if step else ds
        if finer:
            found.update(dict.fromkeys(partitions.inside(one, grain, wanted)))
        else:
            found[partitions.holding(one, grain, wanted)] = None
    return tuple(found)
