"""`dsflow doctor`."""

from __future__ import annotations

import dataclasses

import click

from dsflow.commands.context import Context
from dsflow.errors import EnvironmentMissing

_COLOURS = {"ok": "green", "info": "dim", "warn": "yellow", "fail": "red"}


@click.command()
@click.pass_obj
def doctor(context: Context) -> None:
    """Check this machine and the workspace, each problem with its fix.

    A warning costs a convenience; only a failed check makes the exit code 4.
    """
    from dsflow.doctor import examine, found_workspace

    console = context.console
    findings = []
    for finding in examine(found_workspace(context.directory)):
        findings.append(finding)
        if not context.json:
            state = console.style(f"{finding.state:4}", _COLOURS[finding.state])
            console.line(f"{state}  {finding.check:10}  {finding.found}")
            if finding.fix:
                console.line(f"{'':18}{finding.fix}")
    if context.json:
        console.document([dataclasses.asdict(finding) for finding in findings])
    failed = [finding.check for finding in findings if finding.state == "fail"]
    if failed:
        raise EnvironmentMissing(f"dsflow cannot work here: {', '.join(failed)}", "The fix is below each failed check.")
