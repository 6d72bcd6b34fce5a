"""`dsflow open`: open the page of a run."""

from __future__ import annotations

import os
import sys

import click

from dsflow.commands.completion import runs as complete_runs
from dsflow.commands.context import Context
from dsflow.commands.sampled import sample_option
from dsflow.errors import UsageError


@click.command()
@click.argument("run", required=False, shell_complete=complete_runs)
@click.option("--last-failed", is_flag=True, help="The last run that failed.")
@sample_option
@click.option("--print", "only_print", is_flag=True, help="Print the path, start no browser.")
@click.pass_obj
def open_page(context: Context, run: str | None, last_failed: bool, only_print: bool) -> None:
    """Open the page of a run in the browser, and print where it is.

    RUN is an id, the beginning of one, or `last` (which is meant if it is absent).
    """
    if run and last_failed:
        raise UsageError("RUN and --last-failed are two different runs", "Give one of them.")
    record = context.history.last(failed=True) if last_failed else context.history.get(run or "last")
    page = context.history.folder(record) / "index.html"
    if not page.is_file():
        raise UsageError(f"run {record.run_id} ({record.status}) has no page", f"dsflow logs {record.run_id}")
    opened = not only_print and browse(page.as_uri())
    if context.json:
        context.console.document({"run": record.run_id, "page": str(page), "opened": opened})
    else:
        context.console.line(context.workspace.shown(page))


def browse(address: str) -> bool:
    """Open an address in the browser where there is a screen, and say whether it was."""
    import webbrowser

    named = ("BROWSER", "DISPLAY", "WAYLAND_DISPLAY")
    return (sys.platform == "darwin" or any(map(os.environ.get, named))) and webbrowser.open(address)
