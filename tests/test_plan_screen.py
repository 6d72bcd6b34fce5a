"""What a person sees of a plan while it is executed: golden screens."""

from __future__ import annotations

import pytest

from dsflow.console import Console
from dsflow.model import Failure, LogLine, Notice, Outcome, Progress, RunFinished, RunStarted, Status, Task
from dsflow.plan import Action, Plan, State, Step
from dsflow.plan_screen import PlanScreen
from tests.samples import sample_task


def step(job: str, ds: str, action: Action = Action.RUN) -> Step:
    return Step(job=job, ds=ds, state=State.MISSING, action=action, reason="missing")


def task(of: Step) -> Task:
    return sample_task(run_id=f"run-{of.job}-{of.ds}", job=of.job, ds=of.ds)


def outcome(status: Status, exit_code: int = 0, failure: Failure | None = None) -> Outcome:
    return Outcome(
        run_id="r", status=status, exit_code=exit_code, started="", finished="", seconds=1.25, failure=failure
    )


def run(screen: PlanScreen, of: Step, ended: Outcome, *lines: str) -> Outcome:
    """Let a step run: its events, and then its end."""
    its = task(of)
    screen(RunStarted(task=its))
    for line in lines:
        screen(LogLine(task=its, text=line))
    screen(Progress(task=its, done=1, total=2))
    screen(RunFinished(task=its, outcome=ended))
    screen.ended(of, ended)
    return ended


@pytest.fixture(autouse=True)
def _noon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dsflow.plan_screen.timestamp", lambda: "12:00:00")


FAILURE = Failure(kind="JobFailed", message="KeyError: 'mm'", place="cell 2, line 3", source="rows['mm']")
STEPS = [
    step("rain", "2026-11-01"),
    step("rain", "2026-11-02"),
    step("rain", "2026-11-03"),
    step("total", "2026-11-01"),
    step("total", "2026-11-02"),
    step("total", "2026-11-03"),
    step("other", "2026-11-01", Action.SKIP),
]


def test_a_plan_off_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    failed = outcome(Status.FAILED, 1, FAILURE)
    aborted = outcome(Status.ABORTED, 1, Failure(kind="Waits", message="job rain failed"))
    with PlanScreen(Console(), "datastore", Plan(steps=tuple(STEPS))) as screen:
        screen(Notice(text="building dsflow/python"))
        ends = [run(screen, STEPS[0], outcome(Status.SUCCEEDED), "never shown")]
        ends += [run(screen, STEPS[1], failed), run(screen, STEPS[2], failed)]
        for each, ended in zip(
            STEPS[3:], [outcome(Status.SKIPPED), aborted, aborted, outcome(Status.SKIPPED)], strict=True
        ):
            screen.ended(each, ended)
            ends.append(ended)
    *told, done = screen.summary(ends)
    captured = capsys.readouterr()
    assert captured.err == "12:00:00 building dsflow/python\n"
    assert captured.out.splitlines() == [
        "12:00:00 1/6 ✓ rain ds=2026-11-01  1.2s",
        "12:00:00 2/6 ✗ rain ds=2026-11-02 failed in 1.2s",
        "  cell 2, line 3: rows['mm']",
        "  KeyError: 'mm'",
        "  page: datastore/job_runs/rain/ds=2026-11-02/run-rain-2026-11-02/index.html",
        "  next: dsflow open --last-failed, or mend it and `dsflow run rain 2026-11-02`",
        "12:00:00 3/6 ✗ rain ds=2026-11-03 failed in 1.2s, like ds=2026-11-02",
        "12:00:00 4/6 = total ds=2026-11-01  skipped: inputs came out the same",
    ]
    assert told == ["2 steps did not run:", "total", "  2026-11-02..2026-11-03 (2)  wait: job rain failed"]
    assert done.startswith("Done. OK=1 SKIP=2 WARN=0 FAIL=2 WAIT=2 TOTAL=7 in 0.")


def test_an_interrupted_plan_says_how_to_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    with PlanScreen(Console(), "datastore", Plan(steps=(STEPS[0],))) as screen:
        ended = run(screen, STEPS[0], outcome(Status.INTERRUPTED, 130, Failure(kind="Interrupted", message="x")))
    assert capsys.readouterr().out == "12:00:00 1/1 ✗ rain ds=2026-11-01 was interrupted in 1.2s\n"
    told, done = screen.summary([ended])
    assert told == "Interrupted. The same command goes on from here: what is done is not done again."
    assert done.startswith("Done. OK=0 SKIP=0 WARN=0 FAIL=1 TOTAL=1 in 0.")


def test_a_step_that_could_not_start_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    failure = Failure(kind="UsageError", message="jobs/x: no such file", hint="Make it.")
    with PlanScreen(Console(), "datastore", Plan(steps=(STEPS[0],))) as screen:
        screen.ended(STEPS[0], outcome(Status.FAILED, 2, failure))
    assert capsys.readouterr().out.splitlines() == [
        "12:00:00 1/1 ✗ rain ds=2026-11-01 could not start",
        "  jobs/x: no such file",
        "  Make it.",
    ]


def test_verbose_shows_log_lines_with_the_name_of_their_run(capsys: pytest.CaptureFixture[str]) -> None:
    with PlanScreen(Console(verbose=True), "datastore", Plan(steps=(STEPS[0],))) as screen:
        run(screen, STEPS[0], outcome(Status.SUCCEEDED), "8120 rows")
    assert capsys.readouterr().out.splitlines()[0] == "12:00:00 rain 2026-11-01 | 8120 rows"
