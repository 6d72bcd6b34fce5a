"""From staged files to a partition of a table: which files it takes, and under which names."""

from __future__ import annotations

import re
from collections.abc import Callable

import duckdb
import pytest

from tests.conftest import MakeWorkspace, Screen, notebook

Dsflow = Callable[..., Screen]
SPEC = "version: 1\nkind: notebook\noutput: {table: t}\n"
PARTITION = "datastore/tables/t/ds=2013-01-01"
START = "import os, pathlib, duckdb\nfrom dsflow import job\nsink = pathlib.Path(os.environ['DSFLOW_SINK'])\n"


@pytest.fixture
def run(
    make_workspace: MakeWorkspace, dsflow: Dsflow, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], tuple[Screen, list[str]]]:
    """Run a notebook with some code; give the screen and the names in its partition."""
    monkeypatch.setenv("DSFLOW_RUNTIME", "process")

    def run(code: str) -> tuple[Screen, list[str]]:
        root = make_workspace({"jobs/t/job_specs.yaml": SPEC, "jobs/t/t.ipynb": notebook(START + code)}).root
        screen = dsflow("run", "t", "2013-01-01")
        partition = root / PARTITION
        return screen, sorted(path.name for path in partition.rglob("*")) if partition.exists() else []

    return run


Run = Callable[[str], tuple[Screen, list[str]]]


def test_own_files_get_their_final_names_beside_those_of_the_api(run: Run) -> None:
    code = """
job.write([{'x': 1}])
for name in ("0.parquet", "z.parquet"):
    duckdb.sql("SELECT 2::BIGINT AS x").write_parquet(str(sink / name))
"""
    screen, names = run(code)
    assert screen.exit_code == 0, screen
    assert len({re.sub(r"-part-\d+\.parquet", "", name) for name in names}) == 1
    assert [name[-14:] for name in names] == ["part-0.parquet", "part-1.parquet", "part-2.parquet"]
    query = f"SELECT x FROM read_parquet('{PARTITION}/*', hive_partitioning=false) ORDER BY x"
    assert duckdb.connect().sql(query).fetchall() == [(1,), (2,), (2,)]


def test_markers_of_other_engines_are_left_out(run: Run) -> None:
    code = """
job.write([{'x': 1}])
for name in ("_SUCCESS", "._SUCCESS.crc", ".part.parquet.crc", "_committed_123"):
    (sink / name).touch()
"""
    screen, names = run(code)
    assert screen.exit_code == 0, screen
    assert len(names) == 1


@pytest.mark.parametrize("name", ["rows.csv", "deeper/rows.parquet"])
def test_what_does_not_belong_into_a_table_is_named(run: Run, name: str) -> None:
    screen, names = run(f"(sink / '{name}').parent.mkdir(parents=True, exist_ok=True)\n(sink / '{name}').touch()")
    assert screen.exit_code == 1
    assert f"the job wrote {name} for table t, and a table is made of Parquet files" in screen.out
    assert names == []


def test_a_link_in_place_of_a_file_is_not_published(run: Run) -> None:
    screen, names = run("(sink / 'x.parquet').symlink_to('/etc/hostname')")
    assert screen.exit_code == 1, screen
    assert "Traceback" not in screen.out
    assert names == []
