"""Containers killed at any moment, and the command that started them: the partition stays whole, no container stays."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import docker
import pytest

from tests.conftest import MakeWorkspace
from tests.crash.test_killed_runs import FILES, await_phase, published, run, start

pytestmark = [pytest.mark.crash, pytest.mark.docker, pytest.mark.timeout(900), pytest.mark.usefixtures("python_image")]

KILLS = 24
PHASES = ("", "writing", "publishing", "swapped")


@pytest.fixture
def root(make_workspace: MakeWorkspace, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DSFLOW_RUNTIME", "docker")
    return make_workspace(FILES).root


@pytest.fixture
def client() -> docker.DockerClient:
    return docker.from_env()


def containers_of(client: docker.DockerClient, root: Path) -> list[str]:
    mine = f"{root / 'datastore'}"
    return [
        found["Id"]
        for found in client.api.containers(all=True, filters={"label": "io.dsflow.job=t"})
        if any(mount.get("Source") == mine for mount in found["Mounts"])
    ]


def test_the_whole_container_killed(root: Path, client: docker.DockerClient) -> None:
    began = time.perf_counter()
    assert run(root, 0) == 0
    usual = time.perf_counter() - began
    old, new = 0, 0
    for version in range(1, KILLS + 1):
        before = published(root)
        phase = PHASES[version % len(PHASES)]
        host = start(root, version)
        if phase:
            manifest = (root / "datastore/.dsflow/manifests/tables/t/ds=2013-01-01.json").read_bytes()
            await_phase(root, phase, host, manifest)
        else:
            time.sleep(usual * version / KILLS)
        for container in containers_of(client, root):
            with contextlib.suppress(docker.errors.APIError):  # It may have ended by itself just now.
                client.api.kill(container, "SIGKILL")
        host.wait(60)
        assert published(root) in (before, version)
        old += published(root) == before
        new += published(root) == version
    assert old
    assert new
    assert run(root, KILLS + 1) == 0
    assert published(root) == KILLS + 1
    assert containers_of(client, root) == []


def test_the_command_killed_takes_its_container_along(root: Path, client: docker.DockerClient) -> None:
    assert run(root, 0) == 0
    for version, delay in enumerate((0.8, 1.1), start=1):
        host = start(root, version)
        time.sleep(delay)
        host.kill()
        host.wait(10)
        deadline = time.monotonic() + 30
        while any(client.containers.get(one).status == "running" for one in containers_of(client, root)):
            assert time.monotonic() < deadline
            time.sleep(0.2)
        assert published(root) in range(version + 1)
    assert run(root, 9) == 0
    assert published(root) == 9
    for one in containers_of(client, root):
        client.api.remove_container(one, force=True)
