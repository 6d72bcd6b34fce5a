"""The conditions of expectations: what they may say, and that they can do nothing."""

from __future__ import annotations

import pytest

from dsflow.conditions import check_columns, condition_of
from dsflow.errors import UsageError
from tests.conformance import translated

NAMES = {"dim": "dsflow_table_0", "t@previous": "dsflow_table_1"}


@pytest.mark.parametrize(
    "sql",
    [
        "rain >= 0",
        "city IS NOT NULL AND length(city) < 9",
        "x > 0 -- why",
        "x > 0 /* why; */",
        "date_trunc('day', at) = DATE '2026-11-20'",
        "at < TIMESTAMP '2026-11-20' + INTERVAL 1 DAY",
        "CASE WHEN x > 0 THEN y ELSE z END",
        "\"odd name\" LIKE 'a%' AND s.field = 1",
        "row_number() OVER (PARTITION BY a ORDER BY b) = 1",
        "try_cast(x AS DECIMAL(10, 2)) BETWEEN 0 AND 1",
        "list_contains(l, 1)",
        "regexp_matches(s, '^[a-z]+$')",
    ],
)
def test_a_condition_looks_at_the_values_of_a_row(sql: str) -> None:
    assert condition_of(sql, "e").per == "row"


@pytest.mark.parametrize("sql", ["count(*) > 0", "avg(x) < 3 AND max(y) > 0", "count(DISTINCT x) FILTER (WHERE y) = 1"])
def test_with_aggregates_it_is_about_the_partition(sql: str) -> None:
    assert condition_of(sql, "e").per == "partition"


def test_it_knows_its_columns_and_tables() -> None:
    condition = condition_of("X > 0 OR s.field IN (SELECT y FROM dim)", "e", ("dim",))
    assert condition.columns == ("X", "s")
    assert condition.tables == ("dim",)
    check_columns(condition, ["x", "S"], "e")
    with pytest.raises(UsageError, match=r"e: there is no column 's'; did you mean 'st'\?") as caught:
        check_columns(condition, ["x", "st"], "e")
    assert caught.value.hint == "The columns are x, st."


def test_what_an_engine_gets_is_made_from_the_tree() -> None:
    condition = condition_of("x/y > 1 -- or so", "e")
    assert condition.sql(NAMES) == "x / NULLIF(y, 0) > 1"
    assert condition_of("x / 2 > 1", "e").sql(NAMES) == "x / 2 > 1"


def test_tables_get_the_names_that_the_engine_knows() -> None:
    counted = condition_of('count(*) >= 0.5 * (SELECT count(*) FROM "t@previous")', "e", ("t@previous",))
    assert counted.sql(NAMES) == 'COUNT(*) >= 0.5 * (SELECT COUNT(*) FROM "dsflow_table_1")'
    assert list(counted.amounts(NAMES)) == ["COUNT(*)", '(SELECT COUNT(*) FROM "t@previous")']
    assert condition_of("a IN (SELECT b FROM dim)", "e", ("dim",)).sql(NAMES) == 'a IN (SELECT b FROM "dsflow_table_0")'


def test_it_knows_that_it_says_unique() -> None:
    assert condition_of('count(*) OVER (PARTITION BY "a b", c) = 1', "e").unique_columns() == ('"a b"', "c")
    for other in (
        "count(*) OVER (PARTITION BY a) = 2",
        "count(*) OVER (PARTITION BY a ORDER BY b) = 1",
        "count(*) = 1",
    ):
        assert condition_of(other, "e").unique_columns() == ()


REFUSED = [
    "",
    "rain >=",
    "a) OR (b",
    "SELECT",
    "a AS b",
    "a; DROP TABLE b",
    "a; b",
    "x = $1",
    "x = ?",
    "'open",
    "x > 0 /* open",
    "*",
    "COLUMNS(*) > 0",
    "(SELECT 1) = 1",
    "EXISTS (SELECT 1)",
    "x IN (SELECT y FROM other)",
    "x IN (SELECT y FROM dim WHERE z)",
    "x IN (SELECT y FROM dim UNION SELECT 1)",
    "x IN (SELECT y FROM main.dim)",
    "x IN (SELECT y FROM dim, other)",
    "x IN (SELECT getenv('HOME') FROM dim)",
    "x IN (SELECT y, z FROM dim)",
    "x IN (SELECT DISTINCT y FROM dim)",
    "x IN (SELECT y FROM 'dim.parquet')",
    "x = ALL (SELECT y FROM dim)",
    "(SELECT max(y) FROM dim) > 0",
    "x IN (WITH d AS (SELECT 1 AS y) SELECT y FROM d)",
    "x IN (FROM dim)",
    "x IN (VALUES (1))",
    "read_text('/etc/passwd') = ''",
    "getenv('HOME') = ''",
    "current_setting('memory_limit') = ''",
    "getvariable('x') = 1",
    "pg_sleep(10)",
    "query('SELECT 1')",
    "nextval('s') = 1",
    "main.getenv('x') = ''",
    "random() > 0",
    "x::INTEGER = 1",
    "floor(x) = 1",
    "repeat('x', 1000000000) = ''",
    "x COLLATE de = 'a'",
    "now() > at",
    "at < current_timestamp",
    "at < today()",
    "list_transform(l, lambda x: x + 1) IS NULL",
    "struct_pack(a := 1) IS NULL",
    "x > 0 LIMIT 1",
    "PRAGMA version",
    "LOAD httpfs",
    "ATTACH 'x.db'",
    "COPY t TO 'x'",
    "s LIKE 'a\\b'",
    "x = 1\0",
    "(" * 3000 + "x" + ")" * 3000,
    " OR ".join(["x > 0"] * 3000),
]


@pytest.mark.parametrize("sql", REFUSED, ids=[sql[:40].replace("\0", "NUL") or "empty" for sql in REFUSED])
def test_anything_else_is_refused_in_a_sentence(sql: str) -> None:
    with pytest.raises(UsageError, match="^expectation: "):
        condition_of(sql, "expectation", ("dim",))


@pytest.mark.parametrize(
    ("sql", "spark"),
    [
        ("SELECT x::DOUBLE FROM \"a b\" WHERE s ~ 'x'", "SELECT CAST(x AS DOUBLE) FROM `a b` WHERE s RLIKE 'x'"),
        ("SELECT TIMESTAMP '2026-11-20'", "SELECT CAST('2026-11-20' AS TIMESTAMP_NTZ)"),
        ("SELECT 'a\\b'", "SELECT 'a\\\\b'"),
    ],
)
def test_a_query_in_the_words_of_spark(sql: str, spark: str) -> None:
    assert translated(sql, "spark") == spark
