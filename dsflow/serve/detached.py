"""The server in the background: found where it runs, started where it does not, and stopped with all that it runs."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable

from dsflow.errors import EnvironmentMissing
from dsflow.serve.client import Client, Refused
from dsflow.serve.ledger import Entry, Ledger
from dsflow.serve.places import Places
from dsflow.store import locks
from dsflow.workspace import Workspace

_EXTRA = ("starlette", "uvicorn")
_START_SECONDS = 60.0
_STOP_SECONDS = 45.0
_KEEPER_SECONDS = 5.0
_LOOK_SECONDS = 0.05


def check_extra() -> None:
    """Make sure that the libraries of the server are installed.

    Raises:
        EnvironmentMissing: they are not.
    """
    missing = [name for name in _EXTRA if importlib.util.find_spec(name) is None]
    if missing:
        raise EnvironmentMissing(
            f"`dsflow serve` needs {' and '.join(missing)}", "`pip install 'dsflow[serve]'` brings them."
        )


def ensure_serving(workspace: Workspace, *, port: int | None = None, at_once: int | None = None) -> Places:
    """Give the server of a workspace, started in the background where there is none.

    Args:
        workspace: The workspace.
        port: Where a new one listens on 127.0.0.1 too.
        at_once: How many runs a new one has at work at a time; one per processor where None.

    Returns:
        Its places: `door` is the folder with `socket` and `token`.

    Raises:
        EnvironmentMissing: it cannot be started, with the last words of its log; or it is there and not at that port.
    """
    places = Places.of(workspace)
    if not _answers(places):
        check_extra()
        places.make()
        # One after the other: a second one that is only just starting must not take the place of one that is stopped.
        with locks.lock(places.beginning, str(os.getpid()), wait=True):
            if not _answers(places):
                _start(places, port, at_once)
    if port is not None and places.read_card().get("port") != port:
        raise EnvironmentMissing(
            f"the server of this workspace runs already, and not at port {port}", "End it first: `dsflow serve --stop`."
        )
    return places


def _start(places: Places, port: int | None, at_once: int | None) -> None:
    options = [*(["--port", str(port)] if port else []), *(["--jobs", str(at_once)] if at_once else [])]
    command = [sys.executable, "-P", "-m", "dsflow", "-C", str(places.root), "serve", *options]
    with places.log.open("wb") as log:
        process = subprocess.Popen(
            command, cwd=places.root, start_new_session=True, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    # Should it end before this process does, nothing of it stays behind.
    threading.Thread(target=process.wait, daemon=True).start()
    if not _await(lambda: _answers(places) or process.poll() is not None, _START_SECONDS):
        process.terminate()
    if not _answers(places):
        words = places.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        raise EnvironmentMissing(
            f"the server did not start: {' '.join(words[-3:])[:500] or 'it said nothing'}", f"Its log is {places.log}"
        )


def stop(workspace: Workspace) -> bool:
    """End the server of a workspace and what it runs, also where only that is left; False where there was nothing.

    Raises:
        EnvironmentMissing: something does not end.
    """
    places = Places.of(workspace)
    if not places.room.is_dir():
        return False
    with locks.lock(places.beginning, str(os.getpid()), wait=True):
        found = places.is_served()
        if found:
            _end(places)
        return _end_keepers(places) or found


def _end_keepers(places: Places) -> bool:
    kept = [entry for entry in Ledger(places.runs).entries() if entry.is_kept] if places.runs.is_dir() else []
    for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGKILL):
        for entry in kept:
            _signal(entry, number)
        _await(lambda: not any(entry.is_kept for entry in kept), _KEEPER_SECONDS)
    if any(entry.is_kept for entry in kept):
        raise EnvironmentMissing("a run does not end", f"Its folder is in {places.runs}")
    return bool(kept)


def _end(places: Places) -> None:
    pid = places.read_card().get("pid")
    for number, patience in ((signal.SIGTERM, _STOP_SECONDS), (signal.SIGKILL, _KEEPER_SECONDS)):
        if isinstance(pid, int) and places.is_served():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        if _await(lambda: not places.is_served(), patience):
            return
    raise EnvironmentMissing(f"the server (process {pid}) does not end", "End it by hand.")


def _signal(entry: Entry, number: int) -> None:
    entry.cancel()
    pid = entry.keeper()
    if pid is not None:
        with contextlib.suppress(ProcessLookupError):
            (os.killpg if number == signal.SIGKILL else os.kill)(pid, number)


def _answers(places: Places) -> bool:
    with contextlib.suppress(Refused):
        return places.is_served() and Client.of(places.door).health()["status"] == "ok"
    return False


def _await(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(_LOOK_SECONDS)
    return True
