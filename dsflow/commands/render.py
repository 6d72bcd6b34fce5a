"""`dsflow render`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import click

from dsflow.commands.completion import jobs as complete_jobs
from dsflow.commands.context import Context
from dsflow.model import Expectation

# These differ from run to run and say nothing about the job.
_LEFT_OUT = ("run_id", "created", "facts", "protocol")


@click.command()
@click.argument("job", shell_complete=complete_jobs)
@click.argument("arguments", nargs=-1, metavar="[DS] [PARAMETERS]...")
@click.option("-p", "--param", "params", multiple=True, metavar="K=V", help="Set a parameter; can be repeated.")
@click.pass_obj
def render(context: Context, job: str, arguments: tuple[str, ...], params: tuple[str, ...]) -> None:
    """Show JOB for the date DS with everything filled in: the SQL of a sql job, the task of any other."""
    from dsflow.parameters import parse_given
    from dsflow.specs.load import load_job
    from dsflow.tasks import make_task

    spec = load_job(context.workspace, job)
    # A '0.1' job without parameters runs for a date all the same, and `render` may be asked for any.
    dated = spec.legacy and not spec.positional and len(arguments) == 1
    ds, positional = (arguments[0], ()) if dated else (None, arguments)
    task, _ = make_task(context.workspace, spec, ds, parse_given(params), positional)
    if context.json:
        context.console.document(dataclasses.asdict(task))
    elif task.code is not None:
        context.console.line(task.code.rstrip("\n"))
        for line in _expected(task.expectations):
            context.console.line(line)
    else:
        shown = {key: value for key, value in dataclasses.asdict(task).items() if key not in _LEFT_OUT}
        for line in _lines(shown, ""):
            context.console.line(line)


def _expected(expectations: Sequence[Expectation]) -> Iterator[str]:
    """Give expectations as comments, so that what is shown can still be run."""
    for number, expectation in enumerate(expectations):
        if not number:
            yield ""
        sql = " ".join(expectation.constraint.split())
        yield f"-- {expectation.name} ({expectation.action}): {sql}"


def _lines(value: dict[str, Any], indent: str) -> Iterator[str]:
    """Give nested keys and values as indented lines; what is empty is left out."""
    for key, item in value.items():
        if item is None or item in ("", (), [], {}):
            continue
        if isinstance(item, dict):
            yield f"{indent}{key}:"
            yield from _lines(item, indent + "  ")
        elif isinstance(item, list | tuple) and isinstance(item[0], dict):
            yield f"{indent}{key}:"
            for part in item:
                first, *rest = _lines(part, indent + "    ")
                yield f"{indent}  - {first.lstrip()}"
                yield from rest
        elif isinstance(item, list | tuple):
            yield f"{indent}{key}: {', '.join(map(str, item))}"
        else:
            yield f"{indent}{key}: {str(item).lower() if isinstance(item, bool) else item}"
