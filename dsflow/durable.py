"""Writes that survive a crash: what these functions have finished is on the disk, and nothing is ever half there."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import os
import secrets
import shutil
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

from dsflow.errors import DISK_FULL, EnvironmentMissing

_SWAP = 2  # RENAME_EXCHANGE of Linux and RENAME_SWAP of macOS have the same value.
_AT_FDCWD = -100
# What kernels and file systems say that cannot exchange; EPERM is what an old container sandbox says.
_NO_EXCHANGE = {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EPERM}
_DENIED = {errno.EACCES, errno.EPERM, errno.EROFS, errno.EXDEV}


def write_text(path: Path, text: str, *, last: bool = True, wait: bool = True) -> None:
    """Put a UTF-8 text file in place at once: whoever opens `path` finds the old text or the new one, whole.

    Args:
        path: The file.
        text: What is to be in it.
        last: No other file follows into the same folder. One that is not the last is on the disk too, but found there
            for certain only when the last one is.
        wait: Wait until it is on the disk. A document of a run that is not its result need not be, should the machine
            stop within seconds.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            if wait:
                file.flush()
                _flush(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if last and wait:
        fsync_folder(path.parent)


def make_folder(path: Path) -> None:
    """Make a folder with its parents; those that were missing are on the disk afterwards."""
    missing = list(itertools.takewhile(lambda folder: not folder.is_dir(), (path, *path.parents)))
    if not missing:
        return
    path.mkdir(parents=True, exist_ok=True)
    for folder in missing:
        fsync_folder(folder.parent)


def fsync_folder(folder: Path) -> None:
    """Bring a folder's list of names to the disk."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _flush(handle)
    except OSError as error:
        # Some network file systems have no fsync for folders; their names are as safe as they get.
        if error.errno not in _NO_EXCHANGE:
            raise
    finally:
        os.close(handle)


def fsync_tree(folder: Path) -> None:
    """Bring every file in a folder, and the folders, to the disk."""
    for place, _, names in os.walk(folder, topdown=False):
        for name in names:
            path = Path(place, name)
            if stat.S_ISREG(path.lstat().st_mode):
                with path.open("rb") as file:
                    _flush(file.fileno())
        fsync_folder(Path(place))


def exchange(one: Path, other: Path) -> bool:
    """Swap two files or folders in one step, so that neither name is ever missing.

    Returns:
        False, with nothing changed, where the kernel or the file system cannot do it.

    Raises:
        OSError: one of them does not exist, or may not be touched.
    """
    import ctypes

    library = ctypes.CDLL(None, use_errno=True)
    before, after = os.fsencode(one), os.fsencode(other)
    if sys.platform == "darwin" and hasattr(library, "renamex_np"):
        failed = library.renamex_np(before, after, ctypes.c_uint(_SWAP))
    elif sys.platform == "linux" and hasattr(library, "renameat2"):
        failed = library.renameat2(_AT_FDCWD, before, _AT_FDCWD, after, ctypes.c_uint(_SWAP))
    else:
        return False
    if not failed:
        return True
    code = ctypes.get_errno()
    if code in _NO_EXCHANGE:
        return False
    raise OSError(code, os.strerror(code), str(one), None, str(other))


def remove_tree(path: Path) -> None:
    """Remove a file, a link or a folder with all that is in it, as far as possible.

    What is gone already is fine, and what may not be removed stays: whoever cleans up must not fail over it.
    """
    if path.is_symlink() or not path.is_dir():
        with contextlib.suppress(OSError):
            path.unlink()
        return
    shutil.rmtree(path, ignore_errors=True)
    if not path.exists():
        return
    # A folder may be closed to its owner, too.
    with contextlib.suppress(OSError):
        path.chmod(0o700)
    for place, folders, _ in os.walk(path):
        for name in folders:
            folder = Path(place, name)
            if not folder.is_symlink():
                with contextlib.suppress(OSError):
                    folder.chmod(0o700)
    shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def explained(folder: Path) -> Iterator[None]:
    """Turn what the disk that holds `folder` refuses inside the `with` block into a sentence.

    Raises:
        EnvironmentMissing: the disk, or the user's quota on it, is full; or the user may not write there.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _DENIED:
            raise EnvironmentMissing(
                f"cannot write into {folder}: {error.strerror}: {error.filename}",
                "Make the folder, and all in it, yours to write, on one file system.",
            ) from error
        if error.errno not in DISK_FULL:
            raise
        raise EnvironmentMissing(
            f"the disk is full: {_space(folder)}",
            "Free some space and run again. Partitions replaced within the last hour are kept in .dsflow/trash there.",
        ) from error


def _space(folder: Path) -> str:
    usage = shutil.disk_usage(folder)
    return f"{usage.free / 1e6:.1f} MB of {usage.total / 1e6:.1f} MB are free for {folder}"


def _flush(handle: int) -> None:
    """Like fsync; on macOS that stops at the disk's own cache, so there ask for more."""
    if sys.platform == "darwin":
        fcntl.fcntl(handle, fcntl.F_FULLFSYNC)
    else:
        os.fsync(handle)
