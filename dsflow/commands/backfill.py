"""`dsflow backfill`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from dsflow.commands import plans, sampled
from dsflow.commands.completion import jobs as complete_jobs
from dsflow.commands.context import Context
from dsflow.errors import UsageError

if TYPE_CHECKING:
    from dsflow.execution import Ground
    from dsflow.plan import Plan

_ONLY = ("missing", "stale", "failed")


@click.command()
@click.argument("arguments", nargs=-1, metavar="[SELECTION]... A..B", shell_complete=complete_jobs)
@plans.plan_options
@click.option("--only", type=click.Choice(_ONLY), multiple=True, help="Only partitions like this; can be repeated.")
@click.option("--latest-first", is_flag=True, help="Begin with the newest dates.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@sampled.sample_option
@sampled.offline_option
@click.pass_context
def backfill(
    ctx: click.Context,
    /,
    arguments: tuple[str, ...],
    only: tuple[str, ...],
    latest_first: bool,
    yes: bool,
    offline: bool,
    **rest: Any,
) -> None:
    """Run the SELECTION of jobs for every date from A to B that is not fresh, after showing the plan.

    \b
    dsflow backfill create-table-weather+ 2013-01-01..2013-01-31
    dsflow backfill 2013-01 --only failed -j 4 -y
    """
    context: Context = ctx.obj
    options = plans.options_of(rest)
    first, last = _dates(arguments)
    many = first != last and not options.dry_run
    runtimes = plans.runtimes_of(context, options.runtime, warm=many)
    ctx.call_on_close(runtimes.close)
    # Loaded while what is warm starts.
    from dsflow import plan

    pace = options.pace()
    whole = sampled.pipeline_of(context)
    jobs = plans.planned_jobs(whole, arguments[:-1], options.exclude)
    jobs = sampled.without_sources(context, whole, jobs, arguments[:-1])
    whole.check_sources(jobs)
    sampled.provide(context, whole, jobs, (first, last), offline=offline, dry_run=options.dry_run)
    ground = plans.ground_of(context, whole, jobs, options.params, options.runtime, runtimes)
    if many:
        ground.load(jobs[0])
    wanted = frozenset(map(plan.State, only)) or None
    made = plan.make(
        whole, jobs, first, last, ground.standing, force=options.force, only=wanted, latest_first=latest_first
    )
    _show(context, made, ground, explain=options.explain, workers=pace.workers)
    if not options.dry_run and not yes and any(step.action is plan.Action.RUN for step in made.steps):
        plans.confirm(context.console.is_terminal, "Run this?")
    ctx.exit(plans.finish(context, made, ground, pace, dry_run=options.dry_run))


def _dates(arguments: tuple[str, ...]) -> tuple[str, str]:
    from dsflow.partitions import span

    if not arguments:
        raise UsageError(
            "Usage: dsflow backfill [SELECTION]... A..B", "Such as `dsflow backfill 2026-10-01..yesterday`."
        )
    return span(arguments[-1])


def _show(context: Context, made: Plan, ground: Ground, *, explain: bool, workers: int) -> None:
    from dsflow.explanation import headline

    plans.show_grids(context, ground, plans.states_of(made, ground.pipeline))
    plans.explain(context, made, only_waiting=not explain)
    context.console.line()
    context.console.line(headline(made, workers))
