"""Versions of one partition to publish in tests, and ways to end a process or fail a system call in the middle."""

from __future__ import annotations

import itertools
import os
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dsflow.durable import exchange
from dsflow.model import Manifest, Output
from dsflow.store.datastore import Datastore
from dsflow.store.layout import Store
from dsflow.store.publishing import Staging, content_hash, describe

Swap = Callable[[Path, Path], bool]
NAME, DS = "fct_rain", "2026-11-20"
KILLED = 9
# Every call with which dsflow changes a disk, except writes into an open file and the exchange of two folders.
CALLS = ("open", "mkdir", "rename", "replace", "unlink", "rmdir", "fsync", "ftruncate", "pwrite", "chmod")


def no_exchange(one: Path, other: Path) -> bool:
    """Behave like a file system that cannot exchange two folders."""
    return False


SWAPS: dict[str, Swap] = {"exchange": exchange, "two renames": no_exchange}


@dataclass(frozen=True)
class Version:
    """What one run publishes: for a table under names of its own, for a raw dataset under the same names each time."""

    number: int
    store: Store = "table"

    @property
    def run_id(self) -> str:
        return f"20261120T{self.number:06d}-abcdef"

    @property
    def output(self) -> Output:
        return Output(store=self.store, name=NAME, ds=DS)

    @property
    def contents(self) -> dict[str, str]:
        prefix = f"{self.run_id}-" if self.store == "table" else ""
        return {f"{prefix}part-{part}.parquet": f"{self.number:06d}/{part}" for part in range(1 + self.number % 3)}

    def stage(self, folder: Path) -> Manifest:
        """Write the files and give their manifest."""
        for name, text in self.contents.items():
            (folder / name).write_text(text)
        files = describe(folder)
        return Manifest(
            run_id=self.run_id,
            job="rain",
            store=self.store,
            name=NAME,
            ds=DS,
            published="2026-11-20T00:00:00+00:00",
            files=files,
            hash=content_hash(files),
        )

    def publish(self, datastore: Datastore, swap: Swap = exchange) -> None:
        """Do all that a run does to the datastore."""
        with Staging(datastore, self.run_id, self.output, "rain", swap) as staging:
            staging.publish(self.stage(staging.folder))


def on_disk(datastore: Datastore, store: Store = "table") -> dict[str, str] | None:
    """Give what a reader sees that knows nothing of dsflow; None where there is no folder."""
    folder = datastore.target(store, NAME, DS)
    return {path.name: path.read_text() for path in folder.iterdir()} if folder.exists() else None


def as_read(datastore: Datastore, store: Store = "table") -> dict[str, str] | None:
    """Give what dsflow's reader sees; the manifest must be of the same version as the files."""
    partition = datastore.partition(store, NAME, DS)
    if partition is None:
        return None
    assert partition.manifest is not None
    assert partition.manifest.files == describe(partition.folder)
    return {path.name: path.read_text() for path in partition.files}


def left_over(datastore: Datastore) -> list[Path]:
    """Give what runs have left in the staging area."""
    return list(datastore.staging.glob("*"))


def fork(action: Callable[[], object]) -> int:
    """Run `action` in a child process; give its pid. The child ends with exit code 0, or 1 after an exception."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            action()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return pid


def exit_code(pid: int) -> int:
    """Wait for a child process to end."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def killed_at(step: int, action: Callable[[Callable[[Swap], Swap]], object]) -> bool:
    """Run `action` in a child that dies at its `step`-th change to the disk; tell whether it died.

    `action` is given a function that makes a swap count as such a change.
    """

    def doomed() -> None:
        count = itertools.count(1)

        def mortal(call: Callable[..., Any]) -> Callable[..., Any]:
            def counted(*args: Any, **kwargs: Any) -> Any:
                if next(count) == step:
                    os._exit(KILLED)
                return call(*args, **kwargs)

            return counted

        for name in CALLS:
            setattr(os, name, mortal(getattr(os, name)))
        action(mortal)

    code = exit_code(fork(doomed))
    assert code in (0, KILLED)
    return code == KILLED


def publish_killed_at(step: int, version: Version, datastore: Datastore, swap: Swap = exchange) -> bool:
    """Publish in a child that dies at its `step`-th change to the disk; tell whether it died."""
    return killed_at(step, lambda mortal: version.publish(datastore, mortal(swap)))


@contextmanager
def failing_at(step: int, error: Callable[[], BaseException]) -> Iterator[Callable[[], bool]]:
    """Let the `step`-th change to the disk raise an error; gives a function that tells whether it came to that."""
    count = itertools.count(1)
    raised = False

    def fragile(call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            nonlocal raised
            if next(count) == step:
                raised = True
                raise error()
            return call(*args, **kwargs)

        return counted

    calls = {name: getattr(os, name) for name in CALLS}
    try:
        for name, call in calls.items():
            setattr(os, name, fragile(call))
        yield lambda: raised
    finally:
        for name, call in calls.items():
            setattr(os, name, call)


def until(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds; a test that waits in vain is ended by its timeout."""
    while not condition():
        time.sleep(0.002)
