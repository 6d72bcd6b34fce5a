"""A query whose result is the output.

It runs in the shim's own process, which is there for this one task. The main thread stays free for whoever asks the
run to stop; a query that takes the process with it costs only itself, and the host says so.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path

from dsflow import highlighting
from dsflow.engines import registry
from dsflow.engines.contract import Engine
from dsflow.errors import DsflowError
from dsflow.inputs import rows_of
from dsflow.kinds.contract import Traces, Work
from dsflow.model import Task

_GRACE_SECONDS = 5


def load(task: Task, job_folder: Path) -> None:
    """Load the engine and what colours the query on the page."""
    registry.prepare(task.engine)
    highlighting.load("sql")


def traces(task: Task) -> Traces:
    """Say whether the query only reads: then all there is of it is its session, which ends with it."""
    return "none" if registry.only_reads(task.engine, task.code or "") else "inside"


def run(work: Work) -> None:
    """Run the query over the task's inputs, write its rows into the staging folder, and check them there.

    Raises:
        JobFailed: the query is wrong.
        ExpectationFailed: its rows broke an expectation.
    """
    engine = registry.open_engine(work.task.engine, threads=work.task.limits.cpus, memory=work.task.limits.memory)
    failures: list[Exception] = []

    def execute() -> None:
        try:
            _query(work, engine)
        except Exception as error:
            failures.append(error)

    work.watch(os.getpid())
    thread = threading.Thread(target=execute, daemon=True)
    thread.start()
    try:
        highlighting.load("sql")
        if work.meanwhile is not None:
            work.meanwhile()
        thread.join()
    except BaseException:
        engine.interrupt()
        thread.join(_GRACE_SECONDS)
        raise
    if failures:
        raise failures[0]
    engine.close()
    work.progress(1, 1)


def body(work: Work) -> str:
    """Give the query as it was run."""
    return highlighting.source(work.mask(work.task.code or ""), "sql")


def _query(work: Work, engine: Engine) -> None:
    task = work.task
    try:
        for source in task.inputs:
            rows = rows_of(source, work.partitions[source.name], engine, work.data, work.run_folder)
            engine.view(source.name, rows)
        result = engine.sql(task.code or "")
        if work.staging is None:
            return
        work.staging.mkdir(parents=True, exist_ok=True)
        engine.write(result, work.staging / f"{task.run_id}-part-0.parquet", task.ds)
    except DsflowError as error:
        error.place = ", ".join(filter(None, [task.main, error.place]))
        raise
    if work.examine is not None:
        work.examine(engine)
