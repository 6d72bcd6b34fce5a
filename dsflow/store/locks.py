"""Locks between processes. The kernel holds them, so a lock is gone with the process that took it, however that ended.

A lock is an flock on a small file; the file's text says who holds it. The file stays behind when the lock is
released: removing it would let two processes hold "the same" lock on two files.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from dsflow.errors import EnvironmentMissing, PartitionLocked


class _Handle:
    """An open lock file of this process. Compared by identity: the kernel reuses numbers."""

    def __init__(self, number: int) -> None:
        self.number = number


_held: set[_Handle] = set()


def _forget() -> None:
    """Close what a forked child inherited, so that a child outliving its parent never keeps the parent's locks."""
    for handle in _held:
        os.close(handle.number)
    _held.clear()


os.register_at_fork(after_in_child=_forget)


@contextlib.contextmanager
def lock(path: Path, owner: str, what: str = "it", *, wait: bool = False) -> Iterator[None]:
    """Hold the lock file `path`, whose folder must exist, for the `with` block.

    A forked child does not hold it. The lock of a dead process is taken over.

    Args:
        path: The lock file; made where it is missing.
        owner: Who is taking it, for those who come too late.
        what: What it protects, for the message.
        wait: Wait until it is free, instead of refusing.

    Raises:
        PartitionLocked: a live process holds it.
        EnvironmentMissing: the file system has no locks.
    """
    handle = _Handle(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666))
    _held.add(handle)
    try:
        _take(handle.number, path, what, wait)
        try:
            os.ftruncate(handle.number, 0)
            os.pwrite(handle.number, owner.encode(), 0)
            yield
        finally:
            # Not in a forked child, which has closed its copy; releasing through it would release ours.
            if handle in _held:
                with contextlib.suppress(OSError):
                    os.ftruncate(handle.number, 0)
                fcntl.flock(handle.number, fcntl.LOCK_UN)
    finally:
        if handle in _held:
            _held.remove(handle)
            os.close(handle.number)


def is_held(path: Path) -> bool:
    """Tell whether some live process holds the lock file `path`; no lock is taken from anybody for more than a moment.

    Args:
        path: The lock file; one that is not there is held by nobody.
    """
    try:
        number = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(number, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(number)
    return False


def _take(number: int, path: Path, what: str, wait: bool) -> None:
    try:
        fcntl.flock(number, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        owner = os.pread(number, 4096, 0).decode(errors="replace") or "another run"
        raise PartitionLocked(
            f"{what} is being written by {owner}", "Wait until it ends, or stop it: its lock goes with its process."
        ) from None
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
            raise
        raise EnvironmentMissing(
            f"the file system of {path.parent} has no locks: {error.strerror}", "Keep the datastore on a local disk."
        ) from None
