"""Jobs on a Spark cluster: a real one, with a master and two workers."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

from dsflow.workspace import Workspace
from tests.conftest import MakeWorkspace, Screen, Tree, notebook
from tests.spark_cluster import SETTINGS, Cluster, answers, free_port, wait_for

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


class TestSubmit:
    def test_a_job_in_the_data_lake_layout_is_run_and_recorded_like_any_other(
        self, cluster: Cluster, make_workspace: MakeWorkspace, dsflow: Dsflow
    ) -> None:
        workspace = make_workspace({"dsflow.yml": settings(cluster), **DATA_LAKE})
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
        assert (check["name"], check["verdict"]) == ("up", "kept")
        assert "steps_per_floor" in (run / "index.html").read_text()
        [recorded] = dsflow("runs", "--json").document["runs"]
        assert (recorded["job"], recorded["status"]) == ("etl", "succeeded")
        manifest = json.loads((workspace.datastore / f".dsflow/manifests/tables/desks/ds={DS}.json").read_text())
        assert manifest["fingerprint"]["place"].startswith("submit:")
        assert cluster.running("etl") == []
