"""`dsflow runs`: list the runs, show one, rebuild the history."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from dsflow.commands.completion import jobs as complete_jobs
from dsflow.commands.completion import runs as complete_runs
from dsflow.commands.context import Context
from dsflow.commands.sampled import sample_option
from dsflow.console import Console
from dsflow.masking import MASK
from dsflow.model import Check, InputUsed, Outcome, Published, Status, Task, from_json
from dsflow.quantities import show_bytes, show_seconds
from dsflow.records import RUNNING, Record

T = TypeVar("T")


def _moment(ctx: click.Context, param: click.Parameter, text: str | None) -> dt.datetime | None:
    midnight = dt.datetime.combine(dt.datetime.now().date(), dt.time())
    days = {"today": midnight, "yesterday": midnight - dt.timedelta(days=1)}
    try:
        return None if text is None else days.get(text) or dt.datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter(f"'{text}' is no date; write it like 2026-11-20 or 2026-11-20T05:30") from None


@click.group(invoke_without_command=True, subcommand_metavar="[show RUN | rebuild]")
@click.option("--job", shell_complete=complete_jobs, help="Only runs of this job.")
@click.option("--ds", help="Only runs for this partition.")
@click.option("--status", type=click.Choice([RUNNING, *map(str, Status)]), help="Only such runs.")
@click.option("--since", callback=_moment, metavar="DATE", help="Only runs that started then or later.")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="At most so many, the newest.")
@sample_option
@click.pass_context
def runs(
    ctx: click.Context, job: str | None, ds: str | None, status: str | None, since: dt.datetime | None, limit: int
) -> None:
    """List the runs, newest first; `show` one of them, or `rebuild` the list from the run folders."""
    context: Context = ctx.obj
    if ctx.invoked_subcommand is not None:
        return
    found = context.history.runs(job=job, ds=ds, status=status, since=since, limit=limit)
    if context.json:
        context.console.document({"runs": [_document(record) for record in found]})
    elif found:
        columns = ["run", "job", "ds", "status", "rows", "took"]
        context.console.table(columns, [_row(r) for r in found], whole={"run", "ds", "status", "took"})
    else:
        filtered = any((job, ds, status, since))
        context.console.note("No run matches." if filtered else "No run yet. `dsflow run JOB DS` makes one.")


@runs.command()
@click.argument("run", default="last", shell_complete=complete_runs)
@click.pass_obj
def show(context: Context, run: str) -> None:
    """Show what a run read, wrote and checked, and why it failed.

    RUN is an id, the beginning of one, or `last`.
    """
    record = context.history.get(run)
    folder = context.history.folder(record)
    task, outcome = _load(Task, folder / "task.json"), _load(Outcome, folder / "outcome.json")
    if context.json:
        parts = {"task": task, "outcome": outcome}
        # An outcome that failed is falsy.
        documents = {name: None if part is None else dataclasses.asdict(part) for name, part in parts.items()}
        context.console.document({"run": _document(record), **documents})
    else:
        _show(context, record, task, outcome)


@runs.command()
@click.pass_obj
def rebuild(context: Context) -> None:
    """Make the history again from the run folders."""
    rebuilt = context.history.rebuild()
    broken = [
        {"folder": context.workspace.shown(found.folder), "reason": found.reason.splitlines()[0]}
        for found in rebuilt.broken
    ]
    if context.json:
        context.console.document({"runs": rebuilt.runs, "broken": broken})
        return
    for found in broken:
        context.console.note(f"skipped {found['folder']}: {found['reason']}")
    context.console.line(f"Done. RUNS={rebuilt.runs} BROKEN={len(broken)}")


def _document(record: Record) -> dict[str, Any]:
    # The verdicts on expectations are in the outcome; `dsflow checks` lists them by date.
    return {name: value for name, value in dataclasses.asdict(record).items() if name != "checked"}


def _row(record: Record) -> list[str]:
    return [
        record.run_id,
        record.job,
        record.ds,
        record.status,
        _count(record.rows),
        "" if record.seconds is None else show_seconds(record.seconds),
    ]


def _show(context: Context, record: Record, task: Task | None, outcome: Outcome | None) -> None:
    console = context.console
    _facts(console, _head(context, record, task, outcome))
    if task is not None:
        values = {**task.parameters, **dict.fromkeys(task.secret_parameters, MASK)}
        _facts(console, [(name, _value(value)) for name, value in values.items()], title="Parameters")
    if outcome is None:
        return
    _table(console, "Inputs", ["name", "source", "ds", "rows", "bytes", "hash"], map(_input, outcome.inputs))
    _table(console, "Outputs", ["output", "ds", "rows", "bytes", "hash"], map(_output, outcome.outputs))
    for published in outcome.outputs:
        _facts(console, [(c.name, c.type) for c in published.manifest.columns], title="Schema")
        changes = [(change, "") for change in published.schema_changes]
        _facts(console, changes, title=f"Schema changes since ds={published.previous_ds}")
    checks = [[c.name, c.constraint, c.action, _count(c.rows), _found(c), c.verdict] for c in outcome.checks]
    _table(console, "Checks", ["expectation", "must be true", "action", "rows", "violations", "verdict"], checks)


def _head(context: Context, record: Record, task: Task | None, outcome: Outcome | None) -> list[tuple[str, str]]:
    ending = "" if record.exit_code in (None, 0) else f", exit code {record.exit_code}"
    took = "" if record.seconds is None else f", took {show_seconds(record.seconds)}"
    reason = task.facts.runtime_reason if task else ""
    failure = outcome.failure if outcome is not None else None
    facts = [
        ("run", record.run_id),
        ("job", record.job),
        ("ds", record.ds),
        ("status", record.status + ending),
        ("started", _local(record.started) + took),
        ("runtime", record.runtime + (f" ({reason})" if reason else "")),
        ("image", record.image),
        ("git", record.git_revision),
        ("error", record.error),
        ("place", f"{failure.place}: {failure.source}".strip(": ") if failure else ""),
        ("folder", context.workspace.shown(context.history.folder(record))),
    ]
    return [(name, value) for name, value in facts if value]


def _facts(console: Console, facts: Sequence[tuple[str, str]], title: str = "") -> None:
    if facts and title:
        console.line(f"\n{title}")
    width = max((len(name) for name, _ in facts), default=0)
    for name, value in facts:
        first, *more = value.splitlines() or [""]
        console.line(f"{'  ' if title else ''}{name:<{width}}  {first}".rstrip())
        for line in more:
            console.line(f"{'  ' if title else ''}{'':<{width}}  {line}")


def _table(console: Console, title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    listed = list(rows)
    if listed:
        console.line(f"\n{title}")
        console.table(columns, listed)


def _input(used: InputUsed) -> list[str]:
    source = {"table": "tables/", "raw": "raw/"}.get(used.kind, "") + used.target
    return [used.name, source, used.ds or "", _count(used.rows), _size(used.bytes), (used.hash or "")[:12]]


def _output(published: Published) -> list[str]:
    made = published.manifest
    name = f"{'tables' if made.store == 'table' else made.store}/{made.name}"
    return [name, made.ds, _count(made.rows), _size(made.bytes), made.hash[:12]]


def _found(check: Check) -> str:
    return check.found if check.per == "partition" else _count(check.violations)


def _load(cls: type[T], path: Path) -> T | None:
    try:
        return from_json(cls, path.read_text("utf-8"))
    except (OSError, ValueError):
        return None


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _count(number: int | None) -> str:
    return "" if number is None else f"{number:,}"


def _size(number: int | None) -> str:
    return "" if number is None else show_bytes(number)


def _local(moment: str) -> str:
    """Give a moment in the time zone of whoever reads it."""
    return dt.datetime.fromisoformat(moment).astimezone().strftime("%Y-%m-%d %H:%M:%S")
