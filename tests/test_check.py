"""`dsflow check` and `dsflow checks`: what is expected of a table over what is published, and how it develops."""

from __future__ import annotations

import datetime as dt
import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Callable
from typing import Any

import duckdb
import pytest

from dsflow.workspace import Workspace
from tests.conftest import MakeWorkspace, Screen

Dsflow = Callable[..., Screen]
SPEC = """
    version: 1
    kind: sql
    output: {table: rain}
    expectations:
      - {name: not negative, constraint: rain >= 0}
      - {name: has a city, constraint: city IS NOT NULL, action: allow}
"""
DAYS = ("2026-11-18", "2026-11-19", "2026-11-20")


def publish(workspace: Workspace, ds: str, query: str, table: str = "rain") -> None:
    """Lay a partition down as somebody else would: without dsflow."""
    path = workspace.datastore / "tables" / table / f"ds={ds}" / "a.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    duckdb.execute(f"COPY ({query}) TO '{path}' (FORMAT parquet)")


@pytest.fixture
def workspace(make_workspace: MakeWorkspace) -> Workspace:
    """Three days, published by runs; the job and what it expects can be changed afterwards."""
    return make_workspace(
        {
            "jobs/rain/job_specs.yaml": SPEC,
            "jobs/rain/query.sql": "SELECT 'Paris' AS city, range::DOUBLE AS rain FROM range(10)\n",
        }
    )


@pytest.fixture
def published(workspace: Workspace, dsflow: Dsflow) -> Workspace:
    assert dsflow("backfill", "rain", f"{DAYS[0]}..{DAYS[-1]}", "-y", "--runtime", "process").exit_code == 0
    return workspace


def rewrite(workspace: Workspace, old: str, new: str) -> None:
    path = workspace.jobs / "rain" / "job_specs.yaml"
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new), "utf-8")


def verdicts(document: dict[str, Any]) -> dict[str, dict[str, str]]:
    return {one["ds"]: {c["name"]: c["verdict"] for c in one["checks"]} for one in document["partitions"]}


def test_what_is_published_is_fine(published: Workspace, dsflow: Dsflow) -> None:
    runs = len(dsflow("runs", "--json").document["runs"])
    screen = dsflow("check", "rain")
    assert screen.exit_code == 0
    assert screen.out.splitlines()[0] == "rain: 3 partitions with 30 rows, ds=2026-11-18 to ds=2026-11-20"
    assert re.search(r"not negative +rain >= 0 +fail +0 of 3 +0", screen.out)
    assert "Done. OK=3 WARN=0 FAIL=0 TOTAL=3 in" in screen.out
    assert len(dsflow("runs", "--json").document["runs"]) == runs, "no job ran"


def test_a_rule_that_is_new_finds_what_is_old(published: Workspace, dsflow: Dsflow) -> None:
    rewrite(published, "rain >= 0", "rain < 9")
    screen = dsflow("check", "rain")
    assert screen.exit_code == 3
    assert "✗ ds=2026-11-20 not negative: 1 of 10 rows" in screen.out
    assert "\n    rain=9.0, city=Paris\n" in screen.out, "the row is shown"
    assert "OK=0 WARN=0 FAIL=3 TOTAL=3" in screen.out
    document = dsflow("check", "rain", "2026-11-19..2026-11-20", "--json")
    assert document.exit_code == 3
    assert verdicts(document.document) == {ds: {"not negative": "failed", "has a city": "passed"} for ds in DAYS[1:]}
    rewrite(published, "rain < 9}", "rain < 9, action: allow}")
    again = dsflow("check", "rain")
    assert again.exit_code == 0
    assert "OK=0 WARN=3 FAIL=0 TOTAL=3" in again.out


def test_what_is_expected_by_the_code_is_checked_too(workspace: Workspace, dsflow: Dsflow) -> None:
    spec = "version: 1\nkind: script\nmain: s.py\noutput: {table: rain}\n"
    code = "from dsflow import job\njob.expect('wet', 'rain > 0', 'allow')\njob.write(job.sql('SELECT 0.0 AS rain'))\n"
    (workspace.jobs / "rain" / "query.sql").unlink()
    (workspace.jobs / "rain" / "job_specs.yaml").write_text(spec, "utf-8")
    (workspace.jobs / "rain" / "s.py").write_text(code, "utf-8")
    assert dsflow("run", "rain", DAYS[0], "--runtime", "process").exit_code == 0
    assert verdicts(dsflow("check", "rain", "--json").document) == {DAYS[0]: {"wet": "allowed"}}


def test_a_partition_that_somebody_else_wrote(published: Workspace, dsflow: Dsflow) -> None:
    publish(published, "2026-11-21", "SELECT NULL::VARCHAR AS city, -1.0::DOUBLE AS rain")
    document = dsflow("check", "rain", "2026-11-21", "--json").document
    assert verdicts(document) == {"2026-11-21": {"not negative": "failed", "has a city": "allowed"}}


def test_rows_against_the_day_before(workspace: Workspace, dsflow: Dsflow) -> None:
    (workspace.jobs / "rain" / "job_specs.yaml").write_text(
        "version: 1\nkind: sql\noutput: {table: rain}\n"
        "expectations: [{row_count: {min: 0.5, max: 2.0, against: previous}}]\n",
        "utf-8",
    )
    for ds, count in zip(DAYS, (10, 12, 100), strict=True):
        publish(workspace, ds, f"SELECT range AS rain FROM range({count})")
    found = dsflow("check", "rain", "--json")
    assert found.exit_code == 3
    assert [next(iter(each.values())) for each in verdicts(found.document).values()] == ["passed", "passed", "failed"]


@pytest.mark.parametrize(
    ("arguments", "problem", "hint"),
    [
        (("check", "rian"), "there is no table 'rian'; did you mean 'rain'?", "dsflow ls tables"),
        (("checks", "rian"), "there is no table 'rian'; did you mean 'rain'?", "dsflow ls tables"),
        (("check", "loner"), "no job of this workspace writes table 'loner'", "spec of the job"),
        (("check", "rain", "2030-01-01"), "has no partition from 2030-01-01 to 2030-01-01", "2026-11-18 to 2026-11-20"),
        (("checks", "rain", "2030-01"), "has nothing in that span", "2026-11-18 to 2026-11-20"),
        (("check", "rain", "soon"), "'soon' is no date", "dsflow check rain 2026-11-01..2026-11-20"),
    ],
)
def test_mistakes(published: Workspace, dsflow: Dsflow, arguments: tuple[str, ...], problem: str, hint: str) -> None:
    publish(published, DAYS[0], "SELECT 1 AS x", table="loner")
    screen = dsflow(*arguments)
    assert screen.exit_code == 2
    assert problem in screen.err
    assert hint in screen.err


def test_verdicts_of_runs_and_of_checks_are_in_the_history(published: Workspace, dsflow: Dsflow) -> None:
    first = dsflow("checks", "rain", "--json").document
    assert [each["name"] for each in first["expectations"]] == ["not negative", "has a city"]
    assert [one["verdict"] for one in first["expectations"][0]["verdicts"]] == ["passed"] * 3
    rewrite(published, "rain >= 0", "rain < 9")
    dsflow("check", "rain", DAYS[-1])
    after = dsflow("checks", "rain", "--json").document
    assert [one["verdict"] for one in after["expectations"][0]["verdicts"]] == ["passed", "passed", "failed"]
    dsflow("runs", "rebuild")
    assert dsflow("checks", "rain", "--json").document == after


def test_a_run_that_failed_shows_in_the_trend(published: Workspace, dsflow: Dsflow) -> None:
    rewrite(published, "rain >= 0", "rain < 9")
    assert dsflow("run", "rain", "2026-11-21", "--runtime", "process").exit_code == 3
    lines = dsflow("checks", "rain").out.splitlines()
    assert lines[0] == "rain: 4 dates, ds=2026-11-18 to ds=2026-11-21"
    assert re.fullmatch(r"rows +10 rows +▁▁▁·", lines[1])
    assert re.fullmatch(r"not negative +fail +1 of 10 failed +▁▁▁█", lines[2])


@pytest.fixture
def steady(workspace: Workspace, dsflow: Dsflow) -> Workspace:
    """Forty days of about a thousand rows and one with a single row, written by others, then checked."""
    rewrite(workspace, "  - {name: has a city, constraint: city IS NOT NULL, action: allow}\n", "")
    rewrite(workspace, "not negative", "rain is never negative whatever the station says")
    first = dt.date(2026, 9, 1)
    for number in range(40):
        rows = f"SELECT range AS rain FROM range({1000 + number % 7})"
        publish(workspace, str(first + dt.timedelta(days=number)), rows)
    publish(workspace, "2026-10-11", "SELECT 1 AS rain")
    assert dsflow("check", "rain").exit_code == 0
    return workspace


def test_a_row_count_that_leaves_its_usual_range_is_named(steady: Workspace, dsflow: Dsflow) -> None:
    screen = dsflow("checks", "rain")
    assert screen.exit_code == 0
    warnings = [line for line in screen.out.splitlines() if line.startswith("!")]
    assert len(warnings) == 1
    assert re.fullmatch(
        r"! ds=2026-10-11: 1 row, usually 8\d\d to 1,1\d\d \(the 28 partitions before\)", warnings[0]
    ), warnings
    partitions = dsflow("checks", "rain", "--json").document["partitions"]
    assert [one["ds"] for one in partitions if one["unusual"]] == ["2026-10-11"]
    assert partitions[0]["usual"] is None
    assert partitions[-1]["usual"]["of"] == "the 28 partitions before"
    span = dsflow("checks", "rain", "2026-10-01..2026-10-10", "--json").document["partitions"]
    assert [one["usual"] is None for one in span] == [False] * 10, "what lies before the span counts too"


def test_bars_fit_the_terminal(steady: Workspace) -> None:
    width = 60
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
    command = [sys.executable, "-m", "dsflow", "checks", "rain"]
    environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    environment["PYTHONIOENCODING"] = "utf-8"
    with subprocess.Popen(command, stdout=slave, stderr=subprocess.DEVNULL, env=environment) as process:
        os.close(slave)
        lines = _read_all(master).splitlines()
        assert process.wait() == 0
    table = lines[1:3]
    assert [len(line) for line in table] == [width, width]
    assert table[1].startswith("rain is never negative")
    assert re.search(r"[▁▂▃▄▅▆▇█]{8}$", table[0])


def _read_all(master: int) -> str:
    parts = []
    while True:
        try:
            part = os.read(master, 4096)
        except OSError:
            break
        if not part:
            break
        parts.append(part)
    os.close(master)
    return b"".join(parts).decode("utf-8")


def test_nothing_is_lost_where_nothing_can_be_recorded(published: Workspace, dsflow: Dsflow) -> None:
    checks = published.datastore / ".dsflow" / "checks"
    checks.write_text("a file is in the way", "utf-8")
    screen = dsflow("check", "rain")
    assert screen.exit_code == 0
    assert "warning: this was not recorded" in screen.err
