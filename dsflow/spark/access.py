"""What a task needs to get its Spark session: environment variables, and somebody who notices that Spark is gone.

All of it is in the environment, in the words of pyspark itself: a script that knows nothing of dsflow and calls
`SparkSession.builder.getOrCreate()` gets the same session as `job.sql`.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dsflow.durable import make_folder, remove_tree
from dsflow.errors import EnvironmentMissing
from dsflow.model import Spark
from dsflow.spark import drivers, hidden, reach, server, settings
from dsflow.store.layout import Layout
from dsflow.store.locks import is_held, lock

# Set by a runtime that has started the server itself: the folder in which the task finds it.
SERVER = "DSFLOW_SPARK_SERVER"
_OWN_LOG = "spark.log"
# Set by a runtime whose task is sent elsewhere: the folder of its package (`dsflow.packaging.bundle`).
PACKAGE = "DSFLOW_PACKAGE"
# What a session may be told when it begins; all else is settled when Spark starts.
_OF_SESSIONS = "spark.sql."


@dataclass(frozen=True)
class Access:
    """A way to Spark.

    Attributes:
        environment: What to add to the environment of the code.
        problem: Says in a sentence why Spark is gone; None while it is there.
        launcher: What is to start a Python program, where that is not Python itself.
    """

    environment: Mapping[str, str]
    problem: Callable[[], str | None]
    launcher: Sequence[str] = ()


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
    # Not for a run that the job itself starts.
    package = os.environ.pop(PACKAGE, "")
    if wanted.session == "connect" and not package:
        yield _remote(wanted, say) if wanted.remote else _warm(wanted, warm_folder(data), say)
        return
    own = folder / "classic" / run_id
    make_folder(own)
    # Settings may hold what others must not see.
    own.chmod(0o700)
    with lock(own.with_name(f"{run_id}.lock"), f"process {os.getpid()}"):
        _sweep(own.parent)
        try:
            yield _driver(wanted, own, log_folder, Path(package) if package else None, say)
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
        reach.check_master(wanted.settings.get("spark.master", drivers.HERE))
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


def _driver(wanted: Spark, scratch: Path, log_folder: Path, package: Path | None, say: Callable[[str], None]) -> Access:
    """Give the way to a Spark whose driver is the job's own process, or one that `spark-submit` starts for it."""
    master = wanted.settings.get("spark.master", drivers.HERE)
    reach.check_master(master)
    environment = drivers.environment(wanted, scratch, log_folder / _OWN_LOG, package)
    launcher = drivers.launcher(environment) if package else ()
    if package:
        say(f"spark-submit {' '.join(drivers.options(wanted, package))}")
    return Access(environment, lambda: reach.given_up(master, log_folder / _OWN_LOG), launcher)


def _remote(wanted: Spark, say: Callable[[str], None]) -> Access:
    """Give the way to a Connect server that somebody else keeps."""
    address, _ = hidden.parts_of(wanted.remote)
    reach.check_server(wanted.remote)
    settled = sorted(name for name in wanted.settings if not name.startswith(_OF_SESSIONS))
    if settled:
        say(f"{address} was started with settings of its own; these do not count: {', '.join(settled)}")
    begun_with = _begun_with({**settings.SESSION, **wanted.settings})
    return Access({"SPARK_REMOTE": wanted.remote, **begun_with}, lambda: None)


def _begun_with(session: Mapping[str, str]) -> dict[str, str]:
    """Give the environment in which every session begins with these settings."""
    told = {name: value for name, value in session.items() if name.startswith(_OF_SESSIONS)}
    return {"PYSPARK_REMOTE_INIT_CONF_LEN": "1", "PYSPARK_REMOTE_INIT_CONF_0": json.dumps(told)}


def _sweep(folder: Path) -> None:
    """Remove what sessions left that were killed."""
    for left in folder.iterdir():
        holder = left if left.suffix == ".lock" else left.with_name(f"{left.name}.lock")
        if not is_held(holder):
            remove_tree(left)
