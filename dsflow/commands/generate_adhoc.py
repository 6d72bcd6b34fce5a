"""`dsflow generate-adhoc`: fetch a file, find its columns, and open it in a notebook."""

from __future__ import annotations

from typing import Any

import click

from dsflow.commands.context import Context


@click.command()
@click.argument("name")
@click.argument("url")
@click.argument("file_format", metavar="TYPE", type=click.Choice(["csv", "json"]))
@click.option("--force", is_flag=True, help="Replace today's notebook of that name.")
@click.pass_obj
def generate_adhoc(context: Context, name: str, url: str, file_format: str, force: bool) -> None:
    """Fetch URL into raw dataset NAME, find its columns (TYPE is csv or json), and make a notebook that reads it.

    URL may also be a file or folder of the datastore (/data/...), which then is used where it is.
    """
    from dsflow.generate import adhoc
    from dsflow.partitions import resolve

    context.check_own()
    today = resolve("today")
    made = adhoc.explore(context.workspace, name, url, file_format, today, force=force, say=context.console.note)
    if context.json:
        document: dict[str, Any] = {
            "data": str(made.data),
            "schema": str(made.schema),
            "notebook": str(made.notebook),
        }
        context.console.document(document)
        return
    for path in (made.data, made.schema, made.notebook):
        context.console.line(f"     {'new file':<16} {context.workspace.shown(path)}")
    context.console.line("\nOpen the notebook in Jupyter. To read the data for every date, make it a job:")
    context.console.line(f"    dsflow generate-job create_table_from_{file_format} {name} --sample {made.sample}")
