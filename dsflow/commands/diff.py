"""`dsflow diff`: what changed from one partition of a table to another."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import click

from dsflow.commands.context import Context
from dsflow.errors import DsflowError, JobFailed, UsageError
from dsflow.quantities import show_count

if TYPE_CHECKING:
    from dsflow.comparison import Difference
    from dsflow.store.datastore import Partition


@click.command()
@click.argument("table")
@click.argument("a")
@click.argument("b")
@click.option("--keys", metavar="COLUMN,...", help="The columns that name a row; those of the job if absent.")
@click.option("--limit", type=click.IntRange(0), default=5, show_default=True, help="Show at most so many of each.")
@click.pass_obj
def diff(context: Context, table: str, a: str, b: str, keys: str | None, limit: int) -> None:
    """Show which rows and columns of TABLE changed from partition A to partition B.

    Without keys, neither given nor in the job's spec, whole rows are counted.

    \b
    dsflow diff dim_stations 2026-11-19 2026-11-20 --keys id
    """
    from dsflow.comparison import compare
    from dsflow.store.datastore import Datastore

    try:
        old, new = Datastore(context.workspace.datastore).select("table", table, [a, b])
    except JobFailed as error:
        raise UsageError(error.message, error.hint) from None
    matched = [key.strip() for key in keys.split(",")] if keys is not None else _keys_of_job(context, new)
    found = compare(old, new, matched, limit)
    if context.json:
        context.console.document({"table": table, "a": a, "b": b, **dataclasses.asdict(found)})
        return
    before, after = (show_count(rows, "row") for rows in found.rows)
    by = f"matched by {', '.join(found.keys)}" if found.keys else "whole rows counted"
    context.console.line(f"{table}: ds={a} has {before}, ds={b} has {after}; {by}")
    if not found.keys:
        context.console.note("Give --keys, or `keys` under `output` in the job's spec, to see which rows changed.")
    for line in _lines(found):
        context.console.line(line)


def _keys_of_job(context: Context, partition: Partition) -> list[str]:
    """Give the keys that the job which wrote the partition declares; none where there is no such job any more."""
    from dsflow.specs.load import load_job

    if partition.manifest is None:
        return []
    try:
        output = load_job(context.workspace, partition.manifest.job).output
    except DsflowError:
        return []
    return list(output.keys) if output is not None and output.table == partition.name else []


def _lines(found: Difference) -> list[str]:
    if not found:
        return ["Nothing differs."]
    lines = ["columns", *(f"  {change}" for change in found.schema)] if found.schema else []
    for word, count, rows in (
        ("added", found.added, found.examples_added),
        ("removed", found.removed, found.examples_removed),
    ):
        if count:
            lines += [
                f"{word} {show_count(count, 'row')}",
                *(f"  {_row(row)}" for row in rows),
                *_more(count, len(rows)),
            ]
    if found.changed:
        columns = ", ".join(f"{name} {count:,}" for name, count in found.columns.items())
        lines.append(f"changed {show_count(found.changed, 'row')}: {columns}")
        for change in found.examples_changed:
            values = ", ".join(f"{name} {_value(old)} -> {_value(new)}" for name, (old, new) in change.values.items())
            lines.append(f"  {_row(change.keys)}: {values}")
        lines += _more(found.changed, len(found.examples_changed))
    return lines


def _more(count: int, shown: int) -> list[str]:
    return [f"  and {count - shown:,} more"] if 0 < shown < count else []


def _row(row: dict[str, Any]) -> str:
    return " ".join(f"{name}={_value(value)}" for name, value in row.items())


def _value(value: Any) -> str:
    text = "NULL" if value is None else str(value)
    return text if len(text) <= 60 else text[:57] + "..."
