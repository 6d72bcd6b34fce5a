"""What a kind of job is: a module with `run` and `body`. The registry is `dsflow.kinds.registry`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from dsflow.engines.contract import Engine
from dsflow.masking import Masker
from dsflow.model import Task
from dsflow.store.datastore import Partition

# In the process that runs it, only outside of it (processes that it has started, temporary files), or nowhere.
Traces = Literal["inside", "outside", "none"]


@dataclass(frozen=True, kw_only=True)
class Work:
    """Everything a kind needs to execute one task.

    Attributes:
        task: The task; its secret parameters hold no value.
        parameters: All parameters, secrets included.
        injected: The part of the parameters that a notebook's parameters cell declares.
        job_folder: Where the job's files are; may be read-only. It is the working directory.
        run_folder: Where the run's documents go.
        data: The datastore as seen from here (`/data` in a container).
        staging: The folder that becomes the output partition, or None for a job without output.
        partitions: For each input the partitions it stands for, oldest first; none for a path.
        source_paths: For each input the folder, file or URL it stands for.
        environment: The whole environment for the user's code.
        mask: Blanks secrets out of text.
        say: Prints one line into the log (masked, live).
        progress: Reports `(done, total)` units.
        watch: Puts a child process under the memory limit; call it once per child, with its pid.
        examine: Checks the staged table with a session of its engine, so that the shim need not start another; for a
            kind that has one at hand. None where there is no table.
        meanwhile: Loads what will be needed afterwards; for a kind whose own thread has to wait for the code.
        launcher: What starts a Python program of the job; this Python where there is nothing.
    """

    task: Task
    parameters: Mapping[str, Any]
    injected: Mapping[str, Any]
    job_folder: Path
    run_folder: Path
    data: Path
    staging: Path | None
    partitions: Mapping[str, Sequence[Partition]]
    source_paths: Mapping[str, str]
    environment: Mapping[str, str]
    mask: Masker
    say: Callable[[str], None]
    progress: Callable[[int, int], None]
    watch: Callable[[int], None]
    examine: Callable[[Engine], None] | None = None
    meanwhile: Callable[[], None] | None = None
    launcher: Sequence[str] = ()


class Kind(Protocol):
    """A module that executes one kind of job."""

    def load(self, task: Task, job_folder: Path) -> None:
        """Load the libraries that `run` and `body` will need, in a process that will be forked: start no thread."""

    def traces(self, task: Task) -> Traces:
        """Say where a task, when it succeeds, may leave something that the next task of its job could see."""

    def run(self, work: Work) -> None:
        """Execute the user's code until it ends.

        A request to stop arrives as an exception in the main thread (`dsflow.shim.Stop`, a KeyboardInterrupt): end
        the children, save what there is, let it pass.

        Raises:
            JobFailed: the user's code failed; `place` and `source` say where.
            KernelDied: the process that ran the code is gone.
        """

    def body(self, work: Work) -> str:
        """Give the HTML fragment that shows what ran; must work after a failed `run` too."""
