"""A real Spark cluster: a master and two workers, each a process of its own, and a Connect server on top."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from dsflow import forking
from dsflow.spark import java, settings

_MASTER = "org.apache.spark.deploy.master.Master"
_WORKER = "org.apache.spark.deploy.worker.Worker"
CONNECT = "org.apache.spark.sql.connect.service.SparkConnectServer"
_QUICK = "-XX:TieredStopAtLevel=1"
# What an application on it needs to be small and quick.
SETTINGS = {
    "spark.executor.memory": "512m",
    "spark.executor.extraJavaOptions": f"{_QUICK} -XX:+UseSerialGC",
    "spark.driver.extraJavaOptions": _QUICK,
    "spark.sql.shuffle.partitions": "2",
}
_PATIENCE_SECONDS = 120


@dataclass
class Cluster:
    """A running cluster.

    Attributes:
        folder: Where its parts work.
        master: Its URL.
        workers: Its workers' processes.
    """

    folder: Path
    port: int
    page: int
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def master(self) -> str:
        """Its URL."""
        return f"spark://127.0.0.1:{self.port}"

    def state(self) -> dict[str, Any]:
        """Give what the master knows."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.page}/json/", timeout=10) as answer:
            found: dict[str, Any] = json.load(answer)
            return found

    def running(self, name: str) -> list[dict[str, Any]]:
        """Give the applications of that name that run now."""
        return [each for each in self.state()["activeapps"] if each["name"] == name]

    def executors(self) -> list[Path]:
        """Give the folders of all executors there ever were."""
        return sorted(self.folder.glob("worker-*/app-*/*"))

    @property
    def alive(self) -> int:
        """How many workers the master knows; -1 while it cannot say."""
        try:
            return int(self.state()["aliveworkers"])
        except (OSError, ValueError):
            return -1

    def add_workers(self, count: int) -> None:
        """Start more workers, and wait until the master knows them."""
        for _ in range(count):
            place = self.folder / f"worker-{len(self.workers)}"
            options = ["--cores", "2", "--memory", "2g", "--work-dir", str(place), "--webui-port", "0"]
            worker = self.start(place.name, [], [_WORKER, "--host", "127.0.0.1", *options, self.master])
            self.workers.append(worker)
        living = [worker for worker in self.workers if worker.poll() is None]
        wait_for(lambda: self.alive == len(living), "the workers did not join")

    def kill_worker(self) -> None:
        """Kill a worker that has an executor, and its executors with it."""
        busy = next(worker for worker in self.workers if worker.poll() is None and _children(worker.pid))
        for pid in [busy.pid, *_children(busy.pid)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        busy.wait(_PATIENCE_SECONDS)

    def start(
        self, name: str, flags: Sequence[str], arguments: Sequence[str], *, before: Sequence[str] = ()
    ) -> subprocess.Popen[bytes]:
        """Start one of Spark's programs, by another one if need be; it ends with this process at the latest."""
        place = self.folder / f"{name}-files"
        place.mkdir()
        found, home = java.find_java(), java.spark_home()
        log = place / "log4j2.properties"
        log.write_text(settings.log_to_stdout())
        own = os.getpid()
        usual = [*java.flags(found, place, 1), "-Xmx384m", _QUICK, f"-Dlog4j2.configurationFile={log.as_uri()}"]
        command = [*before, str(found.program), *usual, *flags, "-cp", java.class_path(home), *arguments]
        with open(self.folder / f"{name}.log", "wb") as output:
            process = subprocess.Popen(
                command,
                cwd=place,
                env={
                    "PATH": os.environ["PATH"],
                    "JAVA_HOME": str(java.quiet_home(found)),
                    "SPARK_HOME": str(home),
                    "SPARK_LOCAL_IP": "127.0.0.1",
                    # What Spark's own scripts say, and workers want to know.
                    "SPARK_SCALA_VERSION": "2.13",
                    "SPARK_LOCAL_DIRS": str(place),
                    "PYSPARK_PYTHON": sys.executable,
                },
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                preexec_fn=lambda: forking.die_with(own),  # noqa: PLW1509
            )
        self.processes.append(process)
        return process

    def stop(self) -> None:
        """End all of it."""
        for process in reversed(self.processes):
            for pid in _children(process.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            process.kill()
            process.wait()


@pytest.fixture(scope="session")
def cluster(spark_here: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One master and two workers."""
    found = Cluster(tmp_path_factory.mktemp("cluster"), free_port(), free_port())
    try:
        ports = ["--port", str(found.port), "--webui-port", str(found.page)]
        found.start("master", [], [_MASTER, "--host", "127.0.0.1", *ports])
        wait_for(lambda: found.alive == 0, "the master did not start")
        found.add_workers(2)
        yield found
    finally:
        found.stop()


@pytest.fixture(scope="session")
def connect_server(cluster: Cluster) -> str:
    """The URL of a Connect server that computes on the cluster, and that somebody else keeps."""
    port = free_port()
    given = {
        **SETTINGS,
        "spark.app.name": "connect",
        "spark.master": cluster.master,
        "spark.ui.enabled": "false",
        "spark.cores.max": "2",
        "spark.driver.host": "127.0.0.1",
        "spark.connect.grpc.binding.address": "127.0.0.1",
        "spark.connect.grpc.binding.port": str(port),
    }
    # Spark wants more memory for this than for the rest.
    flags = ["-Xmx640m", *(f"-D{name}={value}" for name, value in given.items())]
    server = cluster.start("connect", flags, [CONNECT])
    wait_for(lambda: answers(port) or server.poll() is not None, "the Connect server does not listen")
    assert server.poll() is None, (cluster.folder / "connect.log").read_text()
    return f"sc://127.0.0.1:{port}"


def free_port() -> int:
    """Give a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def answers(port: int) -> bool:
    """Say whether somebody listens on a port."""
    try:
        socket.create_connection(("127.0.0.1", port), 5).close()
    except OSError:
        return False
    return True


def wait_for(condition: Callable[[], object], problem: str) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, problem
        time.sleep(0.1)


def _children(pid: int) -> list[int]:
    import psutil

    try:
        return [child.pid for child in psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return []
