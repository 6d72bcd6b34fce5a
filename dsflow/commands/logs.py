"""`dsflow logs`: print or follow the log of a run, or of a service."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import click

from dsflow.commands.completion import runs_and_services
from dsflow.commands.context import Context
from dsflow.commands.sampled import sample_option
from dsflow.errors import UsageError
from dsflow.records import RUNNING

_PAUSE = 0.5  # seconds between two looks at a log that is being written


@click.command()
@click.argument("run", default="last", shell_complete=runs_and_services)
@click.option("-f", "--follow", is_flag=True, help="Go on until it has ended.")
@sample_option
@click.pass_obj
def logs(context: Context, run: str, follow: bool) -> None:
    """Print the log of a run, or of a service.

    RUN is an id, the beginning of one, or `last`; or the name of a service.
    """
    if (written := _of_service(context, run, follow)) is not None:
        if context.json:
            context.console.document({"service": run, "lines": list(written)})
            return
        for line in written:
            context.console.line(line)
        return
    record = context.history.get(run)
    path = context.history.folder(record) / "log.txt"
    lines = _lines(path, lambda: follow and context.history.get(record.run_id).status == RUNNING)
    if context.json:
        context.console.document({"run": record.run_id, "lines": list(lines)})
        return
    for line in lines:
        context.console.line(line)


def _of_service(context: Context, name: str, follow: bool) -> Iterator[str] | None:
    """The log of the service of that name; None where no service ever had it. Ids of runs start with their date."""
    if name == "last" or name[:1].isdigit():
        return None
    from dsflow.services import lifecycle

    return lifecycle.log(context.workspace, name, follow=follow)


def _lines(path: Path, going_on: Callable[[], bool]) -> Iterator[str]:
    """Give the lines of a file, whole ones only while it grows."""
    while not path.exists():
        if not going_on():
            raise UsageError(f"run {path.parent.name} left no log", f"dsflow runs show {path.parent.name}")
        time.sleep(_PAUSE)
    with path.open(encoding="utf-8", errors="replace", newline="\n") as file:
        line, ended = "", False
        while not ended:
            # Asked before reading: what the run wrote until it ended is then read for sure.
            ended = not going_on()
            while piece := file.readline():
                line += piece
                if line.endswith("\n"):
                    yield line[:-1]
                    line = ""
            if not ended:
                time.sleep(_PAUSE)
    if line:
        yield line
