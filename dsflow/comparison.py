"""Two partitions of a table side by side: which rows came, went and changed, and how the columns did.

With keys, rows are matched by them. Without keys, whole rows are counted: a row that is there three times before and
once after went twice. NULL equals NULL and NaN equals NaN. Columns that only one side has are schema changes and take
no part in the rest. DuckDB streams both sides, so neither has to fit into memory.

Numbers with a floating point may be asked to be close instead of equal: two engines add in different orders. Rows are
then paired in the order of their numbers, among those whose other columns are equal.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from dsflow.engines.duckdb import DuckDB, open_engine
from dsflow.engines.literals import identifier
from dsflow.errors import UsageError, did_you_mean
from dsflow.model import Column
from dsflow.outputs import schema_changes
from dsflow.store.datastore import Partition

# Types of one group are compared by value where a column changed its type; all others as text.
_NUMBERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT")
_GROUPS = (
    (*_NUMBERS, *(f"U{name}" for name in _NUMBERS), "FLOAT", "DOUBLE", "DECIMAL"),
    ("DATE", "TIMESTAMP"),
)
_FLOATS = {"FLOAT", "DOUBLE"}
# Near zero two numbers are close if they differ by this part of the tolerance.
_NEAR_ZERO = 1000
_THERE = '"#there"'
_TIMES = '"#times"'


@dataclass(frozen=True)
class Change:
    """A row on both sides whose values differ: its keys, and by column the old and the new value."""

    keys: dict[str, Any]
    values: dict[str, tuple[Any, Any]]


@dataclass(frozen=True, kw_only=True)
class Difference:
    """What changed from one partition to another.

    Attributes:
        keys: The columns rows were matched by; none where whole rows were counted.
        rows: How many rows each side has.
        schema: The columns that are not the same, as `- name TYPE`, `+ name TYPE` and `~ name TYPE -> TYPE`.
        added: How many rows only the second side has.
        removed: How many rows only the first side has.
        changed: How many rows have the same keys and other values.
        columns: How many of these changed in each column.
        examples_added: The first rows that were added.
        examples_removed: The first rows that were removed.
        examples_changed: The first rows that changed.
    """

    keys: tuple[str, ...]
    rows: tuple[int, int]
    schema: tuple[str, ...]
    added: int
    removed: int
    changed: int = 0
    columns: dict[str, int] = field(default_factory=dict)
    examples_added: tuple[dict[str, Any], ...] = ()
    examples_removed: tuple[dict[str, Any], ...] = ()
    examples_changed: tuple[Change, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.schema or self.added or self.removed or self.changed)


@dataclass(frozen=True)
class _Common:
    """The columns that both sides have, those among them that need only be close, and how close that is."""

    columns: Sequence[str]
    floats: Sequence[str] = ()
    tolerance: float = 0.0


def compare(
    old: Partition, new: Partition, keys: Sequence[str] = (), examples: int = 5, tolerance: float = 0.0
) -> Difference:
    """Compare two partitions of a table.

    Args:
        old: The first partition.
        new: The second one.
        keys: The columns that name a row; without them whole rows are counted.
        examples: How many rows of each kind to give, at most.
        tolerance: By which part of the larger one FLOATs and DOUBLEs may differ; near zero, by a thousandth of it.

    Raises:
        UsageError: a key is no column of both sides, or several rows have the same keys.
        JobFailed: a side cannot be read.
    """
    engine = open_engine()
    try:
        columns = {"old": _view(engine, "raw_old", old), "new": _view(engine, "raw_new", new)}
        common = _align(engine, columns["old"], columns["new"], tolerance)
        for side, partition in (("old", old), ("new", new)):
            _check_keys(engine, side, partition.ds, columns[side], keys)
        [rows] = engine.fetch("SELECT (SELECT count(*) FROM raw_old), (SELECT count(*) FROM raw_new)")
        schema = schema_changes(columns["old"], columns["new"])
        if not common.columns:
            return Difference(keys=(), rows=rows, schema=schema, added=rows[1], removed=rows[0])
        found = _by_keys(engine, tuple(keys), common, examples) if keys else _by_rows(engine, common, examples)
        return Difference(keys=tuple(keys), rows=rows, schema=schema, **found)
    finally:
        engine.close()


def _view(engine: DuckDB, name: str, partition: Partition) -> tuple[Column, ...]:
    relation = engine.read(partition.files, "parquet", with_ds=False, options={})
    engine.view(name, relation)
    return tuple(Column(name=c, type=str(t)) for c, t in zip(relation.columns, relation.types, strict=True))


def _align(engine: DuckDB, old: Sequence[Column], new: Sequence[Column], tolerance: float) -> _Common:
    """Make views `old` and `new` of the columns that both sides have, in types that can be compared."""
    types = {column.name: column.type for column in old}
    common = [column for column in new if column.name in types]
    names = [identifier(column.name) for column in common]
    values = [n if _alike(types[c.name], c.type) else f"{n}::VARCHAR" for c, n in zip(common, names, strict=True)]
    listed = "".join(f"{value} AS {name}, " for value, name in zip(values, names, strict=True))
    for side in ("old", "new"):
        engine.view(side, engine.sql(f"SELECT {listed}true AS {_THERE} FROM raw_{side}"))
    floats = [c.name for c in common if _FLOATS & {types[c.name], c.type} and _alike(types[c.name], c.type)]
    return _Common([column.name for column in common], floats if tolerance else (), tolerance)


def _alike(one: str, other: str) -> bool:
    # `INTEGER[]` begins like a number and is none.
    plain = "[" not in one + other
    return one == other or (plain and any(one.startswith(types) and other.startswith(types) for types in _GROUPS))


def _check_keys(engine: DuckDB, side: str, ds: str, columns: Sequence[Column], keys: Sequence[str]) -> None:
    names = [column.name for column in columns]
    for key in keys:
        if key not in names:
            raise UsageError(f"ds={ds} has no column {key!r}{did_you_mean(key, names)}", "Give other `--keys`.")
    listed = ", ".join(map(identifier, keys))
    twice = engine.fetch(f"SELECT {listed} FROM {side} GROUP BY ALL HAVING count(*) > 1 LIMIT 1") if keys else []
    for row in twice:
        shown = ", ".join(f"{key}={value}" for key, value in zip(keys, row, strict=True))
        raise UsageError(
            f"ds={ds} has several rows with {shown}, so {', '.join(keys)} cannot be the keys",
            "Give `--keys` that name one row each; without keys whole rows are compared.",
        )


def _by_rows(engine: DuckDB, common: _Common, examples: int) -> dict[str, Any]:
    columns = ", ".join(map(identifier, common.columns))
    unequal = (
        f"SELECT {columns}, sum(sign) AS {_TIMES} FROM (SELECT {columns}, -1 AS sign FROM old"
        f" UNION ALL SELECT {columns}, 1 FROM new) AS sides GROUP BY {columns} HAVING sum(sign) <> 0"
    )
    if common.floats:
        unequal = _not_close(unequal, common)
    counts = ", ".join(f"coalesce(sum({_TIMES}) FILTER ({_TIMES} {sign} 0), 0)::BIGINT" for sign in "><")
    [(added, removed)] = engine.fetch(f"SELECT {counts} FROM ({unequal})")
    shown = {
        sign: engine.fetch(f"SELECT {columns} FROM ({unequal}) WHERE {_TIMES} {sign} 0 ORDER BY ALL LIMIT {examples}")
        for sign in "><"
    }
    return {
        "added": added,
        "removed": -removed,
        "examples_added": tuple(_row(common.columns, row) for row in shown[">"]),
        "examples_removed": tuple(_row(common.columns, row) for row in shown["<"]),
    }


def _not_close(unequal: str, common: _Common) -> str:
    """Give a query for those of the unequal rows that have no partner on the other side that is close enough."""
    columns = ", ".join(map(identifier, common.columns))
    floats = list(map(identifier, common.floats))
    exact = [identifier(name) for name in common.columns if name not in common.floats]
    # Numbers that differ by noise alone must not change the order.
    order = ", ".join([*(f"format('{{:.6e}}', {name}::DOUBLE)" for name in floats), *floats])
    numbered = (
        f"SELECT {columns}, sign({_TIMES}) AS sign, row_number() OVER (PARTITION BY {', '.join([*exact, 'sign'])}"
        f" ORDER BY {order}) AS place FROM ({unequal}), range(abs({_TIMES})::BIGINT)"
    )
    same = " AND ".join(["old.place = new.place", *(f"old.{name} IS NOT DISTINCT FROM new.{name}" for name in exact)])
    far = " OR ".join(f"NOT {_is_close(name, common.tolerance)}" for name in floats)
    left = f"SELECT * FROM old FULL JOIN new ON {same} WHERE old.sign IS NULL OR new.sign IS NULL OR {far}"
    sides = " UNION ALL ".join(
        f"SELECT {', '.join(f'{side}.{identifier(name)}' for name in common.columns)}, {side}.sign"
        f" FROM ({left.replace('SELECT *', 'SELECT old, new', 1)}) WHERE {side}.sign IS NOT NULL"
        for side in ("old", "new")
    )
    return (
        f"WITH numbered AS ({numbered}), old AS (FROM numbered WHERE sign < 0), new AS (FROM numbered WHERE sign > 0)"
        f" SELECT {columns}, sum(sign) AS {_TIMES} FROM ({sides}) GROUP BY {columns} HAVING sum(sign) <> 0"
    )


def _is_close(name: str, tolerance: float) -> str:
    """Give the condition that a column of `old` and `new` has the same value, or one that is close to it."""
    old, new = f"old.{name}::DOUBLE", f"new.{name}::DOUBLE"
    room = f"{tolerance!r} * greatest(abs({old}), abs({new}), {1 / _NEAR_ZERO!r})"
    near = f"isfinite({old}) AND isfinite({new}) AND abs({old} - {new}) <= {room}"
    return f"coalesce({old} IS NOT DISTINCT FROM {new} OR ({near}), false)"


def _by_keys(engine: DuckDB, keys: tuple[str, ...], common: _Common, examples: int) -> dict[str, Any]:
    values = [name for name in common.columns if name not in keys]
    same = " AND ".join(f"old.{identifier(key)} IS NOT DISTINCT FROM new.{identifier(key)}" for key in keys)
    joined = f"FROM old FULL JOIN new ON {same}"
    differs = [_differs(name, common) for name in values]
    both = f"old.{_THERE} AND new.{_THERE} AND ({' OR '.join(differs) or 'false'})"
    conditions = [f"old.{_THERE} IS NULL", f"new.{_THERE} IS NULL", both, *(f"{both} AND {one}" for one in differs)]
    counts = ", ".join(f"count(*) FILTER ({condition})" for condition in conditions)
    [(added, removed, changed, *each)] = engine.fetch(f"SELECT {counts} {joined}")
    rest = f"ORDER BY {', '.join(f'coalesce(old.{k}, new.{k})' for k in map(identifier, keys))} LIMIT {examples}"
    only = {
        side: engine.fetch(f"SELECT {_listed(side, common.columns)} {joined} WHERE {condition} {rest}")
        for side, condition in (("new", conditions[0]), ("old", conditions[1]))
    }
    sides = ", ".join([_listed("old", common.columns), _listed("new", common.columns), *differs])
    changes = engine.fetch(f"SELECT {sides} {joined} WHERE {both} {rest}") if changed else []
    return {
        "added": added,
        "removed": removed,
        "changed": changed,
        "columns": {name: count for name, count in zip(values, each, strict=True) if count},
        "examples_added": tuple(_row(common.columns, row) for row in only["new"]),
        "examples_removed": tuple(_row(common.columns, row) for row in only["old"]),
        "examples_changed": tuple(_change(keys, common.columns, row) for row in changes),
    }


def _differs(name: str, common: _Common) -> str:
    column = identifier(name)
    if name in common.floats:
        return f"(NOT {_is_close(column, common.tolerance)})"
    return f"(old.{column} IS DISTINCT FROM new.{column})"


def _listed(side: str, names: Sequence[str]) -> str:
    return ", ".join(f"{side}.{identifier(name)}" for name in names)


def _row(names: Sequence[str], values: Sequence[Any]) -> dict[str, Any]:
    return {name: _plain(value) for name, value in zip(names, values, strict=True)}


def _change(keys: Sequence[str], common: Sequence[str], row: Sequence[Any]) -> Change:
    old, new = _row(common, row[: len(common)]), _row(common, row[len(common) : 2 * len(common)])
    values = [name for name in common if name not in keys]
    differing = [name for name, differs in zip(values, row[2 * len(common) :], strict=True) if differs]
    return Change({key: new[key] for key in keys}, {name: (old[name], new[name]) for name in differing})


def _plain(value: Any) -> Any:
    """Give a value that JSON has: NaN and the infinities it has not."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
