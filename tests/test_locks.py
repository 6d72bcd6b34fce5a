from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from dsflow.errors import EnvironmentMissing, PartitionLocked
from dsflow.store.locks import is_held, lock
from tests.versions import exit_code, fork, until

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lock"


def test_the_second_taker_is_refused_and_told_who_has_it(path: Path) -> None:
    with lock(path, "run 1 (pid 5 on here)"):
        refused = pytest.raises(PartitionLocked, match=r"ds=1 is being written by run 1 \(pid 5 on here\)")
        with refused as caught, lock(path, "run 2", "ds=1"):
            pytest.fail("two have the lock")
        assert caught.value.exit_code == 5
        with pytest.raises(PartitionLocked), lock(path, "run 3"):
            pytest.fail("a refused taker has released the lock")


def test_it_is_free_after_the_block_whatever_ended_that(path: Path) -> None:
    with contextlib.suppress(ValueError), lock(path, "run 1"):
        raise ValueError
    with lock(path, "run 2"):
        assert path.read_text() == "run 2"
    assert path.read_text() == ""


def test_the_lock_of_a_killed_process_is_taken_over(path: Path) -> None:
    def hold() -> None:
        with lock(path, "the dead"):
            signal.pause()

    holder = fork(hold)
    until(lambda: path.exists() and path.read_text() == "the dead")
    with pytest.raises(PartitionLocked), lock(path, "me"):
        pytest.fail("two have the lock")
    os.kill(holder, signal.SIGKILL)
    assert exit_code(holder) == -signal.SIGKILL
    with lock(path, "me"):
        assert path.read_text() == "me"


def test_an_orphan_does_not_keep_the_lock_of_its_dead_parent(path: Path, tmp_path: Path) -> None:
    def outlive() -> None:
        (tmp_path / "pid").write_text(str(os.getpid()))
        signal.pause()

    def hold() -> None:
        with lock(path, "parent"):
            fork(outlive)
            signal.pause()

    parent = fork(hold)
    until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text() != "")
    orphan = int((tmp_path / "pid").read_text())
    try:
        os.kill(parent, signal.SIGKILL)
        exit_code(parent)
        with lock(path, "me"):
            os.kill(orphan, 0)
    finally:
        os.kill(orphan, signal.SIGKILL)


def test_a_forked_child_that_leaves_the_block_releases_nothing(path: Path) -> None:
    in_child = False
    try:
        with lock(path, "parent"):
            child = os.fork()
            in_child = child == 0
            if in_child:
                raise KeyboardInterrupt
            assert exit_code(child) == 0
            with pytest.raises(PartitionLocked), lock(path, "me"):
                pytest.fail("the child released its parent's lock")
    finally:
        if in_child:
            os._exit(0)


def test_a_taker_can_wait(path: Path) -> None:
    order = []

    def take() -> None:
        with lock(path, "second", wait=True):
            order.append("second")

    with lock(path, "first"):
        thread = threading.Thread(target=take)
        thread.start()
        time.sleep(0.02)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def test_a_file_system_without_locks_is_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(handle: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with pytest.raises(EnvironmentMissing, match="has no locks: No locks available"), lock(path, "me"):
        pytest.fail("locked without a lock")


def test_whether_a_lock_is_held_can_be_seen_without_taking_it(path: Path) -> None:
    assert not is_held(path)
    with lock(path, "me"):
        assert is_held(path)
    assert not is_held(path)
    with lock(path, "me"):
        pass
