"""What every request passes before it is looked at: the token, the limits; and every refusal as JSON."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from dsflow.errors import Bug, DsflowError, EnvironmentMissing, UsageError
from dsflow.serve.dispatcher import Closing, Full, Taken

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

LARGEST_BODY = 64 << 10
MOST_REQUESTS = 256
_BODY_SECONDS = 20.0
_STATUS: tuple[tuple[type[DsflowError], int], ...] = (
    (Taken, 409),
    (Full, 429),
    (Closing, 503),
    (UsageError, 400),
    (EnvironmentMissing, 424),
    (DsflowError, 500),
)


class Refusal(HTTPException):
    """An answer that is not what the caller hoped for; nothing of dsflow failed."""

    def __init__(self, status: int, message: str, hint: str = "", headers: dict[str, str] | None = None) -> None:
        super().__init__(status, message, headers)
        self.hint = hint


class Gate:
    """Lets requests through that show the token, unless there are too many already.

    Args:
        app: What is behind it.
        token: What a request must show.
        open_paths: What needs no token.
    """

    def __init__(self, app: App, token: str, open_paths: frozenset[str]) -> None:
        self._app = app
        self._expected = f"Bearer {token}".encode()
        self._open_paths = open_paths
        self._inside = 0

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            return
        refused = self._refused(scope)
        if refused is not None:
            await refused(scope, receive, send)
            return
        self._inside += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._inside -= 1

    def _refused(self, scope: MutableMapping[str, Any]) -> Response | None:
        headers = dict(scope["headers"])
        # Compared as bytes, and in the same time whatever is shown.
        shown = hmac.compare_digest(headers.get(b"authorization", b""), self._expected)
        if not shown and scope["path"] not in self._open_paths:
            hint = "Send `Authorization: Bearer TOKEN`; the token is in .dsflow/serve/token of the workspace."
            return answer(401, "this needs the token of the server", hint, headers={"WWW-Authenticate": "Bearer"})
        if self._inside >= MOST_REQUESTS:
            return answer(503, "too many requests at a time", "Ask again later.", headers={"Retry-After": "1"})
        return None


async def body_of(request: Request) -> bytes:
    """Give the body of a request.

    Raises:
        Refusal: it is too large, or does not come.
    """
    text = b""
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            async for piece in request.stream():
                text += piece
                if len(text) > LARGEST_BODY:
                    raise Refusal(413, f"the body is larger than {LARGEST_BODY >> 10} KiB")
    except TimeoutError:
        raise Refusal(408, "the body did not come") from None
    return text


def answer(
    status: int, message: str, hint: str = "", exit_code: int = 2, headers: dict[str, str] | None = None
) -> Response:
    """Give a refusal as callers read it."""
    document = {"error": message, "hint": hint, "exit_code": exit_code}
    return JSONResponse(document, status, headers)


def on_refusal(request: Request, error: Exception) -> Response:
    """Answer what the router, or one of the handlers, refused."""
    assert isinstance(error, HTTPException)
    words = {404: f"there is nothing at {request.url.path[:200]}", 405: f"{request.method} is not for this address"}
    message = error.detail if isinstance(error, Refusal) else words.get(error.status_code, error.detail)
    hint = error.hint if isinstance(error, Refusal) else "GET /docs explains what there is."
    return answer(error.status_code, message, hint, headers=dict(error.headers or {}))


def on_error(request: Request, error: Exception) -> Response:
    """Answer what dsflow refused."""
    assert isinstance(error, DsflowError)
    status = next(status for kind, status in _STATUS if isinstance(error, kind))
    return answer(status, error.message, error.hint, error.exit_code)


def on_bug(request: Request, error: Exception) -> Response:
    """Answer what nobody expected; the framework passes it on to the log."""
    bug = Bug(f"this is a bug in dsflow ({type(error).__name__}: {error})", "The log of the server has the report.")
    return answer(500, bug.message, bug.hint, bug.exit_code)
