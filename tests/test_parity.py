"""`dsflow parity`: one job on several targets, compared, with nothing published."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from dsflow.errors import UsageError
from dsflow.parity.apart import kept_apart
from dsflow.parity.targets import TARGETS, targets_of
from dsflow.parity.words import common_type
from dsflow.runtimes.registry import RUNTIMES
from dsflow.store.layout import Layout
from dsflow.workspace import Workspace
from tests.conftest import MakeWorkspace, Screen, Tree, notebook
from tests.test_spark_jobs import WORKSPACE

Dsflow = Callable[..., Screen]
DS = "2026-11-01"
NUMBERS: Tree = {
    "dsflow.yml": WORKSPACE,
    "jobs/numbers/job_specs.yaml": "version: 1\nkind: sql\noutput: {table: numbers}\n",
    "jobs/numbers/query.sql": "SELECT range AS n, range / 7 AS part, 'a' || range AS s FROM range(20)",
}
SPEC = "version: 1\nkind: {}\n{}inputs: {{numbers: {{table: numbers}}}}\noutput: {{table: t{}}}\n"


def reads(text: str, more: str = "", keys: str = "") -> Tree:
    return {**NUMBERS, "jobs/t/job_specs.yaml": SPEC.format("sql", more, keys), "jobs/t/query.sql": text}


def everything(workspace: Workspace) -> set[str]:
    """All files of the datastore with their times, but for what runs leave anyway: locks, and the server's."""
    found = [path for path in workspace.datastore.rglob("*") if path.is_file()]
    left_out = {"locks", "spark", "index"}
    return {
        f"{path.relative_to(workspace.datastore)} {path.stat().st_mtime_ns}"
        for path in found
        if not left_out & set(path.relative_to(workspace.datastore).parts)
    }


def kept(workspace: Workspace) -> list[Path]:
    return list((workspace.datastore / ".dsflow" / "apart").iterdir())


@pytest.mark.spark
@pytest.mark.xdist_group("spark")
@pytest.mark.timeout(300)
@pytest.mark.usefixtures("spark")
def test_the_same_rows_are_the_same_and_nothing_is_published(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    # The sum of the parts is not the same to the last bit where it is added up in another order.
    workspace = make_workspace(
        reads("SELECT n % 3 AS k, sum(part) AS p, max(s) AS s, min(n) AS n FROM numbers GROUP BY 1")
    )
    assert dsflow("run", "+t", DS).exit_code == 0
    before = everything(workspace)
    screen = dsflow("parity", "t", DS)
    assert screen.exit_code == 0, screen.err
    assert [line.split()[0] for line in screen.out.splitlines()[2:4]] == ["process:duckdb", "spark"]
    assert "The same on 2 targets" in screen.out
    assert everything(workspace) == before
    assert kept(workspace) == []
    assert len(list(workspace.datastore.glob("job_runs/t/*/*"))) == 1


@pytest.mark.spark
@pytest.mark.xdist_group("spark")
@pytest.mark.timeout(300)
@pytest.mark.usefixtures("spark")
def test_what_differs_is_shown_and_kept(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    text = "SELECT n, CAST(part AS INT) AS whole, sum(n) OVER () AS total FROM numbers WHERE n < 8"
    workspace = make_workspace(reads(text, keys=", keys: [n]"))
    assert dsflow("run", "numbers", DS).exit_code == 0
    screen = dsflow("parity", "t", DS)
    assert screen.exit_code == 1
    # 4 / 7 is rounded here and cut off there; a sum of whole numbers is no whole number to DuckDB's Parquet.
    assert "~ total float -> integer" in screen.out
    assert "different 3 rows: whole 3" in screen.out
    assert "n=4: whole 1 -> 0" in screen.out
    [look] = kept(workspace)
    assert len(list(look.glob("*/made/tables/t/ds=*/*.parquet"))) == 2
    assert str(look.relative_to(workspace.root)) in screen.out
    assert not (workspace.datastore / "tables" / "t").exists()
    # The next look takes it away.
    document = dsflow("--json", "parity", "t", DS, "--limit", "1").document
    assert not document["same"]
    assert len(document["targets"][1]["difference"]["examples_changed"]) == 1
    assert look not in kept(workspace)


@pytest.mark.spark
@pytest.mark.xdist_group("spark")
@pytest.mark.timeout(300)
@pytest.mark.usefixtures("spark")
def test_a_target_on_which_the_job_fails_says_why(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    make_workspace(
        {
            **NUMBERS,
            "jobs/t/job_specs.yaml": SPEC.format("notebook", "", ""),
            "jobs/t/n.ipynb": notebook("from dsflow import job\njob.write(job.read('numbers').fetchall())"),
        }
    )
    assert dsflow("run", "numbers", DS).exit_code == 0
    screen = dsflow("parity", "t", DS, "--targets", "spark,process:duckdb")
    assert screen.exit_code == 1
    assert "fetchall" in screen.out
    assert "failed" in screen.out
    assert "Traceback" not in screen.err


@pytest.mark.spark
@pytest.mark.xdist_group("spark")
@pytest.mark.timeout(300)
@pytest.mark.usefixtures("spark")
def test_what_is_submitted_makes_what_the_warm_server_makes(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    workspace = make_workspace(
        {
            **NUMBERS,
            "jobs/t/job_specs.yaml": SPEC.format("script", "engine: spark\n", ""),
            "jobs/t/main.py": """
                import sys
                from pyspark.sql import SparkSession
                spark = SparkSession.builder.getOrCreate()
                rows = spark.read.parquet(sys.argv[1]).where("n > 3")
                rows.write.mode("append").parquet(sys.argv[2])
                """,
        }
    )
    assert dsflow("run", "numbers", DS).exit_code == 0
    screen = dsflow("--json", "parity", "t", DS, "--targets", "spark,submit")
    assert screen.exit_code == 0, screen.out + screen.err
    assert [(target["rows"], target["same"]) for target in screen.document["targets"]] == [(16, True), (16, True)]
    assert not (workspace.datastore / "tables" / "t").exists()


@pytest.mark.docker
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("python_image")
def test_a_process_and_a_container_make_the_same(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    workspace = make_workspace(
        {
            **NUMBERS,
            "jobs/t/job_specs.yaml": "version: 1\nkind: script\noutput: {raw: t}\n",
            "jobs/t/main.sh": 'echo "$DSFLOW_DS" > "$DSFLOW_SINK/day.txt"; echo hello',
        }
    )
    screen = dsflow("--json", "parity", "t", DS, "--targets", "process:duckdb,docker:duckdb")
    assert screen.exit_code == 0, screen.err
    assert screen.document["same"]
    path = workspace.jobs / "t" / "main.sh"
    path.write_text('hostname > "$DSFLOW_SINK/host.txt"')
    screen = dsflow("parity", "t", DS, "--targets", "process:duckdb,docker:duckdb")
    assert screen.exit_code == 1
    assert "the file host.txt differs" in screen.out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("t", DS, "--targets", "process:duckdb,flink"), "there is no target 'flink'"),
        (("t", DS, "--targets", "sparc,process:duckdb"), "did you mean 'spark'?"),
        (("t", DS, "--targets", "spark"), "a comparison needs two different targets"),
        (("t", DS, "--targets", "spark,process:spark"), "a comparison needs two different targets"),
        (("t", DS), "is written in the SQL of DuckDB, and would be computed by Spark"),
        (("nothing", DS), "Job does not exist"),
        (("dash",), "dash is a dashboard"),
        (("silent",), "silent has no output"),
        ((), "Usage: dsflow parity JOB [DS]"),
    ],
)
def test_a_mistake_is_told_before_anything_runs(
    make_workspace: MakeWorkspace, dsflow: Dsflow, arguments: tuple[str, ...], told: str
) -> None:
    workspace = make_workspace(
        {
            **reads("SELECT n FROM numbers", "dialect: duckdb\n"),
            "jobs/dash/job_specs.yaml": "version: 1\nkind: dashboard\n",
            "jobs/dash/app.py": "",
            "jobs/silent/job_specs.yaml": "version: 1\nkind: script\n",
            "jobs/silent/main.py": "",
        }
    )
    assert dsflow("run", "numbers", DS).exit_code == 0
    screen = dsflow("parity", *arguments)
    assert screen.exit_code == 2
    assert told in screen.err
    assert not list(workspace.datastore.glob(".dsflow/apart/*/*"))


def test_an_input_that_is_not_there_is_told_before_anything_runs(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    make_workspace(reads("SELECT n FROM numbers"))
    screen = dsflow("parity", "t", DS)
    assert screen.exit_code == 1
    assert "there is no table 'numbers'" in screen.err
    assert "Running" not in screen.err


def test_a_target_that_is_not_there_is_told_before_anything_runs(
    make_workspace: MakeWorkspace, dsflow: Dsflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_workspace(NUMBERS)
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    screen = dsflow("parity", "numbers", DS, "--targets", "process:duckdb,docker:duckdb")
    assert screen.exit_code == 4
    assert "the target docker:duckdb is not available here" in screen.err
    assert "Running" not in screen.err


def test_every_target_is_a_runtime_and_an_engine() -> None:
    assert {runtime for runtime, _ in TARGETS.values()} == set(RUNTIMES)
    assert [target.name for target in targets_of("process:duckdb, submit")] == ["process:duckdb", "submit"]
    with pytest.raises(UsageError, match="no target ''"):
        targets_of("spark,")


def test_a_look_is_swept_by_the_next_one_unless_somebody_is_at_it(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    with kept_apart(layout) as first:
        with kept_apart(layout) as second:
            (second.folder / "x").write_text("")
            second.keep = True
        assert sorted(os.listdir(layout.apart)) == sorted([first.folder.name, second.folder.name])
        with kept_apart(layout):
            assert second.folder.name not in os.listdir(layout.apart)
            assert first.folder.is_dir()
    assert os.listdir(layout.apart) == []


@pytest.mark.parametrize(
    ("type_", "word"),
    [
        ("BIGINT", "integer"),
        ("UTINYINT", "integer"),
        ("HUGEINT", "integer"),
        ("DECIMAL(38,2)", "decimal"),
        ("DECIMAL(10, 0)[]", "decimal[]"),
        ("DOUBLE", "float"),
        ("VARCHAR", "text"),
        ("TIMESTAMP WITH TIME ZONE", "moment"),
        ("TIMESTAMP", "moment"),
        ("TIMESTAMP_NS", "moment"),
        ("DATE", "date"),
        ("TIME", "time"),
        ("STRUCT(a INTEGER, b VARCHAR[])", "STRUCT(a integer, b text[])"),
        ("MAP(VARCHAR, DOUBLE)", "MAP(text, float)"),
        ('STRUCT("DATE" DATE)', 'STRUCT("DATE" date)'),
    ],
)
def test_types_have_common_words(type_: str, word: str) -> None:
    assert common_type(type_) == word
