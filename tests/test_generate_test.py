"""`dsflow generate-test`: a test from real data, small, stable, without secrets, and one that passes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest
import yaml

from dsflow.workspace import Workspace
from tests.conftest import MakeWorkspace, Screen, notebook

DAY = "2026-11-20"


def parquet(path: Path, query: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    duckdb.execute(f"COPY ({query}) TO '{path}' (FORMAT parquet)")


@pytest.fixture
def workspace(make_workspace: MakeWorkspace) -> Workspace:
    made = make_workspace(
        {
            "jobs/sums/job_specs.yaml": "version: 1\nkind: sql\noutput: {table: sums}\n",
            "jobs/sums/query.sql": """
                SELECT name, sum(rain) AS rain, min(seen) AS seen, count(*) AS n
                FROM rain JOIN stations USING (id)
                GROUP BY name ORDER BY name
            """,
        }
    )
    tables = made.datastore / "tables"
    columns = "range::INTEGER AS id, (range / 10)::DECIMAL(10,2) AS rain, TIMESTAMPTZ '2026-11-20 01:00:00Z' AS seen"
    parquet(tables / "rain" / f"ds={DAY}" / "a.parquet", f"SELECT {columns} FROM range(1000)")
    parquet(
        tables / "stations" / f"ds={DAY}" / "a.parquet",
        "SELECT range::INTEGER AS id, 'S' || range AS name FROM range(500, 900)",
    )
    return made


def written(workspace: Workspace, job: str = "sums", name: str = DAY) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((workspace.jobs / job / "tests" / f"{name}.yaml").read_text("utf-8"))
    return found


def test_a_test_from_real_data_passes_and_its_rows_belong_together(
    workspace: Workspace, dsflow: Callable[..., Screen]
) -> None:
    screen = dsflow("generate-test", "sums", DAY, "--rows", "3")
    assert screen.exit_code == 0, screen.err
    assert f"wrote jobs/sums/tests/{DAY}.yaml" in screen.out
    test = written(workspace)
    assert test["ds"] == DAY
    assert [len(given["rows"]) for given in test["inputs"].values()] == [3, 3]
    ids = [{row["id"] for row in given["rows"]} for given in test["inputs"].values()]
    assert ids[0] == ids[1], "rows that find no other make no test of a join"
    assert len(test["expected"]["rows"]) == 3
    assert test["inputs"]["rain"]["columns"] == {
        "id": "INTEGER",
        "rain": "DECIMAL(10,2)",
        "seen": "TIMESTAMP WITH TIME ZONE",
    }
    assert dsflow("test", "sums").exit_code == 0


def test_the_same_data_gives_the_same_test_whatever_its_files(
    workspace: Workspace, dsflow: Callable[..., Screen]
) -> None:
    assert dsflow("generate-test", "sums", DAY, "--name", "one").exit_code == 0
    folder = workspace.datastore / "tables" / "rain" / f"ds={DAY}"
    duckdb.read_parquet(str(folder / "a.parquet")).order("rain DESC").limit(600).write_parquet(
        str(folder / "b.parquet")
    )
    rest = duckdb.read_parquet(str(folder / "a.parquet")).order("rain").limit(400)
    rest.write_parquet(str(folder / "c.parquet"))
    (folder / "a.parquet").unlink()
    assert dsflow("generate-test", "sums", DAY, "--name", "two").exit_code == 0
    assert written(workspace, name="one") == written(workspace, name="two")


def test_a_test_that_is_there_is_not_replaced(workspace: Workspace, dsflow: Callable[..., Screen]) -> None:
    assert dsflow("generate-test", "sums", DAY).exit_code == 0
    again = dsflow("generate-test", "sums", DAY)
    assert again.exit_code == 2
    assert "is there already" in again.err
    assert "--name" in again.err
    assert dsflow("generate-test", "sums", DAY, "--force").exit_code == 0


def test_secrets_stay_out(
    make_workspace: MakeWorkspace, dsflow: Callable[..., Screen], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DSFLOW_PARAM_API_TOKEN", "hunter2hunter2")
    spec = """
        version: 1
        kind: notebook
        parameters: {api_token: "", city: paris}
        inputs: {rain: {raw: rain, format: csv}}
        output: {table: rain}
    """
    cells = ["from dsflow import job", "job.write(job.read('rain'))"]
    made = make_workspace({"jobs/rain/job_specs.yaml": spec, "jobs/rain/rain.ipynb": notebook(*cells)})
    raw = made.datastore / "raw" / "rain" / f"ds={DAY}" / "rain.csv"
    raw.parent.mkdir(parents=True)
    raw.write_text("city,password,note\nParis,open sesame,\nOrly,12345678,see hunter2hunter2 there\n", "utf-8")
    screen = dsflow("generate-test", "rain", DAY, "-p", "city=orly")
    assert screen.exit_code == 0, screen.err
    text = (made.jobs / "rain" / "tests" / f"{DAY}.yaml").read_text("utf-8")
    assert [secret for secret in ("hunter2", "open sesame", "12345678") if secret in text] == []
    assert written(made, "rain")["parameters"] == {"city": "orly", "api_token": "***"}
    assert {row["note"] for row in written(made, "rain")["inputs"]["rain"]["rows"]} == {None, "see *** there"}
    assert dsflow("test", "rain").exit_code == 0


def test_columns_that_differ_from_run_to_run_are_not_compared(
    workspace: Workspace, dsflow: Callable[..., Screen]
) -> None:
    query = workspace.jobs / "sums" / "query.sql"
    query.write_text("SELECT id, random() AS luck, uuid() AS key FROM rain ORDER BY id\n", "utf-8")
    assert dsflow("generate-test", "sums", DAY).exit_code == 0
    expected = written(workspace)["expected"]
    assert expected["ignore"] == ["luck", "key"]
    assert set(expected["rows"][0]) == {"id"}
    assert dsflow("test", "sums").exit_code == 0


def test_rows_that_were_dropped_are_expected_too(workspace: Workspace, dsflow: Callable[..., Screen]) -> None:
    spec = workspace.jobs / "sums" / "job_specs.yaml"
    spec.write_text(
        "version: 1\nkind: sql\noutput: {table: sums}\n"
        "expectations: [{name: even, constraint: id % 2 = 0, action: drop}]\n",
        "utf-8",
    )
    (workspace.jobs / "sums" / "query.sql").write_text("SELECT id FROM rain\n", "utf-8")
    assert dsflow("generate-test", "sums", DAY, "--rows", "10").exit_code == 0
    expected = written(workspace)["expected"]
    odd = expected["checks"]["even"]
    assert 0 < odd < 10
    assert (len(expected["rows"]), len(expected["quarantine"])) == (10 - odd, odd)
    assert dsflow("test", "sums").exit_code == 0


def test_tables_that_only_the_code_reads_are_known_from_the_run(
    workspace: Workspace, dsflow: Callable[..., Screen]
) -> None:
    job = workspace.jobs / "loner"
    job.mkdir()
    (job / "job_specs.yaml").write_text("version: 1\nkind: script\nmain: s.py\noutput: {table: ids}\n", "utf-8")
    code = "from dsflow import job\njob.write(job.table('ra' + 'in').project('id'))\n"
    (job / "s.py").write_text(code, "utf-8")
    assert dsflow("run", "loner", DAY, "--runtime", "process").exit_code == 0
    assert dsflow("generate-test", "loner", DAY, "--rows", "2").exit_code == 0
    assert list(written(workspace, "loner")["inputs"]) == ["rain"]
    assert dsflow("test", "loner").exit_code == 0


def test_a_window_is_sampled_partition_by_partition(workspace: Workspace, dsflow: Callable[..., Screen]) -> None:
    parquet(workspace.datastore / "tables" / "rain" / "ds=2026-11-19" / "a.parquet", "SELECT 7 AS id, 0.5 AS rain")
    job = workspace.jobs / "weekly"
    job.mkdir()
    spec = "version: 1\nkind: sql\ninputs: {week: {table: rain, window: 7}}\noutput: {table: weekly}\n"
    (job / "job_specs.yaml").write_text(spec, "utf-8")
    (job / "q.sql").write_text("SELECT ds AS day, count(*) AS n FROM week GROUP BY ds\n", "utf-8")
    assert dsflow("generate-test", "weekly", DAY, "--rows", "4").exit_code == 0
    test = written(workspace, "weekly")
    assert {ds: len(rows) for ds, rows in test["inputs"]["week"]["partitions"].items()} == {"2026-11-19": 1, DAY: 2}
    assert dsflow("test", "weekly").exit_code == 0


def test_an_empty_partition_keeps_its_columns(workspace: Workspace, dsflow: Callable[..., Screen]) -> None:
    table = workspace.datastore / "tables" / "stations" / f"ds={DAY}" / "a.parquet"
    parquet(table, "SELECT 1 AS id, 'x' AS name WHERE false")
    assert dsflow("generate-test", "sums", DAY).exit_code == 0
    test = written(workspace)
    assert test["inputs"]["stations"] == {"columns": {"id": "INTEGER", "name": "VARCHAR"}, "rows": []}
    assert test["expected"] == {"rows": []}
    assert dsflow("test", "sums").exit_code == 0


def test_data_that_is_not_there(workspace: Workspace, dsflow: Callable[..., Screen]) -> None:
    screen = dsflow("generate-test", "sums", "2030-01-01")
    assert screen.exit_code == 1
    assert "has no partition ds=2030-01-01" in screen.err
    assert not (workspace.jobs / "sums" / "tests").exists()
