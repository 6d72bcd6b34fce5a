"""Finds every mistake in the files of a workspace without running anything."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from dsflow import partitions, pipeline, quality
from dsflow.conditions import condition_of
from dsflow.engines.registry import open_engine
from dsflow.errors import DsflowError, JobFailed, UsageError
from dsflow.jobfiles import main_file
from dsflow.model import Column, Expectation, Task
from dsflow.notebooks import parse
from dsflow.specs.load import (
    JobSpec,
    SpecError,
    WorkspaceSpec,
    load_job,
    load_service,
    load_template,
    load_workspace,
)
from dsflow.specs.testfile import load_test
from dsflow.specs.yaml import read_text
from dsflow.store.datastore import Datastore, Partition
from dsflow.tasks import Maker
from dsflow.workspace import JOB_SPECS, SERVICE_SPECS, TEMPLATE_SPECS, Workspace


@dataclass(frozen=True)
class Mistake:
    """One mistake, in one sentence that says where it is. `job` is empty for files of the whole workspace."""

    job: str
    message: str
    hint: str = ""


def mistakes_in(workspace: Workspace, names: Iterable[str], *, whole: bool) -> list[Mistake]:
    """Give every mistake once.

    Args:
        workspace: The workspace.
        names: The jobs to check.
        whole: Check `dsflow.yml` and the workspace's own templates and services too.
    """
    loaded: list[WorkspaceSpec] = []
    found = _tried("", lambda: loaded.append(load_workspace(workspace)))
    settings = loaded[0] if loaded else WorkspaceSpec()
    found += _mistakes_of_workspace(workspace) if whole else []
    maker = Maker(workspace, settings)
    there = set(workspace.job_names())
    for name in names:
        found += _mistakes_of_job(workspace, name, maker)
        found += _mistakes_of_tests(workspace, name) if name in there else []
    if whole:
        found += _tried("", partial(pipeline.load, workspace, settings))
    first: dict[str, Mistake] = {}
    for mistake in found:
        first.setdefault(mistake.message, mistake)
    return list(first.values())


def _mistakes_of_job(workspace: Workspace, name: str, maker: Maker) -> list[Mistake]:
    found: list[Mistake] = []
    specs: list[JobSpec] = []
    found += _tried(name, lambda: specs.append(load_job(workspace, name)))
    for job in specs:
        tasks: list[Task] = []
        found += _tried(name, lambda job=job, tasks=tasks: tasks.append(_sample(maker, job)))  # type: ignore[misc]
        found += _tried(name, partial(_check_code, workspace, job))
        where = f"{workspace.shown(workspace.jobs / name / JOB_SPECS)}: expectations"
        for spec in job.expectations if not tasks else ():
            # What cannot be filled in is told already.
            if spec.constraint is not None and "{" not in spec.constraint:
                found += _tried(name, partial(condition_of, spec.constraint, f"{where}: {spec.name!r}"))
        for task in tasks:
            known = _known_table(workspace, task)
            for expectation in task.expectations:
                place = f"{where}: {expectation.name!r}"
                found += _tried(name, partial(_check_expectation, task, expectation, known, place))
    return found


def _mistakes_of_tests(workspace: Workspace, name: str) -> list[Mistake]:
    found: list[Mistake] = []
    for path in sorted((workspace.jobs / name / "tests").glob("*.y*ml")):
        found += _tried(name, partial(load_test, path, workspace.shown(path)))
    return found


def _mistakes_of_workspace(workspace: Workspace) -> list[Mistake]:
    found: list[Mistake] = []
    for path in sorted(workspace.root.glob(f"templates/*/*/{TEMPLATE_SPECS}")):
        found += _tried("", partial(load_template, path.parent, workspace.shown(path)))
    for path in sorted(workspace.root.glob(f"docker/*/{SERVICE_SPECS}")):
        found += _tried("", partial(load_service, path.parent, workspace.shown(path)))
    return found


def _sample(maker: Maker, job: JobSpec) -> Task:
    """Make a task for today; where a '0.1' job takes parameters without defaults, a date is as good as anything."""
    return maker.task(job, None, {}, [partitions.resolve("today", job.grain)] * len(job.positional))[0]


def _known_table(workspace: Workspace, task: Task) -> Partition | None:
    """Give the newest partition of a task's table that was made with the code as it is: it has the job's columns."""
    if task.output is None or task.output.store == "raw" or task.fingerprint is None or not task.expectations:
        return None
    try:
        newest = Datastore(workspace.datastore).newest("table", task.output.name)
    except DsflowError:
        return None
    made_with = newest.manifest.fingerprint if newest and newest.manifest else None
    return newest if made_with and made_with.code == task.fingerprint.code else None


def _check_expectation(task: Task, expectation: Expectation, known: Partition | None, where: str) -> None:
    """Check one expectation as far as the columns are known: from `schema`, or from what is published."""
    if expectation.shape is not None or task.output is None:
        return
    listed = next((one.shape.columns for one in task.expectations if one.shape and one.shape.columns), ())
    columns = tuple(Column(name=name, type="") for name in listed)
    if known is not None and known.manifest is not None and not columns:
        columns = known.manifest.columns
    quality.understood(expectation, task.output.name, columns or None, where)
    if known is None or known.manifest is None or task.engine != "duckdb" or expectation.sources:
        return
    engine = open_engine(task.engine)
    subject = quality.Subject(table=task.output.name, files=known.files, columns=known.manifest.columns)
    try:
        quality.bind(engine, subject, expectation)
    except JobFailed as error:
        raise UsageError(f"{where}: {error.message}", error.hint) from None
    finally:
        engine.close()


def _check_code(workspace: Workspace, job: JobSpec) -> None:
    if job.kind in ("script", "dashboard"):
        path = workspace.job_folder(job.name) / main_file(workspace, job)
        if path.suffix == ".py":
            parse(read_text(path, workspace.shown(path)), workspace.shown(path))


def _tried(job: str, check: Callable[[], object]) -> list[Mistake]:
    try:
        check()
    except SpecError as error:
        return [Mistake(job, message) for message in error.mistakes]
    except UsageError as error:
        return [Mistake(job, error.message, error.hint)]
    return []
