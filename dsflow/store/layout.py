"""Where everything in a datastore is. The only module that knows the names of its folders.

    raw/NAME/ds=DS/...                              published, any format
    tables/NAME/ds=DS/RUN-part-N.parquet            published, nothing else and nothing hidden
    .dsflow/staging/RUN/{tables,raw}/NAME/ds=DS/    being written; looks like the place it will be swapped to
    .dsflow/manifests/{tables,raw}/NAME/ds=DS.json  what is published, and from what
    .dsflow/index/{tables,raw}/NAME.json            what the manifests say, in one file; can be made again
    .dsflow/locks/{tables,raw}/NAME/ds=DS           who is writing the partition
    .dsflow/locks/gate                              held for moments, by whoever takes a lock or repairs
    .dsflow/checks/LOOK.json                        what `dsflow check` found in what is published
    .dsflow/apart/LOOK/RUN/                         a run that publishes nothing, with what it made
    .dsflow/trash/TIME-RUN/                         what a publish replaced, for a while
    .dsflow/spark/                                  the warm Spark server, and what Spark spills
    .dsflow/shared/                                 where jobs import the modules from that they share
    sample/                                         a datastore of its own: samples, and what sampled runs make of them

Tables and raw datasets are kept apart everywhere, because they may share a name.
"""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import Literal

from dsflow.errors import UsageError

Store = Literal["table", "raw"]
SAMPLE = "sample"
FOLDERS: dict[Store, str] = {"table": "tables", "raw": "raw"}

_LONGEST_NAME = 100
_LONGEST_BYTES = 200  # A file name has at most 255, and ours add a few.


class Layout:
    """The paths of one datastore.

    Args:
        root: The datastore's folder, such as `datastore/` or `/data`.
        read_only: It is looked at and never touched: no repair, no index, no lock.
    """

    def __init__(self, root: Path, *, read_only: bool = False) -> None:
        self.root = root.absolute()
        self.read_only = read_only
        self.own = self.root / ".dsflow"
        self.staging = self.own / "staging"
        self.trash = self.own / "trash"
        self.checks = self.own / "checks"
        self.apart = self.own / "apart"
        self.gate = self.own / "locks" / "gate"
        self.spark = self.own / "spark"
        self.shared = self.own / "shared"

    def dataset(self, store: Store, name: str) -> Path:
        """Give the folder of a table or a raw dataset."""
        return self.root.joinpath(*self._parts(store, name))

    def target(self, store: Store, name: str, ds: str) -> Path:
        """Give the folder of a published partition."""
        return self.root.joinpath(*self._parts(store, name, ds))

    def staged(self, run_id: str, store: Store, name: str, ds: str) -> Path:
        """Give the folder in which a run writes its partition."""
        return self.run_folder(run_id).joinpath(*self._parts(store, name, ds))

    def run_folder(self, run_id: str) -> Path:
        """Give the folder with all that is temporary of a run."""
        return self.staging / check_name(run_id, "run id")

    def manifest(self, store: Store, name: str, ds: str) -> Path:
        """Give the file that says what is published in a partition."""
        return self.manifests(store, name) / f"ds={check_name(ds, 'ds')}.json"

    def manifests(self, store: Store, name: str) -> Path:
        """Give the folder of the manifests of a table or a raw dataset."""
        return self.own.joinpath("manifests", *self._parts(store, name))

    def index(self, store: Store, name: str) -> Path:
        """Give the file that remembers what the manifests of a table or a raw dataset say."""
        folder, name = self._parts(store, name)
        return self.own.joinpath("index", folder, f"{name}.json")

    def lock(self, store: Store, name: str, ds: str) -> Path:
        """Give the lock file of a partition."""
        return self.own.joinpath("locks", *self._parts(store, name, ds))

    def check_inside(self, path: Path) -> None:
        """Refuse a path that leaves the datastore over a symbolic link.

        Raises:
            UsageError: it does.
        """
        steps = itertools.accumulate(path.relative_to(self.root).parts, os.path.join, initial=str(self.root))
        # Without a link below the root there is nothing to follow.
        if any(map(os.path.islink, itertools.islice(steps, 1, None))) and not self._is_inside(path):
            raise UsageError(
                f"{path} is reached over a link that leaves the datastore {self.root}",
                "Put a real folder there; a partition can only be replaced within one file system.",
            )

    def _is_inside(self, path: Path) -> bool:
        return path.resolve().is_relative_to(self.root.resolve())

    def _parts(self, store: Store, name: str, ds: str | None = None) -> list[str]:
        """Give the names of the folders that a dataset or one of its partitions is in, wherever something is of it."""
        parts = [FOLDERS[store], check_name(name, f"{_what(store)} name")]
        return parts if ds is None else [*parts, f"ds={check_name(ds, 'ds')}"]


def check_name(name: str, what: str) -> str:
    """Give back a name that is safe as the name of one folder.

    Raises:
        UsageError: it is empty, too long, hidden, or has slashes or characters that cannot be seen.
    """
    good = name.isprintable() and not name.startswith(".") and not set(name) & {"/", "\\"}
    if good and 0 < len(name) <= _LONGEST_NAME and len(name.encode()) <= _LONGEST_BYTES:
        return name
    shown = repr(name if len(name) <= 40 else name[:37] + "...")
    raise UsageError(
        f"{shown} cannot be a {what}",
        f"Use at most {_LONGEST_NAME} visible characters, no slash, and no dot at the beginning.",
    )


def label(store: Store, name: str, ds: str) -> str:
    """Give the words for a partition in a message."""
    return f"{_what(store)} {name!r} ds={ds}"


def _what(store: Store) -> str:
    return "table" if store == "table" else "raw dataset"
