"""The client of `dsflow serve`: one file, the standard library only, so that it can be copied to where dsflow is not.

Run a job and print its log, whatever happens to the server meanwhile:

    client = Client.of("/dsflow")  # the folder with `socket` and `token`
    accepted = client.submit("create-table-weather", "2013-01-01", key="my-own-name-for-this-run")
    for event in client.follow(accepted["id"]):
        if event.kind == "log":
            print(event.data["text"])
    print(event.data["exit_code"])  # of the last event, `end`
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import sys
import time
import urllib.parse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

# The server says something at least every ten seconds; a connection that is silent for longer is dead.
_SILENCE_SECONDS = 45.0
_PATIENCE_SECONDS = 300.0
_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 5.0
# The kernel keeps the address of a unix socket in so many bytes.
_LONGEST_SOCKET_PATH = 100
_AWAY = (502, 503, 504)


class Event(NamedTuple):
    """Something that happened to a run: where to go on from, what kind it is (`log`, ..., `end`), and what it says."""

    id: int
    kind: str
    data: dict[str, Any]


class Refused(Exception):
    """The server answered, and the answer is no.

    `status` is HTTP's, `exit_code` what `dsflow run` would have ended with.
    """

    def __init__(self, message: str, hint: str = "", *, status: int = 0, exit_code: int = 1) -> None:
        super().__init__(f"{message}\n{hint}" if hint else message)
        self.message = message
        self.hint = hint
        self.status = status
        self.exit_code = exit_code


class Unreachable(Refused):
    """No server answers, or none has answered for longer than the patience."""


class Client:
    """Asks a server to run jobs, and follows them.

    Args:
        socket_path: The unix socket of the server.
        token: What the server wants to see, or None to read `token_path` before each request.
        token_path: The file with the token; a server that starts anew may have a new one.
        port: Talk to 127.0.0.1 (or `host`) at this port instead of to the socket.
        host: The name of the machine where `port` is.
    """

    def __init__(
        self,
        socket_path: str | os.PathLike[str] | None = None,
        *,
        token: str | None = None,
        token_path: str | os.PathLike[str] | None = None,
        port: int | None = None,
        host: str = "127.0.0.1",
    ) -> None:
        self._socket_path = None if socket_path is None else os.fspath(socket_path)
        self._token = token
        self._token_path = token_path
        self._port = port
        self._host = host

    @classmethod
    def of(cls, folder: str | os.PathLike[str]) -> Client:
        """Give the client of the server whose `socket` and `token` are in a folder (a workspace's `.dsflow/serve`)."""
        return cls(Path(folder, "socket"), token_path=Path(folder, "token"))

    def health(self) -> dict[str, Any]:
        """Give what the server says of itself: `version`, `running`, `queued`."""
        return self._ask("GET", "/health")

    def run(
        self,
        job: str,
        ds: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        *,
        key: str | None = None,
        if_stale: bool = False,
        retries: int | None = None,
    ) -> dict[str, Any]:
        """Ask once for a run of a job; it is on its way when this returns.

        Args:
            job: The job's name.
            ds: The date, as on the command line; today where None.
            parameters: Values by name.
            key: The caller's own name for this run. Asked with the same key again, the server gives the run it has.
            if_stale: Leave the partition alone where it is fresh.
            retries: How often a failed run is tried again; as the job's spec says where None.

        Returns:
            The run as it stands; its `id` is what the other methods take.
        """
        wanted = {
            "job": job, "ds": ds, "parameters": dict(parameters or {}), "key": key, "if_stale": if_stale,
            "retries": retries,
        }  # fmt: skip
        return self._ask("POST", "/runs", {name: value for name, value in wanted.items() if value is not None})

    def submit(
        self,
        job: str,
        ds: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        *,
        key: str,
        if_stale: bool = False,
        retries: int | None = None,
        patience: float = _PATIENCE_SECONDS,
    ) -> dict[str, Any]:
        """Ask for a run as `run` does, again and again while the server is away or full; the key makes it one run.

        Raises:
            Unreachable: no server answered within `patience` seconds.
            Refused: it refused.
        """
        pauses = _Pauses(patience)
        while True:
            try:
                return self.run(job, ds, parameters, key=key, if_stale=if_stale, retries=retries)
            except Unreachable as error:
                pauses.pause_or_raise(error)
            except Refused as error:
                if error.status != 429:
                    raise
                pauses.pause_or_raise(error)

    def get(self, run: str) -> dict[str, Any]:
        """Give a run as it stands."""
        return self._ask("GET", f"/runs/{urllib.parse.quote(run, safe='')}")

    def list(self, **wanted: str | int) -> list[dict[str, Any]]:
        """Give the latest runs, newest first; `job`, `ds`, `status`, `key` and `limit` narrow them."""
        runs: list[dict[str, Any]] = self._ask("GET", f"/runs?{urllib.parse.urlencode(wanted)}")["runs"]
        return runs

    def cancel(self, run: str) -> dict[str, Any]:
        """Ask for the end of a run; one that has ended stays as it is. Within ten seconds nothing of it runs."""
        return self._ask("POST", f"/runs/{urllib.parse.quote(run, safe='')}/cancel")

    def events(self, run: str, after: int = 0) -> Iterator[Event]:
        """Give what happens to a run over one connection, from the beginning or from where another one stopped.

        Args:
            run: The run's id.
            after: The `id` of the last event that is known.

        Raises:
            Unreachable: the connection was lost before the event `end`.
            Refused: the server refused.
        """
        yield from self._events(run, after, _Pauses(0))

    def follow(self, run: str, after: int = 0, *, patience: float = _PATIENCE_SECONDS) -> Iterator[Event]:
        """Give what happens to a run until it has ended, whatever happens to the connection or to the server.

        Args:
            run: The run's id.
            after: The `id` of the last event that is known.
            patience: Seconds without a server before giving up.

        Raises:
            Unreachable: no server answered for that long. The run may well go on.
            Refused: the server refused.
        """
        pauses = _Pauses(patience)
        while True:
            try:
                for event in self._events(run, after, pauses):
                    after = event.id
                    yield event
                return
            except Unreachable as error:
                pauses.pause_or_raise(error)

    def _events(self, run: str, after: int, pauses: _Pauses) -> Iterator[Event]:
        path = f"/runs/{urllib.parse.quote(run, safe='')}/events"
        with self._open("GET", path, headers={"Last-Event-ID": str(after)}) as answer:
            _checked(answer)
            pauses.reset()
            for event in _parsed(answer):
                yield event
                if event.kind == "end":
                    return
        raise Unreachable("the server ended the connection before the run had ended")

    def _ask(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        with self._open(method, path, body) as answer:
            return _checked(answer) or {}

    @contextlib.contextmanager
    def _open(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> Iterator[http.client.HTTPResponse]:
        sent = {"Authorization": f"Bearer {self._read_token()}", "Accept": "application/json", **(headers or {})}
        content = None if body is None else json.dumps(body).encode()
        if content is not None:
            sent["Content-Type"] = "application/json"
        connection = self._connection()
        try:
            connection.request(method, path, content, sent)
            yield connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            raise Unreachable(
                f"no dsflow server answers at {self._where}: {str(error) or type(error).__name__}",
                "Start it in the workspace: `dsflow serve --detach`.",
            ) from error
        finally:
            connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        if self._port is not None:
            return http.client.HTTPConnection(self._host, self._port, timeout=_SILENCE_SECONDS)
        assert self._socket_path is not None, "a client needs a socket or a port"
        return _UnixConnection(self._socket_path)

    def _read_token(self) -> str:
        if self._token is not None:
            return self._token
        try:
            return Path(self._token_path or "").read_text(encoding="ascii").strip()
        except OSError as error:
            raise Unreachable(
                f"the token {self._token_path} cannot be read: {error.strerror}", "Is `dsflow serve` running?"
            ) from error

    @property
    def _where(self) -> str:
        return f"{self._host}:{self._port}" if self._port is not None else str(self._socket_path)


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=_SILENCE_SECONDS)
        self._path = path

    def connect(self) -> None:
        """Connect; a path that is too long for the kernel is reached through its folder."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        with short(self._path) as path:
            self.sock.connect(path)


@contextlib.contextmanager
def short(path: str) -> Iterator[str]:
    """Give an address for a unix socket at a path, however long that is.

    Raises:
        OSError: the folder is not there, or the path is too long for this system.
    """
    if len(os.fsencode(path)) <= _LONGEST_SOCKET_PATH or sys.platform != "linux":
        yield path
        return
    folder = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY)  # noqa: PTH120  # path is a text
    try:
        yield f"/proc/self/fd/{folder}/{os.path.basename(path)}"  # noqa: PTH119
    finally:
        os.close(folder)


class _Pauses:
    """Longer and longer pauses between attempts, for so many seconds after the first that failed."""

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self.reset()

    def reset(self) -> None:
        """Begin anew: an attempt has succeeded."""
        self._deadline: float | None = None
        self._next = _FIRST_PAUSE_SECONDS

    def pause_or_raise(self, error: Refused) -> None:
        """Wait before the next attempt; raise where there is no time left for one."""
        if self._deadline is None:
            self._deadline = time.monotonic() + self._patience
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise error
        time.sleep(min(self._next, left))
        self._next = min(2 * self._next, _LONGEST_PAUSE_SECONDS)


def _checked(answer: http.client.HTTPResponse) -> dict[str, Any] | None:
    """Give the JSON of an answer, None where it is a stream of events.

    Raises:
        Refused: the answer is an error.
        Unreachable: the server is just ending.
    """
    if answer.status == 200 and answer.getheader("Content-Type", "").startswith("text/event-stream"):
        return None
    text = answer.read()
    try:
        document = json.loads(text)
    except ValueError:
        document = {"error": f"HTTP {answer.status}: {text[:200].decode(errors='replace')}"}
    if answer.status < 300:
        found: dict[str, Any] = document
        return found
    refusal = Unreachable if answer.status in _AWAY else Refused
    raise refusal(
        str(document.get("error", f"HTTP {answer.status}")),
        str(document.get("hint", "")),
        status=answer.status,
        exit_code=int(document.get("exit_code", 1)),
    )


def _parsed(answer: http.client.HTTPResponse) -> Iterator[Event]:
    """Read server-sent events; lines that begin with a colon only say that the server is there."""
    fields: dict[str, str] = {}
    for line in answer:
        text = line.decode().rstrip("\r\n")
        if not text:
            if "data" in fields:
                yield Event(int(fields["id"]), fields["event"], json.loads(fields["data"]))
            fields = {}
            continue
        name, _, value = text.partition(": ")
        if name in ("id", "event", "data"):
            fields[name] = value
