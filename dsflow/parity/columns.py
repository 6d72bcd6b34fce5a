"""What type an expression of a query has, as far as that can be said without running it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlglot import exp
from sqlglot.errors import SqlglotError

FRACTIONAL = {"DOUBLE", "FLOAT", "DECIMAL"}
NESTED = {"LIST", "STRUCT", "MAP"}
_ORDER = ("INTEGER", "DECIMAL", "FLOAT", "DOUBLE")
_WHOLE = (exp.Count, exp.CountIf, exp.Length, exp.IntDiv, exp.Year, exp.Month, exp.Day, exp.RowNumber, exp.DateDiff)
_ALIKE = (exp.Paren, exp.Max, exp.Min, exp.Neg, exp.Abs, exp.First, exp.Last, exp.AnyValue, exp.Filter, exp.Window)
_BRANCHES = (exp.Coalesce, exp.Case, exp.If, exp.Greatest, exp.Least)


@dataclass(frozen=True)
class Types:
    """The types of names: columns that are read, and what the query itself calls something."""

    columns: Mapping[str, str]
    named: Mapping[str, tuple[exp.Expr, ...]]

    @classmethod
    def of(cls, tree: exp.Expr, columns: Mapping[str, str]) -> Types:
        """Give what is known of the names in a query.

        Args:
            tree: The query.
            columns: The types of the columns it reads, in DuckDB's words, by name.
        """
        named: dict[str, tuple[exp.Expr, ...]] = {}
        for alias in tree.find_all(exp.Alias):
            named[alias.alias.casefold()] = (*named.get(alias.alias.casefold(), ()), alias.this)
        known = {name.casefold(): _kind(type_) for name, type_ in columns.items()}
        return cls({name: kind for name, kind in known.items() if kind}, named)


def type_of(node: exp.Expr, types: Types, depth: int = 0) -> str | None:
    """Give the kind of an expression: INTEGER, DECIMAL, FLOAT, DOUBLE, TEXT, DATE, TIMESTAMP, ...; None if unknown."""
    if depth > 50:  # an alias that is made of itself, or nearly
        return None
    if isinstance(node, exp.Column):
        return _of_name(node, types, depth)
    if isinstance(node, exp.Cast | exp.TryCast):
        return _kind(node.to.sql("duckdb"))
    if isinstance(node, exp.Literal):
        return "TEXT" if node.is_string else "INTEGER" if node.name.isdigit() else "DECIMAL"
    if isinstance(node, _WHOLE):
        return "INTEGER"
    if isinstance(node, _ALIKE):
        return type_of(node.this, types, depth + 1)
    if isinstance(node, exp.Sum):
        return type_of(node.this, types, depth + 1)
    if isinstance(node, exp.Add | exp.Sub | exp.Mul | exp.Mod):
        return _wider([type_of(node.this, types, depth + 1), type_of(node.expression, types, depth + 1)])
    if isinstance(node, _BRANCHES):
        return _wider([type_of(branch, types, depth + 1) for branch in _branches(node)])
    return None


def _of_name(node: exp.Column, types: Types, depth: int) -> str | None:
    name = node.name.casefold()
    found = {type_of(one, types, depth + 1) for one in types.named.get(name, ()) if one is not node}
    if name in types.columns:
        found.add(types.columns[name])
    return found.pop() if len(found) == 1 else None


def _branches(node: exp.Expr) -> list[exp.Expr]:
    if isinstance(node, exp.Case):
        found = [branch.args["true"] for branch in node.args["ifs"]]
        return [*found, *filter(None, [node.args.get("default")])]
    if isinstance(node, exp.If):
        return [one for one in (node.args.get("true"), node.args.get("false")) if one is not None]
    return [node.this, *node.expressions]


def _wider(kinds: list[str | None]) -> str | None:
    """Give the kind that numbers of several kinds have together; None where one is unknown or they do not fit."""
    if len(set(kinds)) == 1:
        return kinds[0]
    if not all(kind in _ORDER for kind in kinds):
        return None
    return max((str(kind) for kind in kinds), key=_ORDER.index)


def _kind(type_: str) -> str | None:
    """Give the kind of a type in DuckDB's words."""
    try:
        known = exp.DataType.build(type_, dialect="duckdb")
    except (SqlglotError, ValueError):
        return None
    for kind, members in _KINDS.items():
        if known.this in members:
            return kind
    return str(known.this.value)


_KINDS = {
    "INTEGER": exp.DataType.INTEGER_TYPES,
    "TEXT": exp.DataType.TEXT_TYPES,
    "LIST": exp.DataType.ARRAY_TYPES,
    "STRUCT": exp.DataType.STRUCT_TYPES,
    "TIMESTAMP": {
        exp.DType.TIMESTAMP,
        exp.DType.TIMESTAMPTZ,
        exp.DType.TIMESTAMPNTZ,
        exp.DType.TIMESTAMPLTZ,
        exp.DType.TIMESTAMP_NS,
        exp.DType.DATETIME,
    },
}
