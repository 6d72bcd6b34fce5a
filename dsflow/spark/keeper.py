"""The process that keeps a Spark server: `python -P -m dsflow.spark.keeper FOLDER`.

It starts Java directly, writes down where it listens, passes its log on, ends it when nobody has used it for a while,
says why it ended, and removes what it left. With `--foreground` it stays the caller's child, as in a container.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import secrets
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dsflow import forking
from dsflow.durable import make_folder, remove_tree, write_text
from dsflow.errors import DsflowError
from dsflow.spark import java as javas
from dsflow.spark import settings
from dsflow.spark.gateway import CONNECTION, ENVIRONMENT, MAIN_CLASS, Gateway
from dsflow.spark.server import ENDED, KEEPER_LOCK, LOG, REQUEST, STATE, Server, clients, write_private
from dsflow.store.locks import lock

_LOOK_EVERY_SECONDS = 2.0
_TIDY_EVERY_SECONDS = 2.0
_SOON_SECONDS = 10
# For a rehearsal, and for Java to write its archive when that has ended.
_ARCHIVE_SECONDS = 120
_LAST_OF_ALL = 19
_IDLE = "nobody had used it for a while"
_REHEARSAL = """
from pyspark.sql import SparkSession, functions as f
spark = SparkSession.builder.getOrCreate()
made = spark.range(1000).selectExpr("id", "id % 7 AS k", "CAST(id AS STRING) AS s", "named_struct('a', id) AS n")
made.write.json("rehearsal.json")
read = spark.read.json("rehearsal.json")
read.createOrReplaceTempView("t")
spark.sql("SELECT k, count(*) AS c, sum(n.a) AS a, max(s) AS s FROM t GROUP BY k ORDER BY c").write.parquet("rehearsal")
spark.read.parquet("rehearsal").join(read, "k").where(f.col("c") > 1).toPandas()
spark.stop()
"""
_LARGEST_LOG = 5 << 20
_OUT_OF_MEMORY = 3


class Keeper:
    """Watches over one Java.

    Args:
        folder: Where everything about the server is.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._request: dict[str, Any] = json.loads((folder / REQUEST).read_text(encoding="utf-8"))
        self._scratch = folder / f"scratch-{os.getpid()}"
        self._made = self._scratch / "classes"
        self._connection = self._scratch / "connection"
        self._archive: javas.Archive | None = None
        self._server: Server | None = None
        self._log = _Log(folder / LOG)
        self._used = self._tidied = time.monotonic()
        self._reason = ""
        self._gateway: Gateway | None = None
        self._took_over = False

    def run(self) -> subprocess.Popen[bytes] | None:
        """Start Java and stay until it has ended, or is to end; give what is still busy ending."""
        for left in self._folder.glob("scratch-*"):
            remove_tree(left)
        make_folder(self._scratch)
        try:
            java, home = javas.find_java(), javas.spark_home()
            self._archive = javas.Archive.of(java, home) if self._request["archive"] else None
            kept = self._archive.use() if self._archive else []
            self._took_over = bool(kept)
            process = self._start(java, home, kept, subprocess.PIPE)
        except DsflowError as error:
            write_private(self._folder / ENDED, {"reason": error.message, "hint": error.hint})
            return None
        try:
            self._watch(process)
        finally:
            (self._folder / STATE).unlink(missing_ok=True)
            if process.poll() is None:
                process.terminate()
            else:
                self._reason = self._reason or _ending(process.returncode, self._request["memory"])
            write_private(self._folder / ENDED, {"reason": self._reason or "it was stopped"})
        return process

    def _start(self, java: javas.Java, home: Path, more: Sequence[str], output: int) -> subprocess.Popen[bytes]:
        arguments = self._scratch / "arguments"
        log = self._scratch / "log4j2.properties"
        write_text(log, settings.log_to_stdout())
        token = secrets.token_urlsafe(32)
        _write_private(arguments, "".join(f"{_quoted(argument)}\n" for argument in self._arguments(java, more, log)))
        keeper = os.getpid()
        process = subprocess.Popen(
            [java.program, f"@{arguments}"],
            cwd=self._scratch,
            env=self._environment(home, token),
            # Java ends when this ends.
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            # No thread is started before this.
            preexec_fn=lambda: forking.die_with(keeper),  # noqa: PLW1509
        )
        self._server = Server(
            pid=process.pid,
            born=_born(process.pid),
            keeper=keeper,
            port=0,
            token=token,
            key=self._request["key"],
            spark=javas.spark_version(),
            java=java.version,
            memory=settings.heap(self._request["memory"]),
        )
        return process

    def _environment(self, home: Path, token: str) -> dict[str, str]:
        return os.environ | {
            CONNECTION: str(self._connection),
            **ENVIRONMENT,
            "CLASSPATH": javas.class_path(home),
            **settings.driver_environment(self._master, self._scratch, self._request["settings"], sys.executable),
            "SPARK_CONNECT_AUTHENTICATE_TOKEN": token,
            "SPARK_HOME": str(home),
        }

    @property
    def _master(self) -> str:
        return str(self._request["settings"].get("spark.master", "local[*]"))

    def _arguments(self, java: javas.Java, more: Sequence[str], log: Path) -> list[str]:
        """Give the command line; it is passed in a file, as settings may hold what others must not see."""
        given = dict(self._request["settings"])
        own = given.pop("spark.driver.extraJavaOptions", "").split()
        cores = settings.cores_of(self._master)
        every = {
            "spark.app.name": "dsflow",
            **settings.base_settings(self._master, self._scratch, cores),
            "spark.connect.grpc.binding.address": "127.0.0.1",
            "spark.connect.grpc.binding.port": "0",
            # A client that was killed does not come back for its query, which need not be computed to its end. Spark
            # looks whether a client is there when it is to ask for the rest of the answer.
            "spark.connect.execute.reattachable.senderMaxStreamDuration": "10s",
            "spark.connect.execute.manager.detachedTimeout": "10s",
            "spark.connect.execute.manager.maintenanceInterval": "5s",
            **given,
        }
        return [
            *javas.flags(java, self._scratch, cores),
            f"-Xmx{settings.heap(self._request['memory'])}",
            *more,
            *own,
            f"-Dlog4j2.configurationFile={log.as_uri()}",
            *[f"-D{name}={value}" for name, value in every.items()],
            MAIN_CLASS,
        ]

    def _watch(self, process: subprocess.Popen[bytes]) -> None:
        """Pass the log on until Java ends, somebody asks it to end, or nobody has used it for long enough."""
        assert process.stdout is not None
        wake, signalled = os.pipe()
        for end in (wake, signalled):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(signalled)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda number, frame: None)
        # Apart from the log, which is to be read meanwhile.
        threading.Thread(target=self._serve, args=(process,), daemon=True).start()
        idle = float(self._request["idle"])
        with selectors.DefaultSelector() as selector:
            selector.register(wake, selectors.EVENT_READ)
            selector.register(process.stdout, selectors.EVENT_READ)
            while True:
                ready = selector.select(min(_LOOK_EVERY_SECONDS, idle / 2))
                if any(key.fd == wake for key, _ in ready):
                    return
                if ready and not self._hear(process):
                    return
                self._tidy_up()
                if self._is_idle(idle):
                    self._reason = _IDLE
                    return

    def _serve(self, process: subprocess.Popen[bytes]) -> None:
        """Have Java serve, and write down where it listens."""
        assert self._server is not None
        try:
            gateway = self._connected(process)
            if gateway is None:
                return
            port = gateway.serve()
        except Exception as error:
            self._log.write(f"{error}\n".encode())
            self._reason = _said(error)
            process.kill()
            return
        self._used = time.monotonic()
        self._gateway = gateway
        self._server = dataclasses.replace(self._server, port=port)
        write_private(self._folder / STATE, asdict(self._server))

    def _connected(self, process: subprocess.Popen[bytes]) -> Gateway | None:
        """Wait until Java can be told what to do; None where it has ended."""
        while not self._connection.exists():
            if process.poll() is not None:
                if self._took_over and self._archive is not None:
                    # The next one starts without it, whatever was wrong.
                    self._archive.path.unlink(missing_ok=True)
                return None
            time.sleep(_SOON_SECONDS / 1000)
        gateway = Gateway(self._connection)
        self._connection.unlink()
        return gateway

    def _hear(self, process: subprocess.Popen[bytes]) -> bool:
        """Take what Java says; False when it says no more."""
        assert process.stdout is not None
        text = os.read(process.stdout.fileno(), 1 << 16)
        if not text:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_SOON_SECONDS)
            return False
        self._log.write(text)
        return True

    def _tidy_up(self) -> None:
        """End what nobody waits for, now and then."""
        now = time.monotonic()
        if self._gateway is None or now - self._tidied < _TIDY_EVERY_SECONDS:
            return
        self._tidied = now
        # What another version of Spark calls differently is no reason to end the server.
        with contextlib.suppress(Exception):
            for number in self._gateway.end_abandoned():
                self._log.write(f"dsflow: cancelled job {number}, which nobody waits for\n".encode())

    def _is_idle(self, idle: float) -> bool:
        assert self._server is not None
        now = time.monotonic()
        if self._server.port == 0 or now - self._used <= idle / 2:
            return False
        if clients(self._server):
            self._used = now
        return now - self._used > idle

    def finish(self, process: subprocess.Popen[bytes] | None) -> None:
        """Wait for a Java that is ending, and remove what it left; where nobody is at work, rehearse the next start.

        Another server may already run in the folder: nothing but this one's own is touched.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        if process is not None:
            _end(process, _SOON_SECONDS)
        if self._archive is not None and self._reason == _IDLE and not self._archive.path.exists():
            # It saves the next server time, and is worth no word where it fails.
            with contextlib.suppress(Exception):
                self._rehearse(self._archive)
        remove_tree(self._scratch)

    def _rehearse(self, archive: javas.Archive) -> None:
        """Let a Java of its own do what most tasks do, and keep the classes that it has loaded then."""
        os.nice(_LAST_OF_ALL)
        java, home = javas.find_java(), javas.spark_home()
        process = self._start(java, home, archive.make(self._made), subprocess.DEVNULL)
        try:
            gateway = self._connected(process)
            assert gateway is not None
            assert self._server is not None
            environment = {
                **os.environ,
                "SPARK_REMOTE": f"sc://localhost:{gateway.serve()}",
                "SPARK_CONNECT_AUTHENTICATE_TOKEN": self._server.token,
            }
            command = [sys.executable, "-P", "-W", "ignore", "-c", _REHEARSAL]
            subprocess.run(command, env=environment, cwd=self._scratch, check=False, timeout=_ARCHIVE_SECONDS)
        finally:
            _end(process, _ARCHIVE_SECONDS)
        archive.take(self._made)


class _Log:
    """A file that does not grow for ever."""

    def __init__(self, path: Path) -> None:
        self._path = path
        if path.exists():
            path.replace(path.with_name(f"{path.name}.1"))

    def write(self, text: bytes) -> None:
        # A full disk must not end a server that people work with.
        with contextlib.suppress(OSError):
            if self._path.exists() and self._path.stat().st_size > _LARGEST_LOG:
                self._path.replace(self._path.with_name(f"{self._path.name}.1"))
            with open(self._path, "ab") as file:
                file.write(text)


def main() -> None:
    """Keep the server of a folder."""
    folder = Path(sys.argv[1])
    owner = _detach() if "--foreground" not in sys.argv else None
    with contextlib.ExitStack() as held:
        # Another keeper that is just ending lets go in a moment.
        held.enter_context(lock(folder / KEEPER_LOCK, f"process {os.getpid()}", "the Spark server", wait=True))
        if owner is not None:
            os.write(owner, b"1")
            os.close(owner)
        keeper = Keeper(folder)
        process = keeper.run()
    keeper.finish(process)


def _detach() -> int:
    """Go on as a child of nobody; whoever called waits until a byte has come through the pipe that is given."""
    listen, tell = os.pipe()
    if os.fork():
        os.close(tell)
        os._exit(0 if os.read(listen, 1) else 1)
    os.close(listen)
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(nothing, number)
    return tell


def _end(process: subprocess.Popen[bytes], seconds: float) -> None:
    """Ask Java to end, and make it after so many seconds; it would wait for what it still has to say to be read."""
    process.terminate()
    try:
        process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()


def _born(pid: int) -> float:
    import psutil

    return float(psutil.Process(pid).create_time())


def _said(error: Exception) -> str:
    """Give what Java said, without the names of its classes and the lines of its code."""
    lines = [line.strip() for line in str(error).splitlines()]
    raised = next((line for line in lines if line.startswith(": ")), lines[0] if lines else "")
    return re.sub(r"^: [\w.$]+: ", "", raised)


def _ending(code: int, memory: int | None) -> str:
    if code == _OUT_OF_MEMORY:
        return f"it ran out of memory ({settings.heap(memory) >> 20} MB)"
    if code < 0:
        return f"it was killed ({signal.Signals(-code).name})"
    return f"it ended with exit code {code}"


def _write_private(path: Path, text: str) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        file.write(text)


def _quoted(argument: str) -> str:
    """Give an argument as Java reads it from a file of arguments."""
    return '"' + argument.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


if __name__ == "__main__":
    main()
