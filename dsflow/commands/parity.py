"""`dsflow parity`: one job on several targets, compared."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dsflow.commands.completion import jobs as complete_jobs
from dsflow.commands.context import Context
from dsflow.commands.differences import lines_of
from dsflow.errors import UsageError
from dsflow.quantities import show_count, show_seconds

if TYPE_CHECKING:
    from dsflow.parity.judge import Verdict
    from dsflow.parity.sides import Asked, Side
    from dsflow.parity.targets import Target

_DIFFERENT = 1
_USUAL = "process:duckdb,spark"


@click.command()
@click.argument("arguments", nargs=-1, metavar="JOB [DS] [PARAMETERS]...", shell_complete=complete_jobs)
@click.option("--targets", default=_USUAL, show_default=True, metavar="TARGET,...", help="Where to run it.")
@click.option("-p", "--param", "params", multiple=True, metavar="K=V", help="Set a parameter; can be repeated.")
@click.option("--tolerance", type=click.FloatRange(0, 1), help="By which part FLOATs and DOUBLEs may differ.")
@click.option("--limit", type=click.IntRange(0), default=5, show_default=True, help="Show at most so many of each.")
@click.pass_context
def parity(
    ctx: click.Context,
    /,
    arguments: tuple[str, ...],
    targets: str,
    params: tuple[str, ...],
    tolerance: float | None,
    limit: int,
) -> None:
    """Run JOB for the date DS on several targets, and compare the rows and columns it makes there.

    Nothing is published and no run is recorded. Each target reads the same partitions; the first one is what the
    others are compared with. Exit code 1 where one differs or fails.

    \b
    dsflow parity fct-delays 2013-01-01
    dsflow parity fct-delays 2013-01-01 --targets process:duckdb,docker:duckdb,spark
    """
    from dsflow.parity.judge import TOLERANCE
    from dsflow.parity.sides import Asked, check_comparable
    from dsflow.parity.targets import targets_of
    from dsflow.specs.load import load_job

    context: Context = ctx.obj
    chosen = targets_of(targets)
    if not arguments:
        raise UsageError("Usage: dsflow parity JOB [DS]", "Show the jobs: `dsflow ls jobs`")
    job = load_job(context.workspace, arguments[0])
    check_comparable(job)
    asked = Asked(
        workspace=context.workspace,
        settings=context.settings,
        job=job,
        arguments=arguments[1:],
        params=params,
        notify=context.console.note,
    )
    ctx.exit(_compare(context, asked, chosen, TOLERANCE if tolerance is None else tolerance, limit))


def _compare(context: Context, asked: Asked, targets: Sequence[Target], tolerance: float, limit: int) -> int:
    from dsflow.parity.apart import kept_apart
    from dsflow.parity.judge import judge
    from dsflow.parity.sides import run_on, task_on
    from dsflow.store.layout import Layout

    job, sides = asked.job, []
    with kept_apart(Layout(context.workspace.datastore.resolve())) as apart:
        # All are looked at before the first is started.
        assignments = [task_on(target, asked, apart) for target in targets]
        for target, assignment in zip(targets, assignments, strict=True):
            context.console.note(f"Running {job.name} ds={assignment.task.ds} on {target.name}")
            sides.append(run_on(target, assignment, asked))
        verdicts = judge(sides, job.output.keys if job.output else (), tolerance, limit)
        same = all(verdict.same for verdict in verdicts)
        apart.keep = not same
        _show(context, sides, verdicts, tolerance)
    return 0 if same else _DIFFERENT


def _show(context: Context, sides: Sequence[Side], verdicts: Sequence[Verdict], tolerance: float) -> None:
    console, first = context.console, verdicts[0]
    same = all(verdict.same for verdict in verdicts)
    if context.json:
        told = [_document(side, verdict) for side, verdict in zip(sides, verdicts, strict=True)]
        task = sides[0].task
        console.document({"job": task.job, "ds": task.ds, "same": same, "tolerance": tolerance, "targets": told})
        return
    rows = [row_of_verdict(verdict, is_first=verdict is first) for verdict in verdicts]
    console.table(["target", "rows", "columns", "time", "result"], rows)
    for side, verdict in zip(sides, verdicts, strict=True):
        if not verdict.same:
            console.line()
            console.line(f"{verdict.target}{'' if verdict is first else f' against {first.target}'}")
            for line in lines_of_verdict(verdict, first.target):
                console.line(f"  {line}")
            console.line(f"  kept until the next look: {context.workspace.shown(_kept(context, side))}")
    if same:
        within = f"numbers with a floating point to {tolerance:g} of them" if tolerance else "to the last digit"
        console.line(f"The same on {show_count(len(verdicts), 'target')}: {within}.")


def row_of_verdict(verdict: Verdict, *, is_first: bool) -> list[str]:
    """Give the cells of one target: its name, rows, columns, time, and how it compares."""
    result = "failed" if verdict.problem else "different" if not verdict.same else "same"
    rows = "" if verdict.rows is None else f"{verdict.rows:,}"
    columns = str(len(verdict.columns)) if verdict.columns else ""
    told = "compared with" if is_first and verdict.same else result
    return [verdict.target, rows, columns, show_seconds(verdict.seconds), told]


def lines_of_verdict(verdict: Verdict, first: str) -> list[str]:
    """Give what is not the same on a target, or why it failed, in lines for a person."""
    if verdict.problem:
        return [verdict.problem, *(f"  {line}" for line in verdict.details)]
    lines = ["columns", *(f"  {change}" for change in verdict.schema)] if verdict.schema else []
    lines += [f"the file {name} differs" for name in verdict.files]
    rows = dataclasses.replace(verdict.difference, schema=()) if verdict.difference else None
    return lines + (lines_of(rows, ("only here", f"only on {first}", "different")) if rows else [])


def _kept(context: Context, side: Side) -> Path:
    return context.workspace.datastore / side.task.folder


def _document(side: Side, verdict: Verdict) -> dict[str, Any]:
    return {
        **dataclasses.asdict(verdict),
        "same": verdict.same,
        "runtime": side.target.runtime,
        "engine": side.target.engine,
        "exit_code": side.outcome.exit_code,
        "inputs": [dataclasses.asdict(one) for one in side.outcome.inputs],
    }
