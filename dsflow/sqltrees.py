"""SQL texts as trees, and the types that they name."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from dsflow.errors import UsageError

if TYPE_CHECKING:
    from sqlglot import exp
    from sqlglot.errors import ParseError


def parsed(sql: str, dialect: str, where: str, into: type[exp.Expr] | None = None) -> list[exp.Expr]:
    """Give the statements of a text as trees.

    Args:
        sql: The text.
        dialect: Its dialect, such as `duckdb`.
        where: How messages call the text.
        into: What each statement must be; any statement if absent.

    Raises:
        UsageError: it is not valid SQL.
    """
    from sqlglot.dialects.dialect import Dialect
    from sqlglot.errors import ErrorLevel, ParseError, TokenError

    # It logs what it does not know and goes on; the engine has the last word on such statements.
    logging.getLogger("sqlglot").setLevel(logging.ERROR)
    try:
        known = Dialect.get_or_raise(dialect)
        parser, tokens = known.parser(error_level=ErrorLevel.IMMEDIATE), known.tokenize(sql)
        statements = parser.parse_into(into, tokens, sql) if into else parser.parse(tokens, sql)
    except ParseError as error:
        raise UsageError(f"{where}: {_problem(error)}") from None
    except TokenError:
        raise UsageError(f"{where}: not valid SQL: a quote or a comment is not closed") from None
    except (RecursionError, MemoryError):
        raise UsageError(f"{where}: nested too deeply for SQL") from None
    return [statement for statement in statements if statement is not None]


def same_type(one: str, other: str, dialect: str) -> bool:
    """Say whether two texts name the same type, each in DuckDB's words or in those of a dialect."""
    return one.strip().upper() == other.strip().upper() or bool(_types(one, dialect) & _types(other, dialect))


def _types(text: str, dialect: str) -> set[str]:
    from sqlglot import exp
    from sqlglot.errors import SqlglotError

    found = set()
    for known in {dialect, "duckdb"}:
        try:
            found.add(str(exp.DataType.build(text, dialect=known).sql("duckdb")))
        except (SqlglotError, ValueError):
            continue
    return found


def _problem(error: ParseError) -> str:
    details = error.errors[0] if error.errors else {}
    place = f"line {details['line']}, column {details['col']}: " if details.get("line") else ""
    near = str(details.get("highlight") or "")[:40]
    return f"{place}not valid SQL" + (f" near {near!r}" if near else ": it ends too early")
