"""From what a person asked for to a task that can be run: the spec read, the task made, the runtime chosen."""

from __future__ import annotations

import dataclasses
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dsflow import tasks
from dsflow.errors import EnvironmentMissing, UsageError
from dsflow.freshness import needs_of, wanted_runtime
from dsflow.model import Task
from dsflow.parameters import parse_given
from dsflow.runner import Assignment
from dsflow.runtimes.contract import Folders, Runtime
from dsflow.runtimes.registry import choose
from dsflow.spark.hidden import hide
from dsflow.specs.load import JobSpec, WorkspaceSpec, load_job
from dsflow.workspace import Workspace


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """A task to run, where it will run and why there."""

    assignment: Assignment
    runtime: Runtime
    reason: str
    folders: Folders


def prepare(
    workspace: Workspace,
    settings: WorkspaceSpec,
    job: str,
    arguments: Sequence[str],
    params: Sequence[str],
    *,
    runtime: str | None = None,
    port: int | None = None,
) -> Chosen:
    """Prepare one job for one date.

    Args:
        workspace: Where the job is.
        settings: The workspace's settings.
        job: The job's name.
        arguments: What followed the name: a ds, or the positional parameters of a version '0.1' job.
        params: `k=v` texts.
        runtime: A runtime by name; the job's, then the workspace's, where None.
        port: The port of a dashboard.

    Raises:
        UsageError: the job, its spec, the ds or a parameter is wrong.
        EnvironmentMissing: the runtime cannot run tasks here, or the port is taken.
    """
    spec = load_job(workspace, job)
    wanted = wanted_runtime(spec, settings, runtime)
    task, secrets = task_of(workspace, settings, spec, arguments, params)
    assignment = assignment_of(_with_port(task, port), secrets, spec, settings, wanted)
    where, reason = choose(wanted)
    return Chosen(
        assignment=assignment,
        runtime=where,
        reason=reason,
        folders=Folders(jobs=workspace.jobs, datastore=workspace.datastore.resolve()),
    )


def task_of(
    workspace: Workspace,
    settings: WorkspaceSpec,
    spec: JobSpec,
    arguments: Sequence[str],
    params: Sequence[str],
    query: str | None = None,
) -> tuple[Task, dict[str, Any]]:
    """Give the task of a job for one date, and the values of its secret parameters.

    Args:
        workspace: Where the job is.
        settings: The workspace's settings.
        spec: The job.
        arguments: As for `prepare`.
        params: `k=v` texts.
        query: A query in place of the one in the job's folder.

    Raises:
        UsageError: the spec, the ds or a parameter is wrong.
    """
    if not spec.legacy and len(arguments) > 1:
        raise UsageError(
            f"{spec.name} takes one date, and {len(arguments)} arguments were given: {' '.join(arguments)}",
            "Parameters are given by name: `-p name=value`.",
        )
    ds = None if spec.legacy or not arguments else arguments[0]
    positional = arguments if spec.legacy else ()
    maker = tasks.Maker(workspace, settings, queries={spec.name: query} if query is not None else None)
    return maker.task(spec, ds, parse_given(params), positional)


def assignment_of(
    task: Task, secrets: Mapping[str, Any], spec: JobSpec, settings: WorkspaceSpec, runtime: str
) -> Assignment:
    """Give a task together with what its job's spec says of how to run it, in a runtime of that name."""
    return Assignment(
        task=task,
        secrets=secrets,
        needs=needs_of(spec, settings, runtime),
        retries=spec.run.retries,
        pass_environment=tuple(spec.run.environment),
        environment=hide(tasks.spark_of(settings.spark))[1] if task.engine == "spark" else {},
    )


def _with_port(task: Task, port: int | None) -> Task:
    if task.port is None:
        if port is not None:
            raise UsageError(f"{task.job} is a {task.kind} and serves no port", "Leave --port out.")
        return task
    number = port or task.port
    if not _is_free(number):
        other = next(filter(_is_free, range(number + 1, 65536)), None)
        raise EnvironmentMissing(
            f"port {number} is taken by another program",
            f"`dsflow run {task.job} --port {other}` takes another one." if other else "",
        )
    return dataclasses.replace(task, port=number)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # Connections that have just ended keep nobody from listening.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
