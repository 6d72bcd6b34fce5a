"""The warm Spark server: started once, found again, never mistaken, ended cleanly."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from dsflow.errors import EnvironmentMissing
from dsflow.model import Spark
from dsflow.spark import java, server
from tests.spark_server import WANTED

pytestmark = [pytest.mark.spark, pytest.mark.xdist_group("spark"), pytest.mark.timeout(300)]

# What a person's own program does with the server; it prints the number of rows.
COUNT = """
from pyspark.sql import SparkSession
s = SparkSession.builder.getOrCreate()
print(s.range(7).count())
s.stop()
"""


@pytest.fixture
def folder(spark_here: None, tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "spark"
    server.stop(tmp_path / "spark")


def until(condition: Callable[[], bool], what: str) -> None:
    for _ in range(3000):
        if condition():
            return
        time.sleep(0.1)
    pytest.fail(f"not within two minutes: {what}")


def count(found: server.Server, **changed: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "SPARK_REMOTE": found.url, "SPARK_CONNECT_AUTHENTICATE_TOKEN": found.token, **changed}
    command = [sys.executable, "-W", "ignore", "-c", COUNT]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)


def is_gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def check_that_only_its_owner_gets_in(folder: Path, found: server.Server) -> None:
    for path in (folder / server.STATE, folder / server.REQUEST, *folder.glob("scratch-*/arguments")):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    # Nothing that others on the machine can see holds the token or a setting.
    for process in psutil.Process(found.keeper), psutil.Process(found.pid):
        assert found.token not in " ".join(process.cmdline())
        assert "spark.sql" not in " ".join(process.cmdline())
    connections = psutil.Process(found.pid).net_connections("tcp")
    listening = {one.laddr.ip for one in connections if one.status == psutil.CONN_LISTEN}
    assert {address.removeprefix("::ffff:") for address in listening} == {"127.0.0.1"}
    refused = count(found, SPARK_CONNECT_AUTHENTICATE_TOKEN="guessed")
    assert refused.returncode != 0
    assert "UNAUTHENTICATED" in refused.stderr
    log = folder / server.LOG
    assert not log.exists() or found.token not in log.read_text()


def test_it_is_started_once_for_its_owner_alone_and_ended_without_a_trace(folder: Path) -> None:
    said: list[str] = []
    with ThreadPoolExecutor(4) as pool:
        several = list(pool.map(lambda _: server.ensure(folder, WANTED, said.append), range(4)))
    assert len(set(several)) == 1
    assert said == ["Starting the Spark server of this workspace"]
    [found] = set(several)
    assert server.running(folder) == found
    assert count(found).stdout == "7\n"
    check_that_only_its_owner_gets_in(folder, found)
    assert server.stop(folder)
    assert server.running(folder) is None
    until(lambda: is_gone(found.pid) and is_gone(found.keeper), "Java and its keeper are gone")
    assert not server.stop(folder)
    assert not [path for path in folder.iterdir() if path.is_dir()]
    assert not (folder / server.STATE).exists()
    assert server.ending(folder) == "it was stopped"


def test_a_process_that_got_its_number_is_not_taken_for_it(folder: Path) -> None:
    found = server.ensure(folder, WANTED, print)
    state = json.loads((folder / server.STATE).read_text())
    os.kill(found.keeper, signal.SIGKILL)
    until(lambda: is_gone(found.pid), "Java is gone with its keeper")
    # The state that a crash left names a program of somebody else now, and a port at which something answers.
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as stranger:
        (folder / server.STATE).write_text(json.dumps(state | {"pid": stranger.pid}))
        assert server.running(folder) is None
        again = server.ensure(folder, WANTED, print)
        assert again.pid != stranger.pid
        assert stranger.poll() is None
        assert again.token != found.token
        stranger.communicate(b"\n")
    assert count(again).stdout == "7\n"


def test_new_settings_wait_until_nobody_is_at_work(folder: Path) -> None:
    found = server.ensure(folder, WANTED, print)
    other = dataclasses.replace(WANTED, settings={**WANTED.settings, "spark.sql.shuffle.partitions": "3"})
    said: list[str] = []
    with contextlib.ExitStack() as held:
        script = COUNT.replace("s.stop()", "input()")
        environment = {**os.environ, "SPARK_REMOTE": found.url, "SPARK_CONNECT_AUTHENTICATE_TOKEN": found.token}
        client = held.enter_context(
            subprocess.Popen(
                [sys.executable, "-W", "ignore", "-u", "-c", script],
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
        )
        assert client.stdout is not None
        assert client.stdout.readline() == b"7\n"
        assert server.ensure(folder, other, said.append) == found
        assert said == ["The Spark server still works for others with other settings; new ones count when it is idle."]
        client.kill()
    until(lambda: server.clients(found) == 0, "the client is gone")
    replaced = server.ensure(folder, other, said.append)
    assert replaced.key != found.key
    assert server.running(folder) == replaced
    until(lambda: is_gone(found.pid), "the old one is gone")


@pytest.mark.timeout(420)  # the archive is made with what the machine has left over
def test_it_ends_when_nobody_uses_it_and_leaves_an_archive_for_the_next(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DSFLOW_CACHE", str(tmp_path / "cache"))
    found = server.ensure(folder, dataclasses.replace(WANTED, idle=2, archive=True), print)
    until(lambda: server.running(folder) is None, "it ended")
    assert server.ending(folder) == "nobody had used it for a while"
    until(lambda: is_gone(found.keeper), "its keeper ended")
    archive = java.Archive.of(java.find_java(), java.spark_home())
    assert archive.path.stat().st_size > 10_000_000
    again = server.ensure(folder, dataclasses.replace(WANTED, archive=True), print)
    assert str(archive.path) in {entry.path for entry in psutil.Process(again.pid).memory_maps()}


def test_what_keeps_it_from_starting_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = Spark(archive=False, settings={"spark.master": "nowhere"})
    with pytest.raises(EnvironmentMissing, match="the Spark server did not start: .*nowhere") as caught:
        server.ensure(folder, wrong, print)
    assert str(folder / server.LOG) in caught.value.hint
    assert "nowhere" in (folder / server.LOG).read_text()


def test_without_a_java_that_is_new_enough_there_is_no_server(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    old = tmp_path / "old"
    (old / "bin").mkdir(parents=True)
    (old / "bin" / "java").write_text("#!/bin/sh\n")
    (old / "bin" / "java").chmod(0o755)
    (old / "release").write_text('JAVA_VERSION="1.8.0_402"\n')
    monkeypatch.setenv("JAVA_HOME", str(old))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("dsflow.spark.java._packaged", list)
    with pytest.raises(EnvironmentMissing, match=r"Java 17 or newer: Java 1.8.0_402 \(JAVA_HOME\) is too old"):
        java.find_java()


@pytest.mark.parametrize(
    ("version", "feature"), [("17.0.15", 17), ("1.8.0_402", 8), ("21", 21), ("25.0.2", 25), ("26-ea", 26), ("", 0)]
)
def test_the_number_of_a_java(version: str, feature: int) -> None:
    assert java.Java(home=Path("/"), version=version, origin="").feature == feature
