"""What a test gives its job: rows and files, laid out in a datastore of its own as the job will look for them."""

from __future__ import annotations

import dataclasses
import gzip
import json
import secrets
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from dsflow.engines.duckdb import DuckDB
from dsflow.engines.literals import identifier
from dsflow.errors import UsageError, did_you_mean
from dsflow.model import Input, Output, Task
from dsflow.specs.load import JobSpec
from dsflow.specs.testfile import GivenSpec, TestFile
from dsflow.store.contents import describe, manifest_of
from dsflow.store.datastore import Datastore
from dsflow.store.publishing import Staging
from dsflow.testing import rows

_OPTIONS_OF_FORMATS = {"csv": "csv", "json": "json", "text": "txt", "parquet": "parquet"}


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Where a test is set up.

    Attributes:
        datastore: The throwaway datastore.
        folder: The folder that the test's own files are in.
        job_folder: The job's folder.
        engine: Who writes rows.
        kind: Gives what a table holds, by its name: facts, or a snapshot per ds.
        where: How messages call the test.
    """

    datastore: Datastore
    folder: Path
    job_folder: Path
    engine: DuckDB
    kind: Callable[[str], Literal["fct", "dim"]]
    where: str


def is_first(job: JobSpec, test: TestFile) -> bool:
    """Say whether a test gives nothing of what its job makes: then it is about the first partition."""
    own = job.output.table or job.output.raw if job.output else None
    names = {name for name, spec in job.inputs.items() if own in (spec.table, spec.raw)} | {own, f"raw.{own}"}
    return names.isdisjoint(test.inputs)


def lay_out(task: Task, test: TestFile, stage: Stage) -> Task:
    """Put what a test gives where its job will look for it, and give the task as it then is.

    Raises:
        UsageError: an input is no input, an address is not given, or rows do not fit.
        JobFailed: a value is not of its column's type.
    """
    declared = {source.name: source for source in task.inputs}
    moved: dict[str, Input] = {}
    for name, given in test.inputs.items():
        where = f"{stage.where}: inputs.{name}"
        source = declared.get(name)
        if source is not None and source.kind == "path":
            moved[name] = dataclasses.replace(source, target=_at_path(source, given, stage, where))
        else:
            _in_datastore(source or _undeclared(name, task), given, task, stage, where)
    for source in task.inputs:
        if source.kind == "path" and source.name not in moved and _is_elsewhere(source.target):
            raise UsageError(
                f"{stage.where}: the job reads {source.target[:80]}, and the test does not give it",
                f"A test asks nobody else for data: give inputs.{source.name} a `file`, `text` or `rows`.",
            )
    return _with_inputs(task, moved)


def _undeclared(name: str, task: Task) -> Input:
    """Give what a name stands for that only the job's code knows: `raw.NAME`, or a table."""
    kind: Literal["table", "raw"] = "raw" if name.startswith("raw.") else "table"
    target = name.removeprefix("raw.")
    return Input(name=name, kind=kind, target=target, partitions=(task.ds,))


def _with_inputs(task: Task, moved: dict[str, Input]) -> Task:
    inputs = tuple(moved.get(source.name, source) for source in task.inputs)
    specs = task.task_specs
    if "source" in moved and "source_path" in specs:
        specs = {**specs, "source_path": moved["source"].target}
    return dataclasses.replace(task, inputs=inputs, task_specs=specs)


def _is_elsewhere(target: str) -> bool:
    return target.startswith(("/", "file:")) or "://" in target


def _in_datastore(source: Input, given: GivenSpec, task: Task, stage: Stage, where: str) -> None:
    assert source.kind != "path"
    if given.rows is None and given.partitions is None and source.kind == "raw":
        folder = stage.datastore.target("raw", source.target, _usual(source, task))
        folder.mkdir(parents=True, exist_ok=True)
        _put_file(folder, source, given, stage, where)
        return
    _check_columns(given, where)
    for ds, part in given.parts(_usual(source, task)).items():
        place = f"{where}.partitions.{ds}" if given.partitions is not None else where
        if source.kind == "raw":
            folder = stage.datastore.target("raw", source.target, ds)
            folder.mkdir(parents=True, exist_ok=True)
            _put_rows(folder, source, part, given, stage, place)
        else:
            _publish(source.target, ds, part, given, stage, place)


def _check_columns(given: GivenSpec, where: str) -> None:
    known = {name for part in given.parts("").values() for row in part for name in row}
    for name in given.columns if known else ():
        if name not in known:
            raise UsageError(f"{where}: columns: no row has a column {name!r}{did_you_mean(name, known)}")


def _types(part: tuple[rows.Row, ...], given: GivenSpec) -> dict[str, str]:
    """Give the types of the columns that a partition has; one without rows has all of them."""
    there = {name for row in part for name in row} or given.columns.keys()
    return {name: type_ for name, type_ in given.columns.items() if name in there}


def _usual(source: Input, task: Task) -> str:
    """Give the partition that rows without one go to: the last one that the run reads anyway."""
    return source.as_of or (source.partitions[-1] if source.partitions else task.ds)


def _publish(table: str, ds: str, part: tuple[rows.Row, ...], given: GivenSpec, stage: Stage, where: str) -> None:
    """Publish a partition of a table, so that the job finds whatever a real one has."""
    run_id = f"given-{secrets.token_hex(4)}"
    output = Output(store="table", name=table, ds=ds, kind=stage.kind(table))
    with Staging(stage.datastore, run_id, output, "test") as staging:
        path = staging.folder / f"{run_id}-part-0.parquet"
        if given.file is None:
            rows.write_parquet(stage.engine, part, _types(part, given), path, where)
        else:
            _copy_as_parquet(_own_file(given.file, stage, where), given, path, stage, where)
        files = describe(staging.folder)
        inspected = stage.engine.inspect([path])
        counted = tuple(dataclasses.replace(file, rows=sum(inspected.rows)) for file in files)
        manifest = manifest_of(output, counted, run_id=run_id, job="test", columns=inspected.columns)
        staging.publish(manifest)


def _copy_as_parquet(file: Path, given: GivenSpec, path: Path, stage: Stage, where: str) -> None:
    found = rows.read_any(stage.engine, file, where)
    missing = [name for name in given.columns if name not in found.columns]
    if missing:
        guess = did_you_mean(missing[0], found.columns)
        raise UsageError(f"{where}: columns: {file.name} has no column {missing[0]!r}{guess}")
    casts = [f"CAST({identifier(name)} AS {type_}) AS {identifier(name)}" for name, type_ in given.columns.items()]
    typed = found.project(f"* REPLACE ({', '.join(casts)})") if casts else found
    stage.engine.write(typed, path, path.parent.name.removeprefix("ds="))


def _at_path(source: Input, given: GivenSpec, stage: Stage, where: str) -> str:
    """Put what is given at the place a path names below /data, or anywhere for any other; give the new target."""
    if given.partitions is not None:
        raise UsageError(f"{where}: {source.target[:60]} has no partitions", "Give `rows`, `file` or `text`.")
    inside = source.target.removeprefix("file://")
    if inside.startswith("/data/"):
        place = stage.datastore.root / inside.removeprefix("/data/")
        target = source.target
    else:
        name = source.target.split("?")[0].rstrip("/").rsplit("/", 1)[-1] or "data"
        # Below /data too, which is where a container sees it.
        place = stage.datastore.root / "given" / source.name / name
        target = f"{'file://' if '://' in source.target else ''}/data/given/{source.name}/{name}"
    stage.datastore.check_inside(place)
    place.parent.mkdir(parents=True, exist_ok=True)
    if given.file is not None:
        _copy(_own_file(given.file, stage, where), place)
    elif given.text is not None:
        _write(place, given.text)
    else:
        _put_rows(place.parent, source, given.rows or (), given, stage, where, name=place.name)
    return target


def _put_file(folder: Path, source: Input, given: GivenSpec, stage: Stage, where: str) -> None:
    if given.file is not None:
        file = _own_file(given.file, stage, where)
        _copy(file, folder / file.name) if file.is_file() else shutil.copytree(file, folder, dirs_exist_ok=True)
        return
    _write(folder / f"data.{_OPTIONS_OF_FORMATS[source.format or 'text']}", given.text or "")


def _put_rows(
    folder: Path,
    source: Input,
    part: tuple[rows.Row, ...],
    given: GivenSpec,
    stage: Stage,
    where: str,
    name: str | None = None,
) -> None:
    format_ = source.format or _format_of(name) or "json"
    path = folder / (name or f"data.{_OPTIONS_OF_FORMATS[format_]}")
    if format_ == "parquet":
        rows.write_parquet(stage.engine, part, _types(part, given), path, where)
    elif format_ == "text":
        raise UsageError(f"{where}: text has no rows", "Give `text`.")
    else:
        _write(path, rows.csv_text(part, source.options) if format_ == "csv" else rows.json_text(part))


def _format_of(name: str | None) -> str | None:
    suffixes = [part for part in (name or "").lower().split(".")[1:] if part not in ("gz", "zst")]
    known = {"csv": "csv", "tsv": "csv", "json": "json", "jsonl": "json", "ndjson": "json", "parquet": "parquet"}
    return known.get(suffixes[-1]) if suffixes else None


def _own_file(name: str, stage: Stage, where: str) -> Path:
    """Give a file that a test names, which lies in the job's folder.

    Raises:
        UsageError: it is not there, or lies elsewhere.
    """
    path = stage.folder / name
    if not path.resolve().is_relative_to(stage.job_folder.resolve()):
        raise UsageError(f"{where}: {name[:60]!r} is outside the job's folder", "Put the file beside the test.")
    if not path.exists():
        there = [file.name for file in stage.folder.iterdir()] if stage.folder.is_dir() else []
        raise UsageError(f"{where}: there is no file {name[:60]!r} beside the test{did_you_mean(name, there)}")
    return path


def _copy(file: Path, place: Path) -> None:
    if place.suffix == ".gz" and file.suffix != ".gz":
        place.write_bytes(gzip.compress(file.read_bytes(), mtime=0))
    else:
        shutil.copyfile(file, place)


def _write(place: Path, text: str) -> None:
    data = text.encode("utf-8")
    place.write_bytes(gzip.compress(data, mtime=0) if place.suffix == ".gz" else data)


def parameters_as_text(test: TestFile) -> dict[str, str]:
    """Give the parameters of a test as the command line would: `-p NAME=VALUE`."""
    return {name: _text(value) for name, value in test.parameters.items()}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
