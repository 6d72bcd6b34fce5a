"""Tables and files in Spark."""

from __future__ import annotations

import re
from typing import Any

from dsflow.sampling.contract import OwnTables, Rows
from dsflow.sampling.places import on_this_machine


class OnSpark:
    """A session of Spark.

    Args:
        session: The SparkSession.
        own: What finds the tables of a run.
    """

    name = "spark"

    def __init__(self, session: Any, own: OwnTables = lambda name: None) -> None:
        self._session = session
        self._own = own

    @property
    def session(self) -> Any:
        """The SparkSession."""
        return self._session

    def table(self, name: str) -> Rows:
        """Give a table or a view; of a run, those of its datastore."""
        found = self._own(name)
        return self._session.table(name) if found is None else found  # type: ignore[no-any-return]

    def parquet(self, folder: str) -> Rows:
        """Give the rows of Parquet files, wherever the session can read."""
        here = on_this_machine(folder)
        if here is not None and here.exists():
            # Spark takes every path for a pattern.
            folder = re.sub(r"([\[\]{}*?\\])", r"\\\1", str(here))
        return self._session.read.parquet(folder)  # type: ignore[no-any-return]

    def count(self, rows: Any) -> int:
        """Count rows."""
        return int(rows.count())

    def view(self, name: str, rows: Any) -> None:
        """Make a temporary view, or replace it."""
        rows.createOrReplaceTempView(name)

    def write(self, rows: Any, folder: str, *, whole: bool) -> None:
        """Write a file for each partition of the rows, or one for all."""
        made = rows if hasattr(rows, "sparkSession") else self._session.createDataFrame(rows)
        (made.repartition(1) if whole else made).write.mode("overwrite").parquet(folder)

    def use_database(self, name: str) -> None:
        """Make a database and use it."""
        quoted = "`" + name.replace("`", "``") + "`"
        self._session.sql(f"CREATE DATABASE IF NOT EXISTS {quoted}")
        self._session.sql(f"USE {quoted}")
