"""What `run --due` runs: the partitions that the schedules of jobs ask for, and that nobody has made or is making."""

from __future__ import annotations

import contextlib
import datetime as dt
import itertools
import os
from collections.abc import Callable, Iterator, Sequence

from dsflow.errors import PartitionLocked
from dsflow.history import History
from dsflow.model import Status
from dsflow.pipeline import Node, Pipeline
from dsflow.plan import Stand, State
from dsflow.records import RUNNING
from dsflow.schedule import Due, due
from dsflow.store.layout import Layout
from dsflow.store.locks import lock

# Who was away for longer than so many ticks backfills.
_MOST_MISSED = 1000


def wanted(
    pipeline: Pipeline, jobs: Sequence[str], standing: Stand, history: History, now: dt.datetime, *, catch_up: bool
) -> dict[str, list[str]]:
    """Give the partitions that are due and not done, by job, oldest first.

    Done is what is fresh, and what has been run successfully, or is being run, since its tick.

    Args:
        pipeline: All jobs.
        jobs: Those to look at.
        standing: What is published.
        history: What was run.
        now: The present moment, with a time zone.
        catch_up: Every tick that was missed since the job's first partition, not only the newest.
    """
    found = {}
    for name in jobs:
        node = pipeline.nodes[name]
        ticks = list(_missed(node, standing, history, now) if catch_up else _ticks(node, now, 1))
        open_ones = [tick.ds for tick in reversed(ticks) if not _is_done(name, tick, standing, history)]
        if open_ones:
            found[name] = open_ones
    return found


@contextlib.contextmanager
def claimed(jobs: Sequence[str], layout: Layout, busy: Callable[[str], None]) -> Iterator[list[str]]:
    """Give those of the jobs that no other `run --due` is at work on, and keep others off them for as long as it lasts.

    Args:
        jobs: Names of jobs.
        layout: The datastore.
        busy: Told of each job that is left out.
    """
    folder = layout.own / "locks" / "due"
    folder.mkdir(parents=True, exist_ok=True)
    free = []
    with contextlib.ExitStack() as held:
        for name in jobs:
            try:
                held.enter_context(lock(folder / name, f"process {os.getpid()}"))
            except PartitionLocked:
                busy(name)
                continue
            free.append(name)
        yield free


def _ticks(node: Node, now: dt.datetime, most: int) -> Iterator[Due]:
    schedule = node.job.schedule
    return itertools.islice(due(schedule, node.job.grain, now), most) if schedule is not None else iter(())


def _missed(node: Node, standing: Stand, history: History, now: dt.datetime) -> Iterator[Due]:
    """Give the ticks since the job's first partition; of a job that has none, the newest."""
    first = _first(node, standing, history)
    for number, tick in enumerate(_ticks(node, now, _MOST_MISSED)):
        if number and (first is None or tick.ds < first):
            return
        yield tick


def _first(node: Node, standing: Stand, history: History) -> str | None:
    if node.writes is not None:
        there = standing.there(*node.writes)
        return there[0] if there else None
    runs = history.runs(job=node.job.name, status=Status.SUCCEEDED, limit=_MOST_MISSED)
    return min((run.ds for run in runs), default=None)


def _is_done(job: str, tick: Due, standing: Stand, history: History) -> bool:
    if standing.verdict(job, tick.ds).state in (State.FRESH, State.RUNNING):
        return True
    runs = history.runs(job=job, ds=tick.ds, since=tick.since)
    return any(run.status in (Status.SUCCEEDED, RUNNING) for run in runs)
