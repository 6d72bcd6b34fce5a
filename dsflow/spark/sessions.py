"""Sessions of Spark for code of dsflow: the one of the environment (`dsflow.spark.access`), tuned and made quiet.

The only module beside the engine that imports pyspark.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import logging
import os
import re
import sys
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dsflow import shared
from dsflow.errors import EnvironmentMissing

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

# A server on this machine answers at once or never.
_RETRIES: dict[str, Any] = {"max_retries": 3, "initial_backoff": 50, "max_backoff": 500, "jitter": 50}
# Elsewhere a connection may be lost for a moment.
_PATIENCE: dict[str, Any] = {"max_retries": 8, "initial_backoff": 50, "max_backoff": 4000, "jitter": 100}
_HERE = re.compile(r"sc://(localhost|127\.0\.0\.1)[:/;]")
_BEGUN_WITH = "PYSPARK_REMOTE_INIT_CONF_LEN"
_BEGINNING = "PYSPARK_REMOTE_INIT_CONF_0"
_CHANNEL = [("grpc.enable_http_proxy", 0)]


def load() -> None:
    """Import what a session will need, in a process that will be forked: no channel is opened, no thread started."""
    with _quiet():
        try:
            import pyspark.sql.connect.client.core
            import pyspark.sql.connect.session
            import pyspark.sql.functions  # noqa: F401
        except ImportError as error:
            raise _missing(error) from None


def is_warm() -> bool:
    """Say whether the environment leads to a server."""
    return "SPARK_REMOTE" in os.environ


def names() -> list[str]:
    """Give the names that a session offers to a person; none where pyspark is not installed."""
    try:
        from pyspark.sql import SparkSession
    except ImportError:
        return []
    return [name for name in dir(SparkSession) if not name.startswith("_")]


def open_session() -> SparkSession:
    """Give this process's session: the one that is there, else a new one, as the environment says.

    It is ended with the process at the latest.

    Raises:
        EnvironmentMissing: pyspark is not installed, or Spark does not start.
    """
    # It logs every query that fails as six kilobytes of JSON.
    logging.getLogger("SQLQueryContextLogger").setLevel(logging.CRITICAL + 1)
    with _quiet():
        try:
            session = _remote() if is_warm() else _classic()
        except ImportError as error:
            raise _missing(error) from None
    atexit.register(close_session, session)
    return session


def close_session(session: Any) -> None:
    """End a session; one that is ended, or whose server is gone, is left in peace."""
    atexit.unregister(close_session)
    with contextlib.suppress(Exception), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        session.stop()


def interrupt(session: Any) -> None:
    """End what a session computes; from another thread than the one that waits for it."""
    with contextlib.suppress(Exception):
        if is_warm():
            session.interruptAll()
        else:
            session.sparkContext.cancelAllJobs()


def _remote() -> SparkSession:
    import pyspark.sql.connect.client.core as client
    from pyspark.sql.connect.client.retries import DefaultPolicy
    from pyspark.sql.connect.session import SparkSession

    # The functions of pyspark.sql look here for which of its two halves they belong to.
    os.environ["SPARK_CONNECT_MODE_ENABLED"] = "1"
    builder = SparkSession.builder.channelBuilder(client.DefaultChannelBuilder(os.environ["SPARK_REMOTE"], _CHANNEL))
    # Without a question to the server, which pyspark would repeat for minutes.
    begun_with = os.environ.pop(_BEGUN_WITH, None)
    session: Any = builder.getOrCreate()
    is_here = _HERE.match(os.environ["SPARK_REMOTE"])
    session.client.set_retry_policies([DefaultPolicy(**(_RETRIES if is_here else _PATIENCE))])
    if begun_with is not None:
        os.environ[_BEGUN_WITH] = begun_with
        # A setting that it does not know is no reason to do without the session.
        session.conf._set_all(json.loads(os.environ[_BEGINNING]), silent=True)
    else:
        # Nobody has said what it is to begin with: functions written in Python run in this Python.
        session.conf.set("spark.sql.execution.pyspark.python", sys.executable)
    _send_modules(session)
    return session  # type: ignore[no-any-return]


def _send_modules(session: Any) -> None:
    """Send the modules beside the job's main file, and those that jobs share: functions in Spark may import them."""
    if "DSFLOW_JOBS" not in os.environ or "DSFLOW_JOB" not in os.environ:
        return
    job = Path(os.environ["DSFLOW_JOBS"], os.environ["DSFLOW_JOB"])
    modules = sorted(map(str, job.glob("*.py")))
    place = Path(os.environ.get(shared.PLACE, os.devnull))
    with tempfile.TemporaryDirectory(prefix="dsflow-") as scratch:
        if place.is_dir() and shared.used(job, [folder.name for folder in place.iterdir()]):
            modules.append(f"{scratch}/shared.zip")
            shared.pack(place, Path(modules[-1]))
        if modules:
            session.addArtifacts(*modules, pyfile=True)


def _classic() -> SparkSession:
    from pyspark.errors import PySparkRuntimeError
    from pyspark.sql import SparkSession

    try:
        return SparkSession.builder.getOrCreate()
    except PySparkRuntimeError as error:
        if error.getCondition() == "JAVA_GATEWAY_EXITED":
            raise EnvironmentMissing(
                "Java ended while Spark was starting in the job's process", "`dsflow doctor` says which Java is used."
            ) from None
        raise


@contextlib.contextmanager
def _quiet() -> Any:
    """Keep to ourselves what libraries say about each other's versions."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _missing(error: ImportError) -> EnvironmentMissing:
    return EnvironmentMissing(f"Spark cannot be used here: {error}", "`pip install 'dsflow[spark]'`")
