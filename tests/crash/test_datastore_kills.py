"""A process that publishes one version after the other is killed, again and again, whatever it is doing."""

from __future__ import annotations

import itertools
import os
import random
import signal
import time
from functools import partial
from pathlib import Path

import pytest

from dsflow.store.datastore import Datastore
from dsflow.store.layout import Store
from dsflow.store.publishing import Staging
from tests.versions import SWAPS, Version, as_read, exit_code, fork, left_over, on_disk, until

pytestmark = [pytest.mark.crash, pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")]

KILLS = 60
STEPS = 20


def _publish_for_ever(datastore: Datastore, store: Store, method: str, first: int) -> None:
    for number in range(first, first + 100_000):
        Version(number, store).publish(datastore, SWAPS[method])
        (datastore.root / "next").write_text(str(number))
        (datastore.root / "next").rename(datastore.root / "last")


def _version_of(contents: dict[str, str] | None, store: Store) -> int | None:
    """Give the number of the version that these files are, whole; fails where they are a mix."""
    if contents is None:
        return None
    number = int(next(iter(contents.values())).partition("/")[0])
    assert contents == Version(number, store).contents
    return number


@pytest.mark.parametrize("store", ["table", "raw"])
@pytest.mark.parametrize("method", SWAPS)
def test_a_killed_writer_leaves_one_version_and_the_next_needs_no_help(
    tmp_path: Path, method: str, store: Store
) -> None:
    """In all four cases together 240 kills, spread over many times what one publish takes."""
    datastore = Datastore(tmp_path)
    moments = random.Random(20261120)
    Version(0, store).publish(datastore)
    number = unfinished = 0
    for _ in range(KILLS):
        done = datastore.root / "last"
        done.unlink(missing_ok=True)
        writer = fork(partial(_publish_for_ever, datastore, store, method, number + 1))
        until(done.exists)
        time.sleep(moments.uniform(0, 0.02))
        os.kill(writer, signal.SIGKILL)
        assert exit_code(writer) == -signal.SIGKILL
        unfinished += bool(left_over(datastore))
        reported = int(done.read_text())
        plain = _version_of(on_disk(datastore, store), store)
        read = _version_of(as_read(datastore, store), store)
        assert read is not None
        assert plain == read or (plain is None and method == "two renames")
        assert reported <= read <= reported + 1, "a version that was published is lost, or one came from nowhere"
        number = read + STEPS
        Version(number, store).publish(datastore, SWAPS[method])
        assert _version_of(as_read(datastore, store), store) == number
        assert left_over(datastore) == []
    assert unfinished > KILLS / 4, "hardly any kill met the writer at work"


def test_a_writer_killed_while_it_writes_leaves_the_old_version(tmp_path: Path) -> None:
    datastore = Datastore(tmp_path)
    old, new = Version(1), Version(2)
    old.publish(datastore)

    def write_for_ever() -> None:
        with Staging(datastore, new.run_id, new.output, "rain") as staging:
            for number in itertools.count():
                (staging.folder / f"part-{number}.parquet").write_bytes(bytes(1000))

    moments = random.Random(1)
    for _ in range(20):
        writer = fork(write_for_ever)
        until(lambda: bool(left_over(datastore)))
        time.sleep(moments.uniform(0, 0.005))
        os.kill(writer, signal.SIGKILL)
        exit_code(writer)
        assert on_disk(datastore) == as_read(datastore) == old.contents
    new.publish(datastore)
    assert as_read(datastore) == new.contents
    assert left_over(datastore) == []
