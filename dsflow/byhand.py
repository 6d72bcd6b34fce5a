"""What stands in for a run when a job's code is run by hand, in Jupyter or in a Python shell."""

from __future__ import annotations

import atexit
import contextlib
import datetime as dt
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from dsflow import model
from dsflow.errors import UsageError
from dsflow.model import Task
from dsflow.partitions import ds_of


@dataclass(frozen=True)
class StandIn:
    """The job of the current folder with its defaults and today's ds, and a folder for what it writes."""

    task: Task
    data: Path
    staging: Path


def stand_in() -> StandIn:
    """Give what the code is told in place of a run.

    Raises:
        UsageError: the current folder is in no workspace, or the job's files have a mistake.
        EnvironmentMissing: the job computes with Spark, and there is none.
    """
    here = Path.cwd()
    root = next((folder for folder in (here, *here.parents) if (folder / "dsflow.yml").is_file()), None)
    root = Path(os.environ["DSFLOW_WORKSPACE"]) if "DSFLOW_WORKSPACE" in os.environ else root
    if root is None:
        raise UsageError(f"{here} is in no workspace", "Start Jupyter inside the folder that has a dsflow.yml.")
    today = ds_of(dt.datetime.now())
    inside = here.is_relative_to(root / "jobs") and here != root / "jobs"
    task = Task(run_id="by-hand", job="", kind="notebook", main="", ds=today, start="", end="", created=today)
    if inside:
        task = _rendered(root, here.relative_to(root / "jobs").parts[0])
    made = StandIn(task, root / "datastore", Path(tempfile.mkdtemp(prefix="dsflow-by-hand-")))
    if task.engine == "spark":
        _have_spark(made)
    return made


def _have_spark(made: StandIn) -> None:
    """Have Spark at hand until this process ends."""
    from dsflow.spark.access import access

    held = contextlib.ExitStack()
    way = held.enter_context(access(made.task.spark, made.data, made.task.run_id, made.staging, print))
    os.environ.update(way.environment)
    atexit.register(held.close)


def _rendered(root: Path, name: str) -> Task:
    # The specs belong to the host side; a process of its own keeps that border.
    command = [sys.executable, "-m", "dsflow", "--json", "-C", str(root), "render", name, "today"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise UsageError(f"job {name} cannot be read: {done.stderr.strip()}", f"`dsflow validate {name}`")
    return model.from_json(Task, done.stdout)
