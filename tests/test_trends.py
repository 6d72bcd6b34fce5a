"""The usual range of row counts, and numbers as bars."""

from __future__ import annotations

import datetime as dt
import random

from dsflow.trends import Usual, sparkline, usual_before

FIRST = dt.date(2026, 1, 1)


def daily(counts: list[int]) -> dict[str, int]:
    return {str(FIRST + dt.timedelta(days=number)): count for number, count in enumerate(counts)}


def day(number: int) -> str:
    return str(FIRST + dt.timedelta(days=number))


def test_too_few_partitions_say_nothing() -> None:
    assert usual_before(daily([100] * 6), day(6)) is None
    assert usual_before(daily([100] * 7), day(7)) is not None


def test_a_table_whose_counts_never_change_may_vary_as_counted_events_do() -> None:
    usual = usual_before(daily([10_000] * 10), day(10))
    assert usual == Usual(low=9_650, high=10_350, of="the 10 partitions before")
    assert 10_349 in usual
    assert 9_000 not in usual
    assert 11_000 not in usual


def test_wild_days_among_those_before_do_not_widen_the_range() -> None:
    calm = [1_000 + offset for offset in (-20, 10, 5, -5, 15, -10, 20, 0, 8, -8, 3, -3)]
    wild = [*calm[:6], 0, 90_000, *calm[6:]]
    before, after = usual_before(daily(calm), day(12)), usual_before(daily(wild), day(14))
    assert before is not None
    assert after is not None
    assert abs(after.low - before.low) < 50
    assert abs(after.high - before.high) < 50
    assert 0 not in after


def test_only_what_lies_before_counts() -> None:
    counts = daily([100] * 10 + [100_000] * 10)
    usual = usual_before(counts, day(10))
    assert usual is not None
    assert 100_000 not in usual
    assert 100 in usual


def test_at_most_28_are_looked_at() -> None:
    # Grown long ago: what was before does not matter any more. Hours have no weekday of their own to compare with.
    counts = {f"2026-01-{1 + number // 24:02}T{number % 24:02}": 10 if number < 20 else 5_000 for number in range(60)}
    usual = usual_before(counts, "2026-01-03T12")
    assert usual is not None
    assert usual.of == "the 28 partitions before"
    assert 5_000 in usual
    assert 10 not in usual


def test_days_are_compared_with_the_same_weekday() -> None:
    # 2026-01-01 is a Thursday; on Saturdays and Sundays there is nearly nothing.
    counts = daily([50 if (FIRST + dt.timedelta(days=n)).weekday() >= 5 else 5_000 for n in range(70)])
    saturday, monday = "2026-03-14", "2026-03-16"
    on_saturday, on_monday = usual_before(counts, saturday), usual_before(counts, monday)
    assert on_saturday is not None
    assert on_monday is not None
    assert on_saturday.of == "the 10 Saturdays before"
    assert 50 in on_saturday
    assert 5_000 not in on_saturday
    assert 5_000 in on_monday
    assert 50 not in on_monday


def test_ordinary_noise_is_hardly_ever_unusual() -> None:
    rng = random.Random(7)
    counts = daily([round(rng.gauss(1_000, 60)) for _ in range(400)])
    ranges = {ds: usual_before(counts, ds) for ds in counts}
    judged = [ds for ds, usual in ranges.items() if usual is not None]
    odd = [ds for ds in judged if counts[ds] not in (ranges[ds] or ())]
    assert len(judged) > 380
    assert len(odd) <= 0.03 * len(judged)


def test_a_range_does_not_reach_below_zero() -> None:
    usual = usual_before(daily([1, 0, 2, 1, 1, 0, 1, 3]), day(8))
    assert usual is not None
    assert usual.low == 0


def test_bars() -> None:
    assert sparkline([1, 2, 3, 4, 5, 6, 7, 8], 20) == "▁▂▃▄▅▆▇█"
    assert sparkline([5, 5, 5], 20) == "▁▁▁"
    assert sparkline([0, None, 10], 20) == "▁·█"
    assert sparkline([50, 100], 20, from_zero=True) == "▅█"
    assert sparkline([], 20) == ""
    assert sparkline([None], 20) == "·"


def test_bars_fit_and_are_those_of_the_latest_numbers() -> None:
    assert sparkline([8, 1, 2], 2) == "▁█"
    assert sparkline([1, 2, 3], 0) == ""
