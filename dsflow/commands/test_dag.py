"""`dsflow test-dag`: run a DAG once for a date, without the scheduler."""

from __future__ import annotations

import click

from dsflow.commands.context import Context


@click.command()
@click.argument("name")
@click.argument("ds")
@click.option("--form", type=click.Choice(["auto", "container", "process"]), default="auto", help="Where Airflow runs.")
@click.pass_context
def test_dag(ctx: click.Context, /, name: str, ds: str, form: str) -> None:
    """Run the DAG of airflow/dags/NAME.py once for the date DS (also `yesterday`), in an Airflow of its own.

    The jobs run for real. The scheduler, if one runs, and its database hear nothing of it.
    """
    from dsflow.partitions import resolve
    from dsflow.services import trial
    from dsflow.services.contract import FormName

    context: Context = ctx.obj
    console = context.console
    where: FormName | None = None if form == "auto" else "container" if form == "container" else "process"
    day = resolve(ds) if ds in ("today", "yesterday") else ds
    tried = trial.run(context.workspace, name, day, where, console.note, lambda line: console.note(f"  {line}"))
    if context.json:
        console.document({"dag": name, "ds": day, "tasks": dict(tried.tasks)})
    else:
        console.table(["task", "state"], [list(row) for row in tried.tasks.items()], whole=["task"])
    ctx.exit(1 if tried.failed else 0)
