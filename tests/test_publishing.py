from __future__ import annotations

import dataclasses
import errno
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dsflow import durable
from dsflow.errors import EnvironmentMissing, JobFailed, PartitionLocked, UsageError
from dsflow.model import Output
from dsflow.store.datastore import Datastore
from dsflow.store.layout import Store
from dsflow.store.publishing import Staging, repair
from tests.versions import (
    DS,
    NAME,
    SWAPS,
    Swap,
    Version,
    as_read,
    exit_code,
    failing_at,
    fork,
    left_over,
    on_disk,
    until,
)

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
OLD, NEW = Version(1), Version(2)


@pytest.fixture
def datastore(tmp_path: Path) -> Datastore:
    return Datastore(tmp_path / "data store")


@pytest.fixture(params=SWAPS)
def swap(request: pytest.FixtureRequest) -> Swap:
    return SWAPS[request.param]


@pytest.mark.parametrize("store", ["table", "raw"])
def test_publishing_replaces_the_partition_exactly(datastore: Datastore, swap: Swap, store: Store) -> None:
    for number in (2, 1, 3, 3):
        version = Version(number, store)
        version.publish(datastore, swap)
        assert on_disk(datastore, store) == as_read(datastore, store) == version.contents
        assert left_over(datastore) == []


def test_other_partitions_are_left_alone(datastore: Datastore) -> None:
    OLD.publish(datastore)
    other = Output(store="table", name=NAME, ds="2026-11-21")
    with Staging(datastore, NEW.run_id, other, "rain") as staging:
        staging.publish(dataclasses.replace(NEW.stage(staging.folder), ds=other.ds))
    assert as_read(datastore) == OLD.contents
    assert datastore.partitions("table", NAME) == [DS, "2026-11-21"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, JobFailed])
def test_a_run_that_ends_before_it_publishes_leaves_the_old_version_and_no_trace(
    datastore: Datastore, error: type[BaseException]
) -> None:
    OLD.publish(datastore)
    staging = Staging(datastore, NEW.run_id, NEW.output, "rain")
    with pytest.raises(error, match="stopped"), staging:
        raise error(f"stopped with {NEW.stage(staging.folder)}")
    assert not staging.published
    assert as_read(datastore) == OLD.contents
    assert left_over(datastore) == []


def test_the_old_version_is_in_the_trash_for_an_hour(datastore: Datastore) -> None:
    OLD.publish(datastore)
    NEW.publish(datastore)
    [trash] = datastore.trash.iterdir()
    kept = {path.name: path.read_text() for path in trash.rglob("*.parquet")}
    assert kept == OLD.contents
    stamp, _, run = trash.name.partition("-")
    trash.rename(trash.with_name(f"{int(stamp) - 3601 * 10**9}-{run}"))
    OLD.publish(datastore)
    assert [path.name.partition("-")[2] for path in datastore.trash.iterdir()] == [OLD.run_id]


def test_a_partition_that_dsflow_did_not_write_is_replaced_whole(datastore: Datastore, swap: Swap) -> None:
    folder = datastore.target("table", NAME, DS)
    folder.mkdir(parents=True)
    (folder / "by-hand.parquet").touch()
    NEW.publish(datastore, swap)
    assert on_disk(datastore) == NEW.contents


def test_one_of_two_writers_of_a_partition_is_refused_and_told_about_the_other(datastore: Datastore) -> None:
    with Staging(datastore, OLD.run_id, OLD.output, "rain") as staging:
        with pytest.raises(PartitionLocked) as caught:
            NEW.publish(datastore)
        message = caught.value.message
        assert message.startswith(
            "table 'fct_rain' ds=2026-11-20 is being written by run 20261120T000001-abcdef of rain"
        )
        assert f"(pid {os.getpid()} on {socket.gethostname()}, since 20" in message
        assert caught.value.exit_code == 5
        staging.publish(OLD.stage(staging.folder))
    assert as_read(datastore) == OLD.contents
    NEW.publish(datastore)
    assert as_read(datastore) == NEW.contents


def test_a_table_and_a_raw_dataset_of_one_name_are_written_at_the_same_time(datastore: Datastore) -> None:
    with Staging(datastore, OLD.run_id, OLD.output, "rain"):
        Version(2, "raw").publish(datastore)
    assert as_read(datastore, "raw") == Version(2, "raw").contents


def test_one_run_id_cannot_be_used_twice_at_once(datastore: Datastore) -> None:
    other = dataclasses.replace(OLD.output, ds="2026-11-21")
    with Staging(datastore, OLD.run_id, OLD.output, "rain") as staging:
        with pytest.raises(PartitionLocked, match="is being executed already"):
            Staging(datastore, OLD.run_id, other, "rain").__enter__()
        assert staging.folder.is_dir()


def test_the_partition_of_a_killed_run_is_free_and_its_leftovers_are_removed(datastore: Datastore) -> None:
    OLD.publish(datastore)

    def write_for_ever() -> None:
        with Staging(datastore, NEW.run_id, NEW.output, "rain") as staging:
            NEW.stage(staging.folder)
            (staging.folder / "ready").touch()
            signal.pause()

    writer = fork(write_for_ever)
    until(lambda: bool(list(datastore.staging.glob("*/*/*/*/ready"))))
    assert repair(datastore) == []
    os.kill(writer, signal.SIGKILL)
    exit_code(writer)
    assert as_read(datastore) == OLD.contents
    Version(3).publish(datastore)
    assert as_read(datastore) == Version(3).contents
    assert left_over(datastore) == []


def test_a_forked_child_that_leaves_the_block_takes_nothing_away(datastore: Datastore) -> None:
    in_child = False
    try:
        with Staging(datastore, NEW.run_id, NEW.output, "rain") as staging:
            manifest = NEW.stage(staging.folder)
            child = os.fork()
            in_child = child == 0
            if in_child:
                raise KeyboardInterrupt
            assert exit_code(child) == 0
            with pytest.raises(PartitionLocked):
                OLD.publish(datastore)
            staging.publish(manifest)
    finally:
        if in_child:
            os._exit(0)
    assert as_read(datastore) == NEW.contents


def test_everything_is_on_the_disk_before_the_swap(datastore: Datastore, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: set[int] = set()
    fsync = os.fsync

    def noting(handle: int) -> None:
        synced.add(os.fstat(handle).st_ino)
        fsync(handle)

    def checking(staged: Path, target: Path) -> bool:
        run_folder = datastore.run_folder(NEW.run_id)
        needed = [staged, *staged.iterdir(), run_folder / "manifest.json", run_folder, datastore.own / "manifests"]
        unsynced = [path for path in needed if path.stat().st_ino not in synced]
        assert unsynced == []
        return durable.exchange(staged, target)

    monkeypatch.setattr(os, "fsync", noting)
    OLD.publish(datastore)
    synced -= {path.stat().st_ino for path in datastore.root.rglob("*")} - {(datastore.own / "manifests").stat().st_ino}
    NEW.publish(datastore, checking)
    assert on_disk(datastore) == NEW.contents


def test_files_that_change_after_they_were_described_are_not_published(datastore: Datastore) -> None:
    OLD.publish(datastore)
    with Staging(datastore, NEW.run_id, NEW.output, "rain") as staging:
        manifest = NEW.stage(staging.folder)
        (staging.folder / "late.parquet").touch()
        with pytest.raises(JobFailed, match="changed after they were checked"):
            staging.publish(manifest)
    assert as_read(datastore) == OLD.contents


@pytest.mark.parametrize("place", ["tables", f"tables/{NAME}", f"tables/{NAME}/ds={DS}", ".dsflow"])
def test_a_link_out_of_the_datastore_is_not_written_through(datastore: Datastore, tmp_path: Path, place: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (datastore.root / place).parent.mkdir(parents=True)
    (datastore.root / place).symlink_to(outside)
    with pytest.raises(UsageError, match="a link that leaves the datastore"):
        NEW.publish(datastore)
    assert list(outside.iterdir()) == []


@pytest.mark.parametrize("name", ["../evil", "a/b", "", "a\nb"])
def test_a_hostile_name_writes_nothing(datastore: Datastore, name: str) -> None:
    with pytest.raises(UsageError):
        Staging(datastore, NEW.run_id, Output(store="table", name=name, ds=DS), "rain")
    assert not datastore.root.exists()


def _disk_full() -> OSError:
    return OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("error", [KeyboardInterrupt, _disk_full])
def test_an_error_at_any_step_leaves_one_version_whole(
    datastore: Datastore, swap: Swap, error: Callable[[], BaseException]
) -> None:
    """Every change to the disk fails once: Ctrl-C there, or a disk that is full at that very moment."""
    OLD.publish(datastore)
    expected, steps = OLD, 0
    while True:
        steps += 1
        version = Version(3 * steps + 1)  # Each with two files, so that each takes the same steps.
        staging = Staging(datastore, version.run_id, version.output, "rain", swap)
        with failing_at(steps, error) as failed:
            try:
                with staging:
                    staging.publish(version.stage(staging.folder))
            except (KeyboardInterrupt, EnvironmentMissing):
                pass
        if staging.published:
            expected = version
        assert as_read(datastore) == expected.contents, f"step {steps}"
        if not failed():
            break
    assert steps > 30
    assert expected is version
    repair(datastore)
    assert left_over(datastore) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    place = tmp_path / "small"
    place.mkdir()
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this machine does not let root mount a tmpfs")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_on_a_full_disk_nothing_is_published_and_the_space_is_free_again(small_disk: Path) -> None:
    datastore = Datastore(small_disk)
    OLD.publish(datastore)
    with Staging(datastore, NEW.run_id, NEW.output, "rain") as staging:
        manifest = NEW.stage(staging.folder)
        fill = small_disk / "fill"
        with pytest.raises(OSError, match="No space"):
            fill.write_bytes(bytes(2_000_000))
        with pytest.raises(EnvironmentMissing, match=r"the disk is full: 0.0 MB of 1.0 MB"):
            staging.publish(manifest)
    assert as_read(datastore) == on_disk(datastore) == OLD.contents
    assert left_over(datastore) == []
    fill.unlink()
    NEW.publish(datastore)
    assert as_read(datastore) == NEW.contents


def test_a_job_that_fills_the_disk_gives_the_space_back(small_disk: Path) -> None:
    datastore = Datastore(small_disk)
    OLD.publish(datastore)
    with pytest.raises(OSError, match="No space"), Staging(datastore, NEW.run_id, NEW.output, "rain") as staging:
        (staging.folder / "big.parquet").write_bytes(bytes(2_000_000))
    assert as_read(datastore) == OLD.contents
    NEW.publish(datastore)
    assert as_read(datastore) == NEW.contents
