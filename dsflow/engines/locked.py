"""DuckDB locked up: a database of its own that can read and write some named files and do nothing else.

A constraint comes from a spec or from a notebook. `dsflow.conditions` lets only harmless ones through; should it ever
miss one, this is the second wall: no other file, no extension, no setting, and nothing of the job's own session.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb

from dsflow.engines.literals import exact, identifier, literal, parquet

_CONFIG: dict[str, str | bool | int | float | list[str]] = {
    "allow_community_extensions": False,
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "python_enable_replacements": False,
}


@contextmanager
def locked(
    settings: Mapping[str, Any], tables: Mapping[str, Sequence[Path]], sinks: Sequence[Path] = ()
) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open a database in which the names of `tables` are views of their files, and nothing else can be reached.

    Args:
        settings: Threads, memory limit and temporary folder.
        tables: The Parquet files behind each name.
        sinks: Files that may be written.
    """
    connection = duckdb.connect(config={**_CONFIG, **settings})
    try:
        paths = [*(file for files in tables.values() for file in files), *sinks]
        # A name with brackets is looked up as a pattern first.
        allowed = dict.fromkeys(text for path in paths for text in (str(path), exact(path)))
        connection.execute(f"SET allowed_paths = {literal([*allowed])}")
        connection.execute("SET TimeZone = 'UTC'")
        for name, files in tables.items():
            connection.execute(f"CREATE TEMP VIEW {identifier(name)} AS SELECT * FROM {parquet(files)}")
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")
        yield connection
    finally:
        connection.close()
