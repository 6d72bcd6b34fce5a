"""The grid of a job's partitions: golden screens."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import pytest

from dsflow import grid, partitions
from dsflow.model import Grain
from dsflow.plan import State

FRESH, STALE, MISSING, FAILED, RUNNING = State.FRESH, State.STALE, State.MISSING, State.FAILED, State.RUNNING


def states(first: str, last: str, grain: Grain, **special: Sequence[int]) -> dict[str, State]:
    """All partitions of a stretch, fresh except where said otherwise by position."""
    wanted = partitions.between(first, last, grain)
    made = dict.fromkeys(wanted, FRESH)
    made.update({wanted[position]: State(state) for state, some in special.items() for position in some})
    return made


def drawn(job: str, grain: Grain, cells: dict[str, State]) -> str:
    return "\n".join([*grid.lines(job, grain, cells), ""])


def golden(text: str) -> str:
    return textwrap.dedent(text).lstrip("\n")


def test_days_stand_in_months() -> None:
    cells = states("2026-10-30", "2026-12-02", "day", stale=[2, 3], missing=[4], failed=[5], running=[33])
    assert drawn("create-table-rain", "day", cells) == golden(
        """
        create-table-rain  29 fresh, 2 stale, 1 missing, 1 failed, 1 running
                    1   5    10   15   20   25   30
        2026-10     ·····························■■
        2026-11     ▨▨□✗■■■■■■■■■■■■■■■■■■■■■■■■■■
        2026-12     ■◌·····························
        """
    )


def test_hours_stand_in_days() -> None:
    cells = states("2026-11-19T22", "2026-11-20T23", "hour", missing=[0, 25])
    assert drawn("h", "hour", cells) == golden(
        """
        h  24 fresh, 2 missing
                    0     6     12    18
        2026-11-19  ······················□■
        2026-11-20  ■■■■■■■■■■■■■■■■■■■■■■■□
        """
    )


def test_weeks_and_months_stand_in_years() -> None:
    assert drawn("w", "week", states("2026-W52", "2027-W02", "week", stale=[0])) == golden(
        f"""
        w  3 fresh, 1 stale
                    1        10        20        30        40        50
        2026        {"·" * 51}▨■
        2027        ■■{"·" * 50}
        """
    )
    assert drawn("m", "month", states("2026-11", "2027-02", "month", failed=[3])) == golden(
        """
        m  3 fresh, 1 failed
                    1  4  7  10
        2026        ··········■■
        2027        ■✗··········
        """
    )


def test_a_leap_day_has_its_cell() -> None:
    assert (
        drawn("x", "day", states("2028-02-29", "2028-02-29", "day")).splitlines()[2] == "2028-02     " + "·" * 28 + "■"
    )


def test_nothing_in_range_is_said() -> None:
    assert grid.lines("x", "day", {}) == ["x  nothing in range"]


def test_the_legend_explains_every_sign() -> None:
    assert grid.legend() == "■ fresh  ▨ stale  □ missing  ✗ failed  ◌ running  · not in range"


def test_colours_are_the_callers_choice() -> None:
    line = grid.lines("x", "month", {"2026-01": FAILED}, lambda text, colour: f"<{colour}:{text}>")
    assert line[0] == "<bold:x>  1 failed"
    assert line[2].startswith("2026        <red:✗>·")


@pytest.mark.parametrize("grain", partitions.GRAINS)
def test_the_document_has_every_partition(grain: Grain) -> None:
    first = {"hour": "2026-11-20T05", "day": "2026-11-20", "week": "2026-W47", "month": "2026-11"}[grain]
    assert grid.document("x", grain, {first: MISSING}) == {
        "job": "x",
        "grain": grain,
        "counts": {"fresh": 0, "stale": 0, "missing": 1, "failed": 0, "running": 0},
        "partitions": {first: "missing"},
    }
