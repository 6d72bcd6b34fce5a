"""`dsflow transform-notebook`: a notebook as text, and text as a notebook."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from dsflow.commands.context import Context
from dsflow.errors import UsageError


@click.command()
@click.argument("path")
@click.pass_obj
def transform_notebook(context: Context, path: str) -> None:
    """Turn PATH.ipynb into PATH.py, where `# <codecell>` and `# <markdowncell>` lines start the cells, or back.

    PATH may leave out the ending (.ipynb is meant) and may start from the workspace, such as jobs/x/x. The other
    file is replaced.
    """
    from dsflow import codecells, durable
    from dsflow.notebooks import read_notebook

    source = _find(context, path)
    shown = context.workspace.shown(source)
    if source.suffix == ".ipynb":
        target, result = source.with_suffix(".py"), codecells.to_text(read_notebook(source, shown))
    else:
        target, result = source.with_suffix(".ipynb"), codecells.dump_notebook(_notebook(source, shown))
    durable.write_text(target, result)
    if context.json:
        context.console.document({"source": str(source), "written": str(target)})
    else:
        context.console.line(f"{shown} -> {context.workspace.shown(target)}")


def _notebook(source: Path, shown: str) -> dict[str, Any]:
    from dsflow import codecells
    from dsflow.notebooks import read_notebook
    from dsflow.specs.load import read_text

    text = read_text(source, shown)
    return codecells.to_notebook(text) if codecells.is_marked(text) else read_notebook(source, shown)


def _find(context: Context, path: str) -> Path:
    names = [path] if Path(path).suffix in (".ipynb", ".py") else [f"{path}.ipynb", f"{path}.py"]
    for base in (Path.cwd(), context.workspace.root):
        for name in names:
            if (base / name).is_file():
                return base / name
    raise UsageError(f"{names[0]}: there is no such notebook", "Write it like jobs/NAME/NAME")
