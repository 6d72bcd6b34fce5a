"""Which partitions of a source a run needs, whatever the grains of both."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsflow.model import Grain
from dsflow.partitions import GRAINS, ds_of, end_of, shift, start_of, window
from dsflow.reads import Read, later, newest_at, partitions_read

MOMENTS = st.datetimes(dt.datetime(1990, 1, 1), dt.datetime(2050, 1, 1))
GRAIN = st.sampled_from(GRAINS)
DAY = "2026-11-20"


def read(**changes: Any) -> Read:
    return Read(**{"name": "x", "store": "table", "dataset": "x", **changes})


class TestSameGrain:
    def test_the_same_partition(self) -> None:
        assert partitions_read(read(), DAY, "day") == (DAY,)
        assert later(read(), DAY, "day") == ()

    def test_a_window_ends_with_ds(self) -> None:
        assert partitions_read(read(window=3), DAY, "day") == ("2026-11-18", "2026-11-19", DAY)

    def test_lookback_is_what_follows(self) -> None:
        assert partitions_read(read(lookback=2), DAY, "day") == (DAY,)
        assert later(read(lookback=2), DAY, "day") == ("2026-11-21", "2026-11-22")

    def test_of_its_own_output_a_job_reads_what_lies_before(self) -> None:
        assert partitions_read(read(window=3, own=True), DAY, "day") == ("2026-11-18", "2026-11-19")
        assert newest_at(read(as_of=True, own=True), DAY, "day") == "2026-11-19"

    def test_the_newest_is_looked_for_when_it_is_read(self) -> None:
        assert partitions_read(read(as_of=True), DAY, "day") == ()
        assert newest_at(read(as_of=True), DAY, "day") == DAY

    def test_a_path_has_no_partitions(self) -> None:
        assert partitions_read(read(store="path"), DAY, "day") == ()


class TestOtherGrains:
    @pytest.mark.parametrize(
        ("ds", "job", "source", "first", "last", "count"),
        [
            (DAY, "day", "hour", "2026-11-20T00", "2026-11-20T23", 24),
            ("2026-W47", "week", "day", "2026-11-16", "2026-11-22", 7),
            ("2026-02", "month", "day", "2026-02-01", "2026-02-28", 28),
            (DAY, "day", "week", "2026-W47", "2026-W47", 1),
            (DAY, "day", "month", "2026-11", "2026-11", 1),
            ("2026-11-20T05", "hour", "day", DAY, DAY, 1),
        ],
    )
    def test_a_finer_source_is_read_whole_and_of_a_coarser_the_holder(
        self, ds: str, job: Grain, source: Grain, first: str, last: str, count: int
    ) -> None:
        found = partitions_read(read(grain=source), ds, job)
        assert (found[0], found[-1], len(found)) == (first, last, count)

    def test_a_window_counts_in_the_grain_of_the_job(self) -> None:
        found = partitions_read(read(grain="hour", window=2), DAY, "day")
        assert (found[0], found[-1], len(found)) == ("2026-11-19T00", "2026-11-20T23", 48)

    def test_of_a_coarser_source_each_partition_comes_once(self) -> None:
        assert partitions_read(read(grain="month", window=30), DAY, "day") == ("2026-10", "2026-11")
        assert later(read(grain="month", lookback=20), DAY, "day") == ("2026-12",)

    def test_the_newest_of_a_finer_dimension_is_at_the_end_of_the_job(self) -> None:
        assert newest_at(read(grain="hour", as_of=True), DAY, "day") == "2026-11-20T23"
        assert newest_at(read(grain="month", as_of=True), DAY, "day") == "2026-11"

    @settings(deadline=None)
    @given(MOMENTS, GRAIN, GRAIN, st.integers(1, 5), st.integers(0, 5))
    def test_what_is_read_is_ordered_once_and_later_begins_after_it(
        self, moment: dt.datetime, job: Grain, source: Grain, length: int, lookback: int
    ) -> None:
        ds = ds_of(moment, job)
        asked = read(grain=source, window=length, lookback=lookback)
        found, after = partitions_read(asked, ds, job), later(asked, ds, job)
        assert found
        assert list(found + after) == sorted({*found, *after})

    @settings(deadline=None)
    @given(MOMENTS, GRAIN, st.integers(1, 9))
    def test_two_partitions_of_a_finer_source_are_read_by_one_job_partition_each(
        self, moment: dt.datetime, source: Grain, steps: int
    ) -> None:
        ds = ds_of(moment, "month")
        asked = read(grain=source)
        ours, next_ones = partitions_read(asked, ds, "month"), partitions_read(asked, shift(ds, 1, "month"), "month")
        assert not {*ours} & {*next_ones}
        assert end_of(ours[-1], source) == start_of(next_ones[0], source)
        assert window(next_ones[0], 2, source)[0] == ours[-1]
