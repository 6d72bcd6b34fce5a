"""Comparing rows: what is equal, what is not, and where."""

from __future__ import annotations

import datetime as dt
import uuid
from decimal import Decimal
from typing import Any

import pytest

from dsflow.testing.rows import Table
from dsflow.testing.verdict import differences_of, types_of

NAN = float("nan")


def paths(expected: list[dict[str, Any]], got: list[dict[str, Any]], types: dict[str, str], **how: Any) -> list[str]:
    return [str(d) for d in differences_of(expected, Table(types=types, rows=tuple(got)), **how)]


@pytest.mark.parametrize(
    ("expected", "got", "type_"),
    [
        (None, None, "VARCHAR"),
        ("Paris", "Paris", "VARCHAR"),
        (1, 1, "BIGINT"),
        (1, 1.0, "DOUBLE"),
        ("NaN", NAN, "DOUBLE"),
        (".nan", NAN, "DOUBLE"),
        (NAN, NAN, "DOUBLE"),
        ("-Infinity", float("-inf"), "DOUBLE"),
        (0.3, 0.1 + 0.2, "DOUBLE"),
        (0.1, 0.10000000149011612, "FLOAT"),
        (0.75, Decimal("0.7500"), "DECIMAL(10,4)"),
        ("0.1", Decimal("0.1"), "DECIMAL(10,1)"),
        ("12345678901234567890123", 12345678901234567890123, "HUGEINT"),
        (True, True, "BOOLEAN"),
        ("2026-11-20", dt.date(2026, 11, 20), "DATE"),
        ("2026-11-20T01:00:00", dt.datetime(2026, 11, 20, 1), "TIMESTAMP"),
        ("2026-11-20", dt.datetime(2026, 11, 20), "TIMESTAMP"),
        ("2026-11-20T02:00:00+02:00", "2026-11-20 00:00:00+00", "TIMESTAMP WITH TIME ZONE"),
        ("12:30:00", dt.time(12, 30), "TIME"),
        ("abc\\xFF", b"abc\xff", "BLOB"),
        ("6e53ee2e-549e-4086-bfbe-471189dca099", uuid.UUID("6e53ee2e549e4086bfbe471189dca099"), "UUID"),
        ({"b": [1, None], "a": "x"}, {"a": "x", "b": [1, None]}, "STRUCT(a VARCHAR, b INTEGER[])"),
        ("Köln 🌧", "Köln 🌧", "VARCHAR"),
    ],
)
def test_equal_whatever_the_writing(expected: Any, got: Any, type_: str) -> None:
    assert paths([{"x": expected}], [{"x": got}], {"x": type_}) == []


@pytest.mark.parametrize(
    ("expected", "got", "type_"),
    [
        (None, 0, "BIGINT"),
        (0, None, "BIGINT"),
        ("", None, "VARCHAR"),
        (1, "1", "VARCHAR"),
        (1, True, "BOOLEAN"),
        (True, 1, "BIGINT"),
        (0, NAN, "DOUBLE"),
        ("NaN", 0.0, "DOUBLE"),
        (0.3001, 0.3, "DOUBLE"),
        (0.1, 0.10000000149011612, "DOUBLE"),
        (0.75, Decimal("0.7501"), "DECIMAL(10,4)"),
        ("2026-11-20T02:00:00", dt.datetime(2026, 11, 20, 1), "TIMESTAMP"),
        ("2026-11-20T02:00:00+02:00", "2026-11-20 02:00:00+00", "TIMESTAMP WITH TIME ZONE"),
        ("2026-11-20T02:00:00+02:00", "2026-11-20 00:00:00+00", "VARCHAR"),
        ("no date", dt.date(2026, 11, 20), "DATE"),
        ([1, 2], [2, 1], "INTEGER[]"),
        ("paris", "Paris", "VARCHAR"),
        ([1], 1, "INTEGER"),
    ],
)
def test_not_equal(expected: Any, got: Any, type_: str) -> None:
    assert len(paths([{"x": expected}], [{"x": got}], {"x": type_})) > 0


def test_the_path_leads_to_the_value() -> None:
    types = {"id": "BIGINT", "station": "STRUCT(name VARCHAR, tags VARCHAR[])"}
    expected = [{"id": 1, "station": {"name": "Paris", "tags": ["a", "b"]}}]
    got = [{"id": 1, "station": {"name": "Orly", "tags": ["a", "c"]}}]
    assert paths(expected, got, types) == [
        "rows[0].station.name: expected 'Paris', got 'Orly'",
        "rows[0].station.tags[1]: expected 'b', got 'c'",
    ]


def test_rows_in_any_order_are_the_same_rows_and_their_number_counts() -> None:
    types = {"city": "VARCHAR"}
    assert paths([{"city": "a"}, {"city": "b"}], [{"city": "b"}, {"city": "a"}], types) == []
    twice = paths([{"city": "a"}], [{"city": "a"}, {"city": "a"}], types)
    assert twice == [
        "rows: expected 1 row, got 2 rows",
        "rows[1] of the output: expected no such row, got {city: 'a'}",
    ]


def test_rows_of_a_job_that_orders_them_stay_in_order() -> None:
    found = paths([{"city": "a"}, {"city": "b"}], [{"city": "b"}, {"city": "a"}], {"city": "VARCHAR"}, ordered=True)
    assert found == ["rows[0].city: expected 'a', got 'b'", "rows[1].city: expected 'b', got 'a'"]


def test_a_row_is_compared_with_the_one_that_is_meant() -> None:
    types = {"city": "VARCHAR", "hour": "BIGINT", "rain": "DOUBLE"}
    expected = [{"city": "Paris", "hour": 1, "rain": 0.5}, {"city": "Orly", "hour": 1, "rain": 1}]
    got = [{"city": "Orly", "hour": 1, "rain": 1.0}, {"city": "Paris", "hour": 1, "rain": 0.25}]
    assert paths(expected, got, types) == ["rows[0].rain: expected 0.5, got 0.25"]


def test_keys_say_which_row_is_meant() -> None:
    types = {"id": "BIGINT", "a": "BIGINT", "b": "BIGINT"}
    expected = [{"id": 1, "a": 1, "b": 1}]
    got = [{"id": 2, "a": 1, "b": 1}]
    assert len(paths(expected, got, types)) == 1
    assert paths(expected, got, types, keys=["id"]) == [
        "rows[0]: expected {id: 1, a: 1, b: 1}, got no such row",
        "rows[0] of the output: expected no such row, got {id: 2, a: 1, b: 1}",
    ]


def test_columns_may_come_in_any_order_but_all_of_them() -> None:
    types = {"b": "BIGINT", "a": "BIGINT"}
    assert paths([{"a": 1, "b": 2}], [{"b": 2, "a": 1}], types) == []
    assert paths([{"a": 1, "bb": 2}], [{"b": 2, "a": 1}], types) == [
        "rows.bb: expected a column, got no such column; did you mean 'b'?",
        "rows.b: expected no such column, got BIGINT",
    ]
    assert paths([{"a": 1}], [{"b": 2, "a": 1}], types, ignore=["b"]) == []


def test_what_a_row_leaves_out_is_null() -> None:
    assert paths([{"a": 1, "b": 1}, {"a": 2}], [{"a": 1, "b": 1}, {"a": 2, "b": None}], {"a": "INT", "b": "INT"}) == []


def test_no_rows_are_expected_of_an_empty_output() -> None:
    assert paths([], [], {"a": "BIGINT"}) == []
    assert paths([], [{"a": 1}], {"a": "BIGINT"})[0] == "rows: expected 0 rows, got 1 row"


def test_a_long_list_of_differences_is_cut() -> None:
    expected = [{"a": number, "b": "x"} for number in range(300)]
    got = [{"a": number, "b": "y"} for number in range(300)]
    found = paths(expected, got, {"a": "BIGINT", "b": "VARCHAR"}, ordered=True)
    assert found[-1] == "rows: expected no more, got more differences"
    assert len(found) == 21
    assert len(paths(expected, got, {"a": "BIGINT", "b": "VARCHAR"})) == 21


def test_types_are_compared_whatever_their_writing() -> None:
    got = {"a": "BIGINT", "b": "DECIMAL(10,2)", "c": "TIMESTAMP WITH TIME ZONE"}
    assert types_of({"a": "bigint", "b": "DECIMAL(10, 2)", "c": "timestamptz"}, got) == []
    found = types_of({"a": "INTEGER", "d": "DATE"}, got)
    assert [str(d) for d in found] == [
        "columns.a: expected INTEGER, got BIGINT",
        "columns.d: expected DATE, got no such column",
    ]
