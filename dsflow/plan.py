"""The plan: which jobs run for which partitions, in what order, and why. Pure data; nothing is started here."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Action(enum.StrEnum):
    """What happens to a step. A step that waits cannot run: something before it failed or is not there."""

    RUN = "run"
    SKIP = "skip"
    WAIT = "wait"


class State(enum.StrEnum):
    """How a partition stands before anything is done."""

    FRESH = "fresh"
    STALE = "stale"
    MISSING = "missing"
    FAILED = "failed"
    RUNNING = "running"


@dataclass(frozen=True, kw_only=True)
class Step:
    """One partition of one job in a plan.

    Attributes:
        job: The job's name.
        ds: The partition.
        state: How it stands.
        action: What will happen.
        reason: Why, in words: `input raw/orders ds=2026-11-05 changed (812 -> 830 rows)`.
        needs: The positions in the plan of the steps that must end first.
        seconds: How long it is expected to take, or None.
        recheck: Only an input that this plan rebuilds makes it run; when that comes out the same, it is skipped.
    """

    job: str
    ds: str
    state: State
    action: Action
    reason: str
    needs: tuple[int, ...] = ()
    seconds: float | None = None
    recheck: bool = False


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Steps in an order that respects every dependency."""

    steps: tuple[Step, ...]
