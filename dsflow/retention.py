"""Which partitions of a table stay when old ones go. The rules are those of backup programs.

`daily:30,monthly:12` keeps the newest partition of each of the newest 30 days and of each of the newest 12 months
that have one. A partition belongs to the day, week, month or year in which it starts. What no rule keeps, goes.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from dsflow.errors import PartitionLocked, UsageError, did_you_mean
from dsflow.partitions import ds_of, grain_of, start_of
from dsflow.store.datastore import Datastore
from dsflow.store.index import Index
from dsflow.store.layout import Store
from dsflow.store.publishing import remove
from dsflow.store.recovery import purge_trash

_PERIODS: dict[str, Callable[[dt.datetime], str]] = {
    "hourly": partial(ds_of, grain="hour"),
    "daily": partial(ds_of, grain="day"),
    "weekly": partial(ds_of, grain="week"),
    "monthly": partial(ds_of, grain="month"),
    "yearly": lambda start: f"{start.year:04d}",
}
_HINT = f"Write it like `--keep daily:30,monthly:12`; the periods are {', '.join(_PERIODS)}."


@dataclass(frozen=True)
class Rule:
    """Keep the newest partition of each of the newest `count` periods that have one."""

    period: str
    count: int


@dataclass(frozen=True)
class Pruning:
    """What the rules mean for one table: what stays, by which rules, and what goes with how many bytes."""

    store: Store
    name: str
    stays: dict[str, tuple[str, ...]]
    goes: tuple[str, ...]
    bytes: int


def rules_of(text: str) -> tuple[Rule, ...]:
    """Read rules such as `daily:30,monthly:12`.

    Raises:
        UsageError: a rule cannot be understood, is there twice, or keeps nothing.
    """
    found: dict[str, Rule] = {}
    for part in text.split(","):
        period, colon, count = part.strip().partition(":")
        if period not in _PERIODS:
            raise UsageError(f"--keep: {period!r} is no period{did_you_mean(period, _PERIODS)}", _HINT)
        if period in found:
            raise UsageError(f"--keep: {period!r} is there twice", _HINT)
        if not (colon and count.isdecimal() and 0 < int(count) < 1_000_000):
            raise UsageError(f"--keep: {part.strip()!r} does not say how many to keep, 1 or more", _HINT)
        found[period] = Rule(period, int(count))
    return tuple(found.values())


def sort_out(partitions: Iterable[str], rules: Sequence[Rule]) -> dict[str, tuple[str, ...]]:
    """Give the partitions that stay, oldest first, with the periods that keep each of them.

    The newest stays in any case (`newest`), and so does one whose ds is no date (`no date`).
    """
    every = sorted(partitions)
    starts = {ds: start for ds in every if (start := _start(ds)) is not None}
    dated = sorted(starts, key=lambda ds: (starts[ds], ds))
    why: dict[str, list[str]] = {ds: [] if ds in starts else ["no date"] for ds in every}
    for rule in rules:
        # Later partitions overwrite earlier ones of the same period, so the newest of each is left.
        newest = {_PERIODS[rule.period](starts[ds]): ds for ds in dated}
        for ds in list(newest.values())[-rule.count :]:
            why[ds].append(rule.period)
    if dated:
        why[dated[-1]].append("newest")
    return {ds: tuple(reasons) for ds, reasons in why.items() if reasons}


def plan(datastore: Datastore, store: Store, name: str, rules: Sequence[Rule]) -> Pruning:
    """Say what the rules mean for a table or a raw dataset; nothing is touched."""
    entries = Index(datastore).entries(store, name)
    stays = sort_out(entries, rules)
    goes = tuple(ds for ds in entries if ds not in stays)
    return Pruning(store, name, stays, goes, sum(entries[ds].bytes for ds in goes))


def carry_out(datastore: Datastore, prunings: Iterable[Pruning]) -> list[PartitionLocked]:
    """Take away what goes. A partition that is being written stays and does not stop the others.

    Returns:
        The refusals of those that stayed.
    """
    refused = []
    for pruning in prunings:
        for ds in pruning.goes:
            try:
                remove(datastore, pruning.store, pruning.name, ds)
            except PartitionLocked as error:
                refused.append(error)
    purge_trash(datastore)
    return refused


def _start(ds: str) -> dt.datetime | None:
    grain = grain_of(ds)
    return start_of(ds, grain) if grain else None
