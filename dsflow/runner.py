"""Executes tasks in a runtime: prepares the run folder, starts the shim, passes its lines on, reads its outcome.

It prints nothing and knows no history; it emits events (`dsflow.model.Event`) to whoever listens. Which task runs when
is the caller's choice: one after the other with `execute`, or many at once from threads, as the scheduler does.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import getpass
import json
import os
import platform
import secrets
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dsflow import __version__, durable, model
from dsflow.engines.registry import CORES
from dsflow.errors import DsflowError, EnvironmentMissing, ExpectationFailed, Interrupted, UsageError
from dsflow.interruption import Interruption
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
from dsflow.runtimes.contract import Ending, Folders, Needs, Place, Running, Runtime, identity
from dsflow.sampling.switches import ENABLE, ENABLE_OFFLINE

Listener = Callable[[Event], None]

# The shim keeps the timeout itself; this much later the host no longer waits for it.
_GRACE_SECONDS = 30
# Before the second attempt; doubled for each further one, up to the longest.
_FIRST_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 60.0
_NEVER_RETRIED = {error.exit_code for error in (UsageError, ExpectationFailed, EnvironmentMissing, Interrupted)}


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """A task with what its run needs beside it.

    Attributes:
        task: What to run; its run id is that of the first attempt.
        secrets: Values of the task's secret parameters.
        needs: Image and requirements.
        retries: How often a failed run is tried again, each as a run of its own.
        pass_environment: Names of environment variables that a container gets too.
        environment: More environment variables for the run; they may hold secrets.
    """

    task: Task
    secrets: Mapping[str, Any] = field(default_factory=dict)
    needs: Needs = field(default_factory=Needs)
    retries: int = 0
    pass_environment: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)


def processors() -> int:
    """Give how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def new_run_id(now: dt.datetime | None = None) -> str:
    """Give an id for a run: sorts by time (UTC), unique by chance, fit for a file name."""
    moment = now or dt.datetime.now(dt.UTC)
    return f"{moment:%Y%m%dT%H%M%S}-{secrets.token_hex(3)}"


def pause_before_retry(outcome: Outcome, attempt: int, retries: int) -> float | None:
    """Give the seconds to wait before a task is tried again, or None where that makes no sense.

    Args:
        outcome: How the last attempt ended.
        attempt: Which one that was, counted from 1.
        retries: How many may follow the first.
    """
    if outcome or outcome.exit_code in _NEVER_RETRIED or attempt > retries:
        return None
    return float(min(_LONGEST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2 ** (attempt - 1)))


def execute(
    assignments: Sequence[Assignment], runtime: Runtime, reason: str, folders: Folders, listeners: Sequence[Listener]
) -> list[Outcome]:
    """Run tasks one after the other; after a failure the others do not start.

    Args:
        assignments: What to run, in order.
        runtime: Where.
        reason: Why there; recorded.
        folders: Where jobs and data are.
        listeners: Called with every event, in order. Their errors become notices and stop nothing.

    Returns:
        The outcome of each task that ran (the last attempt's).
    """
    runner = Runner(runtime, reason, folders, Emitter(listeners))
    interruption = Interruption()
    interruption.tell(runner.stop)
    outcomes: list[Outcome] = []
    runner.expect(len(assignments))
    with interruption.listening(), contextlib.closing(runner):
        for assignment in assignments:
            outcomes.append(_with_retries(assignment, runner, interruption))
            if not outcomes[-1]:
                break
    return outcomes


def exit_code_of(outcomes: Sequence[Outcome]) -> int:
    """Give the exit code of several outcomes: 130 where the user interrupted, else that of the first failure, or 0."""
    if any(outcome.exit_code == Interrupted.exit_code for outcome in outcomes):
        return Interrupted.exit_code
    failed = sorted((o for o in outcomes if not o), key=lambda outcome: outcome.status is Status.ABORTED)
    return failed[0].exit_code if failed else 0


class Emitter:
    """Passes events on to listeners, one at a time, whichever thread they come from."""

    def __init__(self, listeners: Sequence[Listener]) -> None:
        self._listeners = list(listeners)
        self._lock = threading.RLock()

    def __call__(self, event: Event) -> None:
        """Call every listener; one that fails is dropped, after saying so."""
        with self._lock:
            for listener in list(self._listeners):
                try:
                    listener(event)
                except (DsflowError, OSError) as error:
                    # A history that cannot be written, or a screen that is gone, must not cost a run.
                    self._listeners.remove(listener)
                    self(Notice(text=f"warning: {error}"))


def _with_retries(assignment: Assignment, runner: Runner, interruption: Interruption) -> Outcome:
    attempt = 1
    outcome = runner.run(assignment)
    while (pause := pause_before_retry(outcome, attempt, assignment.retries)) is not None:
        runner.emit(Notice(text=f"retry {attempt} of {assignment.retries} in {pause:g} s"))
        if interruption.asked.wait(pause):
            break
        attempt += 1
        outcome = runner.run(assignment, attempt)
    return outcome


class Runner:
    """Runs tasks in one runtime, from one thread or from several.

    Args:
        runtime: Where.
        reason: Why there; recorded.
        folders: Where jobs and data are.
        emit: Told what happens.
    """

    def __init__(self, runtime: Runtime, reason: str, folders: Folders, emit: Emitter) -> None:
        self.emit = emit
        self._runtime = runtime
        self._reason = reason
        self._folders = folders
        self._lock = threading.Lock()
        self._places: dict[Needs, Place] = {}
        self._running: list[Running] = []
        self._asked = False
        self._common: model.Facts | None = None

    def expect(self, tasks: int, *, batch: bool = False) -> None:
        """Let the runtime know that so many tasks will come."""
        self._runtime.expect(tasks, batch=batch)

    def close(self) -> None:
        """Let the runtime end what it keeps ready."""
        self._runtime.close()

    def stop(self, kill: bool) -> None:
        """Ask everything that runs, and whatever is just starting, to save and end; with `kill`, end it at once."""
        with self._lock:
            self._asked = True
            running = list(self._running)
        for each in running:
            each.stop(kill=kill)
        self.emit(Notice(text="killing the run" if kill else "stopping the run; Ctrl-C again kills it"))

    def run(self, assignment: Assignment, attempt: int = 1) -> Outcome:
        """Run a task once, to its end.

        Args:
            assignment: The task.
            attempt: Which attempt it is, counted from 1; each has a run id of its own.

        Raises:
            DsflowError: it could not be started at all.
        """
        task = assignment.task
        if attempt > 1:
            task = dataclasses.replace(task, run_id=new_run_id())
        place = self._place(assignment.needs)
        made_with = task.fingerprint
        if made_with is not None:
            made_with = dataclasses.replace(made_with, place=identity(self._runtime.name, place))
        task = dataclasses.replace(task, facts=self._facts(place), fingerprint=made_with)
        run_folder = self._folders.datastore / task.folder
        _make_run_folder(run_folder, task)
        started = dt.datetime.now(dt.UTC)
        running = self._runtime.start(task, place, self._folders, {**self._share(), **_environment(assignment)})
        with self._watched(running, task):
            # The shim is on its way already: slow listeners (a database to open) cost nothing.
            self.emit(RunStarted(task=task))
            for line in running.lines():
                self.emit(_event(task, line))
            ending = running.wait()
        outcome = _read_outcome(run_folder, task, started, ending, self._asked)
        self.emit(RunFinished(task=task, outcome=outcome))
        return outcome

    def _place(self, needs: Needs) -> Place:
        with self._lock:
            if needs not in self._places:
                self._places[needs] = self._runtime.prepare(
                    needs, self._folders, lambda line: self.emit(Notice(text=line))
                )
            return self._places[needs]

    def _share(self) -> dict[str, str]:
        """Give a run its part of the processors where others run beside it: each engine would take all of them."""
        with self._lock:
            others = len(self._running)
        return {CORES: str(max(1, processors() // (others + 1)))} if others else {}

    @contextlib.contextmanager
    def _watched(self, running: Running, task: Task) -> Iterator[None]:
        """While a task runs it can be stopped; a timeout that the shim should have kept long ago kills it."""
        with self._lock:
            self._running.append(running)
            asked = self._asked
        if asked:
            running.stop()
        limit = task.limits.timeout
        timer = threading.Timer((limit or 0) + _GRACE_SECONDS, running.stop, kwargs={"kill": True})
        timer.daemon = True
        if limit:
            timer.start()
        try:
            yield
        except BaseException:
            running.stop(kill=True)
            running.wait()
            raise
        finally:
            timer.cancel()
            with self._lock:
                self._running.remove(running)

    def _facts(self, place: Place) -> model.Facts:
        with self._lock:
            if self._common is None:
                self._common = model.Facts(
                    runtime=self._runtime.name,
                    runtime_reason=self._reason,
                    git_revision=_git_revision(self._folders.jobs),
                    dsflow_version=__version__,
                    host=platform.node(),
                    user=_user(),
                )
        return dataclasses.replace(self._common, image=place.image, image_id=place.image_id, lock_hash=place.lock_hash)


def _make_run_folder(run_folder: Path, task: Task) -> None:
    try:
        run_folder.mkdir(parents=True)
        durable.write_text(run_folder / "task.json", model.to_json(task), last=False)
    except OSError as error:
        raise EnvironmentMissing(
            f"cannot write {run_folder}: {error.strerror}", "`dsflow doctor` checks the datastore."
        ) from error


def _environment(assignment: Assignment) -> dict[str, str]:
    # Whoever asks for samples must not get production because the code runs in a container.
    names = (*assignment.pass_environment, ENABLE, ENABLE_OFFLINE)
    passed = {name: os.environ[name] for name in names if name in os.environ}
    secret = {"DSFLOW_SECRETS": json.dumps(assignment.secrets)} if assignment.secrets else {}
    return {**passed, **assignment.environment, **secret}


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
    elif ending.problem:
        message = ending.problem
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
