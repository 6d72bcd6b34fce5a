"""The memory limit: what counts, and what does not."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.conftest import MakeWorkspace, Screen

SPEC = "version: 1\nkind: script\nrun: {memory: 250m}\n"
WORKERS = """
    import os, time
    data = b"x" * (150 << 20)
    workers = []
    for _ in range(3):
        pid = os.fork()
        if pid == 0:
            WORK
            time.sleep(1.5)
            os._exit(0)
        workers.append(pid)
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in workers]
    print("ended with", codes)
    """


@pytest.fixture(autouse=True)
def _in_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DSFLOW_RUNTIME", "process")


def test_memory_that_workers_share_with_their_parent_counts_once(
    make_workspace: MakeWorkspace, dsflow: Callable[..., Screen]
) -> None:
    make_workspace({"jobs/t/job_specs.yaml": SPEC, "jobs/t/t.py": WORKERS.replace("WORK\n", "len(data)\n")})
    screen = dsflow("run", "t")
    assert screen.exit_code == 0, screen
    assert "ended with [0, 0, 0]" in screen.out


def test_memory_of_workers_counts_together(make_workspace: MakeWorkspace, dsflow: Callable[..., Screen]) -> None:
    own = "own = b'y' * (60 << 20)\n"
    make_workspace({"jobs/t/job_specs.yaml": SPEC, "jobs/t/t.py": WORKERS.replace("WORK\n", own)})
    screen = dsflow("run", "t")
    assert screen.exit_code == 137, screen
    assert "out of memory: the job passed its limit (250 MB) and was killed" in screen.out
    assert "run: {memory: ...}" in screen.out
