"""The sources of a workspace: where all of their data is, and which partitions of it there are. Nothing is written."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dsflow import partitions
from dsflow.errors import JobFailed, UsageError, did_you_mean
from dsflow.inputs import format_of, local
from dsflow.rendering import render
from dsflow.specs.load import SourceSpec, WorkspaceSpec
from dsflow.specs.settings import datastore_at
from dsflow.store.contents import plain_files
from dsflow.store.datastore import Datastore, Partition
from dsflow.store.layout import Store
from dsflow.workspace import Workspace


@dataclass(frozen=True, kw_only=True, eq=False)
class Source:
    """Data that can be sampled.

    Attributes:
        name: What it is called.
        store: Whether its sample is a table or a raw dataset.
        dataset: The name of that.
        spec: What dsflow.yml says of it.
        datastore: Where it is a table or a raw dataset of; None for a path and a database.
        workspace: The workspace.
        declared: Whether dsflow.yml names it.
    """

    name: str
    store: Store
    dataset: str
    spec: SourceSpec
    datastore: Datastore | None
    workspace: Workspace
    declared: bool = True

    @property
    def label(self) -> str:
        """What it is called on a command line."""
        return self.name if self.declared else f"{'raw/' if self.store == 'raw' else ''}{self.dataset}"

    @property
    def where(self) -> str:
        """The key of dsflow.yml, for messages."""
        return f"{self.workspace.shown(self.workspace.marker)}: sources.{self.name}"

    def there(self, wanted: Iterable[str]) -> list[str]:
        """Give those of some partitions that exist; of a database all of them."""
        if self.datastore is not None:
            known = set(self._all)
            return [ds for ds in wanted if ds in known]
        return [ds for ds in wanted if self.spec.url or self.files(ds)]

    def newest(self, bound: str) -> str | None:
        """Give the newest partition at or before a ds; of what has no partitions, that one."""
        if self.datastore is None:
            return bound
        return next((ds for ds in reversed(self._all) if ds <= bound), None)

    @property
    def whole_span(self) -> tuple[str, str] | None:
        """The first and the last partition; None where there are none that could be listed."""
        return (self._all[0], self._all[-1]) if self._all else None

    def within(self, first: str, last: str) -> list[str]:
        """Give the partitions that begin in a stretch of time; of what has none by itself, the days of it.

        Args:
            first: The first day, or other ds.
            last: The last one, included.
        """
        if self.datastore is None:
            grain = partitions.grain_of(first)
            return self.there(partitions.between(first, last, grain or "day"))
        grains = {partitions.grain_of(ds) for ds in self._all} - {None}
        days = {ds for grain in grains if grain for ds in partitions.between(first, last, grain)}
        return [ds for ds in self._all if ds in days]

    def partition(self, ds: str) -> Partition | None:
        """Give a partition of a datastore; None where it is not one or has none."""
        return self.datastore.partition(self.store, self.dataset, ds) if self.datastore else None

    def files(self, ds: str) -> Sequence[Path | str]:
        """Give the files of a partition; a URL is fetched by whoever reads it."""
        found = self.partition(ds)
        if found is not None:
            return found.files
        if self.spec.path is None:
            return ()
        place = self.filled_in(self.spec.path, ds, "path")
        if "://" in place and not place.startswith("file://"):
            return (place,)
        path = self.workspace.root / local(place, self.workspace.whole).removeprefix("file://")
        if path.is_dir():
            return plain_files(path, deep=True)
        return sorted(path.parent.glob(path.name)) if "*" in path.name else (path,) if path.exists() else ()

    def format(self, file: Path) -> str:
        """Give how a file is read.

        Raises:
            JobFailed: its name does not say, and dsflow.yml neither.
        """
        found = self.spec.format or format_of(file)
        if found is None:
            hint = f"Write `format: csv`, `json`, `parquet` or `text` below {self.where}."
            raise JobFailed(f"{self.label}: cannot tell the format of {file.name}", hint)
        return found

    def filled_in(self, text: str, ds: str, key: str) -> str:
        """Give a text of the spec with `{{ ds }}` and its neighbours filled in.

        Raises:
            UsageError: it cannot be rendered.
        """
        if "{" not in text:
            return text
        grain = partitions.grain_of(ds) or "day"
        start, end = partitions.start_of(ds, grain), partitions.end_of(ds, grain)
        names = {"ds": ds, "ds_nodash": ds.replace("-", ""), "start": start.isoformat(), "end": end.isoformat()}
        return render(text, names, f"{self.where}.{key}")

    def url(self) -> str:
        """Give the URL of its database.

        Raises:
            UsageError: the variable that holds it is not set.
        """
        url = str(self.spec.url)
        if not url.startswith("$"):
            return url
        value = os.environ.get(url[1:])
        if not value:
            raise UsageError(
                f"{self.where}.url: the variable {url[1:]} is not set", f"export {url[1:]}=postgresql://..."
            )
        return value

    @functools.cached_property
    def _all(self) -> list[str]:
        return self.datastore.partitions(self.store, self.dataset) if self.datastore else []


class Sources:
    """The sources of a workspace: those that dsflow.yml names, and every other table and raw dataset.

    Args:
        workspace: The workspace.
        settings: Its settings.
    """

    def __init__(self, workspace: Workspace, settings: WorkspaceSpec) -> None:
        self._workspace = workspace
        self._settings = settings
        self._own = Datastore(workspace.whole, read_only=True)
        self.declared: Mapping[str, Source] = {name: self._declared(name) for name in settings.sources}
        self._by_dataset = {(source.store, source.dataset): source for source in self.declared.values()}

    def of(self, store: Store, dataset: str) -> Source:
        """Give the source whose sample a table or a raw dataset is; one that nobody declared is taken whole."""
        known = self._by_dataset.get((store, dataset))
        if known is None:
            known = self._by_dataset[store, dataset] = Source(
                name=dataset,
                store=store,
                dataset=dataset,
                spec=SourceSpec(),
                datastore=self._own,
                workspace=self._workspace,
                declared=False,
            )
        return known

    def named(self, name: str) -> Source:
        """Give the source of a name as a person types it.

        Raises:
            UsageError: there is none, neither declared nor in the datastore.
        """
        if name in self.declared:
            return self.declared[name]
        store: Store = "raw" if name.startswith("raw/") else "table"
        source = self.of(store, name.removeprefix("raw/").removeprefix("tables/"))
        if not source._all:
            own = self._own
            known = [*self.declared, *own.names("table"), *(f"raw/{raw}" for raw in own.names("raw"))]
            hint = f"There are: {', '.join(known)}." if known else "Declare it under `sources:` in dsflow.yml."
            raise UsageError(f"there is no source {name!r}{did_you_mean(name, known)}", hint)
        return source

    def at(self, path: str) -> Source | None:
        """Give the source that is declared with just this path, or None."""
        return next((source for source in self.declared.values() if source.spec.path == path), None)

    def columns(self, source: Source, key: str) -> tuple[str, ...]:
        """Give the columns of a source that are a key."""
        entries = ([column.partition(".") for column in entry] for entry in self._settings.keys[key])
        return next(tuple(column for _, _, column in entry) for entry in entries if entry[0][0] == source.name)

    def above(self, source: Source) -> list[Source]:
        """Give the sources whose samples decide about that of a source."""
        sample = source.spec.sample
        return [self.declared[name] for name in sample.of] if sample else []

    def folders(self) -> dict[tuple[Store, str], Path | None]:
        """Give where the declared sources are, by the table or raw dataset that is their sample."""
        return {
            place: source.datastore.dataset(source.store, source.dataset) if source.datastore else None
            for place, source in self._by_dataset.items()
            if source.declared
        }

    def _declared(self, name: str) -> Source:
        spec = self._settings.sources[name]
        stored = spec.path is None and spec.url is None
        store: Store = "raw" if spec.raw else "table"
        return Source(
            name=name,
            store=store,
            dataset=spec.raw or spec.table or name,
            spec=spec,
            datastore=self._datastore(name, spec) if stored else None,
            workspace=self._workspace,
        )

    def _datastore(self, name: str, spec: SourceSpec) -> Datastore:
        if spec.environment is None:
            return self._own
        named = self._settings.environments[spec.environment].datastore
        return Datastore(datastore_at(self._workspace, named), read_only=True)
