"""What every engine does, whichever it is."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from dsflow.engines.contract import Engine
from dsflow.engines.registry import ENGINES, open_engine
from dsflow.errors import JobFailed
from dsflow.model import Column
from tests.spark_server import MARKS

DS = "2013-01-01"
ROWS = {"x": [1, 2], "s": ["a", None]}


@pytest.fixture(params=[pytest.param(name, marks=MARKS.get(name, [])) for name in ENGINES])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    if request.param == "spark":
        request.getfixturevalue("spark_session_here")
    opened = open_engine(request.param, threads=1)
    yield opened
    opened.close()


def rows_of(table: Any) -> list[tuple[Any, ...]]:
    """Give the rows of an engine's lazy table."""
    return [tuple(row) for row in (table.collect() if hasattr(table, "collect") else table.fetchall())]


@pytest.fixture
def partition(tmp_path: Path) -> Path:
    """A folder whose parents look like partitions and globs, and are none."""
    folder = tmp_path / "a=b [x] *?" / "tables" / "t" / f"ds={DS}"
    folder.mkdir(parents=True)
    return folder


@pytest.mark.parametrize(
    "data",
    [
        pd.DataFrame(ROWS),
        pl.DataFrame(ROWS),
        pl.LazyFrame(ROWS),
        pa.table(ROWS),
        [{"x": 1, "s": "a"}, {"x": 2, "s": None}],
        pd.DataFrame(ROWS | {"ds": [DS, DS]}),
    ],
    ids=["pandas", "polars", "polars-lazy", "arrow", "dicts", "with-ds"],
)
def test_writes_rows_of_every_kind_the_same(engine: Engine, partition: Path, data: object) -> None:
    file = partition / "r-part-0.parquet"
    engine.write(data, file, DS)
    found = engine.inspect([file])
    assert found.rows == (2,)
    assert found.columns == (Column(name="x", type="BIGINT"), Column(name="s", type="VARCHAR"))


def test_writes_its_own_relation_and_gives_it_back(engine: Engine, partition: Path) -> None:
    file = partition / "r-part-0.parquet"
    engine.write(engine.sql("SELECT CAST(1 AS BIGINT) AS x, 'é' AS s"), file, DS)
    assert rows_of(engine.read([file], "parquet", with_ds=True, options={})) == [(1, "é", DS)]


def test_no_rows_keep_their_columns(engine: Engine, partition: Path) -> None:
    file = partition / "r-part-0.parquet"
    engine.write(pd.DataFrame({"x": pd.Series([], dtype="int64")}), file, DS)
    assert engine.inspect([file]).rows == (0,)
    assert engine.inspect([file]).columns == (Column(name="x", type="BIGINT"),)


def test_another_ds_in_the_data_is_refused(engine: Engine, partition: Path) -> None:
    with pytest.raises(JobFailed, match="ds with the value '2013-01-02', but this run writes ds=2013-01-01"):
        engine.write([{"x": 1, "ds": "2013-01-02"}], partition / "r-part-0.parquet", DS)


@pytest.mark.parametrize("data", [3, object(), "text", [1, 2], {}])
def test_data_of_no_known_kind_is_refused(engine: Engine, partition: Path, data: object) -> None:
    with pytest.raises(JobFailed, match="cannot write|no columns"):
        engine.write(data, partition / "r-part-0.parquet", DS)


def test_files_that_differ_are_refused(engine: Engine, partition: Path) -> None:
    files = [partition / "r-part-0.parquet", partition / "r-part-1.parquet"]
    engine.write([{"x": 1}], files[0], DS)
    engine.write([{"x": "one"}], files[1], DS)
    with pytest.raises(JobFailed, match=r"r-part-1.parquet has other columns than r-part-0.parquet"):
        engine.inspect(files)


def test_a_file_that_is_no_parquet_is_named(engine: Engine, partition: Path) -> None:
    (partition / "x.parquet").write_bytes(b"not parquet at all")
    with pytest.raises(JobFailed, match=r"x\.parquet"):
        engine.inspect([partition / "x.parquet"])


@pytest.mark.parametrize(
    ("name", "text", "format", "options"),
    [
        ("a.csv", "x,s\n1,a\n2,b\n", "csv", {}),
        ("a.csv", "x;s\n1;a\n2;b\n", "csv", {"delim": ";"}),
        ("a [1]*.json", '{"x": 1, "s": "a"}\n{"x": 2, "s": "b"}\n', "json", {}),
        ("a.json", '[{"x": 1, "s": "a"}, {"x": 2, "s": "b"}]', "json", {}),
    ],
)
def test_reads_files(
    engine: Engine, partition: Path, name: str, text: str, format: str, options: dict[str, str]
) -> None:
    (partition / name).write_text(text)
    rows = engine.read([partition / name], format, with_ds=False, options=options)
    assert rows_of(rows) == [(1, "a"), (2, "b")]


def test_a_ds_is_a_string_for_every_reader(engine: Engine, tmp_path: Path) -> None:
    files = []
    for ds in ("2013-01-01", "2013-01-02"):
        folder = tmp_path / f"ds={ds}"
        folder.mkdir()
        files.append(folder / "r-part-0.parquet")
        engine.write([{"x": 1}], files[-1], ds)
    rows = engine.read(files, "parquet", with_ds=True, options={})
    assert sorted(rows_of(rows)) == [(1, "2013-01-01"), (1, "2013-01-02")]


def test_files_that_are_alike_are_read_by_the_columns_of_one(engine: Engine, tmp_path: Path) -> None:
    files = []
    for number, ds in enumerate(("2013-01-01", "2013-01-02", "2013-01-03"), 1):
        files.append(tmp_path / f"ds={ds}" / "r-part-0.parquet")
        files[-1].parent.mkdir()
        engine.write([{"x": number, "s": None}, {"x": number, "s": "é"}], files[-1], ds)
    found = [
        sorted(rows_of(engine.read(files, "parquet", with_ds=True, options={}, alike=alike)), key=str)
        for alike in (False, True)
    ]
    assert found[0] == found[1]
    assert sorted({row[-1] for row in found[0]}) == ["2013-01-01", "2013-01-02", "2013-01-03"]


def test_its_own_rows_with_another_ds_are_refused(engine: Engine, partition: Path) -> None:
    rows = engine.sql("SELECT 1 AS x, '2013-01-01' AS ds UNION ALL SELECT 2, '2013-01-02'")
    with pytest.raises(JobFailed, match="ds with the value '2013-01-02', but this run writes ds=2013-01-01"):
        engine.write(rows, partition / "r-part-0.parquet", DS)


def test_its_own_rows_may_name_their_ds(engine: Engine, partition: Path) -> None:
    file = partition / "r-part-0.parquet"
    engine.write(engine.sql("SELECT CAST(1 AS BIGINT) AS x, CAST('2013-01-01' AS DATE) AS DS"), file, DS)
    assert engine.inspect([file]).columns == (Column(name="x", type="BIGINT"),)


def test_views_are_found_by_name_and_raw_datasets_in_their_schema(engine: Engine, partition: Path) -> None:
    file = partition / "r-part-0.parquet"
    engine.write([{"x": 1}], file, DS)
    engine.view("t", engine.read([file], "parquet", with_ds=True, options={}))
    engine.view("raw.t", engine.sql("SELECT 2 AS x"))
    found = engine.sql("SELECT t.x AS a, raw.x AS b, t.ds FROM t CROSS JOIN raw.t AS raw")
    assert rows_of(found) == [(1, 2, DS)]


def test_a_wrong_query_names_the_line(engine: Engine) -> None:
    with pytest.raises(JobFailed) as caught:
        engine.sql("SELECT 1\nFROMM x y z")
    assert caught.value.place == "line 2"
    assert caught.value.source == "FROMM x y z"


def test_a_question_is_answered_from_the_files_and_moments_are_in_utc(engine: Engine, partition: Path) -> None:
    file, other = partition / "r-part-0.parquet", partition / "r-part-1.parquet"
    # One o'clock two hours east of Greenwich is still the day before there.
    moment = dt.datetime(2013, 1, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=2)))
    engine.write([{"x": 1, "at": moment}], file, DS)
    engine.write([{"y": 2}], other, DS)
    query = 'SELECT count(*), CAST(max("at") AS DATE) = DATE \'2012-12-31\', (SELECT max("y") FROM "b") FROM "a"'
    assert [tuple(row) for row in engine.ask(query, {"a": [file], "b": [other]})] == [(1, True, 2)]


def test_rows_are_extracted_with_their_types(engine: Engine, partition: Path) -> None:
    file, sink = partition / "r-part-0.parquet", partition / "kept.parquet"
    engine.write(pa.table({"x": [1, -1], "s": ["é", None]}), file, DS)
    engine.extract('SELECT * FROM "a" WHERE "x" > 0', {"a": [file]}, sink)
    assert engine.inspect([sink]).rows == (1,)
    assert engine.inspect([sink]).columns == engine.inspect([file]).columns


def test_a_question_that_cannot_be_computed_is_a_failure_of_the_job(engine: Engine, partition: Path) -> None:
    file = partition / "r-part-0.parquet"
    engine.write([{"s": "a"}], file, DS)
    with pytest.raises(JobFailed):
        engine.ask('SELECT CAST("s" AS INTEGER) FROM "a"', {"a": [file]})
    assert [tuple(row) for row in engine.ask('SELECT count(*) FROM "a"', {"a": [file]})] == [(1,)]


def test_a_question_sees_nothing_of_the_session(engine: Engine, partition: Path) -> None:
    file = partition / "r-part-0.parquet"
    engine.write([{"s": "a"}], file, DS)
    engine.view("secret", engine.sql("SELECT 1 AS x"))
    with pytest.raises(JobFailed):
        engine.ask('SELECT * FROM "secret"', {"a": [file]})
