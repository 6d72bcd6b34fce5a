"""The server process: one for a workspace, on a unix socket and, if asked, on 127.0.0.1."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from dsflow import __version__, durable
from dsflow.errors import EnvironmentMissing, PartitionLocked
from dsflow.serve import api, gate
from dsflow.serve.client import short
from dsflow.serve.dispatcher import Dispatcher
from dsflow.serve.ledger import now
from dsflow.serve.places import Places
from dsflow.store import locks
from dsflow.workspace import Workspace

_MOST_QUEUED = 1000
_BACKLOG = 128
# Somebody who only looks whether the lock is held has it for a moment.
_LOOKS = 20
_LOOK_SECONDS = 0.05
_ENDING_SECONDS = 30.0
_ANSWERING_SECONDS = 5
# From the connection to the end of the head of the first request.
_ASKING_SECONDS = 10.0


def serve(workspace: Workspace, *, port: int | None, at_once: int, ready: Callable[[Places], None]) -> None:
    """Serve a workspace until a signal ends it; what runs then is ended too.

    Args:
        workspace: Whose jobs may be run.
        port: Listen on 127.0.0.1 there too.
        at_once: How many runs are at work at a time.
        ready: Called when requests are answered.

    Raises:
        EnvironmentMissing: the workspace has a server already, the port is taken, or the folder cannot be written.
    """
    places = Places.of(workspace)
    places.make()
    with _only_one(places), contextlib.ExitStack() as open_sockets:
        listening = [open_sockets.enter_context(_unix_socket(places))]
        if port is not None:
            listening.append(open_sockets.enter_context(_port(port)))
        token = places.read_or_make_token()
        dispatcher = Dispatcher(workspace, at_once=at_once, most_queued=_MOST_QUEUED)
        dispatcher.open()
        card = {"pid": os.getpid(), "port": port, "version": __version__, "started": now()}
        durable.write_text(places.card, json.dumps(card))
        app = api.application(workspace, dispatcher, token)
        asyncio.run(_answer(app, listening, dispatcher, lambda: ready(places)))


@contextlib.contextmanager
def _only_one(places: Places) -> Iterator[None]:
    with contextlib.ExitStack() as held:
        for look in range(_LOOKS):
            try:
                held.enter_context(locks.lock(places.lock, str(os.getpid())))
                break
            except PartitionLocked:
                if look == _LOOKS - 1:
                    pid = places.read_card().get("pid", "another one")
                    raise EnvironmentMissing(
                        f"this workspace has a server already (process {pid})", "It is at .dsflow/serve/socket."
                    ) from None
                time.sleep(_LOOK_SECONDS)
        yield


@contextlib.contextmanager
def _unix_socket(places: Places) -> Iterator[socket.socket]:
    """Listen on the socket of the workspace; one that is there was left behind, for we hold the lock."""
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    places.socket.unlink(missing_ok=True)
    try:
        with short(str(places.socket)) as path:
            listening.bind(path)
        places.socket.chmod(0o600)
        listening.listen(_BACKLOG)
    except OSError as error:
        listening.close()
        raise EnvironmentMissing(
            f"cannot listen on {places.socket}: {error}", "A workspace with a shorter path may be what is needed."
        ) from None
    try:
        yield listening
    finally:
        listening.close()
        places.socket.unlink(missing_ok=True)


@contextlib.contextmanager
def _port(number: int) -> Iterator[socket.socket]:
    listening = socket.socket()
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", number))
        listening.listen(_BACKLOG)
    except OSError as error:
        listening.close()
        raise EnvironmentMissing(
            f"cannot listen on port {number} of 127.0.0.1: {error.strerror}", "Take another one: `--port N`."
        ) from None
    with listening:
        yield listening


class _Protocol(H11Protocol):
    """HTTP whose refusals are JSON too, where a request is none; who asks nothing is not waited for."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        asyncio.get_running_loop().call_later(_ASKING_SECONDS, self._hang_up)

    def _hang_up(self) -> None:
        asked: object | None = self.cycle
        if asked is None:
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        refused = gate.answer(400, "this is no HTTP request")
        head = [b"HTTP/1.1 400 Bad Request", *(name + b": " + value for name, value in refused.raw_headers)]
        self.transport.write(b"\r\n".join([*head, b"connection: close", b"", bytes(refused.body)]))
        self.transport.close()


class _Server(uvicorn.Server):
    """Leaves the signals to us, and says when it answers."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()


async def _answer(
    app: gate.App, listening: list[socket.socket], dispatcher: Dispatcher, ready: Callable[[], None]
) -> None:
    """Answer requests until a signal comes; those who follow a run learn of its end before the end."""
    config = uvicorn.Config(
        app, http=_Protocol, ws="none", loop="none", lifespan="off", log_config=None, access_log=False,
        server_header=False, timeout_graceful_shutdown=_ANSWERING_SECONDS, backlog=_BACKLOG,
    )  # fmt: skip
    server = _Server(config, ready)
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, ended.set)
    answering = asyncio.create_task(server.serve(sockets=listening))
    ending = asyncio.create_task(ended.wait())
    await asyncio.wait((answering, ending), return_when=asyncio.FIRST_COMPLETED)
    ending.cancel()
    await asyncio.to_thread(dispatcher.close, _ENDING_SECONDS)
    server.should_exit = True
    await answering
