"""The runs that a server has accepted, on the disk: what was asked, how it stands, and what has happened.

A run is a folder. The server makes it, a keeper (`dsflow.serve.keeper`) fills it, and whoever comes after a crash can
tell from it alone how the run stands: no keeper has begun (no `state.json`), one is at work (it holds the lock of
`alive`), one has died (nobody holds it), or the run has ended.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from dsflow import durable, model
from dsflow.errors import UsageError
from dsflow.masking import MASK
from dsflow.store import locks

QUEUED = "queued"
RUNNING = "running"
END = "end"
# So many ended runs are remembered; their own folders and the history keep them longer.
_REMEMBERED = 1000
_MOST_AT_ONCE = 1 << 18


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a caller asked for. Values of secret parameters are in a file of their own until the run begins.

    Attributes:
        id: The server's name for the run.
        key: The caller's name for it.
        job: The job.
        ds: The date that it stands for, or the positional value of a version '0.1' job.
        asked: The date as the caller said it.
        parameters: Values by name, as text.
        secret_parameters: Names of the others.
        if_stale: Leave a fresh partition alone.
        retries: How often a failed run is tried again; as the job says where None.
        accepted: When, ISO 8601 in UTC.
    """

    id: str
    job: str
    ds: str | None
    asked: str | None
    accepted: str
    key: str | None = None
    parameters: dict[str, str] = field(default_factory=dict)
    secret_parameters: tuple[str, ...] = ()
    if_stale: bool = False
    retries: int | None = None

    def is_for_the_same(self, other: Request) -> bool:
        """Say whether two requests ask for the same; secret values are not compared."""
        mine, theirs = (
            (r.job, r.asked, r.parameters, sorted(r.secret_parameters), r.if_stale, r.retries) for r in (self, other)
        )
        return mine == theirs


@dataclass(frozen=True, kw_only=True)
class State:
    """How a run stands; `status` is `queued`, `running` or a value of `Status`."""

    status: str = QUEUED
    exit_code: int | None = None
    started: str | None = None
    finished: str | None = None
    run_ids: tuple[str, ...] = ()
    folder: str | None = None
    error: dict[str, str] | None = None

    @property
    def has_ended(self) -> bool:
        """Say whether this is how the run ended."""
        return self.status not in (QUEUED, RUNNING)


class Happening(NamedTuple):
    """An event of a run: where the next one begins in the file, its kind, and its data as JSON."""

    position: int
    kind: str
    data: str


def now() -> str:
    """Give this moment as all documents have it."""
    return dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds")


class Entry:
    """One accepted run.

    Args:
        folder: Its folder.
        request: What was asked.
    """

    def __init__(self, folder: Path, request: Request) -> None:
        self.folder = folder
        self.request = request

    @classmethod
    def read(cls, folder: Path) -> Entry:
        """Give the run of a folder.

        Raises:
            ValueError: it is damaged.
            OSError: it cannot be read.
        """
        return cls(folder, model.from_json(Request, (folder / "request.json").read_text(encoding="utf-8")))

    @property
    def id(self) -> str:
        """The server's name for the run."""
        return self.request.id

    @property
    def events(self) -> Path:
        """What has happened, a line each."""
        return self.folder / "events"

    @property
    def alive(self) -> Path:
        """Locked by the run's keeper."""
        return self.folder / "alive"

    @property
    def words(self) -> Path:
        """What the keeper itself printed: nothing, where all is well."""
        return self.folder / "keeper.log"

    def state(self) -> State:
        """Give how the run stands."""
        try:
            return model.from_json(State, (self.folder / "state.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return State()

    def write_state(self, state: State) -> None:
        """Keep how the run stands."""
        durable.write_text(self.folder / "state.json", model.to_json(state))

    def view(self) -> dict[str, Any]:
        """Give the run as callers see it."""
        asked = dataclasses.asdict(self.request)
        shown = {name: asked[name] for name in ("id", "key", "job", "ds", "if_stale", "accepted")}
        hidden = dict.fromkeys(self.request.secret_parameters, MASK)
        state = self.state()
        if state.status == QUEUED and self.alive.exists():
            # Its keeper has been started, and has not come to say so.
            state = State(status=RUNNING)
        return {**shown, "parameters": {**self.request.parameters, **hidden}, **dataclasses.asdict(state)}

    def take_secrets(self) -> dict[str, str]:
        """Give the values of the secret parameters; they are not on the disk any more afterwards."""
        path = self.folder / "secrets.json"
        try:
            found: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        path.unlink()
        return found

    def happened(self, kind: str, data: dict[str, Any]) -> int:
        """Append an event in one write, and give the size of the line."""
        line = f"{kind} {json.dumps(data)}\n".encode()
        handle = os.open(self.events, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            return os.write(handle, line)
        finally:
            os.close(handle)

    def check_position(self, position: int) -> None:
        """Make sure that an event ends at a position.

        Raises:
            UsageError: none does.
        """
        with contextlib.suppress(OSError), self.events.open("rb") as file:
            if position == 0:
                return
            file.seek(position - 1)
            if file.read(1) == b"\n":
                return
        raise UsageError(f"Last-Event-ID {position}: no event of run {self.id} has this id", "Begin with 0.")

    def happenings(self, position: int) -> list[Happening]:
        """Give events that follow a position: some, where there are many; none, where there are none yet."""
        found: list[Happening] = []
        with self.events.open("rb") as file:
            file.seek(position)
            text = file.read(_MOST_AT_ONCE)
            if b"\n" not in text and len(text) == _MOST_AT_ONCE:
                text += file.readline()
        for line in text.split(b"\n")[:-1]:
            position += len(line) + 1
            kind, _, data = line.decode(errors="replace").partition(" ")
            if data.endswith("}"):
                found.append(Happening(position, kind, data))
        return found

    def end(self, state: State) -> None:
        """Keep how the run ended, and tell those who follow it."""
        self.write_state(state)
        with contextlib.suppress(FileNotFoundError):
            self.folder.joinpath("secrets.json").unlink()
        self.tell_the_end()

    def tell_the_end(self) -> None:
        """Append the last event where it is missing; what a killed writer left of a line is closed before."""
        last = b"\n"
        with contextlib.suppress(OSError), self.events.open("rb") as file:
            file.seek(max(0, self.events.stat().st_size - _MOST_AT_ONCE))
            last = file.read()
        if not last.endswith(b"\n"):
            with self.events.open("ab") as file:
                file.write(b"\n")
        elif last.rstrip(b"\n").rpartition(b"\n")[2].startswith(END.encode() + b" "):
            return
        self.happened(END, self.view())

    @property
    def is_cancelled(self) -> bool:
        """Say whether somebody asked for its end."""
        return (self.folder / "cancelled").exists()

    def cancel(self) -> None:
        """Note that somebody asked for its end, for whoever looks at it after a crash."""
        (self.folder / "cancelled").touch(0o600)

    @property
    def is_kept(self) -> bool:
        """Say whether a keeper is at work on it."""
        return locks.is_held(self.alive)

    def lock(self) -> int:
        """Take the lock for a keeper that is about to be started, and give the open file that holds it."""
        handle = os.open(self.alive, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        # Nobody else has it for longer than a look takes.
        fcntl.flock(handle, fcntl.LOCK_EX)
        return handle

    def unlock(self) -> None:
        """Take back that a keeper was about to be started; none was."""
        self.alive.unlink(missing_ok=True)

    def await_keeper(self) -> None:
        """Return when no keeper is at work any more, however it ended."""
        handle = os.open(self.alive, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_SH)
        finally:
            os.close(handle)

    def keeper(self) -> int | None:
        """Give the process id of the keeper at work; None where there is none, or it has only just begun."""
        if not self.is_kept:
            return None
        with contextlib.suppress(OSError, ValueError):
            return int(self.alive.read_text(encoding="ascii"))
        return None


class Ledger:
    """All accepted runs of a workspace.

    Args:
        folder: The folder of their folders.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def accept(self, request: Request, secrets: dict[str, str]) -> Entry:
        """Keep a new run; it is on the disk, whole, when this returns."""
        entry = Entry(self._folder / request.id, request)
        making = self._folder / f".{request.id}"
        with durable.explained(self._folder):
            making.mkdir(mode=0o700)
            _write_private(making / "request.json", model.to_json(request))
            if secrets:
                _write_private(making / "secrets.json", json.dumps(secrets))
            Entry(making, request).happened("accepted", {"job": request.job, "ds": request.ds})
            durable.fsync_tree(making)
            making.rename(entry.folder)
            durable.fsync_folder(self._folder)
        return entry

    def entries(self) -> Iterator[Entry]:
        """Give all runs, oldest first; what a crash left half made is removed."""
        for folder in sorted(self._folder.iterdir()):
            if folder.name.startswith("."):
                durable.remove_tree(folder)
                continue
            with contextlib.suppress(OSError, ValueError):
                yield Entry.read(folder)

    def forget(self, ended: list[Entry]) -> list[Entry]:
        """Remove the oldest of the ended runs where there are too many, and give those that were removed."""
        surplus = sorted(ended, key=lambda entry: entry.id)[: max(0, len(ended) - _REMEMBERED)]
        for entry in surplus:
            durable.remove_tree(entry.folder)
        return surplus


def _write_private(path: Path, text: str) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
