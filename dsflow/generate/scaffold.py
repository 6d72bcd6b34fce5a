"""Makes workspaces: an empty one, and one with the sample pipeline and its data."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from dsflow.errors import EnvironmentMissing, UsageError
from dsflow.specs.models import MODULES
from dsflow.workspace import MARKER, Workspace, package_folder

# The jobs that make a day of the sample's last table, each after those it reads from.
SAMPLE_JOBS = (
    "download-weather",
    "download-flights",
    "create-table-weather",
    "create-table-flights",
    "create-table-delays_by_weather",
)
SAMPLE_TABLE = "delays_by_weather"
SAMPLE_DASHBOARD = "dashboard-delays"
# Days around the snow storm of 8 February 2013.
SAMPLE_DAYS = ("2013-02-07", "2013-02-08", "2013-02-09")

_SETTINGS = """\
# What holds for the whole workspace; `dsflow config` shows every setting and where it came from.
version: 1
name: {name}
"""
_IGNORED = """\
/datastore/
/adhoc/
.env
/jobs/.job_specs.schema.json
/airflow/*
!/airflow/dags/
.ipynb_checkpoints/
__pycache__/
"""
_SHARED = """\
# What jobs of this workspace share: `names.py` in this folder is `from dependencies import names` in a job.
"""


def make_workspace(folder: Path) -> Workspace:
    """Make a workspace in a folder, which may hold other files already; none of them is touched.

    Raises:
        UsageError: there is a workspace in it already, or the path is a file.
        EnvironmentMissing: the folder cannot be written.
    """
    workspace = Workspace(Path(os.path.abspath(folder)))
    if workspace.marker.exists():
        raise UsageError(f"{folder} is a workspace already: it has a {MARKER}", "Choose another folder.")
    with _explained(folder):
        for part in (workspace.jobs, workspace.datastore, workspace.adhoc, workspace.dags):
            part.mkdir(parents=True, exist_ok=True)
        for modules in (workspace.root / name for name in MODULES):
            if not modules.exists():
                modules.mkdir()
                (modules / "__init__.py").write_text(_SHARED, encoding="utf-8")
        ignored = workspace.root / ".gitignore"
        if not ignored.exists():
            ignored.write_text(_IGNORED, encoding="utf-8")
        # Last, so that a folder with a marker is a whole workspace. JSON's quoting is valid in YAML too.
        workspace.marker.write_text(
            _SETTINGS.format(name=json.dumps(workspace.root.name, ensure_ascii=False)), encoding="utf-8"
        )
    return workspace


def sample_workspace(folder: Path) -> Workspace:
    """Give a workspace with the sample pipeline in a folder: the one that is there, or a new one.

    Raises:
        UsageError: the folder holds something else.
        EnvironmentMissing: the folder cannot be written.
    """
    workspace = Workspace(Path(os.path.abspath(folder)))
    if workspace.marker.is_file():
        missing = [name for name in (*SAMPLE_JOBS, SAMPLE_DASHBOARD) if name not in workspace.job_names()]
        if missing:
            raise UsageError(
                f"{folder} is a workspace without the sample pipeline (no job {missing[0]})", "Choose another folder."
            )
        return workspace
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} is not empty", "Choose another folder: `dsflow demo DIR`.")
    workspace, sample = make_workspace(folder), _sample()
    with _explained(folder):
        for name in (*SAMPLE_JOBS, SAMPLE_DASHBOARD):
            shutil.copytree(sample / "jobs" / name, workspace.jobs / name)
        shutil.copytree(sample / "datastore" / "published", workspace.datastore / "published")
    return workspace


def _sample() -> Path:
    """The sample in the wheel, or the checkout's own workspace."""
    inside = package_folder("sample")
    return inside if inside.is_dir() else inside.parent


@contextlib.contextmanager
def _explained(folder: Path) -> Iterator[None]:
    try:
        yield
    except (FileExistsError, NotADirectoryError) as error:
        raise UsageError(f"{error.filename} is a file; a folder is needed there") from None
    except OSError as error:
        place = error.filename or folder
        raise EnvironmentMissing(f"cannot write {place}: {error.strerror}", "Choose another folder.") from None
