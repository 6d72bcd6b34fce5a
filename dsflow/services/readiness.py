"""Waiting until a service answers."""

from __future__ import annotations

import contextlib
import http.client
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from dsflow.quantities import seconds
from dsflow.rendering import render
from dsflow.services.contract import LOOPBACK, Found, Place, Service
from dsflow.specs.load import Readiness

_PAUSES = (0.05, 0.5)
# The first answer of a program may take as long as it loads.
_ONE_ANSWER = 10.0


@dataclass(frozen=True, kw_only=True)
class Question:
    """What to ask a service, and where: at a port of this machine, or at a unix socket."""

    path: str
    host: str
    port: int | None
    socket: str | None
    timeout: float


def question(service: Service, place: Place, names: Mapping[str, str]) -> Question | None:
    """Give what to ask a service; None where its file does not say, and no port tells either.

    Args:
        service: The service.
        place: Where it listens.
        names: What its file may use in `{{ }}`, with the paths of this machine.
    """
    asked, ports = service.spec.readiness, service.spec.ports
    if asked is None and not ports:
        return None
    asked = asked or Readiness()
    port = place.port if asked.port in (None, *ports[:1]) else asked.port
    host = LOOPBACK if place.address in ("0.0.0.0", "::", "") else place.address
    where = f"{service.name}: readiness.socket"
    at = render(asked.socket, names, where) if asked.socket else None
    return Question(path=asked.path, host=host, port=port, socket=at, timeout=seconds(asked.timeout))


def answers(asked: Question | None, patience: float = _ONE_ANSWER) -> bool:
    """Say whether a service gives an HTTP answer below 500 now; one that has nothing to ask is ready.

    Args:
        asked: What to ask.
        patience: How long the answer may take, in seconds.
    """
    if asked is None or not (asked.socket or asked.port):
        return True
    with contextlib.suppress(OSError, http.client.HTTPException):
        connection = _AtSocket(asked.socket, patience) if asked.socket else _at_port(asked, patience)
        try:
            connection.request("GET", asked.path)
            return connection.getresponse().status < 500
        finally:
            connection.close()
    return False


def wait(asked: Question | None, found: Found, look: Callable[[], Found | None]) -> Found | None:
    """Wait until a service answers; give it as it is then, running or ended, or None if the time is over.

    Args:
        asked: What to ask.
        found: The service as it was started.
        look: Gives the service as it is now, or None where it is gone.
    """
    deadline, pause = time.monotonic() + (asked.timeout if asked else 0), _PAUSES[0]
    while True:
        now = look()
        if now is None or now.status != "running" or answers(asked):
            return now or replace(found, status="ended", cause="somebody stopped it")
        if time.monotonic() >= deadline:
            return None
        time.sleep(pause)
        pause = min(pause * 1.3, _PAUSES[1])


def _at_port(asked: Question, patience: float) -> http.client.HTTPConnection:
    return http.client.HTTPConnection(asked.host, asked.port, timeout=patience)


class _AtSocket(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str, patience: float) -> None:
        super().__init__("localhost", timeout=patience)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)
