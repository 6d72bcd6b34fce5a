"""`dsflow checks`: how the row counts and the expectations of a table develop."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from dsflow.commands import plans
from dsflow.commands.completion import tables as complete_tables
from dsflow.commands.context import Context
from dsflow.commands.sampled import sample_option
from dsflow.errors import UsageError
from dsflow.quantities import show_count

if TYPE_CHECKING:
    from dsflow.records import Checked
    from dsflow.trends import Usual

_USUALLY = 60
_MOST_WARNINGS = 5
# So much room names and bars have at least.
_NARROWEST = 8


@click.command()
@click.argument("table", shell_complete=complete_tables)
@click.argument("dates", nargs=-1, metavar="[A..B]")
@sample_option
@click.pass_obj
def checks(context: Context, table: str, dates: tuple[str, ...]) -> None:
    """Show how the rows of TABLE and the verdicts on it develop, for the last 60 partitions or from A to B.

    A row count that is out of its usual range is named: docs/expectations.md has the rule.

    \b
    dsflow checks weather
    """
    from dsflow import trends
    from dsflow.review import partitions_in
    from dsflow.store.datastore import Datastore
    from dsflow.store.index import Index

    rest, span = plans.split_dates(dates)
    if rest:
        raise UsageError(f"{rest[0]!r} is no date", f"`dsflow checks {table} 2026-11-01..2026-11-20`")
    datastore = Datastore(context.workspace.datastore)
    checked = context.history.checked(f"tables/{table}")
    # A date whose run failed has verdicts, and perhaps no partition.
    known = sorted({*partitions_in(datastore, table, None), *(one.ds for one in checked)})
    shown = [ds for ds in known if span[0] <= ds and ds[: len(span[1])] <= span[1]] if span else known[-_USUALLY:]
    if not shown:
        raise UsageError(f"table {table!r} has nothing in that span", f"It has {known[0]} to {known[-1]}.")
    entries = Index(datastore).entries("table", table)
    # Of what dsflow did not write, whoever checked it last has counted the rows.
    counts = {one.ds: one.rows for one in checked if one.ds in entries}
    counts |= {ds: entry.rows for ds, entry in entries.items() if entry.rows is not None}
    usual = {ds: trends.usual_before(counts, ds) for ds in shown if ds in counts}
    by_name = _by_name(checked)
    if context.json:
        context.console.document(_document(table, shown, counts, usual, by_name))
        return
    context.console.line(f"{table}: {show_count(len(shown), 'date')}, ds={shown[0]} to ds={shown[-1]}")
    _show(context, shown, counts, by_name)
    _warn(context, counts, usual)


def _by_name(checked: Sequence[Checked]) -> dict[str, dict[str, Checked]]:
    found: dict[str, dict[str, Checked]] = {}
    for one in checked:
        found.setdefault(one.name, {})[one.ds] = one
    return found


def _show(
    context: Context, shown: Sequence[str], counts: Mapping[str, int], by_name: Mapping[str, Mapping[str, Checked]]
) -> None:
    from dsflow.trends import sparkline

    newest = next((show_count(counts[ds], "row") for ds in reversed(shown) if ds in counts), "")
    rows: list[tuple[list[str], list[float | None], bool]] = [
        (["rows", "", newest], [counts.get(ds) for ds in shown], False)
    ]
    for name, verdicts in by_name.items():
        there = [verdicts[ds] for ds in shown if ds in verdicts]
        if there:
            shares = [_share(verdicts.get(ds)) for ds in shown]
            rows.append(([name, there[-1].action, _verdict(there[-1])], shares, True))
    widths = [max(len(cells[column]) for cells, _, _ in rows) for column in range(3)]
    left = context.console.width() - sum(widths[1:]) - 2 * len(widths)
    widths[0] = min(widths[0], max(_NARROWEST, left - _NARROWEST))
    room = max(_NARROWEST, left - widths[0])
    for cells, values, from_zero in rows:
        padded = "  ".join(_fitting(cell, width) for cell, width in zip(cells, widths, strict=True))
        context.console.line(f"{padded}  {sparkline(values, room, from_zero=from_zero)}".rstrip())
    if not by_name:
        context.console.note("No verdict is recorded. `dsflow check` makes some; `dsflow runs rebuild` finds old ones.")


def _fitting(text: str, width: int) -> str:
    return text.ljust(width) if len(text) <= width else text[: width - 1] + "…"


def _share(one: Checked | None) -> float | None:
    return None if one is None else one.violations / max(one.rows, 1)


def _verdict(one: Checked) -> str:
    if not one.violations:
        return "passed"
    return f"{one.violations:,} of {one.rows:,} {one.verdict}"


def _warn(context: Context, counts: Mapping[str, int], usual: Mapping[str, Usual | None]) -> None:
    console = context.console
    odd = [(ds, found) for ds, found in usual.items() if found is not None and counts[ds] not in found]
    for ds, found in reversed(odd[-_MOST_WARNINGS:]):
        told = f"{show_count(counts[ds], 'row')}, usually {found.low:,} to {found.high:,} ({found.of})"
        console.line(f"{console.style('!', 'yellow')} ds={ds}: {told}")
    if len(odd) > _MOST_WARNINGS:
        console.line(f"  and {len(odd) - _MOST_WARNINGS:,} earlier ones")


def _document(
    table: str,
    shown: Sequence[str],
    counts: Mapping[str, int],
    usual: Mapping[str, Usual | None],
    by_name: Mapping[str, Mapping[str, Checked]],
) -> dict[str, Any]:
    partitions = []
    for ds in shown:
        found = usual.get(ds)
        unusual = found is not None and counts[ds] not in found
        bounds = dataclasses.asdict(found) if found else None
        partitions.append({"ds": ds, "rows": counts.get(ds), "usual": bounds, "unusual": unusual})
    verdicts = [
        {"name": name, "verdicts": [dataclasses.asdict(one) for ds, one in each.items() if ds in shown]}
        for name, each in by_name.items()
    ]
    return {"table": table, "partitions": partitions, "expectations": verdicts}
