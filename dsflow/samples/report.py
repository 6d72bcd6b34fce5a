"""What the samples of a workspace hold: rows, bytes, and how many rows find what their keys refer to."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dsflow.engines.registry import open_engine
from dsflow.samples.fetching import Samples
from dsflow.sampling.keys import quoted
from dsflow.specs.load import WorkspaceSpec
from dsflow.store.datastore import Datastore
from dsflow.store.layout import Store

_Ask = Callable[[str], tuple[int, ...]]


@dataclass(frozen=True, kw_only=True)
class Held:
    """The sample of one source.

    Attributes:
        name: The source, or what the sample is of where that is no source any more.
        store: Whether it is a table or a raw dataset.
        dataset: Its name.
        dates: Its partitions, oldest first.
        rows: Its rows, where they are counted.
        bytes: Its bytes.
        files: Its files and manifests, for whoever copies or commits them.
    """

    name: str
    store: Store
    dataset: str
    dates: tuple[str, ...]
    rows: int | None
    bytes: int
    files: tuple[Path, ...]


@dataclass(frozen=True, kw_only=True)
class Join:
    """How many rows of one sample find the row of another that their key refers to."""

    key: str
    child: str
    parent: str
    rows: int
    joined: int


def held(samples: Samples) -> list[Held]:
    """Give the samples that have been fetched."""
    datastore = Datastore(samples.layout.root)
    stores: tuple[Store, ...] = ("table", "raw")
    found = []
    for store in stores:
        for dataset in datastore.names(store):
            source = samples.sources.of(store, dataset)
            entries = {ds: entry for ds, entry in samples.entries(source).items() if samples.is_fetched(entry)}
            if entries:
                rows = [entry.rows for entry in entries.values() if entry.rows is not None]
                parts = datastore.select(store, dataset, entries)
                manifests = [datastore.manifest(store, dataset, ds) for ds in entries]
                found.append(
                    Held(
                        name=source.label,
                        store=store,
                        dataset=dataset,
                        dates=tuple(entries),
                        rows=sum(rows) if rows else None,
                        bytes=sum(entry.bytes for entry in entries.values()),
                        files=(*(file for part in parts for file in part.files), *manifests),
                    )
                )
    return found


def joins(samples: Samples, settings: WorkspaceSpec) -> list[Join]:
    """Give how the samples of the workspace's `keys` join.

    Of the columns of a key the ones whose values name a row are what the others refer to.

    Raises:
        JobFailed: a sample has no such column.
    """
    tables = {one.name: [file for file in one.files if file.suffix == ".parquet"] for one in held(samples)}
    found: list[Join] = []
    with contextlib.closing(open_engine("duckdb")) as engine:
        for name, files in tables.items():
            engine.view(name, engine.read(files, "parquet", with_ds=True, options={}))

        def ask(query: str) -> tuple[int, ...]:
            return tuple(engine.sql(query).fetchall()[0])

        for key, columns in settings.keys.items():
            sides = dict(_sides(columns, tables))
            unique = [name for name, own in sides.items() if _names_rows(name, own, ask)]
            tried = [
                [_joined(key, child, parent, sides, ask) for child in sides if child != parent] for parent in unique
            ]
            found += max(tried, key=lambda one: sum(join.joined for join in one), default=[])
    return found


def _sides(
    columns: Sequence[Sequence[str]], tables: Mapping[str, Sequence[Path]]
) -> Iterator[tuple[str, tuple[str, ...]]]:
    for entry in columns:
        source = entry[0].partition(".")[0]
        if tables.get(source):
            yield source, tuple(column.partition(".")[2] for column in entry)


def _names_rows(name: str, columns: Sequence[str], ask: _Ask) -> bool:
    # A snapshot of each day has each row once a day.
    row = ", ".join(map(quoted, ("ds", *columns)))
    rows, distinct = ask(f"SELECT count(*), count(DISTINCT ({row})) FROM {quoted(name)}")
    return rows == distinct


def _joined(key: str, child: str, parent: str, sides: Mapping[str, Sequence[str]], ask: _Ask) -> Join:
    pairs = list(zip(sides[child], sides[parent], strict=True))
    same = " AND ".join(f"child.{quoted(own)} = parent.{quoted(other)}" for own, other in pairs)
    there = " AND ".join(f"child.{quoted(own)} IS NOT NULL" for own, _ in pairs)
    [rows] = ask(f"SELECT count(*) FROM {quoted(child)} AS child WHERE {there}")
    matches = f"EXISTS (SELECT 1 FROM {quoted(parent)} AS parent WHERE {same})"
    [joined] = ask(f"SELECT count(*) FROM {quoted(child)} AS child WHERE {there} AND {matches}")
    return Join(key=key, child=child, parent=parent, rows=rows, joined=joined)
