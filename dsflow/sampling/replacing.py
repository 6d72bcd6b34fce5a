"""Replacing a folder: what was there stays, whole, until what comes instead is whole."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from dsflow.durable import exchange, explained, fsync_folder, fsync_tree, make_folder, remove_tree
from dsflow.store.locks import is_held, lock

# Beside the folders of projects, so on their file system; no project can be called so.
_STAGING = ".staging"


@contextlib.contextmanager
def replaced(target: Path, base: Path) -> Iterator[Path]:
    """Give the path of a folder to be made; it takes the place of `target` when the block ends, unless by an error.

    Nothing but `target` is replaced. A process that is killed leaves the old folder, and a rest that the next one to
    replace something below `base` removes.

    Args:
        target: The folder; it need not exist.
        base: A folder above it, on the same file system.

    Raises:
        EnvironmentMissing: the disk is full, or the user may not write there.
    """
    staging = base / _STAGING
    with explained(base), contextlib.ExitStack() as held:
        make_folder(staging)
        name = f"{os.getpid()}-{secrets.token_hex(4)}"
        with lock(staging / "gate", f"process {os.getpid()}", wait=True):
            _sweep(staging)
            held.enter_context(lock(staging / f"{name}.lock", f"process {os.getpid()}"))
        held.callback((staging / f"{name}.lock").unlink, missing_ok=True)
        held.callback(remove_tree, staging / name)
        new = staging / name / "new"
        new.parent.mkdir()
        yield new
        if not new.is_dir():
            return
        fsync_tree(new)
        make_folder(target.parent)
        with lock(staging / "gate", f"process {os.getpid()}", wait=True):
            _swap(new, target)


def _swap(new: Path, target: Path) -> None:
    if not os.path.lexists(target):
        new.rename(target)
    elif not exchange(new, target):
        target.rename(new.with_name("old"))
        new.rename(target)
    fsync_folder(target.parent)


def _sweep(staging: Path) -> None:
    """Remove what killed processes left; whoever calls this holds the gate."""
    for left in list(staging.iterdir()):
        name = left.name.removesuffix(".lock")
        if name != "gate" and not is_held(staging / f"{name}.lock"):
            remove_tree(left)
