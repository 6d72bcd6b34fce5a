"""What a runtime is: a place that can start the shim for a task. The registry is `dsflow.runtimes.registry`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from dsflow.model import Task


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What a job asks of the place it runs in: an image (docker only), extra Python requirements, and its package.

    `package` is the name of the job, where its program is to be sent elsewhere.
    """

    image: str | None = None
    requirements: tuple[str, ...] = ()
    package: str = ""


@dataclass(frozen=True, kw_only=True)
class Place:
    """A prepared place: `python` (process) or `image` (docker), with what identifies it for the record.

    `package` is the folder of what is sent elsewhere with the job's program.
    """

    python: str | None = None
    image: str | None = None
    image_id: str | None = None
    lock_hash: str | None = None
    package: str | None = None


@dataclass(frozen=True, kw_only=True)
class Folders:
    """Where the host keeps the jobs and the data; the run folder is `datastore / task.folder`."""

    jobs: Path
    datastore: Path


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How the shim's process ended.

    Attributes:
        exit_code: Its exit code; 128 and more for a signal.
        out_of_memory: The engine's word for it, where it has one.
        problem: Why nobody knows how it ended, where that is so.
    """

    exit_code: int
    out_of_memory: bool = False
    problem: str = ""


def identity(runtime: str, place: Place) -> str:
    """Give the words for a place in a fingerprint: `process:3f9a1c...`, `docker:9d0c...`."""
    return f"{runtime}:{(place.image_id or place.lock_hash or '').removeprefix('sha256:')[:16]}"


class Running(Protocol):
    """A started task."""

    def lines(self) -> Iterator[str]:
        """Give whole lines as the run prints them, until it ends."""

    def stop(self, *, kill: bool = False) -> None:
        """Ask the run to save and end (SIGTERM); with `kill`, end it at once. Returns without waiting."""

    def wait(self) -> Ending:
        """Wait for the end, clean up everything that was started, and say how it ended."""


class Runtime(Protocol):
    """A place where tasks run. A class of this shape, made without arguments, is one line in the registry."""

    name: str

    def available(self) -> str | None:
        """Give None when tasks can run here, else one sentence that says why not."""

    def expect(self, tasks: int, *, batch: bool = False) -> None:
        """Be told that so many tasks will be started; what they can share is then kept ready until `close`.

        With `batch` that may be more than usual: what otherwise is made for each task and removed after it.
        """

    def warm_up(self) -> None:
        """Begin to start what many tasks can share, and return at once; they may never come."""

    def load(self, task: Task, needs: Needs, folders: Folders) -> None:
        """Let what is warm load what a task like this will need, and return at once."""

    def close(self) -> None:
        """End what is kept ready; tasks that still run end with it."""

    def identify(self, needs: Needs, folders: Folders) -> str:
        """Give what `identity` gives for the place that `prepare` would, without making it; empty if it is not made.

        Raises:
            EnvironmentMissing: nobody can tell here.
        """

    def prepare(self, needs: Needs, folders: Folders, notify: Callable[[str], None]) -> Place:
        """Build or find what `needs` asks for; `notify` gets a line before anything slow.

        Raises:
            EnvironmentMissing: it cannot be had.
        """

    def start(self, task: Task, place: Place, folders: Folders, environment: Mapping[str, str]) -> Running:
        """Start `python -m dsflow.shim RUN_FOLDER` there; `environment` is added to what the place has."""
