"""Which rows belong to a sample."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsflow.engines.contract import Engine
from dsflow.engines.registry import open_engine
from dsflow.sampling.drawing import Rule, select, values_of
from dsflow.sampling.estimate import of_files, share_met, spread
from dsflow.sampling.keys import chosen, threshold
from dsflow.sampling.limits import OverLimit, check_limit
from dsflow.spark import server
from tests.spark_server import MARKS


@pytest.fixture
def engine() -> Iterator[Engine]:
    session = open_engine("duckdb")
    yield session
    session.close()


def rows(engine: Engine, rule: Rule) -> list[tuple[Any, ...]]:
    return list(engine.sql(f"SELECT * FROM ({select(rule)}) ORDER BY ALL").fetchall())


def people(engine: Engine, count: int = 10_000) -> None:
    """10,000 people, of whom one in a hundred lives in Malta; 1,000 families."""
    engine.view(
        "source",
        engine.sql(
            f"SELECT i AS id, i % 1000 AS family, if(i % 100 = 0, 'mt', 'fr') AS country FROM range({count}) t(i)"
        ),
    )


def as_every_engine_must(key: Sequence[Any], share: float, seed: int) -> bool:
    text = "|".join([str(seed), *map(str, key)])
    return hashlib.md5(text.encode()).hexdigest() < threshold(share)


values = st.one_of(st.integers(-(2**63), 2**63 - 1), st.text(st.characters(codec="utf-8", exclude_characters="\x00")))


@given(keys=st.lists(values, min_size=1, max_size=30), share=st.floats(0, 0.999), seed=st.integers(0, 2**31))
@settings(max_examples=60, deadline=None)
def test_the_text_of_a_key_decides_and_nothing_else(keys: list[Any], share: float, seed: int) -> None:
    session = open_engine("duckdb", threads=1)
    for kind in (int, str):
        own = [key for key in keys if isinstance(key, kind)]
        session.view("source", session.sql(f"SELECT unnest({literal(own, kind)}) AS k"))
        found = session.sql(f"SELECT k FROM source WHERE {chosen(['k'], share, seed)}").fetchall()
        assert [key for (key,) in found] == [key for key in own if as_every_engine_must([key], share, seed)]
    session.close()


def literal(keys: Sequence[Any], kind: type) -> str:
    texts = ["'" + str(key).replace("'", "''") + "'" if kind is str else f"'{key}'::BIGINT" for key in keys]
    return f"[{', '.join(texts)}]::{'VARCHAR' if kind is str else 'BIGINT'}[]"


def test_a_share_of_the_keys_is_about_that_share_and_a_larger_one_holds_it(engine: Engine) -> None:
    people(engine)
    kept = {share: {key for (key, *_) in rows(engine, Rule(key=("id",), share=share))} for share in (0.01, 0.1, 0.5)}
    assert [len(keys) / 10_000 for keys in kept.values()] == pytest.approx([0.01, 0.1, 0.5], rel=0.2)
    assert kept[0.01] < kept[0.1] < kept[0.5]


def test_all_rows_of_a_chosen_key_are_kept(engine: Engine) -> None:
    people(engine)
    families = [family for (_, family, _) in rows(engine, Rule(key=("family",), share=0.05))]
    assert 30 <= len(set(families)) <= 70
    assert {families.count(family) for family in families} == {10}


def test_another_seed_chooses_other_keys(engine: Engine) -> None:
    people(engine)
    one, other = (set(rows(engine, Rule(key=("id",), share=0.1, seed=seed))) for seed in (0, 1))
    assert len(one & other) < 0.2 * len(one)


def test_what_refers_to_nothing_is_in_no_sample(engine: Engine) -> None:
    engine.view("source", engine.sql("SELECT unnest([1, NULL, 3]) AS k"))
    assert rows(engine, Rule(key=("k",), share=1.0)) == [(1,), (3,)]


def test_a_number_of_rows(engine: Engine) -> None:
    people(engine)
    drawn = rows(engine, Rule(rows=100))
    assert len(drawn) == 100
    assert drawn == rows(engine, Rule(rows=100)), "the same rows every time"
    assert drawn != rows(engine, Rule(rows=100, seed=1))
    assert len({family for (_, family, _) in drawn}) > 80, "from everywhere, not from the beginning"


def test_a_share_of_the_rows(engine: Engine) -> None:
    people(engine)
    assert 800 < len(rows(engine, Rule(share=0.1))) < 1200


def test_the_filter_comes_first_and_the_sample_is_drawn_from_what_is_left(engine: Engine) -> None:
    people(engine)
    drawn = rows(engine, Rule(filter="country = 'mt' -- where the sun is", rows=50))
    assert len(drawn) == 50
    assert {country for (*_, country) in drawn} == {"mt"}


@pytest.mark.parametrize("rule", [Rule(share=0.01, stratify="country"), Rule(rows=100, stratify="country")])
def test_a_stratified_sample_keeps_the_proportions_and_loses_no_value(engine: Engine, rule: Rule) -> None:
    people(engine)
    countries = [country for (*_, country) in rows(engine, rule)]
    assert countries.count("mt") == 1
    assert 98 <= countries.count("fr") <= 100


def test_rows_follow_the_sample_of_another_table_over_several_columns(engine: Engine) -> None:
    engine.sql("CREATE TABLE orders AS SELECT 1 AS shop, 7 AS number UNION ALL SELECT 2, 8")
    engine.sql(f'CREATE TABLE "values of orders" AS {values_of(["shop", "number"], "orders")}')
    items = "(1, 7, 'a'), (1, 8, 'b'), (2, 8, 'c'), (NULL, 8, 'd')"
    engine.view("source", engine.sql(f"FROM (VALUES {items}) t(s, n, what)"))
    kept = rows(engine, Rule(key=("s", "n"), of=("values of orders",)))
    assert kept == [(1, 7, "a"), (2, 8, "c")]


@pytest.mark.parametrize("kind", [pytest.param("spark", marks=MARKS["spark"])])
def test_spark_and_duckdb_choose_the_same_keys(engine: Engine, spark: server.Server, kind: str) -> None:
    """Numbers of any width, texts, dates and several columns together."""
    query = """
        SELECT id, CAST(id AS SMALLINT) AS small, CONCAT('k', id, CASE WHEN id % 7 = 0 THEN 'é|' ELSE '' END) AS text,
        DATE '2026-01-01' + CAST(id % 365 AS INT) AS day FROM numbers
    """
    other = open_engine(kind)
    try:
        engine.view("numbers", engine.sql("SELECT i AS id FROM range(3000) t(i)"))
        other.view("numbers", other.sql("SELECT id FROM range(3000)"))
        for key in (["id"], ["small"], ["text"], ["day"], ["id", "text", "day"]):
            here = engine.sql(f"SELECT id FROM ({query}) WHERE {chosen(key, 0.1, 42)} ORDER BY id").fetchall()
            there = other.sql(f"SELECT id FROM ({query}) WHERE {chosen(key, 0.1, 42, 'spark')} ORDER BY id").collect()
            assert [row[0] for row in there] == [row[0] for row in here]
            assert 0 < len(here) < 600
        narrow = engine.sql(f"SELECT id FROM ({query}) WHERE {chosen(['small'], 0.1, 42)} ORDER BY id").fetchall()
        assert narrow == engine.sql(f"SELECT id FROM numbers WHERE {chosen(['id'], 0.1, 42)} ORDER BY id").fetchall()
    finally:
        other.close()


def test_what_is_too_large_is_refused_by_name() -> None:
    check_limit("orders", 999, 1000)
    check_limit("orders", None, 1000)
    with pytest.raises(OverLimit, match=r"the sample of orders would have about 2\.0 GB, and its limit is 1\.0 GB"):
        check_limit("orders", 2 * 10**9, 10**9)


def test_sizes_come_from_footers_and_of_many_files_from_some(engine: Engine, tmp_path: Path) -> None:
    files = [tmp_path / f"{number:02d}.parquet" for number in range(40)]
    for file in files:
        engine.write(engine.sql("SELECT i, hash(i) AS h FROM range(5000) t(i)"), file, "")
    known = of_files(files)
    assert known.rows == 200_000
    assert known.bytes == sum(file.stat().st_size for file in files)
    assert known.how == "footers of 16 of 40 files"
    assert 0 < known.read < 0.02 * known.bytes


def test_some_of_many_things_are_spread_evenly() -> None:
    assert list(spread(range(101), 3)) == [0, 50, 100]
    assert list(spread(range(2), 3)) == [0, 1]


def test_how_many_things_are_met_when_some_are_drawn() -> None:
    assert share_met(0, 10) == 0
    assert share_met(20_000, 10_000) == pytest.approx(0.865, abs=0.001)
