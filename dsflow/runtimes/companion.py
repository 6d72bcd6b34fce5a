"""The Spark server that tasks in containers share: a container of its own, whose loopback theirs share, and no more.

A server and its tasks have one network between them, which leads nowhere: tasks that may open connections have another
server than those that may not. Whoever asks for other settings or another image gets another server too; each of them
ends by itself when nobody has used it for a while.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from dsflow import cache
from dsflow.containers import engine as containers
from dsflow.containers import residents
from dsflow.containers.engine import Bind, Wanted
from dsflow.durable import make_folder
from dsflow.errors import EnvironmentMissing
from dsflow.model import Spark
from dsflow.spark import server
from dsflow.spark.access import SERVER
from dsflow.store.layout import Layout
from dsflow.store.locks import is_held, lock

SERVICE = "spark"
_CACHE = "/cache"
_START_SECONDS = 180
_STOP_SECONDS = 10
_LOOK_EVERY_SECONDS = 0.1


def joined(task: Wanted, spark: Spark, like: Wanted, datastore: Path, say: Callable[[str], None]) -> Wanted:
    """Give the container of a task as one that shares the loopback of a server, which is started where there is none.

    Args:
        task: The container of the task.
        spark: What the server is to be started with.
        like: A container of the server's image, as a task would get it.
        datastore: The datastore, as it is called on this machine.
        say: Gets a line before anything slow.

    Raises:
        EnvironmentMissing: the server does not start.
    """
    key = key_of(spark, like, datastore)
    name = f"docker-{key}"
    folder = Layout(datastore).spark / name
    make_folder(folder)
    folder.chmod(0o700)
    inside = f"/data/{folder.relative_to(datastore)}"
    with lock(folder / server.START_LOCK, "dsflow", "the Spark server", wait=True):
        container = _running(folder, like.labels["workspace"], key)
        if container is None:
            say("Starting the Spark server of this workspace in a container")
            container = _start(folder, inside, key, spark, like)
    return dataclasses.replace(task, network=f"container:{container}", environment={**task.environment, SERVER: inside})


def stop(workspace: str) -> bool:
    """End the servers of a workspace, and say whether there was one.

    Raises:
        EnvironmentMissing: no engine answers.
    """
    found = residents.find({"workspace": workspace, "service": SERVICE})
    for one in found:
        residents.stop(one.id, _STOP_SECONDS)
        containers.remove(one.id)
    return any(one.running for one in found)


def key_of(spark: Spark, like: Wanted, datastore: Path) -> str:
    """Give what servers of one kind have in common: a sampled run must not compute where all data is mounted."""
    place = [like.image, like.user, like.network, sorted(bind.target for bind in like.binds), str(datastore)]
    told = [server.key_of(spark), *place]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:12]


def _running(folder: Path, workspace: str, key: str) -> str | None:
    """Give the container whose server lives."""
    if not is_held(folder / server.KEEPER_LOCK) or not (folder / server.STATE).exists():
        return None
    found = residents.find({"workspace": workspace, "service": SERVICE, "key": key})
    return next((one.id for one in found if one.running), None)


def _start(folder: Path, inside: str, key: str, spark: Spark, like: Wanted) -> str:
    kept = cache.folder() / "spark" / "containers"
    make_folder(kept)
    for name in (server.STATE, server.ENDED):
        (folder / name).unlink(missing_ok=True)
    server.write_private(folder / server.REQUEST, dataclasses.asdict(spark) | {"key": key})
    wanted = dataclasses.replace(
        like,
        name=f"dsflow-spark-{folder.name}-{time.time_ns()}",
        command=("python3", "-P", "-m", "dsflow.spark.keeper", inside, "--foreground"),
        binds=(*like.binds, Bind(source=kept, target=_CACHE, read_only=False)),
        environment={**_its_own(like.environment), "DSFLOW_CACHE": _CACHE},
        labels={"workspace": like.labels["workspace"], "service": SERVICE, "key": key},
        attended=False,
        memory=None,
        cpus=None,
    )
    container = residents.launch(wanted)
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if (folder / server.STATE).exists():
            return container
        now = residents.get(container)
        if now is None or not now.running or (folder / server.ENDED).exists():
            break
        time.sleep(_LOOK_EVERY_SECONDS)
    said = list(residents.lines(container, tail=1))
    containers.remove(container)
    reason = server.ending(folder) if (folder / server.ENDED).exists() else "".join(said) or "it does not answer"
    raise EnvironmentMissing(f"the Spark server did not start: {reason}", f"Its log: {folder / server.LOG}")


def _its_own(environment: Mapping[str, str]) -> dict[str, str]:
    """Give what is the place's and not one task's: the server outlives the task it is started for."""
    return {
        name: value
        for name, value in environment.items()
        if name in ("HOME", "PYTHONPATH", "DSFLOW_DATA", "DSFLOW_JOBS")
    }
