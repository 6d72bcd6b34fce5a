"""Values, names and files as DuckDB's SQL writes them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def literal(value: Any) -> str:
    """Give a value as SQL has it: a truth value, a number, a text, or a list or struct of these."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{literal(key)}: {literal(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(literal, value)) + "]"
    return "'" + str(value).replace("'", "''") + "'"


def identifier(name: str) -> str:
    """Give a name as SQL has it, whatever characters it holds."""
    return '"' + name.replace('"', '""') + '"'


def exact(file: Path | str) -> str:
    """Give the pattern that means just this file: characters of patterns are put in brackets."""
    return re.sub(r"([*?\[])", r"[\1]", str(file))


def files_list(files: Sequence[Path | str]) -> str:
    """Give a list of files for a reader."""
    return literal([exact(file) for file in files])


def parquet(files: Sequence[Path]) -> str:
    """Give what reads Parquet files, without columns from their folders."""
    return f"read_parquet({files_list(files)}, hive_partitioning = false)"


def with_tables(query: str, tables: Mapping[str, Sequence[Path]]) -> str:
    """Give a SELECT that finds Parquet files under names, without a view for each, which would be read twice."""
    rows = {name: f"SELECT * FROM {parquet(files)}" for name, files in tables.items()}
    named = ", ".join(f"{identifier(name)} AS NOT MATERIALIZED ({select})" for name, select in rows.items())
    return f"WITH {named} {query}"
