"""`dsflow tree`: the folders of the datastore."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from dsflow.commands.context import Context
from dsflow.commands.sampled import sample_option
from dsflow.errors import UsageError


@click.command()
@click.argument("directory", default="/data")
@click.argument("depth", type=click.IntRange(1), default=3)
@sample_option
@click.pass_obj
def tree(context: Context, directory: str, depth: int) -> None:
    """Show the folders below DIRECTORY (the datastore by default), DEPTH levels of them.

    /data stands for the datastore, as it does in jobs.
    """
    from dsflow.inputs import local

    folder = Path(local(directory, context.workspace.datastore))
    if not folder.is_dir():
        raise UsageError(f"{directory}: there is no such folder", "`dsflow tree` shows the whole datastore.")
    if context.json:
        context.console.document({directory: _nested(folder, depth)})
        return
    context.console.line(directory)
    for line in _lines(folder, depth):
        context.console.line(line)


def _lines(folder: Path, depth: int, indent: str = "") -> Iterator[str]:
    inner = _folders(folder) if depth else []
    for number, path in enumerate(inner, 1):
        last = number == len(inner)
        yield f"{indent}{'└── ' if last else '├── '}{path.name}"
        yield from _lines(path, depth - 1, indent + ("    " if last else "│   "))


def _nested(folder: Path, depth: int) -> dict[str, Any]:
    return {path.name: _nested(path, depth - 1) for path in _folders(folder)} if depth else {}


def _folders(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    except PermissionError:
        return []
