"""What a `DDataflow` asks of every engine: the same cases on each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from dsflow.sampling.choice import tables_of
from dsflow.sampling.contract import Tables
from tests.spark_server import MARKS


@pytest.fixture(params=["duckdb", pytest.param("spark", marks=MARKS["spark"])])
def tables(request: pytest.FixtureRequest) -> Iterator[Tables]:
    if request.param == "spark":
        request.getfixturevalue("spark_session_here")
    opened = tables_of(request.param)
    yield opened
    if request.param == "spark":
        opened.session.stop()
    else:
        opened.session.close()


def values(rows: Any) -> list[tuple[Any, ...]]:
    return sorted(tuple(row) for row in (rows.collect() if hasattr(rows, "collect") else rows.fetchall()))


def two(tables: Tables) -> Any:
    return tables.session.sql("SELECT 1 AS x, 'a' AS s UNION ALL SELECT 2 AS x, NULL AS s")


def test_rows_are_counted_filtered_and_limited(tables: Tables) -> None:
    rows = two(tables)
    assert list(rows.columns) == ["x", "s"]
    assert (tables.count(rows), tables.count(rows.filter("x > 1")), tables.count(rows.limit(1))) == (2, 1, 1)


def test_a_view_is_a_table_until_the_next_one_of_its_name(tables: Tables) -> None:
    tables.view("proj_t", two(tables))
    assert tables.count(tables.table("proj_t")) == 2
    tables.view("proj_t", two(tables).filter("x = 1"))
    assert values(tables.session.sql("SELECT * FROM proj_t")) == [(1, "a")]


@pytest.mark.parametrize("whole", [True, False])
def test_what_is_written_is_read_again(tables: Tables, tmp_path: Path, whole: bool) -> None:
    folder = tmp_path / "a=b [x] *?" / "_mnt_foo"
    folder.parent.mkdir()
    tables.write(two(tables).filter("x = 1"), str(folder), whole=whole)
    assert values(tables.parquet(str(folder))) == [(1, "a")]


@pytest.mark.parametrize("condition", ["x > 0", "x > 9"])
def test_a_whole_is_one_file_with_its_columns(tables: Tables, tmp_path: Path, condition: str) -> None:
    tables.write(two(tables).filter(condition), str(tmp_path / "t"), whole=True)
    [file] = (tmp_path / "t").glob("*.parquet")
    found = duckdb.read_parquet(str(file))
    assert found.columns == ["x", "s"]
    assert len(found.fetchall()) == (2 if condition == "x > 0" else 0)


def test_what_is_there_is_replaced(tables: Tables, tmp_path: Path) -> None:
    for count in (2, 1):
        tables.write(two(tables).limit(count), str(tmp_path / "t"), whole=True)
        assert tables.count(tables.parquet(str(tmp_path / "t"))) == count


def test_pandas_is_written_too(tables: Tables, tmp_path: Path) -> None:
    import pandas as pd

    tables.write(pd.DataFrame({"x": [1, 2]}), str(tmp_path / "t"), whole=True)
    assert values(tables.parquet(str(tmp_path / "t"))) == [(1,), (2,)]


def test_folders_that_name_columns_are_read_as_such(tables: Tables, tmp_path: Path) -> None:
    for country in ("de", "fr"):
        folder = tmp_path / "lake=1" / "t" / f"country={country}"
        folder.mkdir(parents=True)
        duckdb.values(1).project("col0 AS x").write_parquet(str(folder / "a.parquet"))
    (folder / "_SUCCESS").touch()
    (folder / ".hidden.parquet").touch()
    rows = tables.parquet(str(tmp_path / "lake=1" / "t"))
    assert list(rows.columns) == ["x", "country"]
    assert values(rows) == [(1, "de"), (1, "fr")]


def test_a_pattern_stands_for_several_folders(tables: Tables, tmp_path: Path) -> None:
    for name in ("a", "b"):
        tables.write(two(tables), str(tmp_path / name / "t"), whole=True)
    assert tables.count(tables.parquet(f"{tmp_path}/*/t/*.parquet")) == 4


def test_nothing_to_read_is_an_error(tables: Tables, tmp_path: Path) -> None:
    with pytest.raises(Exception, match=r"no Parquet files|does not exist"):
        values(tables.parquet(str(tmp_path / "nothing")))
    with pytest.raises(Exception, match=r"nothing"):
        values(tables.table("nothing"))


def test_tables_are_looked_up_in_the_database_in_use(tables: Tables) -> None:
    tables.use_database("ddataflow_one")
    tables.use_database("ddataflow_one")
    [row] = values(tables.session.sql("SELECT current_schema()"))
    assert row == ("ddataflow_one",)
