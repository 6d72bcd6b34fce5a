"""The `dsflow` command: the group, the global options, the literal table of commands, and the one error boundary.

A command is imported only when it is called, so that `dsflow --help` costs what Python and click cost.
"""

from __future__ import annotations

import contextlib
import importlib
import itertools
import os
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

import click

from dsflow import __version__
from dsflow.commands.context import Context
from dsflow.console import Console
from dsflow.errors import Bug, DsflowError, EnvironmentMissing, Interrupted, UsageError, did_you_mean, disk_full
from dsflow.lean import collect_seldom, leave

# name -> (where it lives, what it does in one line); the order is the order of the help screen
COMMANDS: dict[str, dict[str, tuple[str, str]]] = {
    "Start": {
        "init": ("dsflow.commands.init:init", "Make a workspace in a folder"),
        "demo": ("dsflow.commands.demo:demo", "Make a workspace with a sample pipeline and run it"),
        "doctor": ("dsflow.commands.doctor:doctor", "Check this machine, each problem with its fix"),
        "config": ("dsflow.commands.config:config", "Show every setting and where it came from"),
    },
    "Write jobs": {
        "generate-job": ("dsflow.commands.generate_job:generate_job", "Make a job from a template"),
        "generate-adhoc": ("dsflow.commands.generate_adhoc:generate_adhoc", "Fetch data and open it in a notebook"),
        "generate-dag": ("dsflow.commands.generate_dag:generate_dag", "Write the DAG that schedules jobs in Airflow"),
        "generate-test": ("dsflow.commands.generate_test:generate_test", "Write a test of a job from real data"),
        "infer-schema": ("dsflow.commands.infer_schema:infer_schema", "Show the columns and types of a data file"),
        "transform-notebook": (
            "dsflow.commands.transform_notebook:transform_notebook",
            "Turn notebooks into text, or back",
        ),
        "validate": ("dsflow.commands.validate:validate", "Check jobs and settings without running anything"),
        "render": ("dsflow.commands.render:render", "Show a job for a date with everything filled in"),
        "port": ("dsflow.commands.port:port", "Move a sql job to the other engine, with proof"),
        "schema": ("dsflow.commands.schema:schema", "Print the JSON schema of a file, for editors"),
    },
    "Run": {
        "run": ("dsflow.commands.run:run", "Run a job, or several, for a date"),
        "backfill": ("dsflow.commands.backfill:backfill", "Run jobs for many dates, those that are not fresh"),
        "mark-fresh": ("dsflow.commands.mark_fresh:mark_fresh", "Accept partitions as they are, running nothing"),
        "test": ("dsflow.commands.test:test", "Run the tests of jobs on small inputs"),
        "parity": ("dsflow.commands.parity:parity", "Run a job on several targets and compare what it makes"),
        "build-images": ("dsflow.commands.build_images:build_images", "Build the images that jobs run in"),
        "package": ("dsflow.commands.package:package", "Make what spark-submit needs for a job"),
        "submit": ("dsflow.commands.package:submit", "Run a job on a Spark cluster by spark-submit"),
        "start-spark": ("dsflow.commands.start_spark:start_spark", "Start the Spark server that jobs share"),
        "ddataflow": ("dsflow.commands.ddataflow:ddataflow", "Estimate, save and fetch samples that Python declares"),
        "serve": ("dsflow.commands.serve:serve", "Run jobs for other programs, over HTTP"),
    },
    "Look": {
        "status": ("dsflow.commands.status:status", "Show which dates are fresh, stale, missing or failed"),
        "ls": ("dsflow.commands.ls:ls", "List jobs, or tables"),
        "graph": ("dsflow.commands.graph:graph", "Draw the pipeline"),
        "runs": ("dsflow.commands.runs:runs", "List runs, show one, rebuild the history"),
        "logs": ("dsflow.commands.logs:logs", "Print or follow the log of a run or a service"),
        "open": ("dsflow.commands.open:open_page", "Open the page of a run"),
        "tree": ("dsflow.commands.tree:tree", "Show the folders of the datastore"),
    },
    "Tables": {
        "check": ("dsflow.commands.check:check", "Check what is published of a table, running nothing"),
        "checks": ("dsflow.commands.checks:checks", "Show how the rows and checks of a table develop"),
        "diff": ("dsflow.commands.diff:diff", "Show what changed between two partitions of a table"),
        "sample": ("dsflow.commands.sample:sample", "Fetch and list the samples that sampled runs read"),
        "prune": ("dsflow.commands.prune:prune", "Take old partitions away"),
    },
    "Services": {
        "start": ("dsflow.commands.services:start", "Start a service of docker/"),
        "start-jupyter": ("dsflow.commands.start_services:start_jupyter", "Start Jupyter Lab on the workspace"),
        "start-notebook": ("dsflow.commands.start_services:start_notebook", "The same, under its former name"),
        "start-airflow": ("dsflow.commands.start_services:start_airflow", "Start Airflow with the workspace's DAGs"),
        "start-dash": ("dsflow.commands.start_services:start_dash", "Start a dashboard"),
        "start-adminer": ("dsflow.commands.start_services:start_adminer", "Start Adminer on the databases"),
        "dev": ("dsflow.commands.dev:dev", "Open a job in Jupyter Lab as a run for a date sees it"),
        "ps": ("dsflow.commands.services:ps", "List the services of this workspace"),
        "stop": ("dsflow.commands.services:stop", "Stop a service"),
        "stop-all": ("dsflow.commands.services:stop_all", "Stop every service of this workspace"),
        "restart": ("dsflow.commands.services:restart", "Stop a service and start it again"),
        "shell": ("dsflow.commands.services:shell", "Open a shell where a service runs"),
        "test-dag": ("dsflow.commands.test_dag:test_dag", "Run a DAG once for a date, without the scheduler"),
        "airflow-bash": ("dsflow.commands.services:airflow_bash", "Open a shell where Airflow runs"),
    },
    "Help": {
        "completion": ("dsflow.commands.completion:completion", "Print the completion script for a shell"),
        "exit-codes": ("dsflow.commands.exit_codes:exit_codes", "Explain the exit codes"),
    },
}
_ALL = {name: entry for group in COMMANDS.values() for name, entry in group.items()}


class _Commands(click.Group):
    """The group whose commands are those of COMMANDS plus executables named `dsflow-NAME`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*_ALL, *_external(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in _ALL:
            place, short_help = _ALL[cmd_name]
            module, attribute = place.split(":")
            command: click.Command = getattr(importlib.import_module(module), attribute)
            command.name, command.short_help = cmd_name, short_help
            return command
        path = _external(ctx).get(cmd_name)
        return _External(cmd_name, path) if path else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if not ctx.resilient_parsing and not name.startswith("-") and self.get_command(ctx, name) is None:
            guess = did_you_mean(name, self.list_commands(ctx))
            raise UsageError(f"no command {name!r}{guess}", "`dsflow --help` lists the commands.")
        return super().resolve_command(ctx, args)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, _globals_first(args))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        sections: dict[str, list[tuple[str, str]]] = {
            title: [(name, help_text) for name, (_, help_text) in group.items()] for title, group in COMMANDS.items()
        }
        sections["Your own"] = [(name, str(path)) for name, path in sorted(_external(ctx).items())]
        for title, rows in sections.items():
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows, col_max=20)


_FLAGS = {"--json", "-v", "--verbose", "-q", "--quiet"}
_ENVIRONMENT = "--env"


def _globals_first(args: list[str]) -> list[str]:
    """Let `dsflow run x --json` mean `dsflow --json run x`; what is not ours, or comes after `--`, is left alone."""
    if _command_in(args) not in {"", *_ALL}:
        return args
    end = args.index("--") if "--" in args else len(args)
    flags: list[str] = []
    named: list[str] = []
    others: list[str] = []
    rest = iter(args[:end])
    for arg in rest:
        if arg == _ENVIRONMENT:
            named += [arg, *itertools.islice(rest, 1)]
        elif arg.startswith(f"{_ENVIRONMENT}="):
            named.append(arg)
        else:
            (flags if arg in _FLAGS else others).append(arg)
    return flags + named + others + args[end:]


def _command_in(args: Sequence[str]) -> str:
    """Give the name of the command on a command line, or an empty string."""
    values = [False, *(arg in ("-C", "--directory", _ENVIRONMENT) for arg in args)]
    names = (arg for arg, is_value in zip(args, values, strict=False) if not is_value and not arg.startswith("-"))
    return next(names, "")


def _external(ctx: click.Context) -> dict[str, Path]:
    """Executables named `dsflow-NAME` on PATH and in the workspace's `commands/`."""
    folders = [Path(entry) for entry in os.environ.get("PATH", "").split(os.pathsep) if entry]
    start = Path(ctx.params.get("directory") or "").absolute()
    folders += [root / "commands" for root in (start, *start.parents) if (root / "dsflow.yml").is_file()][:1]
    found: dict[str, Path] = {}
    for folder in folders:
        try:
            entries = [entry for entry in os.scandir(folder) if entry.name.startswith("dsflow-")]
        except OSError:
            continue
        for entry in entries:
            name = Path(entry.name).stem.removeprefix("dsflow-")
            if name and name not in _ALL and os.access(entry.path, os.X_OK) and entry.is_file():
                found.setdefault(name, Path(entry.path))
    return found


class _External(click.Command):
    """An executable that somebody put there. What follows its name is its own business."""

    def __init__(self, name: str, path: Path) -> None:
        super().__init__(name)
        self._path = path

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.args = list(args)
        return ctx.args

    def invoke(self, ctx: click.Context) -> None:
        import subprocess

        command = [str(self._path.absolute()), *ctx.args]
        try:
            code = subprocess.run(command, cwd=ctx.obj.directory, check=False).returncode
        except OSError as error:
            raise EnvironmentMissing(f"{self._path} cannot be started: {error.strerror}") from error
        ctx.exit(code if code >= 0 else 128 - code)


@click.group(
    cls=_Commands,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "DSFLOW", "max_content_width": 100},
    options_metavar="[-C DIR] [--env NAME] [--json] [-v] [-q]",
)
@click.version_option(__version__, "-V", "--version", prog_name="dsflow")
@click.option("-C", "--directory", type=click.Path(path_type=Path), help="Act as if started in DIR.", metavar="DIR")
@click.option(_ENVIRONMENT, "environment", help="One of `environments` in dsflow.yml.", metavar="NAME")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout; lines for people on stderr.")
@click.option("-v", "--verbose", is_flag=True, help="Say more: tracebacks of your code, every choice made.")
@click.option("-q", "--quiet", is_flag=True, help="Results and errors only.")
@click.pass_context
def dsflow(
    ctx: click.Context, directory: Path | None, environment: str | None, as_json: bool, verbose: bool, quiet: bool
) -> None:
    """Run notebooks, SQL and scripts for a date; get one atomic, checked partition and one page."""
    if directory is not None and not directory.is_dir():
        raise UsageError(f"-C {directory}: there is no such folder")
    ctx.obj = Context(directory, Console(json=as_json, verbose=verbose, quiet=quiet))
    if environment is not None and ctx.get_parameter_source("environment") is click.core.ParameterSource.COMMANDLINE:
        ctx.obj.environment = environment
        # Whatever this command starts, and a `dsflow run` in a job, is in the same environment.
        ctx.with_resource(_variable("DSFLOW_ENV", environment))
    if ctx.invoked_subcommand is None:
        click.echo(f"dsflow {__version__}\n\n{ctx.get_help()}")


@contextlib.contextmanager
def _variable(name: str, value: str) -> Iterator[None]:
    """Set an environment variable for the `with` block."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def run(args: Sequence[str] | None = None) -> int:
    """Run the command line and give its exit code; nothing escapes but SystemExit of a shell completion."""
    arguments = _globals_first(list(sys.argv[1:] if args is None else args))
    flags = set(itertools.takewhile(_FLAGS.__contains__, arguments))
    console = Console(json="--json" in flags, verbose=not flags.isdisjoint({"-v", "--verbose"}))
    try:
        _check_current_folder()
        result = dsflow.main(arguments, prog_name="dsflow", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except DsflowError as error:
        return _failed(console, error)
    except click.ClickException as error:
        return _failed(console, _from_click(error))
    except (KeyboardInterrupt, click.Abort):
        return _failed(console, Interrupted("interrupted"))
    except Exception as error:
        return _failed(console, disk_full(error) or _bug(console, _command_in(arguments), error))


def _check_current_folder() -> None:
    try:
        Path.cwd()
    except FileNotFoundError:
        raise UsageError("the current folder is not there any more", "Change into one that is: `cd`.") from None


def _failed(console: Console, error: DsflowError) -> int:
    """Show an error, as the document too where one was asked for, and give its exit code."""
    console.error(error)
    if console.json:
        fields = {"message": error.message, "hint": error.hint, "exit_code": error.exit_code}
        # What cannot be written there was perhaps the error.
        with contextlib.suppress(OSError):
            console.document({"error": fields})
    return error.exit_code


def _from_click(error: click.ClickException) -> UsageError:
    message = error.format_message()
    if isinstance(error, click.BadParameter) and error.param and isinstance(error.param.type, click.Choice):
        given = re.search(r"'([^']*)' is not one of", message)
        message = message.rstrip(".") + did_you_mean(given[1] if given else "", error.param.type.choices)
    where = ""
    if isinstance(error, click.UsageError) and error.ctx is not None:
        where = f"`{error.ctx.command_path} --help` explains the command."
    return UsageError(message[:1].lower() + message[1:].rstrip("."), where)


def _bug(console: Console, command: str, error: Exception) -> Bug:
    """Write the report of an unexpected exception; of the arguments, which may hold secrets, it has the command."""
    import platform
    import tempfile
    import traceback

    versions = f"dsflow {__version__}, Python {platform.python_version()}, {platform.platform()}"
    report = f"{versions}\ncommand: {command}\n\n{''.join(traceback.format_exception(error))}"
    with tempfile.NamedTemporaryFile("w", prefix="dsflow-bug-", suffix=".log", delete=False, encoding="utf-8") as file:
        file.write(report)
    if console.verbose:
        console.note(report)
    return Bug(f"this is a bug in dsflow ({type(error).__name__}: {error})", f"The report is {file.name}")


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Entry point: run the command line and exit."""
    collect_seldom()
    for name in ("stdout", "stderr"):
        # Closed by whoever started this (`>&-`): there is nobody to tell.
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
    leave(run(args))
