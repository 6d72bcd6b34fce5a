"""A workspace: the folder that holds `dsflow.yml`. The only module that knows the names of its folders."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dsflow.errors import UsageError, did_you_mean
from dsflow.store.layout import SAMPLE

MARKER = "dsflow.yml"
JOB_SPECS = "job_specs.yaml"
TEMPLATE_SPECS = "template_specs.yaml"
SERVICE_SPECS = "service.yaml"

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", re.ASCII)
_LONGEST_NAME = 100
_PACKAGE = Path(__file__).resolve().parent


def check_name(name: str, what: str) -> str:
    """Give `name` back when it can be the name of a folder on every system.

    Args:
        name: The name a person or a file gave.
        what: What it names, for the message: `job`, `table`, ...

    Raises:
        UsageError: it holds anything but letters, digits, `_`, `-` and `.`, starts with a sign, or is too long.
    """
    if len(name) <= _LONGEST_NAME and _NAME.fullmatch(name):
        return name
    shown = name if len(name) <= 40 else name[:37] + "..."
    raise UsageError(
        f"{shown!r} is not a valid {what} name",
        f"Use letters, digits, '_', '-' and '.', starting with a letter, a digit or '_', at most {_LONGEST_NAME} long.",
    )


def package_folder(name: str) -> Path:
    """Give a folder that comes with dsflow (`templates`, `docker`): in a wheel, or beside the package in a checkout."""
    inside = _PACKAGE / name
    return inside if inside.is_dir() else _PACKAGE.parent / name


@dataclass(frozen=True)
class Workspace:
    """The folders of one workspace.

    Attributes:
        root: The folder with `dsflow.yml`.
        data: The folder of all data where it is not `datastore`.
        sampled: Whether it is looked at with the samples for its data, and what was made of them.
        offline: Whether its samples are all that may be read.
    """

    root: Path
    data: Path | None = None
    sampled: bool = False
    offline: bool = False

    @classmethod
    def find(cls, start: Path | None = None) -> Workspace:
        """Find the workspace that holds a folder.

        Args:
            start: Where to look, and then in every folder above. Without it, `DSFLOW_WORKSPACE` or the current folder.

        Raises:
            UsageError: there is none.
        """
        named = os.environ.get("DSFLOW_WORKSPACE") if start is None else None
        first = Path(os.path.abspath(start or named or "."))
        for folder in (first, *first.parents):
            if (folder / MARKER).is_file():
                return cls(folder)
        told_by = " (named by DSFLOW_WORKSPACE)" if named else ""
        raise UsageError(
            f"{first}{told_by} is not in a dsflow workspace: there is no {MARKER} in it or in a folder above",
            "Make one with `dsflow init DIR`, or name one with `-C DIR` or DSFLOW_WORKSPACE.",
        )

    @property
    def marker(self) -> Path:
        """`dsflow.yml`."""
        return self.root / MARKER

    @property
    def jobs(self) -> Path:
        """The folder of the jobs."""
        return self.root / "jobs"

    @property
    def datastore(self) -> Path:
        """The folder of all data, or of the samples; may be a link to another disk."""
        return self.whole / SAMPLE if self.sampled else self.whole

    @property
    def whole(self) -> Path:
        """The folder of all data, whether the workspace is sampled or not."""
        return self.data or self.root / "datastore"

    @property
    def samples(self) -> Literal["", "online", "offline"]:
        """What a task is told of its datastore."""
        if not self.sampled:
            return ""
        return "offline" if self.offline else "online"

    @property
    def adhoc(self) -> Path:
        """The folder of explorations."""
        return self.root / "adhoc"

    @property
    def airflow(self) -> Path:
        """Airflow's home."""
        return self.root / "airflow"

    @property
    def dags(self) -> Path:
        """The folder of Airflow's DAG files."""
        return self.airflow / "dags"

    @property
    def own(self) -> Path:
        """What dsflow keeps here for itself: the state of services, not data."""
        return self.root / ".dsflow"

    @property
    def key(self) -> str:
        """Twelve letters that no other workspace of this machine has: they stand for where it is."""
        return hashlib.sha256(os.fsencode(self.root.resolve())).hexdigest()[:12]

    @property
    def label(self) -> str:
        """What marks containers and processes of this workspace: its name for people, and its key."""
        return f"{self.root.resolve().name}-{self.key}"

    def template_folders(self) -> list[Path]:
        """Give the folders that hold `jobs/` and `adhoc/` templates; what comes first wins."""
        return self._over_package("templates")

    def docker_folders(self) -> list[Path]:
        """Give the folders that hold one folder per image or service; what comes first wins."""
        return self._over_package("docker")

    def job_names(self) -> list[str]:
        """Give the names of the folders in `jobs/` that have a spec, sorted."""
        return sorted(path.parent.name for path in self.jobs.glob(f"*/{JOB_SPECS}"))

    def job_folder(self, name: str) -> Path:
        """Give the folder of a job.

        Raises:
            UsageError: the name is no valid name, there is no such job, or its folder lies elsewhere.
        """
        check_name(name, "job")
        folder = self.jobs / name
        if not os.path.lexists(folder / JOB_SPECS):
            guess = did_you_mean(name, self.job_names())
            raise UsageError(
                f"{name}: Job does not exist, or {JOB_SPECS} is missing{guess}", "Show the jobs: `ls jobs`"
            )
        if not _real(folder).is_relative_to(_real(self.root) / "jobs"):
            raise UsageError(
                f"jobs/{name} is a link that leaves the workspace", "Copy the job's folder into jobs/ instead."
            )
        return folder

    def shown(self, path: Path) -> str:
        """Give a path as a person would type it: from the current folder, else from the workspace, else whole."""
        for base in (Path.cwd(), self.root):
            if path != base and path.is_relative_to(base):
                return str(path.relative_to(base))
        return str(path)

    def _over_package(self, name: str) -> list[Path]:
        folders = [folder for folder in (self.root / name, package_folder(name)) if folder.is_dir()]
        return [f for i, f in enumerate(folders) if not any(f.samefile(g) for g in folders[:i])]


def _real(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError):
        raise UsageError(f"{path} is a link that leads in a circle", "Remove the link.") from None
