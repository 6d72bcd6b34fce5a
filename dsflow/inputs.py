"""Turns a task's declared inputs into the exact partitions that exist, and into rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dsflow.engines.contract import Engine
from dsflow.errors import JobFailed
from dsflow.model import Input, InputUsed, Output
from dsflow.store.contents import glance
from dsflow.store.datastore import Datastore, Partition

# What a run folder holds of inputs that are addresses, while the run goes on.
FETCHED = "fetched-"
_FORMATS = {
    ".parquet": "parquet",
    ".csv": "csv",
    ".tsv": "csv",
    ".json": "json",
    ".jsonl": "json",
    ".ndjson": "json",
    ".txt": "text",
    ".log": "text",
}
_COMPRESSED = {".gz", ".zst"}


def partitions_of(source: Input, datastore: Datastore) -> list[Partition]:
    """Give the partitions an input stands for, oldest first; none for a path.

    One wanted partition must exist. Of a window, those that exist are taken, and there must be one; of the partitions
    after ds (`later`) those that exist. With `as_of` it is the newest at or before that ds.

    Raises:
        JobFailed: there is nothing to read; the message says what exists.
    """
    if source.kind == "path":
        return []
    if source.as_of is not None:
        newest = datastore.newest(source.kind, source.target, source.as_of)
        return [newest] if newest else datastore.select(source.kind, source.target, [source.as_of])
    if not _is_window(source):
        return datastore.select(source.kind, source.target, source.partitions)
    there = set(datastore.partitions(source.kind, source.target))
    wanted = source.partitions
    if len(wanted) > 1:
        wanted = tuple(ds for ds in wanted if ds in there) or wanted[-1:]
    late = [ds for ds in source.later if ds in there]
    return datastore.select(source.kind, source.target, [*wanted, *late])


def nothing_before(output: Output) -> InputUsed:
    """Give what a run's record says where its partition was the first one: another may come before it later."""
    return InputUsed(name="is_first", kind=output.store, target=output.name)


def used(source: Input, partitions: Sequence[Partition]) -> tuple[InputUsed, ...]:
    """Give what the run's record says about an input: one entry per partition, or one for a path."""
    if source.kind == "path":
        return (InputUsed(name=source.name, kind=source.kind, target=source.target),)
    return tuple(_used(source, partition) for partition in partitions)


def _used(source: Input, partition: Partition) -> InputUsed:
    manifest = partition.manifest
    seen = None if manifest else glance(partition.folder, deep=partition.store == "raw")
    return InputUsed(
        name=source.name,
        kind=source.kind,
        target=source.target,
        ds=partition.ds,
        hash=manifest.hash if manifest else seen and seen.hash,
        rows=manifest.rows if manifest else None,
        bytes=manifest.bytes if manifest else seen and seen.bytes,
        run_id=manifest.run_id if manifest else None,
    )


def stamp(target: str, data: Path, job_folder: Path) -> str | None:
    """Give what changes with the files at a path: from their sizes and times. None for a URL, and where nothing is."""
    place = local(target, data).removeprefix("file://")
    if "://" in place:
        return None
    path = job_folder / place
    try:
        if path.is_dir():
            return glance(path, deep=True).hash
        state = path.stat()
    except (OSError, ValueError):
        return None
    return f"~{state.st_size}-{state.st_mtime_ns}"


def location(source: Input, partitions: Sequence[Partition], data: Path) -> str:
    """Give the one place that stands for an input: a partition's folder, the folder above several, a file or URL."""
    if source.kind == "path":
        return local(source.target, data)
    return str(partitions[0].folder if len(partitions) == 1 else partitions[0].folder.parent)


def local(target: str, data: Path) -> str:
    """Give a path or URL with `/data/...`, the datastore as jobs write it, put where the datastore really is."""
    for prefix in ("/data/", "file:///data/"):
        if target.startswith(prefix):
            rest = target.removeprefix(prefix)
            return prefix.removesuffix("/data/") + f"{data}/{rest}"
    return str(data) if target == "/data" else target


def rows_of(
    source: Input, partitions: Sequence[Partition], engine: Engine, data: Path, run_folder: Path | None = None
) -> Any:
    """Give the rows of an input as the engine's lazy table; tables and windows have a column `ds`.

    Args:
        source: The input.
        partitions: What it stands for.
        engine: Who reads.
        data: The datastore.
        run_folder: Where files go that must be fetched first; the run takes them away in its end.

    Raises:
        JobFailed: there are no files, their format is unknown, or they cannot be read.
    """
    files: list[Path]
    if source.kind == "path":
        files = _files_at(location(source, partitions, data), run_folder)
    else:
        files = [file for partition in partitions for file in partition.files]
    what = f"{source.kind} {source.target}"
    if not files:
        raise JobFailed(f"input {source.name!r}: {what} has no files", f"Look at {location(source, partitions, data)}.")
    format = source.format or _format(files[0], source)
    with_ds = source.kind == "table" or _is_window(source)
    return engine.read(files, format, with_ds=with_ds, options=source.options, alike=_are_alike(partitions))


def _are_alike(partitions: Sequence[Partition]) -> bool:
    """Say whether the files of some partitions are known to have the same columns."""
    columns = {partition.manifest.columns if partition.manifest else () for partition in partitions}
    return len(columns) == 1 and columns != {()}


def _is_window(source: Input) -> bool:
    return len(source.partitions) + len(source.later) > 1


def _files_at(place: str, run_folder: Path | None) -> list[Path]:
    if "://" in place and not place.startswith("file://"):
        import tempfile

        from dsflow.sources.download import fetch

        return fetch(place, Path(tempfile.mkdtemp(prefix=FETCHED, dir=run_folder)))
    path = Path(place.removeprefix("file://"))
    if path.is_dir():
        return sorted(file for file in path.rglob("*") if file.is_file() and not file.name.startswith((".", "_")))
    if not path.exists():
        raise JobFailed(f"{path} does not exist", "Check the input's `path`.")
    return [path]


def format_of(file: Path) -> str | None:
    """Give how a file is read by its name, or None where that does not say."""
    suffixes = [suffix.lower() for suffix in file.suffixes if suffix.lower() not in _COMPRESSED]
    return _FORMATS.get(suffixes[-1] if suffixes else "")


def _format(file: Path, source: Input) -> str:
    format = format_of(file)
    if format is None:
        raise JobFailed(
            f"input {source.name!r}: cannot tell the format of {file.name}",
            f"Write `format: csv`, `json`, `parquet` or `text` into inputs.{source.name} of job_specs.yaml.",
        )
    return format
