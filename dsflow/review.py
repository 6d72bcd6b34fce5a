"""Runs what is expected of a table over what is published of it, without running jobs (`dsflow check`)."""

from __future__ import annotations

import contextlib
import datetime as dt
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from dsflow import outputs
from dsflow.engines.registry import open_engine
from dsflow.errors import DsflowError, UsageError, did_you_mean
from dsflow.history import History
from dsflow.model import Check, Expectation
from dsflow.quality import understood
from dsflow.records import Checked, Look, checked_of, keep_look
from dsflow.specs.load import WorkspaceSpec
from dsflow.specs.settings import check_own, load_workspace
from dsflow.store.datastore import Datastore, Partition
from dsflow.tasks import Maker
from dsflow.workspace import Workspace
from dsflow.writers import writers_in


@dataclass(frozen=True, kw_only=True)
class Reviewed:
    """What was found in one partition.

    Attributes:
        ds: The partition.
        rows: Its rows, where anybody counted them.
        checks: The verdicts.
        left_out: Expectations of the job's code that only a run can check.
    """

    ds: str
    rows: int | None
    checks: tuple[Check, ...]
    left_out: tuple[str, ...] = ()

    @property
    def failed(self) -> bool:
        """Whether this partition would not be published."""
        return any(check.verdict == "failed" for check in self.checks)


def partitions_in(datastore: Datastore, table: str, span: tuple[str, str] | None) -> list[str]:
    """Give the ds of the published partitions of a table.

    Args:
        datastore: Where the table is.
        table: Its name.
        span: The first and the last day, both included; all if None.

    Raises:
        UsageError: there is no such table, or nothing of it in that span.
    """
    there = datastore.partitions("table", table)
    if not there:
        names = datastore.names("table")
        raise UsageError(f"there is no table {table!r}{did_you_mean(table, names)}", "`dsflow ls tables` lists them.")
    if span is None:
        return there
    first, last = span
    # Hours of a day are longer texts that begin with it.
    found = [ds for ds in there if first <= ds and ds[: len(last)] <= last]
    if not found:
        problem = f"table {table!r} has no partition from {first} to {last}"
        raise UsageError(problem, f"It has {there[0]} to {there[-1]}.")
    return found


class Reviewer:
    """Knows what is expected of a table.

    Args:
        workspace: Where the jobs are.
        settings: The workspace's settings.
        table: The table.

    Raises:
        UsageError: no job writes it.
    """

    def __init__(self, workspace: Workspace, settings: WorkspaceSpec, table: str) -> None:
        self._datastore = Datastore(workspace.datastore)
        self._table = table
        self._maker = Maker(workspace, settings)
        self._writers = [writer.job for writer in writers_in(workspace).every.get(("table", table), [])]
        if not self._writers:
            hint = "What is expected is in the spec of the job that writes a table; `dsflow validate` reads them all."
            raise UsageError(f"no job of this workspace writes table {table!r}", hint)

    def review(self, wanted: Sequence[str], done: Callable[[], None] = lambda: None) -> Iterator[Reviewed]:
        """Give what is found in some partitions.

        Args:
            wanted: Their ds.
            done: Called after each.

        Raises:
            DsflowError: an expectation cannot be run, or a partition cannot be read.
        """
        with contextlib.closing(open_engine("duckdb")) as engine:
            for partition in self._datastore.select("table", self._table, wanted):
                expectations, words, left_out = self._expected(partition)
                checks = outputs.review(expectations, partition, self._datastore, engine, words) if expectations else ()
                rows = partition.manifest.rows if partition.manifest else None
                yield Reviewed(ds=partition.ds, rows=rows, checks=checks, left_out=left_out)
                done()

    def _expected(self, partition: Partition) -> tuple[tuple[Expectation, ...], str, tuple[str, ...]]:
        """Give what is expected of a partition by the spec, and by the code of the run that wrote it."""
        manifest = partition.manifest
        job = manifest.job if manifest and manifest.job in self._writers else self._writers[0]
        task, _ = self._maker.task(job, partition.ds, {})
        named = {expectation.name for expectation in task.expectations}
        own: list[Expectation] = []
        left_out: list[str] = []
        for check in manifest.checks if manifest else ():
            if check.name not in named:
                asked = _as_expected(check)
                (own.append(asked) if _repeatable(asked, partition) else left_out.append(check.name))
        return (*task.expectations, *own), task.engine, tuple(left_out)


def _as_expected(check: Check) -> Expectation:
    """Give the expectation of a job's code back from the verdict that its run left."""
    return Expectation(
        name=check.name,
        constraint=check.constraint,
        action=check.action,
        severity=check.severity,
        max_failures=check.limit if check.per == "row" else None,
    )


def _repeatable(expectation: Expectation, partition: Partition) -> bool:
    try:
        understood(expectation, partition.name, partition.manifest.columns if partition.manifest else None)
    except UsageError:
        return False
    return True


def keep(history: History, workspace: Workspace, table: str, found: Sequence[Reviewed]) -> str | None:
    """Record what was found, beside the data and in the history; give why that was not possible, or None.

    Args:
        history: The history.
        workspace: Where the datastore is.
        table: The table.
        found: What was found.
    """
    now = dt.datetime.now(dt.UTC)
    run_id = f"check-{now:%Y%m%dT%H%M%S}-{secrets.token_hex(3)}"
    at = now.isoformat(timespec="milliseconds")
    checked: list[Checked] = []
    for one in found:
        checked += checked_of(one.checks, run_id, f"tables/{table}", one.ds, at)
    if not checked:
        return None
    try:
        check_own(workspace, load_workspace(workspace))
        keep_look(workspace.datastore, Look(run_id=run_id, checked=tuple(checked)))
        history.record_look(checked)
    except (OSError, DsflowError) as error:
        return error.message if isinstance(error, DsflowError) else f"{error}"
    return None
