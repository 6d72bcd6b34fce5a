"""What the server answers: one function for each address."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Iterable
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from dsflow import __version__
from dsflow.errors import DsflowError, UsageError, did_you_mean
from dsflow.serve import asking, gate, reference
from dsflow.serve.dispatcher import Dispatcher
from dsflow.serve.ledger import END, Entry, Happening
from dsflow.workspace import Workspace

_OPEN = frozenset({"/health", "/docs", "/openapi.json"})
_FILTERS = ("job", "ds", "status", "key")
_USUAL_LIMIT = 50
_LARGEST_LIMIT = 1000
_LOOK_SECONDS = 0.1
_HEARTBEAT_SECONDS = 10.0
_PAGE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def application(workspace: Workspace, dispatcher: Dispatcher, token: str) -> gate.App:
    """Give the whole application behind its gate.

    Args:
        workspace: Whose jobs may be run.
        dispatcher: Who runs them.
        token: What callers must show.
    """
    api = _Api(workspace, dispatcher)
    routes = [
        Route("/health", api.health, methods=["GET"]),
        Route("/docs", _docs, methods=["GET"]),
        Route("/openapi.json", _openapi, methods=["GET"]),
        Route("/runs", api.runs, methods=["GET", "POST"]),
        Route("/runs/{run}", api.show, methods=["GET"]),
        Route("/runs/{run}/events", api.events, methods=["GET"]),
        Route("/runs/{run}/cancel", api.cancel, methods=["POST"]),
    ]
    handlers: Any = {HTTPException: gate.on_refusal, DsflowError: gate.on_error, Exception: gate.on_bug}
    for route in routes:
        assert route.methods is not None
        route.methods.discard("HEAD")
    inside = Starlette(routes=routes, exception_handlers=handlers)
    inside.router.redirect_slashes = False
    return gate.Gate(inside, token, _OPEN)


class _Api:
    def __init__(self, workspace: Workspace, dispatcher: Dispatcher) -> None:
        self._workspace = workspace
        self._dispatcher = dispatcher

    async def health(self, request: Request) -> Response:
        running, queued = self._dispatcher.counts()
        return JSONResponse({"status": "ok", "version": __version__, "running": running, "queued": queued})

    async def runs(self, request: Request) -> Response:
        return await (self._accepted(request) if request.method == "POST" else self._recent(request))

    async def _accepted(self, request: Request) -> Response:
        body = await gate.body_of(request)
        entry, is_new = await run_in_threadpool(self._accept, body)
        return JSONResponse(entry.view(), 202 if is_new else 200, {"Location": f"/runs/{entry.id}"})

    def _accept(self, body: bytes) -> tuple[Entry, bool]:
        wanted, secrets = asking.read(body)
        known = self._dispatcher.known(wanted)
        if known is not None:
            return known, False
        return self._dispatcher.submit(asking.resolved(self._workspace, wanted, secrets), secrets)

    async def _recent(self, request: Request) -> Response:
        wanted, limit = _filters(request)
        return JSONResponse({"runs": await run_in_threadpool(self._views, wanted, limit)})

    def _views(self, wanted: dict[str, str], limit: int) -> list[dict[str, Any]]:
        views = (entry.view() for entry in self._dispatcher.latest())
        matching = (view for view in views if all(view[name] == value for name, value in wanted.items()))
        return list(itertools.islice(matching, limit))

    async def show(self, request: Request) -> Response:
        return JSONResponse(self._entry(request).view())

    async def cancel(self, request: Request) -> Response:
        entry = self._entry(request)
        asked = await run_in_threadpool(self._dispatcher.cancel, entry)
        return JSONResponse(entry.view(), 202 if asked else 200)

    async def events(self, request: Request) -> Response:
        entry = self._entry(request)
        position = _position(request)
        entry.check_position(position)
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(_told(entry, position), media_type="text/event-stream", headers=headers)

    def _entry(self, request: Request) -> Entry:
        run = request.path_params["run"]
        entry = self._dispatcher.get(run)
        if entry is None:
            raise gate.Refusal(404, f"there is no run {run[:60]!r}", "GET /runs lists the runs of this server.")
        return entry


async def _docs(request: Request) -> Response:
    return HTMLResponse(reference.page(), headers={"Content-Security-Policy": _PAGE_POLICY})


async def _openapi(request: Request) -> Response:
    return JSONResponse(reference.document())


async def _told(entry: Entry, position: int) -> AsyncIterator[str]:
    """Give the events of a run as they happen, and a comment where nothing does."""
    said = time.monotonic()
    while True:
        try:
            happened = entry.happenings(position)
        except FileNotFoundError:
            return  # the run was forgotten
        if happened:
            position, said = happened[-1].position, time.monotonic()
            yield _as_text(happened)
            if happened[-1].kind == END:
                return
            continue
        if time.monotonic() - said > _HEARTBEAT_SECONDS:
            said = time.monotonic()
            yield ": nothing new\n\n"
        await asyncio.sleep(_LOOK_SECONDS)


def _as_text(happened: Iterable[Happening]) -> str:
    return "".join(f"id: {each.position}\nevent: {each.kind}\ndata: {each.data}\n\n" for each in happened)


def _position(request: Request) -> int:
    text = request.headers.get("last-event-id", "0")
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise UsageError(f"Last-Event-ID {text[:40]!r} is no id of an event", "Begin with 0.")
    return int(text)


def _filters(request: Request) -> tuple[dict[str, str], int]:
    known = (*_FILTERS, "limit")
    for name in request.query_params:
        if name not in known:
            raise UsageError(f"{name[:60]!r}: unknown filter{did_you_mean(name, known)}", f"Known: {', '.join(known)}.")
    limit = request.query_params.get("limit", str(_USUAL_LIMIT))
    if not (limit.isascii() and limit.isdigit() and 1 <= int(limit[:9]) <= _LARGEST_LIMIT):
        raise UsageError(f"limit: expected a number from 1 to {_LARGEST_LIMIT}, got {limit[:40]!r}")
    return {name: request.query_params[name] for name in _FILTERS if name in request.query_params}, int(limit)
