"""The folder for what can be made again, and a lock so that two processes do not make it twice."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from dsflow.errors import EnvironmentMissing, PartitionLocked
from dsflow.store.locks import lock


def folder() -> Path:
    """Give dsflow's cache: DSFLOW_CACHE, else `dsflow` in the user's cache folder. It need not exist."""
    if named := os.environ.get("DSFLOW_CACHE"):
        return Path(named).absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / "dsflow"


@contextlib.contextmanager
def one_at_a_time(name: str, notify: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock of this name; wait, and say so, while another dsflow has it.

    Raises:
        EnvironmentMissing: the cache cannot be written.
    """
    path = folder() / "locks" / name
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EnvironmentMissing(
            f"cannot write the cache {folder()}: {error.strerror}", "Name another folder with DSFLOW_CACHE."
        ) from None
    owner = f"process {os.getpid()}"
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(lock(path, owner))
        except PartitionLocked:
            notify(f"Another dsflow is making {name}; waiting for it.")
            held.enter_context(lock(path, owner, wait=True))
        yield
