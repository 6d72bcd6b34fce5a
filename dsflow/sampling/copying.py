"""Putting the sample of one partition into place: drawn by DuckDB into staging, then published as a run publishes."""

from __future__ import annotations

import dataclasses
import datetime as dt
import os
import secrets
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dsflow.engines.contract import Engine
from dsflow.engines.literals import literal
from dsflow.errors import JobFailed
from dsflow.inputs import format_of
from dsflow.model import Fingerprint, InputUsed, Manifest, Output
from dsflow.sampling.drawing import Rule, select, values_of
from dsflow.store.layout import Layout
from dsflow.store.publishing import Staging, describe, manifest_of

# What a manifest calls the one who wrote a sample; no job can have this name.
FETCHED = "sample fetch"
_SOURCE = "source"
# How raw data is written back.
_FORMATS = {"csv": "FORMAT csv, HEADER", "json": "FORMAT json", "parquet": "FORMAT parquet, COMPRESSION zstd"}


@dataclass(frozen=True, kw_only=True)
class Piece:
    """One partition of a source.

    Attributes:
        output: Where its sample goes.
        bring: Gives the files that it is drawn from; what comes from elsewhere goes into the folder that it is given.
        format: How those are read, where their names do not say.
        rule: What the sample is.
        inputs: What the manifest says that it was made from.
        fingerprint: What it was made with.
    """

    output: Output
    bring: Callable[[Path], Sequence[Path]]
    format: str | None
    rule: Rule
    inputs: tuple[InputUsed, ...]
    fingerprint: Fingerprint


def copy(layout: Layout, engine: Engine, piece: Piece) -> tuple[Manifest, int | None]:
    """Draw the sample of a partition and publish it; until then the one that was there stays.

    Gives its manifest, and the number of rows that it was drawn from where that costs nothing.

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
        drawn = _Drawing(engine, piece, piece.bring(layout.run_folder(run_id) / "fetched"))
        drawn.write(staging.folder, run_id)
        files = describe(staging.folder)
        manifest = manifest_of(
            output, files, run_id=run_id, job=FETCHED, inputs=piece.inputs, fingerprint=piece.fingerprint
        )
        manifest = _described(engine, manifest, staging.folder) if output.store == "table" else manifest
        there = drawn.there()
        staging.publish(manifest)
    return manifest, there


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


def kept_values(engine: Engine, name: str) -> list[tuple[Any, ...]]:
    """Give the columns of a table that `keep_values` made."""
    return list(zip(*engine.sql(f'SELECT * FROM "{name}"').fetchall(), strict=True)) or [()]


class _Drawing:
    """A sample on its way out of some files."""

    def __init__(self, engine: Engine, piece: Piece, files: Sequence[Path]) -> None:
        self._engine = engine
        self._piece = piece
        self._files = files
        self._format = piece.format or format_of(files[0])

    def write(self, folder: Path, run_id: str) -> None:
        """Write it."""
        piece = self._piece
        is_table = piece.output.store == "table"
        if piece.rule.is_whole and (not is_table or self._format == "parquet"):
            # Files in sub-folders may have the same names.
            base = os.path.commonpath([file.parent for file in self._files])
            for number, file in enumerate(self._files):
                name = f"{run_id}-part-{number}.parquet" if is_table else str(file.relative_to(base))
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, folder / name)
        elif is_table:
            self._open()
            drawn = self._engine.sql(select(piece.rule, _SOURCE))
            self._engine.write(drawn, folder / f"{run_id}-part-0.parquet", piece.output.ds)
        else:
            self._write_raw(folder)

    def there(self) -> int | None:
        """Give how many rows there were to draw from, where footers say so."""
        if self._format != "parquet":
            return None
        return sum(sum(self._engine.inspect([file]).rows) for file in self._files)

    def _write_raw(self, folder: Path) -> None:
        """Write rows of raw data in the format in which they were."""
        if self._format not in _FORMATS:
            hint = "Leave `filter` and `sample` out: then it is copied as it is."
            raise JobFailed(f"no rows can be drawn from {self._files[0].name}", hint)
        self._open()
        path = folder / f"{self._files[0].name.split('.')[0] or 'part'}.{self._format}"
        rows = select(self._piece.rule, _SOURCE)
        self._engine.sql(f"COPY ({rows}) TO {literal(str(path))} ({_FORMATS[self._format]})")

    def _open(self) -> None:
        ds = f"ds={self._piece.output.ds}"
        with_ds = self._piece.output.store == "table" and all(ds in file.parts for file in self._files)
        if self._format is None:
            raise JobFailed(f"cannot tell the format of {self._files[0].name}", "Give the source a `format`.")
        self._engine.view(_SOURCE, self._engine.read(self._files, self._format, with_ds=with_ds, options={}))


def _described(engine: Engine, manifest: Manifest, folder: Path) -> Manifest:
    inspection = engine.inspect([folder / file.name for file in manifest.files])
    counted = zip(manifest.files, inspection.rows, strict=True)
    files = tuple(dataclasses.replace(file, rows=rows) for file, rows in counted)
    return dataclasses.replace(manifest, files=files, columns=inspection.columns)
