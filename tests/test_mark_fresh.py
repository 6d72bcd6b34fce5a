"""`dsflow mark-fresh`: a change is accepted without running anything."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dsflow.plan import State
from dsflow.store.layout import Layout
from dsflow.store.locks import lock
from dsflow.workspace import Workspace
from tests.conftest import MakeWorkspace, Screen, build_tree
from tests.test_freshness import CSV, DS, RAW, job_of, verdict

Dsflow = Callable[..., Screen]
CHANGED = {"jobs/t/q.sql": "SELECT hour, rain + 0 AS rain FROM meteo WHERE rain >= {{ least }}", RAW: CSV + "2,3\n"}


@pytest.fixture
def stale(make_workspace: MakeWorkspace, dsflow: Dsflow, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A partition whose code and input have changed since."""
    monkeypatch.setenv("DSFLOW_RUNTIME", "process")
    workspace = make_workspace({RAW: CSV, **job_of("sql")})
    assert dsflow("run", "t", DS).exit_code == 0
    build_tree(workspace.root, CHANGED)
    assert verdict(workspace)[0] is State.STALE
    return workspace


def everything(workspace: Workspace) -> dict[str, bytes]:
    files = (path for path in (workspace.datastore / "tables").rglob("*") if path.is_file())
    return {str(path): path.read_bytes() for path in files}


def test_it_changes_what_the_manifest_says_and_no_file(stale: Workspace, dsflow: Dsflow) -> None:
    before = everything(stale)
    screen = dsflow("mark-fresh", "t", DS, "-y")
    assert screen.exit_code == 0, screen
    assert screen.out.splitlines() == [
        f"t ds={DS}: code changed, input raw/meteo ds={DS} changed (20 B -> 24 B)",
        "1 partition marked fresh",
    ]
    assert verdict(stale)[0] is State.FRESH
    assert everything(stale) == before
    # What comes after counts from there.
    build_tree(stale.root, {RAW: CSV})
    assert verdict(stale)[1] == f"input raw/meteo ds={DS} changed (24 B -> 20 B)"


def test_a_dry_run_marks_nothing(stale: Workspace, dsflow: Dsflow) -> None:
    assert dsflow("mark-fresh", "t", DS, "--dry-run").out.splitlines()[-1] == "1 partition would be marked fresh"
    assert verdict(stale)[0] is State.STALE


def test_what_is_missing_stays_missing_and_what_is_fresh_is_no_matter(stale: Workspace, dsflow: Dsflow) -> None:
    assert dsflow("mark-fresh", "2012-12-31..2013-01-03", "-y").out.endswith("1 partition marked fresh, 3 missing\n")
    assert dsflow("mark-fresh", "t", DS, "-y").out == "0 partitions marked fresh\n"
    assert verdict(stale, ds="2013-01-02")[0] is State.MISSING


def test_what_dsflow_did_not_write_has_nothing_to_mark(stale: Workspace, dsflow: Dsflow) -> None:
    Layout(stale.datastore).manifest("table", "wet", DS).unlink()
    screen = dsflow("--json", "mark-fresh", "t", DS, "-y")
    assert screen.document == {"marked": 0, "dry_run": False, "refused": {"not written by dsflow": 1}}


def test_a_partition_that_is_being_written_is_left_alone(stale: Workspace, dsflow: Dsflow) -> None:
    path = Layout(stale.datastore).lock("table", "wet", DS)
    path.parent.mkdir(parents=True, exist_ok=True)
    with lock(path, "run x"):
        screen = dsflow("mark-fresh", "t", DS, "-y")
    assert screen.exit_code == 5
    assert "is being written" in screen.err
    assert verdict(stale)[0] is State.STALE


def test_without_anybody_to_ask_it_wants_a_yes(stale: Workspace, dsflow: Dsflow) -> None:
    screen = dsflow("mark-fresh", "t", DS)
    assert screen.exit_code == 2
    assert "-y" in screen.err
    assert verdict(stale)[0] is State.STALE


def test_it_says_what_it_wants(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    make_workspace({})
    assert "dsflow mark-fresh" in dsflow("mark-fresh").err


def test_parameters_are_those_of_now(stale: Workspace, dsflow: Dsflow, tmp_path: Path) -> None:
    assert dsflow("mark-fresh", "t", DS, "-y", "-p", "least=5").exit_code == 0
    assert verdict(stale, least="5")[0] is State.FRESH
    assert verdict(stale) == (State.STALE, "parameters changed")
