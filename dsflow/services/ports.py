"""Ports of this machine: whether one is free, who has it if not, and another one to offer."""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from dsflow.containers import engine, residents
from dsflow.errors import DsflowError, EnvironmentMissing, UsageError
from dsflow.services.contract import MARK

if TYPE_CHECKING:
    import psutil

_TRIED = 200


def check_free(port: int, address: str, who: str) -> None:
    """Refuse a port that somebody else listens on, naming them and offering a free one.

    Args:
        port: The port.
        address: The address of this machine to listen on.
        who: The service that wants it.

    Raises:
        EnvironmentMissing: it is taken, or may not be used.
        UsageError: the address is none of this machine's.
    """
    problem = _problem(port, address)
    if problem is None:
        return
    if problem == errno.EADDRNOTAVAIL:
        raise UsageError(f"{address} is no address of this machine", "127.0.0.1 is this machine alone, 0.0.0.0 all.")
    free = next((other for other in range(port + 1, port + _TRIED) if _problem(other, address) is None), None)
    offer = f"`dsflow start {who} --port {free}` uses a free one" if free else "Name another one with --port"
    if problem == errno.EACCES:
        raise EnvironmentMissing(f"you may not listen on port {port}", f"{offer}.")
    raise EnvironmentMissing(
        f"port {port} is taken by {owner(port)}", f"{offer}; `ports: {{{who}: N}}` in dsflow.yml keeps it."
    )


def next_free(port: int, address: str, kept: Collection[int]) -> int:
    """Give the first port from `port` on that nobody listens on and that is not one of those `kept`; else `port`."""
    candidates = (number for number in range(port, min(port + _TRIED, 65536)) if number not in kept)
    return next((number for number in candidates if _problem(number, address) is None), port)


def owner(port: int) -> str:
    """Say who listens on a port of this machine, as far as the caller may know."""
    with contextlib.suppress(DsflowError):
        if engine.available() is None and (container := residents.publisher(port)):
            labels = container.labels
            if "service" in labels and "workspace" in labels:
                return f"the service {labels['service']} of the workspace {labels['workspace'].rpartition('-')[0]}"
            return f"the container {container.name}"
    import psutil

    with contextlib.suppress(psutil.Error, OSError):
        for connection in psutil.net_connections("tcp"):
            address = connection.laddr
            if connection.status == psutil.CONN_LISTEN and address and address[1] == port and connection.pid:
                return _named(psutil.Process(connection.pid))
    return "another program"


def _named(process: psutil.Process) -> str:
    import psutil

    with contextlib.suppress(psutil.Error):
        environment = process.environ()
        if MARK in environment:
            name, workspace = environment[MARK].partition("/")[2], Path(environment.get("DSFLOW_WORKSPACE", ""))
            return f"the service {name} of the workspace {workspace.name}"
    return f"process {process.pid} ({' '.join(process.cmdline())[:60] or process.name()})"


def _problem(port: int, address: str) -> int | None:
    """Give the number of the error that listening there gives, or None."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as trial:
        # As servers do: connections that have just ended do not count.
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((address, port))
        except OSError as error:
            return error.errno or errno.EADDRINUSE
    return None
