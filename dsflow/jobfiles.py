"""The files of a job beside its spec."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from dsflow.errors import UsageError, did_you_mean
from dsflow.kinds.registry import KINDS
from dsflow.specs.load import JobSpec
from dsflow.workspace import JOB_SPECS, Workspace


def main_file(workspace: Workspace, job: JobSpec) -> str:
    """Give the job's main file, relative to its folder: the one it names, or the only one that fits its kind.

    Raises:
        UsageError: it is missing, outside the folder, or there are several that fit.
    """
    folder = workspace.job_folder(job.name)
    where = f"{workspace.shown(folder / JOB_SPECS)}: {'script' if job.legacy else 'main'}"
    fitting = KINDS[job.kind].suffixes
    files = sorted(str(p.relative_to(folder)) for p in folder.iterdir() if p.is_file() and p.suffix in fitting)
    if job.main is None:
        # Beside a notebook, a .py file is rather a module it imports.
        best = [name for name in files if name.endswith(fitting[0])] or files
        if len(best) == 1:
            return best[0]
        found = f"{len(best)} files fit ({', '.join(best[:5])}); name one" if best else f"no {fitting[0]} file is there"
        raise UsageError(f"{where}: {found}")
    path = folder / job.main
    if not _inside(folder, path):
        raise UsageError(f"{where}: {job.main[:60]!r} is outside the job's folder")
    if not _is_file(path):
        raise UsageError(f"{where}: there is no file {job.main[:60]!r}{did_you_mean(job.main, files)}")
    if not job.legacy and path.suffix not in fitting:
        raise UsageError(f"{where}: a {job.kind} is a {' or '.join(fitting)} file, not {job.main[:60]!r}")
    return str(PurePosixPath(job.main))


def _inside(folder: Path, path: Path) -> bool:
    try:
        return path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError, ValueError):
        return False


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # such as a name that is too long
        return False
