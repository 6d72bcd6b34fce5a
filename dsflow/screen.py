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
        count = {status: sum(1 for o in outcomes if o.status is status) for status in Status}
        warned = sum(1 for o in outcomes if o and any(check.violations for check in o.checks))
        failed = len(outcomes) - count[Status.SUCCEEDED] - count[Status.SKIPPED]
        seconds = time.perf_counter() - self._started
        return (
            f"Done. OK={count[Status.SUCCEEDED]} SKIP={count[Status.SKIPPED]} WARN={warned} FAIL={failed} "
            f"TOTAL={len(outcomes)} in {show_seconds(seconds)}"
        )

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
        name = f"{task.job} ds={task.ds}"
        style = self._console.style
        if not outcome:
            self._line(f"{style('✗', 'red')} {name} {_ending(outcome)} in {show_seconds(outcome.seconds)}")
            for line in self._explanation(task, outcome):
                self._line(f"  {line}")
            return
        rows = [published.manifest.rows for published in outcome.outputs if published.manifest.rows is not None]
        counted = f"  {show_count(sum(rows), 'row')}" if rows else ""
        self._line(f"{style('✓', 'green')} {name}  {show_seconds(outcome.seconds)}{counted}")
        if not self._brief:
            self._results(task, outcome)

    def _results(self, task: Task, outcome: Outcome) -> None:
        for published in outcome.outputs:
            manifest = published.manifest
            folder = "tables" if manifest.store == "table" else "raw"
            self._line(f"  Job output data saved to {self._datastore}/{folder}/{manifest.name}/ds={manifest.ds}")
            for change in published.schema_changes:
                self._line(f"  schema change since ds={published.previous_ds}: {change}")
        for check in outcome.checks:
            if check.violations:
                counted = f"{check.violations:,} of {show_count(check.rows, 'row')}"
                self._line(f"  warning: {counted} broke {check.name!r} ({check.action})")
        self._line(f"  page: {self._datastore}/{task.folder}/index.html")

    def _explanation(self, task: Task, outcome: Outcome) -> list[str]:
        failure = outcome.failure or Failure(kind="", message="")
        lines = []
        if failure.place or failure.source:
            lines.append(f"{failure.place}: {failure.source}" if failure.source else f"at {failure.place}")
        lines.append(failure.message)
        if self._console.verbose and failure.traceback:
            lines += failure.traceback.splitlines()
        if failure.hint:
            lines.append(failure.hint)
        lines.append(f"page: {self._datastore}/{task.folder}/index.html")
        again = f"`dsflow run {task.job} {task.ds}`"
        wrong = outcome.exit_code not in (PartitionLocked.exit_code, Interrupted.exit_code)
        lines.append(f"next: dsflow open --last-failed, or mend it and {again}" if wrong else f"next: {again}")
        return [line if self._console.verbose else _short(line) for line in lines]

    def _line(self, text: str) -> None:
        self._console.line(text)

    def _stamped(self, text: str) -> str:
        return text if self._console.is_terminal else f"{timestamp()} {text}"


def shown_datastore(datastore: Path) -> str:
    """Give the datastore as a person types it from the current folder."""
    here = Path.cwd()
    return str(datastore.relative_to(here)) if datastore.is_relative_to(here) else str(datastore)


def _ending(outcome: Outcome) -> str:
    return "was interrupted" if outcome.status is Status.INTERRUPTED else "failed"


def _short(line: str) -> str:
    one = " ".join(line.split())
    return one if len(one) <= _LONGEST_LINE else one[: _LONGEST_LINE - 1] + "…"
