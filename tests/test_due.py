"""What `run --due` runs: what schedules ask for and nobody has done; once, however often it is called."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable

import pytest

from dsflow import due, pipeline
from dsflow.freshness import standing
from dsflow.history import History
from dsflow.specs.load import load_workspace
from dsflow.store.layout import Layout
from dsflow.store.locks import lock
from dsflow.workspace import Workspace
from tests.conftest import MakeWorkspace, Screen, Tree

Dsflow = Callable[..., Screen]

NOW = dt.datetime(2026, 11, 20, 12, 0, tzinfo=dt.UTC)
DAILY = "schedule: '0 6 * * *'\n"


@pytest.fixture(autouse=True)
def _in_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DSFLOW_RUNTIME", "process")


def job(name: str, spec: str, code: str = "SELECT 1 AS x") -> Tree:
    text = f"version: 1\nkind: sql\noutput: {{table: {name}}}\n{spec}"
    return {f"jobs/{name}/job_specs.yaml": text, f"jobs/{name}/q.sql": code}


def wanted(workspace: Workspace, *, now: dt.datetime = NOW, catch_up: bool = False) -> dict[str, list[str]]:
    settings = load_workspace(workspace)
    whole = pipeline.load(workspace, settings)
    history = History.open(workspace, settings)
    known = standing(workspace, settings, whole, history)
    return due.wanted(whole, list(whole.nodes), known, history, now, catch_up=catch_up)


def test_a_job_is_due_for_the_partition_before_its_newest_tick(make_workspace: MakeWorkspace) -> None:
    monthly = "grain: month\nschedule: {cron: '0 6 1 * *', timezone: Europe/Paris}\n"
    workspace = make_workspace({**job("a", DAILY), **job("b", monthly), **job("never", "")})
    assert wanted(workspace) == {"a": ["2026-11-19"], "b": ["2026-10"]}


def test_a_paused_job_is_not_due(make_workspace: MakeWorkspace) -> None:
    paused = "schedule: {cron: '0 6 * * *', paused_until: 2026-11-21}\n"
    workspace = make_workspace(job("a", paused))
    assert wanted(workspace) == {}
    assert wanted(workspace, now=NOW + dt.timedelta(days=1)) == {"a": ["2026-11-20"]}


def test_what_is_fresh_is_not_due(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    workspace = make_workspace(job("a", DAILY))
    dsflow("run", "a", "2026-11-19")
    assert wanted(workspace) == {}


def test_what_has_run_since_its_tick_is_not_due_even_if_its_code_has_changed(
    make_workspace: MakeWorkspace, dsflow: Dsflow
) -> None:
    workspace = make_workspace({**job("a", DAILY), "jobs/s/job_specs.yaml": f"version: 1\nkind: script\n{DAILY}"})
    (workspace.jobs / "s/main.sh").write_text("true\n")
    today = dt.datetime.now(dt.UTC)
    now = today.replace(hour=7) + dt.timedelta(days=1)
    ds = str(today.date())
    assert wanted(workspace, now=now) == {"a": [ds], "s": [ds]}
    dsflow("run", "a", "s", ds)
    (workspace.jobs / "a/q.sql").write_text("SELECT 2 AS x")
    # The tick is tomorrow's, and the runs are of today: the change makes it due then.
    assert wanted(workspace, now=now) == {"a": [ds], "s": [ds]}
    # Yesterday's tick for the same code: done by a run after it.
    before = today.replace(hour=7) - dt.timedelta(days=2)
    old = str(before.date() - dt.timedelta(days=1))
    dsflow("run", "a", "s", old)
    (workspace.jobs / "a/q.sql").write_text("SELECT 3 AS x")
    assert wanted(workspace, now=before) == {}


def test_a_failed_run_leaves_the_job_due(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    workspace = make_workspace(job("a", DAILY, "SELECT nonsense"))
    dsflow("run", "a", "2026-11-19")
    assert wanted(workspace) == {"a": ["2026-11-19"]}


def test_missed_ticks_are_due_only_to_catch_up_and_from_the_first_partition_on(
    make_workspace: MakeWorkspace, dsflow: Dsflow
) -> None:
    workspace = make_workspace({**job("a", DAILY), **job("new", DAILY)})
    dsflow("run", "a", "2026-11-15")
    dsflow("run", "a", "2026-11-17")
    assert wanted(workspace) == {"a": ["2026-11-19"], "new": ["2026-11-19"]}
    assert wanted(workspace, catch_up=True) == {
        "a": ["2026-11-16", "2026-11-18", "2026-11-19"],
        "new": ["2026-11-19"],
    }


def test_a_job_that_another_call_is_at_work_on_is_left_to_it(make_workspace: MakeWorkspace) -> None:
    workspace = make_workspace(job("a", DAILY))
    layout = Layout(workspace.datastore)
    busy: list[str] = []
    with due.claimed(["a", "b"], layout, busy.append) as mine:
        assert mine == ["a", "b"]
        with due.claimed(["a", "c"], layout, busy.append) as theirs:
            assert (theirs, busy) == (["c"], ["a"])
    with due.claimed(["a"], layout, busy.append) as again:
        assert again == ["a"]


# ---- the command


def last(screen: Screen) -> str:
    return screen.out.splitlines()[-1].rsplit(" in ", 1)[0]


def test_run_due_runs_in_order_and_once(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    minutely = "schedule: '* * * * *'\n"
    make_workspace({**job("b", minutely, "SELECT x FROM a"), **job("a", minutely), **job("other", "")})
    first = dsflow("run", "--due", "-j", "2")
    assert (first.exit_code, last(first)) == (0, "Done. OK=2 SKIP=0 WARN=0 FAIL=0 TOTAL=2")
    assert first.out.index("✓ a ") < first.out.index("✓ b ")
    again = dsflow("run", "--due")
    assert (again.exit_code, last(again)) == (0, "Done. OK=0 SKIP=0 WARN=0 FAIL=0 TOTAL=0")
    assert "Nothing is due." in again.err


def test_run_due_takes_a_selection(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    minutely = "schedule: '* * * * *'\n"
    make_workspace({**job("a", minutely), **job("b", minutely), **job("none", "")})
    assert "1/1 ✓ b " in dsflow("run", "--due", "b").out
    assert "No job has a `schedule:`." in dsflow("run", "--due", "none").err


def test_run_due_leaves_a_job_to_whoever_is_at_work_on_it(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    workspace = make_workspace(job("a", "schedule: '* * * * *'\n"))
    place = Layout(workspace.datastore).own / "locks" / "due"
    place.mkdir(parents=True)
    with lock(place / "a", "another"):
        screen = dsflow("run", "--due")
    assert screen.exit_code == 0
    assert "a: another `run --due` is at work on it" in screen.err
    assert last(screen) == "Done. OK=0 SKIP=0 WARN=0 FAIL=0 TOTAL=0"
