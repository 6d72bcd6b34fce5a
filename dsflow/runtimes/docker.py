"""Each task in a container of its own, made for it and removed after it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from dsflow import shared
from dsflow.containers import engine as containers
from dsflow.containers import images
from dsflow.containers.accounts import passwd_file
from dsflow.containers.engine import LABEL, Bind, Container, Engine, Image, Wanted
from dsflow.containers.settings import proxies
from dsflow.errors import EnvironmentMissing
from dsflow.model import Spark, Task
from dsflow.runtimes import companion
from dsflow.runtimes.batch import Kept, RunningInKept
from dsflow.runtimes.contract import Ending, Folders, Needs, Place, identity
from dsflow.sampling.project import NAMES as PROJECT_FILES
from dsflow.spark import hidden
from dsflow.store.layout import Layout
from dsflow.workspace import Workspace

_DATA = "/data"
_JOBS = "/jobs"


class RunningContainer:
    """The shim in its container."""

    def __init__(self, wanted: Wanted) -> None:
        self._container = Container(wanted)

    def lines(self) -> Iterator[str]:
        """Give whole lines as they come."""
        return self._container.lines()

    def stop(self, *, kill: bool = False) -> None:
        """Ask the shim to end, which ends the job's code; or kill the container."""
        self._container.stop(kill=kill)

    def wait(self) -> Ending:
        """Wait for the end and remove the container."""
        exit_code, out_of_memory = self._container.wait()
        return Ending(exit_code=exit_code, out_of_memory=out_of_memory)


class Docker:
    """The runtime that gives every task a container."""

    name = "docker"

    def __init__(self) -> None:
        self._kept: Kept | None = None

    def available(self) -> str | None:
        """Give None when an engine answers."""
        return containers.available()

    def expect(self, tasks: int, *, batch: bool = False) -> None:
        """With `batch`, keep containers and give each one task after the other: only as many as run at a time."""
        if batch and self._kept is None and sys.platform == "linux":
            self._kept = Kept()

    def warm_up(self) -> None:
        """Do nothing: each task gets a container with its own limits and mounts."""

    def load(self, task: Task, needs: Needs, folders: Folders) -> None:
        """Do nothing, for the same reason."""

    def close(self) -> None:
        """Remove the containers that were kept; the others are gone with their tasks."""
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    def identify(self, needs: Needs, folders: Folders) -> str:
        """Give what stands for the image."""
        image = containers.find_image(needs.image or images.DEFAULT)
        if image is not None and needs.requirements:
            surroundings = images.Surroundings.of(Workspace(folders.jobs.parent))
            image = images.known_with(image, needs.requirements, surroundings)
        return identity(self.name, Place(image_id=image.id)) if image else ""

    def prepare(self, needs: Needs, folders: Folders, notify: Callable[[str], None]) -> Place:
        """Find the image, building it where it is one of ours and missing; add the requirements to it."""
        surroundings = images.Surroundings.of(Workspace(folders.jobs.parent))
        name = needs.image or images.DEFAULT
        image = images.ensure(name, surroundings, notify)
        if needs.requirements:
            name, image = images.with_requirements(name, image, needs.requirements, surroundings, notify)
        return Place(image=name, image_id=image.id)

    def start(
        self, task: Task, place: Place, folders: Folders, environment: Mapping[str, str]
    ) -> RunningContainer | RunningInKept:
        """Start the shim in a new container, or in one that was kept; it ends when this process is gone."""
        assert place.image_id is not None
        image = containers.find_image(place.image_id)
        if image is None:
            raise EnvironmentMissing(f"the image {place.image} was removed a moment ago", "Run again.")
        description = wanted(task, image, folders, environment, containers.engine())
        if task.engine == "spark" and task.spark.session == "connect":
            description = self._beside_server(description, hidden.whole(task.spark, environment), task, folders)
        if self._kept is not None and task.port is None:
            return self._kept.start(description, Path(_DATA, task.folder), environment)
        containers.remove_leftovers({"workspace": workspace_label(folders)})
        return RunningContainer(description)

    def _beside_server(self, description: Wanted, spark: Spark, task: Task, folders: Folders) -> Wanted:
        """Let the container of a task share the loopback of the Spark server."""
        image = containers.find_image(images.SPARK)
        if image is None:
            raise EnvironmentMissing(f"the image {images.SPARK} is not on this machine", "`dsflow build-images spark`")
        like = wanted(task, image, folders, {}, containers.engine())
        return companion.joined(description, spark, like, folders.datastore.resolve(), lambda line: None)


def wanted(task: Task, image: Image, folders: Folders, environment: Mapping[str, str], engine: Engine) -> Wanted:
    """Describe the container of a task.

    Args:
        task: What runs in it.
        image: What it is made from.
        folders: The jobs it may read and the datastore it may write.
        environment: What the runner adds.
        engine: Who runs it.
    """
    binds = [
        Bind(source=folders.jobs.resolve(), target=_JOBS),
        Bind(source=folders.datastore.resolve(), target=_DATA, read_only=False),
        *_shared(folders.jobs.resolve(), task.modules),
        Bind(source=passwd_file(Layout(folders.datastore.resolve()).own), target="/etc/passwd"),
    ]
    # What the code of a job looks for in the folders above its own.
    files = (folders.jobs.resolve().parent / name for name in PROJECT_FILES)
    binds += [Bind(source=file.resolve(), target=f"/{file.name}") for file in files if file.is_file()]
    own = {"HOME": "/tmp", "DSFLOW_DATA": _DATA, "DSFLOW_JOBS": _JOBS, "DSFLOW_STDIN_GUARD": "1"}
    if image.labels.get(LABEL + "package") != images.package_hash():
        # An image of another version of dsflow, or one that is not ours at all.
        binds.append(Bind(source=images.PACKAGE, target=images.PACKAGE_INSIDE))
        own["PYTHONPATH"] = _with_package(image.environment.get("PYTHONPATH", ""))
    if task.port:
        own["DSFLOW_HOST"] = "0.0.0.0"
    if task.limits.network:
        own = proxies(os.environ) | own
    return Wanted(
        name=f"dsflow-{task.run_id}",
        image=image.id,
        command=("python3", "-P", "-m", "dsflow.shim", f"{_DATA}/{task.folder}"),
        user=containers.caller(engine, os.getuid(), os.getgid()),
        environment={**environment, **own},
        binds=tuple(binds),
        labels={"workspace": workspace_label(folders), "job": task.job, "ds": task.ds, "run": task.run_id},
        memory=task.limits.memory,
        cpus=min(task.limits.cpus, engine.cpus) if task.limits.cpus else None,
        network=task.limits.network,
        port=task.port,
    )


def _shared(jobs: Path, names: Sequence[str]) -> list[Bind]:
    """Give what has to be there of the modules that jobs share: where they are, as seen from the jobs."""
    inside = Path(_JOBS).parent
    return [Bind(source=modules, target=str(inside / modules.name)) for modules in shared.folders(jobs, names)]


def workspace_label(folders: Folders) -> str:
    """Give what marks a workspace's containers: its name for people, and a hash of where it is."""
    return Workspace(folders.jobs.resolve().parent).label


def _with_package(path: str) -> str:
    ours = str(Path(images.PACKAGE_INSIDE).parent)
    entries = [entry for entry in path.split(":") if entry]
    return ":".join(entries if ours in entries else [*entries, ours])
