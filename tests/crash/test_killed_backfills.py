"""The host of a backfill killed at many moments: the same command goes on, and ends in the same bytes."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.conftest import MakeWorkspace, Screen

pytestmark = [pytest.mark.crash, pytest.mark.timeout(900)]

MOMENTS = 6
DAYS = [f"2026-11-{day:02}" for day in range(1, 13)]
SPAN = f"{DAYS[0]}..{DAYS[-1]}"
TREE = {
    "jobs/rain/job_specs.yaml": "version: 1\nkind: sql\noutput: {table: rain}\n",
    "jobs/rain/q.sql": "SELECT range AS hour, hash(range || '{{ ds }}') % 100 AS mm FROM range(1000)",
    "jobs/copy/job_specs.yaml": "version: 1\nkind: script\ninputs: {r: {table: rain}}\noutput: {raw: copy}\n",
    "jobs/copy/main.sh": 'cat "$1"/*.parquet | sha256sum > "$2/sum"\n',
    "jobs/sums/job_specs.yaml": "version: 1\nkind: sql\noutput: {table: sums}\ninputs: {d: {table: rain, window: 3}}\n",
    "jobs/sums/q.sql": "SELECT hour, sum(mm) AS mm FROM d GROUP BY hour ORDER BY hour",
}


@pytest.fixture(autouse=True)
def _in_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DSFLOW_RUNTIME", "process")


def published(datastore: Path) -> dict[str, list[bytes]]:
    """What is in every partition, whatever its files are called."""
    folders = [*datastore.glob("tables/*/ds=*"), *datastore.glob("raw/*/ds=*")]
    return {str(f.relative_to(datastore)): [file.read_bytes() for file in sorted(f.iterdir())] for f in folders}


def test_a_backfill_that_is_killed_again_and_again_ends_in_the_same_bytes(
    make_workspace: MakeWorkspace, dsflow: Callable[..., Screen]
) -> None:
    workspace = make_workspace(TREE)
    started = time.monotonic()
    assert dsflow("backfill", SPAN, "-y", "-j", "2").exit_code == 0
    whole = time.monotonic() - started
    wanted = published(workspace.datastore)
    assert len(wanted) == 3 * len(DAYS)
    for folder in ("tables", "raw"):
        subprocess.run(["rm", "-r", str(workspace.datastore / folder)], check=True)
    command = [sys.executable, "-m", "dsflow", "backfill", SPAN, "-y", "-j", "2"]
    for moment in range(MOMENTS):
        with subprocess.Popen(
            command, cwd=workspace.root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as host:
            time.sleep(whole * (0.3 + 0.5 * moment / MOMENTS))
            left = psutil.Process(host.pid).children(recursive=True)
            host.kill()
        _, alive = psutil.wait_procs(left, timeout=60)
        assert alive == []
        made = published(workspace.datastore)
        assert {name: wanted[name] for name in made} == made
    screen = dsflow("backfill", SPAN, "-y", "-j", "2")
    assert screen.exit_code == 0, screen
    assert published(workspace.datastore) == wanted
    assert dsflow("runs", "--status", "running", "--json").document == {"runs": []}
