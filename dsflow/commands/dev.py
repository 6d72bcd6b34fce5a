"""`dsflow dev`."""

from __future__ import annotations

import os
import urllib.parse

import click

from dsflow.commands.completion import jobs as complete_jobs
from dsflow.commands.context import Context
from dsflow.commands.open import browse

_SERVICE = "jupyter"


@click.command()
@click.argument("job", shell_complete=complete_jobs)
@click.argument("arguments", nargs=-1, metavar="[DS] [PARAMETERS]...")
@click.option("-p", "--param", "params", multiple=True, metavar="K=V", help="Set a parameter; can be repeated.")
@click.option("--print", "only_print", is_flag=True, help="Print the address, start no browser.")
@click.pass_obj
def dev(context: Context, job: str, arguments: tuple[str, ...], params: tuple[str, ...], only_print: bool) -> None:
    """Open JOB in Jupyter Lab as a run for DS with these parameters would see it.

    Jupyter is started if it does not run. The job's file stays as it is: its kernel gets the values.
    """
    from dsflow.parameters import parse_given
    from dsflow.services import jupyter, lifecycle
    from dsflow.services.contract import Asked
    from dsflow.services.registry import service_of
    from dsflow.specs.load import load_job, load_workspace
    from dsflow.tasks import Maker

    spec = load_job(context.workspace, job)
    maker = Maker(context.workspace, load_workspace(context.workspace))
    variables = {name: f"DSFLOW_PARAM_{name.upper()}" for name in maker.takes(job)}
    given = {name: os.environ[known] for name, known in variables.items() if known in os.environ}
    given |= parse_given(params)
    task, _ = maker.task(spec, None, given, arguments)
    service = service_of(context.workspace, _SERVICE)
    started = lifecycle.start(service, Asked(), context.console.note)
    jupyter.develop(service, job, arguments if spec.legacy else (task.ds,), given)
    path = urllib.parse.quote(f"jobs/{job}/{task.main}")
    address = f"{started.found.place.url}/lab/tree/{path}"
    opened = not only_print and browse(address)
    if context.json:
        context.console.document({"job": job, "ds": task.ds, "url": address, "opened": opened})
        return
    context.console.line(address)
    for line in (f"{job} for {task.ds}; run all cells, and nothing is published.", *started.notes):
        context.console.line(f"  {line}")
