"""From what a job left in its staging folder to a published partition: name, count, check, describe, publish."""

from __future__ import annotations

import dataclasses
import datetime as dt
import itertools
from collections.abc import Sequence
from pathlib import Path

from dsflow import quality
from dsflow.engines.contract import Engine, Preview
from dsflow.engines.registry import open_engine
from dsflow.errors import JobFailed
from dsflow.model import Column, File, InputUsed, Manifest, Output, Published, Task
from dsflow.store.datastore import Datastore, Partition
from dsflow.store.publishing import Staging, content_hash, describe

_PREVIEW_ROWS = 20
# What Spark and its friends leave beside their data.
_MARKERS = ("_SUCCESS", "_committed_", "_started_", ".crc", "._SUCCESS")


def publish(
    task: Task, staging: Staging, datastore: Datastore, inputs: Sequence[InputUsed]
) -> tuple[Published, Preview | None]:
    """Check what a job staged and swap it into place.

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
    engine = open_engine(task.engine, threads=task.limits.cpus, memory=task.limits.memory)
    try:
        manifest, preview = _checked_table(task, output, staging.folder, engine, inputs)
    finally:
        engine.close()
    previous = _previous(datastore, output)
    staging.publish(manifest)
    old = previous.manifest if previous else None
    changes = _schema_changes(old.columns, manifest.columns) if old else ()
    return Published(manifest=manifest, schema_changes=changes, previous_ds=old.ds if old else None), preview


def _checked_table(
    task: Task, output: Output, folder: Path, engine: Engine, inputs: Sequence[InputUsed]
) -> tuple[Manifest, Preview]:
    files = _table_files(folder, task.run_id, output.name)
    engine.inspect(files)
    checks = quality.judge(engine, files, task.expectations)
    files = quality.drop(engine, files, checks, folder, task.run_id)
    inspection = engine.inspect(files)
    counted = {file.name: rows for file, rows in zip(files, inspection.rows, strict=True)}
    described = tuple(dataclasses.replace(file, rows=counted[file.name]) for file in describe(folder))
    manifest = _manifest(task, output, described, inputs)
    manifest = dataclasses.replace(manifest, columns=inspection.columns, checks=checks)
    return manifest, engine.preview(files, _PREVIEW_ROWS)


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
        published=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        files=files,
        inputs=tuple(inputs),
        fingerprint=task.fingerprint,
        hash=content_hash(files),
    )


def _previous(datastore: Datastore, output: Output) -> Partition | None:
    """Give the partition before the output's, or the output's own as it is now where it is the first."""
    earlier = [ds for ds in datastore.partitions("table", output.name) if ds < output.ds]
    return datastore.partition("table", output.name, earlier[-1] if earlier else output.ds)


def _schema_changes(old: Sequence[Column], new: Sequence[Column]) -> tuple[str, ...]:
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
