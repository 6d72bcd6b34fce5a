"""`dsflow init`."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from dsflow.commands.context import Context


@click.command()
@click.argument("folder", metavar="[DIR]", default=".", type=click.Path(path_type=Path))
@click.pass_obj
def init(context: Context, folder: Path) -> None:
    """Make a workspace in DIR (the current folder by default): dsflow.yml, jobs/ and what else it has."""
    from dsflow.generate.scaffold import make_workspace

    place = (context.directory or Path()) / folder
    workspace = make_workspace(place)
    if context.json:
        context.console.document({"workspace": str(workspace.root)})
        return
    steps = [] if place.resolve() == Path.cwd() else [f"cd {shlex.quote(str(place))}"]
    steps += ["dsflow generate-job", "dsflow doctor", "dsflow demo ../dsflow-demo"]
    context.console.line(f"{workspace.root} is a workspace now. Next:")
    for step in steps[:3]:
        context.console.line(f"  {step}")
