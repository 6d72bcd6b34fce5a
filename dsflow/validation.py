"""Finds every mistake in the files of a workspace without running anything."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from dsflow import partitions, pipeline
from dsflow.errors import UsageError
from dsflow.jobfiles import main_file
from dsflow.notebooks import parse
from dsflow.queries import check_condition
from dsflow.specs.load import (
    JobSpec,
    SpecError,
    WorkspaceSpec,
    load_job,
    load_service,
    load_template,
    load_workspace,
)
from dsflow.specs.yaml import read_text
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
    for name in names:
        found += _mistakes_of_job(workspace, name, maker)
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
        found += _tried(name, partial(_make_sample, maker, job))
        found += _tried(name, partial(_check_code, workspace, job))
        where = f"{workspace.shown(workspace.jobs / name / JOB_SPECS)}: expectations"
        for expectation in job.expectations:
            place = f"{where}: {expectation.name!r}"
            found += _tried(name, partial(check_condition, expectation.constraint, "duckdb", place))
    return found


def _mistakes_of_workspace(workspace: Workspace) -> list[Mistake]:
    found: list[Mistake] = []
    for path in sorted(workspace.root.glob(f"templates/*/*/{TEMPLATE_SPECS}")):
        found += _tried("", partial(load_template, path.parent, workspace.shown(path)))
    for path in sorted(workspace.root.glob(f"docker/*/{SERVICE_SPECS}")):
        found += _tried("", partial(load_service, path.parent, workspace.shown(path)))
    return found


def _make_sample(maker: Maker, job: JobSpec) -> None:
    """Make a task for today; where a '0.1' job takes parameters without defaults, a date is as good as anything."""
    maker.task(job, None, {}, [partitions.resolve("today", job.grain)] * len(job.positional))


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
