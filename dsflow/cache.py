"""The folder for what can be made again, and a lock so that two processes do not make it twice."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path


def folder() -> Path:
    """Give dsflow's cache: DSFLOW_CACHE, else `dsflow` in the user's cache folder. It need not exist."""
    if named := os.environ.get("DSFLOW_CACHE"):
        return Path(named).absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / "dsflow"


@contextlib.contextmanager
def one_at_a_time(name: str, notify: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock of this name, waiting (and saying so) while another process or thread has it.

    The lock ends with the process, however that ends.
    """
    path = folder() / "locks" / f"{name}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            notify(f"{name}  another dsflow is making it; waiting")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
