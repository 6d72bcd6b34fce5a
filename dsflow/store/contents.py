"""What is in a partition's folder: its files, their hashes, one hash for all of them.

A name that begins with `.` or `_` is never data, at any depth: engines and tools leave such files beside it.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import os
import re
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from dsflow.errors import JobFailed
from dsflow.model import Column, File, Fingerprint, InputUsed, Manifest, Output

_RUN_PREFIX = re.compile(r"^\d{8}T\d{6}-[0-9a-f]{6}-(?=part-)")


def describe(folder: Path) -> tuple[File, ...]:
    """Give the data files in a folder, by name, with their sizes and hashes; `rows` is for others to fill in.

    Raises:
        JobFailed: there is something in it that cannot be published: a link, a socket, a name that is no text.
    """
    return tuple(_described(path, name) for name, path in sorted(_data_files(folder).items()))


def sizes(folder: Path) -> dict[str, int]:
    """Give the data files in a folder with their sizes; refuses what `describe` refuses."""
    return {name: path.stat().st_size for name, path in _data_files(folder).items()}


def there(folder: Path, files: Iterable[File]) -> bool:
    """Tell whether all these files are in a folder with their sizes; others may be there too."""
    try:
        return folder.is_dir() and all((folder / file.name).stat().st_size == file.bytes for file in files)
    except OSError:
        return False


def plain_files(folder: Path, *, deep: bool) -> tuple[Path, ...]:
    """Give the data files of a folder that has no manifest, with those of its sub-folders if `deep`."""
    found = []
    for place, folders, names in os.walk(folder):
        found += [Path(place, name) for name in names]
        if not deep:
            folders.clear()
    return tuple(sorted(path for path in found if is_data(path.relative_to(folder)) and path.is_file()))


class Glance(NamedTuple):
    """What can be said about a folder's data files without opening them."""

    hash: str
    files: int
    bytes: int


def glance(folder: Path, *, deep: bool) -> Glance:
    """Look at the names, sizes and times of the data files in a folder, as a stand-in for contents nobody hashed.

    Args:
        folder: The folder; one that is not there counts as empty.
        deep: Also those of its sub-folders.
    """
    digest, size = hashlib.sha256(), 0
    found = sorted(_looked_at(folder, "", deep=deep))
    for name, length, changed in found:
        digest.update(os.fsencode(f"{name}\0{length}\0{changed}\n"))
        size += length
    return Glance(f"~{digest.hexdigest()[:32]}", len(found), size)


def _looked_at(folder: str | Path, prefix: str, *, deep: bool) -> Iterator[tuple[str, int, int]]:
    try:
        entries = list(os.scandir(folder))
    except OSError:
        return
    for entry in entries:
        if entry.name.startswith((".", "_")):
            continue
        if entry.is_dir(follow_symlinks=False):
            if deep:
                yield from _looked_at(entry.path, f"{prefix}{entry.name}/", deep=True)
        else:
            with contextlib.suppress(OSError):  # removed meanwhile, or a link to nothing
                state = entry.stat()
                yield prefix + entry.name, state.st_size, state.st_mtime_ns


def is_data(name: Path | PurePosixPath) -> bool:
    """Tell whether a file of this name, relative to its partition, is data."""
    return not any(part.startswith((".", "_")) for part in name.parts)


def content_hash(files: Iterable[File]) -> str:
    """Give one hash for the contents of a partition: the same contents have the same one, whatever run wrote them."""
    digest = hashlib.sha256()
    for name, sha256 in sorted((_without_run(file.name), file.sha256) for file in files):
        digest.update(f"{sha256} {name}\0".encode())
    return digest.hexdigest()


def manifest_of(
    output: Output,
    files: tuple[File, ...],
    *,
    run_id: str,
    job: str,
    inputs: Iterable[InputUsed] = (),
    columns: tuple[Column, ...] = (),
    fingerprint: Fingerprint | None = None,
) -> Manifest:
    """Give the manifest of a partition that is about to be published.

    Args:
        output: The partition.
        files: Its files as `describe` gives them, with rows where it is a table's.
        run_id: The run that made it.
        job: Its job, or what stands for one.
        inputs: What it was made from.
        columns: Its columns, of a table.
        fingerprint: What it was made with.
    """
    return Manifest(
        run_id=run_id,
        job=job,
        store=output.store,
        name=output.name,
        ds=output.ds,
        kind=output.kind,
        published=dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds"),
        files=files,
        columns=columns,
        inputs=tuple(inputs),
        fingerprint=fingerprint,
        hash=content_hash(files),
    )


def _without_run(name: str) -> str:
    path = PurePosixPath(name)
    return str(path.with_name(_RUN_PREFIX.sub("", path.name)))


def _described(path: Path, name: str) -> File:
    try:
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            return File(name=name, bytes=os.fstat(file.fileno()).st_size, sha256=sha256)
    except PermissionError:
        raise JobFailed(
            f"the job's output has {name}, which may not be read", "Give it the usual permissions."
        ) from None


def _data_files(folder: Path) -> dict[str, Path]:
    if folder.is_symlink() or not folder.is_dir():
        raise JobFailed(f"the job removed {folder}, where its output goes", "Write into that folder.")
    found = {}
    for place, folders, names in os.walk(folder):
        for name in (*folders, *names):
            path = Path(place, name)
            relative = path.relative_to(folder)
            mode = path.lstat().st_mode
            if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
                raise JobFailed(
                    f"the job's output has {relative}, which is {_kind(mode)}", "Write a plain file in its place."
                )
            if stat.S_ISREG(mode) and is_data(relative):
                found[_text(relative)] = path
    return found


def _text(relative: Path) -> str:
    name = relative.as_posix()
    try:
        name.encode()
    except UnicodeEncodeError:
        raise JobFailed(f"the job's output has a file whose name is no text: {name!r}", "Rename it.") from None
    return name


def _kind(mode: int) -> str:
    kinds = {stat.S_IFLNK: "a symbolic link", stat.S_IFSOCK: "a socket", stat.S_IFIFO: "a pipe"}
    return kinds.get(stat.S_IFMT(mode), "a device")
