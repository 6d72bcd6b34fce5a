"""Which tables a query reads."""

from __future__ import annotations

import pytest

from dsflow.errors import UsageError
from dsflow.queries import sources_of


@pytest.mark.parametrize(
    ("sql", "sources"),
    [
        ("SELECT * FROM a JOIN b USING (x)", {"a", "b"}),
        ("FROM a SELECT x", {"a"}),
        ("SELECT * FROM raw.meteo", {"raw.meteo"}),
        ('SELECT * FROM "my table", T, t', {"my table", "T"}),
        ("WITH c AS (SELECT * FROM a) SELECT * FROM c JOIN b USING (x)", {"a", "b"}),
        ("WITH a AS (SELECT * FROM a) SELECT * FROM a", {"a"}),
        ("WITH c AS (SELECT 1), d AS (SELECT * FROM c, e) SELECT * FROM d", {"e"}),
        ("WITH RECURSIVE c AS (SELECT 1 UNION ALL SELECT * FROM c) SELECT * FROM c", set()),
        ("SELECT * FROM (WITH c AS (SELECT 1) SELECT * FROM c), c", {"c"}),
        ("SELECT (SELECT max(x) FROM a) FROM b WHERE EXISTS (SELECT 1 FROM c)", {"a", "b", "c"}),
        ("SELECT * FROM a UNION ALL SELECT * FROM b", {"a", "b"}),
        ("CREATE TEMP TABLE q AS SELECT * FROM a; SELECT * FROM q", {"a"}),
        ("SELECT * FROM read_csv('x.csv'), range(3), 'y.parquet', unnest([1])", set()),
        ("SELECT * FROM information_schema.tables", set()),
        ("SELECT 1", set()),
        ("", set()),
    ],
)
def test_sources_are_what_the_query_does_not_define_itself(sql: str, sources: set[str]) -> None:
    assert set(sources_of(sql, "duckdb")) == sources


@pytest.mark.parametrize(
    ("sql", "sentence"),
    [
        ("SELECT a b c\nFROM x", "q.sql: line 1, column 12: not valid SQL near 'c'"),
        ("\n\nSELECT FROM WHERE", "q.sql: line 3, column 17: not valid SQL near 'WHERE'"),
        ("SELECT 'a", "q.sql: not valid SQL: a quote or a comment is not closed"),
        ("SELECT " + "(" * 2000, "q.sql: nested too deeply for SQL"),
    ],
)
def test_a_mistake_is_a_sentence_with_its_place(sql: str, sentence: str) -> None:
    with pytest.raises(UsageError) as caught:
        sources_of(sql, "duckdb", "q.sql")
    assert caught.value.message == sentence
