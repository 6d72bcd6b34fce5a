"""A warm process that has loaded what tasks need and gives each of them a process of its own by fork.

    python -P -m dsflow.nursery        with a Unix socket as standard input

The host sends a message for every task, with three open files: what the task reads, what it prints into, and the end
of a pipe that brings its exit code. The child becomes the shim (`dsflow.shim`) of that one task. Nothing of a task
ever runs in the nursery itself, so that every task finds it as the first one did.

When the host is gone the tasks notice it themselves and end, and the nursery after them. When the nursery is gone the
system kills its tasks.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import sys
import tempfile
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from dsflow import forking, model, shim
from dsflow.lean import lean
from dsflow.model import Task

# A message begins with its length in this many bytes.
HEADER = 4
# Arrow's second allocator starts a thread when it is loaded, and a process with threads does not fork.
_QUIET = {"JE_ARROW_MALLOC_CONF": "background_thread:false"}


@dataclass(frozen=True)
class _Child:
    """A task on its way: its run, and where its exit code is to be written."""

    run_id: str
    report: int


class Nursery:
    """Forks a child for every message of the host.

    Args:
        control: The socket to the host.
    """

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._children: dict[int, _Child] = {}

    def serve(self) -> None:
        """Start tasks and report their ends, until the host is gone and all of them have ended."""
        wake, signalled = os.pipe()
        for end in (wake, signalled):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(signalled, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        awaited = select.poll()
        awaited.register(wake, select.POLLIN)
        awaited.register(self._control, select.POLLIN)
        there = True
        while there or self._children:
            for number, _ in awaited.poll():
                if number == wake:
                    os.read(wake, 4096)
                elif not self._take():
                    awaited.unregister(self._control)
                    there = False
            self._reap()

    def _take(self) -> bool:
        """Do what one message asks for; give False when there will be no other."""
        header, files, _, _ = socket.recv_fds(self._control, HEADER, 3)
        if not header:
            return False
        header += _exactly(self._control, HEADER - len(header))
        message = json.loads(_exactly(self._control, int.from_bytes(header, "big")))
        if "signal" in message:
            self._signal(message["run"], message["signal"])
        else:
            self._start(Path(message["folder"]), message["environment"], files)
        return True

    def _start(self, run_folder: Path, environment: Mapping[str, str], files: Sequence[int]) -> None:
        *streams, report = files
        task = _read(run_folder)
        if task is not None:
            _load(task, Path(environment["DSFLOW_JOBS"]))
        try:
            if task is not None and _may_fork():
                pid = forking.fork(lambda: _become_shim(task, run_folder, environment, streams))
            else:
                pid = _start_cold(run_folder, environment, streams)
            self._children[pid] = _Child(run_folder.name, report)
        except OSError as error:
            os.write(report, json.dumps({"problem": f"no process can be started: {error.strerror}"}).encode())
            os.close(report)
        finally:
            for number in streams:
                os.close(number)

    def _signal(self, run_id: str, number: int) -> None:
        """Send a signal to a task; what kills, to its whole process group."""
        for pid, child in self._children.items():
            if child.run_id == run_id:
                # It is not reaped yet, so the number is still its own.
                (os.killpg if number == signal.SIGKILL else os.kill)(pid, number)

    def _reap(self) -> None:
        while self._children:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            child = self._children.pop(pid)
            # The host may be gone.
            with contextlib.suppress(OSError):
                os.write(child.report, json.dumps({"code": os.waitstatus_to_exitcode(status)}).encode())
            os.close(child.report)


def main() -> NoReturn:
    """Serve the host at the other end of standard input until it is gone."""
    Nursery(socket.socket(fileno=os.dup(0))).serve()
    os._exit(0)


def _exactly(control: socket.socket, size: int) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        part = control.recv(size - len(parts))
        if not part:
            raise EOFError("the host went away in the middle of a message")
        parts += part
    return bytes(parts)


def _read(run_folder: Path) -> Task | None:
    """Give the task of a run folder; None where it cannot be read, which its own shim will explain."""
    with contextlib.suppress(OSError, ValueError):
        return model.from_json(Task, (run_folder / "task.json").read_text(encoding="utf-8"))
    return None


def _load(task: Task, jobs: Path) -> None:
    """Load what the task will need. What fails here fails in the task again, where it is explained."""
    before = {name: os.environ[name] for name in _QUIET if name in os.environ}
    os.environ.update(_QUIET)
    try:
        with lean("debugpy"):
            shim.load(task, jobs)
    except Exception:
        traceback.print_exc()
    for name in _QUIET:
        del os.environ[name]
    os.environ.update(before)


def _may_fork() -> bool:
    if not forking.is_safe():
        forking.end_threads()
    return forking.is_safe()


def _become_shim(task: Task, run_folder: Path, environment: Mapping[str, str], streams: Sequence[int]) -> NoReturn:
    forking.forget_state()
    source, sink = streams
    forking.take_files((source, sink, sink))
    forking.settle(Path(tempfile.gettempdir()), environment)
    sys.argv = ["dsflow.shim", str(run_folder)]
    forking.hear_signals()
    shim.run(task, run_folder)


def _start_cold(run_folder: Path, environment: Mapping[str, str], streams: Sequence[int]) -> int:
    """Start the shim in a new interpreter: always possible, only slower."""
    source, sink = streams
    command = [sys.executable, "-P", "-m", "dsflow.shim", str(run_folder)]
    files = [(os.POSIX_SPAWN_DUP2, file, number) for number, file in enumerate((source, sink, sink))]
    return os.posix_spawn(command[0], command, environment, file_actions=files, setsid=True)


if __name__ == "__main__":
    main()
