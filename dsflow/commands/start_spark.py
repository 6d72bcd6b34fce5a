"""`dsflow start-spark`: the workspace's warm Spark server."""

from __future__ import annotations

import dataclasses

import click

from dsflow.commands.context import Context
from dsflow.quantities import show_bytes


@click.command("start-spark")
@click.option("--stop", is_flag=True, help="End it instead.")
@click.pass_obj
def start_spark(context: Context, stop: bool) -> None:
    """Start the Spark server that the workspace's jobs share, and say where it listens.

    The first job that needs it starts it too. It ends by itself when nobody has used it for a while (`spark.idle` in
    dsflow.yml). One that runs with older settings is replaced, unless somebody is at work on it.
    """
    from dsflow.spark import server
    from dsflow.spark.access import warm_folder
    from dsflow.tasks import spark_of

    folder = warm_folder(context.workspace.datastore)
    if stop:
        ended = stop_servers(context)
        if context.json:
            context.console.document({"stopped": ended})
        else:
            context.console.line("The Spark server has ended." if ended else "No Spark server is running.")
        return
    found = server.ensure(folder, spark_of(context.settings.spark), context.console.line)
    if context.json:
        context.console.document({"url": found.url, "pid": found.pid, "spark": found.spark, "java": found.java})
        return
    context.console.line(f"Spark {found.spark} on Java {found.java} listens at {found.url}")
    context.console.line(f"  heap: {show_bytes(found.memory)}, log: {context.workspace.shown(folder / server.LOG)}")


def stop_servers(context: Context) -> bool:
    """End the Spark servers of the workspace, and those of its samples; say whether there were any."""
    from dsflow.spark import server
    from dsflow.spark.access import warm_folder

    workspace = context.workspace
    sides = (workspace, dataclasses.replace(workspace, sampled=True))
    stopped = [server.stop(warm_folder(side.datastore)) for side in sides if side.datastore.is_dir()]
    return any(stopped) | _stop_containers(context)


def _stop_containers(context: Context) -> bool:
    """End the servers of tasks in containers; where there is no engine, there are none."""
    from dsflow.containers import engine
    from dsflow.runtimes import companion
    from dsflow.runtimes.contract import Folders
    from dsflow.runtimes.docker import workspace_label

    if engine.available() is not None:
        return False
    workspace = context.workspace
    return companion.stop(workspace_label(Folders(jobs=workspace.jobs, datastore=workspace.datastore)))
