"""When a job is due, and for which partition; also where clocks are moved."""

from __future__ import annotations

import datetime as dt
import itertools
from dataclasses import dataclass
from zoneinfo import ZoneInfo

import pytest

from dsflow.model import Grain
from dsflow.partitions import Standing
from dsflow.schedule import check_cron, due

PARIS = ZoneInfo("Europe/Paris")


@dataclass(frozen=True)
class Line:
    cron: str
    timezone: str = "Europe/Paris"
    paused_until: str | None = None
    partition: Standing = "ended"


def dues(line: Line, now: str, grain: Grain = "day", first: int = 3) -> list[str]:
    moment = dt.datetime.fromisoformat(now)
    moment = moment if moment.tzinfo else moment.replace(tzinfo=PARIS)
    return [each.ds for each in itertools.islice(due(line, grain, moment), first)]


@pytest.mark.parametrize(
    ("grain", "cron", "newest"),
    [
        ("day", "0 6 * * *", ["2026-11-19", "2026-11-18"]),
        ("day", "@daily", ["2026-11-19", "2026-11-18"]),
        ("hour", "5 * * * *", ["2026-11-20T05", "2026-11-20T04"]),
        ("week", "0 6 * * MON", ["2026-W46", "2026-W45"]),
        ("month", "0 6 1 * *", ["2026-10", "2026-09"]),
    ],
)
def test_a_tick_stands_for_the_partition_that_has_ended(grain: Grain, cron: str, newest: list[str]) -> None:
    assert dues(Line(cron), "2026-11-20T06:05", grain, 2) == newest


def test_a_tick_can_stand_for_the_partition_it_falls_into() -> None:
    assert dues(Line("0 6 * * *", partition="current"), "2026-11-20T06:05", first=2) == ["2026-11-20", "2026-11-19"]
    assert dues(Line("5 * * * *", partition="current"), "2026-11-20T06:05", "hour", 1) == ["2026-11-20T06"]


def test_a_tick_is_due_from_its_very_second_on() -> None:
    line = Line("0 6 * * *")
    assert dues(line, "2026-11-20T05:59:59", first=1) == ["2026-11-18"]
    assert dues(line, "2026-11-20T06:00:00", first=1) == ["2026-11-19"]
    assert dues(line, "2026-11-20T06:00:00.5", first=1) == ["2026-11-19"]


def test_ticks_that_stand_for_one_partition_make_it_due_once_from_the_first_on() -> None:
    now = dt.datetime(2026, 11, 20, 23, 59, tzinfo=PARIS)
    newest = next(due(Line("0 6,12,18 * * *"), "day", now))
    assert (newest.ds, newest.since.hour) == ("2026-11-19", 6)
    assert dues(Line("*/5 * * * *"), "2026-11-20T10:00", first=3) == ["2026-11-19", "2026-11-18", "2026-11-17"]


def test_the_clock_is_that_of_the_time_zone() -> None:
    now = "2026-11-20T04:30+00:00"  # half past five in Paris, half past one in the afternoon in Tokyo
    assert dues(Line("0 6 * * *"), now, first=1) == ["2026-11-18"]
    assert dues(Line("0 6 * * *", "UTC"), now, first=1) == ["2026-11-18"]
    assert dues(Line("0 6 * * *", "Asia/Tokyo"), now, first=1) == ["2026-11-19"]


@pytest.mark.parametrize(
    ("paused_until", "wanted"),
    [
        ("2026-11-19", ["2026-11-19", "2026-11-18"]),
        ("2026-11-19T06:00", ["2026-11-19", "2026-11-18"]),
        ("2026-11-19T06:01", ["2026-11-19"]),
        ("2026-11-19T05:01+00:00", ["2026-11-19"]),
        ("2026-12-01", []),
    ],
)
def test_nothing_is_due_for_ticks_of_the_pause(paused_until: str, wanted: list[str]) -> None:
    assert dues(Line("0 6 * * *", paused_until=paused_until), "2026-11-20T07:00") == wanted


# ---- 2026-03-29 has no 02:00 to 02:59 in Paris, 2026-10-25 has it twice


def test_a_daily_tick_in_the_hour_that_is_left_out_comes_after_it() -> None:
    line = Line("30 2 * * *")
    assert dues(line, "2026-03-29T01:59:59+01:00", first=1) == ["2026-03-27"]
    assert dues(line, "2026-03-29T03:00:00+02:00", first=3) == ["2026-03-28", "2026-03-27", "2026-03-26"]


def test_a_daily_tick_in_the_hour_that_comes_twice_counts_once() -> None:
    line = Line("30 2 * * *")
    now = dt.datetime(2026, 10, 25, 12, tzinfo=PARIS)
    newest = next(due(line, "day", now))
    assert (newest.ds, newest.since.isoformat()) == ("2026-10-24", "2026-10-25T02:30:00+02:00")
    assert dues(line, "2026-10-25T12:00", first=2) == ["2026-10-24", "2026-10-23"]


def test_hours_that_the_clock_does_not_show_are_no_partitions() -> None:
    hours = dues(Line("0 * * * *"), "2026-03-29T05:00", "hour", 4)
    assert hours == ["2026-03-29T04", "2026-03-29T03", "2026-03-29T01", "2026-03-29T00"]


def test_an_hour_that_comes_twice_is_one_partition_and_due_when_it_is_over() -> None:
    line = Line("0 * * * *")
    assert dues(line, "2026-10-25T02:30+02:00", "hour", 1) == ["2026-10-25T01"]
    assert dues(line, "2026-10-25T02:30+01:00", "hour", 1) == ["2026-10-25T01"]
    assert dues(line, "2026-10-25T04:00", "hour", 4) == [
        "2026-10-25T03", "2026-10-25T02", "2026-10-25T01", "2026-10-25T00"
    ]  # fmt: skip


@pytest.mark.parametrize("cron", ["30 4 * * *", "@daily", "*/5 0-6 1,15 JAN-MAR MON", "0 0 L * *", "0 6 * * 1#1"])
def test_cron_lines(cron: str) -> None:
    check_cron(cron)


@pytest.mark.parametrize(
    ("cron", "reason"),
    [
        ("every day", "five fields"),
        ("0 0 4 * * *", "five fields"),
        ("99 4 * * *", "bad minute"),
        ("0 4 * * FUNDAY", "bad day-of-week"),
        ("0 4 31 2 *", "bad day"),
        ("", "five fields"),
        ("@fortnightly", "five fields"),
    ],
)
def test_what_is_no_cron_line_is_refused_with_the_reason(cron: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        check_cron(cron)
