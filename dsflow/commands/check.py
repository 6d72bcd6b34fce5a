"""`dsflow check`: what is expected of a table, over what is published of it."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from dsflow.commands import plans
from dsflow.commands.completion import tables as complete_tables
from dsflow.commands.context import Context
from dsflow.commands.sampled import sample_option
from dsflow.errors import ExpectationFailed, UsageError
from dsflow.quantities import show_count, show_seconds

if TYPE_CHECKING:
    from dsflow.model import Check
    from dsflow.review import Reviewed

# From so many partitions on, a bar shows how it goes on.
_LONG = 20
_MOST_SHOWN = 10


@click.command()
@click.argument("table", shell_complete=complete_tables)
@click.argument("dates", nargs=-1, metavar="[A..B]")
@sample_option
@click.pass_context
def check(ctx: click.Context, table: str, dates: tuple[str, ...]) -> None:
    """Run what is expected of TABLE over its published partitions, all of them or those from A to B. No job runs.

    Exit code 3 where an expectation fails that stops a run.

    \b
    dsflow check weather
    dsflow check weather 2013-02-01..2013-02-08
    """
    from dsflow.review import Reviewer, keep, partitions_in
    from dsflow.store.datastore import Datastore

    context: Context = ctx.obj
    started = time.perf_counter()
    rest, span = plans.split_dates(dates)
    if rest:
        raise UsageError(f"{rest[0]!r} is no date", f"`dsflow check {table} 2026-11-01..2026-11-20`")
    wanted = partitions_in(Datastore(context.workspace.datastore), table, span)
    reviewer = Reviewer(context.workspace, context.settings, table)
    with _progress(context, table, len(wanted)) as done:
        found = list(reviewer.review(wanted, done))
    problem = keep(context.history, context.workspace, table, found)
    if problem:
        context.console.note(f"warning: this was not recorded: {problem}")
    _show(context, table, found)
    failed = sum(one.failed for one in found)
    warned = sum(not one.failed and any(each.violations for each in one.checks) for one in found)
    context.console.line(
        f"Done. OK={len(found) - failed - warned} WARN={warned} FAIL={failed} TOTAL={len(found)} "
        f"in {show_seconds(time.perf_counter() - started)}"
    )
    if context.json:
        context.console.document({"table": table, "partitions": [_document(one) for one in found]})
    ctx.exit(ExpectationFailed.exit_code if failed else 0)


@contextlib.contextmanager
def _progress(context: Context, table: str, total: int) -> Iterator[Callable[[], None]]:
    if not context.console.is_terminal or context.console.quiet or total < _LONG:
        yield lambda: None
        return
    bar = context.console.progress(table, total)
    try:
        yield lambda: bar.advance(bar.task_ids[0])
    finally:
        bar.stop()


def _show(context: Context, table: str, found: Sequence[Reviewed]) -> None:
    console = context.console
    rows = show_count(sum(one.rows or 0 for one in found), "row")
    span = f"ds={found[0].ds}" + (f" to ds={found[-1].ds}" if len(found) > 1 else "")
    console.line(f"{table}: {show_count(len(found), 'partition')} with {rows}, {span}")
    checks = {check.name: check for one in found for check in one.checks}
    if not checks:
        console.note("Nothing is expected of it: `expectations:` in the spec of the job that writes it.")
        return
    columns = ["expectation", "constraint", "action", "broken in", "violations"]
    console.table(columns, [_row(check, found) for check in checks.values()], whole={"action", "broken in"})
    broken = [(one.ds, check) for one in found for check in one.checks if check.violations]
    for ds, check in broken[:_MOST_SHOWN]:
        colour = "red" if check.verdict == "failed" else "yellow"
        told = check.found or f"{check.violations:,} of {show_count(check.rows, 'row')}"
        console.line(f"{console.style('✗' if check.verdict == 'failed' else '!', colour)} ds={ds} {check.name}: {told}")
        for example in check.examples:
            console.line(f"    {example}")
    if len(broken) > _MOST_SHOWN:
        console.line(f"  and {len(broken) - _MOST_SHOWN:,} more")
    for name in dict.fromkeys(name for one in found for name in one.left_out):
        console.note(f"{name}: said by the job's code; only a run can check it.")


def _row(check: Check, found: Sequence[Reviewed]) -> list[str]:
    each = [other for one in found for other in one.checks if other.name == check.name]
    broken = sum(bool(other.violations) for other in each)
    violations = f"{sum(other.violations for other in each):,}" if check.per == "row" else ""
    return [check.name, check.constraint, check.action, f"{broken:,} of {len(each):,}", violations]


def _document(one: Reviewed) -> dict[str, Any]:
    checks = [{**dataclasses.asdict(check), "verdict": check.verdict} for check in one.checks]
    return {"ds": one.ds, "rows": one.rows, "failed": one.failed, "checks": checks, "left_out": one.left_out}
