"""What belongs to a job that is sent to a cluster: its program, its config, the modules it shares, and its lock."""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dsflow import __version__
from dsflow.errors import PackageFailed, did_you_mean
from dsflow.jobfiles import main_file
from dsflow.packaging import locks
from dsflow.packaging.locks import Lock
from dsflow.specs.load import JobSpec, WorkspaceSpec
from dsflow.specs.models import MODULES
from dsflow.workspace import Workspace

_CONFIG = "config.json"
_CONFIGS = "configs"
_LEFT_OUT = ("__pycache__", "node_modules")
_IMPORTS_US = re.compile(rb"^\s*(?:from|import)\s+dsflow\b", re.MULTILINE)
_PACKAGE = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Contents:
    """What is sent with a job.

    Attributes:
        job: Its name.
        main: The program.
        config: The JSON file of its parameters, where it has one.
        files: What is in the zip beside the requirements: file by name in it.
        shared: The names of those that are shared modules.
        lock: Its requirements.
    """

    job: str
    main: Path
    config: Path | None
    files: Mapping[str, Path]
    shared: tuple[str, ...]
    lock: Lock | None

    @property
    def key(self) -> str:
        """A hash of all of it."""
        whole = hashlib.sha256(f"{__version__} {sys.version_info[:2]}".encode())
        sent = {**self.files, "": self.main, **({self.config.name: self.config} if self.config else {})}
        for name, path in sorted(sent.items()):
            whole.update(f"\0{name}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
        whole.update("\n".join(self.lock.lines if self.lock else ()).encode())
        return whole.hexdigest()


def contents_of(workspace: Workspace, settings: WorkspaceSpec, job: JobSpec) -> Contents:
    """Find what is sent with a job.

    Args:
        workspace: Where the job is.
        settings: The workspace's settings.
        job: The job.

    Raises:
        PackageFailed: a folder of modules is not there, or nobody can tell which config is the job's.
        UsageError: the job has no main file.
    """
    folder = workspace.job_folder(job.name)
    main = folder / main_file(workspace, job)
    # What lies in the job's folder comes before what the workspace's jobs share.
    places = [folder, workspace.root]
    shared: dict[str, Path] = {}
    for name in settings.modules if job.modules is None else job.modules:
        shared |= dict(_module(name, places, named=name not in MODULES))
    files = {**dict(_beside(main)), **shared}
    if any(path.suffix == ".py" and _IMPORTS_US.search(path.read_bytes()) for path in [main, *files.values()]):
        files |= dict(_ours())
    return Contents(
        job=job.name,
        main=main,
        config=_config(main, job.name, places),
        files=files,
        shared=tuple(shared),
        lock=locks.find(places, job.run.requirements, job.name),
    )


def _beside(main: Path) -> Iterator[tuple[str, Path]]:
    """Give the modules and packages that a program finds because they are beside it."""
    for path in sorted(main.parent.iterdir()):
        if path.suffix == ".py" and path != main and path.is_file():
            yield path.name, path
        elif (path / "__init__.py").is_file() and path.name != "tests":
            yield from _tree(path)


def _module(name: str, places: Sequence[Path], *, named: bool) -> Iterator[tuple[str, Path]]:
    found = next((place / name for place in places if (place / name).is_dir()), None)
    if found is None:
        if named:
            known = [path.name for place in places for path in place.iterdir() if path.is_dir()]
            where = " or ".join(dict.fromkeys(place.name for place in places))
            raise PackageFailed(
                f"modules: there is no folder {name!r} in {where}{did_you_mean(name, known)}",
                "`modules` names folders beside dsflow.yml or in the job's own folder.",
            )
        return
    yield from _tree(found)


def _tree(folder: Path) -> Iterator[tuple[str, Path]]:
    """Give the files of a folder, by their names from the folder above; without what Python or a person hides."""
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder.parent).parts
        hidden = any(part.startswith(".") or part in _LEFT_OUT for part in parts)
        if path.is_file() and not hidden and path.suffix not in (".pyc", ".pyo"):
            yield "/".join(parts), path


def _ours() -> Iterator[tuple[str, Path]]:
    """Give the files of this package that a program needs where dsflow is not installed."""
    from dsflow.spark import ON_A_CLUSTER

    for name in ON_A_CLUSTER:
        yield f"{_PACKAGE.name}/{name}", _PACKAGE / name


def _config(main: Path, job: str, places: Sequence[Path]) -> Path | None:
    """Give the config of a program: the one that is called like it, else the only one there is."""
    word = main.stem.removesuffix("_job")
    for place in places:
        found = {path.name: path for path in sorted((place / _CONFIGS).glob(f"*{_CONFIG}"))}
        for name in (f"{word}_{_CONFIG}", f"{main.stem}_{_CONFIG}", f"{job}_{_CONFIG}"):
            if name in found:
                return found[name]
        if len(found) == 1:
            return next(iter(found.values()))
        if found:
            raise PackageFailed(
                f"{job}: which config is its own? {place.name}/{_CONFIGS} has {', '.join(found)}",
                f"Call it {word}_{_CONFIG}, like {main.name}.",
            )
    return None
