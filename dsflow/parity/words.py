"""Types in words that every engine has: a whole number is a whole number, however many bits hold it."""

from __future__ import annotations

import re

# In this order: what is found first counts.
_WORDS = {
    r"TIMESTAMP(?: WITH TIME ZONE|TZ|_NS|_MS|_S)*": "moment",
    r"TIME(?: WITH TIME ZONE|TZ)?": "time",
    r"DECIMAL(?:\(\d+,\s*\d+\))?": "decimal",
    r"U?(?:TINYINT|SMALLINT|INTEGER|BIGINT|HUGEINT)": "integer",
    r"FLOAT|DOUBLE": "float",
    r"VARCHAR": "text",
    r"BOOLEAN": "boolean",
    r"DATE": "date",
    r"BLOB": "binary",
}
_TYPES = re.compile(r"\"(?:[^\"]|\"\")*\"|" + "|".join(rf"\b(?:{pattern})(?!\w)" for pattern in _WORDS))


def common_type(type_: str) -> str:
    """Give a type of DuckDB in common words: `DECIMAL(38,2)` is `decimal`, `INTEGER[]` is `integer[]`."""
    return _TYPES.sub(lambda found: _word(found[0]), type_)


def _word(text: str) -> str:
    return next((word for pattern, word in _WORDS.items() if re.fullmatch(pattern, text)), text)
