"""Executes tasks in a runtime: prepares the run folder, starts the shim, passes its lines on, reads its outcome.

It prints nothing and knows no history; it emits events (`dsflow.model.Event`) to whoever listens.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import getpass
import json
import platform
import secrets
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from dsflow import __version__, durable, model
from dsflow.errors import DsflowError, EnvironmentMissing, ExpectationFailed, Interrupted, UsageError
from dsflow.model import (
    EVENT_PREFIX,
    Event,
    Failure,
    LogLine,
    Notice,
    Outcome,
    Progress,
    RunFinished,
    RunStarted,
    Status,
    Task,
)
from dsflow.runtimes.contract import Ending, Folders, Needs, Place, Running, Runtime

Listener = Callable[[Event], None]

# The shim keeps the timeout itself; this much later the host no longer waits for it.
_GRACE_SECONDS = 30
_NEVER_RETRIED = {error.exit_code for error in (UsageError, ExpectationFailed, EnvironmentMissing, Interrupted)}


@dataclass(frozen=True, kw_only=True)
class Step:
    """A task with what its run needs beside it.

    Attributes:
        task: What to run; its run id is that of the first attempt.
        secrets: Values of the task's secret parameters.
        needs: Image and requirements.
        retries: How often a failed run is tried again, each as a run of its own.
        pass_environment: Names of environment variables that a container gets too.
    """

    task: Task
    secrets: Mapping[str, Any] = field(default_factory=dict)
    needs: Needs = field(default_factory=Needs)
    retries: int = 0
    pass_environment: tuple[str, ...] = ()


def new_run_id(now: dt.datetime | None = None) -> str:
    """Give an id for a run: sorts by time (UTC), unique by chance, fit for a file name."""
    moment = now or dt.datetime.now(dt.UTC)
    return f"{moment:%Y%m%dT%H%M%S}-{secrets.token_hex(3)}"


def execute(
    steps: Sequence[Step], runtime: Runtime, reason: str, folders: Folders, listeners: Sequence[Listener]
) -> list[Outcome]:
    """Run the steps one after the other; after a failure the others do not start.

    Args:
        steps: What to run, in order.
        runtime: Where.
        reason: Why there; recorded.
        folders: Where jobs and data are.
        listeners: Called with every event, in order. Their errors become notices and stop nothing.

    Returns:
        The outcome of each step that ran (the last attempt's).
    """
    emit = _Emitter(listeners)
    outcomes: list[Outcome] = []
    for step in steps:
        outcomes.append(_with_retries(step, runtime, reason, folders, emit))
        if not outcomes[-1]:
            break
    return outcomes


def exit_code_of(outcomes: Sequence[Outcome]) -> int:
    """Give the exit code of several outcomes: that of the first failed one, or 0."""
    return next((outcome.exit_code for outcome in outcomes if not outcome), 0)


class _Emitter:
    def __init__(self, listeners: Sequence[Listener]) -> None:
        self._listeners = list(listeners)

    def __call__(self, event: Event) -> None:
        for listener in list(self._listeners):
            try:
                listener(event)
            except (DsflowError, OSError) as error:
                # A history that cannot be written, or a screen that is gone, must not cost a run.
                self._listeners.remove(listener)
                self(Notice(text=f"warning: {error}"))


def _with_retries(step: Step, runtime: Runtime, reason: str, folders: Folders, emit: Listener) -> Outcome:
    outcome = _run(step, step.task, runtime, reason, folders, emit)
    for attempt in range(1, step.retries + 1):
        if outcome or outcome.exit_code in _NEVER_RETRIED:
            break
        emit(Notice(text=f"retry {attempt} of {step.retries}"))
        again = dataclasses.replace(step.task, run_id=new_run_id())
        outcome = _run(step, again, runtime, reason, folders, emit)
    return outcome


def _run(step: Step, task: Task, runtime: Runtime, reason: str, folders: Folders, emit: Listener) -> Outcome:
    place = runtime.prepare(step.needs, folders, lambda line: emit(Notice(text=line)))
    task = dataclasses.replace(task, facts=_facts(runtime, reason, place, folders))
    run_folder = folders.datastore / task.folder
    _make_run_folder(run_folder, task)
    started = dt.datetime.now(dt.UTC)
    running = runtime.start(task, place, folders, _environment(step))
    with _interruptible(running, task, emit) as asked:
        # The shim is on its way already: slow listeners (a database to open) cost nothing.
        emit(RunStarted(task=task))
        for line in running.lines():
            emit(_event(task, line))
        ending = running.wait()
    outcome = _read_outcome(run_folder, task, started, ending, asked.is_set())
    emit(RunFinished(task=task, outcome=outcome))
    return outcome


def _make_run_folder(run_folder: Path, task: Task) -> None:
    try:
        run_folder.mkdir(parents=True)
        durable.write_text(run_folder / "task.json", model.to_json(task))
    except OSError as error:
        raise EnvironmentMissing(
            f"cannot write {run_folder}: {error.strerror}", "`dsflow doctor` checks the datastore."
        ) from error


def _environment(step: Step) -> dict[str, str]:
    import os

    passed = {name: os.environ[name] for name in step.pass_environment if name in os.environ}
    return passed | ({"DSFLOW_SECRETS": json.dumps(step.secrets)} if step.secrets else {})


def _facts(runtime: Runtime, reason: str, place: Place, folders: Folders) -> model.Facts:
    return model.Facts(
        runtime=runtime.name,
        runtime_reason=reason,
        image=place.image,
        image_id=place.image_id,
        lock_hash=place.lock_hash,
        git_revision=_git_revision(folders.jobs),
        dsflow_version=__version__,
        host=platform.node(),
        user=_user(),
    )


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return ""


def _git_revision(folder: Path) -> str | None:
    """Give the commit of the jobs' folder, with `+` where there are changes that are not committed."""
    command = ["git", "-C", str(folder), "describe", "--always", "--abbrev=12", "--exclude=*", "--dirty=+"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=5)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


@contextlib.contextmanager
def _interruptible(running: Running, task: Task, emit: Listener) -> Iterator[threading.Event]:
    """While a task runs, Ctrl-C asks it to save and stop, a second one kills it, and so does a timeout long past.

    Gives what tells whether the task was asked to stop.
    """
    asked = threading.Event()

    def on_signal(number: int, frame: FrameType | None) -> None:
        kill = asked.is_set()
        asked.set()
        emit(Notice(text="killing the run" if kill else "stopping the run; Ctrl-C again kills it"))
        # In a thread: the engine's answer may take a while, and the log goes on meanwhile.
        threading.Thread(target=running.stop, kwargs={"kill": kill}, daemon=True).start()

    limit = task.limits.timeout
    timer = threading.Timer((limit or 0) + _GRACE_SECONDS, running.stop, kwargs={"kill": True})
    timer.daemon = True
    if limit:
        timer.start()
    in_main_thread = threading.current_thread() is threading.main_thread()
    before = {n: signal.signal(n, on_signal) for n in (signal.SIGINT, signal.SIGTERM)} if in_main_thread else {}
    try:
        yield asked
    except BaseException:
        running.stop(kill=True)
        running.wait()
        raise
    finally:
        timer.cancel()
        for number, handler in before.items():
            signal.signal(number, handler)


def _event(task: Task, line: str) -> Event:
    if line.startswith(EVENT_PREFIX):
        with contextlib.suppress(ValueError, KeyError, TypeError):
            units = json.loads(line.removeprefix(EVENT_PREFIX))
            return Progress(task=task, done=int(units["done"]), total=int(units["total"]))
    return LogLine(task=task, text=line)


def _read_outcome(run_folder: Path, task: Task, started: dt.datetime, ending: Ending, asked: bool) -> Outcome:
    """Give the outcome that the shim left, or the one that its silence means."""
    path = run_folder / "outcome.json"
    try:
        return model.from_json(Outcome, path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        outcome = _without_word(task, started, ending, asked)
    from dsflow import page

    with contextlib.suppress(OSError, DsflowError):
        page.write(run_folder, task, outcome, "")
        durable.write_text(path, model.to_json(outcome))
    return outcome


def _without_word(task: Task, started: dt.datetime, ending: Ending, asked: bool) -> Outcome:
    now = dt.datetime.now(dt.UTC)
    code = 137 if ending.out_of_memory else ending.exit_code or 1
    # Asked to stop before it could listen, a run ends like any other program.
    interrupted = asked and code == 128 + signal.SIGTERM
    if interrupted:
        code, message = Interrupted.exit_code, "interrupted; nothing was published"
    elif ending.out_of_memory:
        message = "out of memory: the run was killed at its memory limit"
    elif code > 128:
        message = f"the run was killed ({_signal_name(code - 128)})"
    else:
        message = f"the run ended with exit code {code} without an outcome; log.txt has its last words"
    return Outcome(
        run_id=task.run_id,
        status=Status.INTERRUPTED if interrupted else Status.FAILED,
        exit_code=code,
        started=started.isoformat(timespec="milliseconds"),
        finished=now.isoformat(timespec="milliseconds"),
        seconds=round((now - started).total_seconds(), 3),
        failure=Failure(
            kind="Interrupted" if interrupted else "Killed" if code > 128 else "NoOutcome", message=message
        ),
    )


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
