"""The door into the datastore: a run stages its partition, then publishes it in one swap.

    with Staging(datastore, run_id, output, job) as staging:
        ...                                    # write files into staging.folder
        staging.publish(manifest)              # without this line nothing changes

Whatever ends the block, or the process, the partition is the old version or the new one.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import secrets
import socket
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from dsflow.durable import exchange, explained, fsync_folder, fsync_tree, make_folder, remove_tree, write_text
from dsflow.errors import DsflowError, JobFailed, PartitionLocked
from dsflow.model import Manifest, Output, to_json
from dsflow.store.contents import content_hash, describe, manifest_of, sizes
from dsflow.store.layout import Layout, Store, label
from dsflow.store.locks import lock
from dsflow.store.recovery import (
    ALIVE,
    ASIDE,
    PENDING,
    REMOVING,
    REPLACED,
    finish,
    gate,
    pending,
    purge_trash,
    removing,
    repair,
    repair_at_gate,
    settle,
    settle_removal,
)

__all__ = ["Staging", "content_hash", "describe", "manifest_of", "remove", "repair"]


class Staging:
    """A run's place to write one partition; it holds the partition's lock for the `with` block.

    Args:
        datastore: Where the partition is.
        run_id: The run that writes it.
        output: The partition.
        job: The job, for whoever finds the partition locked.
        swap: Exchanges two folders in one step, or gives False where that is not possible.

    Attributes:
        folder: Write here; it is empty at first.
        published: Whether the new version is in place; also right after an exception that came out of `publish`.

    Raises:
        PartitionLocked: another run is writing the partition.
        UsageError: a name cannot be one, or a link leads out of the datastore.
        EnvironmentMissing: the disk is full, or its file system has no locks.
    """

    def __init__(
        self,
        datastore: Layout,
        run_id: str,
        output: Output,
        job: str,
        swap: Callable[[Path, Path], bool] = exchange,
    ) -> None:
        place = (output.store, output.name, output.ds)
        self._layout = datastore
        self._output = output
        self._run_folder = datastore.run_folder(run_id)
        self._target = datastore.target(*place)
        self._manifest = datastore.manifest(*place)
        self._lock = datastore.lock(*place)
        self._what = label(*place)
        self._owner = f"run {run_id} of {job} ({_whereabouts()})"
        self._swap = swap
        self._process = os.getpid()
        self._held = contextlib.ExitStack()
        self.folder = datastore.staged(run_id, *place)
        self.published = False

    def __enter__(self) -> Self:
        with explained(self._layout.root), contextlib.ExitStack() as held:
            for path in (self._target, self.folder, self._manifest, self._lock):
                self._layout.check_inside(path)
            with gate(self._layout):
                make_folder(self._lock.parent)
                held.enter_context(lock(self._lock, self._owner, self._what))
                repair_at_gate(self._layout, own=self._lock)
                self._make_run_folder()
                held.enter_context(lock(self._run_folder / ALIVE, ""))
                held.callback(self._clean)
            self.folder.mkdir(parents=True)
            self._held = held.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if os.getpid() != self._process:
            return  # A forked child that leaves the block; everything here is still its parent's.
        self._held.close()

    def aside(self, output: Output) -> Path:
        """Give a folder for what is published together with the partition as another one; it is empty at first.

        Raises:
            UsageError: a link leads out of the datastore.
        """
        place = (output.store, output.name, output.ds)
        self._layout.check_inside(self._layout.target(*place))
        folder = self._layout.staged(self._run_folder.name, *place)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def publish(self, manifest: Manifest, aside: Manifest | None = None) -> None:
        """Replace the partition with what is in `folder`, which is gone afterwards. Once per run.

        Args:
            manifest: What is in `folder`: the files as `describe` gives them, and all that is to be remembered.
            aside: The same of a partition in the folder that `aside` gave; it is replaced too, or neither is.

        Raises:
            JobFailed: the files are not the ones that were described.
            EnvironmentMissing: the disk is full.
        """
        with explained(self._layout.root):
            self._make_durable(self.folder, manifest)
            if aside is not None:
                place = (aside.store, aside.name, aside.ds)
                self._make_durable(self._layout.staged(self._run_folder.name, *place), aside)
                write_text(self._run_folder / ASIDE, to_json(aside))
            make_folder(self._target.parent)
            make_folder(self._manifest.parent)
            write_text(self._run_folder / PENDING, to_json(manifest))
            self._put_in_place()
            self.published = True
            finish(self._layout, self._run_folder, manifest, self._swap)
            purge_trash(self._layout)

    def take_away(self) -> None:
        """Take the partition away instead of replacing it; what is not there is no mistake.

        Raises:
            EnvironmentMissing: the user may not do that.
        """
        with explained(self._layout.root):
            write_text(self._run_folder / REMOVING, to_json(self._output))
            with contextlib.suppress(FileNotFoundError):
                self._target.rename(self._run_folder / REPLACED)
            settle_removal(self._layout, self._run_folder, self._output)

    def _make_durable(self, folder: Path, manifest: Manifest) -> None:
        if sizes(folder) != {file.name: file.bytes for file in manifest.files}:
            raise JobFailed(
                f"files of {self._what} changed after they were checked",
                "Something that the job started still writes; let the job wait for it.",
            )
        fsync_tree(folder)

    def _put_in_place(self) -> None:
        if not os.path.lexists(self._target):
            self.folder.rename(self._target)
        elif not self._swap(self.folder, self._target):
            self._target.rename(self._run_folder / REPLACED)
            fsync_folder(self._run_folder)
            self.folder.rename(self._target)

    def _clean(self) -> None:
        # What fails here is left for the next run or reader to repair; it must not hide why the run ended.
        with contextlib.suppress(OSError, DsflowError):
            unfinished, removed = pending(self._run_folder), removing(self._run_folder)
            if unfinished is not None:  # Stopped inside `publish`.
                self.published = settle(self._layout, self._run_folder, unfinished)
            elif removed is not None:  # Stopped inside `take_away`.
                settle_removal(self._layout, self._run_folder, removed)
            else:
                remove_tree(self._run_folder)

    def _make_run_folder(self) -> None:
        make_folder(self._run_folder.parent)
        try:
            self._run_folder.mkdir()
        except FileExistsError:
            name = self._run_folder.name
            raise PartitionLocked(f"run {name} is being executed already", "Start a new run.") from None


def remove(datastore: Layout, store: Store, name: str, ds: str) -> None:
    """Take one partition away with its manifest, in one step: whatever happens, it is there whole or gone.

    Its files are in the trash for an hour.

    Raises:
        PartitionLocked: a run is writing the partition.
        EnvironmentMissing: the user may not do that.
    """
    run_id = f"{dt.datetime.now(dt.UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(3)}"
    with Staging(datastore, run_id, Output(store=store, name=name, ds=ds), "prune") as staging:
        staging.take_away()


def _whereabouts() -> str:
    now = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
    return f"pid {os.getpid()} on {socket.gethostname()}, since {now}"
