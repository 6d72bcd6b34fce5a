"""`dsflow test`: the tests of jobs."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from dsflow.commands.completion import jobs as complete_jobs
from dsflow.commands.context import Context
from dsflow.errors import UsageError
from dsflow.quantities import show_seconds

if TYPE_CHECKING:
    from dsflow.testing.trial import Verdict

_FAILED = 1


@click.command()
@click.argument("jobs", nargs=-1, metavar="[JOB]...", shell_complete=complete_jobs)
@click.option("-k", "part", metavar="TEXT", default="", help="Only tests whose name has TEXT in it.")
@click.option("--runtime", type=click.Choice(["process", "docker"]), help="Where the jobs run.")
@click.pass_context
def test(ctx: click.Context, jobs: tuple[str, ...], part: str, runtime: str | None) -> None:
    """Run the tests of JOBs, or of all: jobs/NAME/tests/*.yaml and test_*.py.

    Each runs its job on its own inputs, in a datastore that is gone afterwards. Exit code 1 where one fails.

    \b
    dsflow test
    dsflow test create-table-weather -k snow
    """
    context: Context = ctx.obj
    from dsflow.testing import suite
    from dsflow.testing.trial import Trials

    started = time.perf_counter()
    found = suite.find(context.workspace, jobs or context.workspace.job_names(), part)
    for job in jobs if not part else ():
        if not any(each.job == job for each in found):
            raise UsageError(f"{job} has no tests", f"`dsflow generate-test {job} DS` writes one from real data.")
    if not found:
        context.console.note("There are no tests. `dsflow generate-test JOB DS` writes one from real data.")
    verdicts: list[Verdict] = []
    with Trials(context.workspace, runtime) as trials:
        for each in found:
            verdicts += _told(context, suite.run(each, trials, context.workspace, part))
    seconds = time.perf_counter() - started
    context.console.line(_summary(verdicts, seconds))
    if context.json:
        context.console.document({"tests": [{**dataclasses.asdict(v), "passed": v.passed} for v in verdicts]})
    ctx.exit(0 if all(verdict.passed for verdict in verdicts) else _FAILED)


def _told(context: Context, verdicts: Sequence[Verdict]) -> Sequence[Verdict]:
    console = context.console
    for verdict in verdicts:
        mark = console.style("✓", "green") if verdict.passed else console.style("✗", "red")
        if not (verdict.passed and console.quiet):
            console.line(f"{mark} {verdict.job} {verdict.test} ({show_seconds(verdict.seconds)})")
        for line in verdict.lines():
            console.line(f"    {line}")
        if not verdict.passed:
            console.line(f"    {verdict.file}")
    return verdicts


def _summary(verdicts: Sequence[Verdict], seconds: float) -> str:
    passed = sum(verdict.passed for verdict in verdicts)
    return f"Done. OK={passed} FAIL={len(verdicts) - passed} TOTAL={len(verdicts)} in {show_seconds(seconds)}"
