"""`dsflow generate-dag`: a DAG file for Airflow from what jobs read and write."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from dsflow.commands.completion import jobs as complete_jobs
from dsflow.commands.context import Context
from dsflow.commands.plans import planned_jobs

if TYPE_CHECKING:
    from dsflow.generate.dag import Wish
    from dsflow.partitions import Standing


@click.command()
@click.argument("selection", nargs=-1, shell_complete=complete_jobs)
@click.option("--exclude", multiple=True, metavar="SELECTION", help="Leave these jobs out; can be repeated.")
@click.option("--name", help="What the DAG and its file are called; after the selection if absent.")
@click.option("--schedule", "cron", metavar="CRON", help="When it runs, instead of the jobs' `schedule`; or `none`.")
@click.option("--partition", type=click.Choice(["ended", "current"]), help="Which partition a run stands for.")
@click.option("--catch-up-from", "since", metavar="DATE", help="Run the dates since then too that were missed.")
@click.option("--force", is_flag=True, help="Replace the file even where it was changed by hand.")
@click.pass_obj
def generate_dag(context: Context, /, selection: tuple[str, ...], **rest: Any) -> None:
    """Write airflow/dags/NAME.py: the jobs as tasks, each after those whose tables it reads.

    \b
    dsflow generate-dag +create-table-delays_by_weather
    dsflow generate-dag tag:nightly --schedule "30 4 * * *" --partition current
    """
    from dsflow import pipeline as pipelines
    from dsflow.generate.dag import ChangedByHand, dag_text, write_dag

    pipeline = pipelines.load(context.workspace, context.settings)
    jobs = planned_jobs(pipeline, selection, rest["exclude"])
    wish = _wish(context, selection, rest)
    text = dag_text(pipeline, jobs, wish)
    try:
        path, done = write_dag(context.workspace, wish.name, text, force=rest["force"])
    except ChangedByHand as error:
        for line in error.diff:
            context.console.note(line)
        raise
    if context.json:
        context.console.document({"dag": wish.name, "file": str(path), "jobs": jobs, "done": done})
        return
    context.console.line(f"     {_WORDS[done]:<16} {context.workspace.shown(path)}")
    if done != "unchanged":
        context.console.line(f"\nTry it with one date: dsflow test-dag {wish.name} yesterday")
        context.console.line("Put it on its schedule: dsflow start-airflow, and switch it on in the page.")


_WORDS = {"new": "new file", "unchanged": "as it was", "renewed": "written again", "replaced": "replaced"}


def _wish(context: Context, selection: Sequence[str], options: dict[str, Any]) -> Wish:
    from dsflow.errors import UsageError
    from dsflow.generate.dag import Wish
    from dsflow.partitions import start_of
    from dsflow.workspace import check_name

    cron: str | None = options["cron"]
    partition: Standing | None = options["partition"]
    since: str | None = options["since"]
    if since is not None:
        try:
            start_of(since)
        except UsageError as error:
            raise UsageError(f"--catch-up-from: {error.message}", error.hint) from None
    name = check_name(options["name"] or _name(context, selection), "DAG")
    given = [("--name", options["name"]), ("--schedule", cron), ("--partition", partition), ("--catch-up-from", since)]
    words = ["dsflow", "generate-dag", *selection]
    words += [word for value in options["exclude"] for word in ("--exclude", value)]
    words += [word for option, value in given if value is not None for word in (option, value)]
    return Wish(name=name, command=shlex.join(words), cron=cron, partition=partition, since=since)


def _name(context: Context, selection: Sequence[str]) -> str:
    """Give the name in a selection that is one (`+x` is `x`), else the workspace's."""
    if len(selection) == 1:
        word = re.sub(r"^\w+:|^@|^\d*\+|\+\d*$", "", selection[0])
        if re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", word, re.ASCII):
            return word
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", context.settings.name or context.workspace.root.name).strip("-.") or "dag"
