"""A table and its quarantine are published together, or neither is, whenever the run that writes them dies."""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from dsflow.durable import exchange
from dsflow.model import QUARANTINE, Manifest, Output
from dsflow.store.datastore import Datastore
from dsflow.store.publishing import Staging, content_hash, describe, remove
from dsflow.store.recovery import repair
from tests.versions import (
    DS,
    NAME,
    Swap,
    Version,
    exit_code,
    failing_at,
    fork,
    killed_at,
    left_over,
    no_exchange,
    until,
)

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
ASIDE = NAME + QUARANTINE


@pytest.fixture
def datastore(tmp_path: Path) -> Datastore:
    return Datastore(tmp_path / "data store")


def publish(datastore: Datastore, number: int, swap: Swap = exchange, then: Callable[[], None] = lambda: None) -> None:
    """Publish a version of the table, and the same number in its quarantine."""
    version = Version(number)
    output = Output(store="table", name=ASIDE, ds=DS)
    with Staging(datastore, version.run_id, version.output, "rain", swap) as staging:
        manifest = version.stage(staging.folder)
        folder = staging.aside(output)
        (folder / f"{version.run_id}-part-0.parquet").write_text(str(number))
        files = describe(folder)
        aside = dataclasses.replace(manifest, name=ASIDE, files=files, hash=content_hash(files))
        staging.publish(manifest, aside)
        then()


def read(datastore: Datastore, name: str) -> int | None:
    """Give the number of the version that dsflow's reader finds, whole and under its own manifest."""
    partition = datastore.partition("table", name, DS)
    if partition is None:
        return None
    assert partition.manifest is not None
    assert partition.manifest.files == describe(partition.folder)
    return int(partition.files[0].read_text().partition("/")[0])


@pytest.mark.parametrize(("swap", "first"), [(exchange, NAME), (exchange, ASIDE), (no_exchange, NAME)])
def test_killed_at_any_step_both_are_old_or_both_are_new(datastore: Datastore, swap: Swap, first: str) -> None:
    old = 1
    publish(datastore, old)
    names = [first, NAME if first == ASIDE else ASIDE]
    seen = set()
    for step in itertools.count(1):
        new = 3 * step + 1
        died = killed_at(step, lambda mortal, new=new: publish(datastore, new, mortal(swap)))  # type: ignore[misc]
        found = [read(datastore, name) for name in names]
        assert found in ([old, old], [new, new]), f"step {step}"
        seen.add(found == [new, new])
        if not died:
            break
        repair(datastore)
        assert left_over(datastore) == [], f"step {step}"
        publish(datastore, old, swap)
        assert [read(datastore, name) for name in names] == [old, old]
    assert step > 40
    assert seen == {True, False}


def test_the_first_quarantine_of_a_table_that_is_there(tmp_path: Path) -> None:
    for step in itertools.count(1):
        datastore = Datastore(tmp_path / str(step))
        Version(1).publish(datastore)
        died = killed_at(step, lambda mortal, datastore=datastore: publish(datastore, 4, mortal(exchange)))  # type: ignore[misc]
        assert (read(datastore, NAME), read(datastore, ASIDE)) in ((1, None), (4, 4)), f"step {step}"
        if not died:
            break
    assert step > 30


def test_an_error_at_any_step_leaves_both_old_or_both_new(datastore: Datastore) -> None:
    publish(datastore, 1)
    for step in itertools.count(1):
        new = 3 * step + 1
        with failing_at(step, lambda: OSError(5, "Input/output error")) as raised:
            try:
                publish(datastore, new)
                failed = False
            except BaseException:
                failed = True
        found = [read(datastore, name) for name in (NAME, ASIDE)]
        assert found in ([1, 1], [new, new]), f"step {step}"
        if not raised() and not failed:
            break
        publish(datastore, 1)
    assert step > 40


def test_a_dead_run_is_finished_by_whoever_takes_its_quarantine_away(datastore: Datastore) -> None:
    """The one holds the lock of the quarantine already when it comes to repair."""
    publish(datastore, 1)
    new = itertools.count(4, 3)
    for step in range(25, 60):
        if not killed_at(step, lambda mortal: publish(datastore, next(new), mortal(exchange))):
            break
        remove(datastore, "table", ASIDE, DS)
        assert read(datastore, ASIDE) is None
        assert left_over(datastore) == []
        publish(datastore, 1)


def test_a_writer_waits_for_who_takes_the_quarantine_away(datastore: Datastore, tmp_path: Path) -> None:
    publish(datastore, 1)
    mark = tmp_path / "holding"

    def hold() -> None:
        with Staging(datastore, "20261120T000009-abcdef", Output(store="table", name=ASIDE, ds=DS), "prune") as staging:
            mark.touch()
            until(lambda: "manifest.json" in str(list(datastore.staging.rglob("*.json"))))
            staging.take_away()

    pid = fork(hold)
    until(mark.exists)
    publish(datastore, 4)
    assert exit_code(pid) == 0
    assert (read(datastore, NAME), read(datastore, ASIDE)) == (4, 4)


def test_a_table_without_rows_set_aside_has_no_second_folder(datastore: Datastore) -> None:
    Version(1).publish(datastore)
    assert datastore.names("table") == [NAME]


def test_manifests_of_both_are_kept(datastore: Datastore) -> None:
    publish(datastore, 1)
    found = datastore.partition("table", ASIDE, DS)
    assert found is not None
    assert isinstance(found.manifest, Manifest)
    assert found.manifest.run_id == Version(1).run_id
    assert not os.listdir(datastore.staging)
