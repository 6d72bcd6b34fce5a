"""Records the runs of a plan a batch at a time: a transaction per run would cost more than a small run.

What is not written yet when this process is killed is lost to the database, not to the run folders. A file that is
locked for as long as its recorder lives tells the next reader that it has to look there.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Self

from dsflow.errors import DsflowError, PartitionLocked
from dsflow.model import Event
from dsflow.records import Record, record_of_event
from dsflow.store.layout import Layout
from dsflow.store.locks import lock

# A batch is written when it is so large, or so old.
_MOST = 50
_OLDEST_SECONDS = 0.5


class Batches:
    """A listener that passes on what events say of runs, from a thread of its own. The first is written at once.

    Args:
        record: Writes records in one transaction.
        datastore: Where the run folders are.
    """

    def __init__(self, record: Callable[[Iterable[Record]], None], datastore: Path) -> None:
        self._record = record
        self._open = contextlib.ExitStack()
        self._folder = _folder(datastore)
        self._changed = threading.Condition()
        self._waiting: dict[str, Record] = {}
        self._closed = False
        self.error: DsflowError | None = None  # why recording has ended too early
        self._thread = threading.Thread(target=self._work, name="batches", daemon=True)

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        mark = self._folder / f"{os.getpid()}-{threading.get_ident()}"
        self._open.callback(mark.unlink, missing_ok=True)
        self._open.enter_context(lock(mark, f"process {os.getpid()}"))
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Write what is left."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()
        if self.error is None:
            self._open.close()

    def __call__(self, event: Event) -> None:
        """Take what an event says of a run.

        Raises:
            DsflowError: something could not be written a moment ago; this is said once.
        """
        record = record_of_event(event)
        if record is None:
            return
        with self._changed:
            if self.error is not None:
                raise self.error
            self._waiting[record.run_id] = record
            self._changed.notify_all()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                batch, self._waiting = self._waiting, {}
            if not batch:
                return
            try:
                self._record(batch.values())
            except DsflowError as error:
                self.error = error
                return
            with self._changed:
                self._changed.wait_for(lambda: self._closed or len(self._waiting) >= _MOST, _OLDEST_SECONDS)


def cut_off(datastore: Path) -> list[Path]:
    """Give the marks of recorders that died before they had written everything; remove them when that is made good."""
    found = []
    for mark in sorted(_folder(datastore).glob("*")):
        with contextlib.suppress(PartitionLocked), lock(mark, f"process {os.getpid()}"):
            found.append(mark)
    return found


def _folder(datastore: Path) -> Path:
    return Layout(datastore).own / "recording"
