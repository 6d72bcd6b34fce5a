"""Recording the runs of a plan in few transactions, and losing none of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from dsflow.batches import Batches, cut_off
from dsflow.errors import EnvironmentMissing
from dsflow.history import History
from dsflow.model import LogLine, RunFinished, RunStarted
from dsflow.records import Record
from tests.samples import sample_outcome, sample_task, write_run

PATIENCE = 60.0


class Book:
    """Keeps what is recorded, batch by batch. The first batch takes until `go`."""

    def __init__(self) -> None:
        self.batches: list[list[Record]] = []
        self.writing = threading.Event()
        self.go = threading.Event()

    def __call__(self, records: Iterable[Record]) -> None:
        self.batches.append(list(records))
        self.writing.set()
        assert self.go.wait(PATIENCE)


def started(number: int) -> RunStarted:
    return RunStarted(task=sample_task(run_id=f"run-{number}"))


def finished(number: int) -> RunFinished:
    run_id = f"run-{number}"
    return RunFinished(task=sample_task(run_id=run_id), outcome=sample_outcome(run_id=run_id))


def test_the_first_event_is_written_at_once_and_the_others_together(tmp_path: Path) -> None:
    book = Book()
    with Batches(book, tmp_path) as record:
        record(started(0))
        assert book.writing.wait(PATIENCE)
        for number in range(1, 30):
            record(started(number))
            record(LogLine(task=sample_task(), text="no run of its own"))
            record(finished(number))
        book.go.set()
    first, *others = book.batches
    assert [each.run_id for each in first] == ["run-0"]
    rest = [each for batch in others for each in batch]
    assert len(others) <= 2
    # Of a run that has ended meanwhile, only that is written.
    assert [(each.run_id, each.status) for each in rest] == [(f"run-{n}", "succeeded") for n in range(1, 30)]


def test_what_cannot_be_written_is_said_once_and_costs_no_run(tmp_path: Path) -> None:
    def refuse(records: Iterable[Record]) -> None:
        raise EnvironmentMissing("the disk is full")

    def record_until_refused(record: Batches) -> None:
        for number in range(10_000):
            record(started(number))
            time.sleep(0.005)

    with Batches(refuse, tmp_path) as record, pytest.raises(EnvironmentMissing, match="the disk is full"):
        record_until_refused(record)
    assert record.error is not None
    # The mark stays: whoever reads the history after this process looks into the run folders.
    assert len(list((tmp_path / ".dsflow/recording").iterdir())) == 1


def test_a_recorder_that_ends_well_leaves_no_mark(tmp_path: Path) -> None:
    with Batches(History(None, tmp_path).record, tmp_path) as record:
        assert len(list((tmp_path / ".dsflow/recording").iterdir())) == 1
        assert cut_off(tmp_path) == []
        record(finished(1))
    assert list((tmp_path / ".dsflow/recording").iterdir()) == []
    assert [run.run_id for run in History(None, tmp_path).runs()] == ["run-1"]


DIES = """
import os, signal, sys, time
from pathlib import Path
from dsflow.batches import Batches
with Batches(lambda records: time.sleep(600), Path(sys.argv[1])):
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_runs_that_a_killed_recorder_knew_alone_come_from_their_folders(tmp_path: Path) -> None:
    History(None, tmp_path)(finished(1))
    write_run(tmp_path, sample_task(run_id="run-2"), sample_outcome(run_id="run-2"))
    assert [run.run_id for run in History(None, tmp_path).runs()] == ["run-1"]
    done = subprocess.run([sys.executable, "-c", DIES, str(tmp_path)], check=False, env={**os.environ})
    assert done.returncode == -signal.SIGKILL
    assert sorted(run.run_id for run in History(None, tmp_path).runs()) == ["run-1", "run-2"]
    assert list((tmp_path / ".dsflow/recording").iterdir()) == []
