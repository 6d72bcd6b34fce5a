"""`dsflow runs`, `dsflow logs` and `dsflow open` as a person meets them."""

from __future__ import annotations

import datetime as dt
import os
import re
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dsflow.history import History
from dsflow.model import RunFinished, RunStarted, Status, to_json
from dsflow.workspace import Workspace
from tests.conftest import MakeWorkspace, Screen
from tests.samples import failed_outcome, sample_outcome, sample_task, write_run

Dsflow = Callable[..., Screen]

FAILED = "20261120T043000-00000b"
SUCCEEDED = "20261120T043512-3f9a1c"
RUNNING = "20261120T050000-00000c"


@pytest.fixture(autouse=True)
def _utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "UTC")
        time.tzset()
        yield
    time.tzset()


@pytest.fixture
def workspace(make_workspace: MakeWorkspace) -> Workspace:
    """A workspace with one run that succeeded and an earlier one that failed."""
    made = make_workspace({})
    history = History(None, made.datastore)
    failed = sample_task(FAILED, job="daily-rain", kind="sql", main="query.sql", parameters={}, secret_parameters=())
    ended = failed_outcome(FAILED, started="2026-11-20T04:30:00+00:00", seconds=125)
    for task, outcome, log in (
        (failed, ended, "reading\nKeyError: 'rian'\n"),
        (sample_task(SUCCEEDED), sample_outcome(SUCCEEDED), "cell 1\ncell 2\n"),
    ):
        folder = write_run(made.datastore, task, outcome, log)
        (folder / "index.html").write_text("<!doctype html>")
        history(RunFinished(task=task, outcome=outcome))
    return made


def screen(text: str) -> str:
    """Give a screen as written in a test: dedented, without spaces at the ends of lines."""
    return "\n".join(line.rstrip() for line in textwrap.dedent(text).strip("\n").splitlines())


def test_runs_lists_the_newest_first(workspace: Workspace, dsflow: Dsflow) -> None:
    assert screen(dsflow("runs").out) == screen("""
        run                     job                ds          status     rows    took
        ────────────────────────────────────────────────────────────────────────────────
        20261120T043512-3f9a1c  create-table-rain  2026-11-20  succeeded  26,115  4.2s
        20261120T043000-00000b  daily-rain         2026-11-20  failed             2m 05s
    """)


def test_since_takes_words_for_days_and_refuses_others(workspace: Workspace, dsflow: Dsflow) -> None:
    assert dsflow("runs", "--since", "yesterday").exit_code == 0
    refused = dsflow("runs", "--since", "lately")
    assert refused.exit_code == 2
    assert "'lately' is no date; write it like 2026-11-20" in refused.err


def test_on_a_narrow_terminal_the_ids_and_dates_of_runs_stay_whole(workspace: Workspace) -> None:
    import pexpect

    command, environment = ["-m", "dsflow", "runs"], {**os.environ, "TERM": "xterm", "COLUMNS": "72"}
    terminal = pexpect.spawn(sys.executable, command, encoding="utf-8", dimensions=(24, 72), env=environment)
    terminal.expect(pexpect.EOF)
    assert "20261120T043512-3f9a1c" in terminal.before
    assert "2026-11-20" in terminal.before
    assert "create-table-rain" not in terminal.before, "the job is what wraps"


def test_runs_can_be_filtered(workspace: Workspace, dsflow: Dsflow) -> None:
    def listed(*options: str) -> list[str]:
        return re.findall(r"\d{8}T\d{6}-\w{6}", dsflow("runs", *options).out)

    assert listed("--job", "daily-rain") == [FAILED]
    assert listed("--status", "succeeded") == [SUCCEEDED]
    assert listed("--limit", "1") == [SUCCEEDED]
    assert listed("--since", "2026-11-20 04:31:00") == [SUCCEEDED]
    assert listed("--since", "2026-11-20") == [SUCCEEDED, FAILED]
    assert listed("--since", "2100-01-01") == []
    assert listed("--ds", "2026-11-20") == [SUCCEEDED, FAILED]
    nothing = dsflow("runs", "--ds", "2026-11-21")
    assert (nothing.exit_code, nothing.out, nothing.err) == (0, "", "No run matches.\n")
    assert dsflow("runs", "--status", "succeded").exit_code == 2


def test_runs_as_json_is_one_document(workspace: Workspace, dsflow: Dsflow) -> None:
    document = dsflow("runs", "--json").document
    assert [run["status"] for run in document["runs"]] == ["succeeded", "failed"]
    assert document["runs"][0]["parameters"] == {"city": "paris", "hours": 24}


def test_before_the_first_run_the_list_says_how_to_make_one(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    make_workspace({})
    assert dsflow("runs").err == "No run yet. `dsflow run JOB DS` makes one.\n"
    assert dsflow("runs", "--json").document == {"runs": []}
    for command in (["runs", "show"], ["logs"], ["open"]):
        result = dsflow(*command)
        assert result.exit_code == 2
        assert result.err == "error: there is no run yet\n  `dsflow run JOB DS` makes one.\n"


def test_show_tells_what_a_run_read_and_made(workspace: Workspace, dsflow: Dsflow) -> None:
    assert screen(dsflow("runs", "show", "20261120T0435").out) == screen("""
        run      20261120T043512-3f9a1c
        job      create-table-rain
        ds       2026-11-20
        status   succeeded
        started  2026-11-20 04:35:12, took 4.2s
        runtime  docker (a Docker engine answers)
        image    dsflow/python
        git      4f2a9d1c7e
        folder   datastore/job_runs/create-table-rain/ds=2026-11-20/20261120T043512-3f9a1c

        Parameters
          city       paris
          hours      24
          api_token  ***

        Inputs
        name  source       ds          rows  bytes    hash
        ──────────────────────────────────────────────────────────
        raw   raw/weather  2026-11-20        48.2 kB  c0ffeec0ffee

        Outputs
        output           ds          rows    bytes     hash
        ───────────────────────────────────────────────────
        tables/fct_rain  2026-11-20  26,115  188.4 kB

        Schema
          hour  INTEGER
          rain  DOUBLE

        Schema changes since ds=2026-11-19
          + rain DOUBLE

        Checks
        expectation        must be true  action  rows    violations  verdict
        ────────────────────────────────────────────────────────────────────
        rain_not_negative  rain >= 0     fail    26,115  0           passed
    """)


def test_show_tells_why_a_run_failed(workspace: Workspace, dsflow: Dsflow) -> None:
    out = dsflow("runs", "show", FAILED).out
    assert "status   failed, exit code 1\n" in out
    assert "error    KeyError: 'rian'\nplace    cell 3, line 2: rows[\"rian\"].sum()\n" in out
    document = dsflow("runs", "show", FAILED, "--json").document
    assert document["run"]["run_id"] == FAILED
    assert document["task"]["main"] == "query.sql"
    assert document["outcome"]["failure"]["place"] == "cell 3, line 2"


def test_show_of_a_run_whose_folder_was_removed_tells_what_the_history_knows(
    workspace: Workspace, dsflow: Dsflow
) -> None:
    history = History(None, workspace.datastore)
    history(RunFinished(task=sample_task("20261101T000000-aaaaaa"), outcome=sample_outcome("20261101T000000-aaaaaa")))
    result = dsflow("runs", "show", "20261101")
    assert result.exit_code == 0
    assert "status   succeeded\n" in result.out
    assert dsflow("runs", "show", "20261101", "--json").document["task"] is None


def test_an_unknown_run_is_an_error_with_a_guess(workspace: Workspace, dsflow: Dsflow) -> None:
    for command in (["runs", "show"], ["logs"], ["open"]):
        result = dsflow(*command, "20261120T043512-3f9a1d")
        assert result.exit_code == 2
        assert f"no run '20261120T043512-3f9a1d'; did you mean '{SUCCEEDED}'?" in result.err
        assert "Traceback" not in result.err


def test_rebuild_says_what_it_found_and_what_it_skipped(workspace: Workspace, dsflow: Dsflow) -> None:
    (workspace.datastore / "job_runs" / "history.db").unlink()
    broken = workspace.datastore / "job_runs" / "a" / "ds=2026-11-20" / "20261120T000000-000000"
    broken.mkdir(parents=True)
    (broken / "task.json").write_text("{")
    result = dsflow("runs", "rebuild")
    assert result.out == "Done. RUNS=2 BROKEN=1\n"
    place = "datastore/job_runs/a/ds=2026-11-20/20261120T000000-000000"
    assert result.err.startswith(f"skipped {place}: Expecting property name")
    assert dsflow("runs", "rebuild", "--json").document["broken"][0]["folder"] == place
    assert len(dsflow("runs", "--json").document["runs"]) == 2


def test_a_damaged_database_is_a_sentence_that_says_what_to_do(workspace: Workspace, dsflow: Dsflow) -> None:
    (workspace.datastore / "job_runs" / "history.db").write_bytes(b"not a database at all" * 100)
    result = dsflow("runs")
    assert result.exit_code == 4
    assert "history.db: file is not a database" in result.err
    assert "dsflow runs rebuild" in result.err
    assert len(result.err.splitlines()) == 2


def test_logs_prints_the_log_of_the_last_run_or_of_a_named_one(workspace: Workspace, dsflow: Dsflow) -> None:
    assert dsflow("logs").out == "cell 1\ncell 2\n"
    assert dsflow("logs", FAILED).out == "reading\nKeyError: 'rian'\n"
    assert dsflow("logs", "-f", FAILED).out == "reading\nKeyError: 'rian'\n"
    assert dsflow("logs", FAILED, "--json").document == {"run": FAILED, "lines": ["reading", "KeyError: 'rian'"]}


def test_logs_follows_a_run_to_its_end(workspace: Workspace, dsflow: Dsflow) -> None:
    task = sample_task(RUNNING, created=dt.datetime.now(dt.UTC).isoformat())
    folder = write_run(workspace.datastore, task)
    (folder / "log.txt").unlink()
    History(None, workspace.datastore)(RunStarted(task=task))

    def run() -> None:
        with (folder / "log.txt").open("w") as log:
            for piece in ("first\nsec", "ond\n", "last, unfinished"):
                time.sleep(0.3)
                log.write(piece)
                log.flush()
        (folder / "outcome.json").write_text(to_json(sample_outcome(RUNNING)))

    running = threading.Thread(target=run)
    running.start()
    result = dsflow("logs", RUNNING, "--follow")
    running.join()
    assert result.out == "first\nsecond\nlast, unfinished\n"


def test_a_run_without_a_log_is_an_error(workspace: Workspace, dsflow: Dsflow) -> None:
    next(workspace.datastore.glob(f"job_runs/*/*/{FAILED}/log.txt")).unlink()
    result = dsflow("logs", FAILED)
    assert result.exit_code == 2
    assert result.err == f"error: run {FAILED} left no log\n  dsflow runs show {FAILED}\n"


def test_open_prints_the_path_and_starts_no_browser_without_a_screen(
    workspace: Workspace, dsflow: Dsflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("BROWSER", "DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    page = "datastore/job_runs/{}/ds=2026-11-20/{}/index.html\n"
    assert dsflow("open").out == page.format("create-table-rain", SUCCEEDED)
    assert dsflow("open", "--last-failed").out == page.format("daily-rain", FAILED)
    document = dsflow("open", FAILED, "--json").document
    assert document["opened"] is False
    assert Path(document["page"]).is_file()
    both = dsflow("open", FAILED, "--last-failed")
    assert both.exit_code == 2


def test_open_starts_the_browser_of_the_environment(workspace: Workspace, tmp_path: Path) -> None:
    browser = tmp_path / "browser"
    browser.write_text(f"#!/bin/sh\necho \"$1\" >> '{tmp_path}/opened'\n")
    browser.chmod(0o755)
    environment = {**os.environ, "BROWSER": f"{browser} %s"}
    for options in ([], ["--print"]):
        command = [sys.executable, "-m", "dsflow", "open", *options]
        subprocess.run(command, env=environment, check=True, capture_output=True, cwd=workspace.root)
    (opened,) = (tmp_path / "opened").read_text().splitlines()
    assert opened == next(workspace.datastore.glob(f"job_runs/*/*/{SUCCEEDED}/index.html")).as_uri()


def test_a_run_without_a_page_points_to_its_log(workspace: Workspace, dsflow: Dsflow) -> None:
    next(workspace.datastore.glob(f"job_runs/*/*/{FAILED}/index.html")).unlink()
    result = dsflow("open", FAILED)
    assert result.exit_code == 2
    assert result.err == f"error: run {FAILED} (failed) has no page\n  dsflow logs {FAILED}\n"


def test_an_interrupted_run_can_be_filtered_for(workspace: Workspace, dsflow: Dsflow) -> None:
    ended = failed_outcome(RUNNING, status=Status.INTERRUPTED, exit_code=130)
    History(None, workspace.datastore)(RunFinished(task=sample_task(RUNNING), outcome=ended))
    document = dsflow("runs", "--status", "interrupted", "--json").document
    assert [run["exit_code"] for run in document["runs"]] == [130]
