"""From what a task wants of an input to the partitions that are there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dsflow.errors import JobFailed
from dsflow.inputs import partitions_of
from dsflow.model import Input
from dsflow.store.datastore import Datastore

DAYS = ("2026-11-18", "2026-11-19", "2026-11-20", "2026-11-22")


@pytest.fixture
def datastore(tmp_path: Path) -> Datastore:
    for ds in DAYS:
        folder = tmp_path / "raw" / "clicks" / f"ds={ds}"
        folder.mkdir(parents=True)
        (folder / "a.csv").write_text("x\n1\n")
    return Datastore(tmp_path)


def found(datastore: Datastore, *wanted: str, **more: Any) -> list[str]:
    source = Input(name="clicks", kind="raw", target="clicks", partitions=wanted, **more)
    return [partition.ds for partition in partitions_of(source, datastore)]


def test_of_the_partitions_after_ds_those_are_read_that_exist(datastore: Datastore) -> None:
    assert found(datastore, "2026-11-20", later=("2026-11-21", "2026-11-22")) == ["2026-11-20", "2026-11-22"]
    assert found(datastore, "2026-11-22", later=("2026-11-23",)) == ["2026-11-22"]


def test_late_data_does_not_stand_for_the_partition_itself(datastore: Datastore) -> None:
    with pytest.raises(JobFailed, match="has no partition ds=2026-11-21"):
        found(datastore, "2026-11-21", later=("2026-11-22",))


def test_of_a_window_those_are_read_that_exist(datastore: Datastore) -> None:
    assert found(datastore, "2026-11-20", "2026-11-21", "2026-11-22") == ["2026-11-20", "2026-11-22"]
    with pytest.raises(JobFailed, match="has no partition ds=2026-12-02"):
        found(datastore, "2026-12-01", "2026-12-02", later=("2026-12-03",))


def test_as_of_is_the_newest_at_or_before(datastore: Datastore) -> None:
    assert found(datastore, as_of="2026-11-21") == ["2026-11-20"]
    with pytest.raises(JobFailed, match="has no partition ds=2026-11-01"):
        found(datastore, as_of="2026-11-01")
