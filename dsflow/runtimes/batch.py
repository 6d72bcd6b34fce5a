"""Containers that are kept for several tasks: each holds a nursery (`dsflow.nursery`) that forks a child for every one.

Host and container share a Unix socket in a folder of its own, so that the open files of a task can cross: both must be
on one machine, which binding folders asks for anyway.
"""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import signal
import socket
import tempfile
import threading
from collections import deque
from collections.abc import Mapping
from pathlib import Path

from dsflow.containers import engine as containers
from dsflow.containers.engine import Bind, Container, Wanted
from dsflow.errors import EnvironmentMissing
from dsflow.runtimes.contract import Ending
from dsflow.runtimes.warm import Child, Nursery, RunningChild

_SOCKETS = "/run/dsflow"
_START_SECONDS = 60
_KILLED = 128 + signal.SIGKILL


class WarmContainer(Nursery):
    """A container with a nursery in it.

    Args:
        wanted: The container of a task; all but its command, its name and what is the task's alone is taken.
    """

    def __init__(self, wanted: Wanted) -> None:
        folder = tempfile.mkdtemp(prefix="dsflow-", dir="/tmp")
        self._said: deque[str] = deque(maxlen=3)
        try:
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind(f"{folder}/s")
                listener.listen(1)
                listener.settimeout(_START_SECONDS)
                self._container = Container(_with_nursery(wanted, Path(folder)))
                threading.Thread(target=self._follow, args=(listener,), daemon=True).start()
                super().__init__(self._connected(listener))
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def ran_out_of_memory(self) -> bool:
        """Say whether something in it was killed for memory."""
        return self._container.ran_out_of_memory()

    def ending(self) -> str:
        """Say that it is gone."""
        return "the container that ran the tasks of this worker is gone" + "".join(f": {line}" for line in self._said)

    def close(self) -> None:
        """Remove it, with whatever runs in it."""
        self._control.close()
        self._container.remove()

    def _connected(self, listener: socket.socket) -> socket.socket:
        try:
            return listener.accept()[0]
        except OSError:
            self._container.remove()
            said = "".join(f": {line}" for line in self._said)
            raise EnvironmentMissing(
                f"the container for several tasks did not start{said}", "Try it without --batch."
            ) from None

    def _follow(self, listener: socket.socket) -> None:
        """Read what it prints, until it ends; then nobody needs to wait for it any more."""
        with contextlib.suppress(OSError, ValueError, EnvironmentMissing):
            self._said.extend(self._container.lines())
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)


class RunningInKept(RunningChild):
    """The shim in a container that is kept."""

    def __init__(self, kept: Kept, like: Wanted, container: WarmContainer, child: Child) -> None:
        super().__init__(child)
        self._kept = kept
        self._like = like
        self._container = container

    def wait(self) -> Ending:
        """Wait for the shim; its container takes the next task, unless something went wrong in it."""
        ending = super().wait()
        if ending.exit_code == 0:
            self._kept.give_back(self._like, self._container)
            return ending
        if ending.exit_code == _KILLED and self._container.ran_out_of_memory():
            ending = dataclasses.replace(ending, out_of_memory=True)
        self._kept.remove(self._container)
        return ending


class Kept:
    """The containers that are kept: one for each task that runs, for the next one that wants the same of it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._free: list[tuple[Wanted, WarmContainer]] = []
        self._all: list[WarmContainer] = []

    def start(self, wanted: Wanted, run_folder: Path, environment: Mapping[str, str]) -> RunningInKept:
        """Start the shim in a container that is free, or in a new one.

        Args:
            wanted: The container that the task would get for itself.
            run_folder: The run folder, as it is called in the container.
            environment: What is added to the container's environment for this task.

        Raises:
            EnvironmentMissing: a new one does not start.
        """
        like = _common(wanted, environment)
        while (container := self._taken(like)) is not None:
            with contextlib.suppress(OSError):
                return RunningInKept(self, like, container, container.start(run_folder, environment))
            self.remove(container)
        containers.remove_leftovers({"workspace": wanted.labels["workspace"]})
        container = WarmContainer(dataclasses.replace(like, name=wanted.name))
        with self._lock:
            self._all.append(container)
        return RunningInKept(self, like, container, container.start(run_folder, environment))

    def give_back(self, like: Wanted, container: WarmContainer) -> None:
        """Keep a container for the next task."""
        with self._lock:
            self._free.append((like, container))

    def remove(self, container: WarmContainer) -> None:
        """Remove a container that takes no more tasks."""
        with self._lock:
            self._all.remove(container)
        container.close()

    def close(self) -> None:
        """Remove all of them."""
        with self._lock:
            every, self._all, self._free = self._all, [], []
        for container in every:
            container.close()

    def _taken(self, like: Wanted) -> WarmContainer | None:
        with self._lock:
            for number, (what, container) in enumerate(self._free):
                if what == like:
                    del self._free[number]
                    return container
        return None


def _common(wanted: Wanted, environment: Mapping[str, str]) -> Wanted:
    """Leave out of a description what is this task's alone."""
    common = {name: value for name, value in wanted.environment.items() if name not in environment}
    labels = {"workspace": wanted.labels["workspace"]}
    return dataclasses.replace(wanted, name="", command=(), environment=common, labels=labels)


def _with_nursery(wanted: Wanted, folder: Path) -> Wanted:
    return dataclasses.replace(
        wanted,
        command=("python3", "-P", "-m", "dsflow.nursery", f"{_SOCKETS}/s"),
        binds=(*wanted.binds, Bind(source=folder, target=_SOCKETS)),
    )
