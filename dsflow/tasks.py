"""Makes a task out of a job, a date and parameters: everything resolved, nothing started.

What a job reads for a run of `ds`: of a declared input that partition, the last `window` partitions and the next
`lookback`, or with `as_of` the newest one at or before it. A table that a SQL job names without declaring it is read
for `ds` alone (and a raw dataset, named as `raw.NAME`, too); to read more, declare an input and name that in the query.
Of a dimension the newest snapshot at or before `ds` is read where nothing else is said. `dsflow.reads` knows grains.

A job may open network connections where its spec says `run.network: true`, or says nothing and reads a URL. The
predecessor's command line jobs always may: downloading is what they are for.
"""

from __future__ import annotations

import datetime as dt
import functools
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from dsflow import parameters, partitions, reads, shortforms
from dsflow.dialects import check_dialect, dialect_of
from dsflow.drafts import Asked, Draft, Recipe, date_parameter, draft_of, render_text
from dsflow.errors import UsageError
from dsflow.fingerprints import fingerprint, identity_of
from dsflow.jobfiles import main_file
from dsflow.kinds.registry import KINDS
from dsflow.masking import is_secret
from dsflow.model import Expectation, Fingerprint, Grain, Input, Limits, Output, Spark, Task
from dsflow.notebooks import parameters_cell
from dsflow.pipeline import Pipeline
from dsflow.quantities import memory_bytes, seconds
from dsflow.reads import Read
from dsflow.shortforms import Setting, expectation
from dsflow.spark.hidden import hide
from dsflow.specs.legacy import Place, place_of
from dsflow.specs.load import JobSpec, SparkSpec, WorkspaceSpec, load_job, load_workspace
from dsflow.specs.yaml import read_text
from dsflow.store.datastore import Datastore
from dsflow.store.layout import check_name
from dsflow.workspace import JOB_SPECS, Workspace
from dsflow.writers import writers_in

_URL = re.compile(r"(?!file:)[A-Za-z][A-Za-z0-9+.-]*://.*", re.DOTALL)


class Maker:
    """Makes tasks, many of one job too: what they have in common is read once. Threads may share one.

    Args:
        workspace: Where the jobs are.
        settings: The workspace's settings.
        pipeline: The pipeline if there is one already; else the specs of all jobs are read where a job reads tables.
        queries: Queries of jobs, by job, that take the place of those in their folders.
    """

    def __init__(
        self,
        workspace: Workspace,
        settings: WorkspaceSpec,
        pipeline: Pipeline | None = None,
        queries: Mapping[str, str] | None = None,
    ) -> None:
        self._workspace = workspace
        self._settings = settings
        self._nodes = dict(pipeline.nodes) if pipeline else {}
        self._writers = functools.cache(lambda: pipeline.writers if pipeline else writers_in(workspace))
        self._queries = queries or {}
        self._recipes: dict[str, Recipe] = {}
        # A sampled run reads the sample in the place of a path that is declared as a source.
        paths = ((source.path, name) for name, source in settings.sources.items() if workspace.sampled)
        self._sampled = {path: name for path, name in paths if path is not None}

    def task(
        self,
        job: str | JobSpec,
        ds: str | None,
        given: Mapping[str, str],
        positional: Sequence[str] = (),
        *,
        is_first: bool | None = None,
    ) -> tuple[Task, dict[str, Any]]:
        """Give the task of a job for one partition, and the values of its secret parameters.

        Args:
            job: The job, or its name.
            ds: The partition, `today` or `yesterday`; the current partition if absent.
            given: Parameters by name, as text.
            positional: What stood behind the job's name: a date, or the parameters of a version '0.1' job in order.
            is_first: Whether the partition counts as the first of its dataset; what is published says so where None.

        Raises:
            UsageError: the job, the date, a parameter, a template or the main file is wrong.
        """
        recipe = self._known(job)
        draft = draft_of(recipe, Asked(ds, given, positional))
        draft = replace(draft, is_first=self._is_first(draft, is_first))
        inputs, code = list(_inputs(draft, self._sampled)), None
        if recipe.text is not None:
            check_dialect(recipe.job, self._settings, recipe.main_where)
            code = render_text(recipe.text, draft.names, recipe.main_where)
            inputs += [_from_datastore(draft, read) for read in recipe.undeclared(code)]
        hidden = {name: value for name, value in draft.values.items() if is_secret(name)}
        known = {**draft.moment, **draft.open_values}
        task = replace(
            _blank(draft, self._settings),
            samples=self._workspace.samples,
            secret_parameters=tuple(sorted(hidden)),
            injected={name: known[name] for name in recipe.cell if name in known},
            code=code,
            is_first=draft.is_first,
            inputs=tuple(inputs),
            output=_output(draft),
            limits=_limits(recipe.job, inputs),
            fingerprint=_fingerprint(draft),
        )
        return task, hidden

    def takes(self, job: str) -> Collection[str]:
        """Give the names of the parameters of a job."""
        return self._known(job).parameters

    def made_with(self, job: str, given: Mapping[str, str]) -> tuple[Fingerprint, dict[str, Any]]:
        """Give the fingerprint that the tasks of a job would have now, without its place, and its open parameters.

        Args:
            job: The job's name.
            given: Parameters by name, as text.

        Raises:
            UsageError: as for `task`.
        """
        recipe = self._known(job)
        today = partitions.ds_of(dt.datetime.now(), recipe.job.grain)
        draft = draft_of(recipe, Asked(today, given, ()))
        dates = {date_parameter(recipe.job), *parameters.RUN_NAMES}
        return _fingerprint(draft), {name: value for name, value in draft.open_values.items() if name not in dates}

    def _is_first(self, draft: Draft, known: bool | None) -> bool:
        """Say whether a partition is the first of its dataset, where the query asks for that."""
        text, output = draft.recipe.text or "", _output(draft)
        if output is None or "is_first" not in text:
            return False
        from dsflow.rendering import asks_for

        if not asks_for(text, "is_first"):
            return False
        if known is not None:
            return known
        return Datastore(self._workspace.datastore).before(output.store, output.name, output.ds) is None

    def _known(self, job: str | JobSpec) -> Recipe:
        name = job if isinstance(job, str) else job.name
        return self._recipes.get(name) or self._recipes.setdefault(name, self._recipe(job))

    def _recipe(self, job: str | JobSpec) -> Recipe:
        node = self._nodes.get(job) if isinstance(job, str) else None
        spec = node.job if node else load_job(self._workspace, job) if isinstance(job, str) else job
        main = node.main if node else main_file(self._workspace, spec)
        folder = self._workspace.job_folder(spec.name)
        path = folder / main
        spec_where = self._workspace.shown(self._workspace.jobs / spec.name / JOB_SPECS)
        main_where = self._workspace.shown(path)
        cell = _cell(spec, path, main_where)
        engine = spec.engine or self._settings.engine
        modules = _modules(spec, self._settings)
        return Recipe(
            job=spec,
            main=main,
            engine=engine,
            dialect=dialect_of(spec, self._settings),
            cell=frozenset(cell),
            parameters=parameters.declared(spec, cell, spec_where),
            text=self._queries.get(spec.name, read_text(path, main_where)) if spec.kind == "sql" else None,
            spec_where=spec_where,
            main_where=main_where,
            settle=lambda mention: self._writers().settle(spec, mention),
            identity=functools.cache(lambda: identity_of(folder, spec, main, engine, modules)),
        )


def make_task(
    workspace: Workspace, job: JobSpec, ds: str | None, given: Mapping[str, str], positional: Sequence[str] = ()
) -> tuple[Task, dict[str, Any]]:
    """Give one task of a job, as `Maker.task` does.

    Raises:
        UsageError: the date, a parameter, a template, the main file or `dsflow.yml` is wrong.
    """
    return Maker(workspace, load_workspace(workspace)).task(job, ds, given, positional)


def _fingerprint(draft: Draft) -> Fingerprint:
    return fingerprint(draft.recipe.identity(), draft.open_values, date_parameter(draft.job))


def _blank(draft: Draft, settings: WorkspaceSpec) -> Task:
    """Give the part of a task that needs no more than looking up."""
    job, moment = draft.job, draft.moment
    usual_port = KINDS[job.kind].port
    return Task(
        run_id=draft.run_id,
        job=job.name,
        kind=job.kind,
        main=draft.recipe.main,
        ds=draft.ds,
        start=moment["start"],
        end=moment["end"],
        created=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        grain=job.grain,
        description=job.description,
        parameters=draft.open_values,
        task_specs=draft.task_specs,
        legacy=job.legacy,
        engine=draft.recipe.engine,
        spark=_spark(draft, settings) if draft.recipe.engine == "spark" else Spark(),
        expectations=_expectations(draft),
        modules=_modules(job, settings),
        port=settings.ports.get("dash", usual_port) if usual_port else None,
    )


def _modules(job: JobSpec, settings: WorkspaceSpec) -> tuple[str, ...]:
    return settings.modules if job.modules is None else job.modules


def _spark(draft: Draft, settings: WorkspaceSpec) -> Spark:
    session = draft.job.session
    if settings.spark.remote and session == "classic":
        raise UsageError(
            f"{draft.recipe.spec_where}: session: a classic session cannot join the Spark server of `spark.remote`",
            "Name a `spark.master` in this environment, or run the job in another one (`--env`).",
        )
    return hide(spark_of(settings.spark, session))[0]


def spark_of(settings: SparkSpec, session: Literal["connect", "classic"] = "connect") -> Spark:
    """Give how Spark runs by the workspace's settings."""
    return Spark(
        session=session,
        remote=settings.remote or "",
        memory=memory_bytes(settings.memory) if settings.memory else None,
        idle=seconds(settings.idle),
        archive=settings.archive,
        settings={
            **{name: _as_spark(value) for name, value in settings.settings.items()},
            **({"spark.master": settings.master} if settings.master else {}),
        },
    )


def _as_spark(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _cell(job: JobSpec, main: Path, where: str) -> dict[str, parameters.Parameter]:
    source = parameters_cell(main, where) if job.kind == "notebook" else None
    return parameters.declared_in(source, f"{where}: parameters cell") if source else {}


def _inputs(draft: Draft, sampled: Mapping[str, str]) -> Iterator[Input]:
    job = draft.job
    if job.legacy:
        yield from _legacy_inputs(draft)
        return
    for name, spec in job.inputs.items():
        if spec.path is not None and spec.path in sampled:
            yield Input(name=name, kind="table", target=sampled[spec.path], partitions=(draft.ds,))
        elif spec.path is not None:
            where = f"{draft.recipe.spec_where}: inputs.{name}.path"
            target = render_text(spec.path, draft.names, where)
            _check_path(target, where)
            yield Input(name=name, kind="path", target=target, format=spec.format, options=spec.options)
        elif not (draft.is_first and draft.recipe.declared[name].own):
            yield _from_datastore(draft, draft.recipe.declared[name], format=spec.format, options=spec.options)


def _from_datastore(draft: Draft, read: Read, **more: Any) -> Input:
    kind: Literal["table", "raw"] = "raw" if read.store == "raw" else "table"
    grain = draft.job.grain
    return Input(
        name=read.name,
        kind=kind,
        target=read.dataset,
        partitions=reads.partitions_read(read, draft.ds, grain),
        later=reads.later(read, draft.ds, grain),
        as_of=reads.newest_at(read, draft.ds, grain) if read.as_of else None,
        **more,
    )


def _legacy_inputs(draft: Draft) -> Iterator[Input]:
    path = draft.task_specs.get("source_path")
    if not isinstance(path, str) or not path:
        return
    place = place_of(path)
    if place is None or not _is_partition(place.ds, draft.job.grain):
        yield Input(name="source", kind="path", target=path)
        return
    check_name(place.name, f"{draft.recipe.spec_where}: task_specs.source_path")
    yield Input(name="source", kind=place.store, target=place.name, partitions=(place.ds,))


def _output(draft: Draft) -> Output | None:
    job = draft.job
    if not job.legacy:
        out = job.output
        if out is None:
            return None
        return Output(store="table" if out.table else "raw", name=str(out.table or out.raw), ds=draft.ds, kind=out.kind)
    path = draft.task_specs.get("sink_path")
    where = f"{draft.recipe.spec_where}: task_specs.sink_path"
    place = place_of(path)
    if place is None:
        if isinstance(path, str) and (path + "/").startswith("/data/"):
            raise UsageError(f"{where}: {path[:80]!r} is neither /data/tables/NAME/ds=... nor /data/raw/NAME/ds=...")
        return None
    return _legacy_output(draft, place, where)


def _legacy_output(draft: Draft, place: Place, where: str) -> Output:
    if place.ds != draft.ds:
        raise UsageError(
            f"{where}: it is partition ds={place.ds[:40]}, but this run is for ds={draft.ds}",
            "Write ds={{ ds }} in sink_path.",
        )
    return Output(store=place.store, name=check_name(place.name, where), ds=place.ds)


def _expectations(draft: Draft) -> tuple[Expectation, ...]:
    job, recipe = draft.job, draft.recipe
    if job.output is None or job.output.table is None:
        return ()
    table = job.output.table

    def source(name: str) -> Input:
        return replace(_from_datastore(draft, recipe.referenced[name]), name=name)

    def previous() -> Input:
        return shortforms.previous(table, partitions.shift(draft.ds, -1, job.grain))

    setting = Setting(table=table, end=draft.moment["end"], previous=previous, source=source)
    found = []
    for index, spec in enumerate(job.expectations):
        given = spec.model_dump(by_alias=True, exclude_none=True)
        if spec.constraint is not None:
            where = f"{recipe.spec_where}: expectations[{index}].constraint"
            given["constraint"] = render_text(spec.constraint, draft.names, where)
        found.append(expectation(given, spec.action or job.expectation_action, setting))
    return tuple(found)


def _limits(job: JobSpec, inputs: Sequence[Input]) -> Limits:
    reads_url = any(source.kind == "path" and _URL.fullmatch(source.target) for source in inputs)
    return Limits(
        memory=memory_bytes(job.run.memory) if job.run.memory else None,
        cpus=job.run.cpus,
        timeout=seconds(job.run.timeout) if job.run.timeout else None,
        network=reads_url if job.run.network is None else job.run.network,
    )


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
