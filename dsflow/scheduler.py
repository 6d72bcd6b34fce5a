"""Executes a plan: which step starts when. It knows steps, workers and memory, and nothing of jobs or runtimes.

A step starts as soon as the steps it needs have ended well, a worker is free and its memory fits into the budget; among
those that could start, the first of the plan does. Each attempt has a thread of its own, which sleeps while the
runtime works. Everything else happens in the thread that calls `run`, which sleeps until something ends.
"""

from __future__ import annotations

import datetime as dt
import heapq
import threading
import time
from collections import defaultdict, deque
from collections.abc import Sequence
from typing import Protocol

from dsflow.model import Failure, Outcome, Status
from dsflow.plan import Action, Plan, Step


class Launch(Protocol):
    """Whoever knows how to run a step. `run` is called from several threads at once, the others one at a time."""

    def memory(self, step: Step) -> int:
        """Give the bytes of memory the step may use; 0 where nobody knows."""

    def run(self, step: Step, attempt: int) -> Outcome:
        """Run a step once, and return when it has ended; `attempt` counts from 1."""

    def again(self, step: Step, outcome: Outcome, attempt: int) -> float | None:
        """Give the seconds to wait before the next attempt, or None where this outcome is the last word."""

    def ended(self, step: Step, outcome: Outcome) -> None:
        """Hear how a step ended: once for each step of the plan, each after those it needs."""


class Scheduler:
    """One execution of a plan.

    Args:
        plan: What to run.
        launch: How to run it.
        workers: How many steps run at once.
        memory: Bytes that the running steps may use together, or None. A step that needs more runs alone.
        fail_fast: After the first failure nothing new starts. Otherwise what does not depend on it goes on.
    """

    def __init__(
        self, plan: Plan, launch: Launch, *, workers: int, memory: int | None = None, fail_fast: bool = False
    ) -> None:
        self._steps: Sequence[Step] = plan.steps
        self._launch = launch
        self._workers = workers
        self._budget = memory
        self._fail_fast = fail_fast
        self._changed = threading.Condition()
        self._stopped = ""  # why nothing new starts
        self._stopped_code = 1
        self._bug: BaseException | None = None
        self._outcomes: dict[int, Outcome] = {}
        self._missing = [len(set(step.needs)) for step in self._steps]
        self._blocked: dict[int, str] = {}
        self._dependents: dict[int, list[int]] = defaultdict(list)
        for position, step in enumerate(self._steps):
            for need in set(step.needs):
                self._dependents[need].append(position)
        # Steps that could start, by the memory they need: one that does not fit is passed over with all its like.
        self._ready: dict[int, list[int]] = {}
        self._running: dict[int, int] = {}
        self._attempts: dict[int, int] = defaultdict(int)
        self._pausing: list[tuple[float, int]] = []
        self._last: dict[int, Outcome] = {}

    def run(self) -> list[tuple[Step, Outcome]]:
        """Run the plan to its end; give every step with its outcome in the order of the plan."""
        self._started = dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds")
        with self._changed:
            self._consider([position for position, missing in enumerate(self._missing) if not missing])
            while True:
                self._wake()
                self._start()
                if not self._running and (self._stopped or not self._pausing):
                    break
                self._changed.wait(self._pausing[0][0] - time.monotonic() if self._pausing else None)
            if self._bug is not None:
                raise self._bug
            self._give_up()
        return [(step, self._outcomes[position]) for position, step in enumerate(self._steps)]

    def stop(self, why: str, exit_code: int = 1) -> None:
        """Start nothing new; what runs goes on to its end. May be called from any thread.

        Args:
            why: The reason, for the steps that do not start.
            exit_code: Theirs.
        """
        with self._changed:
            if not self._stopped:
                self._stopped, self._stopped_code = why, exit_code
            self._changed.notify_all()

    def _consider(self, positions: Sequence[int]) -> None:
        """Take steps that wait for nothing any more: those to run become ready, the others end at once."""
        pending = deque(positions)
        while pending:
            position = pending.popleft()
            step = self._steps[position]
            if step.action is Action.SKIP:
                pending.extend(self._settle(position, self._outcome(Status.SKIPPED)))
            elif position in self._blocked or step.action is Action.WAIT:
                reason = self._blocked.get(position) or step.reason
                pending.extend(self._settle(position, self._outcome(Status.ABORTED, reason)))
            else:
                heapq.heappush(self._ready.setdefault(self._launch.memory(step), []), position)

    def _settle(self, position: int, outcome: Outcome) -> list[int]:
        """Put down a step's outcome; give the steps that waited for nothing but this one."""
        step = self._steps[position]
        self._outcomes[position] = outcome
        self._launch.ended(step, outcome)
        free = []
        for dependent in self._dependents[position]:
            self._missing[dependent] -= 1
            if not outcome:
                self._blocked.setdefault(dependent, _why(step, outcome))
            if not self._missing[dependent]:
                free.append(dependent)
        return free

    def _wake(self) -> None:
        """Make the steps ready again whose pause is over."""
        while self._pausing and self._pausing[0][0] <= time.monotonic():
            _, position = heapq.heappop(self._pausing)
            self._consider([position])

    def _start(self) -> None:
        while not self._stopped and len(self._running) < self._workers:
            fitting = [memory for memory, positions in self._ready.items() if positions and self._fits(memory)]
            if not fitting:
                return
            memory = min(fitting, key=lambda size: self._ready[size][0])
            position = heapq.heappop(self._ready[memory])
            self._running[position] = memory
            self._attempts[position] += 1
            name = f"{self._steps[position].job} {self._steps[position].ds}"
            threading.Thread(target=self._attempt, args=(position,), name=name, daemon=True).start()

    def _fits(self, memory: int) -> bool:
        return self._budget is None or not self._running or sum(self._running.values()) + memory <= self._budget

    def _attempt(self, position: int) -> None:
        """In a thread of its own: run a step once."""
        try:
            outcome = self._launch.run(self._steps[position], self._attempts[position])
        except BaseException as error:
            with self._changed:
                self._running.pop(position)
                self._bug = self._bug or error
                self.stop("of a bug")
            return
        with self._changed:
            self._running.pop(position)
            self._finish(position, outcome)
            self._changed.notify_all()

    def _finish(self, position: int, outcome: Outcome) -> None:
        step = self._steps[position]
        pause = None
        if not outcome and not self._stopped:
            pause = self._launch.again(step, outcome, self._attempts[position])
        if pause is not None:
            self._last[position] = outcome
            heapq.heappush(self._pausing, (time.monotonic() + pause, position))
            return
        if not outcome and self._fail_fast:
            self.stop(_why(step, outcome))
        self._consider(self._settle(position, outcome))

    def _give_up(self) -> None:
        """End what will not start any more: with its last outcome where there was one, else without having run."""
        for position, step in enumerate(self._steps):
            if position in self._outcomes:
                continue
            if step.action is Action.SKIP:
                outcome = self._outcome(Status.SKIPPED)
            else:
                reason = self._blocked.get(position) or f"not started: {self._stopped}"
                outcome = self._last.get(position) or self._outcome(Status.ABORTED, reason, self._stopped_code)
            self._settle(position, outcome)

    def _outcome(self, status: Status, reason: str = "", exit_code: int = 1) -> Outcome:
        return Outcome(
            run_id="",
            status=status,
            exit_code=exit_code if status is Status.ABORTED else 0,
            started=self._started,
            finished=self._started,
            seconds=0.0,
            failure=Failure(kind="Waits", message=reason) if reason else None,
        )


def _why(step: Step, outcome: Outcome) -> str:
    """Give the reason for which a step that needs this one does not run; the first cause goes all the way down."""
    if outcome.status is Status.ABORTED and outcome.failure is not None:
        return outcome.failure.message
    return f"job {step.job} {'was interrupted' if outcome.status is Status.INTERRUPTED else 'failed'}"
