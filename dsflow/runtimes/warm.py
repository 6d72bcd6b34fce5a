"""The host's side of a nursery (`dsflow.nursery`): a warm process whose children are the shims of tasks."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dsflow import model
from dsflow.messages import send
from dsflow.model import Task
from dsflow.runtimes.contract import Ending

_CLOSE_SECONDS = 10


class Nursery:
    """A connection to a warm process; tasks can be started from several threads.

    Args:
        control: The socket to it.
    """

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._sending = threading.Lock()
        self._idle = True  # nothing was started yet

    def load(self, task: Task, jobs: Path) -> None:
        """Have it load what a task will need, before any is started.

        Raises:
            OSError: the nursery is gone.
        """
        self._send({"load": model.to_json(task), "jobs": str(jobs)}, [])

    def start(self, run_folder: Path, environment: Mapping[str, str]) -> Child:
        """Start the shim for a run folder as a child of the nursery.

        Args:
            run_folder: The run folder.
            environment: The whole of its environment.

        Raises:
            OSError: the nursery is gone.
        """
        with contextlib.ExitStack() as ours, contextlib.ExitStack() as theirs:
            read_end, guard = _pipe(theirs, ours)
            output, write_end = _pipe(ours, theirs)
            report, report_end = _pipe(ours, theirs)
            self._idle = False
            message = {"folder": str(run_folder), "environment": dict(environment)}
            self._send(message, [read_end, write_end, report_end])
            ours.pop_all()
        return Child(self, run_folder.name, guard, output, report)

    def signal(self, run_id: str, number: int) -> None:
        """Send a signal to a task, if it still runs."""
        with contextlib.suppress(OSError):
            self._send({"run": run_id, "signal": int(number)}, [])

    def ending(self) -> str:
        """Say how the nursery itself ended, for a task that ended with it."""
        raise NotImplementedError

    def _send(self, message: Mapping[str, Any], files: list[int]) -> None:
        with self._sending:
            send(self._control, message, files)


class WarmPython(Nursery):
    """A warm process on this machine.

    Args:
        python: The interpreter to run.
    """

    def __init__(self, python: str) -> None:
        ours, theirs = socket.socketpair()
        super().__init__(ours)
        # What it prints, which it does only when something is wrong with it.
        self._said = os.memfd_create("nursery")
        with theirs:
            self._process = subprocess.Popen(
                [python, "-P", "-m", "dsflow.nursery"],
                cwd=tempfile.gettempdir(),
                env=own_path(os.environ),
                stdin=theirs.fileno(),
                stdout=self._said,
                stderr=self._said,
                start_new_session=True,
            )

    def is_alive(self) -> bool:
        """Say whether it still runs."""
        return self._process.poll() is None

    def ending(self) -> str:
        """Say how the nursery itself ended, for a task that ended with it."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_CLOSE_SECONDS)
        code = self._process.returncode
        if code is not None and code < 0:
            return f"the warm process that starts the runs of this plan was killed ({signal.Signals(-code).name})"
        lines = os.pread(self._said, 1 << 20, 0).decode("utf-8", "replace").strip().splitlines()
        return "the warm process that starts the runs of this plan is gone" + (f": {lines[-1]}" if lines else "")

    def close(self) -> None:
        """End the nursery; tasks that still run end with it."""
        self._control.close()
        if self._idle:
            self._process.kill()  # it may be loading still
        try:
            self._process.wait(_CLOSE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._said)


class Child:
    """The shim as a child of a nursery."""

    def __init__(self, nursery: Nursery, run_id: str, guard: int, output: int, report: int) -> None:
        self._nursery = nursery
        self.run_id = run_id
        self._guard = guard
        self._output = output
        self._report = report

    def lines(self) -> Iterator[str]:
        """Give whole lines as they come."""
        rest = b""
        while part := os.read(self._output, 1 << 16):
            *whole, rest = (rest + part).split(b"\n")
            for line in whole:
                yield line.decode("utf-8", "replace")
        if rest:
            yield rest.decode("utf-8", "replace")

    def stop(self, *, kill: bool = False) -> None:
        """Ask the shim to end, which ends the job's code; or kill the whole group. Nothing where it has ended."""
        self._nursery.signal(self.run_id, signal.SIGKILL if kill else signal.SIGTERM)

    def wait(self) -> Ending:
        """Wait for the shim to end, and say how it ended."""
        said = b""
        while part := os.read(self._report, 4096):
            said += part
        for number in (self._guard, self._output, self._report):
            os.close(number)
        report = json.loads(said) if said else {}
        if "code" in report:
            code = report["code"]
            return Ending(exit_code=128 - code if code < 0 else code)
        return Ending(exit_code=128 + signal.SIGKILL, problem=report.get("problem") or self._nursery.ending())


class RunningChild:
    """A run whose shim is a child of a nursery; who waits for it may have more to do than the child."""

    def __init__(self, child: Child) -> None:
        self.child = child

    def lines(self) -> Iterator[str]:
        """Give whole lines as they come."""
        return self.child.lines()

    def stop(self, *, kill: bool = False) -> None:
        """Ask the shim to end, which ends the job's code; or kill the whole group."""
        self.child.stop(kill=kill)

    def wait(self) -> Ending:
        """Wait for the shim, and say how it ended."""
        return self.child.wait()


def own_path(environment: Mapping[str, str]) -> dict[str, str]:
    """Give an environment without empty entries in PYTHONPATH: they mean the working directory.

    That of a shim is the folder of temporary files, into which everybody may put a `re.py`.
    """
    entries = [entry for entry in environment.get("PYTHONPATH", "").split(os.pathsep) if entry]
    others = {name: value for name, value in environment.items() if name != "PYTHONPATH"}
    return others | ({"PYTHONPATH": os.pathsep.join(entries)} if entries else {})


def _pipe(reader: contextlib.ExitStack, writer: contextlib.ExitStack) -> tuple[int, int]:
    """Make a pipe, and let each end be closed by its stack."""
    ends = os.pipe()
    reader.callback(os.close, ends[0])
    writer.callback(os.close, ends[1])
    return ends
