"""`dsflow run`."""

from __future__ import annotations

import dataclasses
from typing import Any

import click

from dsflow.commands.completion import jobs as complete_jobs
from dsflow.commands.context import Context
from dsflow.errors import UsageError
from dsflow.model import Event, Outcome, RunFinished, Task


@click.command()
@click.argument("job", required=False, shell_complete=complete_jobs)
@click.argument("arguments", nargs=-1, metavar="[DS] [PARAMETERS]...")
@click.option("-p", "--param", "params", multiple=True, metavar="K=V", help="Set a parameter; can be repeated.")
@click.option("--runtime", type=click.Choice(["auto", "process", "docker"]), help="Where the job runs.")
@click.option("--port", type=click.IntRange(1, 65535), help="The port of a dashboard.")
@click.pass_context
def run(
    ctx: click.Context,
    job: str | None,
    arguments: tuple[str, ...],
    params: tuple[str, ...],
    runtime: str | None,
    port: int | None,
) -> None:
    """Run JOB for the date DS (today if absent; also `yesterday`).

    \b
    dsflow run create-table-weather 2013-01-01
    dsflow run create-table-weather 2013-01-01 -p city=paris --runtime docker
    """
    if job is None:
        raise UsageError("Usage: dsflow run JOB [DS] [PARAMETERS]", "Show the jobs: `ls jobs`")
    from dsflow import runner
    from dsflow.prepare import prepare
    from dsflow.screen import Screen, shown_datastore

    context: Context = ctx.obj
    chosen = prepare(context.workspace, context.settings, job, arguments, params, runtime=runtime, port=port)
    screen = Screen(context.console, shown_datastore(context.workspace.datastore))
    finished: list[RunFinished] = []

    def record(event: Event) -> None:
        context.history(event)
        if isinstance(event, RunFinished):
            finished.append(event)

    listeners = (screen, record)
    outcomes = runner.execute([chosen.step], chosen.runtime, chosen.reason, chosen.folders, listeners)
    context.console.line(screen.summary(outcomes))
    if context.json:
        context.console.document({"runs": [_document(event.task, event.outcome) for event in finished]})
    ctx.exit(runner.exit_code_of(outcomes))


def _document(task: Task, outcome: Outcome) -> dict[str, Any]:
    return {"task": dataclasses.asdict(task), "outcome": dataclasses.asdict(outcome), "folder": task.folder}
