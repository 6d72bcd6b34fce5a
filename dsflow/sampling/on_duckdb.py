"""Tables and files in DuckDB. Nothing here imports it: the connection is the engine's, or a person's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dsflow.engines import duckdb
from dsflow.engines.literals import files_list, identifier
from dsflow.errors import UsageError
from dsflow.sampling.contract import OwnTables, Rows
from dsflow.sampling.places import on_this_machine, parquet_files
from dsflow.sampling.refusals import CopyNotFound

_PART = "part-00000.parquet"


class OnDuckDB:
    """A connection to DuckDB.

    Args:
        connection: A person's own; one in memory is opened if absent.
        own: What finds the tables of a run.
    """

    name = "duckdb"

    def __init__(self, connection: Any = None, own: OwnTables = lambda name: None) -> None:
        self._engine = duckdb.open_engine() if connection is None else duckdb.DuckDB(connection)
        self._own = own

    @property
    def session(self) -> Any:
        """The connection."""
        return self._engine.connection

    def table(self, name: str) -> Rows:
        """Give a table or a view; of a run, those of its datastore."""
        found = self._own(name)
        return self.session.table(name) if found is None else found  # type: ignore[no-any-return]

    def parquet(self, folder: str) -> Rows:
        """Give the rows of Parquet files: those below a folder, or the one of that name."""
        here = on_this_machine(folder)
        if here is None:
            return self.session.read_parquet(f"{folder}/**/*.parquet", union_by_name=True)  # type: ignore[no-any-return]
        files = parquet_files(here)
        if not files and set(folder) & set("*?["):
            return self.session.read_parquet(folder, union_by_name=True)  # type: ignore[no-any-return]
        if not files:
            raise CopyNotFound(f"there are no Parquet files in {folder}")
        # As for Spark, `key=value` names a column below the folder, and not above it.
        below, above = _keys(files[0].relative_to(here).parts), _keys(here.parts)
        options = f"union_by_name = true, hive_partitioning = {str(bool(below)).lower()}"
        foreign = ", ".join(map(identifier, sorted(above - below))) if below else ""
        columns = f"* EXCLUDE ({foreign})" if foreign else "*"
        return self.session.sql(f"SELECT {columns} FROM read_parquet({files_list(files)}, {options})")  # type: ignore[no-any-return]

    def count(self, rows: Any) -> int:
        """Count rows."""
        return int(rows.aggregate("count(*)").fetchall()[0][0])

    def view(self, name: str, rows: Any) -> None:
        """Make a view, or replace it."""
        rows.create_view(name, replace=True)

    def write(self, rows: Any, folder: str, *, whole: bool) -> None:
        """Write one file; DuckDB never needs more."""
        here = on_this_machine(folder)
        if here is None:
            raise UsageError(
                f"DuckDB does not write to {folder}", "Give a `snapshot_path` on this machine, or use Spark."
            )
        here.mkdir(parents=True, exist_ok=True)
        self._engine.relation(rows).write_parquet(str(here / _PART), compression="zstd")

    def use_database(self, name: str) -> None:
        """Make a schema, which is what DuckDB has inside a database, and use it."""
        self.session.execute(f"CREATE SCHEMA IF NOT EXISTS {identifier(name)}")
        self.session.execute(f"USE {identifier(name)}")


def _keys(parts: Sequence[str]) -> set[str]:
    return {part.split("=", 1)[0] for part in parts if "=" in part and not part.startswith("=")}
