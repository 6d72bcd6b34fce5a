"""`DDataflow` in a workspace: in jobs, in sampled runs, and from the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dsflow.errors import UsageError
from dsflow.sampling import DDataflow
from dsflow.workspace import Workspace
from tests.conftest import MakeWorkspace, Screen, Tree, notebook
from tests.spark_server import MARKS, SETTINGS

Dsflow = Callable[..., Screen]
DS = "2026-11-01"
# What the writer writes is what must never be there when samples are asked for.
SOURCES = """
    from pathlib import Path
    from dsflow.sampling import DDataflow

    def publish(rows, name, session):
        (Path(__file__).parent / "production").write_text(name)

    ddataflow_client = DDataflow(
        "proj",
        {"orders": {"filter": lambda rows: rows.filter("x < 3")}},
        {"report": {"writer": publish}},
    )
    """
MAIN = """
    import sys
    from dsflow import job
    from dsflow.sampling import DDataflow

    project = DDataflow.current_project()
    project.print_status()
    rows = project.source("orders")
    print("rows", len(rows.collect() if hasattr(rows, "collect") else rows.fetchall()))
    project.write(rows, "report")
    """
SPEC = "version: 1\nkind: {kind}\nengine: {engine}\n"


READS = "inputs: {orders: {table: orders}}\n"


def tree(engine: str) -> Tree:
    spark = "".join(f"    {name}: {json.dumps(value)}\n" for name, value in SETTINGS.items())
    return {
        "dsflow.yml": f"version: 1\nruntime: process\nspark:\n  memory: 1g\n  archive: false\n  settings:\n{spark}",
        "jobs/orders/job_specs.yaml": "version: 1\nkind: sql\nengine: duckdb\noutput: {table: orders}\n",
        "jobs/orders/query.sql": "SELECT range AS x FROM range(10)",
        "dsflow_sources.py": SOURCES,
        "jobs/report/job_specs.yaml": SPEC.format(kind="notebook", engine=engine) + READS,
        "jobs/report/main.ipynb": notebook(MAIN),
    }


@pytest.fixture(params=["duckdb", pytest.param("spark", marks=MARKS["spark"])])
def workspace(request: pytest.FixtureRequest, make_workspace: MakeWorkspace, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A workspace with ten orders, and a job that reads them through the object."""
    if request.param == "spark":
        request.getfixturevalue("spark")
    monkeypatch.setenv("DSFLOW_RUNTIME", "process")
    return make_workspace(tree(request.param))


def parquet(folder: Path) -> list[str]:
    return sorted({str(path.parent.relative_to(folder)) for path in folder.rglob("*.parquet")})


def test_a_job_reads_production_until_it_is_told_otherwise(
    workspace: Workspace, dsflow: Dsflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert dsflow("run", "orders", DS).exit_code == 0
    screen = dsflow("run", "report", DS, "--json")
    assert screen.exit_code == 0, screen
    assert "DDataflow is DISABLED" in screen.err
    assert "rows 10" in screen.err
    assert (workspace.root / "production").read_text() == "report"
    # A source of the object is an input of the run like any other.
    assert [entry["target"] for entry in screen.document["runs"][0]["outcome"]["inputs"]] == ["orders"]

    (workspace.root / "production").unlink()
    monkeypatch.setenv("ENABLE_DDATAFLOW", "true")
    screen = dsflow("run", "report", DS)
    assert screen.exit_code == 0, screen
    assert "ENABLE_DDATAFLOW is set: samples are read, as with --sample" in screen.err
    assert "rows 3" in screen.out
    assert not (workspace.root / "production").exists()
    samples = workspace.datastore / "sample" / "ddataflow"
    assert parquet(samples) == ["snapshot/proj/report"]

    monkeypatch.setenv("ENABLE_OFFLINE_MODE", "true")
    screen = dsflow("run", "report", DS)
    assert screen.exit_code == 1
    assert f"there is no local copy of orders at {samples}/local/proj/orders" in screen.out
    assert "dsflow ddataflow current_project sample_and_download" in screen.out


DECLARED = """version: 1
runtime: process
sources: {orders: {sample: {rows: 5}}}
"""
DISABLES = "from dsflow.sampling import DDataflow\nDDataflow.current_project().disable()"


@pytest.mark.parametrize("runtime", ["process", pytest.param("docker", marks=pytest.mark.docker)])
def test_a_sampled_run_writes_nothing_but_samples(
    make_workspace: MakeWorkspace, dsflow: Dsflow, request: pytest.FixtureRequest, runtime: str
) -> None:
    if runtime == "docker":
        request.getfixturevalue("python_image")
    more: Tree = {
        "dsflow.yml": DECLARED,
        "jobs/stubborn/job_specs.yaml": SPEC.format(kind="notebook", engine="duckdb") + READS,
        "jobs/stubborn/main.ipynb": notebook(DISABLES),
    }
    workspace = make_workspace({**tree("duckdb"), **more})
    assert dsflow("run", "orders", DS, "--runtime", "process").exit_code == 0
    before = everything(workspace.root)
    screen = dsflow("run", "report", DS, "--sample", "--runtime", runtime)
    assert screen.exit_code == 0, screen
    assert "DDataflow is ONLINE" in screen.out
    samples = workspace.datastore / "sample"
    assert parquet(samples / "ddataflow") == ["snapshot/proj/report"]
    assert dsflow("run", "stubborn", DS, "--sample", "--runtime", runtime).exit_code == 1
    [log] = (samples / "job_runs" / "stubborn").rglob("log.txt")
    assert "this run has --sample, which its code cannot switch off" in log.read_text()
    screen = dsflow("run", "report", DS, "--sample", "--offline", "--runtime", runtime)
    assert "DDataflow is OFFLINE" in screen.out
    assert "there is no local copy of orders" in screen.out
    assert everything(workspace.root) == before


def everything(root: Path) -> dict[str, int]:
    """What is outside of the samples, and not the history, a lock or a listing."""
    own = ("datastore/sample", "datastore/job_runs/history", "datastore/.dsflow")
    names = {path: str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}
    return {name: path.stat().st_mtime_ns for path, name in names.items() if not name.startswith(own)}


def test_in_a_workspace_the_file_is_dsflow_sources(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    workspace = make_workspace({})
    screen = dsflow("ddataflow", "setup_project")
    assert (screen.exit_code, screen.out) == (0, "File dsflow_sources.py created in the current directory.\n")
    assert "`dsflow ddataflow setup_project --force`" in dsflow("ddataflow", "setup_project").err
    assert dsflow("ddataflow", "setup_project", "--force").exit_code == 0
    (workspace.root / "ddataflow_config.py").touch()
    (workspace.root / "dsflow_sources.py").unlink()
    assert "ddataflow_config.py is there already" in dsflow("ddataflow", "setup_project", "--force").err


CONFIG = """
    config = {
        "project_folder_name": "proj",
        "engine": "duckdb",
        "data_sources": {
            "numbers": {"source": lambda c: c.sql("SELECT range AS x FROM range(10)"), "filter": lambda r: r.limit(3)},
            "wrong": {"source": lambda c: c.read()},
        },
    }
    """


@pytest.fixture
def project(make_workspace: MakeWorkspace) -> Workspace:
    """A workspace with a mapping."""
    return make_workspace({"dsflow_sources.py": CONFIG})


def test_methods_are_called_from_the_command_line(
    project: Workspace, dsflow: Dsflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    def call(*arguments: str) -> Screen:
        return dsflow("ddataflow", "current_project", *arguments)

    assert call().out == "DDataflow is DISABLED: it reads production, and writes there.\n"
    assert call("path", "dbfs:/x").out == "dbfs:/x\n"
    assert call("path", "dbfs:/x", "--json").document == {"method": "path", "result": "dbfs:/x"}
    assert call("estimate_source_size", "numbers", "--json").document["result"] == 3 * 50 / 1024**3
    screen = call("save_sampled_data_sources", "--sample_only=numbers", "--dry_run", "False")
    assert screen.exit_code == 0, screen
    samples = project.datastore / "sample" / "ddataflow"
    assert parquet(samples) == ["snapshot/proj/numbers"]
    assert call("save_sampled_data_sources", "--sample_only", "['numbers']").out.endswith("dry run enabled\n")
    monkeypatch.setenv("ENABLE_OFFLINE_MODE", "1")
    assert call("name", "unmapped").out == "unmapped\n"
    assert call("source", "numbers").exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["sorce", "x"], 2, "did you mean 'source'"),
        (["source"], 2, "missing a required argument: 'name'"),
        (["source", "numbers", "--debuger"], 2, "unexpected keyword argument 'debuger'"),
        (["source", "number"], 2, "Data source does not exist number; did you mean 'numbers'"),
        (["source", "wrong"], 1, "AttributeError: "),
        (["__init__"], 2, "is not one of"),
    ],
)
def test_what_is_wrong_is_a_sentence(
    project: Workspace, dsflow: Dsflow, arguments: list[str], code: int, message: str
) -> None:
    screen = dsflow("ddataflow", "current_project", *arguments)
    assert screen.exit_code == code
    assert message in screen.err
    assert "Traceback" not in screen.err


def test_a_file_that_cannot_be_executed_is_named_with_the_line(project: Workspace, dsflow: Dsflow) -> None:
    (project.root / "dsflow_sources.py").write_text("x = 1\nfrom ddataflow import DDataflow\n")
    screen = dsflow("ddataflow", "current_project")
    assert screen.exit_code == 2
    assert "dsflow_sources.py, line 2: ModuleNotFoundError: No module named 'ddataflow'" in screen.err
    assert "from dsflow.sampling import DDataflow" in screen.err
    assert "Traceback" not in screen.err


def test_a_sampled_run_cannot_be_switched_to_production(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENABLE_DDATAFLOW", "false")
    monkeypatch.setenv("DSFLOW_DATA", str(tmp_path / "sample"))
    monkeypatch.setenv("DSFLOW_SAMPLES", "online")
    project = DDataflow("proj", snapshot_path="/elsewhere")
    assert project.path("/x") == f"{tmp_path}/sample/ddataflow/snapshot/proj/x"
    with pytest.raises(UsageError, match="this run has --sample, which its code cannot switch off"):
        project.disable()
    project.enable_offline()
    project.disable_offline()
    assert (project.is_enabled(), project.is_local()) == (True, False)
    monkeypatch.setenv("DSFLOW_SAMPLES", "offline")
    project = DDataflow("proj")
    assert project.path("/x") == f"{tmp_path}/sample/ddataflow/local/proj/x"
    with pytest.raises(UsageError, match="this run has --offline, which its code cannot switch off"):
        project.disable_offline()


def test_a_run_that_publishes_never_gets_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DSFLOW_RUN_FOLDER", str(tmp_path))
    project = DDataflow("proj")
    for switch in (project.enable, project.enable_offline):
        with pytest.raises(UsageError, match="this run publishes, so its code cannot ask for samples"):
            switch()
    assert project.is_enabled() is False
    with pytest.raises(UsageError, match="this run publishes"):
        DDataflow("proj", enable_ddataflow=True)
    monkeypatch.setenv("ENABLE_DDATAFLOW", "true")
    with pytest.raises(UsageError, match="this run publishes"):
        DDataflow("proj")
