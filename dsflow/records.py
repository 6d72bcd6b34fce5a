"""What the history keeps of a run, from its events and from its folder."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import re
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dsflow.durable import write_text
from dsflow.masking import is_secret
from dsflow.model import Check, Event, Outcome, RunFinished, RunStarted, Task, from_json, run_folder, to_json
from dsflow.store.layout import Layout

RUNNING = "running"
_ENDED_SILENTLY = "ended without an outcome"
# How long a run without a timeout, and without an outcome, is believed to be running.
_LONGEST = 24 * 3600.0
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What a run, or a look at what is published (`dsflow check`), found about one expectation for one ds.

    `run_id` is the run, or the look, `number` the place of the expectation in it; `dataset` is like `tables/NAME`;
    `condition` is the constraint, `verdict` a value of `model.Verdict`, `at` a moment in UTC.
    """

    run_id: str
    dataset: str
    ds: str
    number: int
    name: str
    condition: str
    action: str
    severity: str
    rows: int
    violations: int
    verdict: str
    at: str


@dataclass(frozen=True, kw_only=True)
class Look:
    """What one `dsflow check` found."""

    run_id: str
    checked: tuple[Checked, ...]


@dataclass(frozen=True, kw_only=True)
class Record:
    """One run as the history knows it.

    `status` is `running` or a value of `Status`, times are ISO 8601 in UTC, `output` is like `tables/NAME`, `folder`
    is relative to the datastore, and secret parameters are left out. `checked` is kept in a table of its own: a record
    that was read from the database has none.
    """

    run_id: str
    job: str
    ds: str
    kind: str
    status: str
    exit_code: int | None = None
    started: str
    finished: str | None = None
    seconds: float | None = None
    runtime: str = ""
    image: str | None = None
    git_revision: str | None = None
    parameters: dict[str, Any]
    rows: int | None = None
    output: str | None = None
    error: str | None = None
    folder: str
    checked: tuple[Checked, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Broken:
    """A run folder that cannot be read, and why."""

    folder: Path
    reason: str


def record_of(task: Task, outcome: Outcome | None = None) -> Record:
    """Give the record of a run that ended with an outcome, or of one that is running.

    Raises:
        ValueError: a value is not of its type (possible only where they were read from a damaged file).
    """
    secret = {name for name in dict(task.parameters) if name in task.secret_parameters or is_secret(name)}
    record = Record(
        run_id=storable(task.run_id),
        job=storable(task.job),
        ds=storable(task.ds),
        kind=task.kind,
        status=RUNNING,
        started=_moment(task.created),
        runtime=storable(task.facts.runtime),
        image=task.facts.image and storable(task.facts.image),
        git_revision=task.facts.git_revision and storable(task.facts.git_revision),
        parameters={name: value for name, value in task.parameters.items() if name not in secret},
        output=f"{_store_folder(task.output.store)}/{storable(task.output.name)}" if task.output else None,
        folder=storable(task.folder),
    )
    return record if outcome is None else _ended(record, outcome)


def record_of_event(event: Event) -> Record | None:
    """Give what an event says about a run: that it has started, or how it ended; None where it says neither."""
    if isinstance(event, RunStarted):
        return record_of(event.task)
    return record_of(event.task, event.outcome) if isinstance(event, RunFinished) else None


def _ended(record: Record, outcome: Outcome) -> Record:
    counts = [published.manifest.rows for published in outcome.outputs]
    known = [count for count in counts if count is not None]
    return dataclasses.replace(
        record,
        status=outcome.status,
        exit_code=int(outcome.exit_code),
        started=_moment(outcome.started),
        finished=_moment(outcome.finished),
        seconds=float(outcome.seconds),
        rows=sum(known) if known else None,
        error=storable(outcome.failure.message) if outcome.failure else None,
        checked=checked_of(outcome.checks, record.run_id, record.output or "", record.ds, _moment(outcome.finished)),
    )


def checked_of(checks: Sequence[Check], run_id: str, dataset: str, ds: str, at: str) -> tuple[Checked, ...]:
    """Give what is kept of some verdicts on one partition.

    Args:
        checks: The verdicts.
        run_id: The run, or the look, that gave them.
        dataset: What was checked, such as `tables/rain`.
        ds: The partition.
        at: When; ISO 8601 in UTC.
    """
    return tuple(
        Checked(
            run_id=run_id,
            dataset=dataset,
            ds=ds,
            number=number,
            name=storable(check.name),
            condition=storable(check.constraint),
            action=check.action,
            severity=check.severity,
            rows=int(check.rows),
            violations=int(check.violations),
            verdict=check.verdict,
            at=at,
        )
        for number, check in enumerate(checks)
    )


def looks(datastore: Path) -> Iterator[Checked]:
    """Give what every `dsflow check` found that has been recorded; files that cannot be read are left out."""
    for path in sorted(Layout(datastore).checks.glob("*.json")):
        with contextlib.suppress(OSError, ValueError, TypeError, RecursionError):
            yield from from_json(Look, path.read_text("utf-8")).checked


def keep_look(datastore: Path, look: Look) -> None:
    """Keep what a `dsflow check` found beside the data, where a rebuild of the history finds it.

    Raises:
        OSError: the datastore cannot be written.
    """
    folder = Layout(datastore).checks
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / f"{look.run_id}.json", to_json(look))


def read(folder: Path) -> Record:
    """Give the record of a run folder.

    A folder without an outcome belongs to a run that is running, until its timeout (a day where it has none) has
    passed; after that it failed without a word, killed together with the host's side.

    Raises:
        ValueError: the folder's `task.json` or `outcome.json` is missing, damaged or another run's.
    """
    try:
        task = from_json(Task, (folder / "task.json").read_text("utf-8"))
        text = _read_if_there(folder / "outcome.json")
        record = record_of(task, None if text is None else from_json(Outcome, text))
        longest = float(task.limits.timeout or _LONGEST)
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise ValueError(str(error)) from error
    if record.run_id != folder.name:
        raise ValueError(f"its task.json is that of run {record.run_id}")
    if record.status == RUNNING and _age(record) > longest:
        return dataclasses.replace(record, status="failed", error=_ENDED_SILENTLY)
    return record


def parameters_of(datastore: Path, job: str, ds: str, run_id: str) -> dict[str, Any] | None:
    """Give the parameters of a run by its folder, secret ones left out; None where that is gone or damaged."""
    try:
        text = (datastore / run_folder(job, ds, run_id) / "task.json").read_text("utf-8")
        return dict(from_json(Task, text).parameters)
    except (OSError, ValueError, TypeError, RecursionError):
        return None


def scan(datastore: Path, skip: Container[str] = ()) -> Iterator[Record | Broken]:
    """Give the record of every run folder of a datastore, leaving out the run ids in `skip`."""
    for folder in sorted((datastore / "job_runs").glob("*/ds=*/*/")):
        if folder.name not in skip:
            try:
                yield read(folder)
            except ValueError as error:
                yield Broken(folder=folder, reason=str(error))


def _store_folder(store: str) -> str:
    return "tables" if store == "table" else store


def _read_if_there(path: Path) -> str | None:
    try:
        return path.read_text("utf-8")
    except FileNotFoundError:
        return None


def _age(record: Record) -> float:
    return (dt.datetime.now(dt.UTC) - dt.datetime.fromisoformat(record.started)).total_seconds()


def _moment(text: str) -> str:
    """Give a moment in the one form that sorts by time."""
    moment = dt.datetime.fromisoformat(text)
    moment = moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)
    return moment.astimezone(dt.UTC).isoformat(timespec="milliseconds")


def storable(text: str) -> str:
    """Give a text with what no database can store, NUL and half surrogates, replaced."""
    return _UNSTORABLE.sub("�", text)
