"""Jobs on a Spark cluster: a real one, with a master and two workers."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

from dsflow.workspace import Workspace
from tests.conftest import MakeWorkspace, Screen, Tree, notebook
from tests.services import need
from tests.spark_cluster import CONNECT, SETTINGS, Cluster, answers, free_port, wait_for

pytestmark = [pytest.mark.spark, pytest.mark.xdist_group("cluster"), pytest.mark.timeout(400)]

Dsflow = Callable[..., Screen]
DS = "2026-11-01"
SUBMIT = ("--conf", "spark.cores.max=2")


def settings(cluster: Cluster, remote: str = "") -> str:
    given = "".join(f"    {name}: {json.dumps(value)}\n" for name, value in SETTINGS.items())
    there = f"environments:\n  cluster: {{spark: {{master: '{cluster.master}'}}}}\n"
    server = f"  server: {{spark: {{remote: '{remote}'}}}}\n" if remote else ""
    return f"runtime: process\nspark:\n  memory: 512m\n  archive: false\n  settings:\n{given}{there}{server}"


# As a person has it who knows Spark, and nothing of dsflow.
ETL = """
    import sys

    from dependencies.desks import steps
    from dsflow.spark import start_spark
    from pyspark.sql import functions as f

    def main(source, target):
        spark, log, config = start_spark(app_name="etl", files=["configs/etl_config.json"])
        with spark:
            log.warn("etl is up-and-running")
            climbed = f.udf(steps, "long")
            people = spark.read.schema("id long, first string, second string, floor long").json(source)
            report = people.select(
                "id",
                f.concat_ws(" ", "first", "second").alias("name"),
                climbed("floor", f.lit(config["steps_per_floor"])).alias("steps_to_desk"),
            )
            report.write.mode("overwrite").parquet(target)
            log.warn("etl is finished")

    if __name__ == "__main__":
        main(*sys.argv[1:])
"""
PEOPLE = "".join(
    json.dumps({"id": n, "first": first, "second": second, "floor": floor}) + "\n"
    for n, (first, second, floor) in enumerate([("Dan", "Germain", 1), ("Ada", "Moreau", 2), ("Dan", "Sommer", 4)], 1)
)
REPORT = [(1, "Dan Germain", 21), (2, "Ada Moreau", 42), (3, "Dan Sommer", 84)]
DATA_LAKE: Tree = {
    "dependencies/__init__.py": "",
    "dependencies/desks.py": "def steps(floor, steps_per_floor):\n    return floor * steps_per_floor\n",
    "jobs/etl/configs/etl_config.json": '{"steps_per_floor": 21}',
    "jobs/etl/etl_job.py": ETL,
    "jobs/etl/job_specs.yaml": """
        version: 1
        kind: script
        engine: spark
        inputs: {people: {raw: people}}
        output: {table: desks}
        expectations: [{name: up, constraint: steps_to_desk > 0}]
        """,
    f"datastore/raw/people/ds={DS}/people.json": PEOPLE,
}


def rows(workspace: Workspace, table: str) -> list[tuple[Any, ...]]:
    files = f"{workspace.datastore}/tables/{table}/ds={DS}/*.parquet"
    return duckdb.execute(f"SELECT * FROM read_parquet('{files}', hive_partitioning = false) ORDER BY ALL").fetchall()


def last_run(workspace: Workspace, job: str) -> Path:
    return max(workspace.datastore.glob(f"job_runs/{job}/ds={DS}/*"))


def outcome(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "outcome.json").read_text())
    return found


# The project of a person who has never heard of dsflow, as the README of that layout shows it, and a spec.
PROJECT: Tree = {
    "configs/etl_config.json": '{"steps_per_floor": 21}',
    "dependencies/desks.py": DATA_LAKE["dependencies/desks.py"],
    "dependencies/spark.py": """
        import json
        from os import listdir, path
        from pyspark import SparkFiles
        from pyspark.sql import SparkSession

        def start_spark(app_name="my_spark_app", master="local[*]", jar_packages=[], files=[], spark_config={}):
            session = SparkSession.builder.appName(app_name).getOrCreate()
            folder = SparkFiles.getRootDirectory()
            [config] = [name for name in listdir(folder) if name.endswith("config.json")]
            with open(path.join(folder, config)) as file:
                return session, None, json.load(file)
        """,
    "jobs/etl/etl_job.py": textwrap.dedent(ETL)
    .replace("from dsflow.spark import", "from dependencies.spark import")
    .replace("log.warn", "print"),
    "jobs/etl/job_specs.yaml": DATA_LAKE["jobs/etl/job_specs.yaml"],
    "tests/test_etl_job.py": "",
    "Pipfile": "[packages]\nsix = '*'\n",
    "Pipfile.lock": json.dumps({"default": {"six": {"version": "==1.17.0"}}}),
    f"datastore/raw/people/ds={DS}/people.json": PEOPLE,
}


class TestSubmit:
    def test_a_job_in_the_data_lake_layout_is_run_and_recorded_like_any_other(
        self, cluster: Cluster, make_workspace: MakeWorkspace, dsflow: Dsflow
    ) -> None:
        workspace = make_workspace({"dsflow.yml": settings(cluster), **PROJECT})
        before = len(cluster.executors())
        screen = dsflow("submit", "etl", DS, "--env", "cluster", *SUBMIT, "--json")
        assert screen.exit_code == 0, screen.err
        assert rows(workspace, "desks") == REPORT
        assert len(cluster.executors()) > before
        run = last_run(workspace, "etl")
        task, log = json.loads((run / "task.json").read_text()), (run / "log.txt").read_text()
        assert task["facts"]["runtime"] == "submit"
        assert "--py-files packages.zip --files etl_config.json" in log
        assert "published table desks" in log
        [check] = outcome(run)["checks"]
        assert (check["name"], check["violations"]) == ("up", 0)
        assert "steps_per_floor" in (run / "index.html").read_text()
        [recorded] = dsflow("runs", "--json").document["runs"]
        assert (recorded["job"], recorded["status"]) == ("etl", "succeeded")
        manifest = json.loads((workspace.datastore / f".dsflow/manifests/tables/desks/ds={DS}.json").read_text())
        assert manifest["fingerprint"]["place"].startswith("submit:")
        assert cluster.running("etl") == []


DAILY: Tree = {
    "jobs/daily/job_specs.yaml": "version: 1\nkind: sql\ndialect: [duckdb, spark]\noutput: {table: daily}\n",
    "jobs/daily/query.sql": """
        SELECT city, count(*) AS n, sum(amount) AS total, CAST(min(seen) AS STRING) AS earliest
        FROM raw.events WHERE amount > 0 GROUP BY city
        """,
    f"datastore/raw/events/ds={DS}/events.csv": "city,amount,seen\n"
    + "".join(f"{'abc'[n % 3]},{n / 4},2026-11-01T0{n % 10}:00:00\n" for n in range(200)),
}


@pytest.mark.usefixtures("spark")
def test_every_place_gives_the_same_partition(
    cluster: Cluster,
    connect_server: str,
    make_workspace: MakeWorkspace,
    dsflow: Dsflow,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    workspace = make_workspace({"dsflow.yml": settings(cluster, connect_server), **DATA_LAKE, **DAILY})
    found = []
    for engine, *words in (
        ["duckdb", "run", "daily", DS],
        ["spark", "run", "daily", DS],
        ["spark", "run", "daily", DS, "--env", "server"],
        ["spark", "submit", "daily", DS, "--env", "cluster", *SUBMIT],
    ):
        monkeypatch.setenv("DSFLOW_ENGINE", engine)
        screen = dsflow(*words, "--json")
        assert screen.exit_code == 0, screen.err
        [published] = outcome(last_run(workspace, "daily"))["outputs"]
        found.append((published["manifest"]["columns"], rows(workspace, "daily")))
    assert len(found[0][1]) == 3
    assert found == [found[0]] * 4
    monkeypatch.delenv("DSFLOW_ENGINE")
    for words in (["run", "etl", DS], ["run", "etl", DS, "--env", "server"]):
        screen = dsflow(*words)
        assert screen.exit_code == 0, screen.out
        assert rows(workspace, "desks") == REPORT


def test_a_notebook_is_submitted_too(cluster: Cluster, make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    workspace = make_workspace(
        {
            "dsflow.yml": settings(cluster),
            "dependencies/desks.py": "def steps(floor):\n    return floor * 21\n",
            "jobs/book/job_specs.yaml": "version: 1\nkind: notebook\nengine: spark\noutput: {table: book}\n",
            "jobs/book/main.ipynb": notebook(
                "from dsflow import job\nfrom dependencies.desks import steps\nfrom pyspark.sql import functions as f",
                "print(job.spark.sparkContext.master)",
                "job.write(job.spark.range(3).select('id', f.udf(steps, 'long')('id').alias('steps')))",
            ),
        }
    )
    screen = dsflow("submit", "book", DS, "--master", cluster.master, *SUBMIT)
    assert screen.exit_code == 0, screen.err
    assert rows(workspace, "book") == [(0, 0), (1, 21), (2, 42)]
    assert cluster.master in (last_run(workspace, "book") / "notebook.ipynb").read_text()


# Each row leaves a file behind when it is computed, and takes a moment.
SLOW = """
    import pathlib, sys, time
    from pyspark.sql import SparkSession, functions as f

    target, seconds = sys.argv[-1], float(pathlib.Path("seconds").read_text())

    def step(n):
        pathlib.Path(target).parent.joinpath(f"at-{n}").touch()
        time.sleep(seconds)
        return n * n

    spark = SparkSession.builder.appName("slow").getOrCreate()
    spark.range(12, numPartitions=12).select("id", f.udf(step, "long")("id").alias("square")).write.mode(
        "overwrite"
    ).parquet(target)
    spark.stop()
"""


def slow(cluster: Cluster, seconds: float, more: str = "") -> Tree:
    return {
        "dsflow.yml": settings(cluster),
        "jobs/slow/main.py": SLOW,
        "jobs/slow/seconds": str(seconds),
        "jobs/slow/job_specs.yaml": f"version: 1\nkind: script\nengine: spark\noutput: {{table: slow}}\n{more}",
    }


def begun(workspace: Workspace) -> list[Path]:
    return list(workspace.datastore.glob(".dsflow/staging/**/at-*"))


def test_a_worker_that_is_killed_does_not_change_the_result(
    cluster: Cluster, make_workspace: MakeWorkspace, dsflow: Dsflow
) -> None:
    workspace = make_workspace(slow(cluster, 1))
    killed: list[int] = []

    def kill() -> None:
        wait_for(lambda: len(begun(workspace)) > 2, "the job did not begin")
        cluster.kill_worker()
        killed.append(len(begun(workspace)))

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        screen = dsflow("submit", "slow", DS, "--env", "cluster", *SUBMIT)
        thread.join()
    finally:
        cluster.add_workers(1)
    assert screen.exit_code == 0, screen.err
    assert killed
    assert killed[0] < 12
    assert rows(workspace, "slow") == [(n, n * n) for n in range(12)]


@pytest.mark.parametrize("how", ["interrupted", "timeout"])
def test_what_ends_a_run_ends_its_application(cluster: Cluster, make_workspace: MakeWorkspace, how: str) -> None:
    workspace = make_workspace(slow(cluster, 600, "run: {timeout: 20s}\n" if how == "timeout" else ""))
    command = [sys.executable, "-m", "dsflow", "submit", "slow", DS, "--env", "cluster", *SUBMIT]
    process = subprocess.Popen(command, cwd=workspace.root, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    wait_for(lambda: begun(workspace) or process.poll() is not None, "the job did not begin")
    if how == "interrupted":
        assert cluster.running("slow")
        process.send_signal(signal.SIGINT)
    process.communicate(timeout=200)
    assert process.returncode == {"interrupted": 130, "timeout": 124}[how]
    run = last_run(workspace, "slow")
    assert outcome(run)["status"] == {"interrupted": "interrupted", "timeout": "failed"}[how]
    assert left_of(run.name) == []
    wait_for(lambda: not cluster.running("slow"), "the application goes on")
    assert not (workspace.datastore / "tables/slow").exists()


def left_of(run_id: str) -> list[str]:
    import psutil

    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("DSFLOW_RUN_ID") == run_id:
                found.append(process.name())
        except psutil.Error:
            continue
    return found


def test_the_warm_server_computes_on_the_cluster(
    cluster: Cluster, make_workspace: MakeWorkspace, dsflow: Dsflow
) -> None:
    more = {"DSFLOW_ENGINE": "spark"}
    workspace = make_workspace({"dsflow.yml": settings(cluster), **DAILY})
    before = len(cluster.executors())
    try:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in more.items():
                patch.setenv(name, value)
            screen = dsflow("run", "daily", DS, "--env", "cluster")
        assert screen.exit_code == 0, screen.err
        assert len(rows(workspace, "daily")) == 3
        assert len(cluster.executors()) > before
    finally:
        dsflow("start-spark", "--stop")


class TestWhatIsWrong:
    def test_a_cluster_that_is_not_there(self, make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
        port = free_port()
        workspace = make_workspace(
            {"dsflow.yml": f"environments: {{gone: {{spark: {{remote: 'sc://127.0.0.1:{port}'}}}}}}\n", **DATA_LAKE}
        )
        for words, problem in (
            (["submit", "etl", DS, "--master", f"spark://127.0.0.1:{port}"], f"cluster spark://127.0.0.1:{port}"),
            (["submit", "etl", DS, "--master", f"k8s://http://127.0.0.1:{port}"], "cluster k8s://http://127.0.0.1"),
            (["run", "etl", DS, "--env", "gone", "--runtime", "process"], f"server sc://127.0.0.1:{port}"),
        ):
            screen = dsflow(*words)
            assert screen.exit_code == 4
            assert re.search(rf"the Spark {re.escape(problem)}\S* does not answer: connection refused", screen.out)
        assert "Traceback" not in screen.out + screen.err
        assert not (workspace.datastore / "tables").exists()

    def test_a_cluster_that_cannot_start_its_executors(
        self, cluster: Cluster, make_workspace: MakeWorkspace, dsflow: Dsflow
    ) -> None:
        make_workspace({"dsflow.yml": settings(cluster), **DATA_LAKE})
        broken = "spark.executorEnv.JAVA_HOME=/nowhere"
        screen = dsflow("submit", "etl", DS, "--env", "cluster", *SUBMIT, "--conf", broken)
        assert screen.exit_code == 4
        assert f"{cluster.master} has given the application up: Master removed our application: FAILED" in screen.out

    def test_a_token_is_not_sent_in_the_open(
        self, connect_server: str, make_workspace: MakeWorkspace, dsflow: Dsflow
    ) -> None:
        remote = f"{connect_server}/;token=a-secret-token"
        make_workspace({"dsflow.yml": f"environments: {{server: {{spark: {{remote: '{remote}'}}}}}}\n", **DATA_LAKE})
        screen = dsflow("run", "etl", DS, "--env", "server", "--runtime", "process")
        assert screen.exit_code == 4
        assert f"the Spark server {connect_server} does not answer: it does not speak TLS" in screen.out
        assert "a-secret-token" not in screen.out + screen.err + dsflow("config", "--env", "server").out

    def test_what_no_cluster_can_do(self, make_workspace: MakeWorkspace, dsflow: Dsflow, cluster: Cluster) -> None:
        make_workspace({"dsflow.yml": settings(cluster), **DATA_LAKE})
        screen = dsflow("submit", "etl", DS, "--env", "cluster", "--deploy-mode", "cluster")
        assert screen.exit_code == 2
        assert "cannot run the driver of a Python program on the cluster; yarn and k8s can" in screen.out
        screen = dsflow("run", "etl", DS, "--env", "cluster", "--runtime", "docker")
        assert screen.exit_code == 2
        assert f"etl cannot run in a container and compute on the Spark cluster {cluster.master}" in screen.err

    def test_a_server_whose_disk_is_another_one(
        self, cluster: Cluster, make_workspace: MakeWorkspace, dsflow: Dsflow, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A Connect server in a place of its own, where nothing is in the workspace's datastore."""
        port = free_port()
        remote = f"sc://127.0.0.1:{port}/;x-team-key=a-secret-token;user_id=me"
        workspace = make_workspace(
            {
                "dsflow.yml": settings(cluster, remote),
                "jobs/made/job_specs.yaml": "version: 1\nkind: sql\nengine: spark\noutput: {table: made}\n",
                "jobs/made/query.sql": "SELECT id FROM range(3)",
                "jobs/plain/job_specs.yaml": "version: 1\nkind: script\nengine: spark\noutput: {table: plain}\n",
                "jobs/plain/main.py": """
                    import os, sys
                    from pyspark.sql import SparkSession
                    print(os.environ["SPARK_REMOTE"])
                    SparkSession.builder.getOrCreate().range(3).write.mode("append").parquet(sys.argv[1])
                    """,
            }
        )
        given = {"spark.master": "local[1]", "spark.connect.grpc.binding.port": str(port), "spark.ui.enabled": "false"}
        given["spark.connect.grpc.binding.address"] = "127.0.0.1"
        apart = ["unshare", "-m", "sh", "-c", 'mount -t tmpfs none "$0" && exec "$@"', str(workspace.datastore)]
        need(subprocess.run([*apart, "true"], capture_output=True, check=False).returncode == 0, "no own mounts here")
        flags = ["-Xmx640m", *(f"-D{name}={value}" for name, value in given.items())]
        server = cluster.start("apart", flags, [CONNECT], before=apart)
        wait_for(lambda: answers(port) or server.poll() is not None, "the server does not listen")
        monkeypatch.setenv("DSFLOW_ENV", "server")
        for job, code, problem in (
            ("made", 4, "Spark has written the rows, and they are not in"),
            ("plain", 1, f"or sc://127.0.0.1:{port} wrote it to a disk that is not this machine's"),
        ):
            screen = dsflow("run", job, DS)
            assert screen.exit_code == code, screen.out
            assert problem in screen.out
            assert "storage that the cluster and this machine both have" in screen.out
            assert not (workspace.datastore / "tables" / job).exists()
        server.kill()
        texts = [path.read_text(errors="replace") for path in last_run(workspace, "plain").rglob("*") if path.is_file()]
        assert any("x-team-key=***" in text for text in texts)
        assert not [text for text in texts if "a-secret-token" in text]
