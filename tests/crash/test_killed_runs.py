"""Whole runs killed at any moment: a reader finds the old rows or the new rows, and the next run needs no help."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import duckdb
import psutil
import pytest

from tests.conftest import MakeWorkspace, notebook

pytestmark = [pytest.mark.crash, pytest.mark.timeout(900)]

DS = "2013-01-01"
ROWS = 200_000
KILLS = 100
# Kills that wait for a phase to be seen on the disk; the rest is spread over the whole run.
PHASES = ("writing", "publishing", "swapped")
FILES = {
    "jobs/t/job_specs.yaml": """
        version: 1
        kind: sql
        parameters: {version: 0}
        output: {table: t}
        expectations:
          - {name: whole, constraint: "version >= 0 AND length(text) > 0"}
        """,
    "jobs/t/q.sql": f"SELECT {{{{ version }}}} AS version, i, md5(i::VARCHAR) AS text FROM range({ROWS}) AS r(i)",
}


def start(root: Path, version: int, *options: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "dsflow", "-C", str(root), "-q", "run", "t", DS, "-p", f"version={version}"]
    return subprocess.Popen([*command, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def run(root: Path, version: int, *options: str) -> int:
    return start(root, version, *options).wait(120)


def published(root: Path) -> int:
    """Give the one version that an outsider finds in the partition, all of it, by looking at the files alone."""
    files = [str(path) for path in (root / f"datastore/tables/t/ds={DS}").iterdir()]
    query = (
        "SELECT min(version), max(version), count(*), count(DISTINCT i) FROM read_parquet($1, hive_partitioning=false)"
    )
    low, high, count, distinct = duckdb.connect().execute(query, [files]).fetchall()[0]
    assert (low, count, distinct) == (high, ROWS, ROWS)
    return int(low)


def shim_of(host: subprocess.Popen[bytes]) -> psutil.Process | None:
    try:
        children = psutil.Process(host.pid).children(recursive=True)
        return next((child for child in children if "dsflow.shim" in " ".join(child.cmdline())), None)
    except psutil.NoSuchProcess:
        return None


def await_phase(root: Path, phase: str, host: subprocess.Popen[bytes], manifest_before: bytes) -> None:
    """Wait until the disk shows that the run is in a phase, or it has ended."""
    store = root / "datastore"
    manifest = store / f".dsflow/manifests/tables/t/ds={DS}.json"
    while host.poll() is None:
        staged = [name for _, _, names in os.walk(store / ".dsflow/staging") for name in names]
        if phase == "writing" and any(name.endswith(".parquet") for name in staged):
            return
        if phase == "publishing" and any(name.endswith(".json") for name in staged):
            return
        if phase == "swapped" and manifest.read_bytes() != manifest_before:
            return
        time.sleep(0.0005)


def moments(seconds: float) -> Iterator[tuple[str, float]]:
    chance = random.Random(7)
    for number in range(KILLS):
        if number % 2:
            yield PHASES[(number // 2) % len(PHASES)], chance.uniform(0, 0.006)
        else:
            yield "", seconds * number / KILLS


@pytest.fixture
def root(make_workspace: MakeWorkspace, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DSFLOW_RUNTIME", "process")
    return make_workspace(FILES).root


def test_sigkill_at_a_hundred_moments(root: Path) -> None:
    began = time.perf_counter()
    assert run(root, 0) == 0
    usual = time.perf_counter() - began
    assert published(root) == 0
    survived, fell_back = 0, 0
    version = 0
    for phase, delay in moments(usual):
        before, version = published(root), version + 1
        manifest = (root / f"datastore/.dsflow/manifests/tables/t/ds={DS}.json").read_bytes()
        host = start(root, version)
        if phase:
            await_phase(root, phase, host, manifest)
        time.sleep(delay)
        shim = shim_of(host)
        if shim is not None:
            shim.kill()
        host.wait(60)
        found = published(root)
        assert found in (before, version), f"killed {phase or 'at'} +{delay:.4f} s"
        survived += found == before
        fell_back += found == version
        if version % 10 == 0:
            version += 1
            assert run(root, version) == 0
            assert published(root) == version
    # Kills that never hit, or always came too late, would prove nothing.
    assert survived >= KILLS // 10
    assert fell_back >= KILLS // 20
    assert run(root, version + 1) == 0
    assert published(root) == version + 1
    assert not any((root / "datastore/.dsflow/staging").iterdir())


def test_the_host_killed_ends_the_run_and_leaves_the_partition_whole(root: Path) -> None:
    assert run(root, 0) == 0
    for number, delay in enumerate((0.3, 0.5, 0.7, 0.9), start=1):
        host = start(root, number)
        time.sleep(delay)
        shim = shim_of(host)
        host.kill()
        host.wait(10)
        if shim is not None:
            psutil.wait_procs([shim], timeout=30)
            assert not shim.is_running() or shim.status() == psutil.STATUS_ZOMBIE
        assert published(root) in range(number + 1)
    assert run(root, 9) == 0
    assert published(root) == 9


def test_two_writers_of_one_partition(make_workspace: MakeWorkspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DSFLOW_RUNTIME", "process")
    cell = "import time\nfrom dsflow import job\njob.write([{'version': version}])\ntime.sleep(4)"
    root = make_workspace(
        {
            "jobs/t/job_specs.yaml": "version: 1\nkind: notebook\noutput: {table: t}\n",
            "jobs/t/t.ipynb": notebook(cell, parameters="version = 0"),
        }
    ).root
    first, second = start(root, 1), start(root, 2)
    codes = sorted([first.wait(60), second.wait(60)])
    assert codes == [0, 5]
    files = [str(path) for path in (root / f"datastore/tables/t/ds={DS}").iterdir()]
    won = 1 if first.returncode == 0 else 2
    assert duckdb.connect().execute("SELECT version FROM read_parquet($1)", [files]).fetchall() == [(won,)]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting a small disk needs root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_leaves_the_old_rows(root: Path, small_disk: Path) -> None:
    (root / "datastore").rmdir()
    (root / "datastore").symlink_to(small_disk)
    assert run(root, 1) == 0
    ballast = small_disk / "ballast"
    free = os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize
    ballast.write_bytes(b"x" * (free - 2_000_000))
    command = [sys.executable, "-m", "dsflow", "-C", str(root), "run", "t", DS, "-p", "version=2"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 4, done.stdout + done.stderr
    assert "the disk is full" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    assert published(root) == 1
    ballast.unlink()
    assert run(root, 3) == 0
    assert published(root) == 3
