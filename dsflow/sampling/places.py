"""Where the samples of a project are: the snapshot, the local copies, and the folder for each name and path."""

from __future__ import annotations

import os
import posixpath
import re
from dataclasses import dataclass
from pathlib import Path

from dsflow.errors import UsageError
from dsflow.sampling.refusals import WritingToLocationDenied
from dsflow.store.contents import plain_files
from dsflow.store.layout import check_name

# What Databricks calls its file system, and where samples are there.
_ON_DATABRICKS = "dbfs:/ddataflow"
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/*")
_LONGEST_BYTES = 200


@dataclass(frozen=True)
class Places:
    """The folders of one project.

    Attributes:
        snapshot: The folder of its samples, or the address of one: an absolute path or a URL.
        local: The folder of its local copies.
    """

    snapshot: str
    local: Path

    def folder(self, offline: bool) -> str:
        """Give the folder that takes what is written and read instead of production."""
        return str(self.local) if offline else self.snapshot

    def of(self, name: str, offline: bool) -> str:
        """Give the folder of a source or a writer."""
        return f"{self.folder(offline)}/{folder_name(name)}"

    def inside(self, path: str, offline: bool) -> str:
        """Give a path in the folder for a path anywhere.

        Raises:
            WritingToLocationDenied: it would lead out of the folder.
        """
        plain = _SCHEME.sub("", path, count=1).lstrip("/")
        rest = posixpath.normpath(plain) if plain else "."
        if rest.split("/")[0] == "..":
            raise WritingToLocationDenied(
                f"{path!r} leads out of {self.folder(offline)}", "Give a path without `..` at its beginning."
            )
        made = self.folder(offline) if rest == "." else f"{self.folder(offline)}/{rest}"
        return f"{made}/" if path.endswith("/") and rest != "." else made


def places_of(project: str, snapshot_path: str | None, samples: Path | None) -> Places:
    """Give the folders of a project.

    Args:
        project: `project_folder_name`.
        snapshot_path: The folder of all projects' snapshots, if the configuration says.
        samples: The datastore of samples of the workspace around, which holds both then. None outside of one.

    Raises:
        UsageError: the project's name cannot be that of a folder, or the snapshot and the copies would be one.
    """
    check_name(project, "project_folder_name")
    if samples is not None:
        local, snapshot = samples / "ddataflow/local", str(samples / "ddataflow/snapshot")
    else:
        local = Path.home() / ".ddataflow"
        on_databricks = "DATABRICKS_RUNTIME_VERSION" in os.environ
        snapshot = _ON_DATABRICKS if on_databricks else str(local / ".snapshot")
    made = Places(f"{_absolute(snapshot_path or snapshot)}/{project}", (local / project).absolute())
    _check_apart(made)
    return made


def on_this_machine(address: str) -> Path | None:
    """Give the path of an address, or None where another file system than this machine's has it."""
    if address.startswith("file:"):
        return Path("/" + address.removeprefix("file:").lstrip("/"))
    return None if _SCHEME.match(address) else Path(address)


def parquet_files(path: Path) -> list[Path]:
    """Give the Parquet files below a folder, without hidden ones; of a file itself."""
    if path.is_file():
        return [path]
    return [file for file in plain_files(path, deep=True) if file.suffix == ".parquet"]


def folder_name(name: str) -> str:
    """Give the name of the folder for a source or a writer: slashes become `_`.

    Colons do too: Hadoop's file systems cannot list them.

    Raises:
        UsageError: nothing can be called that.
    """
    made = re.sub(r"[/\\:]", "_", name)
    if not made.isprintable() or made.startswith(".") or not 0 < len(made.encode()) <= _LONGEST_BYTES:
        raise UsageError(
            f"{name!r} cannot be the name of a source or a writer",
            f"Use at most {_LONGEST_BYTES} visible characters, and no dot at the beginning.",
        )
    return made


def view_name(project: str, name: str) -> str:
    """Give the name of the view of a source: one that needs no quotes."""
    return re.sub(r"\W", "_", f"{project}_{name.removeprefix('dwh.')}", flags=re.ASCII)


def _absolute(address: str) -> str:
    """Give an address without a slash at its end; a path as an absolute one, as a server has another current folder."""
    local = on_this_machine(str(Path(address).expanduser()) if address.startswith("~") else address)
    return os.path.abspath(local).rstrip("/") if local is not None else address.rstrip("/")


def _check_apart(places: Places) -> None:
    """Refuse folders of which one is in the other: fetching replaces the local one as a whole."""
    snapshot = on_this_machine(places.snapshot)
    if snapshot is None:
        return
    there, here = snapshot.resolve(), places.local.resolve()
    if there.is_relative_to(here) or here.is_relative_to(there):
        raise UsageError(
            f"the snapshot {there} and the local copies {here} would be one folder", "Give another `snapshot_path`."
        )
