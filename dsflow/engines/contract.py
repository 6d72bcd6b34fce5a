"""What an engine is: the thing that reads, computes and writes rows. The registry is `dsflow.engines.registry`.

An engine never commits: it writes Parquet files into a folder that it is given, and `dsflow.store.publishing` swaps
that folder into place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from dsflow.model import Column


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """What Parquet files hold: rows of each file in the order given, their common columns, and first rows as text."""

    rows: tuple[int, ...]
    columns: tuple[Column, ...]
    first: tuple[tuple[str, ...], ...] = ()


class Engine(Protocol):
    """One session of an engine, made by its module's `open_engine(threads, memory)`.

    The module's `prepare()` loads it ahead of that, in a process that will be forked; `only_reads(query)` says there
    whether a query can leave anything behind when its session has ended.
    """

    def read(
        self,
        files: Sequence[Path | str],
        format: str,
        *,
        with_ds: bool,
        options: Mapping[str, Any],
        alike: bool = False,
    ) -> Any:
        """Give the rows of some files (`parquet`, `csv`, `json`, `text`) as the engine's own lazy table.

        With `with_ds` there is a string column `ds` made from the files' `ds=` folder. With `alike` they are Parquet
        files that are known to have the same columns, so that one file tells what those are.

        Raises:
            JobFailed: the files cannot be read as that format.
        """

    def view(self, name: str, rows: Any) -> None:
        """Make a lazy table known to `sql` under a name; `raw.x` is x in the schema raw."""

    def offer(self, name: str, rows: Callable[[], Any]) -> None:
        """Make a table known as `view` does, when a query names it at the latest."""

    def sql(self, query: str) -> Any:
        """Run a query over the views and give its result as a lazy table.

        Raises:
            JobFailed: the query is wrong; `place` and `source` say where.
        """

    def write(self, data: Any, path: Path, ds: str) -> None:
        """Write rows (the engine's own, pandas, polars, Arrow, or a list of dicts) into a Parquet file.

        An engine that works in parallel may write more of them beside `path`, as `NAME.1.parquet`, `NAME.2.parquet`...

        A column `ds` is left out, as the partition's folder says it; its values must be `ds`.

        Raises:
            JobFailed: the data is of no known type, its `ds` is another, or computing it failed.
        """

    def inspect(self, files: Sequence[Path], first: int = 0) -> Inspection:
        """Count and describe Parquet files.

        Args:
            files: The files.
            first: How many of the first rows to give, at most.

        Raises:
            JobFailed: a file is no Parquet, or the files differ in their columns.
        """

    def ask(self, query: str, tables: Mapping[str, Sequence[Path]], *, calls: bool = True) -> list[tuple[Any, ...]]:
        """Run one SELECT that dsflow made (`dsflow.quality`) over Parquet files, and give its rows.

        Whatever conditions of a user are in it, it reads nothing else, writes nothing and changes nothing. It sees
        nothing of the rest of the session, and moments are in UTC.

        Args:
            query: A SELECT in the dialect of DuckDB, whatever the engine: another one translates it, or has
                DuckDB answer.
            tables: The files behind each name in the query, one or more; all of a name have the same columns.
            calls: Whether a condition of a user calls functions. One that only compares and computes cannot reach
                anything, so there is nothing to lock up.

        Raises:
            JobFailed: it cannot be computed.
        """

    def extract(self, query: str, tables: Mapping[str, Sequence[Path]], path: Path) -> None:
        """Write the rows of a SELECT as for `ask` into one Parquet file, with types as in the files it reads."""

    def interrupt(self) -> None:
        """Have the statement that another thread executes in this session fail soon; nothing where there is none."""

    def close(self) -> None:
        """End the session."""
