"""The tables of the run history: how they came to be as they are, and how records get into them."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from dsflow.records import Checked, Record

if TYPE_CHECKING:
    import sqlalchemy as sa

# SQLite takes at most so many values in one statement, whatever its version.
_MOST_VALUES = 500
# Each migration is the statements that lead from the version before; a published one is never edited.
MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """CREATE TABLE dsflow_runs (
            run_id TEXT PRIMARY KEY, job TEXT NOT NULL, ds TEXT NOT NULL, kind TEXT NOT NULL, status TEXT NOT NULL,
            exit_code INTEGER, started TEXT NOT NULL, finished TEXT, seconds DOUBLE PRECISION, runtime TEXT NOT NULL,
            image TEXT, git_revision TEXT, parameters TEXT NOT NULL, rows BIGINT, output TEXT, error TEXT,
            folder TEXT NOT NULL)""",
        "CREATE INDEX dsflow_runs_by_start ON dsflow_runs (started)",
        "CREATE INDEX dsflow_runs_by_job ON dsflow_runs (job, started)",
        "CREATE INDEX dsflow_runs_by_status ON dsflow_runs (status, started)",
    ),
    (
        """CREATE TABLE dsflow_checks (
            run_id TEXT NOT NULL, dataset TEXT NOT NULL, ds TEXT NOT NULL, number INTEGER NOT NULL, name TEXT NOT NULL,
            condition TEXT NOT NULL, action TEXT NOT NULL, severity TEXT NOT NULL, rows BIGINT NOT NULL,
            violations BIGINT NOT NULL, verdict TEXT NOT NULL, at TEXT NOT NULL, PRIMARY KEY (run_id, ds, number))""",
        "CREATE INDEX dsflow_checks_by_dataset ON dsflow_checks (dataset, ds)",
    ),
)


def version_of(connection: sa.Connection) -> int:
    """Give the version of the tables in a database; 0 where there are none."""
    import sqlalchemy as sa

    if not sa.inspect(connection).has_table("dsflow_schema"):
        return 0
    return int(connection.exec_driver_sql("SELECT max(version) FROM dsflow_schema").scalar() or 0)


def upgrade(connection: sa.Connection) -> None:
    """Bring the tables to the newest version."""
    connection.exec_driver_sql("CREATE TABLE IF NOT EXISTS dsflow_schema (version INTEGER PRIMARY KEY)")
    version = version_of(connection)  # another process may have been faster
    for number, statements in enumerate(MIGRATIONS[version:], start=version + 1):
        for statement in statements:
            connection.exec_driver_sql(statement)
        connection.exec_driver_sql(f"INSERT INTO dsflow_schema (version) VALUES ({number})")


@functools.cache
def runs_table() -> sa.Table:
    """Give the table of runs."""
    import sqlalchemy as sa

    names = (field.name for field in dataclasses.fields(Record) if field.name != "checked")
    return sa.Table("dsflow_runs", sa.MetaData(), *map(sa.Column, names))


@functools.cache
def checks_table() -> sa.Table:
    """Give the table of verdicts."""
    import sqlalchemy as sa

    return sa.Table("dsflow_checks", sa.MetaData(), *(sa.Column(field.name) for field in dataclasses.fields(Checked)))


def save(connection: sa.Connection, records: Iterable[Record], *, replace: bool) -> None:
    """Insert records; one that is there already is replaced, or left alone."""
    if connection.dialect.name == "sqlite":
        from sqlalchemy.dialects.sqlite import insert
    else:
        from sqlalchemy.dialects.postgresql import insert  # type: ignore[assignment]

    some = list(records)
    rows = [_row(record) for record in some]
    statement = insert(runs_table())
    new = {column.name: column for column in statement.excluded if column.name != "run_id"}
    if replace:
        statement = statement.on_conflict_do_update(index_elements=["run_id"], set_=new)
    else:
        statement = statement.on_conflict_do_nothing(index_elements=["run_id"])
    if rows:
        connection.execute(statement, rows)
    save_checks(connection, [one for record in some for one in record.checked])


def save_checks(connection: sa.Connection, checked: Sequence[Checked]) -> None:
    """Insert verdicts; those that are there already of the same runs are replaced."""
    table = checks_table()
    runs = list({one.run_id for one in checked})
    for some in (runs[start : start + _MOST_VALUES] for start in range(0, len(runs), _MOST_VALUES)):
        connection.execute(table.delete().where(table.c.run_id.in_(some)))
    if checked:
        connection.execute(table.insert(), [vars(one) for one in checked])


def _row(record: Record) -> dict[str, Any]:
    text = json.dumps(record.parameters, ensure_ascii=False, default=str)
    known = {name: value for name, value in vars(record).items() if name != "checked"}
    return {**known, "parameters": text.encode(errors="replace").decode()}
