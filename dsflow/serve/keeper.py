"""Keeps one run: a process of its own, `python -m dsflow.serve.keeper RUN_FOLDER LOCK WORKSPACE`.

It outlives a server that is killed, and the next server finds it by its lock. If it dies itself, the run ends with it,
as with every process that runs tasks.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dsflow.errors import Bug, DsflowError, Interrupted
from dsflow.model import Event, Failure, LogLine, Notice, Outcome, Progress, RunFinished, RunStarted, Status
from dsflow.serve.ledger import RUNNING, Entry, State, now
from dsflow.workspace import Workspace

# What one run may add to its events; log.txt in its folder has all of it.
_MOST_TOLD = 64 << 20


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what a folder asks for, to its end."""
    folder, lock, root = sys.argv[1:] if arguments is None else arguments
    # What this process starts must not keep the lock after its end.
    os.set_inheritable(int(lock), False)
    os.ftruncate(int(lock), 0)
    os.pwrite(int(lock), str(os.getpid()).encode(), 0)
    Keeper(Entry.read(Path(folder)), Workspace(Path(root))).run()


class Keeper:
    """Runs one accepted run and writes down what happens.

    Args:
        entry: The run.
        workspace: Where its job is.
    """

    def __init__(self, entry: Entry, workspace: Workspace) -> None:
        self._entry = entry
        self._workspace = workspace
        self._state = State(status=RUNNING, started=now())
        self._told = 0

    def run(self) -> None:
        """Run it, to its end; whatever goes wrong becomes part of how it ended."""
        self._entry.write_state(self._state)
        try:
            if self._entry.is_cancelled:
                raise Interrupted("cancelled before it began")
            self._run()
        except DsflowError as error:
            self._end_with(error)
        except Exception as error:
            import traceback

            traceback.print_exc()
            self._end_with(Bug(f"this is a bug in dsflow ({type(error).__name__}: {error})", f"{self._entry.words}"))

    def _run(self) -> None:
        from dsflow import runner
        from dsflow.history import History
        from dsflow.prepare import prepare
        from dsflow.specs.load import load_workspace
        from dsflow.specs.settings import located

        request = self._entry.request
        given = {**request.parameters, **self._entry.take_secrets()}
        workspace = located(self._workspace)
        settings = load_workspace(workspace)
        history = History.open(workspace, settings)
        if request.if_stale and is_fresh(workspace, settings, history, request.job, str(request.ds), given):
            self._end(status=Status.SKIPPED, exit_code=0)
            return
        dates = [] if request.ds is None else [request.ds]
        chosen = prepare(workspace, settings, request.job, dates, [f"{k}={v}" for k, v in given.items()])
        assignment = chosen.assignment
        if request.retries is not None:
            assignment = dataclasses.replace(assignment, retries=request.retries)
        self._begins(assignment.task.run_id, assignment.task.folder)
        listeners = (self._tell, history)
        outcomes = runner.execute([assignment], chosen.runtime, chosen.reason, chosen.folders, listeners)
        outcome = outcomes[-1]
        self._end(status=outcome.status, exit_code=outcome.exit_code, error=error_of(outcome.failure))

    def _tell(self, event: Event) -> None:
        match event:
            case RunStarted(task=task):
                self._begins(task.run_id, task.folder)
                self._entry.happened("started", {"run_id": task.run_id, "folder": task.folder})
            case LogLine(text=text):
                self._say("log", {"text": text})
            case Progress(done=done, total=total):
                self._say("progress", {"done": done, "total": total})
            case Notice(text=text):
                self._say("notice", {"text": text})
            case RunFinished(outcome=outcome):
                self._entry.happened("finished", finished(outcome))

    def _say(self, kind: str, data: dict[str, Any]) -> None:
        if self._told <= _MOST_TOLD:
            self._told += self._entry.happened(kind, data)
            if self._told > _MOST_TOLD:
                self._entry.happened("notice", {"text": "too much to tell here; the log.txt of the run has the rest"})

    def _begins(self, run_id: str, folder: str) -> None:
        """Keep the run id before there is anything of the run: whoever cleans up after a crash must know it."""
        if run_id not in self._state.run_ids:
            ids = (*self._state.run_ids, run_id)
            self._state = dataclasses.replace(self._state, run_ids=ids, folder=folder)
            self._entry.write_state(self._state)

    def _end_with(self, error: DsflowError) -> None:
        status = Status.INTERRUPTED if isinstance(error, Interrupted) else Status.FAILED
        failure = Failure(kind=type(error).__name__, message=error.message, hint=error.hint)
        self._end(status=status, exit_code=error.exit_code, error=error_of(failure))

    def _end(self, **changes: Any) -> None:
        self._entry.end(dataclasses.replace(self._state, finished=now(), **changes))


def is_fresh(workspace: Workspace, settings: Any, history: Any, job: str, ds: str, given: dict[str, str]) -> bool:
    """Say whether a run of this job for this ds would change nothing."""
    from dsflow import pipeline
    from dsflow.freshness import standing
    from dsflow.plan import State as Standing

    whole = pipeline.load(workspace, settings)
    return standing(workspace, settings, whole, history, None, given).verdict(job, ds).state is Standing.FRESH


def error_of(failure: Failure | None) -> dict[str, str] | None:
    """Give the part of a failure that callers see."""
    names = ("message", "hint", "place", "source")
    return None if failure is None else {name: getattr(failure, name) for name in names}


def finished(outcome: Outcome) -> dict[str, Any]:
    """Give what the end of an attempt tells."""
    return {
        "run_id": outcome.run_id,
        "status": outcome.status,
        "exit_code": outcome.exit_code,
        "seconds": outcome.seconds,
        "error": error_of(outcome.failure),
    }


if __name__ == "__main__":
    main()
