"""How many rows and bytes something has, without reading it: from file sizes and the footers of Parquet files."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from dsflow.engines.literals import files_list, literal
from dsflow.engines.registry import open_engine
from dsflow.errors import JobFailed

_Item = TypeVar("_Item")

# So many footers say how many rows the other files have, by their sizes.
_MOST_FOOTERS = 16
# Measured on TPC-H: what each file and each column in it costs, however few rows there are, and what zstd, which
# samples are written with, makes of a byte that snappy left.
_SHORTER = 0.9
_BYTES_PER_COLUMN = 70
_SNAPPY_AS_ZSTD = 0.65
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
    with closing(open_engine("duckdb")) as engine:
        return tuple(engine.inspect([file]).rows[0] for file in files)


def _footer_bytes(file: Path) -> int:
    with file.open("rb") as opened:
        opened.seek(-_TAIL, 2)
        tail = opened.read(_TAIL)
    if tail[4:] != b"PAR1":
        raise JobFailed(f"{file} is not a Parquet file")
    return int.from_bytes(tail[:4], "little") + _TAIL


def sampled_bytes(file: Path, whole: Size, rows: int, files: int) -> tuple[int, int]:
    """Give how many bytes some rows of a size take in files of their own, and how many were read to know that.

    Args:
        file: One of the Parquet files that they are in.
        whole: All rows, and their bytes in files like this one.
        rows: How many of them.
        files: In how many files they are put.
    """
    footer = _footer_bytes(file)
    with closing(open_engine("duckdb")) as engine:
        columns, codec = engine.sql(
            f"SELECT count(DISTINCT path_in_schema), any_value(compression) FROM parquet_metadata({files_list([file])})"
        ).fetchall()[0]
    extra = round(_SHORTER * footer) + _BYTES_PER_COLUMN * int(columns)
    assert whole.bytes is not None
    assert whole.rows
    known = max(1, round(whole.bytes / max(1, file.stat().st_size)))
    inner = max(0, whole.bytes - known * footer) / whole.rows * (_SNAPPY_AS_ZSTD if codec == "SNAPPY" else 1)
    return min(whole.bytes, round(rows * inner) + files * extra), footer


def column_bytes(file: Path, names: Sequence[str]) -> int:
    """Give how many bytes some columns of a Parquet file have in it.

    Args:
        file: The file.
        names: The columns; names that it has not are passed over.
    """
    wanted = ", ".join(literal(name.lower()) for name in names)
    with closing(open_engine("duckdb")) as engine:
        found = engine.sql(
            f"SELECT coalesce(sum(total_compressed_size), 0) FROM parquet_metadata({files_list([file])})"
            f" WHERE lower(split_part(path_in_schema, ',', 1)) IN ({wanted or 'NULL'})"
        ).fetchall()
    return int(found[0][0])
