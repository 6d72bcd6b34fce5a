"""Which step of a plan starts when: dependencies, workers, memory, failures, retries, Ctrl-C."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Collection, Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsflow.model import Outcome, Status
from dsflow.plan import Action, Plan, State, Step
from dsflow.scheduler import Scheduler

PATIENCE = 60.0


def step(job: str, *needs: int, ds: str = "2026-11-20", action: Action = Action.RUN, reason: str = "missing") -> Step:
    return Step(job=job, ds=ds, state=State.MISSING, action=action, reason=reason, needs=needs)


def outcome(status: Status) -> Outcome:
    code = {Status.SUCCEEDED: 0, Status.SKIPPED: 0, Status.INTERRUPTED: 130}.get(status, 1)
    return Outcome(run_id="r", status=status, exit_code=code, started="", finished="", seconds=0.0)


class Bench:
    """Runs steps by doing nothing; those in `failing` fail as often as it says."""

    def __init__(
        self,
        failing: Mapping[str, int] | Collection[str] = (),
        *,
        retries: int = 0,
        memory: Mapping[str, int] | None = None,
        together: int = 1,
    ) -> None:
        self.failing = dict(failing) if isinstance(failing, Mapping) else dict.fromkeys(failing, 1000)
        self.retries = retries
        self.needed = memory or {}
        self.together = threading.Barrier(together, timeout=PATIENCE)
        self.log: list[tuple[str, str]] = []
        self.holding: list[int] = []
        self._lock = threading.Lock()
        self._held = 0

    def memory(self, step: Step) -> int:
        return self.needed.get(step.job, 0)

    def run(self, step: Step, attempt: int) -> Outcome:
        with self._lock:
            self.log.append(("start", step.job))
            self._held += self.memory(step)
            self.holding.append(self._held)
        self.together.wait()
        with self._lock:
            self._held -= self.memory(step)
            self.log.append(("end", step.job))
        return outcome(Status.FAILED if attempt <= self.failing.get(step.job, 0) else Status.SUCCEEDED)

    def again(self, step: Step, outcome: Outcome, attempt: int) -> float | None:
        return 0.01 * attempt if attempt <= self.retries else None

    def ended(self, step: Step, outcome: Outcome) -> None:
        self.log.append(("ended", step.job))

    @property
    def started(self) -> list[str]:
        return [job for what, job in self.log if what == "start"]


def run(
    steps: Sequence[Step], bench: Bench, *, workers: int = 1, memory: int | None = None, fail_fast: bool = False
) -> dict[str, Status]:
    scheduler = Scheduler(Plan(steps=tuple(steps)), bench, workers=workers, memory=memory, fail_fast=fail_fast)
    results = scheduler.run()
    assert [step for step, _ in results] == list(steps)
    assert sorted(job for what, job in bench.log if what == "ended") == sorted(step.job for step in steps)
    return {step.job: outcome.status for step, outcome in results}


def test_an_empty_plan_is_done() -> None:
    assert run([], Bench()) == {}


def test_one_worker_goes_by_the_order_of_the_plan() -> None:
    bench = Bench()
    run([step("a"), step("b"), step("c", 0), step("d")], bench)
    assert bench.started == ["a", "b", "c", "d"]


def test_a_step_that_is_fresh_does_not_run() -> None:
    bench = Bench()
    statuses = run([step("a", action=Action.SKIP), step("b", 0)], bench)
    assert bench.started == ["b"]
    assert statuses == {"a": Status.SKIPPED, "b": Status.SUCCEEDED}


def test_a_step_starts_when_its_own_needs_are_there_and_waits_for_nobody_else() -> None:
    # b2 and a1 meet at the barrier: b2 of day 2 runs while a1 of day 1 is not done.
    steps = [step("a2", action=Action.SKIP), step("a1"), step("b2", 0), step("b1", 1, action=Action.SKIP)]
    bench = Bench(together=2)
    assert run(steps, bench, workers=2)["b2"] is Status.SUCCEEDED


@pytest.mark.parametrize("workers", [1, 3])
def test_no_more_steps_run_at_once_than_there_are_workers(workers: int) -> None:
    bench = Bench(memory=dict.fromkeys("abcdef", 1), together=workers)
    run([step(name) for name in "abcdef"], bench, workers=workers)
    assert max(bench.holding) == workers


def test_running_steps_stay_within_the_memory_budget() -> None:
    bench = Bench(memory=dict.fromkeys("abcdef", 4))
    run([step(name) for name in "abcdef"], bench, workers=6, memory=9)
    assert max(bench.holding) <= 8


def test_steps_that_fit_together_do_run_together() -> None:
    bench = Bench(memory=dict.fromkeys("abcd", 4), together=2)
    run([step(name) for name in "abcd"], bench, workers=4, memory=9)
    assert max(bench.holding) == 8


def test_a_step_that_is_larger_than_the_budget_runs_alone() -> None:
    bench = Bench(memory={"a": 4, "big": 100, "b": 4})
    statuses = run([step("a"), step("big"), step("b")], bench, workers=3, memory=10)
    assert set(statuses.values()) == {Status.SUCCEEDED}
    place = bench.log.index(("start", "big"))
    assert bench.log[place + 1] == ("end", "big")


def test_what_depends_on_a_failure_does_not_run_and_says_why() -> None:
    bench = Bench(failing=["a"])
    steps = [step("a"), step("b", 0), step("c", 1), step("d"), step("fresh", 0, action=Action.SKIP)]
    results = Scheduler(Plan(steps=tuple(steps)), bench, workers=1).run()
    messages = {step.job: outcome.failure.message for step, outcome in results if outcome.failure}
    assert bench.started == ["a", "d"]
    assert messages == {"b": "job a failed", "c": "job a failed"}
    assert [outcome.status for _, outcome in results] == [
        Status.FAILED, Status.ABORTED, Status.ABORTED, Status.SUCCEEDED, Status.SKIPPED
    ]  # fmt: skip


def test_a_step_that_waits_for_what_nobody_makes_does_not_run() -> None:
    reason = "raw/orders ds=2026-11-20 is not there and no job writes it"
    bench = Bench()
    steps = [step("a", action=Action.WAIT, reason=reason), step("b", 0), step("c")]
    results = Scheduler(Plan(steps=tuple(steps)), bench, workers=1).run()
    assert bench.started == ["c"]
    assert results[0][1].failure is not None
    assert results[0][1].failure.message == reason


def test_fail_fast_starts_nothing_after_a_failure() -> None:
    bench = Bench(failing=["b"])
    statuses = run([step("a"), step("b"), step("c"), step("fresh", action=Action.SKIP)], bench, fail_fast=True)
    assert bench.started == ["a", "b"]
    assert statuses["c"] is Status.ABORTED
    assert statuses["fresh"] is Status.SKIPPED


def test_a_failed_step_is_tried_again_and_what_needs_it_goes_on() -> None:
    bench = Bench(failing={"a": 2}, retries=2)
    assert run([step("a"), step("b", 0)], bench) == {"a": Status.SUCCEEDED, "b": Status.SUCCEEDED}
    assert bench.started == ["a", "a", "a", "b"]


def test_after_the_last_retry_the_failure_stands() -> None:
    bench = Bench(failing={"a": 2}, retries=1)
    assert run([step("a"), step("b", 0)], bench) == {"a": Status.FAILED, "b": Status.ABORTED}


def test_a_step_that_waits_for_its_retry_takes_no_worker() -> None:
    bench = Bench(failing={"a": 1}, retries=1)
    run([step("a"), step("b"), step("c")], bench)
    assert bench.started[:2] == ["a", "b"]


class StoppedBench(Bench):
    """A bench where the user presses Ctrl-C while the first step runs."""

    scheduler: Scheduler

    def run(self, step: Step, attempt: int) -> Outcome:
        self.scheduler.stop("interrupted", 130)
        return dataclasses.replace(super().run(step, attempt), status=Status.INTERRUPTED, exit_code=130)


def test_after_ctrl_c_nothing_starts_and_nothing_is_tried_again() -> None:
    bench = StoppedBench(failing=["a"], retries=5)
    steps = (step("a"), step("b", 0), step("c"), step("fresh", action=Action.SKIP))
    bench.scheduler = Scheduler(Plan(steps=steps), bench, workers=1)
    results = bench.scheduler.run()
    assert bench.started == ["a"]
    assert [outcome.status for _, outcome in results] == [
        Status.INTERRUPTED, Status.ABORTED, Status.ABORTED, Status.SKIPPED
    ]  # fmt: skip
    assert results[2][1].failure is not None
    assert results[2][1].failure.message == "not started: interrupted"
    assert results[2][1].exit_code == 130


class BrokenBench(Bench):
    """A bench with a bug."""

    def run(self, step: Step, attempt: int) -> Outcome:
        raise ZeroDivisionError("a bug")


def test_a_bug_ends_the_plan_and_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError, match="a bug"):
        run([step("a"), step("b")], BrokenBench())


# ---- any plan


@st.composite
def plans(draw: st.DrawFn) -> tuple[tuple[Step, ...], frozenset[str]]:
    """A plan of a few steps with any needs, some of them fresh; and those that will fail."""
    steps = []
    for position in range(draw(st.integers(0, 9))):
        needs = draw(st.sets(st.integers(0, position - 1), max_size=4)) if position else set()
        action = draw(st.sampled_from([Action.RUN, Action.RUN, Action.RUN, Action.SKIP]))
        steps.append(step(f"j{position}", *sorted(needs), action=action))
    return tuple(steps), draw(st.frozensets(st.sampled_from([s.job for s in steps]))) if steps else frozenset()


def stopped_by(steps: Sequence[Step], failing: frozenset[str]) -> set[str]:
    """The steps that cannot run because one they need, at any distance, fails."""
    stopped: set[int] = set()
    for position, each in enumerate(steps):
        runs = each.action is Action.RUN
        if runs and any(
            n in stopped or (steps[n].job in failing and steps[n].action is Action.RUN) for n in each.needs
        ):
            stopped.add(position)
    return {steps[position].job for position in stopped}


@given(plans(), st.integers(1, 4), st.sampled_from([None, 1, 3]), st.integers(0, 1))
def test_any_plan_is_executed_in_order_once_and_up_to_its_failures(
    plan: tuple[tuple[Step, ...], frozenset[str]], workers: int, memory: int | None, retries: int
) -> None:
    steps, failing = plan
    sizes = {s.job: 1 + position % 4 for position, s in enumerate(steps)}
    bench = Bench(failing=failing, retries=retries, memory=sizes)
    statuses = run(steps, bench, workers=workers, memory=memory)
    stopped = stopped_by(steps, failing)
    wanted = {s.job for s in steps if s.action is Action.RUN} - stopped
    # Everything that could run did, as often as it is due, and nothing fresh.
    assert sorted(bench.started) == sorted([*wanted, *(job for job in wanted & failing for _ in range(retries))])
    assert {job for job, status in statuses.items() if status is Status.ABORTED} == stopped
    assert {job for job, status in statuses.items() if status is Status.FAILED} == wanted & failing
    # Never before what it needs, never beyond the budget.
    for each in steps:
        for need in (steps[n].job for n in each.needs):
            if each.job in wanted and need in wanted:
                last = len(bench.log) - 1 - bench.log[::-1].index(("end", need))
                assert last < bench.log.index(("start", each.job))
    if memory is not None:
        assert all(held <= max(memory, 4) for held in bench.holding)
