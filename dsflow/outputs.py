"""From what a job left in its staging folder to a published partition: name, count, check, describe, publish."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from dsflow import conditions, quality
from dsflow.engines.contract import Engine
from dsflow.engines.registry import open_engine, prepare
from dsflow.errors import JobFailed, NotShared
from dsflow.inputs import partitions_of, used
from dsflow.model import (
    QUARANTINE,
    Check,
    Column,
    Expectation,
    File,
    InputUsed,
    Manifest,
    Output,
    Published,
    Task,
)
from dsflow.quality import Subject
from dsflow.shortforms import PREVIOUS
from dsflow.store.datastore import Datastore, Partition
from dsflow.store.publishing import Staging, describe, manifest_of

_FIRST_ROWS = 20
# What Spark and its friends leave beside their data.
_MARKERS = ("_SUCCESS", "_committed_", "_started_", ".crc", "._SUCCESS")


def load(task: Task) -> None:
    """Load what `publish` will need for a task beside its engine."""
    if task.expectations:
        conditions.load()


def prepare_engine(task: Task) -> None:
    """Make the engine ready that `publish` will need for a task, in a process that will be forked."""
    if task.output is not None and task.output.store == "table":
        prepare(task.engine)


@dataclass(frozen=True, kw_only=True)
class Examined:
    """What is staged for a table and fit to be published.

    Attributes:
        files: Its files.
        columns: Its columns.
        checks: The verdicts on its expectations.
        first: Its first rows as text.
        inputs: The partitions in which expectations looked up values.
        previous: What the partition is compared with: the one before it, or itself as it is now.
        aside: The partition of its quarantine, where one is published with it.
    """

    files: tuple[File, ...]
    columns: tuple[Column, ...]
    checks: tuple[Check, ...]
    first: tuple[tuple[str, ...], ...]
    inputs: tuple[InputUsed, ...] = ()
    previous: Manifest | None = None
    aside: Manifest | None = None


def examine(task: Task, staging: Staging, datastore: Datastore, engine: Engine) -> Examined:
    """Name, count, check and describe what a job staged for a table; rows that are to be dropped are set aside.

    Args:
        task: The task.
        staging: What it staged.
        datastore: Where it will be published, and what it is compared with.
        engine: A session to do it with.

    Raises:
        JobFailed: nothing was staged, or files that do not belong into a table.
        ExpectationFailed: staged rows broke an expectation.
    """
    assert task.output is not None
    folder = staging.folder
    files = _table_files(folder, task.run_id, task.output.name, elsewhere=_elsewhere(task))
    inspection = engine.inspect(files, _FIRST_ROWS)
    sources, inputs = _sources(task.expectations, datastore)
    previous = _previous(datastore, task.output)
    subject = Subject(
        table=task.output.name,
        files=files,
        columns=inspection.columns,
        sources=sources,
        previous=previous.columns if previous else None,
        engine=task.engine,
    )
    checks = quality.judge(engine, subject, task.expectations) if task.expectations else ()
    aside = None
    if any(check.verdict == "dropped" for check in checks):
        quality.refuse([check for check in checks if check.per == "row"])
        files, aside = _set_aside(task, staging, engine, subject, checks)
        inspection = engine.inspect(files, _FIRST_ROWS)
        left = dataclasses.replace(subject, files=files)
        checks = quality.judge_rest(engine, left, task.expectations, checks)
    elif datastore.target("table", task.output.name + QUARANTINE, task.output.ds).is_dir():
        # What an earlier run dropped is no longer true.
        aside = _quarantine(task, staging, engine, partial(quality.nothing_dropped, engine, subject))
    quality.refuse(checks)
    counted = {file.name: rows for file, rows in zip(files, inspection.rows, strict=True)}
    return Examined(
        files=tuple(dataclasses.replace(file, rows=counted[file.name]) for file in describe(folder)),
        columns=inspection.columns,
        checks=checks,
        first=inspection.first,
        inputs=inputs,
        previous=previous,
        aside=aside,
    )


def _set_aside(
    task: Task, staging: Staging, engine: Engine, subject: Subject, checks: Sequence[Check]
) -> tuple[list[Path], Manifest]:
    """Leave out of the staged files the rows that are dropped; give the files of the others and the quarantine."""
    kept = staging.folder / f"{task.run_id}-part-kept.parquet"
    aside = _quarantine(
        task, staging, engine, partial(quality.separate, engine, subject, task.expectations, checks, kept)
    )
    for file in subject.files:
        file.unlink()
    return [kept.rename(staging.folder / f"{task.run_id}-part-0.parquet")], aside


def _quarantine(task: Task, staging: Staging, engine: Engine, write: Callable[[Path], None]) -> Manifest:
    """Stage the partition of a quarantine and describe it.

    Args:
        task: The task.
        staging: Its staging.
        engine: A session to count with.
        write: Writes the rows into a file.
    """
    assert task.output is not None
    output = dataclasses.replace(task.output, name=task.output.name + QUARANTINE)
    folder = staging.aside(output)
    file = folder / f"{task.run_id}-part-0.parquet"
    write(file)
    inspection = engine.inspect([file])
    files = tuple(dataclasses.replace(one, rows=inspection.rows[0]) for one in describe(folder))
    return dataclasses.replace(_manifest(task, output, files, ()), columns=inspection.columns, fingerprint=None)


def _sources(
    expectations: Sequence[Expectation], datastore: Datastore
) -> tuple[dict[str, Sequence[Path]], tuple[InputUsed, ...]]:
    """Give the files of the tables that expectations name, and the partitions that were used.

    What came before a partition is nothing that the partition is made from.
    """
    files: dict[str, Sequence[Path]] = {}
    inputs: dict[InputUsed, None] = {}
    for source in {source.name: source for one in expectations for source in one.sources}.values():
        if source.name.endswith(PREVIOUS):
            found = datastore.newest("table", source.target, source.as_of)
            if found and found.files and (found.manifest is None or found.manifest.rows):
                files[source.name] = found.files
            continue
        partitions = partitions_of(source, datastore)
        files[source.name] = [file for partition in partitions for file in partition.files]
        if not files[source.name]:
            raise JobFailed(f"table {source.target}, in which an expectation looks up values, has no files")
        inputs |= dict.fromkeys(used(source, partitions))
    return files, tuple(inputs)


def publish(
    task: Task, staging: Staging, datastore: Datastore, inputs: Sequence[InputUsed], examined: Examined | None = None
) -> tuple[Published, Examined | None]:
    """Check what a job staged, unless that is done, and swap it into place.

    Gives the published partition and, for a table, what was found in it before.

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
            examined = examine(task, staging, datastore, engine)
        finally:
            engine.close()
    manifest = _manifest(task, output, examined.files, [*inputs, *examined.inputs])
    # A manifest outlives the rows; examples of them would stay in it.
    checks = tuple(dataclasses.replace(check, examples=()) for check in examined.checks)
    manifest = dataclasses.replace(manifest, columns=examined.columns, checks=checks)
    staging.publish(manifest, examined.aside)
    old = examined.previous
    changes = schema_changes(old.columns, manifest.columns) if old else ()
    published = Published(
        manifest=manifest,
        schema_changes=changes,
        previous_ds=old.ds if old else None,
        quarantined=(examined.aside.rows or 0) if examined.aside else 0,
    )
    return published, examined


def review(
    expectations: Sequence[Expectation], partition: Partition, datastore: Datastore, engine: Engine, words: str
) -> tuple[Check, ...]:
    """Give the verdict on each expectation over what is published, as if it were staged now.

    Args:
        expectations: What is expected of the table.
        partition: A partition of it.
        datastore: What it is compared with.
        engine: A session to do it with.
        words: The engine whose words the types of the partition's columns are in.

    Raises:
        JobFailed: an expectation does not fit the columns, or what it looks at is not there.
    """
    sources, _ = _sources(expectations, datastore)
    manifest = partition.manifest
    previous = _previous(datastore, Output(store="table", name=partition.name, ds=partition.ds))
    before = previous if previous and previous.ds < partition.ds else None
    subject = Subject(
        table=partition.name,
        files=partition.files,
        columns=manifest.columns if manifest else engine.inspect(partition.files).columns,
        sources=sources,
        previous=before.columns if before else None,
        engine=words,
    )
    return quality.judge(engine, subject, expectations)


def _elsewhere(task: Task) -> str:
    """Give where Spark computes for a task, or an empty text where that is this machine."""
    master = task.spark.settings.get("spark.master", "local")
    there = task.spark.remote or ("" if master.startswith("local") else master)
    return there if task.engine == "spark" else ""


def _table_files(folder: Path, run_id: str, table: str, *, elsewhere: str) -> list[Path]:
    """Give the staged Parquet files under their final names `RUN-part-N.parquet`; markers of engines are removed."""
    staged = sorted(path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    said_done = any(path.name == "_SUCCESS" for path in staged)
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
    if not data and said_done:
        raise NotShared(folder)
    if not data and elsewhere:
        raise JobFailed(
            f"the job wrote nothing for table {table}, or {elsewhere} wrote it to a disk that is not this machine's",
            "The datastore has to be on storage that the cluster and this machine both have, under the same path.",
        )
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
    return manifest_of(output, files, run_id=task.run_id, job=task.job, inputs=inputs, fingerprint=task.fingerprint)


def _previous(datastore: Datastore, output: Output) -> Manifest | None:
    """Give the manifest of the partition before the output's, or of its own as it is now where it is the first."""
    before = datastore.before("table", output.name, output.ds)
    found = before or datastore.partition("table", output.name, output.ds)
    return found.manifest if found else None


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
