"""`dsflow exit-codes`."""

from __future__ import annotations

import click

from dsflow.commands.context import Context
from dsflow.errors import EXIT_CODES


@click.command()
@click.pass_obj
def exit_codes(context: Context) -> None:
    """Explain the exit codes."""
    if context.json:
        context.console.document(EXIT_CODES)
    else:
        context.console.table(["code", "meaning"], [[str(code), text] for code, text in EXIT_CODES.items()])
