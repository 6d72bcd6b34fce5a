"""A folder of the datastore for runs that publish nothing: inside it, so that every place that sees the data sees it.

The folder of a look is locked for as long as somebody looks. What an earlier look left, because it found differences
or was killed, goes when the next one begins.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dsflow.durable import explained, make_folder, remove_tree
from dsflow.store.layout import Layout
from dsflow.store.locks import is_held, lock

_LOCK = "lock"


@dataclass
class Apart:
    """The folder of one look.

    Attributes:
        folder: Where it is.
        name: The same below the datastore, as a task has it.
        keep: Leave it behind for a person; else it goes with the look.
    """

    folder: Path
    name: str
    keep: bool = False


@contextlib.contextmanager
def kept_apart(layout: Layout) -> Iterator[Apart]:
    """Give a new folder for the `with` block.

    Args:
        layout: The datastore.

    Raises:
        EnvironmentMissing: it cannot be written.
    """
    name = f"{dt.datetime.now(dt.UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(3)}"
    folder = layout.apart / name
    with explained(layout.root):
        make_folder(layout.apart)
        _sweep(layout.apart)
        make_folder(folder)
    with lock(folder / _LOCK, f"process {os.getpid()}"):
        found = Apart(folder, str(folder.relative_to(layout.root)))
        try:
            yield found
        finally:
            if not found.keep:
                remove_tree(folder)


def _sweep(above: Path) -> None:
    for folder in above.iterdir():
        # One without a lock is being made at this moment, or its maker was killed at this moment.
        if (folder / _LOCK).exists() and not is_held(folder / _LOCK):
            remove_tree(folder)
