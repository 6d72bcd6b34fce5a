"""The words of dsflow as frozen data: what a run is asked to do, and how it ended.

Standard library only: both sides of the house import this, inside containers too. Every class goes to JSON and
back with `to_json` and `from_json`; `PROTOCOL` changes when an old run folder could no longer be read.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Any, Literal

from dsflow import frozen

PROTOCOL = 1
# A line of the shim that begins with this is an event for the host as JSON, not part of the log.
EVENT_PREFIX = "\x1e"
# What a job's code expects of its output is in this file of the run folder while it runs.
EXPECTED = "expectations.jsonl"
# What a run that publishes nothing has made is a datastore of its own in this folder of its run folder.
MADE = "made"
# What is dropped from table NAME is in the table NAME with this behind it.
QUARANTINE = "__quarantine"

Grain = Literal["hour", "day", "week", "month"]
Action = Literal["allow", "drop", "fail"]
Severity = Literal["info", "warn", "error"]
Verdict = Literal["passed", "tolerated", "allowed", "dropped", "failed"]


class Status(enum.StrEnum):
    """How a run ended. Skipped is a success; aborted never started because something before it failed."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    SKIPPED = "skipped"
    ABORTED = "aborted"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True, kw_only=True)
class Input:
    """One declared source of a task, resolved for its partition.

    `kind` says what `target` is: the name of a table, of a raw dataset, or a path or URL. `partitions` are the
    ds values wanted, oldest first; with `as_of` it is the newest partition at or before that ds instead. Of `later`,
    partitions after the task's ds, those are read that exist.
    """

    name: str
    kind: Literal["table", "raw", "path"]
    target: str
    format: str | None = None
    partitions: tuple[str, ...] = ()
    later: tuple[str, ...] = ()
    as_of: str | None = None
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Output:
    """The one partition a task replaces: a table's (`fct` facts of the day, `dim` full snapshot) or a raw dataset's."""

    store: Literal["table", "raw"]
    name: str
    ds: str
    kind: Literal["fct", "dim"] = "fct"


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What a table's columns must be: these and no others, of these types, and whether they may change."""

    columns: tuple[str, ...] = ()
    types: dict[str, str] = field(default_factory=dict)
    on_change: Literal["allow", "fail"] = "allow"


@dataclass(frozen=True, kw_only=True)
class Expectation:
    """What must be true of an output: a condition on every row, on the partition as a whole, or on its columns.

    `constraint` is SQL in the dialect of DuckDB, whatever the engine; with aggregates it is about the whole partition.
    Where there is a `shape`, it says that in words. `sources` are the tables that the constraint names, beside the one
    that is checked. Violations up to `max_failures`, or that share of the rows, change nothing; None is 0 for `fail`
    and `allow`, and any number for `drop`.
    """

    name: str
    constraint: str
    action: Action = "fail"
    severity: Severity = "error"
    max_failures: int | None = None
    max_share: float | None = None
    sources: tuple[Input, ...] = ()
    shape: Shape | None = None


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a run may use: bytes of memory, cores, seconds, and whether it may open network connections."""

    memory: int | None = None
    cpus: float | None = None
    timeout: float | None = None
    network: bool = False


@dataclass(frozen=True, kw_only=True)
class Spark:
    """How Spark runs for a task; it matters to the engine `spark` only.

    With `connect` a task joins a server, with `classic` it has Spark in its own process. The server is the Connect
    server of the URL `remote`, or the workspace's warm one where that is empty. `memory` is the heap in bytes. The warm
    server ends after `idle` seconds without a client. With `archive` the classes it has loaded are kept for the next
    start. What is secret of `remote` and `settings` is not here (`dsflow.spark.hidden`).
    """

    session: Literal["connect", "classic"] = "connect"
    remote: str = ""
    memory: int | None = None
    idle: float = 1800
    archive: bool = True
    settings: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Fingerprint:
    """What a partition was made with, as hashes: when none of it and no input changes, a run would change nothing.

    `code` is the job's files without comments and formatting, `spec` the part of the spec that matters to the result,
    `parameters` their values, `place` the runtime and what is installed there, such as `process:3f9a1c...`.
    """

    code: str
    spec: str
    parameters: str
    place: str


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Where and with what a run was made; recorded, never acted on."""

    runtime: str = ""
    runtime_reason: str = ""
    image: str | None = None
    image_id: str | None = None
    lock_hash: str | None = None
    git_revision: str | None = None
    dsflow_version: str = ""
    host: str = ""
    user: str = ""


@dataclass(frozen=True, kw_only=True)
class Task:
    """A job for one partition with everything resolved: all that the job side needs to know.

    `kind` is a key of `dsflow.kinds.registry.KINDS`; `code` is the rendered SQL of a sql job. `task_specs` is what the
    job finds in `TASK_SPECS`, with data paths as `/data/...`; the shim turns them into real paths. `modules` are
    folders beside that of the jobs. Parameters named in `secret_parameters` hold no value here. A task with `apart`,
    a folder below the datastore, reads like any other and publishes nothing: what it makes is kept in its run folder,
    which is in that folder. With `is_first` its query knew that nothing of its output lies before. With `samples` its
    datastore is that of samples, and `offline` says that nothing else may be read.
    """

    run_id: str
    job: str
    kind: str
    main: str
    ds: str
    start: str
    end: str
    created: str
    grain: Grain = "day"
    description: str = ""
    parameters: dict[str, Any] = field(default_factory=dict)
    secret_parameters: tuple[str, ...] = ()
    injected: dict[str, Any] = field(default_factory=dict)
    task_specs: dict[str, Any] = field(default_factory=dict)
    legacy: bool = False
    code: str | None = None
    is_first: bool = False
    engine: str = "duckdb"
    spark: Spark = field(default_factory=Spark)
    inputs: tuple[Input, ...] = ()
    output: Output | None = None
    expectations: tuple[Expectation, ...] = ()
    modules: tuple[str, ...] = ()
    limits: Limits = field(default_factory=Limits)
    port: int | None = None
    facts: Facts = field(default_factory=Facts)
    fingerprint: Fingerprint | None = None
    apart: str = ""
    samples: Literal["", "online", "offline"] = ""
    protocol: int = PROTOCOL

    @property
    def folder(self) -> str:
        """The run folder, relative to the datastore."""
        return f"{self.apart}/{self.run_id}" if self.apart else run_folder(self.job, self.ds, self.run_id)


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column's name and its type in the words of the engine."""

    name: str
    type: str


@dataclass(frozen=True, kw_only=True)
class File:
    """A published file: name inside its partition, bytes, sha256 as hex, rows where it is a table."""

    name: str
    bytes: int
    sha256: str
    rows: int | None = None


@dataclass(frozen=True, kw_only=True)
class InputUsed:
    """A partition (or a path) that a run really read, as it was then; of its own output also that it found none."""

    name: str
    kind: str
    target: str
    ds: str | None = None
    hash: str | None = None
    rows: int | None = None
    bytes: int | None = None
    run_id: str | None = None


@dataclass(frozen=True, kw_only=True)
class Check:
    """The verdict on one expectation: rows that were checked and rows that broke it.

    Of an expectation `per` partition the violations are 1 or 0, and `found` says what was there instead, such as
    `count(*) = 0`. `limit` is the number of violations that change nothing, None where any number may be dropped.
    `examples` are some of the rows as text; they are never part of a manifest.
    """

    name: str
    constraint: str
    action: Action
    rows: int
    violations: int
    severity: Severity = "warn"
    limit: int | None = None
    per: Literal["row", "partition"] = "row"
    found: str = ""
    examples: tuple[str, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """What comes of it; with `failed` nothing is published."""
        if not self.violations:
            return "passed"
        over = self.violations > (self.limit or 0)
        if self.action == "drop":
            return "failed" if over and self.limit is not None else "dropped"
        if not over:
            return "tolerated"
        return "failed" if self.action == "fail" else "allowed"


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What is published in one partition, and from what. It is the partition's birth certificate."""

    run_id: str
    job: str
    store: Literal["table", "raw"]
    name: str
    ds: str
    published: str
    files: tuple[File, ...]
    columns: tuple[Column, ...] = ()
    inputs: tuple[InputUsed, ...] = ()
    checks: tuple[Check, ...] = ()
    kind: Literal["fct", "dim"] = "fct"
    fingerprint: Fingerprint | None = None
    hash: str = ""
    protocol: int = PROTOCOL

    @property
    def rows(self) -> int | None:
        """Rows of the partition, or None where files have no rows (raw data)."""
        counts = [file.rows for file in self.files]
        return sum(count for count in counts if count is not None) if any(c is not None for c in counts) else None

    @property
    def bytes(self) -> int:
        """Bytes of all files."""
        return sum(file.bytes for file in self.files)


@dataclass(frozen=True, kw_only=True)
class Published:
    """A partition that a run replaced: its manifest and how its schema differs from the previous partition's.

    `quarantined` is the number of rows that were set aside, in the partition of the same ds of the quarantine.
    """

    manifest: Manifest
    quarantined: int = 0
    schema_changes: tuple[str, ...] = ()
    previous_ds: str | None = None


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Why a run failed, for a person: `place` such as `cell 3, line 2`, `source` the user's own line there."""

    kind: str
    message: str
    place: str = ""
    source: str = ""
    hint: str = ""
    traceback: str = ""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a run ended; times are ISO 8601 in UTC, `seconds` the whole run."""

    run_id: str
    status: Status
    exit_code: int
    started: str
    finished: str
    seconds: float
    failure: Failure | None = None
    inputs: tuple[InputUsed, ...] = ()
    outputs: tuple[Published, ...] = ()
    checks: tuple[Check, ...] = ()
    protocol: int = PROTOCOL

    def __bool__(self) -> bool:
        return self.status in (Status.SUCCEEDED, Status.SKIPPED)


@dataclass(frozen=True, kw_only=True)
class RunStarted:
    """Event: a task is about to start in its runtime."""

    task: Task


@dataclass(frozen=True, kw_only=True)
class LogLine:
    """Event: one line the run printed, secrets already masked."""

    task: Task
    text: str


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Event: `done` of `total` cells (or other units) of a run are finished."""

    task: Task
    done: int
    total: int


@dataclass(frozen=True, kw_only=True)
class RunFinished:
    """Event: a run ended and its folder is complete."""

    task: Task
    outcome: Outcome


@dataclass(frozen=True, kw_only=True)
class Notice:
    """Event: something the user should know, outside any run's log (an image is being built, a choice was made)."""

    text: str


def run_folder(job: str, ds: str, run_id: str) -> str:
    """Give the folder of a run below the datastore."""
    return f"job_runs/{job}/ds={ds}/{run_id}"


Event = RunStarted | LogLine | Progress | RunFinished | Notice


to_json, from_json, from_dict = frozen.to_json, frozen.from_json, frozen.from_dict
