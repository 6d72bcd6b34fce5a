"""Containers that outlive the process that starts them, and are found again by their labels."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from dsflow.containers import engine as containers
from dsflow.containers.engine import LABEL, Wanted, client, explained, forgiving

_IN_USE = 403  # what engines say of a network that somebody is in


@dataclass(frozen=True, kw_only=True)
class Resident:
    """A container as it is now.

    Attributes:
        id: The engine's id.
        name: Its name.
        labels: Ours, without their prefix.
        running: Whether its program runs; one that was made and never started has not.
        started: When, in seconds since 1970; 0 if never.
        exit_code: How it ended; None while it runs, or if it never started.
        out_of_memory: Whether something in it was killed for memory.
    """

    id: str
    name: str
    labels: Mapping[str, str]
    running: bool
    started: float
    exit_code: int | None
    out_of_memory: bool


def launch(wanted: Wanted) -> str:
    """Start a container and leave it to itself; give its id. One that cannot start leaves nothing behind.

    Raises:
        EnvironmentMissing: the engine refuses.
    """
    made = containers.create(wanted)
    try:
        with explained():
            client().start(made)
    except BaseException:
        containers.remove(made)
        raise
    return made


def find(labels: Mapping[str, str]) -> list[Resident]:
    """Give the containers with these labels, whatever their state; an empty value stands for any.

    Raises:
        EnvironmentMissing: no engine answers.
    """
    wanted = [f"{LABEL}{key}={value}" if value else LABEL + key for key, value in labels.items()]
    found = []
    with explained():
        for entry in client().containers(all=True, filters={"label": wanted}):
            with forgiving():
                found.append(_resident(client().inspect_container(entry["Id"])))
    return found


def get(container: str) -> Resident | None:
    """Give the container of an id, or None where it is gone."""
    found: list[Resident] = []
    with explained(), forgiving():
        found.append(_resident(client().inspect_container(container)))
    return found[0] if found else None


def lines(container: str, *, follow: bool = False, tail: int | None = None) -> Iterator[str]:
    """Give the lines that a container has printed, and with `follow` those to come until it ends."""
    rest = b""
    with explained(), forgiving():
        pieces = client().logs(container, stream=True, follow=follow, tail="all" if tail is None else tail)
        for piece in pieces:
            *whole, rest = (rest + piece).split(b"\n")
            yield from (line.decode("utf-8", "replace").rstrip("\r") for line in whole)
    if rest:
        yield rest.decode("utf-8", "replace")


def stop(container: str, patience: float) -> None:
    """Ask a container to end, and kill it after so many seconds."""
    with explained(), forgiving():
        client().stop(container, timeout=round(patience))


def make_network(name: str, labels: Mapping[str, str]) -> None:
    """Make a network that only those see that are put into it; one that is there stays.

    Raises:
        EnvironmentMissing: the engine refuses.
    """
    marks = {LABEL + key: value for key, value in labels.items()}
    with explained(), forgiving():
        if not client().networks(names=[name], filters={"label": [f"{key}={value}" for key, value in marks.items()]}):
            client().create_network(name, driver="bridge", labels=marks, check_duplicate=True)


def remove_networks(labels: Mapping[str, str]) -> None:
    """Remove the networks with these labels that nobody is in."""
    with explained():
        for network in client().networks(filters={"label": [f"{LABEL}{key}={value}" for key, value in labels.items()]}):
            with forgiving(_IN_USE):
                client().remove_network(network["Id"])


def publisher(port: int) -> Resident | None:
    """Give the container that a port of this machine leads to, or None."""
    with explained():
        for entry in client().containers():
            if any(published.get("PublicPort") == port for published in entry.get("Ports") or []):
                return get(entry["Id"])
    return None


def shell_command(container: str, command: Sequence[str], *, terminal: bool) -> tuple[str, ...]:
    """Give the command line of the engine's own client that runs a command inside a container."""
    return ("docker", "exec", "--interactive", *(["--tty"] if terminal else []), container, *command)


def _resident(found: Mapping[str, object]) -> Resident:
    state, config = found["State"], found["Config"]
    assert isinstance(state, dict)
    assert isinstance(config, dict)
    labels = config.get("Labels") or {}
    never = state["Status"] == "created"
    running = bool(state["Running"])
    return Resident(
        id=str(found["Id"]),
        name=str(found["Name"]).lstrip("/"),
        labels={key.removeprefix(LABEL): value for key, value in labels.items() if key.startswith(LABEL)},
        running=running,
        started=0.0 if never else dt.datetime.fromisoformat(state["StartedAt"][:19] + "+00:00").timestamp(),
        exit_code=None if running or never else int(state["ExitCode"]),
        out_of_memory=bool(state["OOMKilled"]),
    )
