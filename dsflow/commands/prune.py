"""`dsflow prune`: take old partitions away."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from dsflow.commands.context import Context
from dsflow.errors import UsageError, did_you_mean
from dsflow.quantities import show_bytes, show_count

if TYPE_CHECKING:
    from dsflow.retention import Pruning
    from dsflow.store.datastore import Datastore
    from dsflow.store.layout import Store


@click.command()
@click.argument("tables", nargs=-1, metavar="[TABLE]...")
@click.option("--keep", required=True, metavar="RULES", help="What stays: `daily:30,monthly:12`.")
@click.option("--dry-run", is_flag=True, help="Show what would go; take nothing away.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def prune(context: Context, tables: tuple[str, ...], keep: str, dry_run: bool, yes: bool) -> None:
    """Take away the partitions of TABLEs that no rule keeps; without TABLE those of all dimensions.

    `daily:30,monthly:12` keeps the newest partition of each of the newest 30 days and 12 months that have one. Periods
    are hourly, daily, weekly, monthly and yearly. The newest partition always stays. `raw/NAME` is a raw dataset.
    """
    from dsflow import retention
    from dsflow.store.datastore import Datastore

    datastore = Datastore(context.workspace.datastore)
    rules = retention.rules_of(keep)
    prunings = [retention.plan(datastore, store, name, rules) for store, name in _chosen(datastore, tables)]
    _show(context, prunings)
    count, size = sum(len(p.goes) for p in prunings), show_bytes(sum(p.bytes for p in prunings))
    wanted = bool(count) and not dry_run and (yes or _agreed(context, f"Take {show_count(count, 'partition')} away?"))
    if wanted:
        context.check_own()
    refused = retention.carry_out(datastore, prunings) if wanted else []
    if context.json:
        document = [{**dataclasses.asdict(pruning), "stays": list(pruning.stays)} for pruning in prunings]
        context.console.document({"tables": document, "done": wanted, "locked": [error.message for error in refused]})
    elif wanted:
        gone = show_count(count - len(refused), "partition")
        context.console.line(f"Done. {gone} went, {size}; .dsflow/trash has them for an hour.")
    else:
        context.console.line(f"{show_count(count, 'partition')} would go, {size}." if count else "Nothing has to go.")
    if refused:
        raise refused[0]


def _chosen(datastore: Datastore, tables: Sequence[str]) -> list[tuple[Store, str]]:
    if not tables:
        return [("table", name) for name in datastore.names("table") if _is_dimension(datastore, name)]
    return [_named(datastore, text) for text in dict.fromkeys(tables)]


def _named(datastore: Datastore, text: str) -> tuple[Store, str]:
    store: Store = "raw" if text.startswith("raw/") else "table"
    name = text.removeprefix("raw/").removeprefix("tables/")
    known = datastore.names(store)
    if name not in known:
        what = "table" if store == "table" else "raw dataset"
        raise UsageError(f"there is no {what} {name!r}{did_you_mean(name, known)}", "`dsflow ls tables` lists them.")
    return store, name


def _is_dimension(datastore: Datastore, name: str) -> bool:
    newest = datastore.newest("table", name)
    return newest is not None and newest.manifest is not None and newest.manifest.kind == "dim"


def _show(context: Context, prunings: Sequence[Pruning]) -> None:
    if context.json:
        return
    rows = [
        [
            f"{'raw/' if p.store == 'raw' else ''}{p.name}",
            str(len(p.stays)),
            str(len(p.goes)),
            _span(p),
            show_bytes(p.bytes),
        ]
        for p in prunings
    ]
    if rows:
        context.console.table(["table", "stay", "go", "from .. to", "bytes"], rows)
    if context.console.verbose:
        for pruning in prunings:
            for ds in sorted((*pruning.stays, *pruning.goes)):
                why = ", ".join(pruning.stays.get(ds, ()))
                context.console.line(f"{pruning.name} ds={ds} {f'stays: {why}' if why else 'goes'}")


def _span(pruning: Pruning) -> str:
    return f"{pruning.goes[0]} .. {pruning.goes[-1]}" if pruning.goes else ""


def _agreed(context: Context, question: str) -> bool:
    if context.json or not sys.stdin.isatty():
        raise UsageError("nothing was taken away: there is nobody to ask", "Give -y, or --dry-run to look only.")
    return click.confirm(question, err=True)
