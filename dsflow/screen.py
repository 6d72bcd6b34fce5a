"""Shows runs while they happen: a listener that turns events into lines on the console.

On a terminal there is a progress bar below the lines; elsewhere every line has the time in front. A failed run takes
at most eight lines.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dsflow.console import Console, timestamp
from dsflow.errors import Interrupted, PartitionLocked
from dsflow.masking import MASK
from dsflow.model import (
    QUARANTINE,
    Check,
    Event,
    Failure,
    LogLine,
    Notice,
    Outcome,
    Progress,
    RunFinished,
    RunStarted,
    Status,
    Task,
)
from dsflow.quantities import show_count, show_seconds

if TYPE_CHECKING:
    from rich.progress import Progress as ProgressBar

_LONGEST_LINE = 300


class Screen:
    """Draws the events of runs.

    Args:
        console: Where to.
        datastore: The datastore as it is to be named in messages, such as `datastore`.
        brief: A run that succeeds takes one line, as where many follow each other.
    """

    def __init__(self, console: Console, datastore: str, *, brief: bool = False) -> None:
        self._console = console
        self._datastore = datastore
        self._brief = brief and not console.verbose
        self._started = time.perf_counter()
        self._bar: ProgressBar | None = None

    def __call__(self, event: Event) -> None:
        """Show one event."""
        match event:
            case Notice(text=text):
                self._console.note(self._stamped(text))
            case RunStarted(task=task):
                if not self._brief:
                    self._start(task)
            case LogLine(text=text):
                if not (self._console.quiet or self._brief):
                    self._line(self._stamped(f"  {text}"))
            case Progress(task=task, done=done, total=total):
                self._progress(task, done, total)
            case RunFinished(task=task, outcome=outcome):
                self._finish(task, outcome)

    def summary(self, outcomes: Sequence[Outcome]) -> str:
        """Give the last line, made for grep."""
        return summary(outcomes, time.perf_counter() - self._started)

    def _start(self, task: Task) -> None:
        where = task.facts.runtime + (f", {task.facts.runtime_reason}" if task.facts.runtime_reason else "")
        self._console.note(self._stamped(f"Running {task.job} ds={task.ds} ({where})"))
        shown = {**task.parameters, **dict.fromkeys(task.secret_parameters, MASK)}
        if shown:
            self._console.note(self._stamped("  parameters: " + " ".join(f"{k}={v}" for k, v in shown.items())))
        if task.legacy and task.task_specs:
            self._console.note(self._stamped("  specs: " + " ".join(f"{k}={v}" for k, v in task.task_specs.items())))
        if task.port is not None:
            self._console.line(f"dashboard: http://localhost:{task.port}/ (Ctrl-C ends it)")

    def _progress(self, task: Task, done: int, total: int) -> None:
        if not self._console.is_terminal or self._console.quiet or total < 2:
            return
        if self._bar is None:
            self._bar = self._console.progress(f"{task.job} ds={task.ds}", total)
        self._bar.update(self._bar.task_ids[0], completed=done, total=total)

    def _finish(self, task: Task, outcome: Outcome) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
        for line in ending(self._console, self._datastore, task, outcome, brief=self._brief):
            self._line(line)

    def _line(self, text: str) -> None:
        self._console.line(text)

    def _stamped(self, text: str) -> str:
        return text if self._console.is_terminal else f"{timestamp()} {text}"


def summary(outcomes: Sequence[Outcome], seconds: float) -> str:
    """Give the last line of a command that runs something, made for grep. WAIT is there only where something waits."""
    count = {status: sum(1 for o in outcomes if o.status is status) for status in Status}
    warned = sum(1 for o in outcomes if o and any(_is_told(check) for check in o.checks))
    failed = count[Status.FAILED] + count[Status.INTERRUPTED]
    waits = f"WAIT={count[Status.ABORTED]} " if count[Status.ABORTED] else ""
    return (
        f"Done. OK={count[Status.SUCCEEDED]} SKIP={count[Status.SKIPPED]} WARN={warned} FAIL={failed} {waits}"
        f"TOTAL={len(outcomes)} in {show_seconds(seconds)}"
    )


def ending(console: Console, datastore: str, task: Task, outcome: Outcome, *, brief: bool = False) -> list[str]:
    """Tell how a run ended.

    Args:
        console: Where it will be told.
        datastore: The datastore as messages name it.
        task: What ran.
        outcome: How it ended.
        brief: Of a success, say only what it took and what was unusual.
    """
    name = f"{task.job} ds={task.ds}"
    if not outcome:
        what = "was interrupted" if outcome.status is Status.INTERRUPTED else "failed"
        told = f"{console.style('✗', 'red')} {name} {what} in {show_seconds(outcome.seconds)}"
        return [told, *(f"  {line}" for line in _explanation(console, datastore, task, outcome))]
    rows = [published.manifest.rows for published in outcome.outputs if published.manifest.rows is not None]
    counted = f"  {show_count(sum(rows), 'row')}" if rows else ""
    lines = [f"{console.style('✓', 'green')} {name}  {show_seconds(outcome.seconds)}{counted}"]
    for published in outcome.outputs:
        manifest = published.manifest
        folder = "tables" if manifest.store == "table" else "raw"
        if not brief:
            lines.append(f"  Job output data saved to {datastore}/{folder}/{manifest.name}/ds={manifest.ds}")
        lines += [f"  schema change since ds={published.previous_ds}: {c}" for c in published.schema_changes]
        if published.quarantined:
            place = f"{datastore}/{folder}/{manifest.name}{QUARANTINE}/ds={manifest.ds}"
            lines.append(f"  {show_count(published.quarantined, 'row')} dropped, into {place}")
    lines += [f"  {_told(check)}" for check in outcome.checks if _is_told(check)]
    return lines if brief else [*lines, f"  page: {datastore}/{task.folder}/index.html"]


def _is_told(check: Check) -> bool:
    return check.verdict in ("allowed", "dropped") and check.severity != "info"


def _told(check: Check) -> str:
    word = "error" if check.severity == "error" else "warning"
    if check.per == "partition":
        return f"{word}: {check.name!r} is broken ({check.action}): {check.found}"
    counted = f"{check.violations:,} of {show_count(check.rows, 'row')}"
    return f"{word}: {counted} broke {check.name!r} ({check.action})"


def _explanation(console: Console, datastore: str, task: Task, outcome: Outcome) -> list[str]:
    failure = outcome.failure or Failure(kind="", message="")
    lines = []
    if failure.place or failure.source:
        lines.append(f"{failure.place}: {failure.source}" if failure.source else f"at {failure.place}")
    lines.append(failure.message)
    lines += next((list(check.examples) for check in outcome.checks if check.verdict == "failed"), [])
    if console.verbose and failure.traceback:
        lines += failure.traceback.splitlines()
    if failure.hint:
        lines.append(failure.hint)
    lines.append(f"page: {datastore}/{task.folder}/index.html")
    verb = "submit" if task.facts.runtime == "submit" else "run"
    again = f"`dsflow {verb} {task.job} {task.ds}`"
    wrong = outcome.exit_code not in (PartitionLocked.exit_code, Interrupted.exit_code)
    lines.append(f"next: dsflow open --last-failed, or mend it and {again}" if wrong else f"next: {again}")
    return [line if console.verbose else _short(line) for line in lines]


def shown_datastore(datastore: Path) -> str:
    """Give the datastore as a person types it from the current folder."""
    here = Path.cwd()
    return str(datastore.relative_to(here)) if datastore.is_relative_to(here) else str(datastore)


def _short(line: str) -> str:
    one = " ".join(line.split())
    return one if len(one) <= _LONGEST_LINE else one[: _LONGEST_LINE - 1] + "…"
