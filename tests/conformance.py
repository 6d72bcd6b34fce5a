"""What expectations mean: rows, an expectation, and the rows that break it. Every engine has to agree.

The rows are SQL for DuckDB, which writes them into Parquet files; each has a column `i` that counts from 1. A case
about rows names those that break the expectation; a case about the partition says whether it is broken.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dsflow.sqltrees import parsed

ROWS: Mapping[str, str] = {
    "floats": """
        SELECT * FROM (VALUES (1, 1.5::DOUBLE), (2, -1.5), (3, 0.0), (4, '-0.0'::DOUBLE), (5, 'NaN'::DOUBLE),
        (6, 'Infinity'::DOUBLE), (7, '-Infinity'::DOUBLE), (8, NULL)) AS t(i, f)""",
    "ints": """
        SELECT i, n::BIGINT AS n, m::INTEGER AS m FROM (VALUES (1, 0, 1), (2, 5, 0), (3, -5, 2), (4, NULL, 3),
        (5, 9223372036854775807, NULL), (6, 7, -2)) AS t(i, n, m)""",
    "decimals": """
        SELECT i, d::DECIMAL(10, 2) AS d, e::DECIMAL(38, 10) AS e FROM (VALUES (1, 0.10, 0.1), (2, -0.01, 1.5),
        (3, NULL, 2), (4, 99999999.99, 0.0000000001), (5, 0, NULL), (6, 2.50, 12345678901234567890.5)) AS t(i, d, e)""",
    "texts": """
        SELECT * FROM (VALUES (1, 'paris'), (2, 'PARIS'), (3, ''), (4, ' '), (5, 'é'), (6, 'e' || chr(769)), (7, '🦆'),
        (8, NULL), (9, 'o''clock'), (10, 'a%b'), (11, 'a_b'), (12, 'two' || chr(10) || 'lines'), (13, '日本語'),
        (14, 'a\\b'), (15, '1e3'), (16, 'NULL')) AS t(i, s)""",
    "moments": """
        SELECT i, t::TIMESTAMP AS t, z::TIMESTAMPTZ AS z, d::DATE AS d FROM (VALUES
        (1, '2026-11-20 00:00:00', '2026-11-20 00:00:00+00', '2026-11-20'),
        (2, '2026-11-20 23:59:59.999999', '2026-11-20 23:30:00-05', '2026-11-21'),
        (3, '2026-11-21 00:00:00', '2026-11-21 01:00:00+02', '2026-11-19'),
        (4, NULL, NULL, NULL),
        (5, '1969-12-31 23:59:59', '2024-02-29 12:00:00+14', '2024-02-29')) AS t(i, t, z, d)""",
    "truths": """
        SELECT * FROM (VALUES (1, true, true), (2, true, false), (3, true, NULL), (4, false, false), (5, false, NULL),
        (6, NULL, NULL)) AS t(i, p, q)""",
    "keys": """
        SELECT i, a, b::INTEGER AS b, f::DOUBLE AS f FROM (VALUES (1, 'x', 1, 0.0), (2, 'x', 2, '-0.0'::DOUBLE),
        (3, 'y', 1, 'NaN'::DOUBLE), (4, NULL, 1, 'NaN'::DOUBLE), (5, NULL, 1, 1), (6, 'z', NULL, NULL),
        (7, 'Z', NULL, NULL), (8, 'é', 3, 2)) AS t(i, a, b, f)""",
    "nested": """
        SELECT * FROM (VALUES (1, [1, 2], {'a': 1, 'b': 'x'}), (2, []::INTEGER[], {'a': NULL, 'b': 'y'}),
        (3, NULL, NULL), (4, [NULL, 3], {'a': -1, 'b': NULL})) AS t(i, l, st)""",
    "one": "SELECT 1 AS i, 1::BIGINT AS n, 'x' AS s, 0.5::DOUBLE AS f, TIMESTAMP '2026-11-20 12:00:00' AS t",
    "empty": """
        SELECT 1 AS i, 1::BIGINT AS n, 'x' AS s, 0.5::DOUBLE AS f, TIMESTAMP '2026-11-20 12:00:00' AS t WHERE false""",
    "odd names": """
        SELECT 1 AS i, 2 AS "order", 3 AS "a b", 4 AS "Größe", 5 AS "q""q", 6 AS "x.y", NULL::INTEGER AS "select"
    """,
}
# Tables that expectations look into; `previous` is the partition before.
OTHERS: Mapping[str, str] = {
    "dim_text": "SELECT * FROM (VALUES ('paris'), ('é'), ('日本語'), (NULL), ('paris')) AS t(id)",
    "dim_number": "SELECT * FROM (VALUES (1.5::DOUBLE), ('NaN'::DOUBLE), (0.0), (-5)) AS t(num)",
    "dim_empty": "SELECT 'x' AS id, 1 AS num WHERE false",
    "previous": "SELECT * FROM range(4) AS r(i)",
}
# Where the partition ends, for `freshness`.
END = "2026-11-21T00:00:00"


@dataclass(frozen=True)
class Case:
    """One expectation over some rows.

    Attributes:
        rows: A key of ROWS.
        given: The constraint, or the expectation's keys.
        broken: The rows that break it, or whether a partition does.
    """

    rows: str
    given: str | Mapping[str, Any]
    broken: Sequence[int] | bool

    @property
    def name(self) -> str:
        """What messages and tests call it."""
        return f"{self.rows}: {self.given}"


def _cases(rows: str, *cases: tuple[str | Mapping[str, Any], Sequence[int] | bool]) -> list[Case]:
    return [Case(rows, given, broken) for given, broken in cases]


ALL: tuple[int, ...] = (1, 2, 3, 4, 5, 6, 7, 8)
CASES: Sequence[Case] = [
    # NaN is a number larger than all others and equal to itself, -0.0 equals 0.0, and NULL breaks everything.
    *_cases(
        "floats",
        ("f >= 0", [2, 7, 8]),
        ("f > 0", [2, 3, 4, 7, 8]),
        ("f < 0", [1, 3, 4, 5, 6, 8]),
        ("f = 0", [1, 2, 5, 6, 7, 8]),
        ("f <> 0", [3, 4, 8]),
        ("f = f", [8]),
        ("isnan(f)", [1, 2, 3, 4, 6, 7, 8]),
        ("NOT isnan(f)", [5, 8]),
        ("f IS NULL OR NOT isnan(f)", [5]),
        ("f > 1e308", [1, 2, 3, 4, 7, 8]),
        ("f BETWEEN -2 AND 2", [5, 6, 7, 8]),
        ("f IN (1.5, -1.5)", [3, 4, 5, 6, 7, 8]),
        ("f NOT IN (1.5, -1.5)", [1, 2, 8]),
        ("f IS NULL", [1, 2, 3, 4, 5, 6, 7]),
        ("f IS NOT NULL", [8]),
        ("coalesce(f, 0) >= 0", [2, 7]),
        ("abs(f) = 1.5", [3, 4, 5, 6, 7, 8]),
        ("round(f) = 2", [2, 3, 4, 5, 6, 7, 8]),
        ("round(f, 1) = -1.5", [1, 3, 4, 5, 6, 7, 8]),
        ("least(f, 0) = 0", [2, 7]),
        ("1 / f > 0", [2, 3, 4, 6, 7, 8]),
        ("f / 0 IS NULL", []),
        ("f IS DISTINCT FROM 0", [3, 4]),
        ("greatest(f, 0) = 0", [1, 5, 6]),
        ("sqrt(abs(f)) >= 0", [8]),
        ({"not_null": "f"}, [8]),
        ({"accepted_values": {"column": "f", "values": [1.5, 0]}}, [2, 5, 6, 7, 8]),
        ({"references": {"column": "f", "table": "dim_number", "to": "num"}}, [2, 6, 7, 8]),
        ({"unique": ["f"]}, [3, 4]),
        ("count(f) = 7", False),
        ("max(f) > 1e308", False),
        ("min(f) < -1e308", False),
        ("sum(f) FILTER (WHERE abs(f) < 2) = 0", False),
        ("count(DISTINCT f) = 6", False),
    ),
    *_cases(
        "ints",
        ("n > 0", [1, 3, 4]),
        ("n + 0 = n", [4]),
        ("n / 2 = 2.5", [1, 3, 4, 5, 6]),
        ("n % 2 = 1", [1, 3, 4]),
        ("n % 2 = -1", [1, 2, 4, 5, 6]),
        ("n / m IS NOT NULL", [2, 4, 5]),
        ("n % m = 0", [2, 3, 4, 5, 6]),
        ("-n = 5", [1, 2, 4, 5, 6]),
        ("n * m <= 0", [4, 5]),
        ("n", [1, 4]),
        ("n = 9223372036854775807", [1, 2, 3, 4, 6]),
        ("n BETWEEN m AND 10", [1, 3, 4, 5]),
        ("n > m", [1, 3, 4, 5]),
        ("n IS DISTINCT FROM m", []),
        ("n IN (0, 5, NULL)", [3, 4, 5, 6]),
        ("n NOT IN (0, NULL)", [1, 2, 3, 4, 5, 6]),
        ("CAST(n AS DOUBLE) >= 0", [3, 4]),
        ("CAST(n AS VARCHAR) = '5'", [1, 3, 4, 5, 6]),
        ("CASE WHEN n > 0 THEN m > 0 ELSE true END", [2, 5, 6]),
        ("nullif(m, 0) > 0", [2, 5, 6]),
        ("m & 1 = 1", [2, 3, 5, 6]),
        ("pow(m, 2) = 4", [1, 2, 4, 5]),
        ("sign(n) = 1", [1, 3, 4]),
        ({"accepted_values": {"column": "m", "values": [0, 1, 2, 3, None]}}, [6]),
        ({"references": {"column": "n", "table": "dim_number", "to": "num"}}, [2, 4, 5, 6]),
        ({"references": {"column": "n", "table": "dim_number", "to": "num", "optional": True}}, [2, 5, 6]),
        ({"row_count": {"min": 6, "max": 6}}, False),
        ({"row_count": {"min": 7}}, True),
        ({"row_count": {"max": 5}}, True),
        ({"row_count": {"min": 1.5, "max": 1.5, "against": "previous"}}, False),
        ({"row_count": {"max": 1.4, "against": "previous"}}, True),
        ("sum(m) = 4", False),
        ("avg(m) > 0.8", True),
        ("median(m) = 1", False),
        ("count_if(n > 0) = 3", False),
        ("sum(m) / count(m) BETWEEN 0.7 AND 0.9", False),
    ),
    *_cases(
        "decimals",
        ("d >= 0", [2, 3]),
        ("d = 0.1", [2, 3, 4, 5, 6]),
        ("d + 0.01 = 0.11", [2, 3, 4, 5, 6]),
        ("d * 3 = 0.3", [2, 3, 4, 5, 6]),
        ("d < 99999999.99", [3, 4]),
        ("e > 0", [5]),
        ("e = 12345678901234567890.5", [1, 2, 3, 4, 5]),
        ("round(d, 1) = 2.5", [1, 2, 3, 4, 5]),
        ("d IN (0.1, 2.5)", [2, 3, 4, 5]),
        ("d <= e", [3, 4, 5]),
        ("CAST(d AS DOUBLE) < 0", [1, 3, 4, 5, 6]),
        ("CAST(d AS VARCHAR) = '0.10'", [2, 3, 4, 5, 6]),
        ("abs(d) < 1", [3, 4, 6]),
        ({"accepted_values": {"column": "d", "values": [0.1, -0.01, None]}}, [4, 5, 6]),
        ("sum(d) = 100000002.58", False),
    ),
    *_cases(
        "texts",
        ("s <> ''", [3, 8]),
        ("length(s) > 0", [3, 8]),
        ("length(s) = 1", [1, 2, 3, 6, 8, 9, 10, 11, 12, 13, 14, 15, 16]),
        ("trim(s) <> ''", [3, 4, 8]),
        ("lower(s) = 'paris'", [3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]),
        ("upper(s) = s", [1, 5, 6, 8, 9, 10, 11, 12, 14, 15]),
        ("s = 'é'", [1, 2, 3, 4, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]),
        ("s < 'b'", [1, 5, 6, 7, 8, 9, 12, 13]),
        ("s LIKE 'a%b'", [1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 13, 15, 16]),
        ("s LIKE '_'", [1, 2, 3, 6, 8, 9, 10, 11, 12, 13, 14, 15, 16]),
        ("s LIKE '%lines'", [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 14, 15, 16]),
        ("s LIKE 'a!_b' ESCAPE '!'", [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 13, 14, 15, 16]),
        ("s ILIKE 'PARIS'", [3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]),
        ("s NOT LIKE 'a%'", [8, 10, 11, 14]),
        ("contains(s, '%')", [1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 15, 16]),
        ("contains(s, '\\')", [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 15, 16]),
        ("starts_with(s, '日')", [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 14, 15, 16]),
        ("ends_with(s, '')", [8]),
        ("substring(s, 2, 2) = 'ar'", [2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]),
        ("left(s, 1) = '🦆' OR right(s, 1) = '語'", [1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 12, 14, 15, 16]),
        ("replace(s, 'a', '') = s", [1, 8, 10, 11, 14]),
        ("s || 'x' <> 'x'", [3, 8]),
        ("concat(s, 'x') <> 'x'", [3, 8]),
        ("regexp_matches(s, '^[a-z]+$')", [2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]),
        ("regexp_matches(s, '[0-9]')", [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 16]),
        ("split_part(s, '_', 2) = 'b'", [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 13, 14, 15, 16]),
        ("strpos(s, 'clock') = 3", [1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12, 13, 14, 15, 16]),
        ("try_cast(s AS DOUBLE) = 1000", [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 16]),
        ("s IN ('o''clock', 'NULL')", [1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12, 13, 14, 15]),
        ({"not_null": ["i", "s"]}, [8]),
        (
            {"accepted_values": {"column": "s", "values": ["paris", "o'clock", "a\\b", "🦆", None]}},
            [2, 3, 4, 5, 6, 10, 11, 12, 13, 15, 16],
        ),
        (
            {"references": {"column": "s", "table": "dim_text", "to": "id"}},
            [2, 3, 4, 6, 7, 8, 9, 10, 11, 12, 14, 15, 16],
        ),
        (
            {"references": {"column": "s", "table": "dim_text", "to": "id", "optional": True}},
            [2, 3, 4, 6, 7, 9, 10, 11, 12, 14, 15, 16],
        ),
        ({"references": {"column": "s", "table": "dim_empty", "to": "id"}}, list(range(1, 17))),
        ({"unique": "s"}, []),
        ("max(s) = '🦆'", False),
        ("count(DISTINCT lower(s)) = 14", False),
    ),
    # Moments are compared in UTC; a date is its midnight.
    *_cases(
        "moments",
        ("t >= TIMESTAMP '2026-11-20 00:00:00'", [4, 5]),
        ("t < TIMESTAMP '2026-11-21'", [3, 4]),
        ("t >= DATE '2026-11-21'", [1, 2, 4, 5]),
        ("t BETWEEN '2026-11-20' AND '2026-11-20 23:59:59'", [2, 3, 4, 5]),
        ("CAST(t AS DATE) = DATE '2026-11-20'", [3, 4, 5]),
        ("date_trunc('hour', t) = TIMESTAMP '2026-11-20 23:00:00'", [1, 3, 4, 5]),
        ("year(t) = 2026 AND month(t) = 11 AND day(t) = 20", [3, 4, 5]),
        ("hour(t) = 23", [1, 3, 4]),
        ("extract(year FROM t) = 1969", [1, 2, 3, 4]),
        ("t + INTERVAL 1 DAY >= TIMESTAMP '2026-11-21'", [4, 5]),
        ("z = TIMESTAMPTZ '2026-11-20 00:00:00+00'", [2, 3, 4, 5]),
        ("z >= TIMESTAMPTZ '2026-11-21 00:00:00+00'", [1, 3, 4, 5]),
        ("CAST(z AS DATE) = DATE '2026-11-20'", [2, 4, 5]),
        ("hour(z) = 23", [1, 2, 4, 5]),
        ("d = DATE '2026-11-20'", [2, 3, 4, 5]),
        ("d <= DATE '2026-11-20'", [2, 4]),
        ("d + INTERVAL 1 DAY = TIMESTAMP '2024-03-01'", [1, 2, 3, 4]),
        ("CAST(d AS VARCHAR) = '2024-02-29'", [1, 2, 3, 4]),
        ("strftime(d, '%Y-%m') = '2026-11'", [4, 5]),
        ("quarter(d) = 1 AND dayofyear(d) = 60", [1, 2, 3, 4]),
        ("t >= d", [2, 4, 5]),
        ({"unique": ["d", "t"]}, []),
        ({"freshness": {"column": "t", "within": "1s"}}, False),
        ({"freshness": {"column": "d", "within": "1h"}}, False),
        ({"freshness": {"column": "z", "within": "1h"}}, False),
        ("max(d) - INTERVAL 1 DAY = TIMESTAMP '2026-11-20'", False),
        ("min(t) < TIMESTAMP '1970-01-01'", False),
    ),
    *_cases(
        "truths",
        ("p", [4, 5, 6]),
        ("NOT p", [1, 2, 3, 6]),
        ("p AND q", [2, 3, 4, 5, 6]),
        ("p OR q", [4, 5, 6]),
        ("NOT (p AND q)", [1, 3, 6]),
        ("p IS TRUE", [4, 5, 6]),
        ("p IS NOT FALSE", [4, 5]),
        ("p = q", [2, 3, 5, 6]),
        ("p IS NOT DISTINCT FROM q", [2, 3, 5]),
        ("true", []),
        ("NULL", [1, 2, 3, 4, 5, 6]),
        ("NOT NULL", [1, 2, 3, 4, 5, 6]),
        ({"accepted_values": {"column": "p", "values": [True]}}, [4, 5, 6]),
        ("bool_and(p)", True),
        ("bool_or(p)", False),
        ("avg(NULL) > 0", True),
    ),
    # NULL equals NULL among keys, and NaN equals NaN.
    *_cases(
        "keys",
        ({"unique": "i"}, []),
        ({"unique": "a"}, [1, 2, 4, 5]),
        ({"unique": ["a", "b"]}, [4, 5]),
        ({"unique": "b"}, [1, 3, 4, 5, 6, 7]),
        ({"unique": "f"}, [1, 2, 3, 4, 6, 7]),
        ({"unique": ["a", "b", "f"]}, []),
        ({"not_null": ["a", "b"]}, [4, 5, 6, 7]),
        ("count(*) OVER (PARTITION BY b) > 1", [2, 8]),
        ("row_number() OVER (PARTITION BY a ORDER BY i) = 1", [2, 5]),
        ("sum(b) OVER (PARTITION BY a) > 2", [3, 4, 5, 6, 7]),
        ("b >= lag(b) OVER (ORDER BY i) OR i = 1", [3, 6, 7, 8]),
        ("count(DISTINCT a) = 5", False),
    ),
    *_cases(
        "nested",
        ("array_length(l) > 0", [2, 3]),
        ("list_contains(l, 3)", [1, 2, 3]),
        ("l IS NOT NULL", [3]),
        ("st.a > 0", [2, 3, 4]),
        ("st.b IS NOT NULL", [3, 4]),
        ("st IS NOT NULL", [3]),
        ({"not_null": "l"}, [3]),
    ),
    *_cases(
        "one",
        ("n = 1", []),
        ({"unique": "n"}, []),
        ({"row_count": {"min": 1}}, False),
        ({"row_count": {"min": 0.5, "against": "previous"}}, True),
        ({"freshness": {"column": "t", "within": "12h"}}, False),
        ({"freshness": {"column": "t", "within": "11h"}}, True),
        ("f / n = 0.5", []),
    ),
    *_cases(
        "empty",
        ("n > 0", []),
        ("NULL", []),
        ({"unique": "n"}, []),
        ({"not_null": "s"}, []),
        ({"references": {"column": "s", "table": "dim_text", "to": "id"}}, []),
        ({"row_count": {"min": 1}}, True),
        ({"row_count": {"max": 0}}, False),
        ({"row_count": {"min": 0.5, "against": "previous"}}, True),
        ({"freshness": {"column": "t", "within": "30d"}}, True),
        ("sum(n) > 0", True),
        ("count(*) = 0", False),
        ("max(f) IS NULL", False),
    ),
    *_cases(
        "odd names",
        ('"order" = 2', []),
        ('"a b" > 3', [1]),
        ('"Größe" = 4', []),
        ('"q""q" = 5', []),
        ('"x.y" = 6', []),
        ({"not_null": ["order", "a b", "Größe", 'q"q', "x.y"]}, []),
        ({"not_null": "select"}, [1]),
        ({"unique": ["a b", "Größe"]}, []),
        ({"accepted_values": {"column": 'q"q', "values": [5]}}, []),
    ),
]


def translated(query: str, dialect: str) -> str:
    """Give a query of dsflow's own, which is in the dialect of DuckDB, in another dialect."""
    [tree] = parsed(query, "duckdb", "query")
    return str(tree.sql(dialect, comments=False))
