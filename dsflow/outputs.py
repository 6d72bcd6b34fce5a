"""From what a job left in its staging folder to a published partition: name, count, check, describe, publish."""

from __future__ import annotations

import dataclasses
import datetime as dt
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dsflow import quality
from dsflow.engines.contract import Engine, Preview
from dsflow.engines.registry import open_engine, prepare
from dsflow.errors import JobFailed
from dsflow.model import Check, Column, File, InputUsed, Manifest, Output, Published, Task
from dsflow.store.datastore import Datastore, Partition
from dsflow.store.publishing import Staging, content_hash, describe

_PREVIEW_ROWS = 20
# What Spark and its friends leave beside their data.
_MARKERS = ("_SUCCESS", "_committed_", "_started_", ".crc", "._SUCCESS")


def load(task: Task) -> None:
    """Load what `publish` will need for a task, in a process that will be forked."""
    assert task.output is not None
    if task.output.store == "table":
        prepare(task.engine)


@dataclass(frozen=True, kw_only=True)
class Examined:
    """What is staged for a table and fit to be published."""

    files: tuple[File, ...]
    columns: tuple[Column, ...]
    checks: tuple[Check, ...]
    preview: Preview


def examine(task: Task, folder: Path, engine: Engine) -> Examined:
    """Name, count, check and describe what a job staged for a table; rows that are to be dropped are dropped.

    Args:
        task: The task.
        folder: Its staging folder.
        engine: A session to do it with.

    Raises:
        JobFailed: nothing was staged, or files that do not belong into a table.
        ExpectationFailed: staged rows broke an expectation.
    """
    assert task.output is not None
    staged = _table_files(folder, task.run_id, task.output.name)
    inspection = engine.inspect(staged)
    checks = quality.judge(engine, staged, task.expectations)
    files = quality.drop(engine, staged, checks, folder, task.run_id)
    if files != staged or any(check.action == "drop" and check.violations for check in checks):
        inspection = engine.inspect(files)
    counted = {file.name: rows for file, rows in zip(files, inspection.rows, strict=True)}
    return Examined(
        files=tuple(dataclasses.replace(file, rows=counted[file.name]) for file in describe(folder)),
        columns=inspection.columns,
        checks=checks,
        preview=engine.preview(files, _PREVIEW_ROWS),
    )


def publish(
    task: Task, staging: Staging, datastore: Datastore, inputs: Sequence[InputUsed], examined: Examined | None = None
) -> tuple[Published, Preview | None]:
    """Check what a job staged, unless that is done, and swap it into place.

    Gives the published partition and, for a table, its first rows.

    Raises:
        JobFailed: nothing was staged, or files that do not belong into a table.
        ExpectationFailed: staged rows broke an expectation.
        EnvironmentMissing: the disk is full.
    """
    output = task.output
    assert output is not None
    if output.store == "raw":
        manifest = _manifest(task, output, describe(staging.folder), inputs)
        if not manifest.files:
            raise JobFailed(f"the job wrote no file for raw/{output.name}", "Write into the folder given as sink.")
        staging.publish(manifest)
        return Published(manifest=manifest), None
    if examined is None:
        engine = open_engine(task.engine, threads=task.limits.cpus, memory=task.limits.memory)
        try:
            examined = examine(task, staging.folder, engine)
        finally:
            engine.close()
    manifest = _manifest(task, output, examined.files, inputs)
    manifest = dataclasses.replace(manifest, columns=examined.columns, checks=examined.checks)
    previous = _previous(datastore, output)
    staging.publish(manifest)
    old = previous.manifest if previous else None
    changes = schema_changes(old.columns, manifest.columns) if old else ()
    published = Published(manifest=manifest, schema_changes=changes, previous_ds=old.ds if old else None)
    return published, examined.preview


def _table_files(folder: Path, run_id: str, table: str) -> list[Path]:
    """Give the staged Parquet files under their final names `RUN-part-N.parquet`; markers of engines are removed."""
    staged = sorted(path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    data = []
    for path in staged:
        if path.name.startswith(_MARKERS) or path.name.endswith(_MARKERS):
            path.unlink()
        elif path.suffix != ".parquet" or path.parent != folder:
            raise JobFailed(
                f"the job wrote {path.relative_to(folder)} for table {table}, and a table is made of Parquet files",
                "Write .parquet files directly into the sink, use job.write(...), or make the output `raw: NAME`.",
            )
        else:
            data.append(path)
    if not data:
        raise JobFailed(
            f"the job wrote nothing for table {table}",
            "Call job.write(...) in it; an empty DataFrame makes an empty partition with its columns.",
        )
    named = [path for path in data if path.name.startswith(f"{run_id}-part-")]
    places = (folder / f"{run_id}-part-{number}.parquet" for number in itertools.count())
    free = (place for place in places if place not in named)
    return sorted([*named, *(path.rename(next(free)) for path in data if path not in named)])


def _manifest(task: Task, output: Output, files: tuple[File, ...], inputs: Sequence[InputUsed]) -> Manifest:
    return Manifest(
        run_id=task.run_id,
        job=task.job,
        store=output.store,
        name=output.name,
        ds=output.ds,
        kind=output.kind,
        published=dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds"),
        files=files,
        inputs=tuple(inputs),
        fingerprint=task.fingerprint,
        hash=content_hash(files),
    )


def _previous(datastore: Datastore, output: Output) -> Partition | None:
    """Give the partition before the output's, or the output's own as it is now where it is the first."""
    return datastore.before("table", output.name, output.ds) or datastore.partition("table", output.name, output.ds)


def schema_changes(old: Sequence[Column], new: Sequence[Column]) -> tuple[str, ...]:
    """Give what differs between two lists of columns, for a person: removed, added, changed."""
    before = {column.name: column.type for column in old}
    after = {column.name: column.type for column in new}
    removed = [f"- {name} {type_}" for name, type_ in before.items() if name not in after]
    added = [f"+ {name} {type_}" for name, type_ in after.items() if name not in before]
    changed = [
        f"~ {name} {before[name]} -> {type_}"
        for name, type_ in after.items()
        if name in before and before[name] != type_
    ]
    return tuple(removed + added + changed)
