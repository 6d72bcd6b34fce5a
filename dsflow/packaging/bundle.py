"""The folder of what `spark-submit` is to send with a job, made once for the same files."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from dsflow import environments
from dsflow.durable import explained, make_folder, remove_tree
from dsflow.errors import PackageFailed
from dsflow.packaging import archive
from dsflow.packaging.contents import Contents, contents_of
from dsflow.packaging.locks import Lock
from dsflow.spark.drivers import ZIP
from dsflow.specs.load import JobSpec, WorkspaceSpec
from dsflow.workspace import Workspace

_COMPLETE = ".complete"
# What a wheel says about itself that is of no use, or different each time.
_OF_INSTALLING = ("INSTALLER", "RECORD", "REQUESTED", "direct_url.json", "uv_cache.json")
_COMPILED = (".so", ".pyd", ".dylib", ".dll")
# A package that nobody has used for so long is removed when the job's next one is made.
_KEPT_SECONDS = 7 * 24 * 3600


@dataclass(frozen=True)
class Package:
    """A package that is made and checked.

    Attributes:
        folder: Where it is.
        main: The program, in its job's folder.
        config: The config, as it is in the package; None where the job has none.
        key: A hash of all that is in it.
    """

    folder: Path
    main: Path
    config: Path | None
    key: str

    @property
    def zip(self) -> Path:
        """What goes on the import path."""
        return self.folder / ZIP


def key_of(workspace: Workspace, settings: WorkspaceSpec, job: JobSpec) -> str:
    """Give the hash that the package of a job would have now, without making it.

    Raises:
        PackageFailed: it cannot be made.
        UsageError: the job has no main file.
    """
    return contents_of(workspace, settings, job).key


def package(workspace: Workspace, settings: WorkspaceSpec, job: JobSpec, notify: Callable[[str], None]) -> Package:
    """Make the package of a job, or find the one that was made of the same files.

    Args:
        workspace: Where the job is.
        settings: The workspace's settings.
        job: The job.
        notify: Gets a line before anything slow.

    Raises:
        PackageFailed: it cannot be made, or what is in it cannot be imported.
        EnvironmentMissing: the requirements cannot be had, or the disk is full.
        UsageError: the job has no main file.
    """
    contents = contents_of(workspace, settings, job)
    folder = workspace.own / "packages" / f"{job.name}-{contents.key[:12]}"
    if not (folder / _COMPLETE).exists():
        make_folder(folder.parent)
        with explained(folder.parent), _in_the_making(folder) as made:
            _make(made, contents, job, notify)
        _sweep(folder)
    (folder / _COMPLETE).touch()
    config = folder / contents.config.name if contents.config else None
    return Package(folder=folder, main=contents.main, config=config, key=contents.key)


@contextlib.contextmanager
def _in_the_making(folder: Path) -> Iterator[Path]:
    """Give a folder that takes a place when it is complete, and is gone where it never is."""
    made = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        yield made
        (made / _COMPLETE).touch()
        made.chmod(0o755)
        with contextlib.suppress(OSError):
            # Another dsflow may have been quicker, with the same.
            made.rename(folder)
    finally:
        remove_tree(made)


def _make(made: Path, contents: Contents, job: JobSpec, notify: Callable[[str], None]) -> None:
    notify(f"Packaging {job.name}")
    required = _required(contents.lock, notify) if contents.lock and contents.lock.lines else {}
    # What a person wrote wins over a package of the same name, as beside a program.
    archive.write(made / ZIP, {**required, **contents.files})
    for path in (contents.config, contents.main):
        if path is not None:
            shutil.copyfile(path, made / path.name)
    archive.check(made / ZIP, contents.main if job.kind == "script" else None, contents.shared)


def _required(lock: Lock, notify: Callable[[str], None]) -> Mapping[str, Path]:
    """Give the files of locked requirements by their names in the zip.

    Raises:
        PackageFailed: one of them has compiled parts.
        EnvironmentMissing: they cannot be installed.
    """
    folder = environments.unpacked(lock.lines, f"{lock.path.parent.name}/{lock.path.name}", notify)
    compiled: dict[str, None] = {}
    files = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if not path.is_file() or name.parts[0] == "bin" or "__pycache__" in name.parts:
            continue
        if path.name.lower().endswith(_COMPILED) or ".so." in path.name:
            compiled[_owner(folder, name)] = None
        if not (name.parts[0].endswith(".dist-info") and path.name in _OF_INSTALLING):
            files["/".join(name.parts)] = path
    if compiled:
        one = len(compiled) == 1
        raise PackageFailed(
            f"{', '.join(compiled)} {'has' if one else 'have'} compiled parts, which Python cannot import from {ZIP}",
            f"Leave {'it' if one else 'them'} to the Python of the cluster (`spark.pyspark.python` among the settings "
            f"names one that has {'it' if one else 'them'}), and out of {lock.path.name}.",
        )
    return files


def _owner(folder: Path, name: Path) -> str:
    """Give the name and version of the package that has a file."""
    for record in sorted(folder.glob("*.dist-info/RECORD")):
        if any(line.startswith(f"{name.as_posix()},") for line in record.read_text(encoding="utf-8").splitlines()):
            return record.parent.name.removesuffix(".dist-info").replace("-", " ")
    return name.parts[0]


def _sweep(folder: Path) -> None:
    """Remove packages of the same job that nobody has used for long, and what was left half made."""
    job = folder.name.rpartition("-")[0]
    for other in [*folder.parent.glob(f"{job}-*"), *folder.parent.glob(f".{job}-*")]:
        mark = other / _COMPLETE if (other / _COMPLETE).exists() else other
        with contextlib.suppress(OSError):
            if other != folder and time.time() - mark.stat().st_mtime > _KEPT_SECONDS:
                remove_tree(other)
