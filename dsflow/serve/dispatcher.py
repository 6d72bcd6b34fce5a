"""Which accepted run begins when, how it is ended on request, and what becomes of those that a crash left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from dsflow.errors import DsflowError, UsageError
from dsflow.serve.aftermath import settle
from dsflow.serve.ledger import Entry, Ledger, Request, State, now
from dsflow.serve.places import Places
from dsflow.workspace import Workspace

# A run that is asked to end saves what it has; then its code is killed; then its keeper. All of it within ten seconds.
_SAVING_SECONDS = 5.0
_KILLING_SECONDS = 2.5


class Full(DsflowError):
    """So many runs wait already that no further one is taken."""

    exit_code = 4


class Taken(UsageError):
    """The key stands for another request."""


class Closing(DsflowError):
    """The server is ending."""

    exit_code = 4


@dataclass
class _Kept:
    """A run at work: its keeper as a child of this process, or only known by its lock; and whether it is over."""

    entry: Entry
    process: subprocess.Popen[bytes] | None = None
    over: threading.Event = field(default_factory=threading.Event)
    stopping: bool = False


class Dispatcher:
    """Accepts runs, begins them in order, so many at once, and ends them. Safe to call from any thread.

    Args:
        workspace: Whose jobs run.
        at_once: How many runs are at work at a time.
        most_queued: How many may wait.
    """

    def __init__(self, workspace: Workspace, *, at_once: int, most_queued: int) -> None:
        self._places = Places.of(workspace)
        self._ledger = Ledger(self._places.runs)
        self._at_once = at_once
        self._most_queued = most_queued
        self._lock = threading.RLock()
        self._entries: dict[str, Entry] = {}
        self._by_key: dict[str, Entry] = {}
        self._queue: list[Entry] = []
        self._kept: dict[str, _Kept] = {}
        self._closing = False

    def open(self) -> None:
        """Take over what is on the disk: what waits is queued, what runs is watched, what has lost its keeper ends."""
        with self._lock:
            for entry in self._ledger.entries():
                self._know(entry)
                state = entry.state()
                if state.has_ended:
                    entry.tell_the_end()
                elif entry.is_kept or state != State():
                    self._watch(_Kept(entry))
                else:
                    entry.unlock()
                    self._queue.append(entry)
            self._fill()

    def counts(self) -> tuple[int, int]:
        """Give how many runs are at work, and how many wait."""
        with self._lock:
            return len(self._kept), len(self._queue)

    def known(self, request: Request) -> Entry | None:
        """Give the run that a request's key stands for.

        Raises:
            Taken: it was asked for with another request.
        """
        with self._lock:
            entry = self._by_key.get(request.key) if request.key else None
        if entry is not None and not entry.request.is_for_the_same(request):
            raise Taken(
                f"the key {request.key!r} stands for another request: run {entry.id} of {entry.request.job}",
                "Use a new key for each run.",
            )
        return entry

    def submit(self, request: Request, secrets: dict[str, str]) -> tuple[Entry, bool]:
        """Accept a run, or give the one that its key stands for; say whether it is new.

        Raises:
            Full: too many wait.
            Taken: the key stands for another request.
            Closing: the server is ending.
        """
        with self._lock:
            self._check_open()
            if (entry := self.known(request)) is not None:
                return entry, False
            if len(self._queue) >= self._most_queued:
                raise Full(f"{len(self._queue)} runs are waiting already", "Ask again later.")
            entry = self._ledger.accept(request, secrets)
            self._know(entry)
            self._queue.append(entry)
            self._fill()
            return entry, True

    def get(self, run: str) -> Entry | None:
        """Give a run by its id."""
        with self._lock:
            return self._entries.get(run)

    def latest(self) -> list[Entry]:
        """Give all runs, newest first."""
        with self._lock:
            return list(reversed(self._entries.values()))

    def cancel(self, entry: Entry) -> bool:
        """Ask for the end of a run, at work or waiting; False where it has ended already."""
        with self._lock:
            kept = self._kept.get(entry.id)
            if kept is None and entry not in self._queue:
                return False
            entry.cancel()
            if kept is None:
                self._queue.remove(entry)
                entry.end(_cancelled())
            elif not kept.stopping:
                kept.stopping = True
                threading.Thread(target=_end, args=(kept,), daemon=True).start()
        return True

    def close(self, patience: float) -> None:
        """End all runs, and accept none any more; return when they are over, or after so many seconds."""
        with self._lock:
            self._closing = True
            for entry in list(self._queue):
                self.cancel(entry)
            kept = list(self._kept.values())
            for each in kept:
                self.cancel(each.entry)
        for each in kept:
            each.over.wait(patience)

    def _check_open(self) -> None:
        if self._closing:
            raise Closing("the server is ending", "Start it again: `dsflow serve`.")

    def _know(self, entry: Entry) -> None:
        self._entries[entry.id] = entry
        if entry.request.key:
            self._by_key[entry.request.key] = entry

    def _fill(self) -> None:
        """Begin what waits, as far as there is room."""
        while self._queue and len(self._kept) < self._at_once and not self._closing:
            entry = self._queue.pop(0)
            try:
                process = self._start(entry)
            except OSError as error:
                entry.end(_could_not_start(error))
            else:
                self._watch(_Kept(entry, process))

    def _start(self, entry: Entry) -> subprocess.Popen[bytes]:
        """Start a keeper. It gets the lock from here, so that there is no moment in which nobody has it."""
        lock = entry.lock()
        try:
            with entry.words.open("ab") as words:
                command = ["-P", "-m", "dsflow.serve.keeper", str(entry.folder), str(lock), str(self._places.root)]
                return subprocess.Popen(
                    [sys.executable, *command], cwd=self._places.root, start_new_session=True, pass_fds=(lock,),
                    stdin=subprocess.DEVNULL, stdout=words, stderr=words,
                )  # fmt: skip
        finally:
            os.close(lock)

    def _watch(self, kept: _Kept) -> None:
        self._kept[kept.entry.id] = kept
        threading.Thread(target=self._await, args=(kept,), daemon=True).start()

    def _await(self, kept: _Kept) -> None:
        """Wait for the end of a keeper, see that the run has ended too, and begin the next."""
        try:
            kept.entry.await_keeper()
            if kept.process is not None:
                kept.process.wait()
            settle(kept.entry, self._places)
        finally:
            with self._lock:
                del self._kept[kept.entry.id]
                self._forget()
                self._fill()
            kept.over.set()

    def _forget(self) -> None:
        busy = {*self._kept, *(entry.id for entry in self._queue)}
        for entry in self._ledger.forget([e for e in self._entries.values() if e.id not in busy]):
            del self._entries[entry.id]
            if entry.request.key:
                self._by_key.pop(entry.request.key, None)


def _end(kept: _Kept) -> None:
    """End a keeper: ask, ask again (which kills the job), and kill."""
    steps: tuple[tuple[Callable[[int], None], float], ...] = (
        (lambda pid: os.kill(pid, signal.SIGTERM), _SAVING_SECONDS),
        (lambda pid: os.kill(pid, signal.SIGTERM), _KILLING_SECONDS),
        (lambda pid: os.killpg(pid, signal.SIGKILL), 0.0),
    )
    for act, patience in steps:
        while (pid := kept.entry.keeper()) is None and not kept.over.wait(0.05):
            pass  # it has only just begun, or is over
        if pid is None:
            return
        with contextlib.suppress(ProcessLookupError):
            act(pid)
        if kept.over.wait(patience):
            return


def _cancelled() -> State:
    error = {"message": "cancelled before it began", "hint": "", "place": "", "source": ""}
    return State(status="interrupted", exit_code=130, finished=now(), error=error)


def _could_not_start(error: OSError) -> State:
    shown = {"message": f"the run cannot be started: {error}", "hint": "", "place": "", "source": ""}
    return State(status="failed", exit_code=4, finished=now(), error=shown)
