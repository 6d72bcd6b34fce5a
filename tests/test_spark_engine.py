"""What the engine `spark` does beyond the contract of all engines (`tests/contracts/test_engines.py`)."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from dsflow.engines.spark import Spark, open_engine
from dsflow.errors import Interrupted, JobFailed
from dsflow.model import Column
from dsflow.queries import quoted_raw

pytestmark = [pytest.mark.spark, pytest.mark.xdist_group("spark")]
DS = "2013-01-01"


@pytest.fixture
def engine(spark_session_here: None) -> Iterator[Spark]:
    opened = open_engine()
    yield opened
    opened.close()


def test_large_results_are_written_in_parallel_into_files_side_by_side(engine: Spark, tmp_path: Path) -> None:
    engine.write(engine.session.range(100, numPartitions=3), tmp_path / "r-part-0.parquet", DS)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["r-part-0.1.parquet", "r-part-0.2.parquet", "r-part-0.parquet"]
    assert sum(engine.inspect(sorted(tmp_path.iterdir())).rows) == 100


def test_moments_of_other_engines_are_read_and_written_as_everybody_understands(engine: Spark, tmp_path: Path) -> None:
    given, made = tmp_path / "given.parquet", tmp_path / "made.parquet"
    moment = pd.Timestamp("2013-01-01 12:34:56.123456")
    engine.write(
        pd.DataFrame({"a": pd.Series([moment], dtype="datetime64[ns]"), "b": [moment.tz_localize("UTC")]}), given, DS
    )
    rows = engine.read([given], "parquet", with_ds=False, options={})
    engine.write(rows.selectExpr("a", "b", "current_timestamp() AS c"), made, DS)
    assert engine.inspect([made]).columns == (
        Column(name="a", type="TIMESTAMP"),
        Column(name="b", type="TIMESTAMP WITH TIME ZONE"),
        Column(name="c", type="TIMESTAMP WITH TIME ZONE"),
    )
    assert engine.inspect([made], 1).first[0][:2] == ("2013-01-01 12:34:56.123456", "2013-01-01 12:34:56.123456+00:00")


def test_records_of_several_lines_and_packed_files_are_read_too(engine: Spark, tmp_path: Path) -> None:
    (tmp_path / "pretty.json").write_text('{\n  "x": 1,\n  "a": "é"\n}\n')
    (tmp_path / "lines.json.gz").write_bytes(gzip.compress('{"x": 1, "a": "é"}\n'.encode()))
    for path in tmp_path.iterdir():
        rows = engine.read([path], "json", with_ds=False, options={})
        assert rows.columns == ["x", "a"]
        assert [tuple(row) for row in rows.collect()] == [(1, "é")]


def test_text_is_a_row_per_file(engine: Spark, tmp_path: Path) -> None:
    (tmp_path / "a b.txt").write_text("one\ntwo\n")
    [row] = engine.read([tmp_path / "a b.txt"], "text", with_ds=False, options={}).collect()
    assert (row.content, row.size) == ("one\ntwo\n", 8)
    assert row.filename.endswith("b.txt")


def test_a_broken_row_of_a_csv_ends_the_job(engine: Spark, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x,y\n1,2\n3,4,5,6\n")
    rows = engine.read([tmp_path / "a.csv"], "csv", with_ds=False, options={})
    with pytest.raises(JobFailed, match="Malformed CSV record: 3,4,5,6"):
        engine.write(rows, tmp_path / "made.parquet", DS)
    rows = engine.read([tmp_path / "a.csv"], "csv", with_ds=False, options={"mode": "DROPMALFORMED"})
    assert [tuple(row) for row in rows.collect()] == [(1, 2)]


def test_a_division_by_zero_is_one_sentence(engine: Spark, tmp_path: Path) -> None:
    with pytest.raises(JobFailed) as caught:
        engine.write(engine.sql("SELECT id / (id - 1) AS x FROM range(3)"), tmp_path / "made.parquet", DS)
    assert caught.value.message.startswith("computing the rows to write: Division by zero.")
    assert "at org." not in caught.value.message


def test_a_function_in_python_that_fails_says_what_it_raised(engine: Spark, tmp_path: Path) -> None:
    from pyspark.sql import functions as f

    numbers, wrong = engine.session.range(1), f.udf(lambda x: {}[x], "long")
    with pytest.raises(JobFailed, match="a function in Python failed: KeyError: 0"):
        engine.write(numbers.select(wrong("id").alias("x")), tmp_path / "made.parquet", DS)


def test_moments_that_spark_cannot_read_are_named(engine: Spark, tmp_path: Path) -> None:
    import duckdb

    duckdb.execute(f"COPY (SELECT TIMESTAMP_NS '2013-01-01 00:00:00' AS a) TO '{tmp_path}/a.parquet'")
    with pytest.raises(JobFailed, match=r"a.parquet: it holds moments in nanoseconds") as caught:
        engine.read([tmp_path / "a.parquet"], "parquet", with_ds=False, options={})
    assert "Cast them to TIMESTAMP" in caught.value.hint


def test_what_another_thread_computes_can_be_ended(engine: Spark) -> None:
    import threading

    from dsflow.engines.spark import _explained

    # At whatever moment: Spark lets go of the cores also where it was still planning.
    for delay in (1.0, 0.05, 0.02):
        rows = engine.session.range(10**13).selectExpr("sum(id % 7)")
        timer = threading.Timer(delay, engine.interrupt)
        timer.start()
        with pytest.raises(Interrupted), _explained("computing"):
            rows.collect()
        timer.join()
    assert engine.session.range(10).selectExpr("sum(id)").collect()[0][0] == 45


@pytest.mark.parametrize(
    ("query", "made"),
    [
        ("SELECT raw.x FROM t AS raw", "SELECT raw.x FROM t AS raw"),
        ("SELECT * FROM raw.a JOIN RAW.b_c USING (x)", "SELECT * FROM `raw.a` JOIN `raw.b_c` USING (x)"),
        (
            "WITH q AS (SELECT 1 FROM `raw`.`a b`) SELECT * FROM q",
            "WITH q AS (SELECT 1 FROM `raw.a b`) SELECT * FROM q",
        ),
        ("SELECT 'from raw.a' -- raw.b", "SELECT 'from raw.a' -- raw.b"),
        ("SELECT FROM WHERE raw.", "SELECT FROM WHERE raw."),
    ],
)
def test_a_raw_dataset_is_one_name_in_a_query(query: str, made: str) -> None:
    assert quoted_raw(query, "spark") == made
