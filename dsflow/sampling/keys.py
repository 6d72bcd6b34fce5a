"""Which keys belong to a sample: a hash of their text decides, so that every engine chooses the same ones.

The same value is chosen or not in whichever table it stands, so joins over it still match; and what is chosen for a
share is chosen for every larger share too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

Dialect = Literal["duckdb", "spark", "postgresql"]

# Of md5's 32 hexadecimal digits so many are compared: 52 bits, which a float holds exactly.
_DIGITS = 13
_TEXT: dict[str, str] = {"duckdb": "STRING", "spark": "STRING", "postgresql": "TEXT"}


def chosen(columns: Sequence[str], share: float, seed: int = 0, dialect: Dialect = "duckdb") -> str:
    """Give the SQL condition that keeps the rows whose key belongs to a sample; it is false where a part is NULL.

    Integers of any width, texts, dates and truth values have the same text in every engine, so the same keys are
    chosen there; floating point numbers have not.

    Args:
        columns: The columns that are the key, in the order in which other tables have them.
        share: How much of all keys is kept: 0.01 is one in a hundred.
        seed: Another seed chooses other keys.
        dialect: Whose SQL it is.
    """
    if share >= 1:
        return " AND ".join(f"{quoted(column, dialect)} IS NOT NULL" for column in columns)
    return f"{digest(columns, seed, dialect)} < '{threshold(share)}'"


def digest(columns: Sequence[str], seed: int = 0, dialect: Dialect = "duckdb") -> str:
    """Give the SQL expression that stands for a key when keys are compared with a share; NULL where a part is NULL."""
    parts = [f"CAST({quoted(column, dialect)} AS {_TEXT[dialect]})" for column in columns]
    text = f"md5('{seed:d}'" + "".join(f" || '|' || {part}" for part in parts) + ")"
    # Digits and letters follow each other as in ASCII, which the order of a language need not do.
    return f'{text} COLLATE "C"' if dialect == "postgresql" else text


def threshold(share: float) -> str:
    """Give what the digest of a chosen key is smaller than."""
    return f"{int(max(0.0, share) * 16**_DIGITS):0{_DIGITS}x}"


def quoted(name: str, dialect: Dialect = "duckdb") -> str:
    """Give the name of a column as SQL has it."""
    if dialect == "spark":
        return "`" + name.replace("`", "``") + "`"
    return '"' + name.replace('"', '""') + '"'
