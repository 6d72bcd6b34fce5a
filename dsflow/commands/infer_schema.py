"""`dsflow infer-schema`: the columns and types of a data file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dsflow.commands.context import Context

if TYPE_CHECKING:
    from dsflow.engines.inference import Field


@click.command()
@click.argument("path")
@click.argument("file_format", metavar="[csv|json|parquet]", required=False)
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="FILE", help="Write the schema there as YAML.")
@click.pass_obj
def infer_schema(context: Context, path: str, file_format: str | None, output: Path | None) -> None:
    """Show the columns and types of PATH, a file or a folder of files (/data stands for the datastore).

    Of a csv file the delimiter is found too: the one of , ; tab | that gives most columns.
    """
    from dsflow import durable
    from dsflow.engines import inference
    from dsflow.inputs import local

    found = inference.infer_schema(Path(local(path, context.workspace.datastore)), file_format)
    if output is not None:
        durable.write_text(output, inference.as_yaml(found))
        context.console.note(f"schema written to {output}")
    if context.json:
        context.console.document(found.document())
        return
    context.console.line(f"Format: {found.format}")
    if found.delimiter is not None:
        context.console.line(f"Delimiter: {found.delimiter!r}")
    context.console.line(f"Columns: {len(found.columns)}")
    for line in _tree(found.columns):
        context.console.line(line)


def _tree(fields: Sequence[Field], indent: str = "") -> Iterator[str]:
    for number, field in enumerate(fields, 1):
        last = number == len(fields)
        yield f"{indent}{'└── ' if last else '├── '}{field.name}: {_short(field)}"
        yield from _tree(field.fields, indent + ("    " if last else "│   "))


def _short(field: Field) -> str:
    """Give the type; that of a nested column without its parts, which follow on lines of their own."""
    if not field.fields:
        return field.type
    return "STRUCT" + field.type[field.type.rindex(")") + 1 :]
