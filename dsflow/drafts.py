"""A task on its way: what all tasks of a job have in common, and what one is told about its date."""

from __future__ import annotations

import datetime as dt
import functools
import os
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dsflow import parameters, partitions
from dsflow.errors import UsageError
from dsflow.fingerprints import Identity
from dsflow.lineage import declared_mention, named_in_sql, referenced
from dsflow.macros import template_names
from dsflow.masking import is_secret
from dsflow.model import Grain
from dsflow.reads import Read
from dsflow.specs.legacy import place_of
from dsflow.specs.load import JobSpec
from dsflow.writers import Mention

_FILLED_IN = re.compile(r"\{\{.*?\}\}|\{#.*?#\}", re.DOTALL)


@dataclass(kw_only=True)
class Recipe:
    """What all tasks of a job have in common: its spec, what its files say, and where messages say things are."""

    job: JobSpec
    main: str
    engine: str
    dialect: str
    cell: frozenset[str]
    parameters: Mapping[str, parameters.Parameter]
    text: str | None
    spec_where: str
    main_where: str
    settle: Callable[[Mention], Read | None]
    identity: Callable[[], Identity]
    _undeclared: tuple[Read, ...] | None = None

    @functools.cached_property
    def declared(self) -> dict[str, Read]:
        """The tables and raw datasets among the declared inputs."""
        names = [name for name, spec in self.job.inputs.items() if spec.path is None]
        reads = [self.settle(declared_mention(self.job, name, f"{self.spec_where}: inputs.{name}")) for name in names]
        return {read.name: read for read in reads if read is not None}

    @functools.cached_property
    def referenced(self) -> dict[str, Read]:
        """The tables in which expectations look up values."""
        found = referenced(self.job, self.spec_where)
        reads = {table: self.settle(mention) for table, mention in found.items()}
        return {table: read for table, read in reads.items() if read is not None}

    def undeclared(self, code: str) -> tuple[Read, ...]:
        """Give what a rendered query names and the spec does not; it is parsed once where dates change nothing."""
        if self._undeclared is not None:
            return self._undeclared
        from dsflow.queries import sources_of

        sources = sources_of(code, self.dialect, self.main_where)
        declared = {name.casefold() for name in self.job.inputs}
        named = [named_in_sql(source, self.main_where) for source in sources if source.casefold() not in declared]
        reads = tuple(read for mention in named if (read := self.settle(mention)) is not None)
        if _is_constant(self.text or "", sources, self.dialect):
            self._undeclared = reads
        return reads


@dataclass(frozen=True)
class Draft:
    """A task on its way: the job and what a person asked for."""

    recipe: Recipe
    run_id: str
    ds: str
    values: Mapping[str, Any]
    task_specs: dict[str, Any]
    is_first: bool = False

    @property
    def job(self) -> JobSpec:
        """Its spec."""
        return self.recipe.job

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
        """What the names in templates stand for; only a query knows whether its run is the first."""
        return template_names(self.job, self.moment, self.values, is_first=self.is_first)


@dataclass(frozen=True)
class Asked:
    """What a person typed behind the job's name."""

    ds: str | None
    given: Mapping[str, str]
    positional: Sequence[str]


def draft_of(recipe: Recipe, asked: Asked) -> Draft:
    """Settle the date and the parameters of a task.

    Raises:
        UsageError: one of them is wrong.
    """
    job, given, ds = recipe.job, dict(asked.given), asked.ds
    if job.legacy:
        given = _legacy_values(job, asked)
    elif asked.positional:
        if ds is not None or len(asked.positional) > 1:
            raise UsageError(f"{job.name} takes one date", f"Type `dsflow run {job.name} DATE -p NAME=VALUE`.")
        ds = asked.positional[0]
    values = parameters.settle(job, recipe.parameters, given, os.environ)
    run_id = f"{dt.datetime.now(dt.UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(3)}"
    ds = partitions.resolve(ds or "today", job.grain)
    if not job.legacy:
        return Draft(recipe, run_id, ds, values, {})
    where = f"{recipe.spec_where}: task_specs"
    if "ds" in values:
        values["ds"] = partitions.resolve(str(values["ds"]), job.grain)
    elif asked.ds is None:
        # A job that calls its date differently, or takes none, still says by its sink which partition it is.
        rough = Draft(recipe, run_id, ds, values, {})
        sink = place_of(_filled_in(job.task_specs.get("sink_path"), rough.names, f"{where}.sink_path"))
        ds = partitions.resolve(sink.ds, job.grain) if sink else ds
    draft = Draft(recipe, run_id, str(values.get("ds", ds)), values, {})
    draft.task_specs.update(_filled_in(job.task_specs, draft.names, where))
    return draft


def date_parameter(job: JobSpec) -> str:
    """Give the parameter that is the date: `ds`, or what the sink's path of a version '0.1' job calls it."""
    sink = place_of(job.task_specs.get("sink_path"))
    return "ds" if "ds" in job.positional or sink is None else sink.ds.strip("{ }")


def _legacy_values(job: JobSpec, asked: Asked) -> dict[str, str]:
    """Give the parameters by name."""
    called = date_parameter(job)
    named = {called: asked.ds} if asked.ds is not None and called in job.positional else {}
    return parameters.positional(job, asked.positional, {**named, **asked.given})


def _filled_in(value: Any, names: Mapping[str, Any], where: str) -> Any:
    """Render all texts in a value; everything else stays as it is."""
    if isinstance(value, dict):
        return {key: _filled_in(item, names, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, list):
        return [_filled_in(item, names, f"{where}[{index}]") for index, item in enumerate(value)]
    return render_text(value, names, where) if isinstance(value, str) else value


def render_text(text: str, names: Mapping[str, Any], where: str) -> str:
    """Fill in a text; one without anything to fill in costs nothing."""
    if "{" not in text:
        return text
    from dsflow.rendering import render

    return render(text, names, where)


def _bounds(ds: str, grain: Grain) -> dict[str, str]:
    return {"start": partitions.start_of(ds, grain).isoformat(), "end": partitions.end_of(ds, grain).isoformat()}


def _is_constant(text: str, sources: tuple[str, ...], dialect: str) -> bool:
    """Say whether a query names the same sources whatever is filled in."""
    from dsflow.queries import sources_of

    if "{" not in text:
        return True
    try:
        return "{%" not in text and sources_of(_FILLED_IN.sub("x0", text), dialect) == sources
    except UsageError:
        return False
