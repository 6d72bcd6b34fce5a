"""Sources that are in a database: how much a query would give, and its rows as Parquet files."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import uuid
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dsflow.durable import make_folder
from dsflow.engines.registry import open_engine
from dsflow.errors import EnvironmentMissing, JobFailed, UsageError
from dsflow.history import Database, History
from dsflow.samples.sources import Source, Sources
from dsflow.sampling.drawing import Rule
from dsflow.sampling.estimate import Size
from dsflow.sampling.keys import chosen, quoted

if TYPE_CHECKING:
    import sqlalchemy as sa

# The values that a key must be in: for each table that it follows, its columns.
Values = Sequence[Sequence[Sequence[Any]]]

# More values are not sent to a database.
_MOST_VALUES = 500_000
_ROWS_AT_ONCE = 20_000
# What a value takes where the database does not say.
_BYTES_PER_VALUE = 50
_DRIVERS = {"postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg"}
# Of a result without rows, what its columns would have been; PostgreSQL tells.
_TYPES = {
    **dict.fromkeys(("int2", "int4", "int8"), "BIGINT"),
    **dict.fromkeys(("float4", "float8"), "DOUBLE"),
    "bool": "BOOLEAN",
    "date": "DATE",
    "numeric": "DECIMAL(18, 3)",
    "timestamp": "TIMESTAMP",
    "timestamptz": "TIMESTAMPTZ",
}
_PLAIN = (str, int, float, bool, bytes, dt.date, dt.time, dt.timedelta, Decimal, type(None))


def bring(source: Source, ds: str, rule: Rule, values: Values, folder: Path) -> list[Path]:
    """Read the rows of a partition into Parquet files.

    The filter is the database's work. PostgreSQL chooses keys too, by the same hash or among the values it is given;
    what others send is more, and is chosen here.

    Args:
        source: The source.
        ds: The partition.
        rule: What the sample is.
        values: The values that a key must be in, column by column, for each element of `rule.of`.
        folder: Where the files go.

    Raises:
        JobFailed: the database refuses the query.
        EnvironmentMissing: it cannot be reached, or its driver is not installed.
    """
    make_folder(folder)
    found: list[Path] = []
    with _connected(source) as connection, contextlib.closing(open_engine("duckdb")) as engine:
        query = _as_is(connection, query_of(source, ds))
        given: dict[str, list[Any]] = {}
        if rule.key and connection.dialect.name == "postgresql":
            condition, given = _chosen(rule, values)
            query = f"SELECT * FROM (\n{query}\n) AS whole WHERE {condition}" if condition else query
        with _explained(source):
            result = connection.execution_options(stream_results=True).exec_driver_sql(query, given)
            names = list(result.keys())
            typed = _typed(names, result.cursor)
            for rows in result.partitions(_ROWS_AT_ONCE):
                found.append(folder / f"{len(found):06d}.parquet")
                data = [dict(zip(names, map(_plain, row), strict=True)) for row in rows]
                engine.write(data, found[-1], ds)
        if not found:
            found.append(folder / "000000.parquet")
            engine.write(engine.sql(f"SELECT {typed} WHERE false"), found[0], ds)
    return found


def estimate(source: Source, ds: str) -> Size:
    """Give how much the query of a partition would give, by the statistics of the database where it has some.

    Raises:
        JobFailed: the database refuses the query.
        EnvironmentMissing: it cannot be reached, or its driver is not installed.
    """
    with _connected(source) as connection, _explained(source):
        query = _as_is(connection, query_of(source, ds))
        if connection.dialect.name == "postgresql":
            told = connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {query}").scalar_one()
            plan = (json.loads(told) if isinstance(told, str) else told)[0]["Plan"]
            rows = int(plan["Plan Rows"])
            return Size(rows=rows, bytes=rows * int(plan["Plan Width"]), how="database statistics")
        rows = int(connection.exec_driver_sql(f"SELECT count(*) FROM ({query}) AS counted").scalar_one())
        columns = len(connection.exec_driver_sql(f"SELECT * FROM ({query}) AS named WHERE 1 = 0").keys())
        return Size(rows=rows, bytes=rows * columns * _BYTES_PER_VALUE, how="counted by the database")


def databases(sources: Sources) -> dict[str, Database]:
    """Give the databases that declared sources are in, for a program that is not dsflow; nothing is opened.

    Each is called like the first source that is in it. What is neither SQLite nor PostgreSQL is left out, and so is a
    database whose variable is not set.
    """
    found: dict[str, Database] = {}
    for name, source in sources.declared.items():
        if source.spec.url is None or (source.spec.url.startswith("$") and source.spec.url[1:] not in os.environ):
            continue
        url = _url(source)
        family = url.get_backend_name()
        if family in ("sqlite", "postgresql"):
            root = source.workspace.root
            database = History(url.render_as_string(hide_password=False), root, root).database()
            if database not in found.values():
                found[name] = database
    return found


def query_of(source: Source, ds: str) -> str:
    """Give the query for a partition of a source, with its filter."""
    spec = source.spec
    query = source.filled_in(spec.query or f"SELECT * FROM {source.name}", ds, "query").strip().rstrip(";")
    if not spec.filter:
        return query
    return f"SELECT * FROM (\n{query}\n) AS whole WHERE (\n{source.filled_in(spec.filter, ds, 'filter')}\n)"


def _typed(names: Sequence[str], cursor: Any) -> str:
    """Give columns without a value, of the types that a result's cursor tells."""
    told = (str(getattr(column, "type_display", "")).partition("(")[0] for column in cursor.description)
    types = (_TYPES.get(name, "VARCHAR") for name in told)
    return ", ".join(f"NULL::{kind} AS {quoted(name)}" for name, kind in zip(names, types, strict=True))


def _chosen(rule: Rule, values: Values) -> tuple[str, dict[str, list[Any]]]:
    """Give the condition with which PostgreSQL chooses the keys, and the lists that it names; empty if it cannot."""
    if not rule.of:
        return chosen(rule.key, 1.0 if rule.share is None else rule.share, rule.seed, "postgresql"), {}
    if sum(len(columns[0]) for columns in values) > _MOST_VALUES:
        return "", {}
    given: dict[str, list[Any]] = {}
    conditions = []
    for number, columns in enumerate(values):
        names = {f"v{number}k{place}": list(column) for place, column in enumerate(columns)}
        given |= names
        lists = ", ".join(f"%({name})s" for name in names)
        same = " AND ".join(f"v.{name} = whole.{quoted(own)}" for name, own in zip(names, rule.key, strict=True))
        conditions.append(f"EXISTS (SELECT 1 FROM unnest({lists}) AS v({', '.join(names)}) WHERE {same})")
    return f"({' OR '.join(conditions)})", given


def _as_is(connection: sa.Connection, query: str) -> str:
    """Give a query so that its driver takes no percent sign for a place to fill in."""
    return query.replace("%", "%%") if connection.dialect.paramstyle in ("format", "pyformat") else query


@contextlib.contextmanager
def _connected(source: Source) -> Iterator[sa.Connection]:
    """Open its database for reading.

    Raises:
        UsageError: its URL is none.
        EnvironmentMissing: it cannot be reached, or its driver is not installed.
    """
    import sqlalchemy as sa

    url = _url(source)
    if url.get_backend_name() == "sqlite" and url.database:
        path = source.workspace.root / url.database
        if not path.is_file():
            raise EnvironmentMissing(f"source {source.label}: there is no database {path}")
        url = url.set(database=f"file:{path}", query={"mode": "ro", "uri": "true"})
    try:
        engine = sa.create_engine(url)
    except (ImportError, sa.exc.ArgumentError) as error:
        hint = "pip install 'dsflow[postgres]' brings the driver of PostgreSQL."
        raise EnvironmentMissing(f"source {source.label}: {error}", hint) from None
    try:
        with engine.connect() as connection:
            if connection.dialect.name == "postgresql":
                connection.exec_driver_sql("SET TRANSACTION READ ONLY")
            yield connection
    except sa.exc.OperationalError as error:
        raise EnvironmentMissing(f"source {source.label}: {_reason(error)}", f"Look at {source.where}.url.") from None
    finally:
        engine.dispose()


def _url(source: Source) -> sa.URL:
    import sqlalchemy as sa

    try:
        url = sa.make_url(source.url())
    except (sa.exc.ArgumentError, ValueError):
        raise UsageError(f"{source.where}.url: not a database URL", "Write postgresql://user@host/database.") from None
    return url.set(drivername=_DRIVERS.get(url.drivername, url.drivername))


@contextlib.contextmanager
def _explained(source: Source) -> Iterator[None]:
    import sqlalchemy as sa

    try:
        yield
    except sa.exc.SQLAlchemyError as error:
        raise JobFailed(_reason(error), f"Look at {source.where}.") from None


def _reason(error: Exception) -> str:
    return " ".join(str(getattr(error, "orig", None) or error).split())[:300]


def _plain(value: Any) -> Any:
    """Give a value as one that a column of a table can have."""
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, memoryview):
        return bytes(value)
    return str(value) if isinstance(value, uuid.UUID) else json.dumps(value, default=str, ensure_ascii=False)
