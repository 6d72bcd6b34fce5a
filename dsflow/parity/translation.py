"""The query of a job in another SQL: translated where that is safe, refused with the place where it is not.

What is filled in (`{{ ... }}`) stays filled in. A sum of whole numbers is given the type that the job's table has now:
the two engines make different ones.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from sqlglot import exp
from sqlglot.errors import ErrorLevel, SqlglotError

from dsflow.errors import UsageError
from dsflow.parity.columns import Types, type_of
from dsflow.parity.rules import lines, refusals
from dsflow.sqltrees import parsed

_FILLED_IN = re.compile(r"\{\{.*?\}\}", re.DOTALL)
_BLOCK = re.compile(r"\{[%#]")
_PLACE = "dsflow_filled_in_{}_"
# What a sum of whole numbers is in a table that each engine wrote.
_SUMS = {"duckdb": "DOUBLE", "spark": "BIGINT"}


def translated(text: str, dialect: str, into: str, columns: Mapping[str, str], where: str) -> str:
    """Give a query in another dialect; the text itself where it means the same there already.

    Args:
        text: The query, with what is to be filled in.
        dialect: What it is written in.
        into: What it is to be written in.
        columns: The types of the columns it reads, in DuckDB's words, by name.
        where: How messages call it.

    Raises:
        UsageError: it cannot be translated, or not safely; each place is named.
    """
    if block := _BLOCK.search(text):
        line = text[: block.start()].count("\n") + 1
        raise UsageError(
            f"{where}: line {line}: a query that is put together by {{% ... %}} cannot be ported",
            "Port it by hand: write the query, `engine:` and `dialect:`, and look with `dsflow parity`.",
        )
    marked, places = _marked(text)
    trees = parsed(marked, dialect, where)
    if len(trees) != 1:
        raise UsageError(f"{where}: {len(trees)} statements; only a single one can be ported", "Leave one SELECT.")
    [tree] = trees
    found = refusals(tree, dialect, columns)
    if found:
        raise UsageError(
            f"{where} has what means something else to the other engine:\n{_unmarked(lines(found), places)}",
            "Write these places so that they mean the same to both, and port it again.",
        )
    try:
        _make_strict(tree)
        written = _sums_as_they_are(tree, dialect, columns).sql(into, pretty=True, unsupported_level=ErrorLevel.RAISE)
    except (SqlglotError, ValueError) as error:
        raise UsageError(f"{where}: {error}", "Port this part by hand.") from None
    if _reads_as(marked, into, written):
        return text
    return _with_places(written, places, where) + "\n"


def _reads_as(text: str, dialect: str, written: str) -> bool:
    """Say whether a text means in a dialect what is written, so that there is nothing to change."""
    try:
        trees = parsed(text, dialect, "")
    except UsageError:
        return False
    for tree in trees:
        _make_strict(tree)
    return [tree.sql(dialect, pretty=True) for tree in trees] == [written]


def _make_strict(tree: exp.Expr) -> None:
    """Let a CAST that fails fail there too: sqlglot takes Spark's for one that gives NULL, as it was before Spark 4."""
    for node in list(tree.find_all(exp.TryCast)):
        if not node.args.get("safe"):
            node.replace(exp.Cast(this=node.this, to=node.to, comments=node.comments))


def _sums_as_they_are(tree: exp.Expr, dialect: str, columns: Mapping[str, str]) -> exp.Expr:
    types = Types.of(tree, columns)
    kind = _SUMS[dialect]
    whole = {id(node) for node in tree.find_all(exp.Sum, exp.CountIf) if type_of(node, types) == "INTEGER"}
    numbers = [number for number, node in enumerate(tree.walk()) if id(node) in whole]
    copy = tree.copy()
    nodes = list(copy.walk())
    for number in reversed(numbers):
        node = nodes[number]
        # What modifies an aggregate belongs to it: the cast goes around both.
        while isinstance(node.parent, exp.Filter | exp.Window) and node.parent.this is node:
            node = node.parent
        if not isinstance(node.parent, exp.Cast | exp.TryCast):
            node.replace(exp.cast(node.copy(), kind))
    return copy


def _marked(text: str) -> tuple[str, list[str]]:
    places: list[str] = []

    def mark(found: re.Match[str]) -> str:
        places.append(found[0])
        return _PLACE.format(len(places) - 1)

    return _FILLED_IN.sub(mark, text), places


def _unmarked(text: str, places: list[str]) -> str:
    for number, place in enumerate(places):
        text = text.replace(_PLACE.format(number), place)
    return text


def _with_places(text: str, places: list[str], where: str) -> str:
    for number, place in enumerate(places):
        if text.count(_PLACE.format(number)) != 1:
            raise UsageError(f"{where}: {place} cannot be kept where it stands", "Port it by hand.")
    return _unmarked(text, places)
