"""What can end a run from outside its code: a signal, the timeout, the memory limit, a host that is gone.

The first three signals arrive in the main thread as `Stop`, which carries the reason. Memory is watched over the
process tree of the job's code, and, in a container, read from the control group, where the kernel counts its kills.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from dsflow.errors import DsflowError, EnvironmentMissing, Interrupted, JobFailed, OutOfMemory, Timeout

if TYPE_CHECKING:
    import psutil

_LOOK_EVERY_SECONDS = 0.2
_CGROUP_COUNTERS = (Path("/sys/fs/cgroup/memory.events"), Path("/sys/fs/cgroup/memory/memory.oom_control"))


class Stop(KeyboardInterrupt):
    """Somebody or something asked the run to end; a KeyboardInterrupt so that user code cannot swallow it."""

    def __init__(self, reason: DsflowError) -> None:
        super().__init__(reason.message)
        self.reason = reason


class Supervisor:
    """Watches over one run.

    Args:
        timeout: Seconds the run may take, or None.
        memory: Bytes the job's processes may hold together, or None.
        guard_stdin: End the run when standard input closes, which means that the host is gone.
    """

    def __init__(self, *, timeout: float | None, memory: int | None, guard_stdin: bool) -> None:
        self._timeout = timeout
        self._memory = memory
        self._guard_stdin = guard_stdin
        self._kills_before = _kernel_kills()
        self._passed_limit = False
        self._depends = False
        self._lost: Callable[[], str | None] = lambda: None
        self._ended = threading.Event()

    @contextmanager
    def signals(self) -> Iterator[None]:
        """Turn SIGTERM, SIGINT and the timeout into `Stop`; only the first one, so that saving is not disturbed."""
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGINT, self._on_signal)
        signal.signal(signal.SIGALRM, self._on_signal)
        if self._timeout:
            signal.setitimer(signal.ITIMER_REAL, self._timeout)
        try:
            yield
        finally:
            self.quiet()
            self._ended.set()

    def quiet(self) -> None:
        """From here on nothing interrupts: the run is publishing, or writing down how it ended."""
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM):
            signal.signal(number, signal.SIG_IGN)

    def watch(self, pid: int) -> None:
        """Put a process, a child or this one, and its children under the memory limit; guard standard input.

        Threads start here and not before: a kernel is made by fork, and a fork wants a process without threads.
        """
        if self._memory:
            threading.Thread(target=self._watch_memory, args=(pid,), daemon=True).start()
        if self._guard_stdin:
            threading.Thread(target=self._end_with_stdin, daemon=True).start()
        if self._depends:
            threading.Thread(target=self._end_with_what_is_lost, daemon=True).start()

    def depend_on(self, lost: Callable[[], str | None]) -> None:
        """End the run when something outside it is lost that it cannot go on without.

        Args:
            lost: Says what, in a sentence; None as long as it is there.
        """
        self._depends, self._lost = True, lost

    def explain(self, error: DsflowError) -> DsflowError:
        """Give the true reason of a failure: what died of memory says so, and what lost something it stood on."""
        if (reason := self._lost()) is not None and not isinstance(error, Interrupted | Timeout):
            return EnvironmentMissing(f"{reason}; nothing was published", "Run again: it is started anew.")
        if self._passed_limit or _kernel_kills() > self._kills_before:
            limit = f"{self._memory / 2**20:,.0f} MB" if self._memory else "of the machine"
            return OutOfMemory(
                f"out of memory: the job passed its limit ({limit}) and was killed",
                "Raise `run: {memory: ...}` in job_specs.yaml, or read less at once.",
                place=error.place,
                source=error.source,
            )
        return error

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.quiet()
        if self._passed_limit:
            raise Stop(self.explain(Interrupted("out of memory")))
        if self._lost() is not None:
            raise Stop(self.explain(JobFailed("")))
        if number == signal.SIGALRM:
            message = f"timeout: the run took longer than {self._timeout:g} s"
            raise Stop(Timeout(message, "Raise `run: {timeout: ...}` in job_specs.yaml."))
        raise Stop(Interrupted("interrupted; nothing was published"))

    def _end_with_stdin(self) -> None:
        try:
            while os.read(0, 4096):
                time.sleep(0)
        except OSError:
            pass
        if not self._ended.is_set():
            os.kill(os.getpid(), signal.SIGTERM)

    def _end_with_what_is_lost(self) -> None:
        while not self._ended.wait(_LOOK_EVERY_SECONDS):
            if self._lost() is not None:
                os.kill(os.getpid(), signal.SIGTERM)
                return

    def _watch_memory(self, pid: int) -> None:
        import psutil

        assert self._memory is not None
        while not self._ended.wait(_LOOK_EVERY_SECONDS):
            try:
                parent = psutil.Process(pid)
                tree = [parent, *parent.children(recursive=True)]
                if _held(tree, self._memory) > self._memory:
                    self._passed_limit = True
                    for process in reversed(tree):
                        # This process itself has yet to say why the run ended.
                        process.send_signal(signal.SIGTERM if process.pid == os.getpid() else signal.SIGKILL)
                    return
            except psutil.NoSuchProcess:
                if not psutil.pid_exists(pid):
                    return


def _held(tree: Sequence[psutil.Process], enough: int) -> int:
    """Give the bytes that some processes hold together; counted exactly only where it could be more than enough."""
    held = sum(process.memory_info().rss for process in tree)
    if held <= enough or not hasattr(tree[0].memory_full_info(), "pss"):
        return held
    # Forked workers share most of their memory with their parent, and it is held once.
    return sum(process.memory_full_info().pss for process in tree)


def _kernel_kills() -> int:
    """Give how often the kernel killed for memory in this container; 0 where there is no counter."""
    for path in _CGROUP_COUNTERS:
        try:
            words = path.read_text(encoding="utf-8").split()
        except OSError:
            continue
        if "oom_kill" in words:
            return int(words[words.index("oom_kill") + 1])
    return 0
