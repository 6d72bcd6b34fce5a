"""What is done about a run whose keeper is gone: its end is found out, and nothing of it stays."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from pathlib import Path

from dsflow import durable, model
from dsflow.errors import DsflowError
from dsflow.model import Failure, Outcome, Status
from dsflow.serve.ledger import Entry, State, now
from dsflow.serve.places import Places

# A run whose keeper died saves what it has, as after Ctrl-C, and leaves its outcome.
_SAVING_SECONDS = 20.0
# One that was asked to end has had its time.
_CANCELLED_SECONDS = 1.0
_LOOK_SECONDS = 0.3


def settle(entry: Entry, places: Places) -> None:
    """See to it that a run without a keeper has ended.

    Args:
        entry: The run.
        places: Where the server keeps its files.
    """
    state = entry.state()
    if state.has_ended:
        entry.tell_the_end()
    elif entry.is_cancelled and not state.run_ids:
        entry.end(_ended(state, "interrupted", 130, "cancelled before it began"))
    else:
        datastore = places.root / "datastore"
        folder = datastore / state.folder if state.folder else None
        patience = _CANCELLED_SECONDS if entry.is_cancelled else _SAVING_SECONDS
        outcome = _await_outcome(folder, patience) if folder is not None else None
        for run_id in state.run_ids:
            end_leftovers(run_id)
        ended = _of_outcome(state, outcome) if outcome is not None else _without_outcome(entry, state)
        if outcome is None and folder is not None and folder.exists():
            _leave_outcome(folder, ended)
        entry.end(ended)
    with contextlib.suppress(OSError):
        if not entry.words.stat().st_size:
            entry.words.unlink()


def end_leftovers(run_id: str) -> None:
    """End what is left of a run: its container, and processes that a killed shim could not end."""
    from dsflow.containers import engine, residents
    from dsflow.runtimes import process

    process.end_leftovers(run_id)
    if engine.available() is None:
        with contextlib.suppress(DsflowError):
            for found in residents.find({"run": run_id}):
                engine.remove(found.id)


def _await_outcome(folder: Path, patience: float) -> Outcome | None:
    """Give what the job side says of the end, as soon as it does; None where it is not there to say anything."""
    deadline = time.monotonic() + patience
    is_there = folder.exists()
    while is_there:
        # Asked before reading: what it said until it ended is then read for sure.
        is_there = time.monotonic() < deadline and _is_alive(folder)
        with contextlib.suppress(OSError, ValueError):
            return model.from_json(Outcome, (folder / "outcome.json").read_text(encoding="utf-8"))
        time.sleep(_LOOK_SECONDS)
    return None


def _is_alive(folder: Path) -> bool:
    """Say whether the job side of a run is there, in a process or in a container."""
    import psutil

    from dsflow.containers import engine, residents

    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if str(folder) in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE:
                return True
    with contextlib.suppress(DsflowError):
        if engine.available() is None:
            return any(found.running for found in residents.find({"run": folder.name}))
    return False


def _of_outcome(state: State, outcome: Outcome) -> State:
    failure = outcome.failure
    names = ("message", "hint", "place", "source")
    return dataclasses.replace(
        state,
        status=outcome.status,
        exit_code=outcome.exit_code,
        finished=outcome.finished,
        error={name: getattr(failure, name) for name in names} if failure else None,
    )


def _without_outcome(entry: Entry, state: State) -> State:
    if entry.is_cancelled:
        return _ended(state, "interrupted", 130, "cancelled")
    words = ""
    with contextlib.suppress(OSError):
        words = entry.words.read_text(encoding="utf-8", errors="replace").strip()
    why = f": {words.splitlines()[-1][:300]}" if words else ""
    return _ended(state, Status.FAILED, 137, f"the process that kept the run was killed{why}")


def _leave_outcome(folder: Path, state: State) -> None:
    """Say in the run folder how the run ended, so that the history learns of it."""
    message = state.error["message"] if state.error else ""
    outcome = Outcome(
        run_id=folder.name,
        status=Status(state.status),
        exit_code=state.exit_code or 0,
        started=state.started or now(),
        finished=state.finished or now(),
        seconds=0.0,
        failure=Failure(kind="Killed", message=message),
    )
    with contextlib.suppress(OSError):
        durable.write_text(folder / "outcome.json", model.to_json(outcome))


def _ended(state: State, status: str, exit_code: int, message: str) -> State:
    error = {"message": message, "hint": "", "place": "", "source": ""}
    return dataclasses.replace(state, status=status, exit_code=exit_code, finished=now(), error=error)
