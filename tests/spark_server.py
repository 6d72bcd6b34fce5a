"""One Spark server for all tests of a session, whichever worker runs them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dsflow.errors import EnvironmentMissing
from dsflow.model import Spark
from dsflow.spark import access, java, server
from tests.services import need

# The quickest compiler, as no test runs for long; and no archive, which takes longer to write than it saves here.
SETTINGS = {"spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1", "spark.sql.shuffle.partitions": "2"}
# What a test needs that runs once for each engine.
MARKS = {"spark": [pytest.mark.spark, pytest.mark.xdist_group("spark")]}


def spark_test(test: Any) -> Any:
    """Mark a test, or a class of them, that needs Spark."""
    for mark in (*MARKS["spark"], pytest.mark.timeout(300)):
        test = mark(test)
    return test


WANTED = Spark(memory=1 << 30, idle=900, archive=False, settings=SETTINGS)


@pytest.fixture(scope="session")
def spark_here() -> None:
    """Skip where Spark cannot run; fail where it must."""
    try:
        java.find_java()
        java.spark_home()
    except EnvironmentMissing as error:
        need(False, error.message)


@pytest.fixture(scope="session")
def spark_server(spark_here: None, tmp_path_factory: pytest.TempPathFactory) -> server.Server:
    """The server that tests share."""
    return server.ensure(_folder(tmp_path_factory), WANTED, print)


@pytest.fixture
def spark(
    spark_server: server.Server, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> server.Server:
    """That server, which the tasks of a test join instead of starting one for their workspace."""
    monkeypatch.setenv(access.SERVER, str(_folder(tmp_path_factory)))
    return spark_server


@pytest.fixture
def spark_session_here(spark_server: server.Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let an engine that is opened in this process join that server."""
    join(spark_server, monkeypatch)


def join(found: server.Server, patch: pytest.MonkeyPatch) -> None:
    """Let an engine that is opened in this process join a server."""
    patch.setenv("SPARK_REMOTE", found.url)
    patch.setenv("SPARK_CONNECT_AUTHENTICATE_TOKEN", found.token)
    patch.setenv("SPARK_CONNECT_MODE_ENABLED", "1")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """End the server with the whole session, not with that of one worker."""
    if not hasattr(session.config, "workerinput"):
        factory: pytest.TempPathFactory | None = getattr(session.config, "_tmp_path_factory", None)
        if factory is not None:
            server.stop(_folder(factory))


def _folder(factory: pytest.TempPathFactory) -> Path:
    base = factory.getbasetemp()
    # Each worker has a folder of its own in that of the session.
    return (base.parent if base.name.startswith("popen-") else base) / "spark-server"
