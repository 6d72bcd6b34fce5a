"""The plan: which jobs run for which partitions, in what order, and why. Pure data; nothing is started here."""

from __future__ import annotations

import bisect
import enum
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from dsflow import partitions
from dsflow.kinds.registry import KINDS
from dsflow.pipeline import Node, Pipeline
from dsflow.reads import Read, later, newest_at, partitions_read
from dsflow.store.layout import FOLDERS, Store

_Dataset = tuple[str, str]


class Action(enum.StrEnum):
    """What happens to a step. A step that waits cannot run: something before it failed or is not there."""

    RUN = "run"
    SKIP = "skip"
    WAIT = "wait"


class State(enum.StrEnum):
    """How a partition stands before anything is done."""

    FRESH = "fresh"
    STALE = "stale"
    MISSING = "missing"
    FAILED = "failed"
    RUNNING = "running"


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One partition of one job in a plan.

    Attributes:
        job: The job's name.
        ds: The partition.
        state: How it stands.
        action: What will happen.
        reason: Why, in words: `input raw/orders ds=2026-11-05 changed (812 -> 830 rows)`.
        needs: The positions in the plan of the steps that must end first.
        seconds: How long it is expected to take, or None.
        recheck: Only an input that this plan rebuilds makes it run; when that comes out the same, it is skipped.
    """

    job: str
    ds: str
    state: State
    action: Action
    reason: str
    needs: tuple[int, ...] = ()
    seconds: float | None = None
    recheck: bool = False


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Steps in an order that respects every dependency."""

    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """How one partition of a job stands, and why.

    Attributes:
        state: How it stands.
        reason: Why, in words.
        because_of: Which parts of what it was made with differ: `code`, `spec`, `parameters`, `place`, `inputs`.
    """

    state: State
    reason: str
    because_of: tuple[str, ...] = ()


class Stand(Protocol):
    """What a plan has to know about what is published; `dsflow.freshness.Standing` knows it."""

    def verdict(self, job: str, ds: str) -> Verdict:
        """Give how one partition of a job stands."""

    def seconds(self, job: str) -> float | None:
        """Give how long a run of the job takes as a rule, or None where nobody knows."""

    def there(self, store: Store, name: str) -> Sequence[str]:
        """Give the ds that are published of a table or a raw dataset, oldest first."""

    def seen(self, job: str, ds: str) -> Iterable[tuple[str, str, str | None]]:
        """Give kind, name and ds of everything that the published partition was made from."""


def make(
    pipeline: Pipeline,
    jobs: Collection[str],
    first: str,
    last: str,
    standing: Stand,
    *,
    force: bool = False,
    only: Collection[State] | None = None,
    latest_first: bool = False,
) -> Plan:
    """Make the plan of some jobs for all their partitions in a span.

    A step runs when its partition is not fresh, or when one that it reads is rebuilt by this plan. It waits when
    nothing is there of something it must read, and nothing in this plan makes it. Of several partitions of one input
    (a window, the hours of a day) those that are there are enough.

    Args:
        pipeline: The jobs and what they read and write.
        jobs: Names of the jobs to plan. What they need of others is not added.
        first: The first day (or partition) of the span.
        last: The last one.
        standing: How everything stands.
        force: Run also what is fresh.
        only: Run only what stands like this; what an upstream step makes stale counts as stale.
        latest_first: Begin with the newest dates.
    """
    dates = {name: partitions.between(first, last, pipeline.nodes[name].job.grain) for name in jobs}
    return make_for(pipeline, dates, standing, force=force, only=only, latest_first=latest_first)


def make_for(
    pipeline: Pipeline,
    dates: Mapping[str, Sequence[str]],
    standing: Stand,
    *,
    force: bool = False,
    only: Collection[State] | None = None,
    latest_first: bool = False,
) -> Plan:
    """Make a plan as `make` does, for partitions that each job has of its own: `dates` by job, oldest first."""
    making = _Making(pipeline, frozenset(dates), standing, force, None if only is None else frozenset(only))
    for name, node in pipeline.nodes.items():
        # A dashboard goes on until somebody ends it.
        if KINDS[node.job.kind].port is None:
            for ds in dates.get(name, ()):
                making.add(node, ds)
    return Plan(steps=tuple(making.ordered(latest_first=latest_first)))


@dataclass(slots=True)
class _Draft:
    job: str
    ds: str
    state: State
    action: Action
    reason: str
    recheck: bool
    needs: Sequence[int]


@dataclass(slots=True)
class _Sources:
    """What the steps before it mean for a step: those it needs, and why it cannot run."""

    needs: dict[int, None] = field(default_factory=dict)
    lacking: str = ""


class _Making:
    """A plan on its way. Steps are added parents first and old partitions first, so a step only needs earlier ones."""

    def __init__(
        self, pipeline: Pipeline, jobs: frozenset[str], standing: Stand, force: bool, only: frozenset[State] | None
    ) -> None:
        self.jobs = jobs
        self._pipeline = pipeline
        self._standing = standing
        self._force = force
        self._only = only
        self._drafts: list[_Draft] = []
        self._steps: dict[_Dataset, dict[str, int]] = defaultdict(dict)
        # What will be there when the plan has run, or when a run of someone else has; oldest first.
        self._coming: dict[_Dataset, list[str]] = defaultdict(list)
        self._there: dict[_Dataset, tuple[Sequence[str], frozenset[str]]] = {}

    def add(self, node: Node, ds: str) -> None:
        """Decide about one partition of a job whose parents are all decided."""
        verdict = self._standing.verdict(node.job.name, ds)
        draft = self._decided(node, ds, verdict)
        if node.writes is not None:
            self._steps[node.writes][ds] = len(self._drafts)
            if draft.action is Action.RUN or draft.state is State.RUNNING:
                self._coming[node.writes].append(ds)
        self._drafts.append(draft)

    def _decided(self, node: Node, ds: str, verdict: Verdict) -> _Draft:
        job, state = node.job.name, verdict.state
        draft = _Draft(job, ds, state, Action.SKIP, verdict.reason, False, ())
        if state is State.RUNNING:
            draft.action = Action.WAIT
            return draft
        fresh = state is State.FRESH and not self._force
        if fresh and not self._coming:
            return draft
        sources = self._sources(node, ds)
        if fresh and (sources.lacking or not sources.needs):
            return draft
        if sources.lacking:
            draft.action, draft.reason = Action.WAIT, sources.lacking
            return draft
        if fresh:
            first = self._drafts[next(iter(sources.needs))]
            draft.reason, draft.recheck = f"input {self._output(first)} will be rebuilt", True
        elif self._force:
            draft.reason = "forced"
        counted = State.STALE if draft.recheck else state
        if self._only is not None and counted not in self._only:
            draft.reason, draft.recheck = f"not asked for: {counted}", False
            return draft
        draft.action, draft.needs = Action.RUN, tuple(sources.needs)
        return draft

    def _sources(self, node: Node, ds: str) -> _Sources:
        found = _Sources()
        for read in node.reads:
            if read.store != "path":
                self._source(node, read, ds, found)
        # What its code reads without saying so beforehand.
        for kind, name, one in self._standing.seen(node.job.name, ds):
            position = self._steps.get((kind, name), {}).get(one or "")
            if position is not None and self._drafts[position].action is Action.RUN:
                found.needs[position] = None
        return found

    def _source(self, node: Node, read: Read, ds: str, found: _Sources) -> None:
        assert read.store != "path"
        dataset: tuple[Store, str] = (read.store, read.dataset)
        steps, there = self._steps.get(dataset, {}), self._published(dataset)[1]
        wanted = self._wanted(read, ds, node.job.grain)
        enough, blocker = False, None
        for one in wanted:
            step = steps.get(one)
            draft = self._drafts[step] if step is not None else None
            if draft is not None and step is not None and draft.action is Action.RUN:
                found.needs[step] = None
                enough = True
            elif draft is not None and draft.action is Action.WAIT:
                blocker = blocker if blocker and blocker.state is State.RUNNING else draft
            else:
                enough = enough or one in there
        for one in later(read, ds, node.job.grain):
            step = steps.get(one)
            if step is not None and self._drafts[step].action is Action.RUN:
                found.needs[step] = None
        if found.lacking or (blocker is None and (enough or (not wanted and not read.as_of))):
            return
        if blocker is not None and blocker.state is State.RUNNING:
            found.lacking = f"job {blocker.job} is running for ds={blocker.ds}"
        elif not (enough or read.own or read.in_code):
            found.lacking = self._lacking(read, wanted, ds, blocker)

    def _wanted(self, read: Read, ds: str, grain: Any) -> Sequence[str]:
        if not read.as_of:
            return partitions_read(read, ds, grain)
        assert read.store != "path"
        dataset: tuple[Store, str] = (read.store, read.dataset)
        bound = newest_at(read, ds, grain)
        known = (_newest(self._published(dataset)[0], bound), _newest(self._coming.get(dataset, ()), bound))
        return [max(one for one in known if one)] if any(known) else []

    def _published(self, dataset: tuple[Store, str]) -> tuple[Sequence[str], frozenset[str]]:
        known = self._there.get(dataset)
        if known is None:
            ordered = self._standing.there(*dataset)
            known = self._there[dataset] = (ordered, frozenset(ordered))
        return known

    def _lacking(self, read: Read, wanted: Sequence[str], ds: str, blocker: _Draft | None) -> str:
        if blocker is not None:
            return f"job {blocker.job} waits" + (f" for ds={blocker.ds}" if blocker.ds != ds else "")
        assert read.store != "path"
        producer = self._pipeline.producer(read.store, read.dataset)
        what = f"{FOLDERS[read.store]}/{read.dataset}"
        what = f"{what} ds={wanted[-1]}" if wanted else f"{what} up to ds={ds}"
        if producer is None:
            return f"{what} is not there and no job writes it"
        if producer in self.jobs:
            return f"{what} is missing, and this plan does not run {producer} for it"
        return f"{what} is missing; select +{self._reader_of(read)} to make it"

    def _reader_of(self, read: Read) -> str:
        return next(name for name in self.jobs if read in self._pipeline.nodes[name].reads)

    def _output(self, draft: _Draft) -> str:
        writes = self._pipeline.nodes[draft.job].writes
        assert writes is not None
        return f"{FOLDERS[writes[0]]}/{writes[1]} ds={draft.ds}"

    def ordered(self, *, latest_first: bool) -> Iterator[Step]:
        """Give the steps by date and then in the order of the jobs, each after those it needs."""
        order = self._order(latest_first)
        positions = {number: position for position, number in enumerate(order)}
        seconds: Mapping[str, float | None] = _Lazily(self._standing.seconds)
        for number in order:
            draft = self._drafts[number]
            runs = draft.action is Action.RUN
            yield Step(
                job=draft.job,
                ds=draft.ds,
                state=draft.state,
                action=draft.action,
                reason=draft.reason,
                needs=tuple(sorted(positions[need] for need in draft.needs)),
                seconds=seconds[draft.job] if runs else None,
                recheck=draft.recheck,
            )

    def _order(self, latest_first: bool) -> list[int]:
        grains = {name: self._pipeline.nodes[name].job.grain for name in self.jobs}
        # By its end: a week comes after its days. What ends at once keeps the order of the jobs, `reverse` or not.
        ends = [partitions.end_of(draft.ds, grains[draft.job]) for draft in self._drafts]
        by_date = sorted(range(len(ends)), key=ends.__getitem__, reverse=latest_first)
        order: dict[int, None] = {}
        for number in by_date:
            pending = [number]
            while pending:
                open_needs = [need for need in self._drafts[pending[-1]].needs if need not in order]
                if open_needs:
                    pending += sorted(open_needs, reverse=True)
                else:
                    order[pending.pop()] = None
        return list(order)


class _Lazily(dict[str, float | None]):
    def __init__(self, ask: Any) -> None:
        super().__init__()
        self._ask = ask

    def __missing__(self, key: str) -> float | None:
        self[key] = self._ask(key)
        return self[key]


def _newest(ordered: Sequence[str], bound: str) -> str:
    place = bisect.bisect_right(ordered, bound)
    return ordered[place - 1] if place else ""
