"""What a plan will do, in words."""

from __future__ import annotations

from dsflow.explanation import estimate, headline, lines
from dsflow.plan import Action, Plan, State, Step


def step(ds: str, action: Action, reason: str, job: str = "rain", seconds: float | None = None) -> Step:
    return Step(job=job, ds=ds, state=State.STALE, action=action, reason=reason, seconds=seconds)


RUN, SKIP, WAIT = Action.RUN, Action.SKIP, Action.WAIT


def test_neighbours_with_the_same_reason_share_a_line() -> None:
    steps = [
        step("2026-11-03", RUN, "code changed"),
        step("2026-11-01", RUN, "code changed"),
        step("2026-11-01", WAIT, "job rain failed", job="total"),
        step("2026-11-02", RUN, "code changed"),
        step("2026-11-04", SKIP, "same code a1b2c3, inputs unchanged"),
        step("2026-11-05", RUN, "input raw/orders ds=2026-11-05 changed (812 -> 830 rows)"),
        step("2026-11-06", RUN, "code changed"),
    ]
    assert lines(steps) == [
        "rain",
        "  2026-11-01..2026-11-03 (3)  run: code changed",
        "  2026-11-04  skip: same code a1b2c3, inputs unchanged",
        "  2026-11-05  run: input raw/orders ds=2026-11-05 changed (812 -> 830 rows)",
        "  2026-11-06  run: code changed",
        "total",
        "  2026-11-01  wait: job rain failed",
    ]


def test_reasons_that_differ_by_their_own_date_only_are_the_same() -> None:
    days = [f"2026-11-{day:02}" for day in range(1, 31)]
    steps = [step(ds, WAIT, f"tables/x ds={ds} is missing; select +rain to make it") for ds in days]
    assert lines(steps) == ["rain", "  2026-11-01..2026-11-30 (30)  wait: tables/x is missing; select +rain to make it"]
    assert lines(steps[:1])[1] == "  2026-11-01  wait: tables/x ds=2026-11-01 is missing; select +rain to make it"


def test_the_headline_counts_and_estimates() -> None:
    known = [step(f"2026-11-{day:02}", RUN, "missing", seconds=60.0) for day in range(1, 11)]
    assert headline(Plan(steps=tuple(known)), workers=2) == "10 runs, about 5m 00s"
    mixed = (*known, step("2026-11-11", SKIP, "fresh"), step("2026-11-12", WAIT, "not there"))
    assert headline(Plan(steps=mixed), workers=2) == "10 runs, about 5m 00s; 1 to skip; 1 that must wait"
    unknown = (*known, *(step("2026-11-01", RUN, "missing", job=name) for name in "abcd"))
    assert headline(Plan(steps=unknown), workers=2) == "14 runs, time unknown, no past runs of a, b, c and 1 more"
    assert headline(Plan(steps=(mixed[-2],)), workers=2) == "Nothing to run; 1 to skip"
    assert headline(Plan(steps=()), workers=2) == "Nothing to run"


def test_no_plan_takes_less_than_its_longest_run() -> None:
    steps = (step("2026-11-01", RUN, "missing", seconds=100.0), step("2026-11-02", RUN, "missing", seconds=1.0))
    assert estimate(Plan(steps=steps), workers=8) == 100.0
