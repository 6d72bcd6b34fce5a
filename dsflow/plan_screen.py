"""Shows a plan while it is executed, however many tasks run at once.

Each step that ends has a line (a failed one at most eight), with the time in front where nobody watches a terminal. On
a terminal there is one live display below them. What tasks print is left to their logs, unless `-v` asks for it.
"""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Self

from dsflow.console import Console, timestamp
from dsflow.errors import Interrupted
from dsflow.explanation import lines as explained
from dsflow.model import Event, LogLine, Notice, Outcome, Progress, RunFinished, RunStarted, Status, Task
from dsflow.plan import Action, Plan, Step
from dsflow.quantities import show_count
from dsflow.screen import ending, summary

if TYPE_CHECKING:
    from dsflow.board import Board


class PlanScreen:
    """Draws the execution of one plan; used as a context. It may be called from several threads.

    Args:
        console: Where to.
        datastore: The datastore as it is to be named in messages, such as `datastore`.
        plan: What is going to be executed.
    """

    def __init__(self, console: Console, datastore: str, plan: Plan) -> None:
        self._console = console
        self._datastore = datastore
        self._total = sum(1 for step in plan.steps if step.action is Action.RUN)
        self._ended = 0
        self._tasks: dict[tuple[str, str], Task] = {}
        self._waiting: list[Step] = []
        self._failures: dict[tuple[str, str, str], str] = {}
        self._board: Board | None = None
        self._lock = threading.RLock()
        self._started = time.perf_counter()

    def __enter__(self) -> Self:
        if self._console.is_terminal and not self._console.quiet and self._total:
            from dsflow.board import Board

            self._board = Board(self._total)
            self._board.start()
        return self

    def __exit__(self, *error: object) -> None:
        with self._lock:
            if self._board is not None:
                self._board.stop()
                self._board = None

    def __call__(self, event: Event) -> None:
        """Show what an event says."""
        with self._lock:
            match event:
                case Notice(text=text):
                    self._console.note(self._stamped(text))
                case RunStarted(task=task):
                    self._tasks[(task.job, task.ds)] = task
                    if self._board is not None:
                        self._board.begin(_name(task))
                case LogLine(task=task, text=text):
                    if self._console.verbose:
                        self._console.line(self._stamped(f"{_name(task)} | {text}"))
                case Progress(task=task, done=done, total=total):
                    if self._board is not None:
                        self._board.advance(_name(task), done, total)
                case RunFinished(task=task):
                    if self._board is not None:
                        self._board.end(_name(task))

    def ended(self, step: Step, outcome: Outcome) -> None:
        """Show how a step ended for good. One that was not going to run is only counted in the end."""
        if step.action is not Action.RUN:
            return
        with self._lock:
            task = self._tasks.pop((step.job, step.ds), None)
            self._ended += 1
            if self._board is not None:
                self._board.count()
            if outcome.status is Status.ABORTED:
                self._waiting.append(_waiting(step, outcome))
                return
            first, *rest = self._told(step, outcome, task)
            self._console.line(self._stamped(f"{self._ended:>{len(str(self._total))}}/{self._total} {first}"))
            for line in rest:
                self._console.line(line)

    def summary(self, outcomes: Sequence[Outcome]) -> list[str]:
        """Give the last lines: what could not run and why, how to go on, and the line made for grep."""
        told = []
        if self._waiting:
            told += [f"{show_count(len(self._waiting), 'step')} did not run:", *explained(self._waiting)]
        if any(outcome.exit_code == Interrupted.exit_code for outcome in outcomes):
            told.append("Interrupted. The same command goes on from here: what is done is not done again.")
        return [*told, summary(outcomes, time.perf_counter() - self._started)]

    def _told(self, step: Step, outcome: Outcome, task: Task | None) -> list[str]:
        if outcome.status is Status.SKIPPED:
            return [f"= {step.job} ds={step.ds}  skipped: inputs came out the same"]
        if task is not None:
            told = ending(self._console, self._datastore, task, outcome, brief=True)
        else:
            told = [f"{self._console.style('✗', 'red')} {step.job} ds={step.ds} could not start"]
            if outcome.failure is not None:
                told += [f"  {line}" for line in (outcome.failure.message, outcome.failure.hint) if line]
        return told if outcome else self._once(step, outcome, told)

    def _once(self, step: Step, outcome: Outcome, told: list[str]) -> list[str]:
        """Explain a failure that comes for many dates only the first time."""
        failure = outcome.failure
        if failure is None or outcome.status is Status.INTERRUPTED:
            return told[:1]
        first = self._failures.setdefault((step.job, failure.place, failure.message), step.ds)
        return told if first == step.ds else [f"{told[0]}, like ds={first}"]

    def _stamped(self, text: str) -> str:
        return text if self._console.is_terminal else f"{timestamp()} {text}"


def _name(task: Task) -> str:
    return f"{task.job} {task.ds}"


def _waiting(step: Step, outcome: Outcome) -> Step:
    reason = outcome.failure.message if outcome.failure is not None else step.reason
    return dataclasses.replace(step, action=Action.WAIT, reason=reason)
