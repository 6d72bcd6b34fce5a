"""`dsflow config`."""

from __future__ import annotations

import click

from dsflow.commands.context import Context

# what holds where a setting has no value of its own
_ABSENT = {"image": "dsflow/python", "base_image": "Debian's", "ca_bundle": "that of SSL_CERT_FILE and its like"}


@click.command()
@click.option("--runtime", type=click.Choice(["auto", "process", "docker"]), help="As with `dsflow run`.")
@click.pass_obj
def config(context: Context, runtime: str | None) -> None:
    """Show every setting and where it came from: command line, environment, dsflow.yml, or default."""
    from dsflow.specs.load import settings_of

    settings = settings_of(context.workspace, {"runtime": runtime, "environment": context.environment})
    if context.json:
        context.console.document({s.name: {"value": s.safe_value, "origin": s.origin} for s in settings})
    else:
        rows = [[s.name, s.shown or _ABSENT.get(s.name, "none"), s.origin] for s in settings]
        context.console.table(["setting", "value", "origin"], rows)
