"""Putting the sample of one partition into place: drawn by DuckDB into staging, then published as a run publishes."""

from __future__ import annotations

import dataclasses
import datetime as dt
import secrets
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dsflow.engines.contract import Engine
from dsflow.engines.literals import literal
from dsflow.errors import JobFailed
from dsflow.model import Fingerprint, InputUsed, Manifest, Output
from dsflow.sampling.drawing import Rule, select, values_of
from dsflow.store.layout import Layout
from dsflow.store.publishing import Staging, content_hash, describe

# What a manifest calls the one who wrote a sample; no job can have this name.
FETCHED = "sample fetch"
_SOURCE = "source"


@dataclass(frozen=True, kw_only=True)
class Piece:
    """One partition of a source.

    Attributes:
        output: Where its sample goes.
        files: What it is drawn from.
        format: How those are read.
        rule: What the sample is.
        inputs: What the manifest says that it was made from.
        fingerprint: What it was made with.
        options: For the reader.
    """

    output: Output
    files: Sequence[Path]
    format: str
    rule: Rule
    inputs: tuple[InputUsed, ...]
    fingerprint: Fingerprint
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def copy(layout: Layout, engine: Engine, piece: Piece) -> Manifest:
    """Draw the sample of a partition and publish it; until then the one that was there stays.

    Args:
        layout: The datastore of samples.
        engine: A session of DuckDB; the tables that the rule names are in it.
        piece: The partition.

    Raises:
        JobFailed: the files cannot be read, or the rule does not fit their columns.
        PartitionLocked: somebody else is writing this sample.
        EnvironmentMissing: the disk is full.
    """
    output = piece.output
    run_id = f"{dt.datetime.now(dt.UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(3)}"
    with Staging(layout, run_id, output, FETCHED) as staging:
        write = _copy_files if _as_they_are(piece) else _draw_rows if output.store == "table" else _draw_raw
        write(engine, piece, staging.folder, run_id)
        files = describe(staging.folder)
        manifest = Manifest(
            run_id=run_id,
            job=FETCHED,
            store=output.store,
            name=output.name,
            ds=output.ds,
            kind=output.kind,
            published=dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds"),
            files=files,
            inputs=piece.inputs,
            fingerprint=piece.fingerprint,
            hash=content_hash(files),
        )
        manifest = _described(engine, manifest, staging.folder) if output.store == "table" else manifest
        staging.publish(manifest)
    return manifest


def keep_values(engine: Engine, name: str, columns: Sequence[str], files: Sequence[Path]) -> None:
    """Make the table of values that a key must be in.

    Args:
        engine: A session of DuckDB.
        name: What the table is called: an element of `Rule.of`.
        columns: The columns that are the key in these files.
        files: Parquet files.

    Raises:
        JobFailed: they have no such columns.
    """
    engine.view(f"{name} files", engine.read(files, "parquet", with_ds=True, options={}))
    engine.sql(f'CREATE OR REPLACE TEMP TABLE "{name}" AS {values_of(columns, f"{name} files")}')


def _as_they_are(piece: Piece) -> bool:
    return piece.rule.is_whole and (piece.output.store == "raw" or piece.format == "parquet")


def _copy_files(engine: Engine, piece: Piece, folder: Path, run_id: str) -> None:
    for number, file in enumerate(piece.files):
        name = file.name if piece.output.store == "raw" else f"{run_id}-part-{number}.parquet"
        shutil.copyfile(file, folder / name)


def _draw_rows(engine: Engine, piece: Piece, folder: Path, run_id: str) -> None:
    engine.write(_drawn(engine, piece), folder / f"{run_id}-part-0.parquet", piece.output.ds)


def _draw_raw(engine: Engine, piece: Piece, folder: Path, run_id: str) -> None:
    """Write rows of raw data in the format in which they were."""
    formats = {"csv": "FORMAT csv, HEADER", "json": "FORMAT json", "parquet": "FORMAT parquet, COMPRESSION zstd"}
    if piece.format not in formats:
        hint = "Leave `filter` and `sample` out: then it is copied as it is."
        raise JobFailed(f"raw dataset {piece.output.name!r} is {piece.format}, of which no rows can be drawn", hint)
    _drawn(engine, piece)
    path = folder / f"{piece.files[0].name.split('.')[0] or 'part'}.{piece.format}"
    engine.sql(f"COPY ({select(piece.rule, _SOURCE)}) TO {literal(str(path))} ({formats[piece.format]})")


def _drawn(engine: Engine, piece: Piece) -> Any:
    with_ds = piece.output.store == "table" and all(f"ds={piece.output.ds}" in file.parts for file in piece.files)
    engine.view(_SOURCE, engine.read(piece.files, piece.format, with_ds=with_ds, options=piece.options))
    return engine.sql(select(piece.rule, _SOURCE))


def _described(engine: Engine, manifest: Manifest, folder: Path) -> Manifest:
    inspection = engine.inspect([folder / file.name for file in manifest.files])
    counted = zip(manifest.files, inspection.rows, strict=True)
    files = tuple(dataclasses.replace(file, rows=rows) for file, rows in counted)
    return dataclasses.replace(manifest, files=files, columns=inspection.columns)
