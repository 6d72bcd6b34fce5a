"""A ds is a text whose form tells its grain; counting with it follows the calendar."""

from __future__ import annotations

import datetime as dt
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsflow.errors import UsageError
from dsflow.model import Grain
from dsflow.partitions import (
    GRAINS,
    between,
    ds_of,
    end_of,
    grain_of,
    holding,
    inside,
    resolve,
    shift,
    span,
    start_of,
    window,
)

# Away from the ends of the calendar, so that everything can be moved a little.
MOMENTS = st.datetimes(dt.datetime(100, 1, 1), dt.datetime(9900, 1, 1))
GRAIN = st.sampled_from(GRAINS)
STEPS = st.integers(-1000, 1000)


@given(MOMENTS, GRAIN)
def test_every_moment_is_in_one_partition(moment: dt.datetime, grain: Grain) -> None:
    ds = ds_of(moment, grain)
    assert start_of(ds, grain) <= moment < end_of(ds, grain)
    assert ds_of(start_of(ds, grain), grain) == ds
    assert ds_of(end_of(ds, grain) - dt.timedelta(microseconds=1), grain) == ds


@given(MOMENTS, GRAIN, STEPS, STEPS)
def test_steps_add_up(moment: dt.datetime, grain: Grain, first: int, second: int) -> None:
    ds = ds_of(moment, grain)
    assert shift(shift(ds, first, grain), second, grain) == shift(ds, first + second, grain)
    assert shift(shift(ds, first, grain), -first, grain) == ds


@given(MOMENTS, GRAIN, STEPS)
def test_texts_sort_like_their_dates(moment: dt.datetime, grain: Grain, steps: int) -> None:
    ds = ds_of(moment, grain)
    assert (shift(ds, steps, grain) > ds) == (steps > 0)


@given(MOMENTS, GRAIN, st.integers(1, 60))
def test_a_window_is_without_gaps_and_ends_with_its_ds(moment: dt.datetime, grain: Grain, length: int) -> None:
    ds = ds_of(moment, grain)
    found = window(ds, length, grain)
    assert len(found) == length
    assert found[-1] == ds
    assert all(end_of(one, grain) == start_of(next_, grain) for one, next_ in itertools.pairwise(found))


@pytest.mark.parametrize(
    ("ds", "grain", "start", "end"),
    [
        ("2026-11-20", "day", "2026-11-20T00:00:00", "2026-11-21T00:00:00"),
        ("2024-02-28", "day", "2024-02-28T00:00:00", "2024-02-29T00:00:00"),
        ("2024-02-29", "day", "2024-02-29T00:00:00", "2024-03-01T00:00:00"),
        ("2026-12-31", "day", "2026-12-31T00:00:00", "2027-01-01T00:00:00"),
        ("2026-12-31T23", "hour", "2026-12-31T23:00:00", "2027-01-01T00:00:00"),
        ("2026-11", "month", "2026-11-01T00:00:00", "2026-12-01T00:00:00"),
        ("2024-02", "month", "2024-02-01T00:00:00", "2024-03-01T00:00:00"),
        ("2026-12", "month", "2026-12-01T00:00:00", "2027-01-01T00:00:00"),
        ("2026-W47", "week", "2026-11-16T00:00:00", "2026-11-23T00:00:00"),
        ("2026-W53", "week", "2026-12-28T00:00:00", "2027-01-04T00:00:00"),
        ("2025-W01", "week", "2024-12-30T00:00:00", "2025-01-06T00:00:00"),
    ],
)
def test_a_partition_begins_and_ends(ds: str, grain: Grain, start: str, end: str) -> None:
    assert (start_of(ds, grain).isoformat(), end_of(ds, grain).isoformat()) == (start, end)


@pytest.mark.parametrize(
    ("ds", "steps", "grain", "moved"),
    [
        ("2026-W52", 1, "week", "2026-W53"),
        ("2026-W53", 1, "week", "2027-W01"),
        ("2027-W01", -1, "week", "2026-W53"),
        ("2025-W52", 1, "week", "2026-W01"),
        ("2024-02-29", 366, "day", "2025-03-01"),
        ("2023-02-28", 1, "day", "2023-03-01"),
        ("2024-03", -1, "month", "2024-02"),
        ("2026-01", -13, "month", "2024-12"),
        ("2026-11-20T00", -1, "hour", "2026-11-19T23"),
        ("2026-03-29T01", 1, "hour", "2026-03-29T02"),  # the hour that clocks in Paris leave out
        ("0999-12-31T23", 1, "hour", "1000-01-01T00"),
    ],
)
def test_moving_follows_the_calendar(ds: str, steps: int, grain: Grain, moved: str) -> None:
    assert shift(ds, steps, grain) == moved


@pytest.mark.parametrize(
    ("ds", "grain"),
    [
        ("2023-02-29", "day"), ("2026-13-01", "day"), ("2026-1-1", "day"), ("20261120", "day"), ("", "day"),
        ("2026-11-20T05", "day"), ("2026-11-20", "hour"), ("2026-11-20T24", "hour"), ("2026-11-20 05", "hour"),
        ("2025-W53", "week"), ("2026-W00", "week"), ("2026-11", "week"), ("2026-00", "month"), ("2026-11-20", "month"),
        ("\N{FULLWIDTH DIGIT TWO}026-11-20", "day"), ("2026-11-20\n", "day"), ("../2026-11-20", "day"),
        ("0000-01-01", "day"), ("ds=2026-11-20", "day"),
    ],
)  # fmt: skip
def test_what_is_no_partition_of_a_grain_is_refused_with_an_example(ds: str, grain: Grain) -> None:
    with pytest.raises(UsageError, match=f"is not a {grain} partition") as caught:
        start_of(ds, grain)
    example = caught.value.hint.removeprefix("Write it like ").rstrip(".")
    start_of(example, grain)


@given(st.text(), GRAIN)
def test_any_other_text_is_refused(text: str, grain: Grain) -> None:
    with pytest.raises(UsageError) as caught:
        resolve(f"{text}!", grain)
    assert len(caught.value.message) < 200


@pytest.mark.parametrize(
    ("ds", "steps", "grain"),
    [
        ("9999-12-31", 1, "day"), ("0001-01-01", -1, "day"), ("9999-12", 1, "month"), ("0001-01", -1, "month"),
        ("9999-W52", 9, "week"), ("9999-12-31T23", 1, "hour"), ("2026-11-20", 10**12, "day"),
        ("2026-11", 10**30, "month"),
    ],
)  # fmt: skip
def test_the_calendar_has_ends(ds: str, steps: int, grain: Grain) -> None:
    with pytest.raises(UsageError, match="outside the calendar"):
        shift(ds, steps, grain)


@pytest.mark.parametrize(
    ("grain", "today", "yesterday"),
    [
        ("hour", "2027-01-01T00", "2026-12-31T23"),
        ("day", "2027-01-01", "2026-12-31"),
        ("week", "2026-W53", "2026-W52"),
        ("month", "2027-01", "2026-12"),
    ],
)
def test_today_and_yesterday_are_this_partition_and_the_one_before(grain: Grain, today: str, yesterday: str) -> None:
    now = dt.datetime(2027, 1, 1, 0, 30)
    assert (resolve("today", grain, now), resolve("yesterday", grain, now)) == (today, yesterday)
    assert resolve(today, grain, now) == today


@given(MOMENTS, st.sampled_from([(fine, coarse) for i, fine in enumerate(GRAINS) for coarse in GRAINS[i:]]))
def test_every_partition_is_inside_the_one_that_holds_it_and_in_no_other(
    moment: dt.datetime, grains: tuple[Grain, Grain]
) -> None:
    fine, coarse = grains
    ds = ds_of(moment, fine)
    holder = holding(ds, fine, coarse)
    assert ds in inside(holder, coarse, fine)
    assert ds not in inside(shift(holder, 1, coarse), coarse, fine)
    assert ds not in inside(shift(holder, -1, coarse), coarse, fine)


@settings(deadline=None)
@given(MOMENTS, GRAIN, GRAIN, st.integers(0, 20))
def test_between_has_everything_that_a_stretch_touches(
    moment: dt.datetime, grain: Grain, wanted: Grain, steps: int
) -> None:
    first = ds_of(moment, grain)
    last = shift(first, steps, grain)
    found = between(first, last, wanted)
    assert found == window(found[-1], len(found), wanted)
    assert start_of(found[0], wanted) <= start_of(first, grain) < end_of(found[0], wanted)
    assert start_of(found[-1], wanted) < end_of(last, grain) <= end_of(found[-1], wanted)


@given(MOMENTS, GRAIN)
def test_the_form_tells_the_grain(moment: dt.datetime, grain: Grain) -> None:
    assert grain_of(ds_of(moment, grain)) == grain


@pytest.mark.parametrize(
    "text", ["", "x", "2026-13", "2026-02-30", "2025-W53", "2026-11-20T24", "ds=2026-11-20", "2026"]
)
def test_what_is_no_ds_has_no_grain(text: str) -> None:
    assert grain_of(text) is None


@pytest.mark.parametrize(
    ("ds", "grain", "finer", "first", "last", "count"),
    [
        ("2026-11-20", "day", "hour", "2026-11-20T00", "2026-11-20T23", 24),
        ("2026-W53", "week", "day", "2026-12-28", "2027-01-03", 7),
        ("2024-02", "month", "day", "2024-02-01", "2024-02-29", 29),
        ("2026-11", "month", "week", "2026-W45", "2026-W49", 5),  # the weeks that begin in November
    ],
)
def test_inside(ds: str, grain: Grain, finer: Grain, first: str, last: str, count: int) -> None:
    found = inside(ds, grain, finer)
    assert (found[0], found[-1], len(found)) == (first, last, count)


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        ("2026-10-01..2026-11-19", "2026-10-01", "2026-11-19"),
        ("2026-10-01...2026-11-19", "2026-10-01", "2026-11-19"),
        ("2026-10-01", "2026-10-01", "2026-10-01"),
        ("2026-10", "2026-10", "2026-10"),
        ("2026-10..2026-11-19", "2026-10", "2026-11-19"),
        ("2026-W40..today", "2026-W40", "2026-11-20"),
        ("yesterday", "2026-11-19", "2026-11-19"),
        ("2026-11-20T05..2026-11-20T07", "2026-11-20T05", "2026-11-20T07"),
    ],
)
def test_a_span_is_what_a_person_writes(text: str, first: str, last: str) -> None:
    assert span(text, dt.datetime(2026, 11, 20, 8)) == (first, last)


def test_a_month_is_all_its_days() -> None:
    assert between(*span("2026-10"), "day") == window("2026-10-31", 31)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("2026-11-19..2026-10-01", "2026-11-19..2026-10-01 ends before it begins"),
        ("2026-11-20..2026-10", "2026-11-20..2026-10 ends before it begins"),
        ("2026-10-01..", "'' is not a date"),
        ("..2026-10-01", "'' is not a date"),
        ("2026-10-01....2026-11-19", "'.2026-11-19' is not a date"),
        ("2026-02-30", "'2026-02-30' is not a date"),
        ("../etc", "'' is not a date"),
        ("x" * 90, f"'{'x' * 37}...' is not a date"),
    ],
)
def test_a_wrong_span_is_told(text: str, sentence: str) -> None:
    with pytest.raises(UsageError) as caught:
        span(text)
    assert caught.value.message == sentence


def test_the_end_of_the_calendar_can_be_reached() -> None:
    assert between("9999-12-30", "9999-12-30", "week") == ("9999-W52",)


def test_more_than_anybody_means_is_refused() -> None:
    with pytest.raises(UsageError, match="more than 1,000,000 hours"):
        between("0001-01-02", "9000-01-01", "hour")
