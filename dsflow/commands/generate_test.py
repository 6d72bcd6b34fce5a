"""`dsflow generate-test`: a test of a job from real data."""

from __future__ import annotations

from pathlib import Path

import click

from dsflow.commands.completion import jobs as complete_jobs
from dsflow.commands.context import Context
from dsflow.errors import UsageError


@click.command()
@click.argument("job", shell_complete=complete_jobs)
@click.argument("ds")
@click.option("-p", "--param", "params", multiple=True, metavar="K=V", help="Set a parameter; can be repeated.")
@click.option("--rows", type=click.IntRange(1, 1000), default=5, show_default=True, help="Rows of each input.")
@click.option("--name", metavar="NAME", help="What the test is called; the date if absent.")
@click.option("--runtime", type=click.Choice(["process", "docker"]), help="Where the job runs.")
@click.option("--force", is_flag=True, help="Replace a test of that name.")
@click.pass_obj
def generate_test(
    context: Context,
    job: str,
    ds: str,
    params: tuple[str, ...],
    rows: int,
    name: str | None,
    runtime: str | None,
    force: bool,
) -> None:
    """Write a test of JOB from a few rows of what it reads for DS; what it makes of them is what the test expects.

    Read the test before you trust it: it says what the job does now, right or wrong.

    \b
    dsflow generate-test create-table-weather 2013-02-08
    """
    from dsflow.durable import write_text
    from dsflow.parameters import parse_given
    from dsflow.specs.yaml import dump
    from dsflow.testing.sample import sample_test
    from dsflow.testing.trial import FOLDER
    from dsflow.workspace import check_name

    workspace = context.workspace
    folder = workspace.job_folder(job) / FOLDER
    wanted = folder / f"{check_name(name, 'test')}.yaml" if name else None
    _refuse_to_replace(context, wanted, force=force)
    test = sample_test(workspace, job, ds, parse_given(params), rows, runtime)
    path = wanted or folder / f"{check_name(test['ds'], 'test')}.yaml"
    _refuse_to_replace(context, path, force=force)
    folder.mkdir(exist_ok=True)
    write_text(path, dump(test))
    shown = workspace.shown(path)
    context.console.line(f"wrote {shown}")
    context.console.note(f"Read it, then run it: `dsflow test {job}`")
    if context.json:
        context.console.document({"job": job, "file": shown, "test": test})


def _refuse_to_replace(context: Context, path: Path | None, *, force: bool) -> None:
    if path is not None and path.exists() and not force:
        raise UsageError(f"{context.workspace.shown(path)} is there already", "Give another `--name`, or `--force`.")
