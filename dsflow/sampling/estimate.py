"""How many rows and bytes something has, without reading it: from file sizes and the footers of Parquet files."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from dsflow.engines.literals import files_list, literal
from dsflow.engines.registry import open_engine
from dsflow.errors import JobFailed

_Item = TypeVar("_Item")

# So many footers say how many rows the other files have, by their sizes.
_MOST_FOOTERS = 16
_TAIL = 8  # The length of the footer, and PAR1.


@dataclass(frozen=True, kw_only=True)
class Size:
    """What is known of rows that nobody has read.

    Attributes:
        rows: How many, or None where that is unknown.
        bytes: How many as Parquet, or None where that is unknown.
        how: What told it, for a person.
        read: The bytes that were read for it.
        at_most: A filter was not counted, so it may be less.
    """

    rows: int | None
    bytes: int | None
    how: str
    read: int = 0
    at_most: bool = False


def of_files(files: Sequence[Path]) -> Size:
    """Give what some files hold; of Parquet files their rows, from the footers of some of them.

    Raises:
        JobFailed: a Parquet file is none.
    """
    sizes = {file: file.stat().st_size for file in files}
    total = sum(sizes.values())
    if not files or any(file.suffix != ".parquet" for file in files):
        return Size(rows=None, bytes=total, how="file sizes")
    asked = spread(files, _MOST_FOOTERS)
    counted = sum(_rows(asked))
    known = sum(sizes[file] for file in asked)
    rows = counted if len(asked) == len(files) else round(counted / known * total)
    how = "footers" if len(asked) == len(files) else f"footers of {len(asked)} of {len(files):,} files"
    return Size(rows=rows, bytes=total, how=how, read=sum(map(_footer_bytes, asked)))


def spread(items: Sequence[_Item], most: int) -> Sequence[_Item]:
    """Give at most so many items, evenly from the first to the last."""
    if len(items) <= most:
        return items
    return [items[round(place * (len(items) - 1) / (most - 1))] for place in range(most)]


def share_met(drawn: float, there: float) -> float:
    """Give which share of `there` things is met when one of them is drawn `drawn` times, all being equally likely."""
    return 1 - math.exp(-drawn / there) if there > 0 else 1.0


def _rows(files: Sequence[Path]) -> tuple[int, ...]:
    engine = open_engine("duckdb")
    try:
        return tuple(engine.inspect([file]).rows[0] for file in files)
    finally:
        engine.close()


def _footer_bytes(file: Path) -> int:
    with file.open("rb") as opened:
        opened.seek(-_TAIL, 2)
        tail = opened.read(_TAIL)
    if tail[4:] != b"PAR1":
        raise JobFailed(f"{file} is not a Parquet file")
    return int.from_bytes(tail[:4], "little") + _TAIL


def column_bytes(file: Path, names: Sequence[str]) -> int:
    """Give how many bytes some columns of a Parquet file have in it.

    Args:
        file: The file.
        names: The columns; names that it has not are passed over.
    """
    wanted = ", ".join(literal(name.lower()) for name in names)
    engine = open_engine("duckdb")
    try:
        found = engine.sql(
            f"SELECT coalesce(sum(total_compressed_size), 0) FROM parquet_metadata({files_list([file])})"
            f" WHERE lower(split_part(path_in_schema, ',', 1)) IN ({wanted or 'NULL'})"
        ).fetchall()
    finally:
        engine.close()
    return int(found[0][0])
