"""Runs killed while they check what they staged: nobody ever sees a row that was not checked, or that did not pass."""

from __future__ import annotations

import os
import random
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pytest

from dsflow.store.datastore import Datastore
from tests.conftest import MakeWorkspace
from tests.crash.test_killed_runs import run, shim_of, start

pytestmark = [pytest.mark.crash, pytest.mark.timeout(900)]

DS = "2013-01-01"
ROWS = 100_000
KILLS = 16
FILES = {
    "jobs/t/job_specs.yaml": """
        version: 1
        kind: sql
        parameters: {version: 0, bad: 0}
        output: {table: t}
        expectations:
          - {name: good, constraint: NOT bad}
          - {name: odd, constraint: i % 1000 <> 7, action: drop}
          - {unique: [text], action: drop}
          - {name: slow, constraint: row_number() OVER (PARTITION BY text ORDER BY i) = 1}
        """,
    "jobs/t/q.sql": f"""
        SELECT {{{{ version }}}} AS version, i, md5(i::VARCHAR) AS text, {{{{ bad }}}} = 1 AND i = 77 AS bad
        FROM range({ROWS}) AS r(i)
        """,
}
LEFT = ROWS - ROWS // 1000


@pytest.fixture
def root(make_workspace: MakeWorkspace, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DSFLOW_RUNTIME", "process")
    return make_workspace(FILES).root


def seen(root: Path) -> tuple[int, int] | None:
    """Give what someone finds who knows nothing of dsflow: the one version of the rows, and how many must not be there.

    None where a swap was in the way.
    """
    pattern = root / f"datastore/tables/t/ds={DS}/*.parquet"
    query = f"""
        SELECT min(version), max(version), count(*), count_if(bad OR i % 1000 = 7)
        FROM read_parquet('{pattern}', hive_partitioning=false)"""
    try:
        low, high, count, wrong = duckdb.connect().execute(query).fetchall()[0]
    except duckdb.Error:
        return None
    assert (low, count) == (high, LEFT)
    return int(low), int(wrong)


@contextmanager
def watched(root: Path) -> Iterator[list[tuple[int, int]]]:
    """Look all the time; gives what was found."""
    found: list[tuple[int, int]] = []
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(0.1):
            there = seen(root)
            if there is not None:
                found.append(there)

    watcher = threading.Thread(target=look)
    watcher.start()
    yield found
    ended.set()
    watcher.join()


def await_staged(root: Path, running: subprocess.Popen[bytes]) -> None:
    """Wait until the rows are staged, which is when they are checked; or until the run has ended."""
    while running.poll() is None:
        names = [name for _, _, files in os.walk(root / "datastore/.dsflow/staging") for name in files]
        if any(name.endswith(".parquet") for name in names):
            return
        time.sleep(0.0005)


def test_killed_while_it_checks(root: Path) -> None:
    assert run(root, 0) == 0
    assert seen(root) == (0, 0)
    chance = random.Random(11)
    kept = replaced = 0
    with watched(root) as found:
        for version in range(1, KILLS + 1):
            before, bad = seen(root), version % 2
            host = start(root, version, "-p", f"bad={bad}")
            await_staged(root, host)
            time.sleep(chance.uniform(0, 0.6))
            shim = shim_of(host)
            if shim is not None:
                shim.kill()
            host.wait(60)
            after = seen(root)
            assert after == before or (not bad and after == (version, 0)), f"version {version}"
            kept, replaced = kept + (after == before), replaced + (after != before)
        assert run(root, 1000) == 0
    assert kept >= KILLS // 2
    assert found
    assert {wrong for _, wrong in found} == {0}
    assert {version for version, _ in found} <= {0, 1000, *range(0, KILLS + 1, 2)}
    datastore = Datastore(root / "datastore")
    table, aside = (datastore.partition("table", name, DS) for name in ("t", "t__quarantine"))
    assert table is not None
    assert aside is not None
    assert table.manifest is not None
    assert aside.manifest is not None
    assert (table.manifest.run_id, table.manifest.rows) == (aside.manifest.run_id, LEFT)
    assert aside.manifest.rows == ROWS // 1000
    assert not any((root / "datastore/.dsflow/staging").iterdir())


def test_an_expectation_that_fails_is_no_crash_and_leaves_the_rows(root: Path) -> None:
    assert run(root, 0) == 0
    assert run(root, 1, "-p", "bad=1") == 3
    assert seen(root) == (0, 0)
