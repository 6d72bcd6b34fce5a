"""A warm process that has loaded what tasks need and gives each of them a process of its own by fork.

    python -P -m dsflow.nursery            with a Unix socket as standard input
    python -P -m dsflow.nursery SOCKET     in a container of its own, with one task at a time

The host sends a message for every task, with three open files: what the task reads, what it prints into, and the end
of a pipe that brings its exit code; before the first one it may ask that what a task needs be loaded. A child becomes
the shim (`dsflow.shim`) of that one task. Nothing of a task ever runs in the nursery itself, so that every task finds
it as the first one did.

A child whose task can have left nothing behind (its kind knows: a query that only reads, a notebook, whose code runs in
a kernel) does not end with it, but takes the next task of the same job. Kernels are forked here too, for those who ask.
When the host is gone the tasks notice it themselves and end, and the nursery after them. When the nursery is gone the
system kills its children.
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
from typing import Any, NoReturn

from dsflow import forking, lending, model, page, shim
from dsflow.durable import remove_tree
from dsflow.lean import collect_seldom, lean
from dsflow.messages import receive, send
from dsflow.model import Task

# Arrow's second allocator starts a thread when it is loaded, and a process with threads does not fork.
_QUIET = {"JE_ARROW_MALLOC_CONF": "background_thread:false"}

# A process that waits for a task takes it at once.
_TAKE_SECONDS = 5.0


@dataclass
class _Child:
    """A process for tasks of one job and the task it is at, or a kernel for such a process.

    Attributes:
        job: Whose tasks it takes; empty for a kernel.
        run_id: The run it is at; empty while it waits for the next one.
        report: Where the exit code of that run, or of the kernel, is to be written; -1 for nowhere.
        channel: Brings it its next tasks, and us what it asks and their exit codes; None for a child that ends with its
            task.
        borrower: The process that a kernel was made for.
    """

    job: str = ""
    run_id: str = ""
    report: int = -1
    channel: socket.socket | None = None
    borrower: int = 0


class Nursery:
    """Forks a child for every message of the host.

    Args:
        control: The socket to the host.
        alone: Nobody else has processes or temporary files here: what a task leaves of them is removed.
    """

    def __init__(self, control: socket.socket, *, alone: bool = False) -> None:
        self._control = control
        self._alone = alone
        # A container brings an environment of its own, which the host does not know.
        self._environment = dict(os.environ) if alone else {}
        self._children: dict[int, _Child] = {}
        self._awaited = select.poll()

    def serve(self) -> None:
        """Start tasks and report their ends, until the host is gone and all of them have ended."""
        wake, signalled = os.pipe()
        for end in (wake, signalled):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(signalled, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        self._awaited.register(wake, select.POLLIN)
        self._awaited.register(self._control, select.POLLIN)
        there = True
        while there or any(child.run_id for child in self._children.values()):
            for number, _ in self._awaited.poll():
                if number == wake:
                    os.read(wake, 4096)
                elif number != self._control.fileno():
                    self._hear(number)
                elif not self._take():
                    self._awaited.unregister(self._control)
                    there = False
            self._reap()

    def _take(self) -> bool:
        """Do what one message asks for; give False when there will be no other."""
        received = receive(self._control, 3)
        if received is None:
            return False
        message, files = received
        if "load" in message:
            _load(model.from_json(Task, message["load"]), Path(message["jobs"]))
        elif "signal" in message:
            self._signal(message["run"], message["signal"])
        else:
            self._start(Path(message["folder"]), self._environment | message["environment"], files)
        return True

    def _start(self, run_folder: Path, environment: Mapping[str, str], files: Sequence[int]) -> None:
        *streams, report = files
        task = _read(run_folder)
        try:
            waiting = self._waiting(task)
            if waiting is None or not self._passed_on(waiting, run_folder, environment, streams):
                waiting = self._born(task, run_folder, environment, streams)
            waiting.run_id, waiting.report = run_folder.name, report
        except OSError as error:
            os.write(report, json.dumps({"problem": f"no process can be started: {error.strerror}"}).encode())
            os.close(report)
        finally:
            for number in streams:
                os.close(number)

    def _waiting(self, task: Task | None) -> _Child | None:
        """Give a child that waits for a task of this job."""
        if task is None or not self._stays(task):
            return None
        free = (child for child in self._children.values() if child.channel and not child.run_id)
        return next((child for child in free if child.job == task.job), None)

    def _born(
        self, task: Task | None, run_folder: Path, environment: Mapping[str, str], streams: Sequence[int]
    ) -> _Child:
        if task is None:
            pid = _start_cold(run_folder, environment, streams)
            return self._children.setdefault(pid, _Child())
        _load(task, Path(environment["DSFLOW_JOBS"]))
        child = _Child(task.job)
        if not _may_fork():
            pid = _start_cold(run_folder, environment, streams)
        elif self._stays(task):
            child.channel, theirs = socket.socketpair()
            with theirs:
                pid = forking.fork(lambda: _become_worker(task, run_folder, environment, streams, theirs))
            self._awaited.register(child.channel, select.POLLIN)
        else:
            pid = forking.fork(lambda: _become_shim(task, run_folder, environment, streams))
        self._children[pid] = child
        return child

    def _passed_on(
        self, child: _Child, run_folder: Path, environment: Mapping[str, str], streams: Sequence[int]
    ) -> bool:
        """Give a task to a child that waits, and say whether it has taken it; one that is being killed cannot."""
        assert child.channel is not None
        try:
            send(child.channel, {"folder": str(run_folder), "environment": dict(environment)}, streams)
            if select.select([child.channel], [], [], _TAKE_SECONDS)[0] and receive(child.channel) is not None:
                return True
        except (OSError, EOFError):
            pass
        # It must not take it later, nor be asked again before its end is heard of.
        child.job = ""
        os.kill(next(pid for pid, one in self._children.items() if one is child), signal.SIGKILL)
        return False

    def _stays(self, task: Task) -> bool:
        """Say whether a child takes another task after this one; where we tidy up after each, it must have no need."""
        return shim.traces(task) in (("none",) if self._alone else ("none", "outside"))

    def _hear(self, number: int) -> None:
        """Hear from a child that it wants a kernel, that its task has ended, or that it is about to end itself."""
        pid, child = next(
            (pid, one) for pid, one in self._children.items() if one.channel and one.channel.fileno() == number
        )
        assert child.channel is not None
        try:
            received = receive(child.channel, 3)
        except (ConnectionResetError, EOFError):
            received = None
        if received is not None and "kernel" in received[0]:
            self._lend(pid, child.channel, *received)
            return
        code = received[0].get("code") if received else None
        if code is not None:
            _report(child, code)
        # One whose task failed ends itself: the next task is not for it.
        if code != 0:
            self._awaited.unregister(child.channel)
            child.channel.close()
            child.channel = None

    def _lend(self, borrower: int, channel: socket.socket, asked: Mapping[str, Any], files: Sequence[int]) -> None:
        """Fork a kernel for a child, and tell it which process that is."""
        from dsflow.forked_kernel import be_kernel

        report, output, ended = files
        place = Path(asked["kernel"]), Path(asked["cwd"]), asked["environment"]
        try:
            pid = forking.fork(lambda: be_kernel(report, *place, output))
            self._children[pid] = _Child(report=ended, borrower=borrower)
            answer: dict[str, Any] = {"pid": pid}
        except OSError as error:
            os.close(ended)
            answer = {"problem": f"no process can be started: {error.strerror}"}
        os.close(report)
        os.close(output)
        # Who asked may be gone meanwhile; then the kernel ends when that is noticed.
        with contextlib.suppress(OSError):
            send(channel, answer)

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
            child = self._gone(pid)
            self._recall(pid)
            if self._alone and not child.borrower:
                _tidy()
                # Those that waited for another task are dead too.
                for other in list(self._children):
                    os.waitpid(other, 0)
                    self._gone(other)
            if child.report >= 0:
                _report(child, os.waitstatus_to_exitcode(status))

    def _recall(self, borrower: int) -> None:
        """Kill the kernels that were made for a process that is gone, with what they have started."""
        for pid, child in self._children.items():
            if child.borrower == borrower:
                # It is not reaped yet, so the number is still its own.
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(pid, signal.SIGKILL)

    def _gone(self, pid: int) -> _Child:
        child = self._children.pop(pid)
        if child.channel is not None:
            self._awaited.unregister(child.channel)
            child.channel.close()
        return child


def main() -> NoReturn:
    """Serve the host at the other end of standard input, or of a socket in a container, until it is gone."""
    if len(sys.argv) > 1:
        control = socket.socket(socket.AF_UNIX)
        control.connect(sys.argv[1])
    else:
        control = socket.socket(fileno=os.dup(0))
    # Every task needs that, and the first one may be a while in coming.
    with lean():
        page.load()
    Nursery(control, alone=len(sys.argv) > 1).serve()
    os._exit(0)


def _tidy() -> None:
    """Kill whatever runs here beside this process and the first, and empty the folder of temporary files."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(-1, signal.SIGKILL)
    for path in Path(tempfile.gettempdir()).iterdir():
        remove_tree(path)


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


def _report(child: _Child, code: int) -> None:
    # The host may be gone.
    with contextlib.suppress(OSError):
        os.write(child.report, json.dumps({"code": code}).encode())
    os.close(child.report)
    child.run_id, child.report = "", -1


def _become_shim(task: Task, run_folder: Path, environment: Mapping[str, str], streams: Sequence[int]) -> NoReturn:
    _settle(environment, streams)
    sys.argv = ["dsflow.shim", str(run_folder)]
    forking.hear_signals()
    shim.run(task, run_folder)


def _become_worker(
    task: Task, run_folder: Path, environment: Mapping[str, str], streams: Sequence[int], channel: socket.socket
) -> NoReturn:
    """Be the shim of one task after the other, as long as they succeed; what went wrong may have left something."""
    _settle(environment, streams, keep=channel.fileno())
    lending.lender = channel
    collect_seldom()
    nothing = os.open(os.devnull, os.O_RDWR)
    while True:
        # Until the shim listens, a request to stop is for the system to grant.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        forking.hear_signals()
        code = shim.execute_here(task, run_folder)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        for number in range(3):
            os.dup2(nothing, number)
        send(channel, {"code": code})
        received = receive(channel, 2) if code == 0 else None
        if received is None:
            os._exit(0)
        send(channel, {"taken": True})
        message, (source, sink) = received
        run_folder = Path(message["folder"])
        for file, number in ((source, 0), (sink, 1), (sink, 2)):
            os.dup2(file, number)
        os.close(source)
        os.close(sink)
        forking.settle(Path(tempfile.gettempdir()), message["environment"])
        task = model.from_json(Task, (run_folder / "task.json").read_text(encoding="utf-8"))


def _settle(environment: Mapping[str, str], streams: Sequence[int], keep: int | None = None) -> None:
    forking.forget_state()
    source, sink = streams
    forking.take_files((source, sink, sink), keep=() if keep is None else (keep,))
    forking.settle(Path(tempfile.gettempdir()), environment)


def _start_cold(run_folder: Path, environment: Mapping[str, str], streams: Sequence[int]) -> int:
    """Start the shim in a new interpreter: always possible, only slower."""
    source, sink = streams
    command = [sys.executable, "-P", "-m", "dsflow.shim", str(run_folder)]
    files = [(os.POSIX_SPAWN_DUP2, file, number) for number, file in enumerate((source, sink, sink))]
    return os.posix_spawn(command[0], command, environment, file_actions=files, setsid=True)


if __name__ == "__main__":
    main()
