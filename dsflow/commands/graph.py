"""`dsflow graph`: the pipeline as a tree, as Mermaid, or as a page."""

from __future__ import annotations

import dataclasses
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dsflow.commands.completion import jobs as complete_jobs
from dsflow.commands.context import Context
from dsflow.errors import UsageError

if TYPE_CHECKING:
    from dsflow.graph import Graph


@click.command()
@click.argument("selection", nargs=-1, shell_complete=complete_jobs)
@click.option("--exclude", multiple=True, metavar="SELECTION", help="Leave these out; can be repeated.")
@click.option("--mermaid", "as_mermaid", is_flag=True, help="Print a Mermaid flowchart, for Markdown.")
@click.option("--html", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Write a page.")
@click.pass_obj
def graph(
    context: Context, selection: tuple[str, ...], exclude: tuple[str, ...], as_mermaid: bool, html: Path | None
) -> None:
    """Draw the pipeline: which jobs read what others write.

    \b
    dsflow graph +fct_rain
    dsflow graph --html pipeline.html
    """
    from dsflow import pipeline as pipelines
    from dsflow.graph import graph_of, mermaid, tree
    from dsflow.selection import select

    if as_mermaid and html is not None:
        raise UsageError("--mermaid and --html: choose one")
    pipeline = pipelines.load(context.workspace, context.settings)
    everything = not selection and not exclude
    names = list(pipeline.nodes) if everything else select(pipeline, selection, exclude)
    drawn = graph_of(pipeline, names)
    for error in pipeline.broken.values() if everything else ():
        context.console.note(f"left out: {error.message}")
    if html is not None:
        _write(html, drawn, context.settings.name or context.workspace.root.name)
    if context.json:
        context.console.document(dataclasses.asdict(drawn))
    elif html is not None:
        context.console.line(f"Drew {len(names)} jobs in {html}")
    else:
        if not names:
            context.console.note("No job." if selection else "No job yet. `dsflow generate-job` makes one.")
            return
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        for line in mermaid(drawn) if as_mermaid else tree(drawn, width):
            context.console.line(line)


def _write(path: Path, drawn: Graph, title: str) -> None:
    from dsflow.drawing import page
    from dsflow.durable import write_text

    if not path.absolute().parent.is_dir():
        raise UsageError(f"--html {path}: there is no folder {path.parent}")
    write_text(path, page(drawn, title))
