"""`dsflow start-jupyter` and its like: `dsflow start NAME` under the names that people know."""

from __future__ import annotations

from typing import Any

import click

from dsflow.commands.completion import jobs as complete_jobs
from dsflow.commands.context import Context
from dsflow.commands.services import start_service, starting


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
    """Start Adminer on the database of runs and the SQL sources."""
    _start(context, "adminer", options)


@click.command()
@click.argument("job", required=False, shell_complete=complete_jobs)
@starting
@click.pass_obj
def start_dash(context: Context, /, job: str | None, **options: Any) -> None:
    """Start a dashboard: a job of the kind `dashboard`, the only one if none is named."""
    from dataclasses import replace

    from dsflow.services.registry import service_of

    service = service_of(context.workspace, "dash")
    name = job or _only_dashboard(context)
    start_service(context, replace(service, name=f"dash-{name}", names={"job": name}), **options)


def _start(context: Context, name: str, options: dict[str, Any]) -> None:
    from dsflow.services.registry import service_of

    start_service(context, service_of(context.workspace, name), **options)


def _only_dashboard(context: Context) -> str:
    from dsflow.errors import DsflowError, UsageError
    from dsflow.specs.load import load_job

    found = []
    for name in context.workspace.job_names():
        try:
            if load_job(context.workspace, name).kind == "dashboard":
                found.append(name)
        except DsflowError:
            continue
    if len(found) == 1:
        return found[0]
    if found:
        raise UsageError(f"there are several dashboards: {', '.join(found)}", "`dsflow start-dash JOB` starts one.")
    raise UsageError("there is no dashboard", "`dsflow generate-job plotly_dash_app` makes one.")
