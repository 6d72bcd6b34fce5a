"""The modules that the jobs of a workspace share: the folder `dependencies` beside `jobs`, imported by that name."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

NAME = "dependencies"
_MENTIONED = re.compile(rf"\b{NAME}\b".encode())
_CODE = (".py", ".ipynb")
# Every archive of the same modules is the same file.
_LONG_AGO = (1980, 1, 1, 0, 0, 0)


def folder_of(jobs: Path) -> Path:
    """Give that folder, which may not exist.

    Args:
        jobs: The folder of the jobs.
    """
    return jobs.parent / NAME


def import_path(jobs: Path, links: Path) -> str | None:
    """Give what to put on Python's path, so that the modules can be imported; None where there are none.

    It is a folder with nothing in it but a link: the workspace's other folders are no packages, though Python would
    take them for some.

    Args:
        jobs: The folder of the jobs.
        links: A folder for such folders.
    """
    modules = folder_of(jobs)
    if not modules.is_dir():
        return None
    # The same folder has another name in a container.
    place = links / hashlib.sha256(os.fsencode(modules)).hexdigest()[:16]
    place.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        (place / NAME).symlink_to(modules)
    return str(place)


def is_used(job: Path) -> bool:
    """Say whether the code of a job may import them; in doubt it does.

    Args:
        job: The folder of the job.
    """
    return any(_MENTIONED.search(file.read_bytes()) for file in job.rglob("*") if file.suffix in _CODE)


def files(folder: Path) -> Iterator[Path]:
    """Give the files of a folder with modules that are worth sending: nothing hidden, nothing compiled."""
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder).parts
        if path.is_file() and not any(part.startswith(".") or part == "__pycache__" for part in inside):
            yield path


def pack(modules: Path, archive: Path) -> None:
    """Write a zip from which Python can import the modules of a folder, by its name."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as zipped:
        for path in files(modules):
            entry = zipfile.ZipInfo(f"{modules.name}/{path.relative_to(modules).as_posix()}", _LONG_AGO)
            zipped.writestr(entry, path.read_bytes(), zipfile.ZIP_DEFLATED)
