"""`dsflow ls`: the jobs of the workspace, or its tables."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import click

from dsflow.commands.completion import jobs as complete_jobs
from dsflow.commands.context import Context

if TYPE_CHECKING:
    from dsflow.pipeline import Node, Pipeline
    from dsflow.reads import Read

# What can be listed, and where that lives; the first is what `dsflow ls` alone lists.
_LISTS = {"jobs": "dsflow.commands.ls:jobs", "tables": "dsflow.commands.ls_tables:tables"}


class _Lists(click.Group):
    """A group in which anything that is no list is a selection of jobs."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_LISTS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _LISTS:
            return None
        module, attribute = _LISTS[cmd_name].split(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        helping = args[:1] in (["-h"], ["--help"])
        return super().parse_args(ctx, args if helping or (args[:1] and args[0] in _LISTS) else ["jobs", *args])


@click.group(cls=_Lists, subcommand_metavar="[jobs|tables] [SELECTION]...")
def ls() -> None:
    """List jobs, or tables.

    \b
    dsflow ls +fct_rain
    dsflow ls tag:nightly --exclude x
    dsflow ls tables
    """


@click.command()
@click.argument("selection", nargs=-1, shell_complete=complete_jobs)
@click.option("--exclude", multiple=True, metavar="SELECTION", help="Leave these out; can be repeated.")
@click.pass_obj
def jobs(context: Context, selection: tuple[str, ...], exclude: tuple[str, ...]) -> None:
    """List jobs in the order in which they depend on each other, with what they read and write."""
    from dsflow import pipeline as pipelines
    from dsflow.selection import select

    pipeline = pipelines.load(context.workspace, context.settings)
    # A list of all jobs is of use even where one has mistakes.
    everything = not selection and not exclude
    names = list(pipeline.nodes) if everything else select(pipeline, selection, exclude)
    nodes = [pipeline.nodes[name] for name in names]
    broken = pipeline.broken if everything else {}
    if context.json:
        listed = [_document(pipeline, node) for node in nodes]
        context.console.document({"jobs": listed, "broken": {name: error.message for name, error in broken.items()}})
        return
    if nodes:
        context.console.table(["job", "kind", "grain", "reads", "writes", "tags"], [_row(node) for node in nodes])
    for error in broken.values():
        context.console.note(f"left out: {error.message}")
    if not nodes and not broken:
        context.console.note("No job." if selection else "No job yet. `dsflow generate-job` makes one.")


def _row(node: Node) -> list[str]:
    reads = dict.fromkeys(_dataset(read) for read in node.reads if read.store != "path")
    writes = "" if node.writes is None else ("raw/" if node.writes[0] == "raw" else "") + node.writes[1]
    return [node.job.name, node.job.kind, node.job.grain, " ".join(reads), writes, " ".join(node.job.tags)]


def _dataset(read: Read) -> str:
    return f"raw/{read.dataset}" if read.store == "raw" else read.dataset


def _document(pipeline: Pipeline, node: Node) -> dict[str, Any]:
    job = node.job
    return {
        "job": job.name,
        "description": job.description,
        "folder": node.folder,
        "kind": job.kind,
        "grain": job.grain,
        "tags": list(job.tags),
        "schedule": job.schedule.model_dump() if job.schedule else None,
        "reads": [_read(read) for read in node.reads],
        "writes": None if node.writes is None else {"store": node.writes[0], "name": node.writes[1], "kind": node.kind},
        "parents": list(pipeline.parents(job.name)),
        "children": list(pipeline.children(job.name)),
    }


def _read(read: Read) -> dict[str, Any]:
    if read.store == "path":
        return {"name": read.name, "store": "path", "dataset": read.dataset}
    return {
        "name": read.name,
        "store": read.store,
        "dataset": read.dataset,
        "grain": read.grain,
        "window": read.window,
        "lookback": read.lookback,
        "as_of": read.as_of,
        "own": read.own,
        "in_code": read.in_code,
    }
