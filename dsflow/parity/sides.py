"""Runs a job for one partition on a target, and keeps what it makes apart from what is published."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dsflow import runner
from dsflow.errors import EnvironmentMissing, Interrupted, UsageError
from dsflow.freshness import wanted_runtime
from dsflow.inputs import partitions_of
from dsflow.kinds.registry import KINDS
from dsflow.model import MADE, Event, Input, LogLine, Notice, Outcome, Task
from dsflow.parity.apart import Apart
from dsflow.parity.targets import Target
from dsflow.prepare import assignment_of, task_of
from dsflow.runtimes.contract import Folders
from dsflow.runtimes.registry import runtime_of
from dsflow.specs.load import JobSpec, WorkspaceSpec
from dsflow.store.datastore import Datastore, Partition
from dsflow.workspace import Workspace

_LAST_LINES = 10


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What is to be run, wherever.

    Attributes:
        workspace: Where the job is.
        settings: The workspace's settings.
        job: The job.
        arguments: What followed its name: a date, or the parameters of a version '0.1' job.
        params: `k=v` texts.
        notify: Gets a line before anything slow.
        query: A query in place of the job's own.
        inputs: Changes what the task reads.
    """

    workspace: Workspace
    settings: WorkspaceSpec
    job: JobSpec
    arguments: Sequence[str]
    params: Sequence[str] = ()
    notify: Callable[[str], None] = lambda line: None
    query: str | None = None
    inputs: Callable[[Input], Input] = lambda source: source


@dataclass(frozen=True, kw_only=True)
class Side:
    """What a job made on one target.

    Attributes:
        target: The target.
        task: What ran.
        outcome: How that ended.
        partition: What would have been published; None where the run failed.
        log: Its last lines.
    """

    target: Target
    task: Task
    outcome: Outcome
    partition: Partition | None
    log: tuple[str, ...]


def check_comparable(job: JobSpec) -> None:
    """Refuse a job that makes no partition.

    Raises:
        UsageError: it is a dashboard, or has no output.
    """
    if KINDS[job.kind].port is not None:
        raise UsageError(f"{job.name} is a {job.kind}: it serves until it is stopped, and has no rows to compare")
    if job.output is None and not job.legacy:
        raise UsageError(f"{job.name} has no output, so there is nothing to compare", "`output:` in job_specs.yaml.")


def task_on(target: Target, asked: Asked, apart: Apart) -> runner.Assignment:
    """Give the run of a job on a target, with its inputs pinned to the partitions that are there now.

    Raises:
        UsageError: the job cannot be run there, or the date or a parameter is wrong.
        JobFailed: an input is not there.
        EnvironmentMissing: the target is not available here.
    """
    if problem := runtime_of(target.runtime).available():
        raise EnvironmentMissing(f"the target {target.name} is not available here: {problem}", "Leave it out.")
    # A query that says nothing of its dialect is what is being tried: it runs on every target as it stands.
    job = asked.job.model_copy(update={"engine": target.engine})
    wanted_runtime(job, asked.settings, target.runtime)
    task, secrets = task_of(asked.workspace, asked.settings, job, asked.arguments, asked.params, asked.query)
    if task.output is None:
        raise UsageError(f"{job.name} has no output, so there is nothing to compare")
    datastore = Datastore(asked.workspace.datastore.resolve())
    inputs = tuple(asked.inputs(_pinned(source, datastore)) for source in task.inputs)
    kept = dataclasses.replace(task, apart=apart.name, inputs=inputs)
    one = assignment_of(kept, secrets, job, asked.settings, target.runtime)
    # What goes wrong here, goes wrong the same way a second time.
    return dataclasses.replace(one, retries=0)


def run_on(target: Target, assignment: runner.Assignment, asked: Asked) -> Side:
    """Run a task on a target.

    Raises:
        EnvironmentMissing: something is missing there.
        Interrupted: the user did not want to wait.
    """
    lines: list[str] = []

    def listen(event: Event) -> None:
        if isinstance(event, LogLine):
            lines.append(event.text)
        elif isinstance(event, Notice):
            asked.notify(event.text)

    runtime = runtime_of(target.runtime)
    folders = Folders(jobs=asked.workspace.jobs, datastore=asked.workspace.datastore.resolve())
    [outcome] = runner.execute([assignment], runtime, "asked for", folders, [listen])
    if outcome.exit_code == Interrupted.exit_code:
        raise Interrupted("interrupted; nothing was compared")
    task = assignment.task
    return Side(
        target=target,
        task=task,
        outcome=outcome,
        partition=_made(folders.datastore / task.folder, task) if outcome else None,
        log=tuple(lines[-_LAST_LINES:]),
    )


def inputs_read(side: Side) -> Mapping[tuple[str, str, str | None], str | None]:
    """Give the hash of each partition (or path) that a run read, by kind, name and ds."""
    return {(one.kind, one.target, one.ds): one.hash for one in side.outcome.inputs}


def _pinned(source: Input, datastore: Datastore) -> Input:
    """Give an input as the partitions that it stands for now."""
    found = partitions_of(source, datastore)
    if source.as_of is None:
        return source
    return dataclasses.replace(source, as_of=None, partitions=tuple(partition.ds for partition in found))


def _made(run_folder: Path, task: Task) -> Partition | None:
    assert task.output is not None
    return Datastore(run_folder / MADE).partition(task.output.store, task.output.name, task.output.ds)
