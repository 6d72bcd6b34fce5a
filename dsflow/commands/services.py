"""`dsflow start`, `ps`, `stop` and their like: the services of a workspace."""

from __future__ import annotations

import datetime as dt
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from dsflow.commands.completion import services as complete_services
from dsflow.commands.context import Context
from dsflow.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from dsflow.services.contract import FormName, Found, Service
    from dsflow.services.lifecycle import Started

_OPTIONS = (
    click.option("--port", type=click.IntRange(1, 65535), metavar="N", help="Listen on this port of this machine."),
    click.option("--address", metavar="ADDRESS", help="Listen on this address instead of 127.0.0.1."),
    click.option("--form", type=click.Choice(["auto", "container", "process"]), default="auto", help="Where it runs."),
    click.option("--password", is_flag=True, help="Ask for a new password of the workspace first."),
    click.option("--rebuild", is_flag=True, help="Build its image anew, and start it again."),
    click.option("--no-wait", is_flag=True, help="Do not wait until it answers."),
)


def starting(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options of everything that starts a service."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@click.command()
@click.argument("name", shell_complete=complete_services)
@starting
@click.pass_obj
def start(context: Context, /, name: str, **options: Any) -> None:
    """Start a service, or make it run as its file says now.

    NAME is a folder `docker/NAME` with a `service.yaml`, in the workspace or one that comes with dsflow.
    """
    from dsflow.services.registry import service_of

    start_service(context, service_of(context.workspace, name), **options)


def start_service(
    context: Context, service: Service, *, port: int | None, address: str | None, form: str, password: bool,
    rebuild: bool, no_wait: bool,
) -> Started:  # fmt: skip
    """Start a service as the options say, and tell where it is."""
    started = begin(
        context, service, port=port, address=address, form=form, password=password, rebuild=rebuild, no_wait=no_wait
    )
    if context.json:
        context.console.document(document(started))
    else:
        tell(context, started)
    return started


def begin(
    context: Context, service: Service, *, port: int | None, address: str | None, form: str, password: bool,
    rebuild: bool, no_wait: bool,
) -> Started:  # fmt: skip
    """Start a service as the options say."""
    from dsflow.services import lifecycle
    from dsflow.services.contract import Asked

    if password:
        _change_password(context)
    chosen: FormName | None = None if form == "auto" else "container" if form == "container" else "process"
    asked = Asked(form=chosen, port=port, address=address, rebuild=rebuild, wait=not no_wait)
    return lifecycle.start(service, asked, context.console.note)


@click.command()
@click.option("-a", "--all", "everything", is_flag=True, help="Those too that do not run.")
@click.pass_obj
def ps(context: Context, everything: bool) -> None:
    """List the services of this workspace."""
    from dsflow.services import overview

    rows = overview.of(context.workspace, everything=everything)
    if context.json:
        context.console.document([asdict(row) for row in rows])
        return
    cells = [[row.name, row.status, row.form, row.url, _ago(row.started), row.cause] for row in rows]
    context.console.table(["service", "status", "form", "address", "since", ""], cells, whole=["address"])


@click.command()
@click.argument("name", shell_complete=complete_services)
@click.pass_obj
def stop(context: Context, name: str) -> None:
    """Stop a service; what it keeps in the workspace stays. One that does not run is fine."""
    from dsflow.services import lifecycle, registry

    if name not in registry.found_in(context.workspace) and name in registry.services(context.workspace):
        _stopped(context, [])
    else:
        _stopped(context, [lifecycle.stop(context.workspace, name, context.console.note)])


@click.command()
@click.pass_obj
def stop_all(context: Context) -> None:
    """Stop every service of this workspace, and of no other; its Spark servers too."""
    from dsflow.commands.start_spark import stop_servers
    from dsflow.services import lifecycle

    stop_servers(context)
    _stopped(context, lifecycle.stop_all(context.workspace, context.console.note))


@click.command()
@click.argument("name", shell_complete=complete_services)
@click.pass_obj
def restart(context: Context, name: str) -> None:
    """Stop a service and start it again as it was asked for: same form, port and address."""
    from dsflow.services import lifecycle

    started = lifecycle.restart(context.workspace, name, context.console.note)
    if context.json:
        context.console.document(document(started))
    else:
        tell(context, started)


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("name", shell_complete=complete_services)
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def shell(ctx: click.Context, name: str, command: tuple[str, ...]) -> None:
    """Open a shell where a service runs, or run a command there: `dsflow shell airflow airflow dags list`."""
    _enter(ctx, name, command)


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def airflow_bash(ctx: click.Context, command: tuple[str, ...]) -> None:
    """Open a shell where Airflow runs: `dsflow shell airflow`."""
    _enter(ctx, "airflow", command)


def _enter(ctx: click.Context, name: str, command: tuple[str, ...]) -> None:
    import subprocess

    from dsflow.errors import EnvironmentMissing
    from dsflow.services import lifecycle

    context: Context = ctx.obj
    prepared = lifecycle.shell(context.workspace, name, command)
    environment = None if prepared.environment is None else dict(prepared.environment)
    try:
        done = subprocess.run(prepared.command, cwd=context.workspace.root, env=environment, check=False)
    except OSError as error:
        raise EnvironmentMissing(f"cannot start {prepared.command[0]}: {error.strerror}") from None
    ctx.exit(done.returncode if done.returncode >= 0 else 128 - done.returncode)


def _change_password(context: Context) -> None:
    from dsflow.services import password

    if sys.stdin.isatty():
        new = click.prompt("New password of this workspace", hide_input=True, confirmation_prompt=True, err=True)
    else:
        new = sys.stdin.readline().rstrip("\n")
    if new == password.DEFAULT:
        raise UsageError("that is the password that everybody knows", "Choose another one.")
    password.change(context.workspace, new)


def document(started: Started) -> dict[str, Any]:
    """Give what `--json` says of a service that was started."""
    more = {"change": started.change, "ready": started.ready, "notes": list(started.notes)}
    return {**_fields(started.found), **more}


def tell(context: Context, started: Started) -> None:
    """Say where a service is that was started."""
    from dsflow.quantities import show_seconds

    found = started.found
    words = {"started": f"ready in {show_seconds(started.took)}", "unchanged": "runs already, as its file says"}
    words["restarted"] = words["started"]
    state = words[started.change] if started.ready else "started; it does not answer yet"
    context.console.line(f"{found.name}: {state}" + (f": {found.place.url}" if found.place.url else ""))
    for note in started.notes:
        context.console.line(f"  {note}")


def _stopped(context: Context, stopped: list[Found]) -> None:
    if context.json:
        context.console.document([_fields(found) for found in stopped])
    elif stopped:
        for found in stopped:
            context.console.line(f"{found.name}: stopped")
    else:
        context.console.line("Nothing was running.")


def _fields(found: Found) -> dict[str, Any]:
    return {
        "service": found.name, "form": found.form, "url": found.place.url, "address": found.address,
        "port": found.port, "id": found.id,
    }  # fmt: skip


def _ago(moment: float) -> str:
    return f"{dt.datetime.fromtimestamp(moment, dt.UTC).astimezone():%Y-%m-%d %H:%M:%S}" if moment else ""
