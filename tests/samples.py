"""Runs to write tests with: a task and its outcome, whole, every value replaceable; and their folder on disk."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from dsflow.model import (
    Check,
    Column,
    Expectation,
    Facts,
    Failure,
    File,
    Input,
    InputUsed,
    Manifest,
    Outcome,
    Output,
    Published,
    Status,
    Task,
    to_json,
)

RUN_ID = "20261120T043512-3f9a1c"


def sample_task(run_id: str = RUN_ID, **changes: Any) -> Task:
    """Give the task of a notebook job that makes `fct_rain` for one day."""
    task = Task(
        run_id=run_id,
        job="create-table-rain",
        kind="notebook",
        main="create-table-rain.ipynb",
        ds="2026-11-20",
        start="2026-11-20T00:00:00",
        end="2026-11-21T00:00:00",
        created="2026-11-20T04:35:12+00:00",
        description="Rain per hour in Paris",
        parameters={"city": "paris", "hours": 24, "api_token": None},
        secret_parameters=("api_token",),
        inputs=(Input(name="raw", kind="raw", target="weather", format="json", partitions=("2026-11-20",)),),
        output=Output(store="table", name="fct_rain", ds="2026-11-20"),
        expectations=(Expectation(name="rain_not_negative", constraint="rain >= 0"),),
        facts=Facts(
            runtime="docker",
            runtime_reason="a Docker engine answers",
            image="dsflow/python",
            image_id="sha256:9b1c0f7d2a4e",
            git_revision="4f2a9d1c7e",
            dsflow_version="1.0.0",
            host="laptop",
            user="ada",
        ),
    )
    return dataclasses.replace(task, **changes)


def sample_outcome(run_id: str = RUN_ID, **changes: Any) -> Outcome:
    """Give the outcome of `sample_task`: one input read, 26,115 rows published, a column added."""
    read = InputUsed(
        name="raw", kind="raw", target="weather", ds="2026-11-20", hash="c0ffee" * 10 + "c0ff", rows=None, bytes=48_213
    )
    verdict = Check(name="rain_not_negative", constraint="rain >= 0", action="fail", rows=26_115, violations=0)
    manifest = Manifest(
        run_id=run_id,
        job="create-table-rain",
        store="table",
        name="fct_rain",
        ds="2026-11-20",
        published="2026-11-20T04:35:16+00:00",
        files=(File(name=f"{run_id}-part-0.parquet", bytes=188_416, sha256="ab" * 32, rows=26_115),),
        columns=(Column(name="hour", type="INTEGER"), Column(name="rain", type="DOUBLE")),
        inputs=(read,),
        checks=(verdict,),
    )
    outcome = Outcome(
        run_id=run_id,
        status=Status.SUCCEEDED,
        exit_code=0,
        started="2026-11-20T04:35:12+00:00",
        finished="2026-11-20T04:35:16.200000+00:00",
        seconds=4.2,
        inputs=(read,),
        outputs=(Published(manifest=manifest, schema_changes=("+ rain DOUBLE",), previous_ds="2026-11-19"),),
        checks=(verdict,),
    )
    return dataclasses.replace(outcome, **changes)


def failed_outcome(run_id: str = RUN_ID, **changes: Any) -> Outcome:
    """Give the outcome of a `sample_task` whose third cell failed."""
    failure = Failure(
        kind="JobFailed",
        message="KeyError: 'rian'",
        place="cell 3, line 2",
        source='rows["rian"].sum()',
        hint="dsflow run create-table-rain 2026-11-20",
        traceback="Traceback (most recent call last):\n  ...\nKeyError: 'rian'",
    )
    ended = {"status": Status.FAILED, "exit_code": 1, "failure": failure, "outputs": (), "checks": ()}
    return sample_outcome(run_id, **{**ended, **changes})


def write_run(datastore: Path, task: Task, outcome: Outcome | None = None, log: str = "") -> Path:
    """Write a run folder as a run leaves it (without an outcome: as a run has it while it runs)."""
    folder = datastore / task.folder
    folder.mkdir(parents=True)
    (folder / "task.json").write_text(to_json(task), "utf-8")
    (folder / "log.txt").write_text(log, "utf-8")
    if outcome is not None:
        (folder / "outcome.json").write_text(to_json(outcome), "utf-8")
    return folder
