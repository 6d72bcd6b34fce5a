"""Compares what a job gave with what its test expects, and names the place of each difference.

NULL equals NULL and NaN equals NaN. Columns may come in any order; rows may too, unless the job orders them. A value
that a person wrote counts as what it is in the type of the column: `0.5` and `"0.50"` are the same DECIMAL. Binary
fractions are equal when they agree to nine digits (six for FLOAT): the order in which rows are added up moves the last.
"""

from __future__ import annotations

import datetime as dt
import decimal
import math
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dsflow.errors import did_you_mean
from dsflow.sqltrees import same_type
from dsflow.testing.rows import Row, Table

_MOST = 20
# More rows than these are not looked at for which is meant to be which.
_MOST_PAIRED = 200
# How far apart two binary fractions may be, in parts of themselves.
_CLOSE = {"FLOAT": 1e-6, "DOUBLE": 1e-9}
# The place of a row among those expected, and among those there are.
Pair = tuple[int | None, int | None]


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One place where things are not as expected, such as `rows[2].city`; `expected` and `got` are for a person."""

    path: str
    expected: str
    got: str

    def __str__(self) -> str:
        return f"{self.path}: expected {self.expected}, got {self.got}"


def differences_of(
    expected: Sequence[Row],
    got: Table,
    *,
    place: str = "rows",
    ignore: Sequence[str] = (),
    ordered: bool = False,
    keys: Sequence[str] = (),
) -> list[Difference]:
    """Give every difference between the rows a test expects and those there are, at most some dozens.

    Args:
        expected: The rows as a person wrote them; what one leaves out is NULL.
        got: The rows of the job.
        place: How the path of a difference begins.
        ignore: Columns that are not compared.
        ordered: Whether the order of the rows matters.
        keys: Columns that name a row, to tell which rows belong together.
    """
    found = _columns(expected, got, place, ignore)
    wanted = {name for row in expected for name in row} or set(got.types)
    types = {name: type_ for name, type_ in got.types.items() if name in wanted and name not in ignore}
    if len(expected) != len(got.rows):
        found.append(Difference(path=place, expected=_count(len(expected)), got=_count(len(got.rows))))
    sides = _Sides(expected, got.rows, types, tuple(keys))
    for one, other in sides.in_order() if ordered else sides.matched():
        found += sides.compare(one, other, place)
        if len(found) > _MOST:
            return [*found[:_MOST], Difference(path=place, expected="no more", got="more differences")]
    return found


def types_of(expected: Mapping[str, str], got: Mapping[str, str]) -> list[Difference]:
    """Give the columns whose SQL types are not those expected."""
    return [
        Difference(path=f"columns.{name}", expected=type_, got=got.get(name, "no such column"))
        for name, type_ in expected.items()
        if not same_type(type_, got.get(name, ""), "duckdb")
    ]


def _columns(expected: Sequence[Row], got: Table, place: str, ignore: Sequence[str]) -> list[Difference]:
    if not expected:
        return []
    names = dict.fromkeys(name for row in expected for name in row)
    missing = [name for name in names if name not in got.types and name not in ignore]
    extra = [name for name in got.types if name not in names and name not in ignore]
    return [
        Difference(path=f"{place}.{name}", expected="a column", got="no such column" + did_you_mean(name, extra))
        for name in missing
    ] + [Difference(path=f"{place}.{name}", expected="no such column", got=f"{got.types[name]}") for name in extra]


@dataclass(frozen=True)
class _Sides:
    """The rows a test expects and those there are, with the types of the columns that are compared."""

    expected: Sequence[Row]
    got: Sequence[Row]
    types: Mapping[str, str]
    keys: tuple[str, ...]

    def in_order(self) -> list[Pair]:
        """Pair rows by their places."""
        one, other = len(self.expected), len(self.got)
        return [(i if i < one else None, i if i < other else None) for i in range(max(one, other))]

    def matched(self) -> list[Pair]:
        """Pair rows whatever their order: those that are equal, then those that look most alike."""
        free = list(range(len(self.got)))
        left: list[int] = []
        for index in range(len(self.expected)):
            found = next((other for other in free if all(self._same(index, other, name) for name in self.types)), None)
            if found is None:
                left.append(index)
            else:
                free.remove(found)
        pairs = self._alike(left, free) if max(len(left), len(free)) <= _MOST_PAIRED else []
        ones, others = {one for one, _ in pairs}, {other for _, other in pairs}
        pairs += [(index, None) for index in left if index not in ones]
        pairs += [(None, index) for index in free if index not in others]
        return sorted(pairs, key=lambda pair: (pair[0] is None, pair[0] or 0, pair[1] or 0))

    def compare(self, one: int | None, other: int | None, place: str) -> Iterator[Difference]:
        """Give the differences between two rows, or say that one of them has no other."""
        if one is None:
            assert other is not None
            row = _shown(dict(self.got[other]))
            yield Difference(path=f"{place}[{other}] of the output", expected="no such row", got=row)
        elif other is None:
            yield Difference(path=f"{place}[{one}]", expected=_shown(dict(self.expected[one])), got="no such row")
        else:
            for name, type_ in self.types.items():
                path = f"{place}[{one}].{name}"
                yield from differing(self.expected[one].get(name), self.got[other][name], path, type_)

    def _same(self, one: int, other: int, name: str) -> bool:
        found = differing(self.expected[one].get(name), self.got[other][name], "", self.types[name])
        return next(found, None) is None

    def _likeness(self, one: int, other: int) -> float:
        """Say how alike two rows are; 0 for those that are not meant to be the same one."""
        if self.keys and all(name in self.types for name in self.keys):
            return float(all(self._same(one, other, name) for name in self.keys))
        equal = sum(self._same(one, other, name) for name in self.types)
        # A row of one column that differs is that row with another value.
        return equal / len(self.types) if len(self.types) > 1 else 0.5

    def _alike(self, left: Sequence[int], free: Sequence[int]) -> list[Pair]:
        scored = sorted((-self._likeness(one, other), one, other) for one in left for other in free)
        pairs: dict[int, int] = {}
        for score, one, other in scored:
            if score < 0 and one not in pairs and other not in pairs.values():
                pairs[one] = other
        return list(pairs.items())


def differing(expected: Any, got: Any, path: str, type_: str) -> Iterator[Difference]:
    """Give the places where two values differ, with the paths that lead there.

    Args:
        expected: A value as YAML has it.
        got: A value as the engine gives it.
        path: The place of the value.
        type_: The SQL type of the column.
    """
    if isinstance(got, Mapping) and isinstance(expected, Mapping):
        theirs = {str(key): value for key, value in got.items()}
        for name in dict.fromkeys([*map(str, expected), *theirs]):
            yield from differing(expected.get(name), theirs.get(name), f"{path}.{name}", type_)
    elif isinstance(got, list | tuple) and isinstance(expected, list | tuple):
        if len(expected) != len(got):
            yield Difference(path=path, expected=f"{len(expected)} items", got=f"{len(got)} items")
        for index, (one, other) in enumerate(zip(expected, got, strict=False)):
            yield from differing(one, other, f"{path}[{index}]", type_)
    elif not _equal(expected, got, type_):
        yield Difference(path=path, expected=_shown(expected), got=_shown(got))


def _equal(expected: Any, got: Any, type_: str) -> bool:
    if expected is None or got is None:
        return expected is got
    if isinstance(got, bool) or isinstance(expected, bool):
        return isinstance(got, bool) and isinstance(expected, bool) and expected == got
    try:
        return _equal_in_type(expected, got, type_)
    except (ValueError, TypeError, ArithmeticError):
        return False


def _equal_in_type(expected: Any, got: Any, type_: str) -> bool:
    if isinstance(got, float):
        number = float(expected.removeprefix(".") if isinstance(expected, str) else expected)
        close = _CLOSE["FLOAT" if "FLOAT" in type_ else "DOUBLE"]
        return (math.isnan(number) and math.isnan(got)) or math.isclose(number, got, rel_tol=close)
    if isinstance(got, int | decimal.Decimal):
        return decimal.Decimal(str(expected)) == got
    if isinstance(got, dt.datetime):
        return _moment(expected) == _moment(got)
    if isinstance(got, dt.date | dt.time):
        return str(expected) == str(got) or type(got).fromisoformat(str(expected)) == got
    if isinstance(got, bytes | bytearray):
        return str(expected) in (_escaped(bytes(got)), bytes(got).decode("utf-8", "replace"))
    if isinstance(got, uuid.UUID):
        return uuid.UUID(str(expected)) == got
    if isinstance(got, str) and isinstance(expected, str):
        return expected == got or ("WITH TIME ZONE" in type_ and _moment(expected) == _moment(got))
    return bool(str(expected) == str(got)) if not isinstance(got, str) else bool(expected == got)


def _moment(value: Any) -> dt.datetime:
    moment = value if isinstance(value, dt.datetime) else dt.datetime.fromisoformat(str(value))
    return moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)


def _escaped(data: bytes) -> str:
    return "".join(chr(byte) if 32 <= byte < 127 and byte != 92 else f"\\x{byte:02X}" for byte in data)


def _shown(value: Any) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        text = "{" + ", ".join(f"{key}: {_shown(item)}" for key, item in value.items()) + "}"
    elif isinstance(value, list | tuple):
        text = "[" + ", ".join(map(_shown, value)) + "]"
    elif isinstance(value, str):
        text = repr(value)
    else:
        text = _escaped(value) if isinstance(value, bytes) else str(value)
    return text if len(text) <= 200 else text[:197] + "..."


def _count(number: int) -> str:
    return f"{number} row" if number == 1 else f"{number} rows"
