"""`dsflow ddataflow`: the object of the project around, from the command line, in the words of DDataFlow's own."""

from __future__ import annotations

import ast
import contextlib
import inspect
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import click

from dsflow.commands.context import Context
from dsflow.errors import DsflowError, JobFailed, UsageError

_METHODS = (
    "print_status",
    "estimate_source_size",
    "save_sampled_data_sources",
    "download_data_sources",
    "sample_and_download",
    "source",
    "read",
    "name",
    "source_name",
    "path",
    "get_mlflow_path",
    "set_up_database",
    "is_enabled",
    "is_local",
)


@click.group()
def ddataflow() -> None:
    """Samples of the sources in dsflow_sources.py, or ddataflow_config.py.

    \b
    dsflow ddataflow setup_project
    dsflow ddataflow current_project estimate_source_size events
    dsflow ddataflow current_project sample_and_download --ask_confirmation=False
    """


@ddataflow.command(name="setup_project")
@click.option("--force", is_flag=True, help="Replace the file that is there.")
@click.pass_obj
def setup_project(context: Context, force: bool) -> None:
    """Write a configuration with examples into this folder."""
    from dsflow.sampling import DDataflow

    with _in_project(context):
        DDataflow.setup_project(force=force)


@ddataflow.command(name="current_project", context_settings={"ignore_unknown_options": True})
@click.argument("method", type=click.Choice(_METHODS), default="print_status", metavar="[METHOD]")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[ARGUMENT|--NAME=VALUE]...")
@click.pass_obj
def current_project(context: Context, method: str, arguments: Sequence[str]) -> None:
    """Call a method of the project's object, and print what it gives.

    \b
    METHOD is one of: print_status, estimate_source_size, save_sampled_data_sources, download_data_sources,
    sample_and_download, source, read, name, source_name, path, get_mlflow_path, set_up_database, is_enabled,
    is_local.
    """
    from dsflow.sampling import DDataflow

    positional, named = _parsed(arguments)
    with _in_project(context):
        function = getattr(DDataflow.current_project(), method)
        try:
            inspect.signature(function).bind(*positional, **named)
        except TypeError as error:
            raise UsageError(f"{method}: {error}", f"It is {method}{inspect.signature(function)}.") from None
        made = function(*positional, **named)
        if hasattr(made, "show"):
            made.show()
            made = None
    if context.json:
        context.console.document({"method": method, "result": made})
    elif made is not None and method != "estimate_source_size":  # That has said it already.
        context.console.line(str(made))


@contextlib.contextmanager
def _in_project(context: Context) -> Iterator[None]:
    """Be in the folder that is asked for; what the person's own functions raise is one sentence."""
    # With --json there is one document on stdout.
    lines = contextlib.redirect_stdout(sys.stderr) if context.json else contextlib.nullcontext()
    with contextlib.chdir(context.directory or "."), lines:
        try:
            yield
        except DsflowError:
            raise
        except Exception as error:
            import traceback

            message = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
            hint = "\n".join([*getattr(error, "__notes__", []), "`-v` shows the traceback."])
            raise JobFailed(message, hint, traceback="".join(traceback.format_exception(error))) from error


def _parsed(arguments: Sequence[str]) -> tuple[list[Any], dict[str, Any]]:
    """Give the values of a command line: `x`, `--name=x`, `--name x`, and `--name` for True."""
    positional: list[Any] = []
    named: dict[str, Any] = {}
    waiting = None
    for text in arguments:
        if text.startswith("--"):
            waiting, equals, value = text[2:].replace("-", "_", 1 if "=" not in text else 0).partition("=")
            named[waiting] = _value(value) if equals else True
            waiting = None if equals else waiting
        elif waiting is not None:
            named[waiting], waiting = _value(text), None
        else:
            positional.append(_value(text))
    return positional, named


def _value(text: str) -> Any:
    """Give True, False, a number or a list that a text says, else the text."""
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
