"""A project in the Data Lake layout: configs, dependencies, jobs, tests with data, from `dsflow init` and `spark_job`.

The numbers are those of what users of that layout count on; `test_start_spark.py` has 2 to 11, 26 and 27.
"""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from dsflow.spark.server import Server
from dsflow.testing.trial import Trials
from dsflow.workspace import Workspace
from tests.conftest import MakeWorkspace, Screen, build_tree
from tests.spark_server import spark_test
from tests.test_start_spark import started

Dsflow = Callable[..., Screen]
DS = "2026-11-20"
JOB = "jobs/desk-steps"
FULL_NAME = 'f.concat_ws(" ", "first_name", "second_name")'
SPARK_SCRIPT = "version: 1\nkind: script\nengine: spark\noutput: {{table: {name}}}\n"
MAIN = f"{JOB}/desk_steps_job.py"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dsflow: Dsflow) -> Path:
    """A workspace with one job from the template."""
    root = tmp_path / "data lake"
    assert dsflow("init", str(root)).exit_code == 0
    monkeypatch.chdir(root)
    (root / "dsflow.yml").write_text("version: 1\nruntime: process\n")
    assert dsflow("generate-job", "spark_job", "desk-steps", "-y").exit_code == 0
    return root


def submit(project: Path, *options: str, main: str = MAIN) -> subprocess.CompletedProcess[str]:
    program = str(Path(sys.executable).parent / "spark-submit")
    return started([program, "--master", "local[1]", *options, main], project)


def test_the_scaffold_has_what_the_layout_has(project: Path) -> None:
    """1, 19; what a build script was for is `dsflow package`."""
    files = {path.relative_to(project / JOB).as_posix() for path in (project / JOB).rglob("*") if path.is_file()}
    assert files == {
        "README.md",
        "configs/job_config.json",
        "desk_steps_job.py",
        "job_specs.yaml",
        "tests/report.yaml",
        "tests/test_transform.py",
        "tests/test_data/employees/employees.csv",
        "tests/test_data/employees_report/report.csv",
    }
    assert (project / "dependencies" / "__init__.py").is_file()
    data = (project / JOB / "tests" / "test_data").rglob("*")
    assert sum(path.stat().st_size for path in data) < 100_000


def test_what_a_dotenv_file_says_reaches_the_job_and_never_git(project: Path, dsflow: Dsflow) -> None:
    """30; the environment goes first."""
    build_tree(
        project,
        {
            ".env": "SPARK_HOME=/opt/spark\nDEBUG=1\nMINE=no\nDSFLOW_ENGINE=spark\n",
            "jobs/shows/job_specs.yaml": "version: 1\nkind: script\noutput: {table: shows}\n",
            "jobs/shows/main.py": """
                import os
                from dsflow import job
                print("seen", [os.environ.get(name) for name in ("SPARK_HOME", "DEBUG", "MINE")])
                job.write([{"x": 1}])
                """,
        },
    )
    command = [sys.executable, "-m", "dsflow", "run", "shows", DS]
    done = subprocess.run(command, env={**os.environ, "MINE": "yes"}, capture_output=True, text=True, check=False)
    assert "seen ['/opt/spark', '1', 'yes']" in done.stdout, done.stdout + done.stderr
    subprocess.run(["git", "init", "-q"], check=True)
    ignored = subprocess.run(["git", "check-ignore", ".env", "dsflow.yml"], capture_output=True, text=True, check=False)
    assert ignored.stdout == ".env\n"


@spark_test
@pytest.mark.usefixtures("spark_here")
class TestSubmitted:
    def test_the_job_gives_what_it_gives_everywhere(self, project: Path, dsflow: Dsflow) -> None:
        """12, 13, 14: the config that is sent counts, and a second run replaces what the first one wrote.

        21, 22: the zip has what jobs share, and what `start_spark` needs; `test_packaging.py` has 20, 23 and 24.
        """
        build_tree(project, {"dependencies/names.py": "def tidy(name):\n    return name.strip()\n"})
        main = project / MAIN
        text = main.read_text().replace("from dsflow.spark", "from dependencies.names import tidy\nfrom dsflow.spark")
        main.write_text(text.replace(FULL_NAME, f"f.udf(tidy)({FULL_NAME})"))
        assert dsflow("package", "desk-steps", "--into", "packages").exit_code == 0
        sent = project / "configs"
        build_tree(sent, {"ten_config.json": '{"steps_per_floor": 10}'})
        for config, steps in (
            (sent / "ten_config.json", [10, 10, 20, 20, 30, 30, 40, 40]),
            (project / JOB / "configs" / "job_config.json", [21, 21, 42, 42, 63, 63, 84, 84]),
        ):
            done = submit(project, "--py-files", "packages/packages.zip", "--files", str(config))
            assert done.returncode == 0, done.stderr
            assert f"WARN <desk-steps {application(done)}>: loaded config from {config.name}" in done.stderr
            [part] = (project / "loaded_data").glob("part-*")
            header, *rows = csv.reader(part.read_text().splitlines())
            assert header == ["id", "name", "steps_to_desk"]
            assert [int(row[2]) for row in rows] == steps
            assert rows[0] == ["1", "Dan Germain", str(steps[0])]

    def test_each_job_gets_its_own_config_and_a_module_that_was_not_sent_is_named(self, project: Path) -> None:
        """25, 29: all configs of a project may be sent with each of its jobs."""
        build_tree(
            project,
            {
                "configs/a_config.json": '{"is": "a"}',
                "configs/b_config.json": '{"is": "b"}',
                "jobs/dependencies/doubles.py": "def double(x):\n    return 2 * x\n",
                "jobs/b_job.py": """
                    from dependencies.doubles import double
                    from dsflow.spark import start_spark
                    from pyspark.sql import functions as f

                    spark, log, config = start_spark("b", files=["configs/b_config.json"])
                    print("my config", config)
                    print(spark.range(3).select(f.udf(double, "long")("id")).collect())
                    """,
            },
        )
        done = submit(project, "--files", "configs/a_config.json,configs/b_config.json", main="jobs/b_job.py")
        assert "my config {'is': 'b'}" in done.stdout
        assert done.returncode == 1
        # spark-submit puts all that Python says to stdout.
        assert "Error: dependencies is part of this project and was not sent to Spark\n" in done.stdout
        assert "  Add `--py-files packages.zip` to spark-submit" in done.stdout


def application(done: subprocess.CompletedProcess[str]) -> str:
    return done.stderr.partition("WARN <desk-steps ")[2].partition(">")[0]


@spark_test
@pytest.mark.usefixtures("spark")
class TestRunByDsflow:
    def test_its_test_fails_when_the_transformation_is_broken(self, project: Path) -> None:
        """17; the test in Python, with 15, 16 and 18, is run where every template is."""
        main, test = project / MAIN, project / JOB / "tests" / "report.yaml"
        with Trials(Workspace(project)) as trials:
            assert trials.judge("desk-steps", test).lines() == []
            for right, wrong in (
                ('f.col("floor") * f.lit(steps_per_floor)', 'f.col("floor") + f.lit(steps_per_floor)'),
                (').orderBy("id")', ').where("id > 1")'),
                ('.alias("name")', '.alias("nom")'),
            ):
                text = main.read_text()
                assert right in text
                main.write_text(text.replace(right, wrong))
                assert trials.judge("desk-steps", test).differences, wrong
                main.write_text(text)

    def test_jobs_have_the_session_of_their_run_and_their_own_config(
        self, project: Path, dsflow: Dsflow, spark: Server
    ) -> None:
        """29, and 27: a session on the server has no `sparkContext`, but its logger writes into the log of the run."""
        for name in ("one", "two"):
            build_tree(
                project,
                {
                    f"jobs/{name}/job_specs.yaml": SPARK_SCRIPT.format(name=name),
                    f"jobs/{name}/configs/{name}_config.json": f'{{"is": "{name}"}}',
                    f"jobs/{name}/main.py": """
                        from dsflow import job
                        from dsflow.spark import start_spark
                        spark, log, config = start_spark("own", master="local[7]")
                        log.info(f"{config} {spark is job.spark}")
                        job.write(spark.createDataFrame([config]))
                        """,
                },
            )
        screen = dsflow("backfill", "one", "two", f"{DS}..{DS}", "-y")
        assert screen.exit_code == 0, screen.out
        for name in ("one", "two"):
            [log] = project.glob(f"datastore/job_runs/{name}/ds={DS}/*/log.txt")
            assert f": {{'is': '{name}'}} True" in log.read_text()
            assert "WARN <own local-" in log.read_text()
            assert f"loaded config from {name}_config.json" in log.read_text()

    def test_a_broken_config_is_a_sentence_of_the_run(self, project: Path, dsflow: Dsflow) -> None:
        """9, 10: before Spark is asked for anything."""
        shutil.copytree(project / JOB / "tests/test_data/employees", project / f"datastore/raw/employees/ds={DS}")
        config = project / JOB / "configs" / "job_config.json"
        config.write_text('{"steps_per_floor": 21,}')
        assert "UsageError: job_config.json is not valid JSON: " in dsflow("run", "desk-steps", DS).out
        config.unlink()
        assert "UsageError: the file configs/job_config.json does not exist\n" in dsflow("run", "desk-steps", DS).out

    def test_functions_in_spark_import_what_jobs_share(self, project: Path, dsflow: Dsflow) -> None:
        build_tree(
            project,
            {
                "dependencies/doubles.py": "def double(x):\n    return 2 * x\n",
                "jobs/udf/job_specs.yaml": SPARK_SCRIPT.format(name="udf"),
                "jobs/udf/main.py": """
                    from dependencies.doubles import double
                    from dsflow import job
                    from pyspark.sql import functions as f
                    rows = job.spark.range(3)
                    job.write(rows.select(f.udf(double, "long")("id").alias("x")))
                    """,
            },
        )
        screen = dsflow("run", "udf", DS)
        assert screen.exit_code == 0, screen.out
        assert rows_of(Workspace(project), "udf") == [(0,), (2,), (4,)]


def rows_of(workspace: Workspace, table: str) -> list[tuple[object, ...]]:
    import duckdb

    found = f"{workspace.datastore}/tables/{table}/ds={DS}/*.parquet"
    return duckdb.execute(f"SELECT * FROM read_parquet('{found}', hive_partitioning = false) ORDER BY ALL").fetchall()


@spark_test
@pytest.mark.usefixtures("spark_here")
def test_a_step_that_raises_leaves_no_session(project: Path, dsflow: Dsflow) -> None:
    """28; with a session in the job's own process, which has the name of the application."""
    path = project / JOB / "job_specs.yaml"
    path.write_text(path.read_text().replace("engine: spark\n", "engine: spark\nsession: classic\n"))
    main = project / MAIN
    text = main.read_text().replace(
        'if __name__ == "__main__":\n',
        'if __name__ == "__main__":\n'
        "    import atexit\n"
        "    atexit.register(lambda: print('left:', SparkSession.getActiveSession()))\n",
    )
    main.write_text(
        text.replace("        load_data(report, target, format)\n", "        print(spark.sparkContext, 1 / 0)\n")
    )
    shutil.copytree(project / JOB / "tests/test_data/employees", project / f"datastore/raw/employees/ds={DS}")
    screen = dsflow("run", "desk-steps", DS)
    assert screen.exit_code == 1
    assert "ZeroDivisionError: division by zero" in screen.out
    [log] = project.glob(f"datastore/job_runs/desk-steps/ds={DS}/*/log.txt")
    assert "left: None" in log.read_text()
    assert "loaded config from job_config.json" in log.read_text()
    assert not (project / "datastore/tables/desk-steps").exists()


SHARES = {
    "dsflow.yml": "version: 1\nruntime: process\n",
    "dependencies/names.py": "NAME = 'first'\n",
    "jobs/uses/job_specs.yaml": "version: 1\nkind: notebook\noutput: {table: uses}\n",
    "jobs/uses/main.py": """
        # %%
        from dependencies import names
        from dsflow import job
        job.write([{"name": names.NAME}])
        """,
    "jobs/other/job_specs.yaml": "version: 1\nkind: sql\noutput: {table: other}\n",
    "jobs/other/query.sql": "SELECT 1 AS x",
    "jobs/uses/tests/test_names.py": "from dependencies.names import NAME\n\n\ndef test_name():\n    assert NAME\n",
}


def test_modules_that_jobs_share_are_part_of_what_a_partition_is_made_with(
    make_workspace: MakeWorkspace, dsflow: Dsflow
) -> None:
    workspace = make_workspace(SHARES)
    assert dsflow("backfill", "uses", "other", f"{DS}..{DS}", "-y").exit_code == 0
    assert rows_of(workspace, "uses") == [("first",)]
    assert "nothing to run" in dsflow("backfill", "uses", "other", f"{DS}..{DS}", "-y").out.lower()
    (workspace.root / "dependencies" / "names.py").write_text("NAME = 'second'\n")
    screen = dsflow("backfill", "uses", "other", f"{DS}..{DS}", "-y")
    assert "OK=1" in screen.out, screen.out
    assert rows_of(workspace, "uses") == [("second",)]
    # The workspace's other folders are no packages for a job.
    main = workspace.jobs / "uses" / "main.py"
    main.write_text("# %%\nimport only_here\n")
    (workspace.root / "only_here").mkdir()
    assert "No module named 'only_here'" in dsflow("run", "uses", DS).out
    assert dsflow("test", "uses").exit_code == 0


@pytest.mark.docker
@pytest.mark.usefixtures("python_image")
def test_a_container_has_the_modules_that_jobs_share(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    workspace = make_workspace(SHARES)
    screen = dsflow("run", "uses", DS, "--runtime", "docker")
    assert screen.exit_code == 0, screen.out
    assert rows_of(workspace, "uses") == [("first",)]
