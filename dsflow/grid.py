"""The grid: how the partitions of a job stand, one cell each.

A line is a month; a day where the partitions are hours, a year where they are weeks or months.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from dsflow import partitions
from dsflow.model import Grain
from dsflow.plan import State

SIGNS: dict[State, str] = {
    State.FRESH: "■",
    State.STALE: "▨",
    State.MISSING: "□",
    State.FAILED: "✗",
    State.RUNNING: "◌",
}
COLOURS: dict[State, str] = {
    State.FRESH: "green",
    State.STALE: "yellow",
    State.MISSING: "dim",
    State.FAILED: "red",
    State.RUNNING: "cyan",
}
_OUTSIDE = "·"
# Of each grain: how many cells a line has, and which of them the ruler names.
_LINES: dict[Grain, tuple[int, tuple[int, ...]]] = {
    "hour": (24, (1, 7, 13, 19)),
    "day": (31, (1, 5, 10, 15, 20, 25, 30)),
    "week": (53, (1, 10, 20, 30, 40, 50)),
    "month": (12, (1, 4, 7, 10)),
}
_LABEL_WIDTH = len("2026-11-20")

Style = Callable[[str, str], str]


def plain(text: str, colour: str) -> str:
    """Give the text as it is: the style of a screen without colours."""
    return text


def legend(style: Style = plain) -> str:
    """Explain the signs in one line."""
    signs = [f"{style(sign, COLOURS[state])} {state}" for state, sign in SIGNS.items()]
    return "  ".join([*signs, f"{_OUTSIDE} not in range"])


def lines(job: str, grain: Grain, states: Mapping[str, State], style: Style = plain) -> list[str]:
    """Draw the grid of a job.

    Args:
        job: The job's name.
        grain: The grain of its partitions.
        states: How each partition in range stands, by ds.
        style: Colours a text.
    """
    if not states:
        return [f"{job}  nothing in range"]
    length, named = _LINES[grain]
    rows: dict[str, dict[int, State]] = {}
    for ds in sorted(states):
        label, cell = _place(ds, grain)
        rows.setdefault(label, {})[cell] = states[ds]
    drawn = [f"{style(job, 'bold')}  {summary(states)}", _ruler(length, named, first=0 if grain == "hour" else 1)]
    for label, row in rows.items():
        cells = (_cell(row.get(cell), style) for cell in range(1, _length(label, grain, length) + 1))
        drawn.append(f"{label:<{_LABEL_WIDTH}}  {''.join(cells)}")
    return drawn


def summary(states: Mapping[str, State]) -> str:
    """Count the states: `30 fresh, 2 missing`."""
    counts = Counter(states.values())
    return ", ".join(f"{counts[state]:,} {state}" for state in SIGNS if counts[state])


def document(job: str, grain: Grain, states: Mapping[str, State]) -> dict[str, Any]:
    """Give the grid of a job as data."""
    counts = Counter(states.values())
    return {
        "job": job,
        "grain": grain,
        "counts": {str(state): counts[state] for state in SIGNS},
        "partitions": {ds: str(states[ds]) for ds in sorted(states)},
    }


def _place(ds: str, grain: Grain) -> tuple[str, int]:
    """Give the line a partition is in and its cell there, counted from 1."""
    if grain == "hour":
        return ds[:10], int(ds[11:]) + 1
    if grain == "day":
        return ds[:7], int(ds[8:])
    return ds[:4], int(ds[6:] if grain == "week" else ds[5:])


def _length(label: str, grain: Grain, longest: int) -> int:
    """Give how many partitions a line can have: not every month has 31 days, nor every year 53 weeks."""
    if grain == "day":
        return len(partitions.inside(label, "month", "day"))
    return dt.date(int(label), 12, 28).isocalendar().week if grain == "week" else longest


def _cell(state: State | None, style: Style) -> str:
    return _OUTSIDE if state is None else style(SIGNS[state], COLOURS[state])


def _ruler(length: int, named: tuple[int, ...], first: int) -> str:
    line = [" "] * (length + 2)
    for cell in named:
        for offset, digit in enumerate(str(cell - 1 + first)):
            line[cell - 1 + offset] = digit
    return " " * (_LABEL_WIDTH + 2) + "".join(line).rstrip()
