"""What the docker runtime asks of the engine for a task, and what a job finds in its container."""

from __future__ import annotations

import json
import os
import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dsflow.containers import images
from dsflow.containers.engine import Bind, Engine, Image
from dsflow.model import Limits, Spark
from dsflow.runtimes import companion
from dsflow.runtimes.contract import Folders
from dsflow.runtimes.docker import wanted, workspace_label
from tests.conftest import MakeWorkspace, Screen
from tests.samples import sample_task

ENGINE = Engine(rootless=False, cpus=4)
DS = "2013-01-01"


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    made = Folders(jobs=tmp_path / "my work" / "jobs", datastore=tmp_path / "my work" / "datastore")
    made.jobs.mkdir(parents=True)
    made.datastore.mkdir()
    return made


def image(**environment: str) -> Image:
    return Image(id="sha256:1", labels={"io.dsflow.package": images.package_hash()}, environment=environment)


def test_a_task_gets_its_folders_its_user_and_nothing_else(folders: Folders) -> None:
    task = sample_task(limits=Limits(memory=2**30, cpus=2.5))
    asked = wanted(task, image(), folders, {"CITY": "paris"}, ENGINE)
    passwd = folders.datastore / ".dsflow" / f"passwd-{os.getuid()}-{os.getgid()}"
    assert asked.binds == (
        Bind(source=folders.jobs, target="/jobs"),
        Bind(source=folders.datastore, target="/data", read_only=False),
        Bind(source=passwd, target="/etc/passwd"),
    )
    assert asked.command == ("python3", "-P", "-m", "dsflow.shim", f"/data/{task.folder}")
    assert asked.user == f"{os.getuid()}:{os.getgid()}"
    assert (asked.memory, asked.cpus, asked.network, asked.port) == (2**30, 2.5, False, None)
    assert asked.environment == {
        "CITY": "paris",
        "HOME": "/tmp",
        "DSFLOW_DATA": "/data",
        "DSFLOW_JOBS": "/jobs",
        "DSFLOW_STDIN_GUARD": "1",
    }
    assert asked.labels == {
        "workspace": workspace_label(folders),
        "job": "create-table-rain",
        "ds": "2026-11-20",
        "run": task.run_id,
    }


def test_labels_tell_workspaces_apart_and_hold_no_path(folders: Folders, tmp_path: Path) -> None:
    other = Folders(jobs=tmp_path / "other" / "my work" / "jobs", datastore=tmp_path / "other")
    assert workspace_label(folders).startswith("my work-")
    assert workspace_label(folders) != workspace_label(other)
    assert str(tmp_path) not in workspace_label(folders)


def test_more_cores_than_the_engine_has_are_all_it_has(folders: Folders) -> None:
    assert wanted(sample_task(limits=Limits(cpus=64)), image(), folders, {}, ENGINE).cpus == 4


def test_a_network_brings_the_callers_proxies(folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:3128")
    assert "https_proxy" not in wanted(sample_task(), image(), folders, {}, ENGINE).environment
    asked = wanted(sample_task(limits=Limits(network=True)), image(), folders, {}, ENGINE)
    assert (asked.network, asked.environment["https_proxy"]) == (True, "http://proxy:3128")


def test_a_dashboard_listens_to_the_port_that_is_published(folders: Folders) -> None:
    asked = wanted(sample_task(port=8051), image(), folders, {}, ENGINE)
    assert (asked.port, asked.environment["DSFLOW_HOST"]) == (8051, "0.0.0.0")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("", "/opt/dsflow"),
        ("/opt/requirements:/opt/dsflow", "/opt/requirements:/opt/dsflow"),
        ("/app", "/app:/opt/dsflow"),
    ],
)
def test_an_image_without_this_package_gets_it_laid_over(folders: Folders, path: str, expected: str) -> None:
    older = Image(id="sha256:1", labels={"io.dsflow.package": "older"}, environment={"PYTHONPATH": path})
    asked = wanted(sample_task(), older, folders, {}, ENGINE)
    assert asked.binds[-1] == Bind(source=images.PACKAGE, target="/opt/dsflow/dsflow")
    assert asked.environment["PYTHONPATH"] == expected


@pytest.fixture
def foreign_image(python_image: Image) -> Iterator[str]:
    """An image that has the libraries and knows nothing of dsflow."""
    name = f"dsflow-test/foreign:{uuid.uuid4().hex[:8]}"
    dockerfile = f'FROM {images.DEFAULT}\nENV PYTHONPATH=\nLABEL io.dsflow.package=""\nUSER nobody\n'
    subprocess.run(
        ["docker", "build", "-q", "-t", name, "-"], input=dockerfile, check=True, text=True, capture_output=True
    )
    yield name
    subprocess.run(["docker", "rmi", name], check=True, capture_output=True)


@pytest.mark.docker
def test_a_foreign_image_runs_jobs_for_a_caller_it_does_not_know(
    make_workspace: MakeWorkspace, dsflow: Callable[..., Screen], foreign_image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = """
        import getpass, os, pathlib
        home = pathlib.Path.home(); (home / "x").touch()
        pathlib.Path(os.environ["DSFLOW_SINK"], "who").write_text(f"{getpass.getuser()} {home} {os.getuid()}")
        """
    specs = f"version: 1\nkind: script\nmain: main.py\nrun: {{image: '{foreign_image}'}}\noutput: {{raw: out}}\n"
    ws = make_workspace({"jobs/who/job_specs.yaml": specs, "jobs/who/main.py": code})
    if os.getuid() == 0:
        # Root writes everywhere; somebody else must be able to as well.
        monkeypatch.setattr(os, "getuid", lambda: 4242)
        monkeypatch.setattr(os, "getgid", lambda: 4242)
        for folder in ("datastore", "datastore/job_runs", "datastore/job_runs/who", f"datastore/job_runs/who/ds={DS}"):
            (ws.root / folder).mkdir(exist_ok=True)
            (ws.root / folder).chmod(0o777)
    mask = os.umask(0)
    screen = dsflow("run", "who", DS, "--runtime", "docker")
    os.umask(mask)
    assert screen.exit_code == 0, screen
    made = ws.datastore / "raw" / "out" / f"ds={DS}" / "who"
    assert made.read_text() == f"job /tmp {os.getuid()}"
    assert made.stat().st_uid == os.getuid()


@pytest.mark.docker
def test_an_image_that_is_not_there_is_not_pulled(
    make_workspace: MakeWorkspace, dsflow: Callable[..., Screen], engine: None
) -> None:
    specs = "version: 1\nkind: script\nmain: main.py\nrun: {image: 'acme.invalid/x:1'}\n"
    make_workspace({"jobs/far/job_specs.yaml": specs, "jobs/far/main.py": "1"})
    screen = dsflow("run", "far", DS, "--runtime", "docker")
    assert (screen.exit_code, "the image acme.invalid/x:1 is not on this machine" in screen.err) == (4, True)
    assert "docker pull acme.invalid/x:1" in screen.err


@pytest.mark.docker
def test_containers_carry_labels_and_are_gone_after_the_run(
    make_workspace: MakeWorkspace, dsflow: Callable[..., Screen], python_image: Image
) -> None:
    ws = make_workspace(
        {"jobs/ok/job_specs.yaml": "version: 1\nkind: script\nmain: main.py\n", "jobs/ok/main.py": "print('ok')"}
    )
    assert dsflow("run", "ok", DS, "--runtime", "docker").exit_code == 0
    label = workspace_label(Folders(jobs=ws.jobs, datastore=ws.datastore))
    listed = ["docker", "ps", "-aq", "--filter", f"label=io.dsflow.workspace={label}"]
    assert subprocess.run(listed, check=True, capture_output=True).stdout == b""
    task = json.loads(next((ws.datastore / "job_runs" / "ok").glob("ds=*/*/task.json")).read_text())
    assert task["facts"]["image"] == "dsflow/python"
    assert task["facts"]["image_id"] == python_image.id


def test_a_sampled_run_has_a_spark_server_of_its_own(folders: Folders) -> None:
    """The server of the whole datastore has all of it at /data, where the sampled run has only samples."""
    like = wanted(sample_task(engine="spark"), image(), folders, {}, ENGINE)
    sampled = Folders(jobs=folders.jobs, datastore=folders.datastore / "sample")
    sampled.datastore.mkdir()
    other = wanted(sample_task(engine="spark"), image(), sampled, {}, ENGINE)
    keys = {companion.key_of(Spark(), each, place.datastore) for each, place in ((like, folders), (other, sampled))}
    assert len(keys) == 2
    assert companion.key_of(Spark(), like, folders.datastore) in keys
