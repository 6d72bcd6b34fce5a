"""The job side of a run: `python -m dsflow.shim RUN_FOLDER`.

Reads `task.json`, takes the partition's lock, executes the job's code in a process of its own, checks and publishes
what it staged, and leaves `outcome.json`, `log.txt`, `index.html`. Its exit code is the outcome's.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, NoReturn

from dsflow import model
from dsflow.datastore import Datastore
from dsflow.durable import write_text
from dsflow.errors import DsflowError, EnvironmentMissing, JobFailed
from dsflow.inputs import local, location, partitions_of, used
from dsflow.kinds.contract import Kind, Work
from dsflow.kinds.registry import kind_of
from dsflow.masking import Masker
from dsflow.model import EVENT_PREFIX, PROTOCOL, Failure, InputUsed, Kind as KindName, Outcome, Published, Status, Task
from dsflow.publishing import Staging
from dsflow.supervision import Stop, Supervisor


@dataclass
class _Log:
    """log.txt and the live lines; everything is masked before it is written."""

    mask: Masker
    file: IO[str]

    def say(self, text: str) -> None:
        line = self.mask(text)
        with contextlib.suppress(OSError):
            self.file.write(line + "\n")
            self.file.flush()
        _emit(line)

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
    body: str = ""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the task of a run folder and exit with its outcome's code."""
    sys.stdout.reconfigure(encoding="utf-8", errors="replace")  # type: ignore[union-attr]
    run_folder = Path((sys.argv[1:] if arguments is None else arguments)[0])
    task = model.from_json(Task, (run_folder / "task.json").read_text(encoding="utf-8"))
    data, jobs = Path(os.environ["DSFLOW_DATA"]), Path(os.environ["DSFLOW_JOBS"])
    outcome = execute(task, run_folder, data, jobs)
    sys.stdout.flush()
    # Threads of libraries and their exit handlers have nothing left to do for us, and take their time.
    os._exit(outcome.exit_code)


def execute(task: Task, run_folder: Path, data: Path, jobs: Path) -> Outcome:
    """Run a task to its end and leave its documents in the run folder.

    Args:
        task: What to run.
        run_folder: Where `task.json` is and the documents go.
        data: The datastore.
        jobs: The folder of the jobs.
    """
    secrets = json.loads(os.environ.pop("DSFLOW_SECRETS", "{}"))
    mask = Masker.of(os.environ, secrets)
    supervisor = Supervisor(
        timeout=task.limits.timeout, memory=task.limits.memory, guard_stdin="DSFLOW_STDIN_GUARD" in os.environ
    )
    started, clock = dt.datetime.now(dt.UTC), time.perf_counter()
    record = _Record()
    with open(run_folder / "log.txt", "a", encoding="utf-8") as file:
        log = _Log(mask, file)
        error = _attempt(task, run_folder, data, jobs, secrets, log, supervisor, record)
        if error is not None:
            log.say(f"{task.job} ds={task.ds} failed: {error.message}")
    outcome = _outcome(task, error, record, started, time.perf_counter() - clock, mask)
    _leave(run_folder, task, outcome, record.body)
    return outcome


def _attempt(
    task: Task,
    run_folder: Path,
    data: Path,
    jobs: Path,
    secrets: dict[str, Any],
    log: _Log,
    supervisor: Supervisor,
    record: _Record,
) -> DsflowError | None:
    """Run and publish; give the reason when that did not succeed."""
    try:
        if task.protocol != PROTOCOL:
            raise EnvironmentMissing(
                f"the run was prepared by another dsflow (protocol {task.protocol}, here {PROTOCOL})",
                "Use the same dsflow on the host and in the image: `dsflow build-images`.",
            )
        datastore = Datastore(data)
        kind = kind_of(task.kind)
        with supervisor.signals(), _staging(datastore, task) as staging:
            work = _work(task, run_folder, data, jobs, secrets, log, supervisor, staging, record)
            try:
                kind.run(work)
                supervisor.quiet()
                _collect_reads(run_folder, record)
                _publish(task, datastore, staging, record, log)
            finally:
                _collect_reads(run_folder, record)
                record.body = _body(kind, work) + record.body
    except Stop as stop:
        return None if task.kind is KindName.DASHBOARD and stop.reason.exit_code == 130 else stop.reason
    except DsflowError as error:
        return supervisor.explain(error)
    except OSError as error:
        return _explain_os(error)
    return None


def _staging(datastore: Datastore, task: Task) -> contextlib.AbstractContextManager[Staging | None]:
    return contextlib.nullcontext() if task.output is None else Staging(datastore, task.run_id, task.output, task.job)


def _work(
    task: Task,
    run_folder: Path,
    data: Path,
    jobs: Path,
    secrets: dict[str, Any],
    log: _Log,
    supervisor: Supervisor,
    staging: Staging | None,
    record: _Record,
) -> Work:
    datastore = Datastore(data)
    paths = {}
    for source in task.inputs:
        partitions = partitions_of(source, datastore)
        record.inputs.extend(used(source, partitions))
        paths[source.name] = location(source, partitions, data)
    parameters = {**task.parameters, **secrets}
    folder = staging.folder if staging is not None else None
    return Work(
        task=task,
        parameters=parameters,
        injected={name: parameters.get(name, value) for name, value in task.injected.items()},
        job_folder=jobs / task.job,
        run_folder=run_folder,
        data=data,
        staging=folder,
        source_paths=paths,
        environment=_environment(task, run_folder, data, jobs, parameters, paths, folder),
        mask=log.mask,
        say=log.say,
        progress=log.progress,
        watch=supervisor.watch,
    )


def _environment(
    task: Task,
    run_folder: Path,
    data: Path,
    jobs: Path,
    parameters: dict[str, Any],
    paths: dict[str, str],
    staging: Path | None,
) -> dict[str, str]:
    """Give the whole environment of the job's code: this process's own and what the run adds."""
    own = {name: value for name, value in os.environ.items() if name != "DSFLOW_STDIN_GUARD"}
    added = {
        "DSFLOW_DS": task.ds,
        "DSFLOW_START": task.start,
        "DSFLOW_END": task.end,
        "DSFLOW_RUN_ID": task.run_id,
        "DSFLOW_JOB": task.job,
        "DSFLOW_PARAMS": json.dumps(parameters),
        "DSFLOW_RUN_FOLDER": str(run_folder),
        "DSFLOW_DATA": str(data),
        "DSFLOW_JOBS": str(jobs),
        "TASK_SPECS": json.dumps(_task_specs(task, data, parameters, paths, staging)),
    }
    if staging is not None:
        added["DSFLOW_SINK"] = str(staging)
    if task.port is not None:
        added["DSFLOW_PORT"] = str(task.port)
        own.setdefault("DSFLOW_HOST", "127.0.0.1")
    return own | added


def _task_specs(
    task: Task, data: Path, parameters: dict[str, Any], paths: dict[str, str], staging: Path | None
) -> dict[str, Any]:
    """Give what the job finds in TASK_SPECS: `/data/...` is where the data really is, the sink is the staging folder."""
    specs = task.task_specs or {"ds": task.ds, **parameters, **{f"{name}_path": path for name, path in paths.items()}}
    here = {name: local(value, data) if isinstance(value, str) else value for name, value in specs.items()}
    return here if staging is None else here | {"sink_path": str(staging)}


def _publish(task: Task, datastore: Datastore, staging: Staging | None, record: _Record, log: _Log) -> None:
    if staging is None:
        return
    from dsflow import outputs, page

    published, preview = outputs.publish(task, staging, datastore, record.inputs)
    record.outputs.append(published)
    if preview is not None and task.kind is KindName.SQL:
        record.body = page.preview_table(preview.columns, preview.rows)
    manifest = published.manifest
    rows = "" if manifest.rows is None else f"{manifest.rows:,} rows, "
    log.say(f"published {manifest.store} {manifest.name} ds={manifest.ds}: {rows}{manifest.bytes:,} bytes")


def _collect_reads(run_folder: Path, record: _Record) -> None:
    """Add what the job's code read on its own account (`job.table`, `job.sql`) to the record."""
    path = run_folder / "reads.jsonl"
    if not path.exists():
        return
    known = set(record.inputs)
    for line in path.read_text(encoding="utf-8").splitlines():
        entry = model.from_json(InputUsed, line)
        if entry not in known:
            known.add(entry)
            record.inputs.append(entry)
    path.unlink()


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
        checks=tuple(check for published in record.outputs for check in published.manifest.checks),
    )


def _leave(run_folder: Path, task: Task, outcome: Outcome, body: str) -> None:
    """Write the page, then the outcome: whoever sees the outcome finds the folder complete."""
    from dsflow import page

    with contextlib.suppress(OSError, EnvironmentMissing):
        page.write(run_folder, task, outcome, body)
    write_text(run_folder / "outcome.json", model.to_json(outcome))


def _explain_os(error: OSError) -> DsflowError:
    import errno

    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return EnvironmentMissing(f"the disk is full: {error}", "Free some space and run again.")
    return JobFailed(f"{error}")


if __name__ == "__main__":
    main()
