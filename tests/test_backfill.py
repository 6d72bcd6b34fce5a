"""`dsflow backfill`, `status` and `run SELECTION` from end to end in the process runtime, on small jobs."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pexpect
import psutil
import pytest

from dsflow.workspace import Workspace
from tests.conftest import MakeWorkspace, Screen, Tree

Dsflow = Callable[..., Screen]

DAYS = [f"2026-11-0{day}" for day in range(1, 5)]
SPAN = "2026-11-01..2026-11-04"
SQL = "version: 1\nkind: sql\noutput: {table: %s}\n"
SCRIPT = "version: 1\nkind: script\noutput: {raw: %s}\n"


@pytest.fixture(autouse=True)
def _in_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DSFLOW_RUNTIME", "process")


def job(name: str, code: str, spec: str = "") -> Tree:
    """A SQL job that writes the table of its name."""
    return {f"jobs/{name}/job_specs.yaml": SQL % name + spec, f"jobs/{name}/q.sql": code}


def script(name: str, code: str, spec: str = "") -> Tree:
    """A shell job that writes the raw dataset of its name; its sink is `$1`, or `$2` behind a source."""
    return {f"jobs/{name}/job_specs.yaml": SCRIPT % name + spec, f"jobs/{name}/main.sh": code}


def raw(*days: str) -> dict[str, str]:
    return {f"datastore/raw/rain/ds={ds}/a.csv": f"hour,mm\n0,{int(ds[-2:])}.5\n1,0\n" for ds in days}


PIPELINE = {**job("wet", "SELECT hour, mm FROM raw.rain"), **job("total", "SELECT sum(mm) AS mm FROM wet")}


def published(workspace: Workspace) -> dict[str, list[bytes]]:
    """What is in every partition, whatever its files are called."""
    folders = sorted([*workspace.datastore.glob("tables/*/ds=*"), *workspace.datastore.glob("raw/*/ds=*")])
    root = workspace.datastore
    return {str(f.relative_to(root)): [file.read_bytes() for file in sorted(f.iterdir())] for f in folders}


def outcomes(workspace: Workspace, name: str = "*") -> list[dict[str, Any]]:
    found = workspace.datastore.glob(f"job_runs/{name}/ds=*/*/outcome.json")
    return sorted((json.loads(path.read_text()) for path in found), key=lambda outcome: str(outcome["started"]))


def last(screen: Screen) -> str:
    return screen.out.splitlines()[-1].rsplit(" in ", 1)[0]


# ---- the plan


def test_the_plan_is_shown_with_its_reasons_before_anything_runs(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    workspace = make_workspace({**PIPELINE, **raw(*DAYS[:3])})
    dsflow("run", "wet", DAYS[0])
    before = len(outcomes(workspace))
    screen = dsflow("backfill", SPAN, "--dry-run", "--explain", "-j", "2")
    assert screen.exit_code == 0
    code = re.search(r"same code (\w{6})", screen.out)
    assert code is not None
    assert screen.out.splitlines() == [
        "wet  1 fresh, 3 missing",
        "            1   5    10   15   20   25   30",
        "2026-11     ■□□□··························",
        "",
        "total  4 missing",
        "            1   5    10   15   20   25   30",
        "2026-11     □□□□··························",
        "",
        "■ fresh  ▨ stale  □ missing  ✗ failed  ◌ running  · not in range",
        "",
        "wet",
        f"  2026-11-01  skip: same code {code[1]}, inputs unchanged",
        "  2026-11-02..2026-11-03 (2)  run: missing",
        "  2026-11-04  wait: raw/rain ds=2026-11-04 is not there and no job writes it",
        "total",
        "  2026-11-01..2026-11-03 (3)  run: missing",
        "  2026-11-04  wait: job wet waits",
        "",
        "5 runs, time unknown, no past runs of total; 1 to skip; 2 that must wait",
    ]
    assert len(outcomes(workspace)) == before


def test_the_estimate_comes_from_past_runs(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    make_workspace({**job("a", "SELECT 1 AS x")})
    dsflow("backfill", DAYS[0], "-y")
    screen = dsflow("backfill", SPAN, "--dry-run")
    assert re.fullmatch(r"3 runs, about [\d.]+s; 1 to skip", screen.out.splitlines()[-1])


def test_without_a_terminal_nothing_is_asked_and_nothing_runs(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    workspace = make_workspace({**job("a", "SELECT 1 AS x")})
    screen = dsflow("backfill", SPAN)
    assert screen.exit_code == 2
    assert screen.err.splitlines() == [
        "error: nobody is there to be asked",
        "  `-y` runs it without asking, `--dry-run` only shows it.",
    ]
    assert outcomes(workspace) == []


def test_a_person_is_asked_and_sees_what_goes_on(make_workspace: MakeWorkspace) -> None:
    workspace = make_workspace({**job("a", "SELECT 1 AS x")})
    command = [sys.executable, "-m", "dsflow", "backfill", SPAN]
    for answer, wanted in (("n", 0), ("y", 4)):
        child = pexpect.spawn(command[0], command[1:], encoding="utf-8", timeout=60, dimensions=(40, 120))
        child.expect_exact("Run this? [y/N]:")
        child.sendline(answer)
        shown = child.read()
        child.close()
        assert child.exitstatus == (0 if wanted else 130)
        assert len(outcomes(workspace, "a")) == wanted
    assert "all steps" in shown
    assert shown.count("✓ a ds=") == 4
    assert "Done. OK=4" in shown.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "Usage: dsflow backfill [SELECTION]... A..B"),
        (("a",), "'a' is not a date"),
        (("2026-11-05..2026-11-01",), "2026-11-05..2026-11-01 ends before it begins"),
        (("b", SPAN), "there is no job 'b'"),
        (("--memory", "much", SPAN), "--memory: 'much' is not an amount of memory"),
        (("-p", "citi=x", SPAN), "-p citi: no job of the plan has this parameter; did you mean 'city'?"),
        (("board", SPAN), "board: a dashboard has no partitions"),
    ],
)
def test_a_mistake_is_a_sentence(
    make_workspace: MakeWorkspace, dsflow: Dsflow, arguments: tuple[str, ...], message: str
) -> None:
    dashboard = {"jobs/board/job_specs.yaml": "version: 1\nkind: dashboard\n", "jobs/board/main.py": "app = None"}
    make_workspace({**job("a", "SELECT 1 AS x", "parameters: {city: paris}\n"), **dashboard})
    screen = dsflow("backfill", *arguments)
    assert screen.exit_code == 2
    assert screen.err.startswith(f"error: {message}")


# ---- carrying it out


def test_what_is_done_is_not_done_again(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    workspace = make_workspace({**PIPELINE, **raw(*DAYS)})
    assert last(dsflow("backfill", SPAN, "-y")) == "Done. OK=8 SKIP=0 WARN=0 FAIL=0 TOTAL=8"
    made = published(workspace)
    assert last(dsflow("backfill", SPAN, "-y")) == "Done. OK=0 SKIP=8 WARN=0 FAIL=0 TOTAL=8"
    assert published(workspace) == made
    assert last(dsflow("backfill", SPAN, "-y", "--force")) == "Done. OK=8 SKIP=0 WARN=0 FAIL=0 TOTAL=8"


def test_off_a_terminal_each_step_is_a_line(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    make_workspace({**PIPELINE, **raw(*DAYS[:2])})
    screen = dsflow("backfill", "2026-11-01..2026-11-02", "-y", "-j", "1")
    lines = [re.sub(r"\d\d:\d\d:\d\d", "12:00:00", line) for line in screen.out.splitlines()[11:]]
    assert [re.sub(r"\d+\.\ds", "0.1s", line) for line in lines] == [
        "12:00:00 1/4 ✓ wet ds=2026-11-01  0.1s  2 rows",
        "12:00:00 2/4 ✓ total ds=2026-11-01  0.1s  1 row",
        "12:00:00 3/4 ✓ wet ds=2026-11-02  0.1s  2 rows",
        "12:00:00 4/4 ✓ total ds=2026-11-02  0.1s  1 row",
        "Done. OK=4 SKIP=0 WARN=0 FAIL=0 TOTAL=4 in 0.1s",
    ]


def test_verbose_shows_what_tasks_print_with_their_names(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    make_workspace(script("a", 'echo "made in $DSFLOW_DS"; echo 1 > "$1/x"\n'))
    line = "a 2026-11-02 | made in 2026-11-02"
    assert line in dsflow("-v", "backfill", SPAN, "-y").out
    assert line not in dsflow("backfill", SPAN, "-y", "--force").out


FAILS_ONCE = (
    'if [ "$DSFLOW_DS" = 2026-11-02 ] && [ ! -f "$DSFLOW_DATA/mended" ]; then exit 3; fi\necho $DSFLOW_DS > "$1/x"\n'
)
COPIES = 'cp "$1/x" "$2/y"\n'
AFTER = "inputs: {first: {raw: first}}\n"


def test_a_failure_stops_what_needs_it_and_nothing_else(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    workspace = make_workspace({**script("first", FAILS_ONCE), **script("second", COPIES, AFTER)})
    screen = dsflow("backfill", SPAN, "-y", "-j", "2")
    assert screen.exit_code == 1
    lines = screen.out.splitlines()
    place = next(number for number, line in enumerate(lines) if "✗ first" in line)
    assert re.fullmatch(r"\S+ \d/8 ✗ first ds=2026-11-02 failed in [\d.]+s", lines[place])
    assert lines[place + 1] == "  main.sh ended with exit code 3"
    assert lines[-3:-1] == ["second", "  2026-11-02  wait: job first failed"]
    assert last(screen) == "Done. OK=6 SKIP=0 WARN=0 FAIL=1 WAIT=1 TOTAL=8"
    assert [name for name in published(workspace) if "2026-11-02" in name] == []


def test_a_failure_of_many_dates_is_explained_once(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    make_workspace(job("a", "SELECT nonsense"))
    screen = dsflow("backfill", SPAN, "-y", "-j", "1")
    assert screen.out.count("Binder Error") == 1
    assert len(re.findall(r"✗ a ds=2026-11-0[234] failed in [\d.]+s, like ds=2026-11-01", screen.out)) == 3


def test_fail_fast_starts_nothing_after_a_failure(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    workspace = make_workspace(script("first", FAILS_ONCE))
    screen = dsflow("backfill", SPAN, "-y", "-j", "1", "--fail-fast")
    assert last(screen) == "Done. OK=1 SKIP=0 WARN=0 FAIL=1 WAIT=2 TOTAL=4"
    assert "  2026-11-03..2026-11-04 (2)  wait: not started: job first failed" in screen.out
    assert len(outcomes(workspace)) == 2


def test_the_same_command_goes_on_after_a_failure(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    workspace = make_workspace({**script("first", FAILS_ONCE), **script("second", COPIES, AFTER)})
    dsflow("backfill", SPAN, "-y")
    (workspace.datastore / "mended").touch()
    assert "✗" in dsflow("status", SPAN).out
    screen = dsflow("backfill", SPAN, "-y")
    assert (screen.exit_code, last(screen)) == (0, "Done. OK=2 SKIP=6 WARN=0 FAIL=0 TOTAL=8")
    texts = {name: files for name, files in published(workspace).items() if "second" in name}
    assert texts == {f"raw/second/ds={ds}": [f"{ds}\n".encode()] for ds in DAYS}


def test_only_failed_leaves_what_is_missing(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    workspace = make_workspace(script("first", FAILS_ONCE))
    dsflow("backfill", "2026-11-01..2026-11-02", "-y")
    (workspace.datastore / "mended").touch()
    assert last(dsflow("backfill", SPAN, "-y", "--only", "failed")) == "Done. OK=1 SKIP=3 WARN=0 FAIL=0 TOTAL=4"
    assert last(dsflow("backfill", SPAN, "-y", "--only", "missing")) == "Done. OK=2 SKIP=2 WARN=0 FAIL=0 TOTAL=4"


def test_latest_first(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    make_workspace(job("a", "SELECT 1 AS x"))
    screen = dsflow("backfill", SPAN, "-y", "-j", "1", "--latest-first")
    assert re.findall(r"✓ a ds=(\S+)", screen.out) == DAYS[::-1]


def test_a_rebuilt_input_that_comes_out_the_same_makes_nothing_else_run(
    make_workspace: MakeWorkspace, dsflow: Dsflow
) -> None:
    workspace = make_workspace({**job("a", "SELECT 1 AS x"), **job("b", "SELECT x FROM a")})
    dsflow("backfill", SPAN, "-y")
    (workspace.jobs / "a/q.sql").write_text("SELECT 2 - 1 AS x")
    screen = dsflow("backfill", SPAN, "-y")
    assert "b ds=2026-11-01  skipped: inputs came out the same" in screen.out
    assert last(screen) == "Done. OK=4 SKIP=4 WARN=0 FAIL=0 TOTAL=8"
    (workspace.jobs / "a/q.sql").write_text("SELECT 7 AS x")
    assert last(dsflow("backfill", SPAN, "-y")) == "Done. OK=8 SKIP=0 WARN=0 FAIL=0 TOTAL=8"


def test_parameters_go_to_the_jobs_that_have_them(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    spec = "parameters: {n: 1}\n"
    make_workspace({**job("a", "SELECT {{ n }} AS x", spec), **job("b", "SELECT x FROM a")})
    assert dsflow("backfill", DAYS[0], "-y", "-p", "n=5").exit_code == 0
    assert last(dsflow("backfill", DAYS[0], "-y", "-p", "n=5")) == "Done. OK=0 SKIP=2 WARN=0 FAIL=0 TOTAL=2"
    explained = dsflow("backfill", DAYS[0], "--dry-run", "--explain").out
    assert "2026-11-01  run: parameters changed (n: 5 -> 1)" in explained


def test_one_document_with_json(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    make_workspace({**PIPELINE, **raw(DAYS[0])})
    planned = dsflow("backfill", DAYS[0], "--dry-run", "--json").document
    assert planned["runs"] == 2
    assert [(s["job"], s["action"], s["reason"], s["needs"]) for s in planned["steps"]] == [
        ("wet", "run", "missing", []),
        ("total", "run", "missing", [0]),
    ]
    assert planned["grids"][0]["partitions"] == {DAYS[0]: "missing"}
    done = dsflow("--json", "backfill", DAYS[0], "-y").document
    assert done["exit_code"] == 0
    assert [(o["job"], o["ds"], o["status"]) for o in done["outcomes"]] == [
        ("wet", DAYS[0], "succeeded"),
        ("total", DAYS[0], "succeeded"),
    ]


# ---- several at once

MEETS = """
touch "$DSFLOW_DATA/here-$DSFLOW_DS"
for i in $(seq 600); do
    if [ "$(ls "$DSFLOW_DATA" | grep -c here-)" -ge 2 ]; then echo met > "$1/x"; exit 0; fi
    sleep 0.1
done
exit 1
"""


def spans(workspace: Workspace) -> list[tuple[str, str]]:
    return [(outcome["started"], outcome["finished"]) for outcome in outcomes(workspace)]


def test_dates_run_at_the_same_time(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    # Each run waits until the other one is there too.
    workspace = make_workspace(script("a", MEETS))
    assert dsflow("backfill", "2026-11-01..2026-11-02", "-y", "-j", "2").exit_code == 0
    (first, second) = spans(workspace)
    assert second[0] < first[1]


def test_what_does_not_fit_into_the_memory_budget_waits(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    workspace = make_workspace(job("a", "SELECT 1 AS x", "run: {memory: 600m}\n"))
    assert dsflow("backfill", SPAN, "-y", "-j", "4", "--memory", "1g").exit_code == 0
    ordered = spans(workspace)
    assert len(ordered) == 4
    assert all(before[1] <= after[0] for before, after in pairwise(ordered))


def test_a_step_that_fails_is_tried_again(
    make_workspace: MakeWorkspace, dsflow: Dsflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dsflow.runner._FIRST_PAUSE_SECONDS", 0.01)
    code = 'if mkdir "$DSFLOW_DATA/tried-$DSFLOW_DS"; then exit 1; fi\necho 1 > "$1/x"\n'
    workspace = make_workspace(script("a", code, "run: {retries: 1}\n"))
    screen = dsflow("backfill", "2026-11-01..2026-11-02", "-y")
    assert (screen.exit_code, last(screen)) == (0, "Done. OK=2 SKIP=0 WARN=0 FAIL=0 TOTAL=2")
    assert "a ds=2026-11-01 failed: main.sh ended with exit code 1; retry 1 of 1 in 0.01 s" in screen.err
    assert len(outcomes(workspace)) == 4


# ---- being interrupted

SLOW = {**script("first", 'sleep 0.2\necho $DSFLOW_DS > "$1/x"\n'), **script("second", COPIES, AFTER)}
TEN = "2026-11-01..2026-11-10"


@pytest.fixture
def host(make_workspace: MakeWorkspace) -> Iterator[tuple[Workspace, subprocess.Popen[str]]]:
    """A backfill that has published something and is at work on more."""
    workspace = make_workspace(SLOW)
    command = [sys.executable, "-m", "dsflow", "backfill", TEN, "-y", "-j", "2"]
    process = subprocess.Popen(command, cwd=workspace.root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    wait_for(lambda: len(list(workspace.datastore.glob("raw/*/ds=*"))) >= 3, "three partitions")
    yield workspace, process
    process.kill()
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


def wait_for(condition: Callable[[], object], what: str) -> None:
    for _ in range(1200):
        if condition():
            return
        time.sleep(0.05)
    pytest.fail(f"not within a minute: {what}")


def undisturbed() -> dict[str, list[bytes]]:
    days = [f"2026-11-{day:02}" for day in range(1, 11)]
    return {f"raw/{name}/ds={ds}": [f"{ds}\n".encode()] for name in ("first", "second") for ds in days}


def complete(folder: Path) -> bool:
    return all(path.with_name("outcome.json").exists() for path in folder.glob("job_runs/*/*/*/task.json"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_saves_what_runs_and_the_same_command_goes_on(
    host: tuple[Workspace, subprocess.Popen[str]], dsflow: Dsflow, number: signal.Signals
) -> None:
    workspace, process = host
    process.send_signal(number)
    shown, _ = process.communicate(timeout=60)
    assert process.returncode == 130, shown
    assert "Traceback" not in shown
    assert "Interrupted. The same command goes on from here: what is done is not done again." in shown
    assert shown.splitlines()[-1].startswith("Done. OK=")
    assert "wait: not started: interrupted" in shown
    # All that had started has its outcome and its page.
    assert complete(workspace.datastore)
    done = len(published(workspace))
    assert 3 <= done < 20
    screen = dsflow("backfill", TEN, "-y")
    assert (screen.exit_code, f"SKIP={done}" in last(screen)) == (0, True)
    assert published(workspace) == undisturbed()


def test_a_second_ctrl_c_kills(make_workspace: MakeWorkspace) -> None:
    code = "trap '' TERM INT\necho $$ > \"$DSFLOW_DATA/pid-$DSFLOW_DS\"\nwhile true; do sleep 0.1; done\n"
    workspace = make_workspace(script("a", code))
    command = [sys.executable, "-m", "dsflow", "backfill", "2026-11-01..2026-11-02", "-y", "-j", "2"]
    process = subprocess.Popen(command, cwd=workspace.root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        wait_for(lambda: len(list(workspace.datastore.glob("pid-*"))) == 2, "both run")
        process.send_signal(signal.SIGINT)
        assert process.stdout is not None
        assert any("Ctrl-C again kills it" in line for line in process.stdout)
        process.send_signal(signal.SIGINT)
        shown, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert "killing the run" in shown
    assert process.returncode == 137, shown
    pids = [int(path.read_text()) for path in workspace.datastore.glob("pid-*")]
    wait_for(lambda: not any(map(psutil.pid_exists, pids)), "the scripts are gone")


def test_a_host_that_is_killed_loses_nothing_and_leaves_nothing_running(
    host: tuple[Workspace, subprocess.Popen[str]], dsflow: Dsflow
) -> None:
    workspace, process = host
    left = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.communicate()
    _, alive = psutil.wait_procs(left, timeout=60)
    assert alive == []
    done = len(published(workspace))
    screen = dsflow("backfill", TEN, "-y")
    assert (screen.exit_code, f"SKIP={done}" in last(screen)) == (0, True), screen
    assert published(workspace) == undisturbed()
    # Every run is in the history, also those that the killed host had not recorded yet.
    listed = {run["run_id"]: run["status"] for run in dsflow("runs", "--limit", "100", "--json").document["runs"]}
    assert {o["run_id"]: o["status"] for o in outcomes(workspace)}.items() <= listed.items()


# ---- run SELECTION DS


def test_a_selection_for_one_date_is_a_plan_of_its_own(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    make_workspace({**PIPELINE, **raw(*DAYS)})
    first = dsflow("run", "+total", DAYS[0])
    assert (first.exit_code, last(first)) == (0, "Done. OK=2 SKIP=0 WARN=0 FAIL=0 TOTAL=2")
    assert last(dsflow("run", "wet", "total", DAYS[0])) == "Done. OK=0 SKIP=2 WARN=0 FAIL=0 TOTAL=2"
    assert last(dsflow("run", "wet+", DAYS[0], "--exclude", "total")) == "Done. OK=0 SKIP=1 WARN=0 FAIL=0 TOTAL=1"


def test_a_single_job_runs_because_somebody_asked_for_it(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    make_workspace(job("a", "SELECT 1 AS x"))
    for _ in range(2):
        assert last(dsflow("run", "a", DAYS[0])) == "Done. OK=1 SKIP=0 WARN=0 FAIL=0 TOTAL=1"
    assert last(dsflow("run", "a", DAYS[0], "--if-stale")) == "Done. OK=0 SKIP=1 WARN=0 FAIL=0 TOTAL=1"
    explained = dsflow("run", "a", DAYS[0], "--explain")
    assert "  2026-11-01  skip: same code" in explained.out
    assert last(dsflow("run", "a", DAYS[0], "--if-stale", "--force")) == "Done. OK=1 SKIP=0 WARN=0 FAIL=0 TOTAL=1"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("+a", SPAN), "`run` takes one date"),
        (("+a", DAYS[0], "--port", "80"), "--port is for a single dashboard"),
        (("a", DAYS[0], "--catch-up"), "--catch-up belongs to --due"),
        (("a", "2026-11-31"), "'2026-11-31' is not a day partition"),
        (("b", DAYS[0]), "b: Job does not exist"),
    ],
)
def test_a_wrong_run_is_a_sentence(
    make_workspace: MakeWorkspace, dsflow: Dsflow, arguments: tuple[str, ...], message: str
) -> None:
    make_workspace(job("a", "SELECT 1 AS x"))
    screen = dsflow("run", *arguments)
    assert screen.exit_code == 2
    assert message in screen.err


# ---- status


def test_status_draws_the_last_days_of_data(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    workspace = make_workspace({**PIPELINE, **raw(*DAYS)})
    dsflow("backfill", "2026-11-01..2026-11-03", "-y")
    (workspace.jobs / "total/q.sql").write_text("SELECT avg(mm) AS mm FROM wet")
    screen = dsflow("status", "total")
    assert screen.out.splitlines() == [
        "total  3 stale, 32 missing",
        "            1   5    10   15   20   25   30",
        "2026-09     ·····························□",
        "2026-10     □□□□□□□□□□□□□□□□□□□□□□□□□□□□□□□",
        "2026-11     ▨▨▨···························",
        "",
        "■ fresh  ▨ stale  □ missing  ✗ failed  ◌ running  · not in range",
    ]
    document = dsflow("status", SPAN, "--json").document
    assert [(g["job"], g["counts"]["fresh"], g["counts"]["stale"]) for g in document["grids"]] == [
        ("wet", 3, 0),
        ("total", 0, 3),
    ]
    assert "2026-11-01..2026-11-03 (3)  run: code changed" in dsflow("status", "total", SPAN, "--explain").out


@pytest.mark.parametrize("command", [["backfill", "*"], ["run", "+b"]])
def test_a_source_that_nobody_writes_and_that_is_not_there_is_named_with_its_file(
    make_workspace: MakeWorkspace, dsflow: Dsflow, command: list[str]
) -> None:
    spec = "version: 1\nkind: sql\ninputs: {a: {table: rane}}\noutput: {table: b}\n"
    make_workspace({"jobs/b/job_specs.yaml": spec, "jobs/b/q.sql": "SELECT * FROM a"})
    screen = dsflow(*command, DAYS[0])
    assert screen.exit_code == 2
    assert "jobs/b/job_specs.yaml: inputs.a" in screen.err
    assert "no job writes the table 'rane', and it is not in the datastore" in screen.err
