"""Which partitions stay."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsflow.errors import UsageError
from dsflow.partitions import window
from dsflow.retention import Rule, carry_out, plan, rules_of, sort_out
from dsflow.store.datastore import Datastore
from dsflow.store.publishing import Staging
from tests.versions import DS, NAME, Version

DAYS = window("2026-11-20", 400)


def stay(partitions: Sequence[str], rules: str) -> list[str]:
    return list(sort_out(partitions, rules_of(rules)))


def test_the_newest_days_and_the_newest_of_each_month_stay() -> None:
    assert stay(DAYS, "daily:3,monthly:4") == [
        "2026-08-31", "2026-09-30", "2026-10-31", "2026-11-18", "2026-11-19", "2026-11-20"
    ]  # fmt: skip


def test_each_says_why_it_stays() -> None:
    assert sort_out(DAYS, rules_of("daily:2,weekly:2,yearly:5")) == {
        "2025-12-31": ("yearly",),
        "2026-11-15": ("weekly",),
        "2026-11-19": ("daily",),
        "2026-11-20": ("daily", "weekly", "yearly", "newest"),
    }


def test_periods_without_a_partition_do_not_count() -> None:
    partitions = ["2019-03-01", "2019-03-07", "2020-01-05", "2026-11-20"]
    assert stay(partitions, "monthly:3") == ["2019-03-07", "2020-01-05", "2026-11-20"]
    assert stay(partitions, "daily:100") == partitions


@pytest.mark.parametrize(
    ("partitions", "rules", "expected"),
    [
        (window("2026-11-20T05", 48, "hour"), "hourly:2,daily:2", ["2026-11-19T23", "2026-11-20T04", "2026-11-20T05"]),
        (window("2026-W47", 20, "week"), "weekly:1,monthly:2", ["2026-W44", "2026-W47"]),
        (window("2026-W47", 20, "week"), "daily:2", ["2026-W46", "2026-W47"]),
        (window("2026-11", 30, "month"), "yearly:2", ["2025-12", "2026-11"]),
        (window("2026-11", 30, "month"), "weekly:2", ["2026-10", "2026-11"]),
        (["2026-W01", "2026-W02", "2026-W53", "2027-W01"], "yearly:2", ["2026-W53", "2027-W01"]),
    ],
)
def test_every_grain(partitions: Sequence[str], rules: str, expected: list[str]) -> None:
    assert stay(partitions, rules) == expected


def test_what_is_no_date_stays() -> None:
    assert sort_out(["current", "2026-11-19", "2026-11-20"], rules_of("daily:1")) == {
        "2026-11-20": ("daily", "newest"),
        "current": ("no date",),
    }


@given(
    partitions=st.sets(st.sampled_from([*DAYS, *window("2026-W47", 60, "week"), *window("2026-11", 30, "month")])),
    rules=st.lists(
        st.builds(Rule, st.sampled_from(["hourly", "daily", "weekly", "monthly", "yearly"]), st.integers(1, 9)),
        max_size=4,
        unique_by=lambda rule: rule.period,
    ),
)
def test_it_is_the_same_the_second_time_and_never_empties_a_table(partitions: set[str], rules: list[Rule]) -> None:
    kept = sort_out(partitions, rules)
    assert set(kept) <= partitions
    assert bool(kept) == bool(partitions)
    assert sort_out(kept, rules) == kept
    # One rule more never costs a partition.
    assert set(kept) <= set(sort_out(partitions, [*rules, Rule("daily", 1000)]))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dayly:3", "'dayly' is no period; did you mean 'daily'?"),
        ("daily:3,daily:4", "'daily' is there twice"),
        ("daily", "'daily' does not say how many"),
        ("daily:0", "'daily:0' does not say how many to keep, 1 or more"),
        ("daily:-1", "'daily:-1' does not say how many"),
        ("daily:many", "'daily:many' does not say how many"),
        ("", "'' is no period"),
        ("daily:3,", "'' is no period"),
    ],
)
def test_rules_that_cannot_be_meant_are_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        rules_of(text)
    assert message in caught.value.message
    assert "--keep daily:30,monthly:12" in caught.value.hint


def test_a_partition_that_is_being_written_does_not_stop_the_others(tmp_path: Path) -> None:
    datastore = Datastore(tmp_path)
    Version(1).publish(datastore)
    for ds in ("2026-11-21", "2026-11-22", "2026-11-23"):
        folder = datastore.target("table", NAME, ds)
        folder.mkdir(parents=True)
        (folder / "x.parquet").write_bytes(bytes(10))
    pruning = plan(datastore, "table", NAME, rules_of("daily:1"))
    assert pruning.goes == (DS, "2026-11-21", "2026-11-22")
    assert pruning.bytes == 20 + sum(map(len, Version(1).contents.values()))
    with Staging(datastore, Version(2).run_id, Version(2).output, "rain"):
        [refused] = carry_out(datastore, [pruning])
    assert refused.message.startswith(f"table '{NAME}' ds={DS} is being written by run")
    assert datastore.partitions("table", NAME) == [DS, "2026-11-23"]
