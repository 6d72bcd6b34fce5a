"""What `backfill`, `run` and `status` have in common: options, the ground a plan stands on, and carrying one out."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

from dsflow.commands.context import Context
from dsflow.errors import EnvironmentMissing, UsageError

if TYPE_CHECKING:
    from dsflow.execution import Ground, Pace
    from dsflow.model import Outcome
    from dsflow.pipeline import Pipeline
    from dsflow.plan import Plan, State, Step
    from dsflow.runtimes.registry import Runtimes

_Function = TypeVar("_Function", bound=Callable[..., Any])


@dataclass(frozen=True, kw_only=True)
class PlanOptions:
    """How a plan is shown and carried out, as the command line says it."""

    exclude: tuple[str, ...]
    params: tuple[str, ...]
    runtime: str | None
    jobs_at_once: int
    memory: str | None
    fail_fast: bool
    batch: bool
    force: bool
    explain: bool
    dry_run: bool

    def pace(self) -> Pace:
        """Give how much happens at once.

        Raises:
            UsageError: `--memory` is not an amount.
        """
        from dsflow.execution import Pace, usual_memory
        from dsflow.quantities import memory_bytes

        try:
            memory = memory_bytes(self.memory) if self.memory else usual_memory()
        except ValueError as error:
            raise UsageError(f"--memory: {error}") from None
        return Pace(workers=self.jobs_at_once, memory=memory, fail_fast=self.fail_fast, batch=self.batch)


_OPTIONS = (
    click.option("--exclude", multiple=True, metavar="SELECTION", help="Leave these jobs out; can be repeated."),
    click.option("-p", "--param", "params", multiple=True, metavar="K=V", help="Set a parameter; can be repeated."),
    click.option("--runtime", type=click.Choice(["auto", "process", "docker", "submit"]), help="Where the jobs run."),
    click.option("-j", "--jobs", "jobs_at_once", type=click.IntRange(1, 512), help="So many tasks at once."),
    click.option("--memory", metavar="SIZE", help="Memory that running tasks may use together, such as 8g."),
    click.option(
        "--fail-fast/--keep-going", help="After a failure start nothing, or go on with what does not need it."
    ),
    click.option("--batch", is_flag=True, help="One container for the tasks of a worker, instead of one for each."),
    click.option("--force", is_flag=True, help="Run also what is fresh."),
    click.option("--explain", is_flag=True, help="Say why, for each step."),
    click.option("--dry-run", is_flag=True, help="Show what would run, and run nothing."),
)


def plan_options(function: _Function) -> _Function:
    """Give a command the options that every plan has."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def usual_workers() -> int:
    """Give how many tasks run at once where nobody says: one per processor that this process may use."""
    from dsflow.runner import processors

    return processors()


def options_of(values: Mapping[str, Any]) -> PlanOptions:
    """Make the options out of what click gave."""
    workers = values["jobs_at_once"] or usual_workers()
    return PlanOptions(**{**values, "jobs_at_once": workers})


def split_dates(arguments: Sequence[str]) -> tuple[Sequence[str], tuple[str, str] | None]:
    """Take the dates off the end of arguments, where there are some.

    Raises:
        UsageError: the last argument has the dots of a span, and is none.
    """
    from dsflow.partitions import span

    if not arguments:
        return (), None
    try:
        return arguments[:-1], span(arguments[-1])
    except UsageError:
        if ".." in arguments[-1]:
            raise
        return arguments, None


def today() -> tuple[str, str]:
    """Give the span that is today."""
    from dsflow.partitions import span

    return span("today")


def planned_jobs(pipeline: Pipeline, expressions: Sequence[str], exclude: Sequence[str]) -> list[str]:
    """Give the jobs that are meant; dashboards serve until they are stopped, so they are in no plan.

    Raises:
        UsageError: the selection is wrong, or nothing of it can be planned.
    """
    from dsflow.kinds.registry import KINDS
    from dsflow.selection import select

    found = select(pipeline, expressions, exclude)
    jobs = [name for name in found if not KINDS[pipeline.nodes[name].job.kind].port]
    if not jobs:
        if found:
            raise UsageError(
                f"{', '.join(found)}: a dashboard has no partitions", f"`dsflow run {found[0]}` serves it."
            )
        raise UsageError("no job is selected", "`dsflow ls` shows the jobs.")
    return jobs


def runtimes_of(context: Context, runtime: str | None, *, warm: bool) -> Runtimes:
    """Give the runtimes of a command, which must be closed.

    Args:
        context: The command's context.
        runtime: The one that the command line names.
        warm: Many tasks are likely: let the workspace's runtime begin with what they can share.
    """
    from dsflow.runtimes.registry import Runtimes

    runtimes, wanted = Runtimes(), runtime or context.settings.runtime
    if warm and wanted != "auto":
        # Perhaps nothing is to be run; else the plan says what is missing.
        with contextlib.suppress(EnvironmentMissing):
            runtimes.choose(wanted)[0].warm_up()
    return runtimes


def ground_of(
    context: Context,
    pipeline: Pipeline,
    jobs: Sequence[str],
    params: Sequence[str],
    runtime: str | None,
    runtimes: Runtimes | None = None,
) -> Ground:
    """Look at what is published, and give what the tasks of a plan stand on.

    Raises:
        UsageError: none of the jobs has one of the parameters.
    """
    from dsflow.execution import Ground, given_to
    from dsflow.freshness import standing
    from dsflow.parameters import parse_given
    from dsflow.runtimes.registry import Runtimes
    from dsflow.tasks import Maker

    workspace, settings, given = context.workspace, context.settings, parse_given(params)
    maker, runtimes = Maker(workspace, settings, pipeline), runtimes or Runtimes()
    return Ground(
        workspace=workspace,
        settings=settings,
        pipeline=pipeline,
        standing=standing(workspace, settings, pipeline, context.history, runtime, given, runtimes),
        maker=maker,
        given=given_to(maker, jobs, given),
        runtime=runtime,
        runtimes=runtimes,
    )


def show_grids(context: Context, ground: Ground, states: Mapping[str, Mapping[str, State]]) -> None:
    """Draw how the partitions of each job stand."""
    from dsflow import grid

    for job, own in states.items():
        for line in grid.lines(job, ground.pipeline.nodes[job].job.grain, own, context.console.style):
            context.console.line(line)
        context.console.line()
    context.console.line(grid.legend(context.console.style))


def states_of(plan: Plan, pipeline: Pipeline) -> dict[str, dict[str, State]]:
    """Give how each partition of a plan stands, by job in the order of the pipeline, and by ds."""
    states: dict[str, dict[str, State]] = {}
    for step in plan.steps:
        states.setdefault(step.job, {})[step.ds] = step.state
    return {name: states[name] for name in pipeline.nodes if name in states}


def explain(context: Context, plan: Plan, *, only_waiting: bool = False) -> None:
    """Say of every step what happens and why; or of those only that cannot run."""
    from dsflow.explanation import lines
    from dsflow.plan import Action

    steps = [step for step in plan.steps if not only_waiting or step.action is Action.WAIT]
    for line in ["", *lines(steps)] if steps else []:
        context.console.line(line)


def confirm(
    console_is_terminal: bool, question: str, hint: str = "`-y` runs it without asking, `--dry-run` only shows it."
) -> None:
    """Ask the person; without one there must have been `-y`.

    Raises:
        UsageError: nobody can be asked.
    """
    if not (console_is_terminal and sys.stdin.isatty()):
        raise UsageError("nobody is there to be asked", hint)
    click.confirm(question, abort=True, err=True)


def finish(context: Context, plan: Plan, ground: Ground, pace: Pace, *, dry_run: bool) -> int:
    """Carry out a plan that has been shown, give the document if one is wanted, and return the exit code."""
    from dsflow.runner import exit_code_of

    results = None if dry_run else carry_out(context, plan, ground, pace)
    code = exit_code_of([outcome for _, outcome in results or ()])
    if context.json:
        context.console.document(_document(plan, ground, pace, results, code))
    return code


def carry_out(context: Context, plan: Plan, ground: Ground, pace: Pace) -> list[tuple[Step, Outcome]]:
    """Run a plan and show how it goes; the last line is made for grep. Gives each step with its outcome."""
    from dsflow.batches import Batches
    from dsflow.execution import execute
    from dsflow.plan_screen import PlanScreen
    from dsflow.screen import shown_datastore

    console = context.console
    history = context.history
    screen = PlanScreen(console, shown_datastore(context.workspace.datastore), plan)
    with screen, Batches(history.record, context.workspace.datastore) as record:
        results = execute(plan, ground, pace, (screen, record), screen.ended)
    if record.error is not None:
        console.note(f"warning: {record.error}")
    for line in screen.summary([outcome for _, outcome in results]):
        console.line(line)
    return results


def _document(
    plan: Plan, ground: Ground, pace: Pace, results: Sequence[tuple[Step, Outcome]] | None, code: int
) -> dict[str, Any]:
    """Give a plan as data, with how its steps ended where they have."""
    from dsflow import grid
    from dsflow.explanation import estimate
    from dsflow.plan import Action

    nodes = ground.pipeline.nodes
    made: dict[str, Any] = {
        "grids": [
            grid.document(job, nodes[job].job.grain, own) for job, own in states_of(plan, ground.pipeline).items()
        ],
        "runs": sum(1 for step in plan.steps if step.action is Action.RUN),
        "seconds": estimate(plan, pace.workers),
        "steps": [_step(step) for step in plan.steps],
    }
    if results is not None:
        made["outcomes"] = [_outcome(step, outcome) for step, outcome in results]
        made["exit_code"] = code
    return made


def _step(step: Step) -> dict[str, Any]:
    return {
        "job": step.job,
        "ds": step.ds,
        "state": step.state,
        "action": step.action,
        "reason": step.reason,
        "needs": list(step.needs),
        "seconds": step.seconds,
    }


def _outcome(step: Step, outcome: Outcome) -> dict[str, Any]:
    return {
        "job": step.job,
        "ds": step.ds,
        "status": outcome.status,
        "exit_code": outcome.exit_code,
        "run_id": outcome.run_id or None,
        "seconds": outcome.seconds,
        "error": outcome.failure.message if outcome.failure else None,
    }
