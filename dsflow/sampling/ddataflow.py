"""`DDataflow`: one object between a pipeline and its data, which gives samples instead of production where it is told.

It has the methods of DDataFlow's object, so that a pipeline written for that one goes on. docs/ddataflow.md.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from dsflow.errors import EnvironmentMissing, UsageError
from dsflow.sampling import project, reading, sizes, switches
from dsflow.sampling.choice import tables_of
from dsflow.sampling.contract import Rows, Tables
from dsflow.sampling.mapping import DataSource, check_arguments, read_limit, read_sources, read_writers
from dsflow.sampling.places import folder_name, on_this_machine, places_of, view_name
from dsflow.sampling.refusals import (
    FETCH,
    SETUP,
    CopyNotFound,
    DataSourceNotFound,
    ProjectNotFound,
    WriterNotFoundException,
)
from dsflow.sampling.replacing import replaced
from dsflow.sampling.transfers import copy_folder
from dsflow.surroundings import samples_around

_QUESTION = "Do you want to proceed with the sampling creation? (y/n): "


class DDataflow:
    """Sources and writers of a project: production where it is disabled, samples where it is enabled.

    Args:
        project_folder_name: The project: names the folders of its samples, and its views.
        data_sources: Sources by name: `source`, `filter`, `default_sampling`, `file-type`, all of them optional.
        data_writers: Writers by name: `{"writer": function of (rows, name, session)}`.
        data_source_size_limit_gb: A sample that is larger is refused.
        enable_ddataflow: Enabled from the start; `ENABLE_DDATAFLOW` in the environment counts instead, if it is set.
        sources_with_default_sampling: Names of tables for which the default sampler is enough.
        snapshot_path: Where samples are saved, for all projects: a folder, or the URL of one.
        default_sampler: `{"limit": rows}` of the default sampler.
        default_database: The database to use; with `ddataflow_` before its name where it is enabled.
        engine: `duckdb`, `spark`, a SparkSession, or a connection to DuckDB (`dsflow.sampling.choice` has the rule).

    Raises:
        UnknownKey: a key is unknown; that is a TypeError too.
        UsageError: a value cannot be.
    """

    def __init__(
        self,
        project_folder_name: str,
        data_sources: Mapping[str, Any] | None = None,
        data_writers: Mapping[str, Any] | None = None,
        data_source_size_limit_gb: float = 1,
        enable_ddataflow: bool = False,
        sources_with_default_sampling: Iterable[str] | None = None,
        snapshot_path: str | None = None,
        default_sampler: Mapping[str, Any] | None = None,
        default_database: str | None = None,
        engine: Any = None,
        **unknown: Any,
    ) -> None:
        check_arguments(unknown, [name for name in inspect.signature(DDataflow).parameters if name != "unknown"])
        self._project = project_folder_name
        self._sources = read_sources(data_sources, sources_with_default_sampling)
        self._writers = read_writers(data_writers)
        self._limit_gb = sizes.read_limit_gb(data_source_size_limit_gb)
        self._rows = read_limit(default_sampler)
        self._engine = engine
        self._views: dict[str, str] = {}
        self._mode = switches.Mode.of_environment(enable_ddataflow)
        # A run with `--sample` writes nowhere but into its datastore.
        self._places = places_of(
            project_folder_name, snapshot_path if self._mode.run in ("", "production") else None, samples_around()
        )
        self._default_database = default_database
        if default_database is not None:
            self.set_up_database(default_database)

    @functools.cached_property
    def _tables(self) -> Tables:
        return tables_of(self._engine)

    # ---- on and off

    def enable(self) -> None:
        """Give samples from now on: what is read is made smaller, what is written goes to the snapshot folder."""
        self._switch(enabled=True)

    def disable(self) -> None:
        """Give production from now on, unless offline mode is on, which `disable_offline` ends."""
        self._switch(enabled=False)
        if self._mode.offline:
            print("Offline mode is still on: disable_offline() ends it.")

    def enable_offline(self) -> None:
        """Read and write only copies on this machine from now on."""
        self._switch(enabled=True, offline=True)

    def disable_offline(self) -> None:
        """End offline mode; it is still enabled."""
        self._switch(offline=False)

    def is_enabled(self) -> bool:
        """Say whether samples are given instead of production."""
        return self._mode.sampling

    def is_local(self) -> bool:
        """Say whether they are the copies on this machine."""
        return self._mode.offline

    def print_status(self) -> None:
        """Print where reads and writes go."""
        folder = self._places.folder(self._mode.offline)
        print(self._mode.describe(folder))

    def _switch(self, *, enabled: bool | None = None, offline: bool | None = None) -> None:
        self._mode = self._mode.changed(enabled, offline)
        if self._default_database is not None:
            self.set_up_database(self._default_database)

    # ---- reading

    def source(self, name: str, debugger: bool = False) -> Any:
        """Give the rows of a source: all of them, its sample, or its local copy.

        Args:
            name: Its key in `data_sources`.
            debugger: Stop in the debugger first.

        Raises:
            DataSourceNotFound: there is no such source.
            CopyNotFound: offline, and there is no copy of it.
        """
        if debugger:
            breakpoint()  # noqa: T100
        entry = self._source(name)
        if not self._mode.sampling:
            return reading.whole(self._tables, entry)
        if self._mode.offline:
            return self._copy(name)
        if entry.whole:
            print(f"No filter set for {name}: all of it is read.")
        return self._sample(entry)

    def source_name(self, name: str, disable_view_creation: bool = False) -> str:
        """Give a name for queries: the source's own, or that of a view with its sample.

        A name that is no source of the configuration stays as it is.

        Args:
            name: Its key in `data_sources`.
            disable_view_creation: Give the view's name and make no view.

        Raises:
            UsageError: the view of another source has that name.
        """
        if not self._mode.sampling or name not in self._sources:
            return name
        made = view_name(self._project, name)
        if self._views.setdefault(made, name) != name:
            raise UsageError(f"the sources {self._views[made]!r} and {name!r} would have one view, {made}")
        if not disable_view_creation:
            self._tables.view(made, self.source(name))
        return made

    name = source_name

    def path(self, path: str) -> str:
        """Give a path as it is, or where it is enabled the one in the project's folder of samples.

        Raises:
            WritingToLocationDenied: it would lead out of that folder.
        """
        return self._places.inside(path, self._mode.offline) if self._mode.sampling else path

    def read(self, name: str) -> Any:
        """Give what `write` has written under a name, from the folder of samples.

        Raises:
            CopyNotFound: there is nothing.
        """
        folder = self._places.of(name, self._mode.offline)
        here = on_this_machine(folder)
        if here is not None and not here.exists():
            raise CopyNotFound(f"nothing was written as {name!r}: there is no {folder}")
        return self._tables.parquet(folder)

    def get_mlflow_path(self, path: str) -> str:
        """Give the path of an experiment, or where it is enabled its last part in the folder of samples."""
        if not self._mode.sampling:
            return path
        return self._places.inside(path.rstrip("/").rpartition("/")[2], self._mode.offline)

    # ---- writing

    def write(self, df: Any, name: str) -> None:
        """Have a writer write rows, or where it is enabled put them into the folder of samples as Parquet.

        Args:
            df: The rows.
            name: The writer's key in `data_writers`.

        Raises:
            WriterNotFoundException: there is no such writer.
        """
        if name not in self._writers:
            raise WriterNotFoundException.of(name, self._writers)
        if self._mode.sampling:
            self._put(df, self._places.of(name, self._mode.offline))
        else:
            reading.call(self._tables, f"the writer {name!r}", self._writers[name], df, name, self._tables.session)

    def set_up_database(self, db: str) -> None:
        """Make a database if there is none, and use it; where it is enabled, `ddataflow_<db>` instead."""
        self._tables.use_database(f"ddataflow_{db}" if self._mode.sampling else db)

    # ---- samples

    def estimate_source_size(self, name: str) -> float:
        """Print and give the size of the sample of a source in GB; nothing is written.

        It is rows x columns x 50 bytes; of Parquet files that are sampled whole it is their size.

        Raises:
            DataSourceNotFound: there is no such source.
        """
        return self._size(self._source(name))

    def save_sampled_data_sources(
        self, *, dry_run: bool = True, ask_confirmation: bool = False, sample_only: Iterable[str] | None = None
    ) -> None:
        """Save the samples of sources into the snapshot folder.

        Args:
            dry_run: Estimate and print, and write nothing.
            ask_confirmation: Ask before each one; anything but `y` skips it.
            sample_only: These sources only.

        Raises:
            DataSourceNotFound: `sample_only` names one that is not there; nothing was written then.
            BiggerThanMaxSize: a sample is larger than the limit; it was not written.
        """
        self._save(self._chosen(sample_only), dry_run, ask_confirmation)

    def download_data_sources(self, overwrite: bool = True, debug: bool = False) -> None:
        """Copy the saved samples of all sources to this machine.

        What is there already stays until all new copies are whole.

        Args:
            overwrite: Replace the folder of the project, with all that is in it; else only copy what is missing there.
            debug: Have the Databricks command line tell what it does, where that copies.

        Raises:
            CopyNotFound: a sample was not saved.
            JobFailed: a sample cannot be copied.
        """
        self._download(overwrite, debug, skipped=())

    def sample_and_download(self, ask_confirmation: bool = True, overwrite: bool = True) -> None:
        """Save the samples of all sources, and copy them to this machine; of a skipped one the sample saved before."""
        skipped = self._save(self._chosen(None), dry_run=False, ask=ask_confirmation)
        self._download(overwrite, debug=False, skipped=skipped)

    def _save(self, entries: Iterable[DataSource], dry_run: bool, ask: bool) -> list[str]:
        """Save samples, and give the names of those that a person does not want."""
        skipped = []
        for entry in entries:
            target = self._places.of(entry.name, offline=False)
            print(f"Sampling {entry.name} into {target}")
            sizes.refuse_if_larger(entry.name, self._size(entry), self._limit_gb)
            if dry_run:
                print("Not writing, dry run enabled")
            elif ask and not _confirmed():
                skipped.append(entry.name)
            else:
                self._put(self._sample(entry), target, whole=True)
        return skipped

    def _download(self, overwrite: bool, debug: bool, skipped: Collection[str]) -> None:
        local = self._places.local
        if overwrite:
            with replaced(local, local.parent) as folder:
                folder.mkdir()
                for name in self._sources:
                    self._fetch(name, folder / folder_name(name), debug, name in skipped)
            return
        for name in self._sources:
            target = local / folder_name(name)
            if not target.exists():
                with replaced(target, local.parent) as folder:
                    self._fetch(name, folder, debug, name in skipped)

    def _fetch(self, name: str, into: Path, debug: bool, optional: bool) -> None:
        address = self._places.of(name, offline=False)
        print(f"Copying {name} from {address}")
        try:
            copy_folder(address, into, debug=debug)
        except CopyNotFound:
            if not optional:
                raise
            print(f"There is no sample of {name} from before.")

    # ---- the project

    @staticmethod
    def setup_project(force: bool = False) -> None:
        """Write a configuration with examples into the current folder.

        Args:
            force: Replace the one that is there.

        Raises:
            UsageError: there is one.
        """
        file = project.write_project(Path.cwd(), force)
        print(f"File {file.name} created in the current directory.")

    @staticmethod
    def current_project() -> DDataflow:
        """Give the object of the project around the current folder.

        Raises:
            ProjectNotFound: there is no configuration, or it defines no object.
        """
        file = project.find_project(Path.cwd())
        if file is None:
            missing = f"there is no {' or '.join(project.NAMES)} in {Path.cwd()} or above"
            raise ProjectNotFound(f"{missing}; `{SETUP}` writes one")
        found = project.load_project(file)
        if isinstance(found, dict):
            return DDataflow(**found)
        if isinstance(found, DDataflow):
            return found
        raise ProjectNotFound(
            f"{file} has a {type(found).__module__}.{type(found).__qualname__} and no DDataflow of dsflow",
            "Write `from dsflow.sampling import DDataflow` into it.",
        )

    # ---- inside

    def _source(self, name: str) -> DataSource:
        if name not in self._sources:
            raise DataSourceNotFound.of(name, self._sources)
        return self._sources[name]

    def _chosen(self, names: Iterable[str] | None) -> list[DataSource]:
        if names is None:
            return list(self._sources.values())
        return [self._source(name) for name in ([names] if isinstance(names, str) else names)]

    def _copy(self, name: str) -> Rows:
        folder = self._places.of(name, offline=True)
        # Spark need not be started to find this out.
        if not Path(folder).exists():
            raise CopyNotFound(f"there is no local copy of {name} at {folder}; `{FETCH}` fetches it")
        return self._tables.parquet(folder)

    def _sample(self, entry: DataSource) -> Rows:
        return reading.sample(self._tables, entry, self._rows)

    def _size(self, entry: DataSource) -> float:
        here = on_this_machine(entry.name) if entry.parquet and entry.whole and entry.source is None else None
        known = sizes.by_files(here) if here is not None else None
        return known if known is not None else sizes.by_rows(self._tables, self._sample(entry))

    def _put(self, rows: Any, address: str, *, whole: bool = False) -> None:
        """Write rows into a folder, in the place of what is there."""
        here = on_this_machine(address)
        if here is None:
            self._tables.write(rows, address, whole=whole)
            return
        # They may be computed from what is replaced.
        with replaced(here, here.parent.parent) as folder:
            self._tables.write(rows, str(folder), whole=whole)
            if not folder.is_dir():
                raise EnvironmentMissing(
                    f"{self._tables.name} wrote into a {folder.parent} that is not on this machine",
                    "Give a `snapshot_path` that is the same folder for both.",
                )


def _confirmed() -> bool:
    try:
        return input(_QUESTION).strip().lower() == "y"
    except EOFError:
        # Nobody is there to ask.
        return False
