"""What a `DDataflow` asks of an engine; what rows can do is the same everywhere: `columns`, `filter`, `limit`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol


class Rows(Protocol):
    """A lazy table: a DataFrame of Spark, or a relation of DuckDB."""

    @property
    def columns(self) -> Sequence[str]:
        """The names of its columns."""

    def filter(self, condition: str) -> Rows:
        """Give the rows that meet a condition in SQL."""

    def limit(self, count: int) -> Rows:
        """Give so many of the rows."""


# Gives the table of a run, or of the job that is tried by hand; None where there is none of the name.
OwnTables = Callable[[str], Any]


class Tables(Protocol):
    """Tables and files in the session of one engine."""

    name: str

    @property
    def session(self) -> Any:
        """What the functions of a person get: a SparkSession, or a connection to DuckDB."""

    def table(self, name: str) -> Rows:
        """Give a table that the session knows."""

    def parquet(self, folder: str) -> Rows:
        """Give the rows of the Parquet files in a folder, or of one file.

        Raises:
            CopyNotFound: there is none; an engine that reads later says so later, in its own words.
        """

    def count(self, rows: Rows) -> int:
        """Count rows."""

    def view(self, name: str, rows: Rows) -> None:
        """Let queries name rows."""

    def write(self, rows: Any, folder: str, *, whole: bool) -> None:
        """Write rows as Parquet into a folder, in the place of what is there.

        Args:
            rows: Those of the engine, or a DataFrame of pandas.
            folder: A path, or a URL that the engine can write to.
            whole: As one file.
        """

    def use_database(self, name: str) -> None:
        """Make a database, where it is not there, the one in which tables are looked up."""
