"""Jobs of the engine `spark`, as a person runs them: with the warm server, and with a session of their own."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dsflow.spark import access, server
from dsflow.workspace import Workspace
from tests.conftest import MakeWorkspace, Screen, Tree, notebook
from tests.spark_server import SETTINGS

pytestmark = [pytest.mark.spark, pytest.mark.xdist_group("spark"), pytest.mark.timeout(300)]

Dsflow = Callable[..., Screen]
DS = "2026-11-01"
# What Spark says when nobody keeps it quiet.
NOISE = re.compile(r"WARN|INFO|log4j|incubator|NativeCodeLoader|Setting default log level|FutureWarning|pandas")


def spec(kind: str, more: str = "", output: str = "t") -> str:
    return f"version: 1\nkind: {kind}\nengine: spark\noutput: {{table: {output}}}\n{more}"


WORKSPACE = "version: 1\nruntime: process\nspark:\n  memory: 1g\n  archive: false\n  settings:\n" + "".join(
    f"    {name}: {json.dumps(value)}\n" for name, value in SETTINGS.items()
)
NUMBERS: Tree = {
    "dsflow.yml": WORKSPACE,
    "jobs/numbers/job_specs.yaml": spec("sql", output="numbers"),
    "jobs/numbers/query.sql": "SELECT id AS x, concat('a', id) AS s, '{{ ds }}' AS ds FROM range(10)",
}
READS = "inputs: {numbers: {table: numbers}}\n"


def rows(workspace: Workspace, table: str, ds: str = DS) -> list[tuple[Any, ...]]:
    import duckdb

    found = f"{workspace.datastore}/tables/{table}/ds={ds}/*.parquet"
    return duckdb.execute(f"SELECT * FROM read_parquet('{found}', hive_partitioning = false) ORDER BY ALL").fetchall()


def duckdb_rows(path: Path) -> list[tuple[Any, ...]]:
    import duckdb

    return duckdb.execute(f"SELECT * FROM read_parquet('{path}')").fetchall()


def log_of(workspace: Workspace, job: str) -> str:
    [path] = workspace.datastore.glob(f"job_runs/{job}/ds={DS}/*/log.txt")
    return path.read_text()


@pytest.mark.usefixtures("spark")
def test_a_query_a_notebook_and_a_script_share_the_server(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    workspace = make_workspace(
        {
            **NUMBERS,
            "jobs/book/job_specs.yaml": spec("notebook", READS, output="book"),
            "jobs/book/doubling.py": "def double(x): return 2 * x",
            "jobs/book/main.ipynb": notebook(
                "from dsflow import job\nfrom pyspark.sql import SparkSession, functions as f\nimport doubling",
                "kept = job.read('numbers').where(f.col('x') > 7)\nprint(dict(kept.dtypes))",
                "double = f.udf(doubling.double, 'long')\njob.write(kept.select('x', double('x').alias('y'), 'ds'))",
                "import os\ntoken = os.environ['SPARK_CONNECT_AUTHENTICATE_TOKEN']",
                "print(SparkSession.builder.getOrCreate() is job.spark, token)",
            ),
            "jobs/plain/job_specs.yaml": spec("script", READS, output="plain"),
            "jobs/plain/main.py": """
                import sys
                from pyspark.sql import SparkSession
                spark = SparkSession.builder.appName("knows nothing of dsflow").getOrCreate()
                spark.read.parquet(sys.argv[1]).where("x = 3").write.mode("append").parquet(sys.argv[2])
                """,
        }
    )
    for job in ("numbers", "book", "plain"):
        screen = dsflow("run", job, DS)
        assert screen.exit_code == 0, screen.err
        assert not NOISE.search(log_of(workspace, job))
    assert rows(workspace, "numbers")[9] == (9, "a9")
    assert rows(workspace, "book") == [(8, 16), (9, 18)]
    assert rows(workspace, "plain") == [(3, "a3")]
    # A ds is text, and the token of the server is nobody's business.
    assert "'ds': 'string'" in log_of(workspace, "book")
    assert "True ***" in log_of(workspace, "book")
    # Only Parquet is published, under names that carry the run.
    published = [path.name for path in workspace.datastore.glob("tables/*/ds=*/*")]
    assert [name for name in published if not re.fullmatch(r"[\w-]+-part-[\d.]+\.parquet", name)] == []
    manifests = workspace.datastore.glob(".dsflow/manifests/tables/numbers/*.json")
    assert json.loads(next(manifests).read_text())["columns"] == [
        {"name": "x", "type": "BIGINT"},
        {"name": "s", "type": "VARCHAR"},
    ]


@pytest.mark.usefixtures("spark")
def test_expectations_mean_what_they_mean_for_every_engine(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    workspace = make_workspace(
        {
            **NUMBERS,
            "jobs/numbers/job_specs.yaml": spec(
                "sql",
                "expectations:\n- {name: early, constraint: \"regexp_matches(s, '^a[0-4]$')\", action: drop}\n",
                "numbers",
            ),
        }
    )
    assert dsflow("run", "numbers", DS).exit_code == 0
    assert len(rows(workspace, "numbers")) == 5
    path = workspace.jobs / "numbers" / "job_specs.yaml"
    path.write_text(path.read_text().replace("drop", "fail"))
    screen = dsflow("run", "numbers", DS)
    assert screen.exit_code == 3
    assert "'early'" in screen.out
    assert "5 of 10 rows" in screen.out
    assert len(rows(workspace, "numbers")) == 5


@pytest.mark.usefixtures("spark")
def test_a_mistake_is_five_lines_with_the_users_own(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    make_workspace(
        {
            **NUMBERS,
            "jobs/numbers/query.sql": "SELECT id AS x\nFROM range(10)\nWHERE idd > 3",
            "jobs/book/job_specs.yaml": spec("notebook", output="book"),
            "jobs/book/main.ipynb": notebook("from dsflow import job", "job.spark.sql('SELECT 1 / 0').collect()"),
        }
    )
    screen = dsflow("run", "numbers", DS)
    assert screen.exit_code == 1
    assert "query.sql, line 3" in screen.out
    assert "WHERE idd > 3" in screen.out
    assert "`idd` cannot be resolved" in screen.out
    screen = dsflow("run", "book", DS)
    assert screen.exit_code == 1
    assert "cell 2" in screen.out
    assert "DIVIDE_BY_ZERO" in screen.out
    assert "Traceback" not in screen.out
    assert "at org.apache" not in screen.out


@pytest.mark.usefixtures("spark")
def test_by_hand_it_is_the_same_session(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    workspace = make_workspace({**NUMBERS, "jobs/numbers/extra.py": ""})
    assert dsflow("run", "numbers", "today").exit_code == 0
    code = (
        "from dsflow import job\n"
        "print(job.sql('SELECT max(x) AS m FROM numbers').collect()[0].m)\n"
        "job.write(job.table('numbers'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=workspace.jobs / "numbers", capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    assert done.stdout.startswith("9\nBy hand: 10 rows could be written")


@pytest.mark.usefixtures("spark_here")
def test_a_session_of_its_own_for_code_that_needs_it(
    make_workspace: MakeWorkspace, dsflow: Dsflow, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    workspace = make_workspace(
        {
            "dsflow.yml": WORKSPACE,
            "jobs/own/job_specs.yaml": spec("script", "session: classic\n", output="own"),
            "jobs/own/main.py": """
                from dsflow import job
                numbers = job.spark.sparkContext.parallelize(range(10)).map(lambda x: (x, x * x)).toDF("x long, y long")
                numbers.write.saveAsTable("kept")
                job.write(job.spark.table("kept").where("x > 7"))
                print(job.spark.sparkContext.uiWebUrl, job.spark.conf.get("spark.sql.shuffle.partitions"))
                """,
        }
    )
    before = everything_near(workspace)
    screen = dsflow("run", "own", DS)
    assert screen.exit_code == 0, screen.err
    assert rows(workspace, "own") == [(8, 64), (9, 81)]
    assert "None 2" in log_of(workspace, "own")
    assert not NOISE.search(log_of(workspace, "own"))
    # Nothing stays: not beside the job, not in the temporary folder, not in the installed packages.
    assert everything_near(workspace) == before
    assert list((workspace.datastore / ".dsflow" / "spark" / "classic").iterdir()) == []
    assert [path.name for path in (tmp_path / "tmp").iterdir() if "spark" in path.name or "block" in path.name] == []


def everything_near(workspace: Workspace) -> set[Path]:
    import pyspark

    package = Path(pyspark.__file__).parent
    near = [*workspace.root.glob("*"), *workspace.jobs.rglob("*"), *package.glob("*"), *Path.cwd().glob("*")]
    return {path for path in near if "__pycache__" not in path.parts}


def start(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "dsflow", *arguments],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


AT_WORK = "from dsflow import job\nimport time\nprint('at work', job.spark.range(1).count(), flush=True)\n"
# Both for longer than any test waits: without asking Spark anything, and waiting for its answer.
SLEEPS, COMPUTES = "time.sleep(600)", "job.spark.range(10**13).selectExpr('sum(id % 7)').collect()"


@pytest.mark.usefixtures("spark_here")
def test_when_the_server_dies_its_tasks_say_so_and_the_next_run_starts_clean(
    make_workspace: MakeWorkspace, dsflow: Dsflow
) -> None:
    workspace = make_workspace(
        {
            **NUMBERS,
            "jobs/sleeps/job_specs.yaml": spec("script", output="sleeps"),
            "jobs/sleeps/main.py": AT_WORK + SLEEPS,
            "jobs/computes/job_specs.yaml": spec("script", output="computes"),
            "jobs/computes/main.py": AT_WORK + COMPUTES,
        }
    )
    folder = access.warm_folder(workspace.datastore)
    try:
        command = [sys.executable, "-m", "dsflow", "backfill", "sleeps", "computes", f"{DS}..{DS}", "-y", "-j", "2"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as running:
            assert running.stdout is not None
            logs = workspace.datastore / "job_runs"
            until(
                lambda: sum("at work" in log.read_text() for log in logs.glob("*/*/*/log.txt")) == 2, "both are at work"
            )
            found = server.running(folder)
            assert found is not None
            os.kill(found.pid, signal.SIGKILL)
            killed = time.monotonic()
            out, _ = running.communicate(timeout=120)
            assert time.monotonic() - killed < 60
        assert running.returncode == 4, out
        assert out.count("the Spark server is gone: it was killed (SIGKILL); nothing was published") >= 2
        assert "Traceback" not in out
        assert list(workspace.datastore.glob("tables/*/ds=*/*")) == []
        assert dsflow("run", "numbers", DS).exit_code == 0
        assert len(rows(workspace, "numbers")) == 10
        now = server.running(folder)
        assert now is not None
        assert list(folder.glob("scratch-*")) == [folder / f"scratch-{now.keeper}"]
    finally:
        server.stop(folder)


def until(condition: Callable[[], bool], what: str) -> None:
    for _ in range(1200):
        if condition():
            return
        time.sleep(0.1)
    pytest.fail(f"not within two minutes: {what}")


def test_a_task_that_is_killed_leaves_nothing_at_work(
    spark: server.Server, make_workspace: MakeWorkspace, dsflow: Dsflow
) -> None:
    make_workspace(
        {
            **NUMBERS,
            "jobs/late/job_specs.yaml": spec("script", "run: {timeout: 20s}\n", output="late"),
            "jobs/late/main.py": AT_WORK + COMPUTES,
        }
    )
    assert dsflow("run", "late", DS).exit_code == 124
    until(lambda: server.clients(spark) == 0, "nobody is connected")
    # What it had begun does not keep others from the cores.
    assert dsflow("run", "numbers", DS).exit_code == 0


@pytest.mark.usefixtures("spark")
def test_every_table_is_known_to_queries_and_looked_into_when_one_names_it(
    make_workspace: MakeWorkspace, dsflow: Dsflow
) -> None:
    workspace = make_workspace(
        {
            **NUMBERS,
            "jobs/all/job_specs.yaml": spec("script", output="all"),
            "jobs/all/main.py": """
                from dsflow import job
                assert "numbers" in job.load_tables()
                seen = job.spark.sql("SELECT ds, count(*) AS n FROM numbers GROUP BY ds")
                both = seen.unionAll(job.spark.table("t100").groupBy("ds").count())
                job.write(both.withColumnRenamed("ds", "day"))
                """,
        }
    )
    for day in (1, 2):
        assert dsflow("run", "numbers", f"2026-11-0{day}").exit_code == 0
    [part] = (workspace.datastore / "tables" / "numbers" / f"ds={DS}").glob("*-part-0.parquet")
    # Many more, as they are to whoever finds them without manifests, and one that nobody can read.
    for number in range(200):
        folder = workspace.datastore / "tables" / f"t{number}" / f"ds={DS}"
        folder.mkdir(parents=True)
        os.link(part, folder / part.name)
    (workspace.datastore / "tables" / "t7" / f"ds={DS}" / part.name).unlink()
    (workspace.datastore / "tables" / "empty").mkdir()
    # Whoever looked at this one would say that its manifest is none.
    manifest = workspace.datastore / ".dsflow" / "manifests" / "tables" / "t8" / f"ds={DS}.json"
    manifest.parent.mkdir()
    manifest.write_text("not a manifest")
    screen = dsflow("run", "all", DS)
    assert screen.exit_code == 0, screen.out
    log = log_of(workspace, "all")
    assert log.count("was successfully imported") == 201
    assert "ERROR - empty could not be imported: table empty has no partition yet" in log
    one = len(duckdb_rows(part))
    assert rows(workspace, "all") == [("2026-11-01", one), ("2026-11-01", 10), ("2026-11-02", 10)]


@pytest.mark.usefixtures("spark")
def test_eight_tasks_at_once_see_their_own_views_and_settings(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    workspace = make_workspace(
        {
            **NUMBERS,
            "jobs/own/job_specs.yaml": spec("notebook", READS, output="own"),
            "jobs/own/main.ipynb": notebook(
                "from dsflow import job",
                "job.spark.conf.set('spark.sql.session.timeZone', f'+00:{job.ds[-2:]}')\n"
                "job.sql(f\"SELECT '{job.ds}' AS day\").createOrReplaceTempView('mine')",
                "own = 'max(mine.day) AS day, current_timezone() AS zone'",
                "job.write(job.sql(f'SELECT count(x) AS n, {own} FROM numbers, mine'))",
            ),
        }
    )
    screen = dsflow("backfill", "numbers", "own", "2026-11-01..2026-11-08", "-j", "8", "-y")
    assert screen.exit_code == 0, screen.err
    for day in range(1, 9):
        ds = f"2026-11-{day:02}"
        assert rows(workspace, "own", ds) == [(10, ds, f"+00:{day:02}")]
