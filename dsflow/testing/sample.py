"""Writes a test of a job from real data: a few rows of what it reads for a date, and what it makes of them.

The same data gives the same rows, whatever the order of the files. Rows of a further input that share values with the
first one's (columns of the same name) come first, so that a join finds something. Text that is a secret, and columns
that are named like one, are masked.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import decimal
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dsflow.engines.duckdb import DuckDB, open_engine
from dsflow.engines.literals import identifier, literal
from dsflow.errors import JobFailed, UsageError
from dsflow.inputs import partitions_of, rows_of
from dsflow.masking import MASK, Masker, is_secret
from dsflow.model import Input, Task
from dsflow.specs.load import load_workspace
from dsflow.specs.testfile import checked
from dsflow.store.datastore import Datastore, Partition
from dsflow.tasks import Maker
from dsflow.testing.rows import Row, Table, fetch, type_of
from dsflow.testing.trial import FOLDER, Trial, Trials
from dsflow.testing.verdict import differences_of
from dsflow.workspace import Workspace

_LARGEST_TEXT = 20_000
# Options that say how a CSV file is written; its values are kept as they are.
_CSV_OPTIONS = {"delim", "sep", "delimiter", "quote", "escape", "header", "skip", "comment", "encoding", "compression"}
_SOURCE = "dsflow_sample"


@dataclass(frozen=True)
class _Source:
    """An input of the job with the partitions it stands for."""

    name: str
    asked: Input
    partitions: tuple[Partition, ...]

    @property
    def files(self) -> list[Path]:
        return [file for part in self.partitions for file in part.files]

    @property
    def size(self) -> int:
        return sum((part.manifest.rows or 0) if part.manifest else 0 for part in self.partitions)


def sample_test(
    workspace: Workspace, job: str, ds: str, given: Mapping[str, str], count: int, runtime: str | None = None
) -> dict[str, Any]:
    """Give a test of a job as its file would hold it.

    Args:
        workspace: Where the job and its data are; nothing is written into it.
        job: The job.
        ds: The date whose data is looked at.
        given: Parameters of the run, as text.
        count: How many rows of each input, at most.
        runtime: Where the job runs; as its spec says where None.

    Raises:
        UsageError: the job, the date or a parameter is wrong, or an input has no rows that could be told apart.
        JobFailed: an input is not there, or the job fails on the sample.
    """
    task, secrets = Maker(workspace, load_workspace(workspace)).task(job, ds, given)
    mask = Masker.of(os.environ, secrets)
    datastore = Datastore(workspace.datastore)
    test: dict[str, Any] = {"version": 1, "description": f"A sample of what {job} read for {task.ds}", "ds": task.ds}
    parameters = {name: task.parameters.get(name, MASK) for name in [*given, *task.secret_parameters]}
    if parameters:
        test["parameters"] = {name: MASK if is_secret(name) else value for name, value in parameters.items()}
    with contextlib.closing(open_engine()) as engine:
        sources = sorted(_sources(task, datastore), key=lambda one: -one.size)
        taker = _Taker(engine, mask, count, workspace.datastore, sources)
        for source in sources:
            test.setdefault("inputs", {})[source.name] = taker.given(source, task)
    with Trials(workspace, runtime) as trials:
        folder = workspace.job_folder(job) / FOLDER
        ran = [trials.run(job, checked(test, "the sample"), folder, "the sample") for _ in range(2)]
    for trial in ran:
        if trial.outcome.failure is not None:
            hint = "A larger sample may do better: `--rows`."
            raise JobFailed(f"on the sample the job fails: {trial.outcome.failure.message}", hint)
    expected = _expected(ran[0], ran[1], mask)
    return {**test, "expected": expected} if expected else test


def _sources(task: Task, datastore: Datastore) -> Iterator[_Source]:
    """Give what the job reads by its spec and its query, and what its last run for that date read besides."""
    for asked in task.inputs:
        # A file in the job's folder is a part of the job.
        if asked.kind != "path" or asked.target.startswith("/") or "://" in asked.target:
            yield _Source(asked.name, asked, tuple(partitions_of(asked, datastore)))
    output = task.output
    made = datastore.partition(output.store, output.name, output.ds) if output else None
    known = {(asked.kind, asked.target) for asked in task.inputs}
    more: dict[tuple[str, str], list[str]] = {}
    for used in made.manifest.inputs if made and made.manifest else ():
        if used.kind in ("table", "raw") and used.ds and (used.kind, used.target) not in known:
            more.setdefault((used.kind, used.target), []).append(used.ds)
    for (kind, target), partitions in more.items():
        name = target if kind == "table" else f"raw.{target}"
        asked = Input(
            name=name, kind="raw" if kind == "raw" else "table", target=target, partitions=tuple(sorted(partitions))
        )
        yield _Source(name, asked, tuple(partitions_of(asked, datastore)))


class _Taker:
    """Takes samples, each so that it fits those taken before."""

    def __init__(self, engine: DuckDB, mask: Masker, count: int, data: Path, sources: Sequence[_Source]) -> None:
        self._engine = engine
        self._mask = mask
        self._count = count
        self._data = data
        self._anchor: list[dict[str, str | None]] = []
        # The views of what has rows, by source, with their columns.
        self._views: dict[str, tuple[str, list[str]]] = {}
        for number, source in enumerate(sources):
            if not self._is_text(source):
                relation = self._relation(source, source.partitions)
                self._engine.view(f"{_SOURCE}_{number}", relation)
                self._views[source.name] = f"{_SOURCE}_{number}", list(relation.columns)

    def given(self, source: _Source, task: Task) -> dict[str, Any]:
        """Give what the test says of an input."""
        if self._is_text(source):
            return {"text": self._text(source)}
        count = max(1, self._count // max(1, len(source.partitions)))
        parts = {part.ds: self._rows(source, [part], count) for part in source.partitions}
        if not parts:
            return {"rows": self._masked(self._rows(source, [], count))}
        tables = list(parts.values())
        columns = _types(tables) if source.asked.kind == "table" else {}
        usual = source.asked.as_of or (source.asked.partitions[-1] if source.asked.partitions else task.ds)
        typed: dict[str, Any] = {"columns": columns} if columns else {}
        if len(parts) == 1 and (next(iter(parts)) == usual or source.asked.as_of is not None):
            return {**typed, "rows": self._masked(tables[0])}
        return {**typed, "partitions": {ds: self._masked(table) for ds, table in parts.items()}}

    def _is_text(self, source: _Source) -> bool:
        return source.asked.kind != "table" and _format(source) in (None, "text")

    def _relation(self, source: _Source, parts: Sequence[Partition]) -> Any:
        if not parts:
            return rows_of(source.asked, [], self._engine, self._data)
        options = dict(source.asked.options)
        format_ = "parquet" if source.asked.kind == "table" else str(_format(source))
        if format_ == "csv":
            options = {name: value for name, value in options.items() if name in _CSV_OPTIONS} | {"all_varchar": True}
        files = [file for part in parts for file in part.files]
        return self._engine.read(files, format_, with_ds=False, options=options)

    def _rows(self, source: _Source, parts: Sequence[Partition], count: int) -> Table:
        relation = self._relation(source, parts)
        self._engine.view(_SOURCE, relation)
        likeness = self._likeness(relation.columns) if self._anchor else self._matches(source.name, relation.columns)
        # Of the row as text, so that neither the order of the files nor the version of the engine matters.
        chosen = f"SELECT * FROM {_SOURCE} AS one ORDER BY {likeness}md5(CAST(one AS VARCHAR)) LIMIT {count}"
        table = fetch(self._engine.sql(chosen))
        if not self._anchor:
            texts = ", ".join(f"CAST({name} AS VARCHAR)" for name in map(identifier, relation.columns))
            texts_of = self._engine.fetch(f"SELECT {texts} FROM ({chosen})")
            self._anchor = [dict(zip(relation.columns, row, strict=True)) for row in texts_of]
        return table

    def _matches(self, own: str, columns: Sequence[str]) -> str:
        """Give the beginning of an ORDER BY: first the rows that have others with the same values in other inputs."""
        terms = []
        for name, (view, others) in self._views.items():
            shared = [identifier(column) for column in columns if column in others]
            if name != own and shared:
                texts = ", ".join(f"CAST({column} AS VARCHAR)" for column in shared)
                terms.append(f"coalesce((({texts}) IN (SELECT ({texts}) FROM {view}))::INT, 0)")
        return f"{' + '.join(terms)} DESC, " if terms else ""

    def _likeness(self, columns: Sequence[str]) -> str:
        """Give the beginning of an ORDER BY: first the rows that share most values with a row taken before."""
        scores = []
        for row in self._anchor:
            shared = [name for name in columns if row.get(name) is not None]
            equal = [f"(CAST({identifier(name)} AS VARCHAR) = {literal(row[name])})::INT" for name in shared]
            scores += [f"coalesce({' + '.join(equal)}, 0)"] if equal else []
        return f"greatest({', '.join(scores)}) DESC, " if scores else ""

    def _text(self, source: _Source) -> str:
        files = source.files
        if len(files) != 1 or files[0].stat().st_size > _LARGEST_TEXT:
            raise UsageError(
                f"input {source.name!r}: {len(files)} files whose format nobody names cannot be sampled",
                f"Write `format: csv`, `json` or `parquet` into inputs.{source.name} of job_specs.yaml, or the test "
                "by hand with `file` or `text`.",
            )
        try:
            lines = files[0].read_text("utf-8").splitlines(keepends=True)
        except UnicodeDecodeError:
            raise UsageError(f"input {source.name!r}: {files[0].name} is not text", "Write the test by hand.") from None
        return self._mask("".join(lines[: self._count + 1]))

    def _masked(self, table: Table) -> list[dict[str, Any]]:
        return [{name: masked(name, value, self._mask) for name, value in row.items()} for row in table.rows]


def _format(source: _Source) -> str | None:
    """Give the format of an input's files, or None where nobody says."""
    if source.asked.format:
        return source.asked.format
    names = [file.name for file in source.files] or [source.asked.target]
    found = re.search(r"\.(csv|tsv|json|jsonl|ndjson|parquet)(\.gz|\.zst)?$", names[0], re.IGNORECASE)
    formats = {"csv": "csv", "tsv": "csv", "parquet": "parquet"}
    return formats.get(found[1].lower(), "json") if found else None


def _types(tables: Sequence[Table]) -> dict[str, str]:
    """Give the types of those columns whose values would be taken for something else."""
    rows = [row for table in tables for row in table.rows]
    types = {name: type_ for table in tables for name, type_ in table.types.items()}
    if not rows:
        return types
    written = [{name: plain(value) for name, value in row.items()} for row in rows]
    return {name: type_ for name, type_ in types.items() if type_of([row.get(name) for row in written]) != type_}


def masked(name: str, value: Any, mask: Masker) -> Any:
    """Give a value as YAML holds it, without secrets."""
    if is_secret(name) and value is not None:
        return MASK if isinstance(value, str) else None
    return _without_secrets(plain(value), mask)


def _without_secrets(value: Any, mask: Masker) -> Any:
    if isinstance(value, dict):
        return {key: masked(str(key), item, mask) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_secrets(item, mask) for item in value]
    return mask(value) if isinstance(value, str) else value


def plain(value: Any) -> Any:
    """Give a value of an engine as plain YAML: text, numbers, true and false, NULL, lists and mappings."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, bool | int | None):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}[str(value)]
    if isinstance(value, decimal.Decimal):
        return float(value) if decimal.Decimal(repr(float(value))) == value else str(value)
    if isinstance(value, dt.datetime):
        return value.isoformat(sep=" ")
    return value if isinstance(value, str) else str(value)


def _expected(first: Trial, second: Trial, mask: Masker) -> dict[str, Any]:
    """Give what a test can expect of every run: what two of them agree in."""
    violated = {check.name: check.violations for check in first.outcome.checks if check.violations}
    expected: dict[str, Any] = {"checks": violated} if violated else {}
    if first.task.output is None:
        return expected
    if first.task.output.store == "raw":
        if sum(map(len, first.files.values())) > _LARGEST_TEXT:
            raise UsageError("the job writes more than a test should hold", "Write the test by hand.")
        return {**expected, "files": {name: mask(text) for name, text in first.files.items()}}
    differing = {
        difference.path.partition(".")[2].partition(".")[0]
        for difference in differences_of(first.table.rows, second.table)
    }
    ignore = [name for name in first.table.types if name in differing]
    rows: list[Row] = [
        {name: masked(name, value, mask) for name, value in row.items() if name not in ignore}
        for row in first.table.rows
    ]
    more = {"ignore": ignore} if ignore else {}
    quarantine = [
        {name: masked(name, value, mask) for name, value in row.items() if name not in ignore}
        for row in first.quarantine.rows
    ]
    put_aside = {"quarantine": quarantine} if quarantine else {}
    return {**expected, **more, "rows": rows, **put_aside}
