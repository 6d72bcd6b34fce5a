"""Taking a partition away: there whole, or gone; whoever dies or looks in the middle."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

from dsflow.errors import PartitionLocked, UsageError
from dsflow.store.datastore import Datastore
from dsflow.store.layout import Store
from dsflow.store.publishing import Staging, remove, repair
from tests.versions import DS, NAME, Version, as_read, failing_at, killed_at, left_over, on_disk

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
OLD = Version(2)


@pytest.fixture
def datastore(tmp_path: Path) -> Datastore:
    return Datastore(tmp_path / "data store")


@pytest.mark.parametrize("store", ["table", "raw"])
def test_nothing_is_left_but_the_trash(datastore: Datastore, store: Store) -> None:
    version = Version(2, store)
    version.publish(datastore)
    remove(datastore, store, NAME, DS)
    assert on_disk(datastore, store) is None
    assert as_read(datastore, store) is None
    assert not datastore.manifest(store, NAME, DS).exists()
    assert left_over(datastore) == []
    [trash] = datastore.trash.iterdir()
    assert {path.name: path.read_text() for path in trash.rglob("*.parquet")} == version.contents


def test_other_partitions_stay(datastore: Datastore) -> None:
    OLD.publish(datastore)
    other = datastore.target("table", NAME, "2026-11-21")
    other.mkdir()
    (other / "by-hand.parquet").touch()
    remove(datastore, "table", NAME, "2026-11-21")
    assert datastore.partitions("table", NAME) == [DS]
    assert as_read(datastore) == OLD.contents


def test_what_is_not_there_is_no_mistake(datastore: Datastore) -> None:
    OLD.publish(datastore)
    remove(datastore, "table", NAME, "2026-11-21")
    assert as_read(datastore) == OLD.contents
    assert left_over(datastore) == []


def test_a_partition_that_is_being_written_stays(datastore: Datastore) -> None:
    OLD.publish(datastore)
    with (
        Staging(datastore, "20261120T000009-abcdef", OLD.output, "rain"),
        pytest.raises(PartitionLocked, match="being written by run 20261120T000009-abcdef of rain"),
    ):
        remove(datastore, "table", NAME, DS)
    assert as_read(datastore) == OLD.contents


def test_a_link_that_leaves_the_datastore_is_refused(datastore: Datastore, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    datastore.target("table", NAME, DS).parent.mkdir(parents=True)
    datastore.target("table", NAME, DS).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="leaves the datastore"):
        remove(datastore, "table", NAME, DS)
    assert (tmp_path / "elsewhere").is_dir()


def _remove(datastore: Datastore) -> Callable[[object], None]:
    return lambda _: remove(datastore, "table", NAME, DS)


def test_a_death_at_any_step_leaves_it_whole_or_gone(tmp_path: Path) -> None:
    seen = set()
    for step in itertools.count(1):
        datastore = Datastore(tmp_path / str(step))
        OLD.publish(datastore)
        if not killed_at(step, _remove(datastore)):
            break
        plain, read = on_disk(datastore), as_read(datastore)
        assert plain == read
        assert read in (OLD.contents, None)
        assert datastore.partitions("table", NAME) == ([DS] if read else [])
        repair(datastore)
        assert left_over(datastore) == []
        assert as_read(datastore) == read
        assert datastore.manifest("table", NAME, DS).exists() == (read is not None)
        OLD.publish(datastore)
        assert as_read(datastore) == OLD.contents
        seen.add(read is None)
    assert seen == {True, False}


@pytest.mark.parametrize("error", [KeyboardInterrupt, lambda: OSError(5, "the disk is broken")])
def test_an_interruption_at_any_step_leaves_it_whole_or_gone(
    tmp_path: Path, error: Callable[[], BaseException]
) -> None:
    seen = set()
    for step in itertools.count(1):
        datastore = Datastore(tmp_path / str(step))
        OLD.publish(datastore)
        with failing_at(step, error) as failed, contextlib.suppress(KeyboardInterrupt, OSError):
            remove(datastore, "table", NAME, DS)
        if not failed():
            break
        read = as_read(datastore)
        assert read == on_disk(datastore)
        assert read in (OLD.contents, None)
        repair(datastore)
        assert left_over(datastore) == []
        assert datastore.manifest("table", NAME, DS).exists() == (read is not None)
        seen.add(read is None)
    assert seen == {True, False}
