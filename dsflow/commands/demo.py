"""`dsflow demo`."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dsflow.commands import plans
from dsflow.commands.context import Context
from dsflow.generate.scaffold import SAMPLE_DASHBOARD, SAMPLE_DAYS, SAMPLE_JOBS, SAMPLE_TABLE
from dsflow.model import Outcome, run_folder

if TYPE_CHECKING:
    from dsflow.plan import Step
    from dsflow.workspace import Workspace

# as many columns as a terminal of 80 has room for
_WORST = """
    SELECT strftime(time_hour, '%Y-%m-%d %H:%M') AS hour, origin, flights, cancelled, mean_dep_delay, wind_speed
    FROM demo ORDER BY mean_dep_delay DESC NULLS LAST, time_hour, origin LIMIT 10
"""


@click.command()
@click.argument("folder", metavar="[DIR]", default="dsflow-demo", type=click.Path(path_type=Path))
@click.option(
    "--runtime",
    type=click.Choice(["auto", "process", "docker"]),
    default="process",
    help="Where the jobs run; process, the default, needs no image.",
)
@click.pass_context
def demo(ctx: click.Context, folder: Path, runtime: str) -> None:
    """Make a workspace with a sample pipeline in DIR and run it.

    Weather and flights of New York in 2013, from published files to a table that joins them. A second call runs the
    pipeline again.
    """
    from dsflow.generate.scaffold import sample_workspace
    from dsflow.runner import exit_code_of

    context: Context = ctx.obj
    place = (context.directory or Path()) / folder
    own = Context(sample_workspace(place).root, context.console)
    results = _run_pipeline(own, runtime)
    if code := exit_code_of([outcome for _, outcome in results]):
        ctx.exit(code)
    _show(own, results, [] if place.resolve() == Path.cwd() else [f"cd {shlex.quote(str(place))}"])


def _run_pipeline(context: Context, runtime: str) -> Sequence[tuple[Step, Outcome]]:
    from dsflow import pipeline, plan
    from dsflow.execution import Pace, usual_memory

    context.console.note(f"The sample pipeline, for {len(SAMPLE_DAYS)} days, in {context.workspace.root}")
    whole = pipeline.load(context.workspace, context.settings)
    ground = plans.ground_of(context, whole, SAMPLE_JOBS, (), runtime)
    made = plan.make(whole, SAMPLE_JOBS, SAMPLE_DAYS[0], SAMPLE_DAYS[-1], ground.standing, force=True)
    return plans.carry_out(context, made, ground, Pace(workers=plans.usual_workers(), memory=usual_memory()))


def _show(context: Context, results: Sequence[tuple[Step, Outcome]], first: list[str]) -> None:
    """End with the table, the page of the last run, and what to type next."""
    workspace, console = context.workspace, context.console
    columns, rows = _worst_hours(workspace)
    step, outcome = results[-1]
    page = workspace.datastore / run_folder(step.job, step.ds, outcome.run_id) / "index.html"
    commands = [*_way_there(), *first, "dsflow open", "dsflow runs", f"dsflow run {SAMPLE_DASHBOARD}"]
    if context.json:
        console.document(
            {
                "workspace": str(workspace.root),
                "runs": [{"run_id": o.run_id, "job": s.job, "ds": s.ds} for s, o in results],
                "columns": columns,
                "rows": rows,
                "page": str(page),
                "next": commands,
            }
        )
        return
    console.line(f"\nTable {SAMPLE_TABLE}, the hours with the longest delays:\n")
    console.table(columns, rows)
    console.line(f"\nThe page of the last run: {page}\n\nNext:")
    for command in commands:
        console.line(f"  {command}")


def _way_there() -> list[str]:
    """What has to be typed first where `dsflow` is not on PATH, as after `bash init.sh --demo`."""
    from dsflow.workspace import package_folder

    script = package_folder("init.sh")
    return [f"source {shlex.quote(str(script))}"] if script.is_file() and not shutil.which("dsflow") else []


def _worst_hours(workspace: Workspace) -> tuple[list[str], list[list[str]]]:
    from dsflow.engines.registry import open_engine
    from dsflow.store.datastore import Datastore

    partitions = Datastore(workspace.datastore).select("table", SAMPLE_TABLE, SAMPLE_DAYS)
    engine = open_engine("duckdb")
    try:
        files = [file for partition in partitions for file in partition.files]
        engine.view("demo", engine.read(files, "parquet", with_ds=True, options={}))
        worst = engine.sql(_WORST)
        return list(worst.columns), [["" if v is None else str(v) for v in row] for row in worst.fetchall()]
    finally:
        engine.close()
