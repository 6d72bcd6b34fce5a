"""`dsflow diff`: what changed from one partition of a table to another."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import click

from dsflow.commands.context import Context
from dsflow.commands.differences import lines_of
from dsflow.commands.sampled import sample_option
from dsflow.errors import DsflowError, JobFailed, UsageError
from dsflow.quantities import show_count

if TYPE_CHECKING:
    from dsflow.store.datastore import Partition


@click.command()
@click.argument("table")
@click.argument("a")
@click.argument("b")
@sample_option
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
    for line in lines_of(found):
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
