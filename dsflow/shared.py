"""The modules that the jobs of a workspace share: folders beside `jobs`, such as `dependencies`, imported by name."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

# Where the code of a run finds them: `import_path`.
PLACE = "DSFLOW_MODULES"
_CODE = (".py", ".ipynb")
_LONG_AGO = (1980, 1, 1, 0, 0, 0)


def folders(jobs: Path, names: Iterable[str]) -> list[Path]:
    """Give those that are there.

    Args:
        jobs: The folder of the jobs.
        names: What they are called.
    """
    return [folder for folder in (jobs.parent / name for name in names) if folder.is_dir()]


def import_path(jobs: Path, names: Sequence[str], links: Path) -> str | None:
    """Give what to put on Python's path, so that the modules can be imported; None where there are none.

    It is a folder with nothing in it but links: the workspace's other folders are no packages, though Python would
    take them for some.

    Args:
        jobs: The folder of the jobs.
        names: What the folders are called.
        links: A folder for such folders.
    """
    found = folders(jobs, names)
    if not found:
        return None
    # The same folder has another name in a container.
    key = hashlib.sha256(b"\0".join(map(os.fsencode, found))).hexdigest()[:16]
    place = links / key
    place.mkdir(parents=True, exist_ok=True)
    for folder in found:
        with contextlib.suppress(FileExistsError):
            (place / folder.name).symlink_to(folder)
    return str(place)


def used(job: Path, names: Sequence[str]) -> list[Path]:
    """Give those that the code of a job may import; in doubt it does.

    Args:
        job: The folder of the job.
        names: What the folders are called.
    """
    found = folders(job.parent, names)
    code = [file.read_bytes() for file in job.rglob("*") if file.suffix in _CODE] if found else []
    words = {folder: re.compile(rb"\b" + re.escape(os.fsencode(folder.name)) + rb"\b") for folder in found}
    return [folder for folder, word in words.items() if any(map(word.search, code))]


def pack(place: Path, archive: Path) -> None:
    """Write a zip from which Python can import what can be imported from a place.

    Args:
        place: What `import_path` gave.
        archive: The zip.
    """
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as zipped:
        for folder in sorted(place.iterdir()):
            for path in _contents(folder.resolve()):
                # Every archive of the same modules is the same file.
                name = (folder.name / path.relative_to(folder.resolve())).as_posix()
                # A folder without an `__init__.py` can be imported only where the zip names it.
                entry = zipfile.ZipInfo(f"{name}/" if path.is_dir() else name, _LONG_AGO)
                zipped.writestr(entry, b"" if path.is_dir() else path.read_bytes(), zipfile.ZIP_DEFLATED)


def _contents(folder: Path) -> Iterator[Path]:
    """Give a folder and what is in it and worth sending: nothing hidden, nothing compiled."""
    for path in [folder, *sorted(folder.rglob("*"))]:
        inside = path.relative_to(folder).parts
        if not any(part.startswith(".") or part == "__pycache__" for part in inside):
            yield path
