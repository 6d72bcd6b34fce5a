"""`dsflow ls tables`: the tables of the datastore."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import click

from dsflow.commands.context import Context
from dsflow.commands.sampled import sample_option
from dsflow.errors import DsflowError
from dsflow.model import Column
from dsflow.quantities import show_bytes

if TYPE_CHECKING:
    from dsflow.store.datastore import Datastore
    from dsflow.store.index import Index


@dataclass(frozen=True)
class _Table:
    """One line; kind, rows, last run and columns are unknown of what dsflow did not write."""

    name: str
    kind: str
    partitions: int
    first: str
    last: str
    rows: int | None
    bytes: int
    last_run: str
    published: str
    columns: tuple[Column, ...]


@click.command()
@sample_option
@click.pass_obj
def tables(context: Context) -> None:
    """List the tables: kind, partitions, rows, bytes, last run, number of columns; with -v the columns too."""
    from dsflow.store.datastore import Datastore
    from dsflow.store.index import Index

    datastore = Datastore(context.workspace.datastore)
    index = Index(datastore)
    found = [_table(context, datastore, index, name) for name in datastore.names("table")]
    if context.json:
        context.console.document({"tables": [asdict(table) for table in found]})
        return
    if not found:
        context.console.note("No table yet. `dsflow run JOB DS` makes one.")
        return
    names = ["table", "kind", "partitions", "ds", "rows", "bytes", "columns", "last run"]
    context.console.table(names, [_row(table) for table in found])
    for table in found if context.console.verbose else ():
        context.console.line(f"\n{table.name}")
        for column in table.columns:
            context.console.line(f"  {column.name}  {column.type}")


def _table(context: Context, datastore: Datastore, index: Index, name: str) -> _Table:
    entries = index.entries("table", name)
    days = list(entries)
    counts = [entry.rows for entry in entries.values() if entry.rows is not None]
    latest = max(entries.values(), key=lambda entry: (entry.published, entry.run_id), default=None)
    manifest = None
    try:
        newest = datastore.partition("table", name, days[-1]) if days else None
        manifest = newest.manifest if newest else None
    except DsflowError as error:
        context.console.note(f"{error.message}. {error.hint}")
    return _Table(
        name=name,
        kind=manifest.kind if manifest else "",
        partitions=len(days),
        first=days[0] if days else "",
        last=days[-1] if days else "",
        rows=sum(counts) if counts else None,
        bytes=sum(entry.bytes for entry in entries.values()),
        last_run=latest.run_id if latest else "",
        published=latest.published if latest else "",
        columns=manifest.columns if manifest else (),
    )


def _row(table: _Table) -> list[str]:
    span = table.first if table.first == table.last else f"{table.first} .. {table.last}"
    rows = "" if table.rows is None else f"{table.rows:,}"
    columns = str(len(table.columns) or "")
    return [
        table.name,
        table.kind,
        f"{table.partitions:,}",
        span,
        rows,
        show_bytes(table.bytes),
        columns,
        table.last_run,
    ]
