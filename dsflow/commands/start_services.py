"""`dsflow start-jupyter` and its like: `dsflow start NAME` under the names that people know."""

from __future__ import annotations

from typing import Any

import click

from dsflow.commands.completion import jobs as complete_jobs
from dsflow.commands.context import Context
from dsflow.commands.services import begin, document, start_service, starting, tell
from dsflow.errors import UsageError


@click.command()
@starting
@click.pass_obj
def start_jupyter(context: Context, /, **options: Any) -> None:
    """Start Jupyter Lab on the workspace."""
    _start(context, "jupyter", options)


@click.command()
@starting
@click.pass_obj
def start_notebook(context: Context, /, **options: Any) -> None:
    """Start Jupyter Lab on the workspace: `start-jupyter` under its former name."""
    _start(context, "jupyter", options)


@click.command()
@starting
@click.pass_obj
def start_airflow(context: Context, /, **options: Any) -> None:
    """Start Airflow with the DAGs of the workspace."""
    _start(context, "airflow", options)


@click.command()
@starting
@click.pass_obj
def start_adminer(context: Context, /, **options: Any) -> None:
    """Start Adminer on the database of runs."""
    _start(context, "adminer", options)


@click.command()
@click.argument("jobs", nargs=-1, metavar="[JOB]...", shell_complete=complete_jobs)
@starting
@click.pass_obj
def start_dash(context: Context, /, jobs: tuple[str, ...], port: int | None, **options: Any) -> None:
    """Start dashboards: jobs of the kind `dashboard`, all of them if none is named. Each gets a port of its own."""
    from dsflow.services import contract, dash, registry
    from dsflow.specs.load import load_workspace

    service = registry.service_of(context.workspace, "dash")
    names = dash.chosen(context.workspace, jobs)
    if port is not None and len(names) > 1:
        raise UsageError(f"one port for {len(names)} dashboards", "`dsflow start-dash JOB --port N`.")
    documents = []
    for name in names:
        one = dash.of_job(service, name)
        usual = load_workspace(context.workspace).ports
        others = registry.found_in(context.workspace).values()
        free = port or dash.free_port(one, usual, others, options["address"] or contract.LOOPBACK)
        started = begin(context, one, port=free, **options)
        documents.append(document(started))
        if not context.json:
            tell(context, started)
    if context.json:
        context.console.document(documents)


def _start(context: Context, name: str, options: dict[str, Any]) -> None:
    from dsflow.services.registry import service_of

    start_service(context, service_of(context.workspace, name), **options)
