"""The database of runs: an index over the run folders, which can be rebuilt from them at any time.

SQLite beside the run folders by default, PostgreSQL by URL (one database, or schema, per datastore).
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import functools
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from dsflow import history_tables
from dsflow.batches import cut_off
from dsflow.errors import EnvironmentMissing, UsageError, did_you_mean
from dsflow.history_tables import checks_table, runs_table, save, save_checks, upgrade, version_of
from dsflow.model import Event
from dsflow.records import RUNNING, Broken, Checked, Record, looks, read, record_of_event, scan, storable

if TYPE_CHECKING:
    import sqlalchemy as sa

    from dsflow.specs.load import WorkspaceSpec
    from dsflow.workspace import Workspace

_LOCK_KEY = 0x6473666C6F77  # any number that other programs in the same PostgreSQL will not use
_PATIENCE = 60.0  # seconds a process waits for another one's write


@dataclass(frozen=True, kw_only=True)
class Rebuilt:
    """What a rebuild found: how many runs, and the folders that could not be read."""

    runs: int
    broken: tuple[Broken, ...]


@dataclass(frozen=True, kw_only=True)
class Database:
    """Where a database is, and who may open it.

    Attributes:
        system: `sqlite` or `postgresql`.
        name: The file, or the name of the database.
        host: A machine, the folder of a unix socket, or empty: the usual socket.
        port: None is the usual one.
    """

    system: str
    name: str
    host: str = ""
    port: int | None = None
    username: str = ""
    password: str = field(default="", repr=False)


class History:
    """The runs of a datastore. Called with an event, it records what the event says; nothing is opened before.

    Args:
        url: `sqlite:///FILE` (from the folder above the datastore, which is the workspace) or `postgresql://...`; None
            for `job_runs/history.db` in the datastore.
        datastore: The folder that the run folders are in.
        root: From where a FILE is looked for, if not from the folder above the datastore.
    """

    def __init__(self, url: str | None, datastore: Path, root: Path | None = None) -> None:
        self._given_url = url
        self._datastore = datastore
        self._root = root or datastore.parent

    @classmethod
    def open(cls, workspace: Workspace, settings: WorkspaceSpec) -> History:
        """Give the history that the workspace's settings name; samples have one of their own, beside them."""
        from dsflow.specs.models import USUAL_HISTORY

        elsewhere = workspace.data is not None and settings.history == USUAL_HISTORY
        url = None if workspace.sampled or elsewhere else settings.history
        return cls(url, workspace.datastore, workspace.root)

    def __call__(self, event: Event) -> None:
        """Record the start or the end of a run; other events are ignored.

        Raises:
            DsflowError: the database cannot be written.
        """
        record = record_of_event(event)
        if record is not None:
            self.record([record])

    def record(self, records: Iterable[Record]) -> None:
        """Record runs in one transaction; one that has ended replaces what was said of it before.

        Raises:
            DsflowError: the database cannot be written.
        """
        some = list(records)
        with self._transaction(write=True) as connection:
            save(connection, [record for record in some if record.status == RUNNING], replace=False)
            save(connection, [record for record in some if record.status != RUNNING], replace=True)

    def record_look(self, checked: Sequence[Checked]) -> None:
        """Record what a `dsflow check` found.

        Raises:
            DsflowError: the database cannot be written.
        """
        with self._transaction(write=True) as connection:
            save_checks(connection, checked)

    def checked(self, dataset: str) -> list[Checked]:
        """Give the last verdict on each expectation for each ds of a dataset such as `tables/rain`, oldest ds first.

        Raises:
            DsflowError: the database cannot be read.
        """
        self._settle()
        table = checks_table()
        asked = table.select().where(table.c.dataset == storable(dataset)).order_by(table.c.ds, table.c.at)
        with self._transaction(write=False) as connection:
            found = [Checked(**row) for row in connection.execute(asked).mappings()]
        return list({(one.ds, one.name): one for one in found}.values())

    def folder(self, record: Record) -> Path:
        """Give the run folder of a record."""
        return self._datastore / record.folder

    def runs(
        self,
        *,
        job: str | None = None,
        ds: str | None = None,
        status: str | None = None,
        since: dt.datetime | None = None,
        limit: int = 50,
    ) -> list[Record]:
        """Give the latest runs that match, newest first.

        Raises:
            DsflowError: the database cannot be read.
        """
        self._settle()
        columns = runs_table().c
        wanted = {"job": job, "ds": ds, "status": status}
        conditions = [columns[name] == storable(value) for name, value in wanted.items() if value is not None]
        if since is not None:
            conditions.append(columns.started >= since.astimezone(dt.UTC).isoformat(timespec="milliseconds"))
        return self._select(*conditions, limit=limit)

    def get(self, wanted: str = "last") -> Record:
        """Give the run of an id, of an unambiguous beginning of one, or the `last` one.

        Raises:
            UsageError: there is no such run, or there are several.
        """
        if wanted == "last":
            return self.last()
        self._settle()
        found = self._select(runs_table().c.run_id.startswith(storable(wanted), autoescape=True), limit=4)
        exact = [record for record in found if record.run_id == wanted]
        if len(found) == 1 or exact:
            return (exact or found)[0]
        if found:
            ids = ", ".join(record.run_id for record in found[:3]) + (", ..." if len(found) > 3 else "")
            raise UsageError(f"several runs begin with {wanted!r}: {ids}", "Type more of the id.")
        guess = did_you_mean(wanted, [record.run_id for record in self._select(limit=200)])
        raise UsageError(f"there is no run {wanted!r}{guess}", "`dsflow runs` lists the runs.")

    def last(self, *, failed: bool = False) -> Record:
        """Give the run that was started last, or the last one that failed.

        Raises:
            UsageError: there is none.
        """
        found = self.runs(status="failed" if failed else None, limit=1)
        if not found:
            what = "no failed run" if failed else "no run yet"
            raise UsageError(f"there is {what}", "" if failed else "`dsflow run JOB DS` makes one.")
        return found[0]

    def database(self) -> Database:
        """Give where the runs are kept, for a program that is not dsflow; nothing is opened.

        Raises:
            UsageError: the URL is not one of a database.
        """
        url = self._url
        if url.get_backend_name() == "sqlite":
            return Database(system="sqlite", name=url.database or "")
        host = url.host or str(url.query.get("host", ""))
        port = url.port or url.query.get("port", "")
        return Database(
            system="postgresql",
            name=url.database or url.username or "",
            host=host,
            port=int(str(port)) if str(port).isdecimal() else None,
            username=url.username or "",
            password=url.password or "",
        )

    def rebuild(self) -> Rebuilt:
        """Replace all rows by what the run folders say, at once: a reader sees the old rows or the new ones.

        Raises:
            DsflowError: the database cannot be written.
        """
        finished = {r.run_id: r for r in scan(self._datastore) if isinstance(r, Record) and r.status != RUNNING}
        # Runs that go on meanwhile wait for this transaction, so the second look misses none of them.
        with self._transaction(write=True) as connection:
            if connection.dialect.name == "postgresql":
                connection.exec_driver_sql("LOCK TABLE dsflow_runs IN EXCLUSIVE MODE")
            rest = list(scan(self._datastore, skip=finished))
            records = {**finished, **{r.run_id: r for r in rest if isinstance(r, Record)}}
            connection.execute(runs_table().delete())
            connection.execute(checks_table().delete())
            save(connection, records.values(), replace=True)
            save_checks(connection, list(looks(self._datastore)))
        return Rebuilt(runs=len(records), broken=tuple(found for found in rest if isinstance(found, Broken)))

    def _settle(self) -> None:
        """Correct the rows of runs that ended without telling this database, and add the runs it never heard of."""
        changed: list[Record] = []
        marks = cut_off(self._datastore)
        if marks:
            known = {record.run_id for record in self._select()}
            changed += [found for found in scan(self._datastore, skip=known) if isinstance(found, Record)]
        for record in self._select(runs_table().c.status == RUNNING):
            try:
                now = read(self.folder(record))
            except ValueError:
                now = dataclasses.replace(record, status="failed", error="its run folder is gone or damaged")
            if now.status != RUNNING:
                changed.append(now)
        if changed:
            self.record(changed)
        for mark in marks:
            mark.unlink(missing_ok=True)

    def _select(self, *conditions: sa.ColumnElement[bool], limit: int | None = None) -> list[Record]:
        table = runs_table()
        newest_first = table.select().where(*conditions).order_by(table.c.started.desc(), table.c.run_id.desc())
        with self._transaction(write=False) as connection:
            rows = connection.execute(newest_first.limit(limit)).mappings().all()
        return [Record(**{**row, "parameters": json.loads(row["parameters"])}) for row in rows]

    @contextlib.contextmanager
    def _transaction(self, *, write: bool) -> Iterator[sa.Connection]:
        import sqlalchemy as sa

        try:
            with _begin(self._engine, write=write) as connection:
                yield connection
        except (sa.exc.SQLAlchemyError, OSError) as error:
            reason = str(getattr(error, "orig", None) or error).strip().splitlines() or [repr(error)]
            raise EnvironmentMissing(
                f"run history {self._shown}: {reason[0]}",
                "It is an index: with a new database, `dsflow runs rebuild` fills it from the run folders.",
            ) from error

    @functools.cached_property
    def _url(self) -> sa.URL:
        import sqlalchemy as sa

        if self._given_url is None:
            return sa.URL.create("sqlite", database=str(self._datastore / "job_runs" / "history.db"))
        try:
            url = sa.make_url(self._given_url)
        except (sa.exc.ArgumentError, ValueError):
            raise UsageError("history: not a database URL", "Write it like postgresql://user@host/database.") from None
        family = url.get_backend_name()
        if family not in ("sqlite", "postgresql"):
            guess = did_you_mean(family, ("sqlite", "postgresql"))
            raise UsageError(f"history: runs are kept in sqlite or postgresql, not in {family}{guess}")
        if family == "postgresql":
            return url.set(drivername="postgresql+psycopg")
        if not url.database or url.database == ":memory:":
            raise UsageError("history: this URL names no file", "Write it like sqlite:///datastore/history.db.")
        return url.set(drivername="sqlite", database=str(self._root / url.database))

    @property
    def _shown(self) -> str:
        return self._url.render_as_string(hide_password=True)

    @functools.cached_property
    def _engine(self) -> sa.Engine:
        """The database, made or migrated to this version of dsflow."""
        import sqlalchemy as sa

        sqlite = self._url.get_backend_name() == "sqlite"
        # The driver begins no transaction of its own: `_begin` takes SQLite's write lock at once, where waiting works.
        options = {"isolation_level": None, "timeout": _PATIENCE} if sqlite else {"connect_timeout": 10}
        try:
            engine = sa.create_engine(self._url, connect_args=options, poolclass=sa.NullPool)
        except ImportError as error:
            raise EnvironmentMissing(
                f"run history {self._shown}: {error}", "pip install 'dsflow[postgres]' brings the driver."
            ) from None
        with _one_at_a_time(Path(self._url.database or "")) if sqlite else contextlib.nullcontext():
            self._migrate(engine)
        return engine

    def _migrate(self, engine: sa.Engine) -> None:
        with engine.begin() as connection:
            if engine.dialect.name == "sqlite":
                connection.exec_driver_sql("PRAGMA journal_mode = WAL")
            version = version_of(connection)
        if version > len(history_tables.MIGRATIONS):
            raise EnvironmentMissing(
                f"run history {self._shown} was made by a newer dsflow "
                f"(its schema is version {version}, this dsflow knows {len(history_tables.MIGRATIONS)})",
                "Install the newer dsflow, or name another database in dsflow.yml (`history:`).",
            )
        if version < len(history_tables.MIGRATIONS):
            with _begin(engine, write=True) as connection:
                if engine.dialect.name == "postgresql":
                    connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK_KEY})")
                upgrade(connection)


@contextlib.contextmanager
def _begin(engine: sa.Engine, *, write: bool) -> Iterator[sa.Connection]:
    with engine.begin() as connection:
        if write and engine.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        yield connection


@contextlib.contextmanager
def _one_at_a_time(file: Path) -> Iterator[None]:
    """Let one process at a time look at the file's version: switching to WAL does not wait for others by itself."""
    import fcntl
    import os

    file.parent.mkdir(parents=True, exist_ok=True)
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)
