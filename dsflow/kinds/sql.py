"""A query whose result is the output. It runs in a process of its own, so that nothing it does can take the shim."""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dsflow.errors import DsflowError, EnvironmentMissing, Interrupted, JobFailed, OutOfMemory
from dsflow.highlighting import source
from dsflow.inputs import partitions_of, rows_of
from dsflow.kinds.contract import Work
from dsflow.model import Task
from dsflow.store.datastore import Datastore

_ERRORS: dict[str, type[DsflowError]] = {
    error.__name__: error for error in (JobFailed, EnvironmentMissing, Interrupted, OutOfMemory)
}


def run(work: Work) -> None:
    """Run the query over the task's inputs and write its rows into the staging folder."""
    verdict = work.run_folder / "query.json"
    # A fork shares what the shim has loaded; macOS libraries do not survive one.
    context: Any = multiprocessing.get_context("spawn" if sys.platform == "darwin" else "fork")
    arguments = (work.task, work.data, work.staging, dict(work.environment), verdict)
    process = context.Process(target=_execute, args=arguments)
    process.start()
    try:
        work.watch(process.pid)
        process.join()
    except BaseException:
        process.kill()
        process.join()
        raise
    _raise_failure(verdict, process.exitcode)
    work.progress(1, 1)


def body(work: Work) -> str:
    """Give the query as it was run."""
    return source(work.mask(work.task.code or ""), "sql")


def _execute(task: Task, data: Path, staging: Path | None, environment: Mapping[str, str], verdict: Path) -> None:
    """The child: read, compute, write; leave a file that says how it went."""
    import signal
    import threading

    from dsflow.engines.registry import open_engine

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM):
        signal.signal(number, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, 0)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ.clear()
    os.environ.update(environment)
    try:
        engine = open_engine(task.engine, threads=task.limits.cpus, memory=task.limits.memory)
        datastore = Datastore(data)
        for source in task.inputs:
            engine.view(source.name, rows_of(source, partitions_of(source, datastore), engine, data))
        result = engine.sql(task.code or "")
        if staging is not None:
            staging.mkdir(parents=True, exist_ok=True)
            engine.write(result, staging / f"{task.run_id}-part-0.parquet", task.ds)
    except DsflowError as error:
        fields = {name: getattr(error, name) for name in ("message", "hint", "source", "traceback")}
        fields["place"] = ", ".join(filter(None, [task.main, error.place]))
        verdict.write_text(json.dumps({"type": type(error).__name__, **fields}), encoding="utf-8")
        os._exit(1)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _raise_failure(verdict: Path, exit_code: int | None) -> None:
    if verdict.exists():
        fields = json.loads(verdict.read_text(encoding="utf-8"))
        verdict.unlink()
        raise _ERRORS.get(fields.pop("type"), JobFailed)(fields.pop("message"), fields.pop("hint"), **fields)
    if exit_code:
        ending = f"was killed by signal {-exit_code}" if exit_code < 0 else f"ended with exit code {exit_code}"
        raise JobFailed(f"the process that ran the query {ending}")
