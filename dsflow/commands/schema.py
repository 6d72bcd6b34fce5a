"""`dsflow schema`."""

from __future__ import annotations

from typing import Any

import click

from dsflow.commands.context import Context


@click.command()
@click.argument("name", type=click.Choice(["job", "template", "service", "workspace", "test"]))
@click.pass_obj
def schema(context: Context, name: Any) -> None:
    """Print the JSON schema of job_specs.yaml, template_specs.yaml, service.yaml, dsflow.yml or a test."""
    from dsflow.specs.load import json_schema

    context.console.document(json_schema(name))
