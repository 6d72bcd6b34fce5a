"""`pytest` in a workspace runs the tests of jobs; anywhere else the plugin is as good as not there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dsflow.workspace import Workspace
from tests.conftest import MakeWorkspace, build_tree

TEST = """
    ds: 2026-11-20
    inputs: {numbers: [{n: 1}, {n: 2}]}
    expected: [{total: 3}]
"""
PLAIN = """
    def test_rows(run_job):
        trial = run_job("2026-11-20", inputs={"numbers": [{"n": 4}, {"n": 5}]})
        assert trial.outcome
        assert trial.rows == [{"total": 9}]
"""


def run_pytest(folder: Path, *arguments: str, strict: bool = True) -> subprocess.CompletedProcess[str]:
    # What other packages of this environment do to pytest is not ours to answer for.
    others = [
        "-p",
        "no:dash",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:hypothesispytest",
        "-p",
        "no:xdist",
        "-p",
        "no:timeout",
    ]
    strictly = ["-W", "error", "--strict-markers"] if strict else []
    command = [sys.executable, "-m", "pytest", *others, *strictly, *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env={**os.environ})


@pytest.fixture
def workspace(make_workspace: MakeWorkspace) -> Workspace:
    tree: dict[str, str | bytes] = {}
    for job in ("one", "other"):
        tree[f"jobs/{job}/job_specs.yaml"] = f"version: 1\nkind: sql\noutput: {{table: {job}}}\n"
        tree[f"jobs/{job}/query.sql"] = "SELECT sum(n)::BIGINT AS total FROM numbers"
        tree[f"jobs/{job}/tests/sums.yaml"] = TEST
        tree[f"jobs/{job}/tests/test_rows.py"] = PLAIN
    return make_workspace(
        {
            **tree,
            "jobs/one/tests/deep/data.yaml": "just: data\n",
            "adhoc/tests/not_ours.yaml": "just: data\n",
            "datastore/raw/x/ds=2026-11-20/test_trap.py": "raise SystemExit(1)\n",
        }
    )


def test_pytest_in_a_workspace_runs_the_tests_of_its_jobs(workspace: Workspace) -> None:
    done = run_pytest(workspace.root, "-v")
    assert done.returncode == 0, done.stdout + done.stderr
    passed = [line.split(" PASSED")[0] for line in done.stdout.splitlines() if " PASSED" in line]
    assert passed == [
        "jobs/one/tests/sums.yaml::sums",
        "jobs/one/tests/test_rows.py::test_rows",
        "jobs/other/tests/sums.yaml::sums",
        "jobs/other/tests/test_rows.py::test_rows",
    ]


def test_a_failure_shows_the_differences_and_no_traceback(workspace: Workspace) -> None:
    (workspace.jobs / "one" / "query.sql").write_text("SELECT count(*) AS total FROM numbers", "utf-8")
    done = run_pytest(workspace.root, "jobs/one/tests/sums.yaml")
    assert done.returncode == 1
    assert "rows[0].total: expected 3, got 2" in done.stdout
    assert "Traceback" not in done.stdout
    assert "plugin.py" not in done.stdout


def test_one_test_by_its_name_from_another_folder(workspace: Workspace, tmp_path: Path) -> None:
    path = workspace.jobs / "other" / "tests" / "sums.yaml"
    done = run_pytest(tmp_path, f"{path}::sums", "-v")
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout


def test_elsewhere_it_collects_and_imports_nothing(tmp_path: Path) -> None:
    build_tree(
        tmp_path,
        {
            "tests/data.yaml": "a: 1\n",
            "jobs/x/tests/data.yaml": "a: 1\n",
            "datastore/test_here.py": "def test_here():\n    pass\n",
            "tests/test_it.py": """
                import sys


                def test_nothing_of_dsflow_is_loaded(pytestconfig):
                    assert pytestconfig.option.importmode == "prepend"
                    loaded = {name for name in sys.modules if name.split(".")[0] == "dsflow"}
                    assert loaded == {"dsflow", "dsflow.testing", "dsflow.testing.plugin"}
                    heavy = {"duckdb", "pandas", "pyarrow", "pydantic", "yaml", "sqlglot", "click", "rich"}
                    assert heavy.isdisjoint(sys.modules)
            """,
        },
    )
    done = run_pytest(tmp_path, "-v")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout


def test_its_own_settings_for_pytest_are_kept(workspace: Workspace) -> None:
    (workspace.root / "pytest.ini").write_text("[pytest]\naddopts = --import-mode=append\n", "utf-8")
    for job in ("one", "other"):
        (workspace.jobs / job / "tests" / "test_rows.py").rename(workspace.jobs / job / "tests" / f"test_{job}.py")
    text = "def test_mode(pytestconfig):\n    assert pytestconfig.option.importmode == 'append'\n"
    (workspace.root / "test_mode.py").write_text(text, "utf-8")
    done = run_pytest(workspace.root)
    assert done.returncode == 0, done.stdout


def test_the_fixture_is_for_tests_of_jobs(tmp_path: Path) -> None:
    build_tree(tmp_path, {"test_it.py": "def test_it(run_job):\n    pass\n"})
    done = run_pytest(tmp_path)
    assert done.returncode == 1
    assert "run_job works in files in jobs/NAME/tests/" in done.stdout
