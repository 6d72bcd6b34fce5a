"""The warm Spark Connect server of a workspace, seen from whoever needs it: is it there, start it, stop it.

Everything about it is in one folder:

    request.json   what it was started with                      keeper.lock   held as long as it lives
    state.json     where it listens, and the token (0600)        start.lock    held by whoever starts it
    ended.json     why it ended                                  server.log    what Spark says
    scratch-PID/   what Spark spills and unpacks

The lock is the sign of life: the kernel gives it to one process and takes it back when that process ends, so no process
id that was given to another program can pass for the server. `dsflow.spark.keeper` is that process, Java is its child.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dsflow.durable import make_folder
from dsflow.errors import EnvironmentMissing
from dsflow.model import Spark
from dsflow.spark.java import spark_version
from dsflow.store.locks import is_held, lock

REQUEST, STATE, ENDED, LOG = "request.json", "state.json", "ended.json", "server.log"
KEEPER_LOCK, START_LOCK = "keeper.lock", "start.lock"
_START_SECONDS = 180
_STOP_SECONDS = 30
_LOOK_EVERY_SECONDS = 0.05
_ANSWER_SECONDS = 5
_LOG_LINES = 5
# What belongs to one task must not reach a server that outlives it.
_TASKS_OWN = (
    "TASK_SPECS",
    "SPARK_REMOTE",
    "SPARK_CONNECT_MODE_ENABLED",
    "SPARK_CONNECT_AUTHENTICATE_TOKEN",
    "PYSPARK_REMOTE_INIT_CONF_LEN",
    "PYSPARK_REMOTE_INIT_CONF_0",
)


@dataclass(frozen=True, kw_only=True)
class Server:
    """A server that answers.

    Attributes:
        pid: Java's process.
        born: When it started, in seconds since 1970: with the pid it names one process for ever.
        keeper: The process that watches over it.
        port: Where it listens, on the loopback only.
        token: What a client must know.
        key: A hash of what it was started with.
        spark: The version of Spark.
        java: The version of Java.
        memory: The heap in bytes.
    """

    pid: int
    born: float
    keeper: int
    port: int
    token: str
    key: str
    spark: str
    java: str
    memory: int

    @property
    def url(self) -> str:
        """Where clients find it; the token is not in it."""
        # By this name and no other the client sends the token without TLS.
        return f"sc://localhost:{self.port}"


def key_of(wanted: Spark) -> str:
    """Give the hash of what a server is started with: one with another hash is another server."""
    told = {"memory": wanted.memory, "settings": wanted.settings, "spark": spark_version(), "python": sys.prefix}
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]


def running(folder: Path) -> Server | None:
    """Give the server of a folder, if it lives and answers.

    Args:
        folder: Where everything about it is.
    """
    if not is_held(folder / KEEPER_LOCK):
        return None
    try:
        server = Server(**json.loads((folder / STATE).read_text(encoding="utf-8")))
        with socket.create_connection(("127.0.0.1", server.port), _ANSWER_SECONDS):
            return server
    except (OSError, ValueError, TypeError):
        return None


def ensure(folder: Path, wanted: Spark, say: Callable[[str], None]) -> Server:
    """Give the server of a folder, starting it where there is none.

    One that was started with other settings is replaced, unless somebody is at work on it.

    Args:
        folder: Where everything about it is; made if missing.
        wanted: What to start it with.
        say: Gets a line before anything slow.

    Raises:
        EnvironmentMissing: it does not start.
    """
    key = key_of(wanted)
    server = running(folder)
    if server is not None and server.key == key:
        return server
    make_folder(folder)
    folder.chmod(0o700)
    with lock(folder / START_LOCK, f"process {os.getpid()}", "the Spark server", wait=True):
        server = running(folder)
        if server is not None and server.key != key:
            if clients(server):
                say("The Spark server still works for others with other settings; new ones count when it is idle.")
                return server
            stop(folder)
            server = None
        return server or _start(folder, wanted, say)


def clients(server: Server) -> int:
    """Count the connections to a server of this machine."""
    import psutil

    try:
        connections = psutil.Process(server.pid).net_connections("tcp")
    except psutil.Error:
        return 0
    mine = [one for one in connections if one.laddr.port == server.port]
    return len([one for one in mine if one.status == psutil.CONN_ESTABLISHED])


def stop(folder: Path) -> bool:
    """End the server of a folder and wait until it is gone; say whether there was one.

    Raises:
        EnvironmentMissing: it does not end.
    """
    holder = _keeper(folder)
    if holder is None:
        return _end_orphan(folder)
    with contextlib.suppress(ProcessLookupError):
        os.kill(holder, signal.SIGTERM)
    deadline = time.monotonic() + _STOP_SECONDS
    while is_held(folder / KEEPER_LOCK):
        if time.monotonic() > deadline:
            raise EnvironmentMissing(f"the Spark server (process {holder}) does not end", f"`kill -9 {holder}`")
        time.sleep(_LOOK_EVERY_SECONDS)
    return True


def ending(folder: Path) -> str:
    """Say how the last server of a folder ended."""
    with contextlib.suppress(OSError, ValueError, KeyError):
        return str(json.loads((folder / ENDED).read_text(encoding="utf-8"))["reason"])
    return "its process is gone"


def write_private(path: Path, value: Any) -> None:
    """Put a JSON file in place at once that only its owner can read."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    number = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(number, "w", encoding="utf-8") as file:
        json.dump(value, file)
    temporary.replace(path)


def _start(folder: Path, wanted: Spark, say: Callable[[str], None]) -> Server:
    say("Starting the Spark server of this workspace")
    _end_orphan(folder)
    (folder / ENDED).unlink(missing_ok=True)
    write_private(folder / REQUEST, asdict(wanted) | {"key": key_of(wanted)})
    command = [sys.executable, "-P", "-m", "dsflow.spark.keeper", str(folder)]
    done = subprocess.run(
        command,
        env=_without_tasks_own(os.environ),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        said = (done.stderr.strip().splitlines() or ["it ended"])[-1]
        raise EnvironmentMissing(f"the Spark server cannot be started: {said}")
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if (server := running(folder)) is not None:
            return server
        if not is_held(folder / KEEPER_LOCK):
            raise _refusal(folder)
        time.sleep(_LOOK_EVERY_SECONDS)
    raise EnvironmentMissing(f"the Spark server does not answer after {_START_SECONDS} s", f"Its log: {folder / LOG}")


def _without_tasks_own(environment: Mapping[str, str]) -> dict[str, str]:
    """Give what a server inherits: `DSFLOW_RUN_ID` alone would have it killed with the run that started it."""
    return {
        name: value
        for name, value in environment.items()
        if name not in _TASKS_OWN and (not name.startswith("DSFLOW_") or name == "DSFLOW_CACHE")
    }


def _refusal(folder: Path) -> EnvironmentMissing:
    told: dict[str, str] = {}
    with contextlib.suppress(OSError, ValueError):
        told = json.loads((folder / ENDED).read_text(encoding="utf-8"))
    reason = told.get("reason", "its process is gone")
    said: list[str] = []
    with contextlib.suppress(OSError):
        said = (folder / LOG).read_text(encoding="utf-8", errors="replace").splitlines()[-_LOG_LINES:]
    return EnvironmentMissing(
        f"the Spark server did not start: {reason}",
        told.get("hint") or f"Its log: {folder / LOG}",
        traceback="\n".join(said),
    )


def _keeper(folder: Path) -> int | None:
    """Give the process that holds the lock."""
    if not is_held(folder / KEEPER_LOCK):
        return None
    with contextlib.suppress(OSError, ValueError):
        return int((folder / KEEPER_LOCK).read_text(encoding="utf-8").split()[-1])
    return None


def _end_orphan(folder: Path) -> bool:
    """Kill a Java whose keeper was killed and could not take it along, as on macOS; never another process."""
    import psutil

    try:
        server = Server(**json.loads((folder / STATE).read_text(encoding="utf-8")))
        (folder / STATE).unlink()
        process = psutil.Process(server.pid)
        ours = abs(process.create_time() - server.born) < 1 and process.name() == "java"
        if ours:
            process.kill()
            process.wait(_STOP_SECONDS)
    except (OSError, ValueError, TypeError, psutil.Error):
        return False
    return ours
