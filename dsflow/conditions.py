"""The conditions of expectations: SQL that can look at values and do nothing else, and means the same to every engine.

A condition is parsed, each node of its tree has to be on the list below, and what an engine gets is made from the tree
again: a text that two parsers understand differently has no way through. On the list is what DuckDB and, translated,
Spark answer alike. A `SELECT` may only be one of the two that short forms need, over a table that is named beside it.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from dsflow.errors import UsageError, did_you_mean
from dsflow.sqltrees import parsed

if TYPE_CHECKING:
    from sqlglot import exp

LONGEST = 10_000
# What writes a tree as text goes down into it, and Python's stack ends somewhere.
_DEEPEST = 50
_OPERATORS = (
    "Add And Between BitwiseAnd BitwiseOr Boolean Case Cast Column DataType DataTypeParam Div Dot DPipe EQ Escape"
    " GT GTE Identifier If ILike In IntDiv Interval Is LT LTE Like Literal Mod Mul NEQ Neg Not Null NullSafeEQ"
    " NullSafeNEQ Or Paren Sub TryCast Tuple Var"
)
_FUNCTIONS = (
    "Abs ArrayContains ArraySize Coalesce Concat ConcatWs Contains DateTrunc Day DayOfYear EndsWith Exp Extract"
    " Greatest Hour IsNan Least Left Length Ln Log Lower Minute Month Nullif Pow Quarter RegexpLike Replace"
    " Reverse Right Round Second Sign SplitPart Sqrt StartsWith StrPosition Substring TimeToStr TimestampTrunc Trim"
    " Upper Week Year"
)
_AGGREGATES = "Avg Count CountIf LogicalAnd LogicalOr Max Median Min Stddev StddevSamp Sum"
_AROUND_AGGREGATES = "Distinct Filter Lag Lead Order Ordered RowNumber Where Window WindowSpec Star"
_COMPUTING = frozenset(_OPERATORS.split())
_ALLOWED = frozenset(f"{_OPERATORS} {_FUNCTIONS} {_AGGREGATES} {_AROUND_AGGREGATES}".split())
_COUNTED = frozenset(_AGGREGATES.split())
# To what a value may be cast. Engines round differently where a fraction becomes a whole number.
_TYPES = frozenset({"BOOLEAN", "DATE", "DECIMAL", "DOUBLE", "FLOAT", "TEXT", "VARCHAR"})
_MOMENTS = frozenset({"TIMESTAMP", "TIMESTAMPNTZ", "TIMESTAMPTZ"})
_CLOCKS = {"CurrentDate", "CurrentTimestamp", "CurrentTime", "CurrentDatetime", "Localtimestamp", "Localtime"}
_QUERIES = {"Select", "Subquery", "Union", "Exists", "From", "Table", "With", "CTE", "Values", "Intersect", "Except"}
_FUNCTION_HINT = "docs/expectations.md lists the functions that mean the same to every engine."


@dataclass(frozen=True)
class Condition:
    """A condition that was found harmless.

    Attributes:
        tree: Its tree.
        per: What it is about: each row, or with aggregates the partition as a whole.
        columns: The columns it names, as written.
        tables: The tables it names.
    """

    tree: exp.Expr
    per: Literal["row", "partition"]
    columns: tuple[str, ...]
    tables: tuple[str, ...]

    def sql(self, names: Mapping[str, str]) -> str:
        """Give it in the dialect of DuckDB, made from the tree.

        Args:
            names: What to write for each of its tables.
        """
        key = tuple(names.items())
        if key not in self._texts:
            self._texts[key] = _written(self.tree, names)
        return self._texts[key]

    @functools.cached_property
    def _texts(self) -> dict[tuple[tuple[str, str], ...], str]:
        """What `sql` has made: a worker asks for the same again for every date."""
        return {}

    def amounts(self, names: Mapping[str, str]) -> dict[str, str]:
        """Give the aggregates and counts in a condition about the partition: what they are called, and their SQL."""
        found = (node for node in self.tree.walk(bfs=False) if _is_amount(node))
        outermost = [node for node in found if not any(_is_amount(above) for above in _above(node))]
        return {_written(node, {}): _written(node, names) for node in outermost}

    @functools.cached_property
    def calls(self) -> bool:
        """Whether it calls any function or looks into a table, rather than comparing and computing only."""
        return bool(self.tables) or any(type(node).__name__ not in _COMPUTING for node in self.tree.walk())

    def unique_columns(self) -> tuple[str, ...]:
        """Give the columns of `count(*) OVER (PARTITION BY ...) = 1`, as SQL; none where it is anything else."""
        from sqlglot import exp

        match self.tree:
            case exp.EQ(this=exp.Window(this=exp.Count(this=exp.Star())) as window, expression=exp.Literal(this="1")):
                given = {key for key, value in window.args.items() if value}
                if given <= {"this", "partition_by", "over"}:
                    return tuple(_written(column, {}) for column in window.args.get("partition_by") or ())
        return ()


@functools.lru_cache(maxsize=1000)
def condition_of(text: str, where: str, tables: tuple[str, ...] = ()) -> Condition:
    """Read a condition and refuse what it may not be.

    Args:
        text: SQL in the dialect of DuckDB.
        where: How messages call it.
        tables: The tables that it may name.

    Raises:
        UsageError: it is not one SQL condition, is too long, or has something in it that may not be there.
    """
    from sqlglot import exp

    if len(text) > LONGEST:
        raise UsageError(f"{where}: the constraint has {len(text):,} characters, and {LONGEST:,} is the most")
    if "\0" in text:
        raise UsageError(f"{where}: the constraint has a character that no SQL has (NUL)")
    statements = parsed(text, "duckdb", where, into=exp.Condition)
    if len(statements) != 1:
        raise UsageError(f"{where}: expected one SQL condition, such as `rain >= 0`")
    [tree] = statements
    if _depth(tree) > _DEEPEST:
        raise UsageError(f"{where}: nested too deeply; {_DEEPEST} levels are the most")
    return _checked(tree, where, {name.casefold() for name in tables})


def load() -> None:
    """Load what reads conditions, in a process that will be forked: that takes longer than reading one."""
    condition_of("x = 1", "").sql({})


def check_columns(condition: Condition, columns: Collection[str], where: str) -> None:
    """Make sure that a condition names only columns that are there.

    Raises:
        UsageError: it names another one.
    """
    known = {name.casefold() for name in columns}
    for name in condition.columns:
        if name.casefold() not in known:
            raise UsageError(
                f"{where}: there is no column {name!r}{did_you_mean(name, columns)}",
                f"The columns are {', '.join(columns)}.",
            )


def _checked(tree: exp.Expr, where: str, tables: Collection[str]) -> Condition:
    from sqlglot import exp

    named: dict[str, str] = {}
    inside: set[int] = set()
    for node in tree.walk(bfs=False):
        if id(node) in inside:
            continue
        if isinstance(node, exp.Subquery | exp.Select):
            table = _counted_or_listed(node, where, tables)
            named.setdefault(table, table)
            inside |= {id(part) for part in node.walk()}
        else:
            _check_node(node, where)
    columns = [_root(column) for column in tree.find_all(exp.Column, bfs=False) if id(column) not in inside]
    whole = any(type(node).__name__ in _COUNTED and not _is_windowed(node) for node in _outside(tree, inside))
    return Condition(tree, "partition" if whole else "row", tuple(dict.fromkeys(columns)), tuple(named))


def _check_node(node: exp.Expr, where: str) -> None:
    from sqlglot import exp

    kind = type(node).__name__
    if kind in _CLOCKS or (isinstance(node, exp.Anonymous) and node.name.casefold() in ("now", "get_current_time")):
        raise UsageError(
            f"{where}: a constraint has no clock, or a run would end otherwise tomorrow",
            "Compare with '{{ ds }}', '{{ start }}' or '{{ end }}', or write `freshness`.",
        )
    if kind in _QUERIES:
        raise UsageError(f"{where}: a constraint may not hold a query", "`references` looks into another table.")
    if isinstance(node, exp.Anonymous):
        raise UsageError(f"{where}: {node.name[:60]!r} is no function that a constraint may use", _FUNCTION_HINT)
    if kind not in _ALLOWED or (isinstance(node, exp.Star) and not isinstance(node.parent, exp.Count)):
        shown = _written(node, {})[:60]
        raise UsageError(f"{where}: {shown!r} may not be in a constraint", _FUNCTION_HINT)
    if isinstance(node, exp.Cast) and node.to.this.name not in _TYPES | _MOMENTS:
        hint = "Use round(), or cast to DOUBLE, DECIMAL, VARCHAR, DATE or TIMESTAMP."
        raise UsageError(f"{where}: engines differ in a cast to {_written(node.to, {})[:60]}", hint)
    if isinstance(node, exp.Like | exp.ILike) and "\\" in _written(node.expression, {}):
        raise UsageError(f"{where}: engines differ in what a backslash after LIKE means", "contains() knows none.")


def _counted_or_listed(node: exp.Expr, where: str, tables: Collection[str]) -> str:
    """Give the table of `(SELECT count(*) FROM table)` or `IN (SELECT column FROM table)`; refuse anything else."""
    from sqlglot import exp

    select = node.this if isinstance(node, exp.Subquery) else node
    parts = {key: value for key, value in select.args.items() if value}
    listed = parts.pop("expressions", [])
    source = parts.pop("from_", None) or parts.pop("from", None)
    table = source.this if source is not None else None
    bare = isinstance(table, exp.Table) and {key for key, value in table.args.items() if value} == {"this"}
    plain = isinstance(select, exp.Select) and not parts and len(listed) == 1 and bare
    if plain and isinstance(table, exp.Table) and table.name.casefold() in tables:
        [wanted] = listed
        column = isinstance(wanted, exp.Column) and isinstance(wanted.this, exp.Identifier) and not wanted.table
        if column if isinstance(node.parent, exp.In) else wanted == exp.Count(this=exp.Star(), big_int=True):
            return str(table.name)
    raise UsageError(f"{where}: a constraint may not hold a query", "`references` looks into another table.")


def _written(tree: exp.Expr, names: Mapping[str, str]) -> str:
    from sqlglot import exp

    def changed(node: exp.Expr) -> exp.Expr:
        if isinstance(node, exp.Table) and node.name in names:
            return exp.Table(this=exp.to_identifier(names[node.name], quoted=True))
        if names and isinstance(node, exp.Div | exp.IntDiv | exp.Mod) and not _is_nonzero(node.expression):
            # An engine would give infinity, another one an error; no value is a violation to all of them.
            node.set("expression", exp.Nullif(this=node.expression, expression=exp.Literal.number(0)))
        if names and isinstance(node, exp.IsNan):
            # Of NULL an engine says that it is no NaN, another one that it does not know; NaN equals NaN to both.
            nan = exp.cast(exp.Literal.string("NaN"), "DOUBLE")
            return exp.Paren(this=exp.EQ(this=node.this, expression=nan))
        return node

    return str(tree.copy().transform(changed).sql("duckdb", comments=False))


def _is_nonzero(node: exp.Expr) -> bool:
    from sqlglot import exp

    return isinstance(node, exp.Literal) and not node.is_string and any(digit in "123456789" for digit in node.this)


def _is_amount(node: exp.Expr) -> bool:
    from sqlglot import exp

    is_aggregate = type(node).__name__ in _COUNTED or isinstance(node, exp.Filter)
    return (is_aggregate and not _is_windowed(node)) or isinstance(node, exp.Subquery)


def _is_windowed(node: exp.Expr) -> bool:
    from sqlglot import exp

    parent = node.parent
    while isinstance(parent, exp.Filter):
        parent = parent.parent
    return isinstance(parent, exp.Window)


def _above(node: exp.Expr) -> list[exp.Expr]:
    found = []
    above = node.parent
    while above is not None:
        found.append(above)
        above = above.parent
    return found


def _depth(tree: exp.Expr) -> int:
    """Give how many levels a tree has; a chain such as `a AND b AND c` is one."""
    from sqlglot import exp

    depths: dict[int, int] = {}
    for node in tree.walk(bfs=True):
        parent = node.parent
        same = isinstance(node, exp.Binary) and type(node) is type(parent)
        depths[id(node)] = depths.get(id(parent), 0) + (not same)
    return max(depths.values())


def _outside(tree: exp.Expr, inside: Collection[int]) -> list[exp.Expr]:
    return [node for node in tree.walk(bfs=False) if id(node) not in inside]


def _root(column: exp.Column) -> str:
    """Give the column of `column` or of `column.field`."""
    return str((column.parts or [column.this])[0].name)
