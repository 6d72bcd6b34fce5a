"""From what a person asked for to a task that can be run: the spec read, the task made, the runtime chosen."""

from __future__ import annotations

import dataclasses
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dsflow import tasks
from dsflow.errors import EnvironmentMissing, UsageError
from dsflow.freshness import needs_of
from dsflow.model import Task
from dsflow.parameters import parse_given
from dsflow.runner import Assignment
from dsflow.runtimes.contract import Folders, Runtime
from dsflow.runtimes.registry import choose
from dsflow.specs.load import JobSpec, WorkspaceSpec, load_job
from dsflow.specs.settings import check_own
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
    check_own(workspace, settings)
    spec = load_job(workspace, job)
    assignment = assigned(workspace, settings, spec, arguments, params, port)
    where, reason = choose(runtime or spec.run.runtime or settings.runtime)
    return Chosen(
        assignment=assignment,
        runtime=where,
        reason=reason,
        folders=Folders(jobs=workspace.jobs, datastore=workspace.datastore.resolve()),
    )


def assigned(
    workspace: Workspace,
    settings: WorkspaceSpec,
    spec: JobSpec,
    arguments: Sequence[str],
    params: Sequence[str],
    port: int | None = None,
) -> Assignment:
    """Give the task of a job for one date, with what its run needs; the arguments are those of `prepare`.

    Raises:
        UsageError: the spec, the ds or a parameter is wrong.
        EnvironmentMissing: the port is taken.
    """
    if not spec.legacy and len(arguments) > 1:
        raise UsageError(
            f"{spec.name} takes one date, and {len(arguments)} arguments were given: {' '.join(arguments)}",
            "Parameters are given by name: `-p name=value`.",
        )
    ds = None if spec.legacy or not arguments else arguments[0]
    positional = arguments if spec.legacy else ()
    task, secrets = tasks.make_task(workspace, spec, ds, parse_given(params), positional)
    return assignment_of(_with_port(task, port), secrets, spec, settings)


def assignment_of(task: Task, secrets: Mapping[str, Any], spec: JobSpec, settings: WorkspaceSpec) -> Assignment:
    """Give a task together with what its job's spec says of how to run it."""
    return Assignment(
        task=task,
        secrets=secrets,
        needs=needs_of(spec, settings),
        retries=spec.run.retries,
        pass_environment=tuple(spec.run.environment),
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
