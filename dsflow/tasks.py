"""Makes a task out of a job, a date and parameters: everything resolved, nothing started.

What a job reads for a run of `ds`: a declared input reads that partition, the last `window` partitions, or with `as_of`
the newest one at or before it. A table that a SQL job names without declaring it is read for `ds` alone (and a raw
dataset, named as `raw.NAME`, too); to read more, declare an input and name that in the query.

A job may open network connections where its spec says `run.network: true`, or says nothing and reads a URL. The
predecessor's command line jobs always may: downloading is what they are for.
"""

from __future__ import annotations

import datetime as dt
import os
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from dsflow import parameters, partitions
from dsflow.errors import UsageError, did_you_mean
from dsflow.kinds.registry import KINDS
from dsflow.macros import template_names
from dsflow.masking import is_secret
from dsflow.model import Expectation, Grain, Input, Limits, Output, Task
from dsflow.notebooks import parameters_cell
from dsflow.quantities import memory_bytes, seconds
from dsflow.specs.legacy import Place, place_of
from dsflow.specs.load import JobSpec, WorkspaceSpec, load_workspace
from dsflow.specs.yaml import read_text
from dsflow.store.layout import check_name
from dsflow.workspace import JOB_SPECS, Workspace

_URL = re.compile(r"(?!file:)[A-Za-z][A-Za-z0-9+.-]*://.*", re.DOTALL)


@dataclass(frozen=True)
class _Draft:
    """A task on its way: the job, what a person asked for, and where messages say things are."""

    job: JobSpec
    run_id: str
    ds: str
    values: Mapping[str, Any]
    task_specs: dict[str, Any]
    spec_where: str
    main_where: str

    @property
    def moment(self) -> dict[str, str]:
        """What every job is told about its run."""
        return {"ds": self.ds, **_bounds(self.ds, self.job.grain), "run_id": self.run_id}

    @property
    def open_values(self) -> dict[str, Any]:
        """The parameters that may be recorded."""
        return {name: value for name, value in self.values.items() if not is_secret(name)}

    @property
    def names(self) -> dict[str, Any]:
        """What the names in templates stand for."""
        return template_names(self.job, self.moment, self.values)


def make_task(
    workspace: Workspace,
    job: JobSpec,
    ds: str | None,
    given: Mapping[str, str],
    positional: Sequence[str] = (),
) -> tuple[Task, dict[str, Any]]:
    """Give the task of a job for one partition, and the values of its secret parameters.

    Args:
        workspace: Where the job is.
        job: The job.
        ds: The partition, `today` or `yesterday`; the current partition if absent.
        given: Parameters by name, as text.
        positional: What stood behind the job's name: a date, or the parameters of a version '0.1' job in order.

    Raises:
        UsageError: the date, a parameter, a template or the main file is wrong.
    """
    main = main_file(workspace, job)
    path = workspace.job_folder(job.name) / main
    cell = _cell(job, path, workspace.shown(path))
    draft = _draft(workspace, job, cell, _Asked(ds, given, positional), workspace.shown(path))
    inputs, code = list(_inputs(draft)), None
    if job.kind == "sql":
        code = _render(read_text(path, draft.main_where), draft.names, draft.main_where)
        inputs += _undeclared(draft, code)
    hidden = {name: value for name, value in draft.values.items() if is_secret(name)}
    known = {**draft.moment, **draft.open_values}
    output, settings = _output(draft), load_workspace(workspace)
    task = replace(
        _blank(draft, main, settings),
        secret_parameters=tuple(sorted(hidden)),
        injected={name: known[name] for name in cell if name in known},
        code=code,
        inputs=tuple(inputs),
        output=output,
        limits=_limits(job, inputs),
    )
    return task, hidden


def _blank(draft: _Draft, main: str, settings: WorkspaceSpec) -> Task:
    """Give the part of a task that needs no more than looking up."""
    job, moment = draft.job, draft.moment
    usual_port = KINDS[job.kind].port
    return Task(
        run_id=draft.run_id,
        job=job.name,
        kind=job.kind,
        main=main,
        ds=draft.ds,
        start=moment["start"],
        end=moment["end"],
        created=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        grain=job.grain,
        description=job.description,
        parameters=draft.open_values,
        task_specs=draft.task_specs,
        legacy=job.legacy,
        engine=job.engine or settings.engine,
        expectations=_expectations(job),
        port=settings.ports.get("dash", usual_port) if usual_port else None,
    )


def main_file(workspace: Workspace, job: JobSpec) -> str:
    """Give the job's main file, relative to its folder: the one it names, or the only one that fits its kind.

    Raises:
        UsageError: it is missing, outside the folder, or there are several that fit.
    """
    folder = workspace.job_folder(job.name)
    where = f"{workspace.shown(folder / JOB_SPECS)}: {'script' if job.legacy else 'main'}"
    fitting = KINDS[job.kind].suffixes
    files = sorted(str(p.relative_to(folder)) for p in folder.iterdir() if p.is_file() and p.suffix in fitting)
    if job.main is None:
        # Beside a notebook, a .py file is rather a module it imports.
        best = [name for name in files if name.endswith(fitting[0])] or files
        if len(best) == 1:
            return best[0]
        found = f"{len(best)} files fit ({', '.join(best[:5])}); name one" if best else f"no {fitting[0]} file is there"
        raise UsageError(f"{where}: {found}")
    path = folder / job.main
    if not _inside(folder, path):
        raise UsageError(f"{where}: {job.main[:60]!r} is outside the job's folder")
    if not _is_file(path):
        raise UsageError(f"{where}: there is no file {job.main[:60]!r}{did_you_mean(job.main, files)}")
    if not job.legacy and path.suffix not in fitting:
        raise UsageError(f"{where}: a {job.kind} is a {' or '.join(fitting)} file, not {job.main[:60]!r}")
    return str(PurePosixPath(job.main))


@dataclass(frozen=True)
class _Asked:
    """What a person typed behind the job's name."""

    ds: str | None
    given: Mapping[str, str]
    positional: Sequence[str]


def _draft(
    workspace: Workspace, job: JobSpec, cell: dict[str, parameters.Parameter], asked: _Asked, main_where: str
) -> _Draft:
    spec_where = workspace.shown(workspace.jobs / job.name / JOB_SPECS)
    given, ds = dict(asked.given), asked.ds
    if job.legacy:
        given = _legacy_values(job, asked)
    elif asked.positional:
        if ds is not None or len(asked.positional) > 1:
            raise UsageError(f"{job.name} takes one date", f"Type `dsflow run {job.name} DATE -p NAME=VALUE`.")
        ds = asked.positional[0]
    values = parameters.settle(job, parameters.declared(job, cell, spec_where), given, os.environ)
    run_id = f"{dt.datetime.now(dt.UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(3)}"
    if not job.legacy:
        return _Draft(job, run_id, partitions.resolve(ds or "today", job.grain), values, {}, spec_where, main_where)
    ds = partitions.resolve(ds or "today", job.grain)
    if "ds" in values:
        values["ds"] = partitions.resolve(str(values["ds"]), job.grain)
    elif asked.ds is None:
        # A job that calls its date differently, or takes none, still says by its sink which partition it is.
        rough = _Draft(job, run_id, ds, values, {}, spec_where, main_where)
        sink = place_of(_rendered(job.task_specs.get("sink_path"), rough.names, f"{spec_where}: task_specs.sink_path"))
        ds = partitions.resolve(sink.ds, job.grain) if sink else ds
    draft = _Draft(job, run_id, str(values.get("ds", ds)), values, {}, spec_where, main_where)
    draft.task_specs.update(_rendered(job.task_specs, draft.names, f"{spec_where}: task_specs"))
    return draft


def _legacy_values(job: JobSpec, asked: _Asked) -> dict[str, str]:
    named = {"ds": asked.ds} if asked.ds is not None and "ds" in job.positional else {}
    return parameters.positional(job, asked.positional, {**named, **asked.given})


def _cell(job: JobSpec, main: Path, where: str) -> dict[str, parameters.Parameter]:
    source = parameters_cell(main, where) if job.kind == "notebook" else None
    return parameters.declared_in(source, f"{where}: parameters cell") if source else {}


def _inputs(draft: _Draft) -> Iterator[Input]:
    job = draft.job
    if job.legacy:
        yield from _legacy_inputs(draft)
        return
    for name, spec in job.inputs.items():
        if spec.path is not None:
            where = f"{draft.spec_where}: inputs.{name}.path"
            target = _render(spec.path, draft.names, where)
            _check_path(target, where)
            yield Input(name=name, kind="path", target=target, format=spec.format, options=spec.options)
            continue
        wanted = () if spec.as_of else partitions.window(draft.ds, spec.window or 1, job.grain)
        yield Input(
            name=name,
            kind="table" if spec.table else "raw",
            target=str(spec.table or spec.raw),
            format=spec.format,
            partitions=wanted,
            as_of=draft.ds if spec.as_of else None,
            options=spec.options,
        )


def _legacy_inputs(draft: _Draft) -> Iterator[Input]:
    path = draft.task_specs.get("source_path")
    if not isinstance(path, str) or not path:
        return
    place = place_of(path)
    if place is None or not _is_partition(place.ds, draft.job.grain):
        yield Input(name="source", kind="path", target=path)
        return
    check_name(place.name, f"{draft.spec_where}: task_specs.source_path")
    yield Input(name="source", kind=place.store, target=place.name, partitions=(place.ds,))


def _undeclared(draft: _Draft, code: str) -> Iterator[Input]:
    """Give an input for every table and raw dataset that a query names and the spec does not."""
    from dsflow.queries import sources_of

    declared = {name.casefold() for name in draft.job.inputs}
    for source in sources_of(code, "duckdb", draft.main_where):
        if source.casefold() in declared:
            continue
        is_raw = source.startswith("raw.")
        target = check_name(source.removeprefix("raw."), f"{draft.main_where}: table")
        yield Input(name=source, kind="raw" if is_raw else "table", target=target, partitions=(draft.ds,))


def _output(draft: _Draft) -> Output | None:
    job = draft.job
    if not job.legacy:
        out = job.output
        if out is None:
            return None
        return Output(store="table" if out.table else "raw", name=str(out.table or out.raw), ds=draft.ds, kind=out.kind)
    path = draft.task_specs.get("sink_path")
    where = f"{draft.spec_where}: task_specs.sink_path"
    place = place_of(path)
    if place is None:
        if isinstance(path, str) and (path + "/").startswith("/data/"):
            raise UsageError(f"{where}: {path[:80]!r} is neither /data/tables/NAME/ds=... nor /data/raw/NAME/ds=...")
        return None
    return _legacy_output(draft, place, where)


def _legacy_output(draft: _Draft, place: Place, where: str) -> Output:
    if place.ds != draft.ds:
        raise UsageError(
            f"{where}: it is partition ds={place.ds[:40]}, but this run is for ds={draft.ds}",
            "Write ds={{ ds }} in sink_path.",
        )
    return Output(store=place.store, name=check_name(place.name, where), ds=place.ds)


def _expectations(job: JobSpec) -> tuple[Expectation, ...]:
    return tuple(
        Expectation(name=e.name, constraint=e.constraint, action=e.action or job.expectation_action)
        for e in job.expectations
    )


def _limits(job: JobSpec, inputs: Sequence[Input]) -> Limits:
    reads_url = any(source.kind == "path" and _URL.fullmatch(source.target) for source in inputs)
    return Limits(
        memory=memory_bytes(job.run.memory) if job.run.memory else None,
        cpus=job.run.cpus,
        timeout=seconds(job.run.timeout) if job.run.timeout else None,
        network=reads_url if job.run.network is None else job.run.network,
    )


def _rendered(value: Any, names: Mapping[str, Any], where: str) -> Any:
    """Render all texts in a value; everything else stays as it is."""
    if isinstance(value, dict):
        return {key: _rendered(item, names, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, list):
        return [_rendered(item, names, f"{where}[{index}]") for index, item in enumerate(value)]
    return _render(value, names, where) if isinstance(value, str) else value


def _render(text: str, names: Mapping[str, Any], where: str) -> str:
    if "{" not in text:
        return text
    from dsflow.rendering import render

    return render(text, names, where)


def _bounds(ds: str, grain: Grain) -> dict[str, str]:
    return {"start": partitions.start_of(ds, grain).isoformat(), "end": partitions.end_of(ds, grain).isoformat()}


def _is_partition(ds: str, grain: Grain) -> bool:
    try:
        partitions.start_of(ds, grain)
    except UsageError:
        return False
    return True


def _check_path(target: str, where: str) -> None:
    is_relative = "://" not in target and not target.startswith("/")
    if not target or "\0" in target or (is_relative and ".." in PurePosixPath(target).parts):
        problem = f"{where}: {target[:60]!r} is not in the job's folder"
        raise UsageError(problem, "Use a path in it, one below /data, or a URL.")


def _inside(folder: Path, path: Path) -> bool:
    try:
        return path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError, ValueError):
        return False


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # such as a name that is too long
        return False
