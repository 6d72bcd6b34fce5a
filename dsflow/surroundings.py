"""What a job's code is executed for: the run of this process, or a stand-in where a person executes it by hand."""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dsflow import model
from dsflow.engines.contract import Engine
from dsflow.engines.registry import open_engine
from dsflow.errors import UsageError
from dsflow.model import InputUsed, Spark, Task
from dsflow.partitions import ds_of
from dsflow.store.datastore import Datastore
from dsflow.store.layout import SAMPLE


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """The run this process belongs to, or a stand-in for it when the code is run by hand."""

    task: Task
    data: Path
    parameters: Mapping[str, Any]
    run_folder: Path | None
    staging: Path
    engine: Engine
    recorded: set[InputUsed] = field(default_factory=set)

    @property
    def datastore(self) -> Datastore:
        """Where it reads."""
        return Datastore(self.data)


def stand_in(task: Task, data: Path, parameters: Mapping[str, Any], staging: Path) -> None:
    """Let the code of this process see a task as a run of it would; what it writes is checked and not published.

    Args:
        task: The task.
        data: The datastore.
        parameters: All parameters, secrets included.
        staging: A folder for what is written.
    """
    global _by_hand_now
    if task.engine == "spark":
        _have_spark(task.spark, data, staging)
    engine = open_engine(task.engine, threads=task.limits.cpus, memory=task.limits.memory)
    _by_hand_now = Surroundings(
        task=task, data=data, parameters=parameters, run_folder=None, staging=staging, engine=engine
    )


_by_hand_now: Surroundings | None = None


def now() -> Surroundings:
    """Give what the code of this process is executed for."""
    return _by_hand_now or _found()


def is_there() -> bool:
    """Say whether this process executes code of a job, in a run or by hand; nothing is started to find out."""
    root = workspace_around()
    by_hand = root is not None and job_of(Path.cwd(), root) is not None
    return _by_hand_now is not None or "DSFLOW_RUN_FOLDER" in os.environ or by_hand


def workspace_around() -> Path | None:
    """Give the workspace that the current folder is in, or that the environment names; None where there is none."""
    if "DSFLOW_WORKSPACE" in os.environ:
        return Path(os.environ["DSFLOW_WORKSPACE"])
    here = Path.cwd()
    return next((folder for folder in (here, *here.parents) if (folder / "dsflow.yml").is_file()), None)


def samples_around() -> Path | None:
    """Give the datastore of samples for the run of this process, else for the workspace around; None where is none."""
    if "DSFLOW_DATA" in os.environ:
        data = Path(os.environ["DSFLOW_DATA"])
        # A sampled run has no other datastore.
        return data if os.environ.get("DSFLOW_SAMPLES") else data / SAMPLE
    root = workspace_around()
    return root / "datastore" / SAMPLE if root is not None else None


@functools.cache
def _found() -> Surroundings:
    run_folder = os.environ.get("DSFLOW_RUN_FOLDER")
    if run_folder is None:
        return _by_hand()
    task = model.from_json(Task, (Path(run_folder) / "task.json").read_text(encoding="utf-8"))
    return Surroundings(
        task=task,
        data=Path(os.environ["DSFLOW_DATA"]),
        parameters=json.loads(os.environ["DSFLOW_PARAMS"]),
        run_folder=Path(run_folder),
        staging=Path(os.environ.get("DSFLOW_SINK", "")),
        engine=open_engine(task.engine, threads=task.limits.cpus, memory=task.limits.memory),
    )


def _by_hand() -> Surroundings:
    """Stand in for a run: the job of the current folder, its defaults, today."""
    here, root = Path.cwd(), workspace_around()
    if root is None:
        raise UsageError(f"{here} is in no workspace", "Start Jupyter inside the folder that has a dsflow.yml.")
    import datetime as dt

    today = ds_of(dt.datetime.now())
    name = job_of(here, root)
    if name is not None:
        task = rendered(root, name, ("today",))
    else:
        task = Task(run_id="by-hand", job="", kind="notebook", main="", ds=today, start="", end="", created=today)
    data, staging = root / "datastore", Path(tempfile.mkdtemp(prefix="dsflow-by-hand-"))
    if task.engine == "spark":
        _have_spark(task.spark, data, staging)
    return Surroundings(
        task=task,
        data=data,
        parameters=task.parameters,
        run_folder=None,
        staging=staging,
        engine=open_engine(task.engine),
    )


def session() -> Any:
    """Give a SparkSession: that of a job which computes with Spark; for anything else one in this process.

    Raises:
        EnvironmentMissing: there is no Spark, or it does not start.
    """
    context = now()
    if context.task.engine == "spark":
        # Only that engine has one, whatever the Protocol says.
        engine: Any = context.engine
        return engine.session
    from dsflow.spark import sessions

    # Somebody may have said which server it is to be.
    if not sessions.is_warm():
        _have_spark(Spark(session="classic"), context.data, context.staging)
    return sessions.open_session()


def _have_spark(wanted: Spark, data: Path, log_folder: Path) -> None:
    """Have Spark at hand until this process ends; a process has one, so whoever comes second finds it there."""
    global _spark_held
    if _spark_held:
        return
    from dsflow.spark.access import access

    held = contextlib.ExitStack()
    # Another process by hand can be there at the same time.
    way = held.enter_context(access(wanted, data, f"by-hand-{os.getpid()}", log_folder, print))
    os.environ.update(way.environment)
    atexit.register(held.close)
    _spark_held = True


_spark_held = False


def job_of(folder: Path, root: Path) -> str | None:
    """Give the name of the job that a folder of the workspace at `root` belongs to, or None."""
    jobs = root / "jobs"
    return folder.relative_to(jobs).parts[0] if folder.is_relative_to(jobs) and folder != jobs else None


def rendered(root: Path, name: str, arguments: Sequence[str], given: Mapping[str, str] | None = None) -> Task:
    """Give the task of a job as its files are now.

    Args:
        root: The workspace.
        name: The job.
        arguments: What would follow the name after `dsflow run`.
        given: Parameters by name, as text.

    Raises:
        UsageError: a file, the date or a parameter is wrong.
    """
    # The specs belong to the host side; a process of its own keeps that border. Anybody may read its command line.
    command = [sys.executable, "-P", "-m", "dsflow", "--json", "-C", str(root), "render", name, *arguments]
    environment = os.environ | {f"DSFLOW_PARAM_{key.upper()}": value for key, value in (given or {}).items()}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode != 0:
        raise UsageError(f"job {name} cannot be read: {done.stderr.strip()}", f"`dsflow validate {name}`")
    return model.from_json(Task, done.stdout)
