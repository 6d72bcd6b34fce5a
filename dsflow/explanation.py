"""What a plan will do, in words: each step with its reason, neighbours with the same one in one line."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from dsflow.plan import Action, Plan, Step
from dsflow.quantities import show_count, show_seconds


@dataclass(frozen=True, kw_only=True)
class Fold:
    """Neighbouring partitions of a job that have the same future for the same reason."""

    job: str
    action: Action
    reason: str
    first: str
    last: str
    count: int

    def __str__(self) -> str:
        where = self.first if self.count == 1 else f"{self.first}..{self.last} ({self.count:,})"
        return f"{where}  {self.action}: {self.reason}"


def fold(steps: Sequence[Step]) -> list[Fold]:
    """Group steps by job, in the order the jobs come in, and neighbours in time by what happens to them and why."""
    by_job: dict[str, list[Step]] = {}
    for step in steps:
        by_job.setdefault(step.job, []).append(step)
    folds: list[Fold] = []
    for job, own in by_job.items():
        ordered = sorted(own, key=lambda step: step.ds)
        for (action, reason), group in itertools.groupby(ordered, key=lambda step: (step.action, _common(step))):
            first, *rest = group
            folds.append(
                Fold(
                    job=job,
                    action=action,
                    reason=reason if rest else first.reason,
                    first=first.ds,
                    last=rest[-1].ds if rest else first.ds,
                    count=1 + len(rest),
                )
            )
    return folds


def _common(step: Step) -> str:
    """Give the reason without the step's own date: `tables/x ds=2026-11-20 is missing` is the same for every date."""
    return step.reason.replace(f" for ds={step.ds}", "").replace(f" ds={step.ds}", "")


def lines(steps: Sequence[Step]) -> list[str]:
    """Give the explanation of steps: each job's name, then a line for each fold."""
    drawn: list[str] = []
    job = ""
    for each in fold(steps):
        if each.job != job:
            job = each.job
            drawn.append(job)
        drawn.append(f"  {each}")
    return drawn


def estimate(plan: Plan, workers: int) -> float | None:
    """Give the seconds that the runs of a plan should take, or None where nothing is known of one of them."""
    runs = [step for step in plan.steps if step.action is Action.RUN]
    known = [step.seconds for step in runs if step.seconds is not None]
    if len(known) < len(runs):
        return None
    return max(sum(known) / workers, max(known, default=0.0))


def headline(plan: Plan, workers: int) -> str:
    """Say how many runs a plan has and how long they should take: `12 runs, about 3m 20s`; and what waits."""
    counts = Counter(step.action for step in plan.steps)
    if not counts[Action.RUN]:
        said = "Nothing to run"
    else:
        seconds = estimate(plan, workers)
        unknown = sorted({s.job for s in plan.steps if s.action is Action.RUN and s.seconds is None})
        time = (
            f"about {show_seconds(seconds)}"
            if seconds is not None
            else f"time unknown, no past runs of {_some(unknown)}"
        )
        said = f"{show_count(counts[Action.RUN], 'run')}, {time}"
    parts = [said, f"{counts[Action.SKIP]:,} to skip" if counts[Action.SKIP] else ""]
    parts.append(f"{counts[Action.WAIT]:,} that must wait" if counts[Action.WAIT] else "")
    return "; ".join(part for part in parts if part)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
