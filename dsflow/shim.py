"""The job side of a run: `python -m dsflow.shim RUN_FOLDER`.

Reads `task.json`, takes the partition's lock, executes the job's code in a process of its own, checks and publishes
what it staged, and leaves `outcome.json`, `log.txt`, `index.html`. Its exit code is the outcome's.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import functools
import json
import os
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, NoReturn

from dsflow import model, outputs
from dsflow.durable import remove_tree, write_text
from dsflow.engines.contract import Engine
from dsflow.errors import (
    Bug,
    DsflowError,
    EnvironmentMissing,
    ExpectationFailed,
    Interrupted,
    JobFailed,
    disk_full,
)
from dsflow.inputs import FETCHED
from dsflow.kinds.contract import Kind, Traces, Work
from dsflow.kinds.registry import kind_of
from dsflow.lean import collect_seldom
from dsflow.masking import Masker
from dsflow.model import EVENT_PREFIX, PROTOCOL, QUARANTINE, Check, Failure, InputUsed, Outcome, Published, Status, Task
from dsflow.outputs import Examined
from dsflow.quantities import show_bytes, show_count
from dsflow.site import Site
from dsflow.spark import hidden
from dsflow.store.datastore import Datastore
from dsflow.store.publishing import Staging
from dsflow.supervision import Stop, Supervisor


@dataclass
class _Log:
    """log.txt and the live lines; everything is masked before it is written."""

    mask: Masker
    file: IO[str]

    def say(self, text: str) -> None:
        # Whatever a job prints, it is no event.
        _emit(self.keep(text).lstrip(EVENT_PREFIX))

    def keep(self, text: str) -> str:
        """Write a line to the file only, for what the live screen shows in its own way; give it masked."""
        line = self.mask(text)
        with contextlib.suppress(OSError, ValueError):
            self.file.write(line + "\n")
            self.file.flush()
        return line

    def progress(self, done: int, total: int) -> None:
        _emit(EVENT_PREFIX + json.dumps({"done": done, "total": total}))


def _emit(line: str) -> None:
    # The host may be gone; the run goes on until its guard ends it.
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


@dataclass
class _Record:
    """What is known so far about how the run went."""

    inputs: list[InputUsed] = field(default_factory=list)
    outputs: list[Published] = field(default_factory=list)
    checks: tuple[Check, ...] = ()
    body: str = ""
    examined: Examined | None = None

    def examine(self, task: Task, staging: Staging, store: Datastore, engine: Engine) -> None:
        """Check what is staged for a table, on behalf of a kind that has a session of the engine."""
        self.examined = outputs.examine(task, staging, store, engine)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the task of a run folder and exit with its outcome's code."""
    collect_seldom()
    sys.stdout.reconfigure(encoding="utf-8", errors="replace")  # type: ignore[union-attr]
    run_folder = Path((sys.argv[1:] if arguments is None else arguments)[0])
    run(model.from_json(Task, (run_folder / "task.json").read_text(encoding="utf-8")), run_folder)


def run(task: Task, run_folder: Path) -> NoReturn:
    """Run a task in this process and its environment, and exit with its outcome's code."""
    code = execute_here(task, run_folder)
    # Threads of libraries and their exit handlers have nothing left to do for us, and take their time.
    os._exit(code)


def execute_here(task: Task, run_folder: Path) -> int:
    """Run a task in this process and its environment, and give its outcome's exit code."""
    outcome = execute(task, run_folder, Path(os.environ["DSFLOW_DATA"]), Path(os.environ["DSFLOW_JOBS"]))
    sys.stdout.flush()
    return outcome.exit_code


def traces(task: Task) -> Traces:
    """Say where this task may leave something that the next task of its job could see."""
    return kind_of(task.kind).traces(task)


def load(task: Task, jobs: Path) -> None:
    """Load the libraries that the run of a task will need, for a process that forks a child for it."""
    kind_of(task.kind).load(task, jobs / task.job)
    outputs.prepare_engine(task)
    _load_rest(task)


def _load_rest(task: Task) -> None:
    """Load what a run needs when its code has ended: to check what it staged, and for its page."""
    from dsflow import page

    outputs.load(task)
    page.load()


def execute(task: Task, run_folder: Path, data: Path, jobs: Path) -> Outcome:
    """Run a task to its end and leave its documents in the run folder.

    Args:
        task: What to run.
        run_folder: Where `task.json` is and the documents go.
        data: The datastore.
        jobs: The folder of the jobs.
    """
    secrets = json.loads(os.environ.pop("DSFLOW_SECRETS", "{}"))
    guard = os.environ.pop("DSFLOW_STDIN_GUARD", "") == "1"
    site = Site(task=task, run_folder=run_folder, data=data, jobs=jobs, secrets=secrets)
    mask = Masker.of(os.environ, secrets, hidden.secrets_of(os.environ))
    started, clock = dt.datetime.now(dt.UTC), time.perf_counter()
    record = _Record()
    with open(run_folder / "log.txt", "a", encoding="utf-8") as file:
        log = _Log(mask, file)
        supervisor = Supervisor(timeout=task.limits.timeout, memory=task.limits.memory, guard_stdin=guard)
        error = _attempt(site, log, supervisor, record)
        for fetched in run_folder.glob(f"{FETCHED}*"):
            remove_tree(fetched)
        if error is not None:
            log.keep(f"{task.job} ds={task.ds} failed: {error.message}")
    outcome = _outcome(task, error, record, started, time.perf_counter() - clock, mask)
    _leave(run_folder, task, outcome, record.body)
    return outcome


def _attempt(site: Site, log: _Log, supervisor: Supervisor, record: _Record) -> DsflowError | None:
    """Run and publish; give the reason when that did not succeed."""
    task = site.task
    try:
        _check_protocol(task)
        kind = kind_of(task.kind)
        with supervisor.signals(), _spark(site, log, supervisor) as launcher, _staging(site) as staging:
            work = site.work(staging.folder if staging else None, log, supervisor.watch)
            work = dataclasses.replace(work, launcher=launcher)
            work = dataclasses.replace(work, meanwhile=functools.partial(_load_rest, task))
            if staging is not None and task.output is not None and task.output.store == "table":
                examine = functools.partial(record.examine, task, staging, site.store)
                work = dataclasses.replace(work, examine=examine)
            record.inputs = site.declared_inputs()
            try:
                kind.run(work)
                supervisor.quiet()
                record.inputs += site.own_reads(record.inputs)
                _publish(site, staging, record, log)
            finally:
                supervisor.quiet()
                record.inputs += site.own_reads(record.inputs)
                record.body = _body(kind, work) + record.body
    except Stop as stop:
        ended_by_hand = task.port is not None and isinstance(stop.reason, Interrupted)
        return None if ended_by_hand else stop.reason
    except ExpectationFailed as error:
        record.checks = error.checks
        return error
    except DsflowError as error:
        return supervisor.explain(error)
    except OSError as error:
        return _explain_os(error)
    except Exception as error:
        trace = "".join(traceback.format_exception(error))
        return Bug(f"this is a bug in dsflow ({type(error).__name__}: {error})", traceback=trace)
    return None


@contextlib.contextmanager
def _spark(site: Site, log: _Log, supervisor: Supervisor) -> Iterator[Sequence[str]]:
    """Have Spark at hand for a task that computes with it: in this environment, which the job's code inherits.

    Gives what is to start a Python program of the job, where that is not this Python.
    """
    task = site.task
    if task.engine != "spark":
        yield ()
        return
    from dsflow.spark.access import access

    with access(task.spark, site.data, task.run_id, site.run_folder, log.say) as way:
        os.environ.update(way.environment)
        log.mask = Masker.of(os.environ, site.secrets, hidden.secrets_of(os.environ))
        os.environ.pop(hidden.HIDDEN, None)
        supervisor.depend_on(way.problem)
        yield way.launcher


def _check_protocol(task: Task) -> None:
    if task.protocol != PROTOCOL:
        raise EnvironmentMissing(
            f"the run was prepared by another dsflow (protocol {task.protocol}, here {PROTOCOL})",
            "Use the same dsflow on the host and in the image: `dsflow build-images`.",
        )


def _staging(site: Site) -> contextlib.AbstractContextManager[Staging | None]:
    task = site.task
    if task.output is None:
        return contextlib.nullcontext()
    return Staging(site.destination, task.run_id, task.output, task.job)


def _publish(site: Site, staging: Staging | None, record: _Record, log: _Log) -> None:
    if staging is None:
        return
    from dsflow import page

    task = dataclasses.replace(site.task, expectations=site.expectations())
    published, examined = outputs.publish(task, staging, site.store, record.inputs, record.examined)
    record.outputs.append(published)
    record.inputs += [entry for entry in published.manifest.inputs if entry not in record.inputs]
    manifest = published.manifest
    if examined is not None:
        record.checks = examined.checks
        record.body = page.preview_table([column.name for column in examined.columns], examined.first)
    rows = "" if manifest.rows is None else f"{show_count(manifest.rows, 'row')}, "
    log.say(f"published {manifest.store} {manifest.name} ds={manifest.ds}: {rows}{show_bytes(manifest.bytes)}")
    if published.quarantined:
        dropped = show_count(published.quarantined, "row")
        log.say(f"put {dropped} into table {manifest.name}{QUARANTINE} ds={manifest.ds}")


def _body(kind: Kind, work: Work) -> str:
    try:
        return kind.body(work)
    except Exception as error:
        # The page must not cost a run that succeeded, nor hide why one failed.
        work.say(f"the page shows no body: {error}")
        return ""


def _outcome(
    task: Task, error: DsflowError | None, record: _Record, started: dt.datetime, seconds: float, mask: Masker
) -> Outcome:
    failure = None
    status = Status.SUCCEEDED
    if error is not None:
        status = Status.INTERRUPTED if error.exit_code == 130 else Status.FAILED
        failure = Failure(
            kind=type(error).__name__,
            message=mask(error.message),
            place=error.place,
            source=mask(error.source),
            hint=mask(error.hint),
            traceback=mask(error.traceback),
        )
    return Outcome(
        run_id=task.run_id,
        status=status,
        exit_code=error.exit_code if error is not None else 0,
        started=started.isoformat(timespec="milliseconds"),
        finished=dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds"),
        seconds=round(seconds, 3),
        failure=failure,
        inputs=tuple(record.inputs),
        outputs=tuple(record.outputs),
        checks=tuple(_masked(check, mask) for check in record.checks),
    )


def _masked(check: Check, mask: Masker) -> Check:
    examples = tuple(mask(row) for row in check.examples)
    return dataclasses.replace(check, constraint=mask(check.constraint), found=mask(check.found), examples=examples)


def _leave(run_folder: Path, task: Task, outcome: Outcome, body: str) -> None:
    """Write the page, then the outcome: whoever sees the outcome finds the folder complete."""
    from dsflow import page

    with contextlib.suppress(OSError, EnvironmentMissing):
        page.write(run_folder, task, outcome, body)
    write_text(run_folder / "outcome.json", model.to_json(outcome))


def _explain_os(error: OSError) -> DsflowError:
    return disk_full(error) or JobFailed(f"{error}")


if __name__ == "__main__":
    main()
