"""What `dsflow package` makes: the zip that goes to a cluster, and what it refuses."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import MakeWorkspace, Screen, Tree

Dsflow = Callable[..., Screen]
SPEC = "version: 1\nkind: script\nengine: spark\n"
JOB: Tree = {
    "jobs/etl/job_specs.yaml": SPEC,
    "jobs/etl/etl_job.py": "from dependencies.desks import steps\nprint(steps(2))\n",
    "dependencies/__init__.py": "",
    "dependencies/desks.py": "def steps(floor): return floor * 21\n",
}
# Two small packages of pure Python, and one that has compiled parts; as `pipenv lock` writes them.
SIX = {"version": "==1.17.0"}
COMPILED = {"version": "==6.0.3"}


def pipfile_lock(**packages: object) -> str:
    return json.dumps({"_meta": {}, "default": packages, "develop": {"pytest": {"version": "==8.4.2"}}})


def names(zipped: str | Path) -> list[str]:
    with zipfile.ZipFile(zipped) as archive:
        assert archive.testzip() is None
        return sorted(name for name in archive.namelist() if not name.endswith("/"))


def refused(dsflow: Dsflow, *words: str) -> str:
    """Give the error of a package that cannot be made; nothing is left of it."""
    screen = dsflow("package", "etl", *words)
    assert screen.exit_code == 1
    assert screen.out == ""
    assert "Traceback" not in screen.err
    assert not Path(".dsflow/packages").exists() or not list(Path(".dsflow/packages").iterdir())
    return screen.err


def test_the_zip_holds_the_shared_modules_and_what_is_beside_the_program(
    make_workspace: MakeWorkspace, dsflow: Dsflow
) -> None:
    make_workspace(
        {
            **JOB,
            "dependencies/__pycache__/desks.cpython-311.pyc": b"x",
            "dependencies/.hidden.py": "",
            "dependencies/words.txt": "a",
            "jobs/etl/job_specs.yaml": SPEC + "main: etl_job.py\n",
            "jobs/etl/configs/etl_config.json": "{}",
            "jobs/etl/beside.py": "",
            "jobs/etl/inner/__init__.py": "",
            "jobs/etl/tests/test_etl.py": "",
        }
    )
    made = dsflow("package", "etl", "--json").document
    assert names(made["zip"]) == [
        "beside.py",
        "dependencies/__init__.py",
        "dependencies/desks.py",
        "dependencies/words.txt",
        "inner/__init__.py",
    ]
    assert Path(made["config"]).name == "etl_config.json"
    assert Path(made["main"]).read_text() == JOB["jobs/etl/etl_job.py"]


def test_a_zip_without_requirements_and_modules_is_one_too(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    make_workspace({"jobs/etl/job_specs.yaml": SPEC, "jobs/etl/etl_job.py": "print(1)\n"})
    assert names(dsflow("package", "etl", "--json").document["zip"]) == []


def test_the_same_files_give_the_same_bytes(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    workspace = make_workspace({**JOB, "Pipfile.lock": pipfile_lock(six=SIX)})
    first = dsflow("package", "etl", "--into", "one", "--json").document
    for package in (workspace.own / "packages").iterdir():
        for path in [*package.rglob("*")]:
            path.unlink()
        package.rmdir()
    (workspace.root / "dependencies/desks.py").touch()
    second = dsflow("package", "etl", "--into", "two", "--json").document
    assert first["hash"] == second["hash"]
    assert Path("one/packages.zip").read_bytes() == Path("two/packages.zip").read_bytes()
    (workspace.root / "dependencies/desks.py").write_text("def steps(floor): return 0\n")
    assert dsflow("package", "etl", "--json").document["hash"] != first["hash"]


def test_python_imports_from_the_zip_where_nothing_else_is(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    # As the folder of a person who left `__init__.py` out.
    tree = {name: text for name, text in JOB.items() if "__init__" not in name}
    make_workspace({**tree, "Pipfile.lock": pipfile_lock(six=SIX)})
    made = dsflow("package", "etl", "--json").document
    code = "import sys; sys.path.insert(0, sys.argv[1])\nimport six, dependencies.desks as d; print(d.steps(2))"
    command = [sys.executable, "-I", "-S", "-c", code, made["zip"]]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "42\n"


@pytest.mark.parametrize(
    "lock",
    [
        {"Pipfile": "[packages]\nsix = '*'\n", "Pipfile.lock": pipfile_lock(six=SIX, pyspark={"version": "==4.3.0"})},
        {"requirements.txt": "six\n", "requirements.lock": "# by uv\nsix==1.17.0 \\\n    --hash=sha256:4721f391ed90541f"
         "ddacab5acf947aa0d3dc7d27b2e1e8eda2be8970586c3274\npyspark==4.3.0\n"},
        {"jobs/etl/pylock.toml": "lock-version = '1.0'\n[[packages]]\nname = 'six'\nversion = '1.17.0'\n"
         "wheels = [{url = 'https://x/six.whl', hashes = {}}]\n"},
    ],
)  # fmt: skip
def test_requirements_come_from_the_lock_and_spark_brings_its_own(
    make_workspace: MakeWorkspace, dsflow: Dsflow, lock: Tree
) -> None:
    make_workspace({**JOB, **lock})
    found = names(dsflow("package", "etl", "--json").document["zip"])
    assert "six.py" in found
    assert not [name for name in found if name.startswith("pyspark")]
    assert not [name for name in found if "RECORD" in name or "__pycache__" in name]


@pytest.mark.parametrize(
    ("more", "problem", "hint"),
    [
        ({"Pipfile": "[packages]\n"}, "Pipfile is there, and no Pipfile.lock", "pipenv lock"),
        ({"requirements.txt": "six\n"}, "requirements.txt is there, and no requirements.lock", "uv pip compile"),
        (
            {"jobs/etl/job_specs.yaml": SPEC + "run: {requirements: [six]}\n"},
            "etl needs six (`run.requirements`), and no lock",
            "Pipfile.lock, pylock.toml, requirements.lock",
        ),
        ({"Pipfile.lock": "{"}, "Pipfile.lock cannot be read", "again"),
        ({"Pipfile.lock": pipfile_lock(x={"git": "https://g/x"})}, "x does not come from a package index", "released"),
        ({"requirements.lock": "six>=1\n"}, "'six>=1' does not say which version exactly", "uv pip compile"),
        (
            {"Pipfile.lock": pipfile_lock(pyyaml=COMPILED, six=SIX)},
            "pyyaml 6.0.3 has compiled parts",
            "the Python of the cluster",
        ),
    ],
)
def test_what_cannot_be_packed_is_said_in_one_sentence(
    make_workspace: MakeWorkspace, dsflow: Dsflow, more: Tree, problem: str, hint: str
) -> None:
    make_workspace({**JOB, **more})
    said = refused(dsflow)
    assert problem in said
    assert hint in said


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ({"dependencies/desks.py": "import requests\n"}, "dependencies/desks.py, line 1: No module named 'requests'"),
        ({"dependencies/desks.py": "def steps(:\n"}, "dependencies/desks.py, line 1: SyntaxError"),
        ({"dependencies/more.py": "x = 1\n\n1 / 0\n"}, "dependencies/more.py, line 3: ZeroDivisionError"),
        ({"jobs/etl/etl_job.py": "import os\nimport nothere\n"}, "etl_job.py, line 2: No module named 'nothere'"),
        (
            {"jobs/etl/etl_job.py": "from dependencies.desks import stairs\n"},
            "etl_job.py, line 1: No module named 'dependencies.desks.stairs'",
        ),
    ],
)
def test_a_package_that_cannot_be_imported_is_refused(
    make_workspace: MakeWorkspace, dsflow: Dsflow, more: Tree, problem: str
) -> None:
    make_workspace({**JOB, **more})
    assert problem in refused(dsflow)


def test_what_a_cluster_brings_need_not_be_packed(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    program = "import pandas\nfrom pyspark.sql import functions\nfrom dsflow.spark import start_spark\n"
    make_workspace({**JOB, "jobs/etl/etl_job.py": program})
    found = names(dsflow("package", "etl", "--json").document["zip"])
    assert "dsflow/spark/__init__.py" in found
    assert "dsflow/job.py" not in found


def test_each_job_has_its_own_config(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    workspace = make_workspace(
        {
            **JOB,
            "jobs/other/job_specs.yaml": SPEC,
            "jobs/other/other_job.py": "print(1)\n",
            "configs/etl_config.json": "{}",
            "configs/other_config.json": "{}",
        }
    )
    assert dsflow("package", "etl", "--json").document["config"].endswith("/etl_config.json")
    assert dsflow("package", "other", "--json").document["config"].endswith("/other_config.json")
    (workspace.root / "configs/etl_config.json").rename(workspace.root / "configs/a_config.json")
    screen = dsflow("package", "etl")
    assert screen.exit_code == 1
    assert "configs has a_config.json, other_config.json" in screen.err
    assert "Call it etl_config.json" in screen.err


def test_a_program_is_not_executed_when_it_is_packed(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    make_workspace(
        {
            "jobs/etl/job_specs.yaml": SPEC + "main: etl_job.py\n",
            "jobs/etl/etl_job.py": "open('ran', 'w')\n",
            "jobs/etl/other_job.py": "raise SystemExit('another program')\n",
        }
    )
    screen = dsflow("package", "etl")
    assert screen.exit_code == 0, screen.err
    assert not list(Path().rglob("ran"))


def test_the_words_for_spark_submit_are_told(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    make_workspace({**JOB, "configs/etl_config.json": "{}"})
    screen = dsflow("package", "etl", "--into", "build")
    words = "spark-submit --py-files build/packages.zip --files build/etl_config.json jobs/etl/etl_job.py"
    assert words in screen.out
    assert Path("build/etl_job.py").read_text() == JOB["jobs/etl/etl_job.py"]


def test_only_a_job_of_spark_is_submitted(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    make_workspace({"jobs/q/job_specs.yaml": "version: 1\nkind: sql\n", "jobs/q/q.sql": "SELECT 1"})
    screen = dsflow("submit", "q", "2026-11-01")
    assert screen.exit_code == 2
    assert "q does not compute with Spark" in screen.err


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--master", "foo"], "spark.master: 'foo' is not a master such as local[*]"),
        (["--conf", "a"], "--conf a: expected NAME=VALUE"),
        (["--env", "server"], "a job is submitted to a master, and this environment has `spark.remote`"),
    ],
)
def test_where_a_job_cannot_be_sent_is_said_before_anything_runs(
    make_workspace: MakeWorkspace, dsflow: Dsflow, words: list[str], problem: str
) -> None:
    workspace = make_workspace({**JOB, "dsflow.yml": "environments: {server: {spark: {remote: 'sc://x:1'}}}\n"})
    screen = dsflow("submit", "etl", "2026-11-01", *words)
    assert screen.exit_code == 2
    assert problem in screen.err
    assert not (workspace.datastore / "job_runs").exists()
