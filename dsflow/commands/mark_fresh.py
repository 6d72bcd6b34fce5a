"""`dsflow mark-fresh`: accept partitions as they are."""

from __future__ import annotations

from collections import Counter

import click

from dsflow.commands import plans
from dsflow.commands.completion import jobs as complete_jobs
from dsflow.commands.context import Context
from dsflow.errors import UsageError


@click.command()
@click.argument("arguments", nargs=-1, metavar="[SELECTION]... A..B", shell_complete=complete_jobs)
@click.option("--exclude", multiple=True, metavar="SELECTION", help="Leave these jobs out; can be repeated.")
@click.option("-p", "--param", "params", multiple=True, metavar="K=V", help="As for a run; can be repeated.")
@click.option("--runtime", type=click.Choice(["auto", "process", "docker"]), help="Where the jobs would run.")
@click.option("--dry-run", is_flag=True, help="Show what would be marked, and mark nothing.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def mark_fresh(
    context: Context,
    arguments: tuple[str, ...],
    exclude: tuple[str, ...],
    params: tuple[str, ...],
    runtime: str | None,
    dry_run: bool,
    yes: bool,
) -> None:
    """Call the partitions of the SELECTION of jobs fresh, from A to B, without running anything.

    For a change that does not change the rows. The files stay as they are; their manifests say from then on that
    they were made with the code, spec, parameters and inputs of now. What is missing stays missing.

    \b
    dsflow mark-fresh fct-delays 2013-01
    dsflow mark-fresh create-table-weather+ 2013-01-01..2013-01-31 --dry-run
    """
    from dsflow import acceptance, pipeline
    from dsflow.partitions import span
    from dsflow.quantities import show_count

    if not arguments:
        raise UsageError("Usage: dsflow mark-fresh [SELECTION]... A..B", "Such as `dsflow mark-fresh x 2026-10`.")
    first, last = span(arguments[-1])
    whole = pipeline.load(context.workspace, context.settings)
    jobs = plans.planned_jobs(whole, arguments[:-1], exclude)
    standing = plans.ground_of(context, whole, jobs, params, runtime).standing
    found = acceptance.candidates(whole, jobs, first, last, standing)
    accepted = [each for each in found if not each.refused]
    refused = Counter(each.refused for each in found if each.refused)
    for each in accepted:
        context.console.line(f"{each.job} ds={each.ds}: {each.verdict.reason}")
    if accepted and not dry_run:
        context.check_own()
        if not yes:
            plans.confirm(context.console.is_terminal, f"Mark {show_count(len(accepted), 'partition')} fresh?")
        for each in accepted:
            acceptance.accept(whole, each, context.workspace.datastore.resolve(), standing)
    if context.json:
        context.console.document({"marked": len(accepted), "dry_run": dry_run, "refused": dict(refused)})
        return
    verb = "would be marked" if dry_run else "marked"
    left = "".join(f", {count:,} {why}" for why, count in sorted(refused.items()))
    context.console.line(f"{show_count(len(accepted), 'partition')} {verb} fresh{left}")
