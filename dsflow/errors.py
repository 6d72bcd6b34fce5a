"""Every way dsflow can refuse or fail: one tree, one exit code per class.

A message is one sentence that names the place; a hint is the next thing to type or to change.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from typing import Any

# What the system says when a disk, or somebody's share of it, is full.
DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class DsflowError(Exception):
    """A failure that dsflow expected and can explain.

    Args:
        message: One sentence for the user, with the place in it.
        hint: What to do next, often a command. May be empty.
        place: Where in the user's code, such as `cell 3, line 2`. May be empty.
        source: The user's own line at that place. May be empty.
        traceback: For the log and the page, never for the terminal.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str = "", *, place: str = "", source: str = "", traceback: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.place = place
        self.source = source
        self.traceback = traceback
        if hint:
            # In a Python shell or Jupyter, where nobody catches the error, Python shows the hint below the message.
            self.add_note(hint)


class JobFailed(DsflowError):
    """The user's code, or what it wrote, was not acceptable."""

    exit_code = 1


class PackageFailed(JobFailed):
    """What a job needs on a cluster could not be packed, or could not be imported from the package."""


class UsageError(DsflowError):
    """A command line, a spec, a name or a parameter is wrong; nothing was started."""

    exit_code = 2


class ExpectationFailed(DsflowError):
    """Staged rows broke an expectation whose action is `fail`; nothing was published.

    Args:
        message: As for every error.
        hint: As for every error.
        checks: The verdicts on all expectations of the run.
    """

    exit_code = 3

    def __init__(self, message: str, hint: str = "", *, checks: Sequence[Any] = ()) -> None:
        super().__init__(message, hint)
        self.checks = tuple(checks)


class EnvironmentMissing(DsflowError):
    """Something outside the workspace is needed and not there: engine, image, package, port, disk."""

    exit_code = 4


class NotShared(EnvironmentMissing):
    """Spark computes where the datastore is not.

    Args:
        folder: What was written into, and is empty.
    """

    def __init__(self, folder: object) -> None:
        super().__init__(
            f"Spark has written the rows, and they are not in {folder}: where it computes is another disk",
            "The datastore has to be on storage that the cluster and this machine both have, under the same path.",
        )


class PartitionLocked(DsflowError):
    """Another run is writing the same partition."""

    exit_code = 5


class Timeout(DsflowError):
    """The run took longer than its `timeout`."""

    exit_code = 124


class Interrupted(DsflowError):
    """Ctrl-C, or a request to stop."""

    exit_code = 130


class OutOfMemory(DsflowError):
    """The run was killed because it passed its memory limit."""

    exit_code = 137


class KernelDied(DsflowError):
    """A notebook's kernel ended in the middle of a cell."""

    exit_code = 138


class Bug(DsflowError):
    """Something that dsflow did not expect; not the user's fault."""

    exit_code = 70


EXIT_CODES: dict[int, str] = {
    0: "ok, or nothing to do",
    1: "a job failed, or a test of one, or its package could not be made",
    2: "usage or validation error; nothing was started",
    3: "an expectation failed; nothing was published",
    4: "something is missing in the environment (engine, image, package, port, disk)",
    5: "the partition is being written by another run",
    70: "a bug in dsflow; the named log file has the report",
    124: "timeout",
    130: "interrupted",
    137: "killed (out of memory is named as such)",
    138: "the notebook's kernel died",
}


def did_you_mean(word: str, known: object) -> str:
    """Give `; did you mean 'x'?` for the closest of `known` (an iterable of names), or an empty string."""
    import difflib

    names = [str(name) for name in known] if hasattr(known, "__iter__") else []
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""


def disk_full(error: Exception) -> EnvironmentMissing | None:
    """Give the error that says so where the disk, or somebody's share of it, was full."""
    if isinstance(error, OSError) and error.errno in DISK_FULL:
        return EnvironmentMissing(f"the disk is full: {error}", "Free some space and run again.")
    return None
