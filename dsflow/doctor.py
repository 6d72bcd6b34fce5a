"""Looks at this machine and this workspace: each finding says what is there and, where something is wrong, the fix."""

from __future__ import annotations

import contextlib
import datetime as dt
import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dsflow.errors import DsflowError, UsageError
from dsflow.workspace import Workspace

State = Literal["ok", "info", "warn", "fail"]

_LITTLE_SPACE = 2 * 1024**3
_MOST_SKEW = 2.0
_START_KERNEL = """\
from jupyter_client.manager import start_new_kernel
manager, client = start_new_kernel(startup_timeout=50)
client.stop_channels()
manager.shutdown_kernel(now=True)
"""


@dataclass(frozen=True)
class Finding:
    """The result of one check. `fail` is something that dsflow cannot do without; `info` asks for nothing."""

    check: str
    state: State
    found: str
    fix: str = ""


def examine(workspace: Workspace | None) -> Iterator[Finding]:
    """Run the checks one after the other; those of a workspace only where there is one."""
    for check in MACHINE:
        yield check()
    if workspace is None:
        yield Finding("workspace", "warn", "not in a workspace", "`dsflow init DIR` makes one, `-C DIR` names one.")
        return
    yield Finding("workspace", "ok", str(workspace.root))
    for look in WORKSPACE:
        yield look(workspace)


def python() -> Finding:
    """This Python."""
    return Finding("python", "ok", f"{platform.python_version()}, {sys.executable}")


def packages() -> Finding:
    """The packages that dsflow itself requires."""
    fix = "`pip install --force-reinstall dsflow`, or `bash init.sh` in a checkout."
    try:
        required = importlib.metadata.requires("dsflow") or []
    except importlib.metadata.PackageNotFoundError:
        return Finding("packages", "fail", "dsflow itself is not installed", fix)
    names = [re.split(r"[^A-Za-z0-9_.-]", line)[0] for line in required if "extra ==" not in line]
    missing = [name for name in names if not _installed(name)]
    if missing:
        return Finding("packages", "fail", f"missing: {', '.join(missing)}", fix)
    return Finding("packages", "ok", f"{len(names)} required packages are installed")


def kernel() -> Finding:
    """Whether a notebook's kernel starts."""
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-c", _START_KERNEL], capture_output=True, text=True, check=False, timeout=60
        )
        problem = (done.stderr.strip().splitlines() or ["it ended"])[-1] if done.returncode else ""
    except subprocess.TimeoutExpired:
        problem = "it does not answer within a minute"
    if problem:
        fix = f"`{sys.executable} -m pip install --force-reinstall ipykernel`"
        return Finding("kernel", "fail", f"notebooks cannot run: {problem}", fix)
    return Finding("kernel", "ok", "a notebook's kernel starts")


def tools() -> Finding:
    """Programs that make some things better and are needed for nothing."""
    uses = {"git": "the commit in a run's record", "uv": "faster environments"}
    there = [name for name in uses if shutil.which(name)]
    absent = [f"no {name} ({use})" for name, use in uses.items() if name not in there]
    return Finding("tools", "info", ", ".join(there + absent))


def spark() -> Finding:
    """Which Spark and which Java jobs of the engine `spark` run with."""
    from dsflow.spark.java import find_java, spark_home, spark_version

    if not spark_version():
        return Finding("spark", "info", "not installed; `pip install 'dsflow[spark]'` brings it")
    try:
        spark_home()
        java = find_java()
    except DsflowError as error:
        return Finding("spark", "warn", error.message, error.hint)
    return Finding("spark", "ok", f"Spark {spark_version()} on Java {java.version} ({java.origin}: {java.home})")


def clock() -> Finding:
    """The clock and the time zone: `today` and `yesterday` are days of this zone."""
    now = dt.datetime.now().astimezone()
    found = f"{now:%Y-%m-%d %H:%M:%S} {now.tzname()} (UTC{now:%z})"
    # A machine whose battery is empty starts in 1970 or on the day its firmware was built.
    if now.timestamp() < Path(__file__).stat().st_mtime - 86_400:
        return Finding("clock", "warn", f"{found} is before dsflow was installed", "Set the clock.")
    return Finding("clock", "ok", found)


def docker() -> Finding:
    """Whether an engine answers; jobs run without one too."""
    from dsflow.containers import host

    problem = host.problem()
    if problem:
        return Finding("docker", "warn", problem.message, problem.hint)
    return Finding("docker", "ok", f"an engine answers at {host.url()}")


def datastore(workspace: Workspace) -> Finding:
    """Whether the datastore can be written and belongs to the caller."""
    folder = workspace.datastore
    try:
        folder.mkdir(exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        fix = f"`sudo chown -R {os.getuid()}:{os.getgid()} {folder}`, or a disk that is mounted for writing."
        return Finding("datastore", "fail", f"{folder} cannot be written: {error.strerror}", fix)
    foreign = [path for path in _near_the_top(folder) if path.lstat().st_uid != os.getuid()]
    if foreign and os.getuid() != 0:
        fix = f"`sudo chown -R {os.getuid()}:{os.getgid()} {folder}`"
        found = f"{foreign[0]} belongs to another user, as {len(foreign)} such folders do"
        return Finding("datastore", "warn", found, fix)
    return Finding("datastore", "ok", f"{folder} can be written")


def swap(workspace: Workspace) -> Finding:
    """Whether the file system can exchange two folders in one step."""
    from dsflow.durable import exchange

    try:
        with tempfile.TemporaryDirectory(prefix=".dsflow-doctor-", dir=workspace.datastore) as place:
            one, other = Path(place, "one"), Path(place, "other")
            one.mkdir()
            other.mkdir()
            atomic = exchange(one, other)
    except OSError as error:
        return Finding("swap", "fail", f"folders cannot be swapped: {error.strerror}", "See datastore.")
    if atomic:
        return Finding("swap", "ok", "partitions are swapped in one step")
    found = "folders cannot be exchanged here: after a crash in a swap the next run has to repair the partition"
    return Finding("swap", "warn", found, "Put the datastore on a local disk (ext4, xfs, btrfs, APFS).")


def disk(workspace: Workspace) -> Finding:
    """How much space is left."""
    usage = shutil.disk_usage(workspace.datastore if workspace.datastore.exists() else workspace.root)
    found = f"{usage.free / 1024**3:.1f} GiB free of {usage.total / 1024**3:.1f}"
    if usage.free < _LITTLE_SPACE:
        return Finding("disk", "warn", found, "Free some space; old runs are in datastore/job_runs.")
    return Finding("disk", "ok", found)


def skew(workspace: Workspace) -> Finding:
    """Whether the datastore's disk (a file server's, perhaps) has the same time as this machine."""
    try:
        with tempfile.NamedTemporaryFile(prefix=".dsflow-doctor-", dir=workspace.datastore) as file:
            difference = abs(Path(file.name).stat().st_mtime - dt.datetime.now().timestamp())
    except OSError as error:
        return Finding("file times", "warn", f"unknown: {error.strerror}", "See datastore.")
    if difference > _MOST_SKEW:
        found = f"the datastore's disk is {difference:.0f} s off"
        return Finding("file times", "warn", found, "Synchronise the clocks (NTP).")
    return Finding("file times", "ok", "the datastore's disk has this machine's time")


def history(workspace: Workspace) -> Finding:
    """Whether the database of runs opens."""
    from dsflow.history import History
    from dsflow.specs.load import load_workspace

    try:
        runs = History.open(workspace, load_workspace(workspace)).runs(limit=1)
    except DsflowError as error:
        fix = error.hint or "`dsflow runs rebuild` makes it again from the run folders."
        return Finding("history", "fail", error.message, fix)
    found = f"the last run is {runs[0].run_id}" if runs else "opens; no run yet"
    return Finding("history", "ok", found)


def images(workspace: Workspace) -> Finding:
    """Which images of jobs are built; the others are built when a job needs them."""
    from dsflow.containers import engine as containers
    from dsflow.containers import host
    from dsflow.containers.images import ON_DEMAND, recipes

    if host.problem():
        return Finding("images", "info", "none without an engine")
    every = recipes(workspace.docker_folders())
    known = {name: one for name, one in every.items() if not one.is_service and name not in ON_DEMAND}
    try:
        missing = [recipe.tag for recipe in known.values() if containers.find_image(recipe.tag) is None]
    except DsflowError as error:
        return Finding("images", "warn", error.message, error.hint)
    if missing:
        found = f"not built yet: {', '.join(missing)}"
        return Finding("images", "warn", found, "`dsflow build-images`, or wait for the first run.")
    return Finding("images", "ok", ", ".join(recipe.tag for recipe in known.values()))


MACHINE: Sequence[Callable[[], Finding]] = (python, packages, kernel, tools, spark, clock, docker)
WORKSPACE: Sequence[Callable[[Workspace], Finding]] = (datastore, swap, disk, skew, history, images)


def found_workspace(start: Path | None) -> Workspace | None:
    """Give the workspace around a folder, or None where there is none."""
    from dsflow.specs.settings import located

    try:
        found = Workspace.find(start)
    except UsageError:
        return None
    with contextlib.suppress(UsageError):
        return located(found)
    return found


def _installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _near_the_top(folder: Path) -> Iterator[Path]:
    """The folders in which runs make new ones."""
    yield folder
    for pattern in ("*", "*/*", ".dsflow/*"):
        yield from (path for path in folder.glob(pattern) if path.is_dir())
