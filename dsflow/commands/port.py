"""`dsflow port`: moves a sql job to the other engine."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from dsflow.commands import plans
from dsflow.commands.completion import jobs as complete_jobs
from dsflow.commands.context import Context
from dsflow.commands.parity import lines_of_verdict, row_of_verdict
from dsflow.workspace import JOB_SPECS

if TYPE_CHECKING:
    from dsflow.parity.porting import Port, Proof
    from dsflow.parity.sides import Asked

_DIFFERENT = 1
_ROWS = 100_000


@click.command()
@click.argument("job", shell_complete=complete_jobs)
@click.option("--to", "into", type=click.Choice(["duckdb", "spark"]), required=True, help="The engine.")
@click.option("--ds", help="The date to try it on; the newest for which everything is there if absent.")
@click.option("-p", "--param", "params", multiple=True, metavar="K=V", help="Set a parameter; can be repeated.")
@click.option(
    "--rows", type=click.IntRange(1), default=_ROWS, show_default=True, help="Try it on so many rows of each table."
)
@click.option("--anyway", is_flag=True, help="Write it even if the check fails, or has nothing to check.")
@click.option("-y", "--yes", is_flag=True, help="Write it without asking.")
@click.pass_context
def port(
    ctx: click.Context,
    job: str,
    into: str,
    ds: str | None,
    params: tuple[str, ...],
    rows: int,
    anyway: bool,
    yes: bool,
) -> None:
    """Port the query of JOB to the SQL of the other engine, and let that engine compute it from then on.

    What is known to mean something else there is refused, with the line. The new query is tried beside the old one on
    a real partition, and written only if both make the same rows.

    \b
    dsflow port fct-delays --to spark
    """
    from dsflow.parity import porting
    from dsflow.parity.apart import kept_apart
    from dsflow.store.layout import Layout

    context: Context = ctx.obj
    asked = _asked(context, job, params)
    with kept_apart(Layout(context.workspace.datastore.resolve())) as apart:
        date = ds or porting.find_date(asked)
        made = porting.plan_port(asked, into, date)
        for line in _change(context, made):
            context.console.line(line)
        proof = porting.prove(made, asked, date, rows, apart) if date else None
        apart.keep = proof is not None and bool(proof.problem)
    problem = proof.problem if proof else "there is no date for which all inputs are there, so nothing was checked"
    if proof is not None:
        _show(context, proof)
    written = _written(context, made, problem, anyway=anyway, yes=yes)
    if context.json:
        context.console.document(_document(made, proof, problem, written=written))
    ctx.exit(0 if written else _DIFFERENT)


def _asked(context: Context, job: str, params: Sequence[str]) -> Asked:
    from dsflow.parity.porting import check_portable
    from dsflow.parity.sides import Asked, check_comparable
    from dsflow.specs.load import load_job

    spec = load_job(context.workspace, job)
    check_portable(spec)
    check_comparable(spec)
    return Asked(
        workspace=context.workspace,
        settings=context.settings,
        job=spec,
        arguments=(),
        params=params,
        notify=context.console.note,
    )


def _written(context: Context, made: Port, problem: str, *, anyway: bool, yes: bool) -> bool:
    """Write the port if it may be, and say so."""
    from dsflow.parity import porting

    console, name = context.console, made.job.name
    if problem:
        console.line(f"{'Warning' if anyway else 'Not ported'}: {problem}.")
    if problem and not anyway:
        console.note("Change the query so that both make the same, or give `--anyway`. Nothing was written.")
        return False
    if not yes:
        question = f"Let {made.into} compute {name} from now on?"
        plans.confirm(console.is_terminal, question, "`-y` writes it without asking. Nothing was written.")
    porting.write(made, context.workspace)
    console.line(f"{name} is computed by {made.into} from now on; `dsflow run {name}` runs it.")
    return True


def _change(context: Context, made: Port) -> list[str]:
    workspace = context.workspace
    files = (
        (workspace.shown(made.path), made.query),
        (
            workspace.shown(workspace.job_folder(made.job.name) / JOB_SPECS),
            made.spec,
        ),
    )
    found: list[str] = []
    for name, (old, new) in files:
        found += difflib.unified_diff(old.splitlines(), new.splitlines(), name, name, lineterm="")
    return found


def _show(context: Context, proof: Proof) -> None:
    console, first = context.console, proof.verdicts[0]
    console.line()
    rows = [row_of_verdict(verdict, is_first=verdict is first) for verdict in proof.verdicts]
    console.table(["target", "rows", "columns", "time", "result"], rows)
    for verdict in proof.verdicts:
        for line in lines_of_verdict(verdict, first.target) if not verdict.same else ():
            console.line(f"  {line}")
    if proof.limited:
        console.note(f"ds={proof.ds}, with some of the rows of {', '.join(proof.limited)}.")


def _document(made: Port, proof: Proof | None, problem: str, *, written: bool) -> dict[str, Any]:
    return {
        "job": made.job.name,
        "from": made.dialect,
        "to": made.into,
        "ds": proof.ds if proof else None,
        "query": made.query[1],
        "spec": made.spec[1],
        "problem": problem or None,
        "written": written,
        "limited": list(proof.limited) if proof else [],
        "targets": [{**dataclasses.asdict(one), "same": one.same} for one in proof.verdicts] if proof else [],
    }
