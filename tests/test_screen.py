"""What a person sees of a run: golden screens."""

from __future__ import annotations

import pytest

from dsflow.console import Console
from dsflow.model import (
    Check,
    Column,
    Facts,
    Failure,
    File,
    LogLine,
    Manifest,
    Notice,
    Outcome,
    Progress,
    Published,
    RunFinished,
    RunStarted,
    Status,
    Task,
)
from dsflow.screen import Screen

TASK = Task(
    run_id="20130101T000000-abcdef",
    job="create-table-meteo",
    kind="notebook",
    main="m.ipynb",
    ds="2013-01-01",
    start="2013-01-01T00:00:00",
    end="2013-01-02T00:00:00",
    created="2026-11-20T00:00:00",
    parameters={"city": "paris"},
    secret_parameters=("api_token",),
    facts=Facts(runtime="process", runtime_reason="no docker: the engine does not answer"),
)
FOLDER = "datastore/job_runs/create-table-meteo/ds=2013-01-01/20130101T000000-abcdef"


def outcome(status: Status = Status.SUCCEEDED, exit_code: int = 0, **more: object) -> Outcome:
    base = Outcome(run_id=TASK.run_id, status=status, exit_code=exit_code, started="", finished="", seconds=12.34)
    return Outcome(**{**base.__dict__, **more})


@pytest.fixture
def screen(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Screen:
    monkeypatch.setattr("dsflow.screen.timestamp", lambda: "12:00:00")
    return Screen(Console(), "datastore")


def test_a_run_that_succeeds(screen: Screen, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = Manifest(
        run_id=TASK.run_id,
        job=TASK.job,
        store="table",
        name="meteo",
        ds=TASK.ds,
        published="",
        files=(File(name="x", bytes=10, sha256="", rows=8120),),
        columns=(Column(name="rain", type="DOUBLE"),),
    )
    published = Published(manifest=manifest, schema_changes=("+ rain DOUBLE",), previous_ds="2012-12-31")
    check = Check(
        name="rain_not_negative", constraint="rain >= 0", action="allow", rows=8120, violations=3, severity="warn"
    )
    ended = outcome(outputs=(published,), checks=(check,))
    screen(Notice(text="building dsflow/python"))
    screen(RunStarted(task=TASK))
    screen(LogLine(task=TASK, text="8120 rows"))
    screen(Progress(task=TASK, done=1, total=3))
    screen(RunFinished(task=TASK, outcome=ended))
    captured = capsys.readouterr()
    assert captured.err.splitlines() == [
        "12:00:00 building dsflow/python",
        "12:00:00 Running create-table-meteo ds=2013-01-01 (process, no docker: the engine does not answer)",
        "12:00:00   parameters: city=paris api_token=***",
    ]
    assert captured.out.splitlines() == [
        "12:00:00   8120 rows",
        "✓ create-table-meteo ds=2013-01-01  12s  8,120 rows",
        "  Job output data saved to datastore/tables/meteo/ds=2013-01-01",
        "  schema change since ds=2012-12-31: + rain DOUBLE",
        "  warning: 3 of 8,120 rows broke 'rain_not_negative' (allow)",
        f"  page: {FOLDER}/index.html",
    ]
    assert screen.summary([ended]).startswith("Done. OK=1 SKIP=0 WARN=1 FAIL=0 TOTAL=1 in 0.")


def test_a_failure_takes_at_most_eight_lines(screen: Screen, capsys: pytest.CaptureFixture[str]) -> None:
    failure = Failure(
        kind="JobFailed",
        message="NameError: name 'tabel' is not defined\n" + "noise " * 200,
        place="cell 3, line 2",
        source="df = tabel.read()",
        hint="one\ntwo",
        traceback="Traceback ...\n" * 100,
    )
    ended = outcome(Status.FAILED, 1, failure=failure)
    screen(RunFinished(task=TASK, outcome=ended))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "✗ create-table-meteo ds=2013-01-01 failed in 12s"
    assert lines[1] == "  cell 3, line 2: df = tabel.read()"
    assert lines[2].startswith("  NameError: name 'tabel' is not defined noise")
    assert lines[3] == "  one two"
    assert lines[4] == f"  page: {FOLDER}/index.html"
    assert lines[5] == "  next: dsflow open --last-failed, or mend it and `dsflow run create-table-meteo 2013-01-01`"
    assert len(lines) <= 8
    assert screen.summary([ended]).startswith("Done. OK=0 SKIP=0 WARN=0 FAIL=1 TOTAL=1 in ")


def test_a_long_message_fits_one_line(screen: Screen, capsys: pytest.CaptureFixture[str]) -> None:
    failure = Failure(kind="JobFailed", message="x" * 5000)
    screen(RunFinished(task=TASK, outcome=outcome(Status.FAILED, 1, failure=failure)))
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 310


@pytest.mark.parametrize(("status", "code"), [(Status.FAILED, 5), (Status.INTERRUPTED, 130)])
def test_where_nothing_is_to_be_mended_the_next_command_is_to_run_again(
    screen: Screen, capsys: pytest.CaptureFixture[str], status: Status, code: int
) -> None:
    screen(RunFinished(task=TASK, outcome=outcome(status, code, failure=Failure(kind="", message="no"))))
    assert capsys.readouterr().out.splitlines()[-1] == "  next: `dsflow run create-table-meteo 2013-01-01`"


def test_a_brief_screen_gives_a_success_one_line_and_a_failure_all_of_them(
    capsys: pytest.CaptureFixture[str],
) -> None:
    screen = Screen(Console(), "datastore", brief=True)
    screen(RunStarted(task=TASK))
    screen(LogLine(task=TASK, text="8120 rows"))
    screen(RunFinished(task=TASK, outcome=outcome()))
    screen(RunFinished(task=TASK, outcome=outcome(Status.FAILED, 1, failure=Failure(kind="", message="no"))))
    captured = capsys.readouterr()
    assert captured.err == ""
    assert captured.out.splitlines() == [
        "✓ create-table-meteo ds=2013-01-01  12s",
        "✗ create-table-meteo ds=2013-01-01 failed in 12s",
        "  no",
        f"  page: {FOLDER}/index.html",
        "  next: dsflow open --last-failed, or mend it and `dsflow run create-table-meteo 2013-01-01`",
    ]
