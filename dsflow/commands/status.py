"""`dsflow status`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from dsflow.commands import plans
from dsflow.commands.completion import jobs as complete_jobs
from dsflow.commands.context import Context
from dsflow.commands.sampled import pipeline_of, sample_option, without_sources

if TYPE_CHECKING:
    from dsflow.execution import Ground

_DAYS = 35


@click.command()
@click.argument("arguments", nargs=-1, metavar="[SELECTION]... [A..B]", shell_complete=complete_jobs)
@click.option("--exclude", multiple=True, metavar="SELECTION", help="Leave these jobs out; can be repeated.")
@click.option("-p", "--param", "params", multiple=True, metavar="K=V", help="As for a run; can be repeated.")
@click.option("--runtime", type=click.Choice(["auto", "process", "docker"]), help="Where the jobs would run.")
@click.option("--explain", is_flag=True, help="Say why, for each partition.")
@sample_option
@click.pass_obj
def status(
    context: Context,
    arguments: tuple[str, ...],
    exclude: tuple[str, ...],
    params: tuple[str, ...],
    runtime: str | None,
    explain: bool,
) -> None:
    """Show how the partitions of the SELECTION of jobs stand, from A to B or for the last 35 days of data.

    \b
    dsflow status
    dsflow status +fct-delays 2013-01 --explain
    """
    from dsflow import grid, plan

    expressions, dates = plans.split_dates(arguments)
    whole = pipeline_of(context)
    jobs = plans.planned_jobs(whole, expressions, exclude)
    jobs = without_sources(context, whole, jobs, expressions)
    ground = plans.ground_of(context, whole, jobs, params, runtime)
    first, last = dates or _latest(ground, jobs)
    made = plan.make(whole, jobs, first, last, ground.standing)
    states = plans.states_of(made, whole)
    if context.json:
        nodes = whole.nodes
        grids = [grid.document(job, nodes[job].job.grain, own) for job, own in states.items()]
        context.console.document({"first": first, "last": last, "grids": grids})
        return
    plans.show_grids(context, ground, states)
    if explain:
        plans.explain(context, made)


def _latest(ground: Ground, jobs: Sequence[str]) -> tuple[str, str]:
    """Give the last days for which there is data of some of the jobs; today where there is none."""
    import datetime as dt

    from dsflow import partitions

    ends = []
    for name in jobs:
        node = ground.pipeline.nodes[name]
        there = ground.standing.there(*node.writes) if node.writes else ()
        fitting = [ds for ds in there if partitions.grain_of(ds) == node.job.grain]
        ends += [partitions.end_of(ds, node.job.grain) for ds in fitting[-1:]]
    newest = max(ends) - dt.timedelta(microseconds=1) if ends else dt.datetime.now()
    last = partitions.ds_of(newest)
    return partitions.shift(last, 1 - _DAYS), last
