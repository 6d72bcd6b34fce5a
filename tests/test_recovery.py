"""What is left of a run that was killed, at every change it makes to the disk."""

from __future__ import annotations

import itertools
import os
import signal
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dsflow.durable import exchange
from dsflow.model import Output, to_json
from dsflow.store.datastore import Datastore
from dsflow.store.layout import Store
from dsflow.store.publishing import Staging
from dsflow.store.recovery import repair
from tests.versions import (
    DS,
    NAME,
    SWAPS,
    Swap,
    Version,
    as_read,
    exit_code,
    fork,
    killed_at,
    left_over,
    no_exchange,
    on_disk,
    publish_killed_at,
    until,
)

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")


@pytest.fixture
def datastore(tmp_path: Path) -> Datastore:
    return Datastore(tmp_path / "data")


@pytest.mark.parametrize(("store", "swap"), [("table", exchange), ("raw", exchange), ("table", no_exchange)])
def test_a_run_killed_at_any_step_leaves_the_old_version_or_the_new(
    datastore: Datastore, store: Store, swap: Swap
) -> None:
    old = Version(1, store)
    old.publish(datastore)
    seen = set()
    for step in itertools.count(1):
        new = Version(3 * step + 1, store)  # Each with two files, so that each takes the same steps.
        died = publish_killed_at(step, new, datastore, swap)
        plain = on_disk(datastore, store)
        assert plain in (old.contents, new.contents) or (plain is None and swap is not exchange), f"step {step}"
        contents = as_read(datastore, store)
        assert contents in (old.contents, new.contents), f"step {step}"
        assert on_disk(datastore, store) == contents, f"step {step}"
        assert plain in (contents, None), f"step {step}: a version was taken back"
        seen.add(contents == new.contents)
        if not died:
            break
        repair(datastore)
        assert left_over(datastore) == [], f"step {step}"
        old.publish(datastore, swap)
        assert as_read(datastore, store) == old.contents
    assert step > 30
    assert seen == {True, False}


def test_a_first_publish_killed_at_any_step_leaves_nothing_or_the_version(tmp_path: Path) -> None:
    new = Version(1)
    seen = set()
    for step in itertools.count(1):
        datastore = Datastore(tmp_path / str(step))
        died = publish_killed_at(step, new, datastore)
        contents = as_read(datastore)
        assert contents in (None, new.contents), f"step {step}"
        assert on_disk(datastore) == contents
        seen.add(contents is None)
        if not died:
            break
        new.publish(datastore)
        assert as_read(datastore) == new.contents
        assert left_over(datastore) == []
    assert seen == {True, False}


def test_a_repair_killed_at_any_step_is_finished_by_the_next(datastore: Datastore) -> None:
    old, new = Version(1), Version(2)

    def die_between_the_renames(staged: Path, target: Path) -> bool:
        target.rename(datastore.run_folder(new.run_id) / "replaced")
        os._exit(0)

    for step in itertools.count(1):
        old.publish(datastore)
        assert exit_code(fork(lambda: new.publish(datastore, die_between_the_renames))) == 0
        assert on_disk(datastore) is None
        died = killed_at(step, lambda mortal: repair(datastore))
        assert as_read(datastore) == on_disk(datastore) == new.contents, f"step {step}"
        if not died:
            break
    assert step > 10


def test_repair_tells_what_it_did(datastore: Datastore) -> None:
    old, new = Version(1), Version(2)
    old.publish(datastore)

    def die_before(staged: Path, target: Path) -> bool:
        os._exit(0)

    def die_after(staged: Path, target: Path) -> bool:
        exchange(staged, target)
        os._exit(0)

    assert repair(datastore) == []
    exit_code(fork(lambda: Staging(datastore, new.run_id, new.output, "rain").__enter__()))
    assert repair(datastore) == [f"removed what run {new.run_id} left unfinished"]
    exit_code(fork(lambda: new.publish(datastore, die_before)))
    assert repair(datastore) == [f"discarded what run {new.run_id} wrote for table 'fct_rain' ds=2026-11-20"]
    assert as_read(datastore) == old.contents
    exit_code(fork(lambda: new.publish(datastore, die_after)))
    assert repair(datastore) == [f"finished publishing table 'fct_rain' ds=2026-11-20 for run {new.run_id}"]
    assert as_read(datastore) == new.contents


def test_the_next_run_repairs_other_partitions_too(datastore: Datastore) -> None:
    def die_after(staged: Path, target: Path) -> bool:
        exchange(staged, target)
        os._exit(0)

    Version(1).publish(datastore)
    exit_code(fork(lambda: Version(2).publish(datastore, die_after)))
    with Staging(datastore, Version(3).run_id, Output(store="table", name="other", ds=DS), "other"):
        manifest = datastore.manifest("table", NAME, DS).read_text()
    assert Version(2).run_id in manifest


def test_the_leftovers_of_a_run_whose_partition_is_being_written_wait(datastore: Datastore) -> None:
    """Only the holder of a partition touches it: here a dead run's publish turns up while another run writes."""
    new = Version(2)
    with Staging(datastore, Version(3).run_id, new.output, "rain") as staging:
        leftover = datastore.staged(new.run_id, "table", NAME, DS)
        leftover.mkdir(parents=True)
        (datastore.run_folder(new.run_id) / "manifest.json").write_text(to_json(new.stage(leftover)))
        assert repair(datastore) == []
        assert leftover.exists()
        staging.publish(Version(3).stage(staging.folder))
    assert repair(datastore) == [f"discarded what run {new.run_id} wrote for table 'fct_rain' ds=2026-11-20"]
    assert as_read(datastore) == Version(3).contents


def test_files_that_someone_put_into_the_way_are_not_lost(datastore: Datastore) -> None:
    """Killed between two renames; then someone makes the partition by hand: the old version stays in the trash."""
    old, new = Version(1), Version(2)
    old.publish(datastore)

    def die_between_the_renames(staged: Path, target: Path) -> bool:
        target.rename(datastore.run_folder(new.run_id) / "replaced")
        os._exit(0)

    exit_code(fork(lambda: new.publish(datastore, die_between_the_renames)))
    datastore.target("table", NAME, DS).mkdir()
    repair(datastore)
    assert on_disk(datastore) == {}
    assert [path.read_text() for path in sorted(datastore.trash.glob("*/replaced/*"))] == list(old.contents.values())


def test_many_repairers_at_once_are_harmless(datastore: Datastore) -> None:
    def die_after(staged: Path, target: Path) -> bool:
        exchange(staged, target)
        os._exit(0)

    Version(1).publish(datastore)
    for number in range(2, 12):
        exit_code(fork(partial(Version(number).publish, datastore, die_after)))
        with ThreadPoolExecutor(4) as pool:
            said = [
                sentence
                for future in [pool.submit(repair, datastore) for _ in range(4)]
                for sentence in future.result()
            ]
        assert len(said) == 1
        assert as_read(datastore) == Version(number).contents


def test_a_run_that_is_alive_is_not_repaired(datastore: Datastore) -> None:
    def stop_after(staged: Path, target: Path) -> bool:
        exchange(staged, target)
        (datastore.root / "swapped").touch()
        signal.pause()
        return True

    Version(1).publish(datastore)
    writer = fork(lambda: Version(2).publish(datastore, stop_after))
    until(lambda: (datastore.root / "swapped").exists())
    assert repair(datastore) == []
    assert len(left_over(datastore)) == 1
    os.kill(writer, signal.SIGKILL)
    exit_code(writer)
    assert as_read(datastore) == Version(2).contents


_actions = st.one_of(
    st.tuples(st.just("publish"), st.sampled_from(list(SWAPS)), st.just(0)),
    st.tuples(st.just("crash"), st.sampled_from(list(SWAPS)), st.integers(1, 50)),
    st.tuples(st.sampled_from(["repair", "read"]), st.just("exchange"), st.just(0)),
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(_actions, min_size=2, max_size=10), st.sampled_from(["table", "raw"]))
def test_after_any_history_the_partition_is_one_version_that_was_due(
    history: list[tuple[str, str, int]], store: Store
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        datastore = Datastore(Path(folder))
        due: list[dict[str, str] | None] = [None]
        for number, (what, method, step) in enumerate(history):
            version = Version(number, store)
            if what == "publish":
                version.publish(datastore, SWAPS[method])
                due = [version.contents]
            elif what == "crash":
                died = publish_killed_at(step, version, datastore, SWAPS[method])
                due = [*due, version.contents] if died else [version.contents]
            elif what == "repair":
                repair(datastore)
                assert left_over(datastore) == []
            else:
                found = as_read(datastore, store)
                assert found in due
                due = [found]
            assert on_disk(datastore, store) in (*due, None)
        assert as_read(datastore, store) in due
