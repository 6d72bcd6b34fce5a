"""What a SQL text reads, found by parsing it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from dsflow.errors import UsageError
from dsflow.sqltrees import parsed

if TYPE_CHECKING:
    from sqlglot import exp

_FILE = re.compile(r"[/*?]|\.(csv|tsv|json|jsonl|ndjson|parquet|txt)(\.\w+)?$", re.IGNORECASE)


def sources_of(sql: str, dialect: str, where: str = "query") -> tuple[str, ...]:
    """Give the tables that a query reads, in the order of their first mention.

    Names of common table expressions, of views and tables that the text makes itself, table functions and files are
    not among them. A raw dataset appears as `raw.NAME`; other qualified names (`information_schema.x`) do not appear.

    Args:
        sql: One or more statements.
        dialect: The engine's dialect, such as `duckdb`.
        where: How messages call the text.

    Raises:
        UsageError: it is not valid SQL.
    """
    from sqlglot import exp

    found: dict[str, str] = {}
    made: set[str] = set()
    for statement in parsed(sql, dialect, where):
        if isinstance(statement, exp.Create) and (target := statement.find(exp.Table)):
            made.add(target.name.casefold())
        for table in statement.find_all(exp.Table, bfs=False):
            name = _name(table)
            if name and name.casefold() not in made and not _is_common_table(table):
                found.setdefault(name.casefold(), name)
    return tuple(found.values())


def is_ordered(sql: str, dialect: str) -> bool:
    """Say whether the rows of a query come in an order that it names itself."""
    try:
        statements = parsed(sql, dialect, "query")
    except UsageError:
        return False
    return bool(statements) and statements[-1].args.get("order") is not None


def canonical(sql: str, dialect: str) -> str | None:
    """Give a query's tree as text, without comments and formatting, or None where it cannot be parsed."""
    try:
        statements = parsed(sql, dialect, "query")
        return ";\n".join(statement.sql(dialect, comments=False) for statement in statements)
    except (UsageError, ValueError, RecursionError):
        return None


def quoted_raw(sql: str, dialect: str) -> str:
    """Give a query in which a raw dataset, `raw.NAME`, is a single name, for an engine whose views have no schema.

    A query that cannot be parsed stays as it is: the engine has the better words for what is wrong with it.
    """
    from sqlglot import exp

    if "raw" not in sql.casefold():
        return sql
    try:
        statements = parsed(sql, dialect, "query")
    except UsageError:
        return sql
    tables = [table for statement in statements for table in statement.find_all(exp.Table)]
    places = {
        (table.args["db"].meta["start"], table.this.meta["end"] + 1, table.name)
        for table in tables
        if _name(table).startswith("raw.") and "start" in table.args["db"].meta and "end" in table.this.meta
    }
    # From the end, so that what comes before keeps its place.
    for start, end, name in sorted(places, reverse=True):
        sql = f"{sql[:start]}`raw.{name}`{sql[end:]}"
    return sql


def _name(table: exp.Table) -> str:
    """Give a table's name as `NAME` or `raw.NAME`; nothing for functions, files and other schemas."""
    if not table.name or _FILE.search(table.name) or table.catalog or table.db.casefold() not in ("", "raw"):
        return ""
    return f"raw.{table.name}" if table.db else table.name


def _is_common_table(table: exp.Table) -> bool:
    """Say whether a `WITH` that reaches this place defines the name."""
    from sqlglot import exp

    if table.db:
        return False
    name = table.name.casefold()
    child: exp.Expr = table
    node = table.parent
    while node is not None:
        tables = node if isinstance(node, exp.With) else node.args.get("with_") or node.args.get("with")
        if tables is not None and tables is not child:
            names = [expression.alias.casefold() for expression in tables.expressions]
            # Inside a definition only the earlier ones are known, and itself if it is recursive.
            known = names
            if node is tables:
                index = next(i for i, expression in enumerate(tables.expressions) if expression is child)
                known = names[: index + bool(tables.args.get("recursive"))]
            if name in known:
                return True
        child, node = node, node.parent
    return False
