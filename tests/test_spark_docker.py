"""Spark in containers: a server of its own, tasks that share its loopback, and a task with Spark inside."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dsflow.containers import images
from dsflow.runtimes import companion
from dsflow.runtimes.contract import Folders
from dsflow.runtimes.docker import workspace_label
from dsflow.spark import server
from dsflow.workspace import Workspace
from tests.conftest import MakeWorkspace, Screen
from tests.test_spark_jobs import DS, NUMBERS, rows, spec

pytestmark = [
    pytest.mark.docker,
    pytest.mark.spark,
    pytest.mark.xdist_group("spark"),
    # The first run builds the images.
    pytest.mark.timeout(1200),
]


@pytest.fixture
def workspace(surroundings: images.Surroundings, make_workspace: MakeWorkspace) -> Iterator[Workspace]:
    images.ensure(images.SPARK_CLIENT, surroundings, print)
    made = make_workspace(
        {
            **NUMBERS,
            "jobs/own/job_specs.yaml": spec("script", "session: classic\n", output="own"),
            "jobs/own/main.py": """
                from dsflow import job
                job.write(job.spark.sparkContext.parallelize([1, 2]).map(lambda x: (x, x * x)).toDF("x long, y long"))
                """,
            "jobs/twice/job_specs.yaml": spec("script", "inputs: {numbers: {table: numbers}}\n", output="twice"),
            "jobs/twice/main.py": """
                import socket
                from dsflow import job
                from pyspark.sql import functions as f
                twice = f.udf(lambda x: 2 * x, "long") if job.spark else None
                job.write(job.read("numbers").where("x > 7").select(twice("x").alias("y")))
                print(sorted(name for _, name in socket.if_nameindex()))
                """,
        }
    )
    yield made
    companion.stop(label(made))


def label(workspace: Workspace) -> str:
    return workspace_label(Folders(jobs=workspace.jobs, datastore=workspace.datastore))


def test_tasks_share_a_server_that_leads_nowhere(workspace: Workspace, dsflow: Callable[..., Screen]) -> None:
    for job in ("numbers", "twice", "own"):
        screen = dsflow("run", job, DS, "--runtime", "docker")
        assert screen.exit_code == 0, screen.out + screen.err
    assert len(rows(workspace, "numbers")) == 10
    assert rows(workspace, "twice") == [(16,), (18,)]
    assert rows(workspace, "own") == [(1, 1), (2, 4)]
    # Nothing but the loopback, for the task as for the server, and one server for both tasks.
    [log] = workspace.datastore.glob("job_runs/twice/*/*/log.txt")
    assert "['lo']" in log.read_text()
    [folder] = (workspace.datastore / ".dsflow" / "spark").glob("docker-*")
    state = json.loads((folder / server.STATE).read_text())
    containers = subprocess.run(
        ["docker", "ps", "-q", "--filter", f"label=io.dsflow.workspace={label(workspace)}"],
        capture_output=True,
        text=True,
        check=True,
    )
    [container] = containers.stdout.split()
    told = subprocess.run(["docker", "inspect", container], capture_output=True, text=True, check=True).stdout
    assert json.loads(told)[0]["HostConfig"]["NetworkMode"] == "none"
    assert state["token"] not in told
    # What the server wrote belongs to the caller.
    assert {path.stat().st_uid for path in published(workspace)} == {os.getuid()}
    screen = dsflow("start-spark", "--stop")
    assert "The Spark server has ended." in screen.out
    assert not (folder / server.STATE).exists()


def published(workspace: Workspace) -> list[Path]:
    return list(workspace.datastore.glob("tables/*/ds=*/*"))
