"""What a notebook finds in Jupyter: `job`, `sql`, `load_tables`, `spark`, and the parameters of `dsflow dev`.

Kernels load it as an extension of IPython. A notebook that imports what it needs runs the same without it.
"""

from __future__ import annotations

import json
import os
import site
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dsflow import job, surroundings
from dsflow.errors import DsflowError
from dsflow.masking import MASK, is_secret
from dsflow.model import Task
from dsflow.notebooks import PARAMETERS_TAG
from dsflow.site import Site
from dsflow.spark import sessions

# The folder that Jupyter and `dsflow dev` share, and what is in it.
STATE = "DSFLOW_JUPYTER"
REQUEST = "dev-{job}.json"


def load_ipython_extension(shell: Any) -> None:
    """Give a kernel its names, and its job the parameters that `dsflow dev` was asked for."""
    if packages := os.environ.get("PIP_TARGET"):
        # Behind everything else: what the environment has keeps its version.
        site.addsitedir(packages)
    names = {"job": job, "sql": job.sql, "load_tables": job.load_tables, "spark": Spark(shell.user_ns)}
    shell.push(names, interactive=False)
    state, root, here = os.environ.get(STATE), os.environ.get("DSFLOW_WORKSPACE"), Path.cwd()
    name = surroundings.job_of(here, Path(root)) if root else None
    if state and root and name:
        development = Development(shell, Path(root), name, Path(state) / REQUEST.format(job=name))
        shell.events.register("pre_run_cell", development.before_cell)
        shell.events.register("post_run_cell", development.after_cell)


class Development:
    """The job that is open, seen as a run for the date and the parameters that `dsflow dev` was given last.

    The job's file stays as its author wrote it: values reach the kernel, not the file.

    Args:
        shell: IPython's.
        root: The workspace.
        name: The job.
        request: Where `dsflow dev` leaves what it was asked for.
    """

    def __init__(self, shell: Any, root: Path, name: str, request: Path) -> None:
        self._shell = shell
        self._root = root
        self._name = name
        self._request = request
        self._stamp: tuple[int, int] | None = None
        self._injected: Mapping[str, Any] = {}

    def before_cell(self, info: Any) -> None:
        """Take on a new request, so that the next `dsflow dev` needs no new kernel."""
        try:
            found = self._request.stat()
        except OSError:
            return
        stamp = found.st_ino, found.st_mtime_ns
        if stamp != self._stamp:
            self._stamp = stamp
            # An exception in this place would be shown as IPython's own trouble.
            try:
                self._take_on(json.loads(self._request.read_text("utf-8")))
            except DsflowError as error:
                print(f"dsflow dev: {error.message}\n{error.hint}".rstrip())

    def after_cell(self, result: Any) -> None:
        """Set the parameters behind the cell that declares them, as a run does."""
        tags = self._shell.parent_header.get("metadata", {}).get("tags") or ()
        if self._injected and PARAMETERS_TAG in tags and result.success:
            self._shell.push(dict(self._injected))
            print(f"dsflow dev: {_shown(self._injected)}")

    def _take_on(self, asked: Mapping[str, Any]) -> None:
        task = surroundings.rendered(self._root, self._name, asked["arguments"], asked["parameters"])
        print(f"dsflow dev: {self._name} for {task.ds}; nothing is published")
        secrets = {name: asked["parameters"].get(name) for name in task.secret_parameters}
        staging = Path(tempfile.mkdtemp(prefix="dsflow-dev-"))
        data, jobs = self._root / "datastore", self._root / "jobs"
        place = Site(task=task, run_folder=staging, data=data, jobs=jobs, secrets=secrets)
        surroundings.stand_in(task, data, place.parameters, staging)
        self._injected = place.injected
        self._set_environment(task, place, staging)

    def _set_environment(self, task: Task, place: Site, staging: Path) -> None:
        # Without the run's own folder: there is no run.
        given = place.environment(staging if task.output else None)
        os.environ.update({name: value for name, value in given.items() if name != "DSFLOW_RUN_FOLDER"})


class Spark:
    """`spark` until somebody uses it; from then on the session.

    Args:
        names: Where the session takes its place.
    """

    def __init__(self, names: dict[str, Any]) -> None:
        self.__names = names

    def __getattr__(self, name: str) -> Any:
        # Jupyter asks what it is about to show for many such names.
        if name.startswith("_"):
            raise AttributeError(name)
        session = surroundings.session()
        for known, value in list(self.__names.items()):
            if value is self:
                self.__names[known] = session
        return getattr(session, name)

    def __dir__(self) -> list[str]:
        return sessions.names()

    def __repr__(self) -> str:
        return "spark: not started yet; its first use starts it"


def _shown(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} = {MASK if is_secret(name) else repr(values[name])}" for name in sorted(values))
