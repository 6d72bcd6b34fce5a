"""`dsflow validate`."""

from __future__ import annotations

import dataclasses

import click

from dsflow.commands.completion import jobs as complete_jobs
from dsflow.commands.context import Context
from dsflow.errors import UsageError


@click.command()
@click.argument("jobs", nargs=-1, metavar="[JOB]...", shell_complete=complete_jobs)
@click.pass_context
def validate(ctx: click.Context, jobs: tuple[str, ...]) -> None:
    """Check JOBs, or everything: specs, templates, SQL, notebooks and settings. Nothing is run."""
    from dsflow.specs.load import SpecError
    from dsflow.validation import mistakes_in

    context: Context = ctx.obj
    try:
        workspace = context.workspace
    except SpecError:
        workspace = context.found  # its settings are among what is checked
    names = list(jobs) or workspace.job_names()
    found = mistakes_in(workspace, names, whole=not jobs)
    if context.json:
        mistakes = [dataclasses.asdict(mistake) for mistake in found]
        context.console.document({"valid": not found, "jobs": names, "mistakes": mistakes})
    for mistake in found:
        context.console.line(mistake.message)
        if mistake.hint:
            context.console.line(f"  {mistake.hint}")
    count = f"{len(names)} job{'' if len(names) == 1 else 's'}"
    context.console.line(f"{len(found) or 'no'} mistake{'' if len(found) == 1 else 's'} in {count}")
    ctx.exit(UsageError.exit_code if found else 0)
