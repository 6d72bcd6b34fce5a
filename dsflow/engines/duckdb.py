"""DuckDB, embedded: the default engine."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import duckdb

from dsflow.engines.contract import Inspection
from dsflow.engines.literals import files_list, identifier, literal, parquet, with_tables
from dsflow.engines.locked import locked
from dsflow.errors import DsflowError, EnvironmentMissing, Interrupted, JobFailed, OutOfMemory
from dsflow.model import Column

_CONFIG: dict[str, str | bool | int | float | list[str]] = {"autoinstall_known_extensions": False}
# A database for forks, the process that made it, and whether a session on it is open in this one.
_prepared: tuple[int, duckdb.DuckDBPyConnection] | None = None
_lent = False
# What is set in the copy of that database that this process has.
_settings: dict[str, Any] = {}

_READERS = {"parquet": "read_parquet", "csv": "read_csv", "json": "read_json", "text": "read_text"}


class DuckDB:
    """One in-memory session; nothing of it is shared with another one."""

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, *, lent: bool = False, settings: Mapping[str, Any] | None = None
    ) -> None:
        self.connection = connection
        self._lent = lent
        self._settings = settings or {}
        self._asked: duckdb.DuckDBPyConnection | None = None

    def read(
        self,
        files: Sequence[Path | str],
        format: str,
        *,
        with_ds: bool,
        options: Mapping[str, Any],
        alike: bool = False,
    ) -> duckdb.DuckDBPyRelation:
        """Give the rows of some files as a lazy relation."""
        if not files:
            raise JobFailed("there is no file to read")
        arguments = [files_list(files)]
        if format != "text":
            arguments.append(f"union_by_name = {'false' if alike else 'true'}")
            arguments.append(f"hive_partitioning = {'true' if with_ds else 'false'}")
        if with_ds:
            arguments.append("hive_types = {'ds': VARCHAR}")
        arguments += [f"{_option(name)} = {literal(value)}" for name, value in options.items()]
        # Folders above the datastore may look like `key=value` too; they are nobody's columns.
        foreign = sorted(_hive_keys(str(files[0])) - {"ds"}) if with_ds else []
        columns = f"COLUMNS(lambda name: name NOT IN ({', '.join(map(literal, foreign))}))" if foreign else "*"
        with _explained(f"reading {files[0]}" + (f" and {len(files) - 1} more" if len(files) > 1 else "")):
            return self.connection.sql(f"SELECT {columns} FROM {_READERS[format]}({', '.join(arguments)})")

    def view(self, name: str, rows: duckdb.DuckDBPyRelation) -> None:
        """Make a relation known under a name; `raw.x` is the view x of the schema raw."""
        schema, dot, rest = name.partition(".")
        if not dot:
            rows.create_view(name, replace=True)
            return
        self.connection.execute(f"CREATE SCHEMA IF NOT EXISTS {identifier(schema)}")
        self.connection.execute(f"CREATE OR REPLACE VIEW {identifier(schema)}.{identifier(rest)} AS {rows.sql_query()}")

    def offer(self, name: str, rows: Callable[[], duckdb.DuckDBPyRelation]) -> None:
        """Make a relation known under a name; one costs little until it is asked."""
        self.view(name, rows())

    def sql(self, query: str) -> duckdb.DuckDBPyRelation:
        """Run a query over the views; a statement without a result gives an empty relation."""
        with _explained("the query", query):
            try:
                # A statement without a result gives None, whatever the type says.
                relation: duckdb.DuckDBPyRelation | None = self.connection.sql(query)
            except (duckdb.BinderException, duckdb.CatalogException):
                # Only a statement that is executed says which line is wrong.
                self.connection.execute(f"EXPLAIN {query}")
                raise
            return relation if relation is not None else self.connection.sql("SELECT 1 WHERE false")

    def fetch(self, query: str) -> list[tuple[Any, ...]]:
        """Run a query of dsflow's own over the views and give all its rows."""
        with _explained("reading the tables"):
            return self.connection.sql(query).fetchall()

    def write(self, data: Any, path: Path, ds: str) -> None:
        """Write rows of any known kind into one Parquet file."""
        relation = self.relation(data)
        columns = {name.lower(): name for name in relation.columns}
        with _explained("computing the rows to write"):
            if "ds" in columns:
                column = identifier(columns["ds"])
                other = relation.filter(f"{column}::VARCHAR IS DISTINCT FROM {literal(ds)}").limit(1).fetchall()
                if other:
                    value = other[0][relation.columns.index(columns["ds"])]
                    raise JobFailed(
                        f"the data has a column ds with the value {str(value)!r}, but this run writes ds={ds}",
                        "Leave the column out, or keep the rows of this ds only.",
                    )
                relation = relation.project(f"* EXCLUDE ({column})")
            if not relation.columns:
                raise JobFailed("the data to write has no columns")
            relation.write_parquet(str(path), compression="zstd")

    def relation(self, data: Any) -> duckdb.DuckDBPyRelation:
        """Give rows of any known kind as a relation.

        Raises:
            JobFailed: they are of no known kind.
        """
        if isinstance(data, duckdb.DuckDBPyRelation):
            return data
        if isinstance(data, list) and all(isinstance(row, dict) for row in data):
            import pyarrow

            data = pyarrow.Table.from_pylist(data)
        module = type(data).__module__.split(".")[0]
        if module == "polars":
            data = (data.collect() if hasattr(data, "collect") else data).to_arrow()
        if module == "pandas":
            data = _arrow_of_pandas(data)
        try:
            return self.connection.from_arrow(data)
        except (duckdb.Error, TypeError, ValueError) as error:
            raise JobFailed(
                f"cannot write a {type(data).__module__}.{type(data).__qualname__}: {_first_line(error)}",
                "Give a DuckDB relation, a pandas or polars DataFrame, an Arrow table or a list of dicts.",
            ) from error

    def inspect(self, files: Sequence[Path], first: int = 0) -> Inspection:
        """Count and describe Parquet files, and show some rows."""
        if not files:
            return Inspection(rows=(), columns=())
        schemas = []
        rows = []
        shown: list[tuple[Any, ...]] = []
        for file in files:
            with _explained(f"reading {file.name}"):
                counted = self.connection.execute(f"SELECT num_rows FROM parquet_file_metadata({files_list([file])})")
                rows.append(int(counted.fetchall()[0][0]))
                # One statement for the columns and the rows: each opens the file again.
                part = self.connection.execute(f"SELECT * FROM {parquet([file])} LIMIT {max(0, first - len(shown))}")
                schemas.append(tuple(Column(name=name, type=str(type_)) for name, type_, *_ in part.description or ()))
                shown += part.fetchall()
            if schemas[-1] != schemas[0]:
                raise JobFailed(
                    f"{file.name} has other columns than {files[0].name}", "All files of a partition agree."
                )
        texts = tuple(tuple("NULL" if value is None else str(value) for value in row) for row in shown)
        return Inspection(rows=tuple(rows), columns=schemas[0], first=texts)

    def ask(self, query: str, tables: Mapping[str, Sequence[Path]], *, calls: bool = True) -> list[tuple[Any, ...]]:
        """Run a SELECT over Parquet files, locked up where it calls functions, and give its rows."""
        if not calls:
            query, tables = with_tables(query, tables), {}
        with self._locked(tables) if calls else self._beside() as connection, _explained("checking the rows"):
            return connection.execute(query).fetchall()

    def extract(self, query: str, tables: Mapping[str, Sequence[Path]], path: Path) -> None:
        """Write the rows of a SELECT over Parquet files into another one, locked up."""
        with self._locked(tables, path) as connection, _explained("separating the rows"):
            connection.sql(query).write_parquet(str(path), compression="zstd")

    @contextmanager
    def _beside(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Give a session of its own on the same database: much faster than another database."""
        with self.connection.cursor() as connection:
            connection.execute("SET TimeZone = 'UTC'")
            self._asked = connection
            try:
                yield connection
            finally:
                self._asked = None

    @contextmanager
    def _locked(self, tables: Mapping[str, Sequence[Path]], *sinks: Path) -> Iterator[duckdb.DuckDBPyConnection]:
        with locked(self._settings, tables, sinks) as connection:
            self._asked = connection
            try:
                yield connection
            finally:
                self._asked = None

    def interrupt(self) -> None:
        """End the statement that another thread executes."""
        self.connection.interrupt()
        if self._asked is not None:
            self._asked.interrupt()

    def close(self) -> None:
        """End the session."""
        global _lent
        self.connection.close()
        if self._lent:
            _lent = False


def prepare() -> None:
    """Make an empty database without threads for the forks of this process, which saves them most of a start.

    A fork's copy is its own: nothing that one does to it reaches another.
    """
    global _prepared
    if _prepared is None:
        database = duckdb.connect(config={**_CONFIG, "threads": 1})
        # Threads that read ahead; versions before 2 have none.
        with suppress(duckdb.CatalogException):
            database.execute("SET async_threads = 0")
        _rehearse(DuckDB(database.cursor()))
        _prepared = os.getpid(), database


def open_engine(*, threads: float | None = None, memory: int | None = None) -> DuckDB:
    """Start a session that loads nothing from the network and keeps its overflow out of the job's folder."""
    config: dict[str, str | bool | int | float | list[str]] = {
        "temp_directory": str(Path(tempfile.gettempdir()) / "dsflow-duckdb")
    }
    if threads:
        config["threads"] = max(1, int(threads))
    if memory:
        # The process needs memory beside the engine's own: what Python and Arrow hold.
        config["memory_limit"] = f"{int(memory * 0.8)}B"
    inherited = _inherited(config)
    connection = inherited or duckdb.connect(config={**_CONFIG, **config})
    connection.execute("SET TimeZone = 'UTC'")
    return DuckDB(connection, lent=inherited is not None, settings=config)


def only_reads(query: str) -> bool:
    """Say whether a query is one SELECT: it can change nothing but its own session."""
    if _prepared is None:
        return False
    try:
        statements = _prepared[1].extract_statements(query)
    except duckdb.Error:
        return False
    return [statement.type for statement in statements] == [duckdb.StatementType.SELECT]


def _rehearse(session: DuckDB) -> None:
    """Do once what most tasks do: what DuckDB and its Python side set up at first use is set up then."""
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder, "ds=2000-01-01", "1.parquet")]
        files[0].parent.mkdir()
        session.write(session.sql("SELECT 1 AS x"), files[0], "")
        session.view("t", session.read(files, "parquet", with_ds=True, options={}))
        session.sql("SELECT x, count(*) AS n FROM t GROUP BY x").fetchall()
        session.inspect(files, 1)
        session.connection.execute("DROP VIEW t")
    session.close()


def _inherited(config: Mapping[str, Any]) -> duckdb.DuckDBPyConnection | None:
    """Give a session on the database that the parent of this process prepared, if it did and no other is open here."""
    global _lent
    if _prepared is None or _prepared[0] == os.getpid() or _lent:
        return None
    # A session is made anew, or its random numbers would be those of every other fork.
    connection, _lent = _prepared[1].cursor(), True
    for name, value in {"threads": None, "memory_limit": None, **config}.items():
        # They are the database's: the next session of this process, most often with the same, finds them.
        if name not in _settings or _settings[name] != value:
            connection.execute(f"RESET {name}" if value is None else f"SET {name} = {literal(value)}")
            _settings[name] = value
    return connection


@contextmanager
def _explained(what: str, query: str = "") -> Iterator[None]:
    """Turn DuckDB's errors into ours, with the line of the query they are about."""
    try:
        yield
    except duckdb.OutOfMemoryException as error:
        hint = "Raise `run: {memory: ...}` in job_specs.yaml."
        raise OutOfMemory(f"out of memory while {what}: {_first_line(error)}", hint) from error
    except duckdb.InterruptException as error:
        raise Interrupted("interrupted") from error
    except duckdb.Error as error:
        raise _failure(error, what, query) from error


def _failure(error: duckdb.Error, what: str, query: str) -> DsflowError:
    text = str(error)
    if "No space left" in text:
        return EnvironmentMissing(f"the disk is full: {_first_line(error)}", "Free some space and run again.")
    place = re.search(r"^LINE (\d+):", text, re.MULTILINE)
    lines = query.splitlines()
    number = int(place.group(1)) if place else 0
    # DuckDB shortens long lines in its message; the user's own line is shown whole.
    source = lines[number - 1].strip() if 0 < number <= len(lines) else ""
    message = re.sub(r"\s*\n+LINE \d+:.*", "", text, flags=re.DOTALL)
    message = " ".join(message.split())
    where = f"line {number}" if number else ("" if query else what)
    return JobFailed(message if query else f"{what}: {message}", place=where, source=source)


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0]


def _arrow_of_pandas(data: Any) -> Any:
    import pyarrow

    try:
        return pyarrow.Table.from_pandas(data, preserve_index=False)
    except (pyarrow.ArrowException, TypeError) as error:
        raise JobFailed(
            f"pandas data that has no column type: {_first_line(error)}", "Give each column one type."
        ) from error


def _option(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z_]\w*", name):
        raise JobFailed(f"{name!r} is no option of a reader")
    return name


def _hive_keys(path: str) -> set[str]:
    return {part.split("=", 1)[0] for part in path.split("/")[:-1] if "=" in part and not part.startswith("=")}
