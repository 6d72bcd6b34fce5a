"""Services in containers: one each, on a network of the workspace, found again by its labels."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from dsflow.containers import engine as containers
from dsflow.containers import images, residents
from dsflow.containers.accounts import passwd_file
from dsflow.containers.engine import LABEL, Bind, Image, Wanted
from dsflow.containers.residents import Resident
from dsflow.containers.settings import proxies
from dsflow.errors import EnvironmentMissing, UsageError
from dsflow.quantities import memory_bytes
from dsflow.services import records
from dsflow.services.contract import FormName, Found, Launch, Made, Notify, Service, Shell, make_private
from dsflow.workspace import Workspace

_KEPT_LINES = 2000
_WORKSPACE, _HERE, _STATE = "/workspace", "/service", "/state"


class InContainer:
    """The form that gives every service a container."""

    name: FormName = "container"

    def offers(self, service: Service) -> str | None:
        """Give None when the service has an image, or can have one, and an engine answers."""
        if not (service.spec.image or (service.folder / "Dockerfile").is_file()):
            return f"{service.name} has neither a Dockerfile nor an `image`"
        return containers.available()

    def paths(self, service: Service) -> Mapping[str, str]:
        """Give the paths inside."""
        return {"workspace": _WORKSPACE, "here": _HERE, "state": _STATE, "address": "0.0.0.0"}

    def make(self, service: Service, notify: Notify, *, rebuild: bool) -> Made:
        """Build the image where it is ours, or find it."""
        surroundings = images.Surroundings.of(service.workspace)
        if service.spec.image:
            image, name = images.ensure(service.spec.image, surroundings, notify), service.spec.image
        else:
            own = service.folder.is_relative_to(service.workspace.root / "docker")
            # The package's own services are the same everywhere; a checkout that is a workspace has them too.
            mark = service.workspace.key if own and not _is_packages(service.folder) else ""
            name = service.folder.name
            image = images.ensure_service(name, surroundings, notify, mark=mark, rebuild=rebuild)
        return Made(identity=image.id, image=image.id)

    def find(self, workspace: Workspace) -> list[Found]:
        """Ask the engine; where none answers, tell of those that were started."""
        started = records.read(workspace, self.name)
        if containers.available():
            return [_unreachable(name, record) for name, record in started.items()]
        labels = {"workspace": workspace.label, "service": ""}
        return [_found(resident) for resident in residents.find(labels)]

    def look(self, workspace: Workspace, found: Found) -> Found | None:
        """Ask the engine about the container."""
        resident = residents.get(found.id)
        return _found(resident) if resident else None

    def start(self, launch: Launch) -> Found:
        """Start the container."""
        service, place = launch.service, launch.place
        workspace = service.workspace
        image = containers.find_image(launch.made.image)
        if image is None:
            raise EnvironmentMissing(f"the image of {service.name} was removed a moment ago", "Start it again.")
        residents.make_network(_network(workspace), {"workspace": workspace.label})
        records.write(workspace, service.name, {"form": self.name, "kind": service.spec.name, "port": place.port})
        try:
            started = residents.get(residents.launch(_wanted(launch, image)))
        except BaseException:
            records.forget(workspace, service.name)
            raise
        if started is None:
            raise EnvironmentMissing(f"the container of {service.name} was removed a moment ago", "Start it again.")
        return _found(started)

    def stop(self, workspace: Workspace, found: Found, signal: str, patience: float) -> None:
        """Stop and remove the container; its log stays in the workspace."""
        if found.status == "unreachable":
            raise EnvironmentMissing(
                f"{found.name} runs in a container, or did, and no Docker engine answers",
                "Start Docker, and stop the service then.",
            )
        residents.stop(found.id, patience)
        last = "".join(f"{line}\n" for line in residents.lines(found.id, tail=_KEPT_LINES))
        records.log_file(workspace, found.name).write_text(last, encoding="utf-8")
        containers.remove(found.id)
        # Stays while others are in it.
        residents.remove_networks({"workspace": workspace.label})
        records.forget(workspace, found.name)

    def lines(self, workspace: Workspace, found: Found, *, follow: bool = False) -> Iterator[str]:
        """Ask the engine."""
        return residents.lines(found.id, follow=follow)

    def shell(self, workspace: Workspace, found: Found, command: Sequence[str]) -> Shell:
        """Use the engine's own client, which knows how to pass a terminal on."""
        usual = ("sh", "-c", "command -v bash > /dev/null && exec bash || exec sh")
        terminal = os.isatty(0) and os.isatty(1)
        return Shell(command=residents.shell_command(found.id, tuple(command) or usual, terminal=terminal))

    def sweep(self, workspace: Workspace) -> None:
        """Remove the workspace's network and what ended runs have left, and forget containers that are gone."""
        if containers.available() is None:
            there = {found.name for found in self.find(workspace)}
            for name in records.read(workspace, self.name).keys() - there:
                records.forget(workspace, name)
            residents.remove_networks({"workspace": workspace.label})
            containers.remove_leftovers({"workspace": workspace.label})


def _wanted(launch: Launch, image: Image) -> Wanted:
    service, place, spec = launch.service, launch.place, launch.service.spec
    workspace, engine = service.workspace, containers.engine()
    make_private(workspace, service.state)
    binds = [Bind(source=_source(workspace, m.source), target=m.target, read_only=m.read_only) for m in spec.mounts]
    binds += [
        Bind(source=service.folder.resolve(), target=_HERE),
        Bind(source=service.state.resolve(), target=_STATE, read_only=False),
        Bind(source=passwd_file(records.folder(workspace)).resolve(), target="/etc/passwd"),
    ]
    own = {"HOME": "/tmp"}
    if image.labels.get(LABEL + "package") != images.package_hash():
        binds.append(Bind(source=images.PACKAGE, target=images.PACKAGE_INSIDE))
    entries = [entry for entry in image.environment.get("PYTHONPATH", "").split(":") if entry]
    parent = str(Path(images.PACKAGE_INSIDE).parent)
    own["PYTHONPATH"] = ":".join(entries if parent in entries else [*entries, parent])
    first = spec.ports[0] if spec.ports else None
    return Wanted(
        name=f"dsflow-{service.name}-{workspace.key}",
        image=image.id,
        command=launch.command,
        user=containers.caller(engine, os.getuid(), os.getgid()),
        environment={**proxies(os.environ), **own, **launch.environment},
        binds=tuple(binds),
        labels=_labels(launch),
        memory=memory_bytes(spec.memory) if spec.memory else None,
        network=_network(workspace),
        published={port: (place.address, (place.port or port) if port == first else port) for port in spec.ports},
        working_dir=None,
        stop_signal=f"SIG{spec.stop.signal}",
        attended=False,
    )


def _labels(launch: Launch) -> dict[str, str]:
    service, place = launch.service, launch.place
    return {
        "workspace": service.workspace.label,
        "service": service.name,
        "kind": service.spec.name,
        "config-hash": launch.config_hash,
        "address": place.address,
        "port": str(place.port or ""),
        "names": json.dumps(dict(service.names)),
    }


def _found(resident: Resident) -> Found:
    labels = resident.labels
    cause = ""
    if resident.out_of_memory:
        cause = "it used more memory than its limit"
    elif resident.exit_code is not None:
        cause = f"it ended with exit code {resident.exit_code}"
    elif not resident.running:
        cause = "it was never started"
    return Found(
        name=labels["service"],
        kind=labels.get("kind", labels["service"]),
        names=json.loads(labels.get("names") or "{}"),
        form="container",
        status="running" if resident.running else "ended",
        id=resident.id,
        config_hash=labels.get("config-hash", ""),
        address=labels.get("address", ""),
        port=int(labels["port"]) if labels.get("port") else None,
        started=resident.started,
        cause=cause,
    )


def _unreachable(name: str, record: Mapping[str, object]) -> Found:
    port = record.get("port")
    return Found(
        name=name, kind=str(record.get("kind", name)), form="container", status="unreachable", id="", config_hash="",
        address="", port=port if isinstance(port, int) else None, started=0.0, cause="no Docker engine answers",
    )  # fmt: skip


def _network(workspace: Workspace) -> str:
    return f"dsflow-{workspace.key}"


def _source(workspace: Workspace, name: str) -> Path:
    """The folder of a mount, made where it is missing: the engine would make it as root, or refuse."""
    path = workspace.root / name
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise UsageError(f"the mount {name} leaves the workspace", "Name a folder of the workspace.")
    if not path.exists():
        path.mkdir(parents=True)
    return path.resolve()


def _is_packages(folder: Path) -> bool:
    from dsflow.workspace import package_folder

    return folder.resolve().is_relative_to(package_folder("docker").resolve())
