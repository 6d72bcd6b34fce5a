"""What a task needs to get its Spark session: environment variables, and somebody who notices that Spark is gone.

All of it is in the environment, in the words of pyspark itself: a script that knows nothing of dsflow and calls
`SparkSession.builder.getOrCreate()` gets the same session as `job.sql`.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from dsflow.durable import make_folder, remove_tree, write_text
from dsflow.errors import EnvironmentMissing
from dsflow.model import Spark
from dsflow.spark import hidden, server, settings
from dsflow.spark import java as javas
from dsflow.store.layout import Layout
from dsflow.store.locks import is_held, lock

# Set by a runtime that has started the server itself: the folder in which the task finds it.
SERVER = "DSFLOW_SPARK_SERVER"
_OWN_LOG = "spark.log"
_ANSWER_SECONDS = 10
_USUAL_PORT = 15002
# What a session may be told when it begins; all else is settled when Spark starts.
_OF_SESSIONS = "spark.sql."


@dataclass(frozen=True)
class Access:
    """A way to Spark.

    Attributes:
        environment: What to add to the environment of the code.
        problem: Says in a sentence why Spark is gone; None while it is there.
    """

    environment: Mapping[str, str]
    problem: Callable[[], str | None]


def warm_folder(data: Path) -> Path:
    """Give the folder of the warm server that runs as a process of this machine."""
    return Layout(data).spark / "process"


@contextlib.contextmanager
def access(wanted: Spark, data: Path, run_id: str, log_folder: Path, say: Callable[[str], None]) -> Iterator[Access]:
    """Have Spark at hand for the `with` block.

    Args:
        wanted: How it is to run.
        data: The datastore, which holds the server's folder and, for a classic session, its scratch folder.
        run_id: Whose it is.
        log_folder: Where the log of a classic session goes.
        say: Gets a line before anything slow.

    Raises:
        EnvironmentMissing: there is no Java, no Spark, or the server does not start.
    """
    wanted = hidden.whole(wanted, os.environ)
    folder = Layout(data).spark
    if wanted.session == "connect":
        yield _remote(wanted, say) if wanted.remote else _warm(wanted, warm_folder(data), say)
        return
    own = folder / "classic" / run_id
    make_folder(own)
    with lock(own.with_name(f"{run_id}.lock"), f"process {os.getpid()}"):
        _sweep(own.parent)
        try:
            yield Access(_classic(wanted, own, log_folder), lambda: None)
        finally:
            remove_tree(own)
            own.with_name(f"{run_id}.lock").unlink(missing_ok=True)


def _warm(wanted: Spark, folder: Path, say: Callable[[str], None]) -> Access:
    given = os.environ.get(SERVER)
    if given:
        folder = Path(given)
        found = server.running(folder)
        if found is None:
            raise EnvironmentMissing(
                f"the Spark server is gone: {server.ending(folder)}", "Run again: it is started anew."
            )
    else:
        found = server.ensure(folder, wanted, say)
    # Functions written in Python run in the Python of the task.
    python = wanted.settings.get("spark.pyspark.python", sys.executable)
    environment = {
        "SPARK_REMOTE": found.url,
        "SPARK_CONNECT_AUTHENTICATE_TOKEN": found.token,
        # A proxy of the network has nothing to do with this machine's own loopback.
        "no_grpc_proxy": "localhost,127.0.0.1",
        **_begun_with({"spark.sql.execution.pyspark.python": python}),
    }

    def problem() -> str | None:
        there = is_held(folder / server.KEEPER_LOCK) and (folder / server.STATE).exists()
        return None if there else f"the Spark server is gone: {server.ending(folder)}"

    return Access(environment, problem)


def _remote(wanted: Spark, say: Callable[[str], None]) -> Access:
    """Give the way to a Connect server that somebody else keeps."""
    address, _ = hidden.parts_of(wanted.remote)
    host, _, port = address.removeprefix("sc://").partition(":")
    try:
        socket.create_connection((host, int(port or _USUAL_PORT)), _ANSWER_SECONDS).close()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise EnvironmentMissing(
            f"the Spark server {address} does not answer: {reason.lower()}",
            "`dsflow config` says where `spark.remote` was set.",
        ) from None
    settled = sorted(name for name in wanted.settings if not name.startswith(_OF_SESSIONS))
    if settled:
        say(f"{address} was started with settings of its own; these do not count: {', '.join(settled)}")
    return Access(
        {
            "SPARK_REMOTE": wanted.remote,
            **_begun_with({**settings.SESSION, **wanted.settings}),
        },
        lambda: None,
    )


def _begun_with(session: Mapping[str, str]) -> dict[str, str]:
    """Give the environment in which every session begins with these settings."""
    told = {name: value for name, value in session.items() if name.startswith(_OF_SESSIONS)}
    return {"PYSPARK_REMOTE_INIT_CONF_LEN": "1", "PYSPARK_REMOTE_INIT_CONF_0": json.dumps(told)}


def _classic(wanted: Spark, scratch: Path, log_folder: Path) -> dict[str, str]:
    """Give the environment in which Spark starts inside the job's own process, in a folder of settings of its own."""
    java, home = javas.find_java(), javas.spark_home()
    given = dict(wanted.settings)
    own = given.pop("spark.driver.extraJavaOptions", "")
    master = given.get("spark.master", "local[*]")
    cores = settings.cores_of(master)
    configuration = scratch / "conf"
    make_folder(configuration)
    log = configuration / "log4j2.properties"
    write_text(log, settings.log_to_file(log_folder / _OWN_LOG))
    archive = javas.Archive.of(java, home).use() if wanted.archive else []
    options = [*javas.flags(java, scratch, cores), *archive, own, f"-Dlog4j2.configurationFile={log.as_uri()}"]
    every = {
        **settings.base_settings(master, scratch, cores),
        "spark.driver.memory": f"{settings.heap(wanted.memory) >> 20}m",
        "spark.driver.extraJavaOptions": " ".join(f'"{option}"' for option in options if option),
        **given,
    }
    write_text(configuration / "spark-defaults.conf", settings.as_properties(every))
    return {
        "JAVA_HOME": str(javas.quiet_home(java)),
        **settings.driver_environment(master, scratch, given, sys.executable),
        "PYSPARK_DRIVER_PYTHON": sys.executable,
        "SPARK_CONF_DIR": str(configuration),
        "SPARK_HOME": str(home),
    }


def _sweep(folder: Path) -> None:
    """Remove what sessions left that were killed."""
    for left in folder.iterdir():
        holder = left if left.suffix == ".lock" else left.with_name(f"{left.name}.lock")
        if not is_held(holder):
            remove_tree(left)
