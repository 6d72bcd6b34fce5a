"""Freshness: whether running a job for a ds again would change anything, and why.

A partition is fresh when it was made with the code, spec, parameters and place (`dsflow.fingerprints`) that a run
would have now, and from inputs that are published today as they were then. What was read and is gone since cannot be
read again, and makes nothing stale. One look at the index per table answers for all its partitions.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import functools
import statistics
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dsflow.containers.images import SPARK, SPARK_CLIENT
from dsflow.errors import DsflowError, EnvironmentMissing, UsageError
from dsflow.inputs import stamp
from dsflow.model import Fingerprint
from dsflow.pipeline import Node, Pipeline
from dsflow.plan import State, Verdict
from dsflow.quantities import show_bytes
from dsflow.reads import Read, later, newest_at, partitions_read
from dsflow.records import RUNNING, Record, parameters_of
from dsflow.runtimes.contract import Folders, Needs, Runtime
from dsflow.runtimes.registry import Runtimes
from dsflow.spark.settings import is_local
from dsflow.specs.load import JobSpec, WorkspaceSpec
from dsflow.store.index import Entry, Index, Seen
from dsflow.store.layout import FOLDERS, Layout, Store
from dsflow.store.locks import is_held
from dsflow.store.recovery import ALIVE, repair
from dsflow.tasks import Maker
from dsflow.workspace import Workspace

if TYPE_CHECKING:
    from dsflow.history import History

_EVERY = 1_000_000  # more runs than a history has
_RECENT = 20
# A run that has just been started has not told anybody yet that it is alive.
_STARTING_SECONDS = 60.0
_MISSING = Verdict(State.MISSING, "missing")
_FAILED = Verdict(State.FAILED, "failed before")

# What a run would be made with now: its fingerprint, and the parameters that may be shown.
MadeWith = Callable[[str], tuple[Fingerprint, Mapping[str, Any]]]


def standing(
    workspace: Workspace,
    settings: WorkspaceSpec,
    pipeline: Pipeline,
    history: History,
    runtime: str | None = None,
    given: Mapping[str, str] | None = None,
    runtimes: Runtimes | None = None,
) -> Standing:
    """Give what knows how every partition stands.

    Args:
        workspace: The workspace.
        settings: Its settings.
        pipeline: Its jobs.
        history: Its runs.
        runtime: The runtime that runs would have; that of the job, then of the workspace, where None.
        given: Parameters by name, as text; each counts for the jobs that declare it.
        runtimes: Those that the command has chosen already.
    """
    datastore = workspace.datastore.resolve()
    with contextlib.suppress(OSError, DsflowError):  # it may not be ours to repair
        repair(Layout(datastore))
    maker = Maker(workspace, settings, pipeline)
    folders = Folders(jobs=workspace.jobs, datastore=datastore)
    chosen = runtimes or Runtimes()

    @functools.cache
    def runtime_of(name: str) -> Runtime | None:
        try:
            return chosen.choose(name)[0]
        except EnvironmentMissing:
            return None

    @functools.cache
    def place(name: str, needs: Needs) -> str:
        found = runtime_of(name)
        try:
            return found.identify(needs, folders) if found else ""
        except EnvironmentMissing:
            return ""

    def made_with(name: str) -> tuple[Fingerprint, Mapping[str, Any]]:
        job = pipeline.nodes[name].job
        known = {key: value for key, value in (given or {}).items() if key in maker.takes(name)}
        fingerprint, values = maker.made_with(name, known)
        wanted = wanted_runtime(job, settings, runtime)
        return dataclasses.replace(fingerprint, place=place(wanted, needs_of(job, settings, wanted))), values

    return Standing(pipeline, history, datastore, workspace.jobs, made_with)


def wanted_runtime(job: JobSpec, settings: WorkspaceSpec, asked: str | None) -> str:
    """Give the name of the runtime that a job is to run in.

    Args:
        job: The job.
        settings: The workspace's settings.
        asked: The one that somebody asked for on the command line.

    Raises:
        UsageError: it cannot compute where it is to, from there.
    """
    wanted, spark = asked or job.run.runtime or settings.runtime, settings.spark
    computes = (job.engine or settings.engine) == "spark"
    if wanted == "submit":
        if not computes:
            raise UsageError(f"{job.name} does not compute with Spark", "Its spec says `engine: spark` where it does.")
        if spark.remote:
            raise UsageError(
                "a job is submitted to a master, and this environment has `spark.remote`",
                "`--master URL`, or `spark.master` in another environment.",
            )
    if wanted not in ("auto", "docker") or not computes or not (spark.remote or not is_local(spark.master or "local")):
        return wanted
    if wanted == "docker":
        where = "the Spark server of `spark.remote`" if spark.remote else f"the Spark cluster {spark.master}"
        raise UsageError(
            f"{job.name} cannot run in a container and compute on {where}: the datastore has another path in there",
            "`--runtime process` runs it on this machine.",
        )
    return "process"


def needs_of(job: JobSpec, settings: WorkspaceSpec, runtime: str) -> Needs:
    """Give what a job asks of the place it runs in, in a runtime of that name."""
    usual = settings.image
    if usual is None and (job.engine or settings.engine) == "spark":
        usual = SPARK if job.session == "classic" else SPARK_CLIENT
    package = job.name if runtime == "submit" else ""
    return Needs(image=job.run.image or usual, requirements=tuple(job.run.requirements), package=package)


@dataclass
class _Known:
    """What is the same for all partitions of a job."""

    made_with: Fingerprint | None
    values: Mapping[str, Any]
    fresh: Verdict
    problem: str = ""
    # By the fingerprint of what is published: how it differs.
    compared: dict[Fingerprint, tuple[tuple[str, str], ...]] = field(default_factory=dict)


class Standing:
    """How the partitions of all jobs stand. What it has read once it believes, until `refresh`.

    Args:
        pipeline: The jobs.
        history: The runs.
        datastore: Where everything is published.
        jobs: The folder of the jobs.
        made_with: Gives what a run of a job would be made with now.
    """

    def __init__(self, pipeline: Pipeline, history: History, datastore: Path, jobs: Path, made_with: MadeWith) -> None:
        self.index = Index(Layout(datastore))
        self._pipeline = pipeline
        self._history = history
        self._datastore = datastore
        self._jobs = jobs
        self._made_with = made_with
        self._known: dict[str, _Known] = {}
        self._ordered: dict[tuple[Store, str], list[str]] = {}
        self._last: dict[str, dict[str, Record]] = {}
        self._stamps: dict[tuple[str, str], str | None] = {}

    def verdict(self, job: str, ds: str) -> Verdict:
        """Give how one partition of a job stands, and why."""
        node = self._pipeline.nodes[job]
        running = self._running.get((job, ds))
        if running is not None:
            return Verdict(State.RUNNING, f"run {running} is running now")
        if node.writes is None:
            return self._without_output(job, ds)
        entry = self.index.entries(*node.writes).get(ds)
        differences: tuple[tuple[str, str], ...] = ()
        if entry is not None:
            differences = self._differences(node, ds, entry)
            if not differences:
                return self._job(node).fresh
        last = self._last_runs(job).get(ds)
        if last is not None and last.status == "failed" and (entry is None or last.started > entry.published):
            return _FAILED
        if entry is None:
            return _MISSING
        return Verdict(
            State.STALE, ", ".join(words for _, words in differences), tuple(part for part, _ in differences)
        )

    def seconds(self, job: str) -> float | None:
        """Give how long a run of the job takes as a rule: the median of its last successful ones."""
        runs = self._history.runs(job=job, status="succeeded", limit=_RECENT)
        known = [run.seconds for run in runs if run.seconds is not None]
        return statistics.median(known) if known else None

    def there(self, store: Store, name: str) -> Sequence[str]:
        """Give the ds that are published of a table or a raw dataset, oldest first."""
        known = self._ordered.get((store, name))
        if known is None:
            known = self._ordered[store, name] = list(self.index.entries(store, name))
        return known

    def seen(self, job: str, ds: str) -> Iterator[tuple[str, str, str | None]]:
        """Give kind, name and ds of everything that the published partition was made from."""
        writes = self._pipeline.nodes[job].writes
        entry = self.index.entries(*writes).get(ds) if writes else None
        for seen in entry.inputs if entry else ():
            yield seen.kind, seen.target, seen.ds

    def refresh(self, store: Store, name: str, ds: str | None = None) -> None:
        """Look again at what is published: at one partition, or at all of a table or raw dataset."""
        self.index.refresh(store, name, ds)
        self._ordered.pop((store, name), None)

    def current(self, job: str, ds: str) -> tuple[Fingerprint, tuple[Seen, ...]]:
        """Give what a run for ds would be made with and from, if it read what the last one read.

        Raises:
            UsageError: a run needs parameters that were not given.
        """
        node = self._pipeline.nodes[job]
        known = self._job(node)
        if known.made_with is None:
            raise UsageError(known.problem)
        entry = self.index.entries(*node.writes).get(ds) if node.writes else None
        pairs = self._inputs(node, ds, entry) if entry else ()
        return known.made_with, tuple(seen for then, now in pairs if (seen := now or then) is not None)

    def _differences(self, node: Node, ds: str, entry: Entry) -> tuple[tuple[str, str], ...]:
        """Give what differs from a run made now: the part, and the words for it."""
        known = self._job(node)
        if known.made_with is None:
            return (("parameters", known.problem),)
        if entry.fingerprint is None:
            return (("fingerprint", "no fingerprint"),)
        found = known.compared.get(entry.fingerprint)
        if found is None:
            found = tuple(self._compared(node, ds, entry, entry.fingerprint, known.made_with))
            known.compared[entry.fingerprint] = found
        changed = [(then, now) for then, now in self._inputs(node, ds, entry) if _changed(then, now)]
        if changed:
            more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
            found = (*found, ("inputs", f"input {_words(*changed[0])}{more}"))
        return found

    def _compared(
        self, node: Node, ds: str, entry: Entry, then: Fingerprint, now: Fingerprint
    ) -> Iterator[tuple[str, str]]:
        for part in ("code", "spec"):
            if getattr(then, part) != getattr(now, part):
                yield part, f"{part} changed"
        if then.parameters != now.parameters:
            old = parameters_of(self._datastore, node.job.name, ds, entry.run_id)
            yield "parameters", _changed_values(old, self._job(node).values)
        runtime, _, place = now.place.partition(":")
        # The same job in a container and in a process is the same job.
        if place and then.place.startswith(f"{runtime}:") and then.place != now.place:
            yield "place", "image changed" if runtime == "docker" else "installed packages changed"

    def _inputs(self, node: Node, ds: str, entry: Entry) -> Iterator[tuple[Seen | None, Seen | None]]:
        """Give every input as it was read and as it is now; None for what was not read, and what is not there."""
        read_then: dict[tuple[str, str], set[str | None]] = {}
        for seen in entry.inputs:
            read_then.setdefault((seen.kind, seen.target), set()).add(seen.ds)
            # Of a job's own output only what lies before its ds is an input.
            if (seen.kind, seen.target) != node.writes or (seen.ds or "") < ds:
                yield seen, self._now(node, seen)
        for read in node.reads:
            if read.store == "path":
                continue
            then = read_then.get((read.store, read.dataset), set())
            # Without a ds: it asked, and found nothing of its own.
            if read.in_code and None not in then:
                continue
            # A query may name its sources by date: then only what it did name counts.
            if not then and read.name not in node.job.inputs:
                continue
            for one in self._wanted(read, ds, node, then):
                entries = self.index.entries(read.store, read.dataset)
                if one not in then and one in entries:
                    yield None, _seen(read.store, read.dataset, one, entries[one])

    def _now(self, node: Node, seen: Seen) -> Seen | None:
        if seen.kind == "path":
            if seen.hash is None:
                return seen
            key = (node.job.name, seen.target)
            if key not in self._stamps:
                self._stamps[key] = stamp(seen.target, self._datastore, self._jobs / node.job.name)
            found = self._stamps[key]
            return seen._replace(hash=found) if found else None
        store: Store = "raw" if seen.kind == "raw" else "table"
        entry = self.index.entries(store, seen.target).get(seen.ds or "")
        return _seen(store, seen.target, seen.ds or "", entry) if entry else None

    def _wanted(self, read: Read, ds: str, node: Node, then: set[str | None]) -> Sequence[str]:
        """Give the partitions that a run would read now, if they are there."""
        grain = node.job.grain
        if not read.as_of:
            return (
                (*partitions_read(read, ds, grain), *later(read, ds, grain))
                if read.lookback
                else (partitions_read(read, ds, grain))
            )
        assert read.store != "path"
        ordered = self.there(read.store, read.dataset)
        place = bisect_right(ordered, newest_at(read, ds, grain))
        newest = ordered[place - 1 : place] if place else []
        # Where the one that was read is gone, an older one is no news.
        return [one for one in newest if all(one > (old or "") for old in then)]

    def _job(self, node: Node) -> _Known:
        known = self._known.get(node.job.name)
        if known is None:
            try:
                made_with, values = self._made_with(node.job.name)
                fresh = Verdict(State.FRESH, f"same code {made_with.code[:6]}, inputs unchanged")
                known = _Known(made_with, values, fresh)
            except UsageError as error:
                known = _Known(None, {}, _MISSING, error.message)
            self._known[node.job.name] = known
        return known

    def _without_output(self, job: str, ds: str) -> Verdict:
        last = self._last_runs(job).get(ds)
        if last is None:
            return Verdict(State.MISSING, "it has no output, and did not run yet")
        return _FAILED if last.status == "failed" else Verdict(State.STALE, "it has no output to compare")

    def _last_runs(self, job: str) -> Mapping[str, Record]:
        """Give the last run of each ds that ended by itself."""
        known = self._last.get(job)
        if known is None:
            runs = self._history.runs(job=job, status="failed", limit=_EVERY)
            if runs or self._pipeline.nodes[job].writes is None:
                runs = [*self._history.runs(job=job, status="succeeded", limit=_EVERY), *runs]
            known = self._last[job] = {run.ds: run for run in sorted(runs, key=lambda run: run.started)}
        return known

    @functools.cached_property
    def _running(self) -> Mapping[tuple[str, str], str]:
        runs = self._history.runs(status=RUNNING, limit=_EVERY)
        return {(run.job, run.ds): run.run_id for run in runs if self._is_alive(run)}

    def _is_alive(self, run: Record) -> bool:
        """Tell whether a run that the history calls running still is: killed together, nobody tells the history."""
        node = self._pipeline.nodes.get(run.job)
        age = (dt.datetime.now(dt.UTC) - dt.datetime.fromisoformat(run.started)).total_seconds()
        if node is None or node.writes is None or age < _STARTING_SECONDS:
            return True
        return is_held(Layout(self._datastore).run_folder(run.run_id) / ALIVE)


def _seen(store: str, name: str, ds: str, entry: Entry) -> Seen:
    return Seen(store, name, ds, entry.hash, entry.rows, entry.bytes)


def _changed(then: Seen | None, now: Seen | None) -> bool:
    return now is not None and (then is None or then.hash != now.hash)


def _words(then: Seen | None, now: Seen | None) -> str:
    assert now is not None
    what = now.target if now.kind == "path" else f"{FOLDERS[now.kind]}/{now.target} ds={now.ds}"  # type: ignore[index]
    if then is None:
        return f"{what} is new"
    if then.rows is not None and now.rows is not None and then.rows != now.rows:
        return f"{what} changed ({then.rows:,} -> {now.rows:,} rows)"
    if then.bytes is not None and now.bytes is not None and then.bytes != now.bytes:
        return f"{what} changed ({show_bytes(then.bytes)} -> {show_bytes(now.bytes)})"
    return f"{what} changed"


def _changed_values(old: Mapping[str, Any] | None, new: Mapping[str, Any]) -> str:
    names = [name for name in new if old is not None and name in old and old[name] != new[name]]
    shown = [f"{name}: {_short(old[name])} -> {_short(new[name])}" for name in names[:2]] if old is not None else []
    return f"parameters changed ({', '.join(shown)})" if shown else "parameters changed"


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 30 else text[:27] + "..."
