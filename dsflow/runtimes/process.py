"""Tasks in a child process on this machine, in its own process group.

A single task gets a new interpreter. Several get a warm process that has everything loaded, and forks one for each
(`dsflow.nursery`).
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from dsflow.model import Task
from dsflow.runtimes.contract import Ending, Folders, Needs, Place, identity
from dsflow.runtimes.warm import RunningChild, WarmPython, own_path

# A warm process pays from the second task on.
MANY = 2
_SIGNALLED = 128


class RunningProcess:
    """The shim as a child of this process."""

    def __init__(self, process: subprocess.Popen[str], run_id: str) -> None:
        self._process = process
        self._run_id = run_id

    def lines(self) -> Iterator[str]:
        """Give whole lines as they come."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            yield line.rstrip("\n")

    def stop(self, *, kill: bool = False) -> None:
        """Ask the shim to end, which ends the job's code; or kill the whole group."""
        try:
            if kill:
                os.killpg(self._process.pid, signal.SIGKILL)
            else:
                self._process.terminate()
        except ProcessLookupError:
            pass

    def wait(self) -> Ending:
        """Wait for the shim, and let nothing that it started outlive it."""
        code = self._process.wait()
        if code < 0:
            end_leftovers(self._run_id)
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            stream.close()
        return Ending(exit_code=128 - code if code < 0 else code)


class RunningWarm(RunningChild):
    """The shim as a child of a warm process."""

    def wait(self) -> Ending:
        """Wait for the shim, and let nothing that it started outlive it."""
        ending = super().wait()
        if ending.exit_code > _SIGNALLED:
            end_leftovers(self.child.run_id)
        return ending


class Process:
    """The runtime that needs nothing but this Python."""

    name = "process"

    def __init__(self) -> None:
        self._nurseries: dict[str, WarmPython] = {}
        self._choosing = threading.Lock()
        self._tasks = 0

    def available(self) -> str | None:
        """Always."""
        return None

    def expect(self, tasks: int, *, batch: bool = False) -> None:
        """Be told that so many tasks will be started."""
        self._tasks += tasks - 1

    def warm_up(self) -> None:
        """Start a warm process with this Python."""
        if sys.platform == "linux":
            with self._choosing:
                self._warm(sys.executable)

    def load(self, task: Task, needs: Needs, folders: Folders) -> None:
        """Have the warm process load the libraries of a task that will run in it."""
        nursery = None if needs.requirements else self._nurseries.get(sys.executable)
        if nursery is not None:
            # It is gone: whoever starts a task gets another one.
            with contextlib.suppress(OSError):
                nursery.load(task, folders.jobs)

    def close(self) -> None:
        """End the warm processes; this runtime can go on, with new ones."""
        with self._choosing:
            nurseries, self._nurseries, self._tasks = self._nurseries, {}, 0
        for nursery in nurseries.values():
            nursery.close()

    def identify(self, needs: Needs, folders: Folders) -> str:
        """Give what stands for the packages installed for it."""
        from dsflow import environments

        known = environments.known(needs.requirements) if needs.requirements else environments.current()
        return identity(self.name, Place(lock_hash=known.lock_hash)) if known else ""

    def prepare(self, needs: Needs, folders: Folders, notify: Callable[[str], None]) -> Place:
        """Give this Python, or that of a cached environment that has the requirements too."""
        from dsflow import environments

        if needs.requirements:
            environment = environments.environment_for(needs.requirements, notify)
        else:
            environment = environments.current()
        return Place(python=environment.python, lock_hash=environment.lock_hash)

    def start(
        self, task: Task, place: Place, folders: Folders, environment: Mapping[str, str]
    ) -> RunningProcess | RunningWarm:
        """Start the shim; it ends when this process is gone."""
        run_folder = folders.datastore / task.folder
        python = place.python or sys.executable
        added = {
            # A script's `python` is the one that has dsflow and the job's requirements.
            "PATH": os.pathsep.join([str(Path(python).parent), os.environ.get("PATH", os.defpath)]),
            "DSFLOW_DATA": str(folders.datastore),
            "DSFLOW_JOBS": str(folders.jobs),
            "DSFLOW_STDIN_GUARD": "1",
            "PYTHONUNBUFFERED": "1",
        }
        whole = own_path({**os.environ, **added, **environment})
        nursery = self._nursery(python)
        if nursery is not None:
            return RunningWarm(nursery.start(run_folder, whole))
        process = subprocess.Popen(
            [python, "-P", "-m", "dsflow.shim", str(run_folder)],
            cwd=tempfile.gettempdir(),
            env=whole,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            text=True,
            encoding="utf-8",
            errors="replace",
        )
        return RunningProcess(process, task.run_id)

    def _nursery(self, python: str) -> WarmPython | None:
        """Give the warm process of an interpreter; None where there is one task only, or forks are unsafe (macOS)."""
        with self._choosing:
            self._tasks += 1
            if sys.platform != "linux" or (self._tasks < MANY and python not in self._nurseries):
                return None
            return self._warm(python)

    def _warm(self, python: str) -> WarmPython:
        nursery = self._nurseries.get(python)
        if nursery is None or not nursery.is_alive():
            if nursery is not None:
                nursery.close()
            nursery = self._nurseries[python] = WarmPython(python)
        return nursery


def end_leftovers(run_id: str) -> None:
    """Kill what a killed shim could not end itself: whatever carries the run's id in its environment."""
    import psutil

    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get("DSFLOW_RUN_ID") == run_id:
                process.kill()
        except psutil.Error:
            continue
