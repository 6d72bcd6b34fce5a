"""`--sample` and `--offline`: what commands do so that people see, and run on, the samples instead of the data."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from dsflow.commands.context import Context
from dsflow.errors import UsageError
from dsflow.quantities import show_bytes, show_count
from dsflow.sampling.switches import ENABLE, ENABLE_OFFLINE, truth

if TYPE_CHECKING:
    from dsflow.pipeline import Pipeline
    from dsflow.samples.fetching import Fetched, Samples, Step
    from dsflow.samples.sources import Source

_Function = TypeVar("_Function", bound=Callable[..., Any])


def sample_option(function: _Function) -> _Function:
    """Give a command `--sample`: it looks at the samples, and at what was made of them."""

    def switch(ctx: click.Context, param: click.Parameter, value: bool) -> None:
        if value:
            context: Context = ctx.obj
            context.sampled = True

    text = "Of the samples and what was made of them."
    option = click.option("--sample", is_flag=True, expose_value=False, is_eager=True, callback=switch, help=text)
    return option(function)


def offline_option(function: _Function) -> _Function:
    """Give a command that runs jobs `--offline`; ENABLE_DDATAFLOW and ENABLE_OFFLINE_MODE ask for samples too."""

    def switch(ctx: click.Context, param: click.Parameter, value: bool) -> bool:
        context: Context = ctx.obj
        # Who has set one of them must not get tables that are made of samples, nor production.
        for name in (ENABLE, ENABLE_OFFLINE):
            if truth(name):
                context.sampled = True
                context.console.note(f"{name} is set: samples are read, as with --sample")
        context.offline = value or bool(truth(ENABLE_OFFLINE))
        return context.offline

    text = "With --sample: read only samples that are here already, and fetch none."
    return click.option("--offline", is_flag=True, is_eager=True, callback=switch, help=text)(function)


def pipeline_of(context: Context) -> Pipeline:
    """Read all jobs; with `--sample` they may read what is declared as a source, wherever that is."""
    from dsflow import pipeline

    if not context.sampled:
        return pipeline.load(context.workspace, context.settings)
    from dsflow.samples.sources import Sources

    sources = Sources(context.workspace, context.settings)
    return pipeline.load(context.workspace, context.settings, sources.folders())


def without_sources(context: Context, pipeline: Pipeline, jobs: list[str], expressions: Sequence[str]) -> list[str]:
    """Leave out, with `--sample`, the jobs that make what is declared as a source, and say so."""
    if not context.sampled:
        return jobs
    from dsflow.samples import needs
    from dsflow.samples.sources import Sources

    sources = Sources(context.workspace, context.settings)
    named = {name for expression in expressions for name in expression.split()}
    kept, left = needs.without_sources(pipeline, jobs, named, sources)
    if left:
        context.console.note(f"left out, as samples are read instead of what they make: {', '.join(left)}")
    if not kept:
        raise UsageError("every job that is selected makes a source", "Name a job by its plain name to run it.")
    return kept


def provide(
    context: Context,
    pipeline: Pipeline,
    jobs: Sequence[str],
    span: tuple[str, str],
    *,
    offline: bool,
    dry_run: bool = False,
) -> None:
    """Make sure, with `--sample`, that the samples are there which some jobs read in a span of time.

    Args:
        context: The command's.
        pipeline: All jobs.
        jobs: Those that will run.
        span: The first and the last ds.
        offline: Fetch nothing.
        dry_run: Only say what would be fetched.

    Raises:
        UsageError: `--offline` is given without `--sample`.
        DsflowError: a sample is not there and cannot be fetched.
    """
    if not context.sampled:
        if offline:
            raise UsageError("--offline goes with --sample", "Add --sample, or leave --offline out.")
        return
    from dsflow import partitions
    from dsflow.samples import needs
    from dsflow.samples.fetching import Samples
    from dsflow.specs.load import hide_passwords

    samples = Samples(context.workspace, context.settings)
    dates = {name: partitions.between(*span, pipeline.nodes[name].job.grain) for name in jobs}
    wanted = needs.needs_of(pipeline, dates, samples.sources)
    for job, url in needs.unsampled(pipeline, jobs, samples.sources):
        if offline:
            hint = "Declare it under `sources:` with the same `path`; then `dsflow sample fetch` copies it."
            raise UsageError(f"{job} reads {hide_passwords(url)}, and --offline reads only local copies", hint)
        context.console.note(f"{job} reads {hide_passwords(url)} itself: no source has this path")
    if dry_run and not offline:
        for step in samples.steps(needs.asked(wanted), thorough=False):
            context.console.note(f"would fetch {step.source.label} ds={step.ds}: {step.reason}")
        return
    if not offline:
        fetch(context, samples, needs.asked(wanted))
    needs.check_there(wanted, samples.layout)


def fetch(
    context: Context,
    samples: Samples,
    wanted: Mapping[Source, Sequence[str]],
    *,
    thorough: bool = False,
    force: bool = False,
) -> list[Fetched]:
    """Fetch the samples that are missing or outdated, and show how it goes.

    Args:
        context: The command's.
        samples: The samples.
        wanted: The partitions, by source.
        thorough: Look too whether the data has changed.
        force: Fetch all of them again.

    Raises:
        OverLimit: one would be larger than its source allows; nothing was fetched.
        DsflowError: one cannot be fetched.
    """
    from dsflow.samples.estimates import Estimator

    steps = samples.steps(wanted, thorough=thorough, force=force)
    dates: dict[Source, list[str]] = {}
    for step in steps:
        dates.setdefault(step.source, []).append(step.ds)
    for source in dates:
        if source.spec.filter is None and source.spec.sample is None:
            context.console.note(f"{source.label}: No filter set, it is copied whole")
    Estimator(samples, samples.complete(dates)).check_limits()
    found: list[Fetched] = []
    with _progress(context, len(steps)) as told:
        samples.fetch(steps, _Told(context, steps, found, told))
    return found


@dataclasses.dataclass
class _Told:
    """Shows what is fetched: a line for each source when its last partition is there."""

    context: Context
    steps: Sequence[Step]
    found: list[Fetched]
    advance: Callable[[], None]
    done: int = 0

    def __call__(self, step: Step, fetched: Fetched | None) -> None:
        self.advance()
        self.done += 1
        if fetched is not None:
            self.found.append(fetched)
        if self.done == len(self.steps) or self.steps[self.done].source is not step.source:
            self._say(step.source)

    def _say(self, source: Source) -> None:
        own = [one for one in self.found if one.source is source]
        if not own:
            return
        rows, there = sum(one.manifest.rows or 0 for one in own), sum(one.there or 0 for one in own)
        size = show_bytes(sum(one.manifest.bytes for one in own))
        counted = f", {rows:,}{f' of {there:,}' if there else ''} rows" if source.store == "table" else ""
        self.context.console.note(f"sampled {source.label}: {show_count(len(own), 'partition')}{counted}, {size}")


@contextlib.contextmanager
def _progress(context: Context, total: int) -> Iterator[Callable[[], None]]:
    if not context.console.is_terminal or context.console.quiet or not total:
        yield lambda: None
        return
    bar = context.console.progress("sampling", total)
    try:
        yield lambda: bar.advance(bar.task_ids[0])
    finally:
        bar.stop()
