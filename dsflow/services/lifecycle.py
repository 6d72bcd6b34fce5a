"""Starting a service so that it is as its file says, and stopping it so that nothing of it is left but its state."""

from __future__ import annotations

import hashlib
import ipaddress
import json
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from dsflow.errors import DsflowError, EnvironmentMissing, Interrupted, UsageError, did_you_mean
from dsflow.quantities import seconds
from dsflow.rendering import render
from dsflow.services import password, ports, readiness, records, registry
from dsflow.services.contract import (
    LOOPBACK,
    Asked,
    Form,
    Found,
    Launch,
    Made,
    Notify,
    Place,
    Prepared,
    Service,
    Shell,
    make_private,
)
from dsflow.services.readiness import Question
from dsflow.specs.load import load_workspace
from dsflow.workspace import Workspace

_SHOWN_LINES = 15
_USUAL_STOP = ("TERM", 10.0)


@dataclass(frozen=True, kw_only=True)
class Started:
    """A service that was asked for and is there.

    Attributes:
        found: The service.
        change: What was done: `started`, `restarted`, or `unchanged`.
        ready: Whether it answers.
        took: Seconds from its start to its answer; 0 for one that ran already.
        notes: What its preparation has to say.
    """

    found: Found
    change: str
    ready: bool
    took: float
    notes: tuple[str, ...]


def start(service: Service, asked: Asked, notify: Notify) -> Started:
    """Make a service run as its file says: start it, start it anew where something has changed, or leave it.

    Args:
        service: The service.
        asked: What is wanted; what is not said stays as it runs already.
        notify: Gets lines about what is going on.

    Raises:
        UsageError: the address or the file is not acceptable.
        EnvironmentMissing: no engine, no program, a taken port, or it does not get ready.
    """
    with records.one_at_a_time(service.workspace, service.name, notify):
        before = registry.found_in(service.workspace).get(service.name)
        going_on = before if before and before.status == "running" else None
        form, reason = registry.choose(service, asked.form or (going_on.form if going_on else None))
        place = _place(service, form, asked, going_on)
        if service.spec.login == "none" and not ipaddress.ip_address(place.address).is_loopback:
            notify(f"{service.name} asks nobody for a password: whoever reaches {place.address} may use it")
        if not (going_on and going_on.place == place):
            _check_ports(service, place, going_on)
        make_private(service.workspace, service.state)
        prepare = registry.preparation_of(service)
        prepared = prepare(service, place, notify) if prepare else Prepared()
        service = replace(service, spec=prepared.spec or service.spec)
        made = form.make(service, notify, rebuild=asked.rebuild)
        launch = _launch(service, form, place, prepared, made)
        asking = question(service, place)
        if going_on and going_on.config_hash == launch.config_hash and not asked.rebuild:
            found, change, began = going_on, "unchanged", time.monotonic()
        else:
            if going_on:
                notify(f"Stopping {service.name}: it was started with other settings")
            if before:
                _stop(service.workspace, service.name, _patience(service), or_pass_over=True)
            notify(f"Starting {service.name} in a {form.name} ({reason})")
            began = time.monotonic()
            found, change = _begin(form, launch), "restarted" if going_on else "started"
        ready = _wait(service, form, found, asking) if asked.wait else readiness.answers(asking, 1.0)
        took = 0.0 if change == "unchanged" else time.monotonic() - began
        return Started(found=found, change=change, ready=ready, took=took, notes=tuple(prepared.notes))


def stop(workspace: Workspace, name: str, notify: Notify) -> Found:
    """Stop a service and give what it was.

    Raises:
        UsageError: nothing of that name runs.
        EnvironmentMissing: it is in a container, and no engine answers.
    """
    with records.one_at_a_time(workspace, name, notify):
        found = running(workspace, name)
        notify(f"Stopping {name}")
        _stop(workspace, name, _patience_of(found, workspace))
        return found


def stop_all(workspace: Workspace, notify: Notify) -> list[Found]:
    """Stop every service of a workspace, the one that was started last first, and leave nothing of them.

    Raises:
        EnvironmentMissing: some are in containers, and no engine answers; the others are stopped.
    """
    stopped: list[Found] = []
    problems: list[DsflowError] = []
    for found in sorted(registry.found_in(workspace).values(), key=lambda found: -found.started):
        try:
            stopped.append(stop(workspace, found.name, notify))
        except DsflowError as error:
            problems.append(error)
    for form in registry.all_forms():
        form.sweep(workspace)
    if problems:
        raise problems[0]
    return stopped


def running(workspace: Workspace, name: str) -> Found:
    """Give the service of a name that runs, or has run and was not stopped.

    Raises:
        UsageError: there is none.
    """
    there = registry.found_in(workspace)
    if name in there:
        return there[name]
    known = registry.services(workspace)
    if name in known:
        raise UsageError(f"{name} does not run", f"`dsflow start {name}` starts it.")
    guess = did_you_mean(name, {*known, *there})
    raise UsageError(f"there is no service {name!r}{guess}", "`dsflow ps` lists the services.")


def _stop(workspace: Workspace, name: str, how: tuple[str, float], *, or_pass_over: bool = False) -> None:
    """Stop whatever has a name, in every form: a crash can leave it in the one while it runs in the other.

    Args:
        workspace: Whose it is.
        name: The name.
        how: The signal, and how many seconds to wait.
        or_pass_over: Leave a container alone that nobody can reach, instead of complaining.
    """
    for form in registry.all_forms():
        for same in form.find(workspace):
            if same.name == name and not (or_pass_over and same.status == "unreachable"):
                form.stop(workspace, same, *how)


def _patience(service: Service) -> tuple[str, float]:
    return service.spec.stop.signal, seconds(service.spec.stop.timeout)


def _patience_of(found: Found, workspace: Workspace) -> tuple[str, float]:
    """How to end what runs; its file may be gone or broken by now, which must not keep it alive."""
    try:
        return _patience(registry.service_of(workspace, found.kind))
    except DsflowError:
        return _USUAL_STOP


def _place(service: Service, form: Form, asked: Asked, before: Found | None) -> Place:
    address = asked.address or (before.address if before else "") or LOOPBACK
    port: int | None = None
    if service.spec.ports:
        settings = load_workspace(service.workspace).ports
        usual = settings.get(service.name) or settings.get(service.spec.name) or service.spec.ports[0]
        port = asked.port or (before.port if before else None) or usual
    elif asked.port:
        raise UsageError(f"{service.name} has no port", "Its service.yaml names none.")
    return Place(form=form.name, address=checked_address(service, address), port=port)


def checked_address(service: Service, address: str) -> str:
    """Give an address back that a service may listen on.

    Raises:
        UsageError: it is none, or others could come in with a password that everybody knows.
    """
    address = LOOPBACK if address == "localhost" else address
    try:
        loopback = ipaddress.ip_address(address).is_loopback
    except ValueError:
        raise UsageError(f"{address!r} is no address", "127.0.0.1 is this machine alone, 0.0.0.0 all.") from None
    if not loopback and service.spec.login == "workspace" and password.is_default(service.workspace):
        raise UsageError(
            f"{service.name} may not listen on {address} with the password that everybody knows",
            f"`dsflow start {service.name} --address {address} --password` asks for another one first.",
        )
    return address


def _check_ports(service: Service, place: Place, going_on: Found | None) -> None:
    if place.port is None:
        return
    for port in (place.port, *service.spec.ports[1:]):
        # Its own port is free again as soon as the one before is stopped.
        if not (going_on and going_on.port == port):
            ports.check_free(port, place.address, service.name)


def _names(service: Service, form: Form, place: Place, prepared: Prepared) -> dict[str, str]:
    port = service.spec.ports[0] if service.spec.ports and place.form == "container" else place.port
    given = {"address": place.address, "form": place.form, "name": service.name, "url": place.url, "port": port or ""}
    return {
        **service.names,
        **prepared.names,
        **{key: str(value) for key, value in given.items()},
        **form.paths(service),
    }


def _launch(service: Service, form: Form, place: Place, prepared: Prepared, made: Made) -> Launch:
    names, spec = _names(service, form, place, prepared), service.spec
    words = (spec.process.command if spec.process and form.name == "process" else ()) or spec.command
    where = f"{service.workspace.shown(service.folder)}/service.yaml"
    command = tuple(render(word, names, f"{where}: command") for word in words)
    environment = {
        key: render(_text(value), names, f"{where}: environment.{key}") for key, value in spec.environment.items()
    }
    what: dict[str, Any] = {
        "made": made.identity, "command": command, "environment": environment, "place": asdict(place),
        "mounts": [mount.model_dump() for mount in spec.mounts], "memory": spec.memory, "ports": spec.ports,
        "files": _digest(service), "seal": prepared.seal, "names": dict(service.names),
    }  # fmt: skip
    config_hash = hashlib.sha256(json.dumps(what, sort_keys=True, default=str).encode()).hexdigest()[:16]
    return Launch(
        service=service, place=place, made=made, command=command, environment=environment, config_hash=config_hash
    )


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _digest(service: Service) -> Mapping[str, str]:
    """What the files beside `service.yaml` hold, which it may read when it starts."""
    found = sorted(path for path in service.folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {
        path.relative_to(service.folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in found
        if path.name != "service.yaml"
    }


def _begin(form: Form, launch: Launch) -> Found:
    try:
        return form.start(launch)
    except EnvironmentMissing:
        # Somebody may have taken the port in the meantime; that is told better than by the engine.
        _check_ports(launch.service, launch.place, None)
        raise


def _wait(service: Service, form: Form, found: Found, asked: Question | None) -> bool:
    """Wait until it answers.

    Raises:
        EnvironmentMissing: it ended, or takes too long; it is stopped then.
    """
    workspace = service.workspace

    try:
        now = readiness.wait(asked, found, lambda: form.look(workspace, found))
    except KeyboardInterrupt:
        name = service.name
        raise Interrupted(f"interrupted; {name} goes on starting", f"`dsflow stop {name}` ends it.") from None
    if now is not None and now.status == "running":
        return True
    last = deque(form.lines(workspace, now or found), maxlen=_SHOWN_LINES)
    _stop(workspace, service.name, _patience(service))
    everything = f"`dsflow logs {service.name}` has all lines."
    shown = "".join(f"\n{line}" for line in last) or "\n(it printed nothing)"
    if now is None:
        assert asked is not None
        raise EnvironmentMissing(
            f"{service.name} did not answer within {asked.timeout:g} seconds and was stopped. Its last lines:{shown}",
            f"`readiness.timeout` in its service.yaml is how long it may take. {everything}",
        )
    raise EnvironmentMissing(
        f"{service.name} ended before it was ready: {now.cause or 'nobody knows why'}. Its last lines:{shown}",
        everything + (" `memory` in its service.yaml is its limit." if "memory" in now.cause else ""),
    )


def restart(workspace: Workspace, name: str, notify: Notify) -> Started:
    """Stop a service and start it again, in the same form, at the same port; start one that does not run.

    Raises:
        UsageError: there is none of that name.
        EnvironmentMissing: as for `start` and `stop`.
    """
    before = registry.found_in(workspace).get(name)
    if before is None:
        return start(registry.service_of(workspace, name), Asked(), notify)
    service = again(registry.service_of(workspace, before.kind), before)
    stop(workspace, name, notify)
    form = before.form if before.status == "running" else None
    return start(service, Asked(form=form, port=before.port, address=before.address or None), notify)


def shell(workspace: Workspace, name: str, command: Sequence[str]) -> Shell:
    """Give how to run a command, or without one a shell, where a service runs.

    Raises:
        UsageError: it does not run.
    """
    found = running(workspace, name)
    if found.status != "running":
        raise UsageError(f"{name} does not run: {found.cause}", f"`dsflow start {found.kind}` starts it.")
    return registry.form_of(found.form).shell(workspace, found, command)


def log(workspace: Workspace, name: str, *, follow: bool = False) -> Iterator[str] | None:
    """Give the lines of a service's log, those of the last time where it does not run; None for an unknown name.

    Raises:
        EnvironmentMissing: it is in a container, and no engine answers.
    """
    found = registry.found_in(workspace).get(name)
    if found is not None and found.status != "unreachable":
        return registry.form_of(found.form).lines(workspace, found, follow=follow)
    left = records.log_file(workspace, name)
    if left.is_file():
        return iter(left.read_text(encoding="utf-8", errors="replace").splitlines())
    if found is None and name not in registry.services(workspace):
        return None
    raise UsageError(f"{name} has no log: {found.cause if found else 'it was never started'}")


def question(service: Service, place: Place) -> Question | None:
    """Give what to ask a service to see whether it answers."""
    names = {**service.names, **registry.form_of("process").paths(service)}
    return readiness.question(service, place, names)


def again(service: Service, found: Found) -> Service:
    """Give a service with the name and the names that it runs with."""
    return replace(service, name=found.name, names=found.names)
