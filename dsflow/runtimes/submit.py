"""Tasks whose program `spark-submit` runs: everything before and after it happens on this machine, as in a process.

The shim is what it is for every run, so that such a run is locked, recorded, checked and published like any other. Only
the job's program is started by `spark-submit` (`dsflow.spark.access`), with the package that is made here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

from dsflow.errors import DsflowError, EnvironmentMissing, UsageError
from dsflow.model import Task
from dsflow.packaging import bundle
from dsflow.runtimes.contract import Folders, Needs, Place, identity
from dsflow.runtimes.process import Process, RunningProcess, RunningWarm
from dsflow.spark.access import PACKAGE
from dsflow.spark.java import find_java, spark_home
from dsflow.specs.load import load_job, load_workspace
from dsflow.workspace import Workspace


class Submit(Process):
    """The runtime that sends a job's program to a Spark cluster."""

    name = "submit"

    def available(self) -> str | None:
        """Where `spark-submit` and a Java are."""
        try:
            spark_home()
            find_java()
        except EnvironmentMissing as error:
            return error.message
        return None

    def identify(self, needs: Needs, folders: Folders) -> str:
        """Give what stands for the package."""
        workspace = Workspace(folders.jobs.parent)
        try:
            key = bundle.key_of(workspace, load_workspace(workspace), load_job(workspace, needs.package))
        except DsflowError:
            return ""
        return identity(self.name, Place(lock_hash=key))

    def prepare(self, needs: Needs, folders: Folders, notify: Callable[[str], None]) -> Place:
        """Make the package, and check it, before anything is sent."""
        if not needs.package:
            raise UsageError("only a job that computes with Spark can be submitted", "Its spec says `engine: spark`.")
        # What the zip brings to the cluster, this machine's Python gets as every job's does.
        place = super().prepare(needs, folders, notify)
        workspace = Workspace(folders.jobs.parent)
        made = bundle.package(workspace, load_workspace(workspace), load_job(workspace, needs.package), notify)
        return dataclasses.replace(place, lock_hash=made.key, package=str(made.folder))

    def start(
        self, task: Task, place: Place, folders: Folders, environment: Mapping[str, str]
    ) -> RunningProcess | RunningWarm:
        """Start the shim, and tell it what is to be sent."""
        return super().start(task, place, folders, {**environment, PACKAGE: str(place.package)})
