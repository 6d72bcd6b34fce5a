"""`dsflow run`: one job for a date, a selection of jobs for a date, or what is due."""

from __future__ import annotations

import dataclasses
import datetime as dt
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from dsflow.commands import plans, sampled
from dsflow.commands.completion import jobs as complete_jobs
from dsflow.commands.context import Context
from dsflow.errors import UsageError
from dsflow.model import Event, Outcome, RunFinished, Task

if TYPE_CHECKING:
    from dsflow.execution import Ground
    from dsflow.plan import Plan
    from dsflow.prepare import Chosen

_SELECTING = re.compile(r"[+@:,*?\[]")


@click.command()
@click.argument("arguments", nargs=-1, metavar="SELECTION [DS] [PARAMETERS]...", shell_complete=complete_jobs)
@plans.plan_options
@click.option("--port", type=click.IntRange(1, 65535), help="The port of a dashboard.")
@click.option("--if-stale", is_flag=True, help="Leave a single job alone too if its partition is fresh.")
@click.option("--due", is_flag=True, help="Run what the jobs' schedules say is due and nobody has run yet.")
@click.option("--catch-up", is_flag=True, help="With --due: also the ticks that were missed.")
@sampled.sample_option
@sampled.offline_option
@click.pass_context
def run(
    ctx: click.Context,
    /,
    arguments: tuple[str, ...],
    port: int | None,
    if_stale: bool,
    due: bool,
    catch_up: bool,
    offline: bool,
    **rest: Any,
) -> None:
    """Run jobs for the date DS (today if absent; also `yesterday`).

    A single JOB runs always. Of a selection (`+x`, `x+`, `tag:nightly`, several names) what is fresh is skipped.

    \b
    dsflow run create-table-weather 2013-01-01
    dsflow run create-table-weather 2013-01-01 -p city=paris --runtime docker
    dsflow run +fct-delays yesterday
    dsflow run --due
    """
    context: Context = ctx.obj
    options = plans.options_of(rest)
    if due:
        if context.sampled or offline:
            raise UsageError("--due is for the data, not for its samples", "Leave --sample out, or name jobs.")
        ctx.exit(_run_due(context, arguments, options, catch_up=catch_up))
    if not arguments:
        raise UsageError("Usage: dsflow run JOB [DS] [PARAMETERS]", "Show the jobs: `dsflow ls jobs`")
    if catch_up:
        raise UsageError("--catch-up belongs to --due", "Type `dsflow run --due --catch-up`.")
    asks_for_plan = if_stale or options.explain or options.dry_run or options.exclude
    if not asks_for_plan and _is_one_job(context, arguments):
        ctx.exit(_run_one(context, arguments, options, port, offline=offline))
    if port is not None:
        raise UsageError("--port is for a single dashboard", "`dsflow run DASHBOARD --port N`.")
    ctx.exit(_run_selection(context, arguments, options, offline=offline))


def _is_one_job(context: Context, arguments: Sequence[str]) -> bool:
    """Tell a job with its date and parameters from a selection of several."""
    if _SELECTING.search(arguments[0]):
        return False
    others = set(context.workspace.job_names()).intersection(arguments[1:])
    if not others:
        return True
    from dsflow.specs.load import load_job

    return load_job(context.workspace, arguments[0]).legacy


def _run_one(
    context: Context, arguments: Sequence[str], options: plans.PlanOptions, port: int | None, *, offline: bool
) -> int:
    from dsflow.prepare import prepare

    job, *values = arguments

    def chosen_now() -> Chosen:
        workspace, settings = context.workspace, context.settings
        return prepare(workspace, settings, job, values, options.params, runtime=options.runtime, port=port)

    chosen = chosen_now()
    if context.sampled or offline:
        ds = chosen.assignment.task.ds
        sampled.provide(context, sampled.pipeline_of(context), [job], (ds, ds), offline=offline)
        chosen = chosen_now()  # what it reads is there now
    return carry_out(context, chosen)


def carry_out(context: Context, chosen: Chosen) -> int:
    """Run a task that is prepared, show and record how it goes, and give the exit code."""
    from dsflow import runner
    from dsflow.screen import Screen, shown_datastore

    screen = Screen(context.console, shown_datastore(context.workspace.datastore))
    finished: list[RunFinished] = []

    def record(event: Event) -> None:
        context.history(event)
        if isinstance(event, RunFinished):
            finished.append(event)

    listeners = (screen, record)
    outcomes = runner.execute([chosen.assignment], chosen.runtime, chosen.reason, chosen.folders, listeners)
    context.console.line(screen.summary(outcomes))
    if context.json:
        context.console.document({"runs": [_document(event.task, event.outcome) for event in finished]})
    return runner.exit_code_of(outcomes)


def _document(task: Task, outcome: Outcome) -> dict[str, Any]:
    return {"task": dataclasses.asdict(task), "outcome": dataclasses.asdict(outcome), "folder": task.folder}


def _run_selection(context: Context, arguments: Sequence[str], options: plans.PlanOptions, *, offline: bool) -> int:
    from dsflow import plan

    expressions, dates = plans.split_dates(arguments)
    if not expressions:
        raise UsageError("no job is named", "`dsflow run SELECTION DS`; `dsflow ls` shows the jobs.")
    first, last = dates or plans.today()
    if first != last:
        raise UsageError("`run` takes one date", f"`dsflow backfill {' '.join(arguments)}` takes many.")
    whole = sampled.pipeline_of(context)
    jobs = plans.planned_jobs(whole, expressions, options.exclude)
    jobs = sampled.without_sources(context, whole, jobs, expressions)
    whole.check_sources(jobs)
    sampled.provide(context, whole, jobs, (first, last), offline=offline, dry_run=options.dry_run)
    ground = plans.ground_of(context, whole, jobs, options.params, options.runtime)
    made = plan.make(whole, jobs, first, last, ground.standing, force=options.force)
    return _carry_out(context, made, ground, options)


def _run_due(context: Context, expressions: Sequence[str], options: plans.PlanOptions, *, catch_up: bool) -> int:
    from dsflow import due, pipeline, plan
    from dsflow.store.layout import Layout

    console = context.console
    whole = pipeline.load(context.workspace, context.settings)
    jobs = [name for name in plans.planned_jobs(whole, expressions, options.exclude) if whole.nodes[name].job.schedule]
    layout = Layout(context.workspace.datastore.resolve())
    with due.claimed(jobs, layout, lambda job: console.note(f"{job}: another `run --due` is at work on it")) as free:
        ground = plans.ground_of(context, whole, free, options.params, options.runtime)
        now = dt.datetime.now(dt.UTC)
        dates = due.wanted(whole, free, ground.standing, context.history, now, catch_up=catch_up)
        made = plan.make_for(whole, dates, ground.standing, force=options.force)
        if not made.steps:
            console.note("Nothing is due." if jobs else "No job has a `schedule:`.")
        return _carry_out(context, made, ground, options)


def _carry_out(context: Context, made: Plan, ground: Ground, options: plans.PlanOptions) -> int:
    """Run a plan without asking: whoever names one date knows what they want."""
    from dsflow.explanation import headline

    pace = options.pace()
    plans.explain(context, made, only_waiting=not (options.explain or options.dry_run))
    context.console.line(headline(made, pace.workers))
    return plans.finish(context, made, ground, pace, dry_run=options.dry_run)
