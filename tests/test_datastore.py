from __future__ import annotations

import json
import os
import signal
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from dsflow.durable import exchange, remove_tree
from dsflow.errors import JobFailed, UsageError
from dsflow.store.contents import plain_files
from dsflow.store.datastore import Datastore
from dsflow.store.layout import Store
from dsflow.store.publishing import Staging
from tests.conftest import build_tree
from tests.versions import DS, NAME, SWAPS, Version, as_read, exit_code, fork, on_disk, until

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")


@pytest.fixture
def datastore(tmp_path: Path) -> Datastore:
    return Datastore(tmp_path)


@pytest.fixture
def filled(datastore: Datastore) -> Datastore:
    """A datastore that someone else wrote."""
    days = ["2026-11-18", "2026-11-19", "2026-11-21"]
    build_tree(datastore.root, {f"tables/fct_rain/ds={ds}/part-0.parquet": ds for ds in days})
    build_tree(datastore.root, {"tables/empty/README": "", "raw/meteo/ds=2026-11-20/a/b.json": "{}"})
    return datastore


def test_names_are_the_folders_of_a_store(filled: Datastore) -> None:
    (filled.root / "tables" / ".hidden").mkdir()
    (filled.root / "tables" / "file").touch()
    assert filled.names("table") == ["empty", "fct_rain"]
    assert filled.names("raw") == ["meteo"]
    assert Datastore(filled.root / "nowhere").names("table") == []


def test_partitions_are_the_ds_folders_oldest_first(filled: Datastore) -> None:
    for name in ("ds=", "notes", ".ds=2026-11-22"):
        (filled.root / "tables" / "fct_rain" / name).mkdir()
    assert filled.partitions("table", "fct_rain") == ["2026-11-18", "2026-11-19", "2026-11-21"]
    assert filled.partitions("table", "empty") == []
    assert filled.partitions("table", "nope") == []


def test_a_folder_without_manifest_is_read_as_it_is(filled: Datastore) -> None:
    folder = filled.target("table", "fct_rain", "2026-11-18")
    build_tree(folder, {"_SUCCESS": "", ".part-0.parquet.crc": "", "deep/part-1.parquet": ""})
    table = filled.partition("table", "fct_rain", "2026-11-18")
    assert table is not None
    assert (table.files, table.manifest) == ((folder / "part-0.parquet",), None)
    raw = filled.partition("raw", "meteo", "2026-11-20")
    assert raw is not None
    assert raw.files == (raw.folder / "a" / "b.json",)


def test_a_published_partition_is_read_by_its_manifest(datastore: Datastore) -> None:
    Version(1).publish(datastore)
    (datastore.target("table", NAME, DS) / "added-by-hand.parquet").touch()
    partition = datastore.partition("table", NAME, DS)
    assert partition is not None
    assert partition.manifest is not None
    assert partition.manifest.run_id == Version(1).run_id
    assert {path.name: path.read_text() for path in partition.files} == Version(1).contents


def test_there_is_no_partition_where_there_is_no_folder(datastore: Datastore) -> None:
    assert datastore.partition("table", NAME, DS) is None
    Version(1).publish(datastore)
    remove_tree(datastore.target("table", NAME, DS))
    assert datastore.partition("table", NAME, DS) is None
    assert datastore.partitions("table", NAME) == []
    Version(2).publish(datastore)
    assert as_read(datastore) == Version(2).contents


@pytest.mark.parametrize("damage", ["unlink", "truncate"])
def test_a_damaged_partition_is_not_read_in_part(datastore: Datastore, damage: str) -> None:
    Version(2).publish(datastore)
    victim = datastore.target("table", NAME, DS) / f"{Version(2).run_id}-part-1.parquet"
    victim.unlink() if damage == "unlink" else os.truncate(victim, 0)
    with pytest.raises(JobFailed, match=f"table 'fct_rain' ds={DS} is damaged: {victim.name} is missing") as caught:
        datastore.partition("table", NAME, DS)
    assert "Run the job that writes it again for ds=2026-11-20" in caught.value.hint
    datastore.manifest("table", NAME, DS).unlink()
    assert datastore.partition("table", NAME, DS) is not None


def test_a_manifest_that_is_none_is_named(datastore: Datastore) -> None:
    Version(1).publish(datastore)
    path = datastore.manifest("table", NAME, DS)
    for text in ("{", "[]", json.dumps({"run_id": "x"})):
        path.write_text(text)
        with pytest.raises(JobFailed, match="is not a manifest") as caught:
            datastore.partition("table", NAME, DS)
        assert str(path) in caught.value.message


def test_select_gives_the_wanted_partitions_in_their_order(filled: Datastore) -> None:
    wanted = ["2026-11-21", "2026-11-18"]
    assert [partition.ds for partition in filled.select("table", "fct_rain", wanted)] == wanted
    assert filled.select("table", "fct_rain", []) == []


@pytest.mark.parametrize(
    ("store", "name", "wanted", "message"),
    [
        (
            "table",
            "fct_rain",
            ["2026-11-18", "2026-11-20"],
            "table 'fct_rain' has no partition ds=2026-11-20; it has 3, from ds=2026-11-18 to ds=2026-11-21",
        ),
        (
            "raw",
            "meteo",
            ["1", "2", "3", "4", "5"],
            "has no partition ds=1, ds=2, ds=3 and 2 more; it has only ds=2026",
        ),
        ("table", "empty", ["2026-11-20"], "table 'empty' has no partition yet"),
        ("table", "fct_rian", ["2026-11-20"], "there is no table 'fct_rian'; did you mean 'fct_rain'?"),
        ("raw", "x", ["2026-11-20"], "there is no raw dataset 'x'"),
    ],
)
def test_a_missing_partition_is_named_with_what_exists(
    filled: Datastore, store: Store, name: str, wanted: list[str], message: str
) -> None:
    with pytest.raises(JobFailed) as caught:
        filled.select(store, name, wanted)
    assert message in caught.value.message
    assert caught.value.hint.startswith("Run the job that writes it for ds=")


def test_a_hostile_name_is_refused(filled: Datastore) -> None:
    with pytest.raises(UsageError):
        filled.partitions("table", "../raw")
    with pytest.raises(UsageError):
        filled.select("table", "fct_rain", ["../../x"])


@pytest.mark.parametrize(
    ("as_of", "expected"),
    [(None, "2026-11-21"), ("2026-11-20", "2026-11-19"), ("2026-11-19", "2026-11-19"), ("2026-11-01", None)],
)
def test_newest_is_the_last_partition_at_or_before_a_ds(
    filled: Datastore, as_of: str | None, expected: str | None
) -> None:
    newest = filled.newest("table", "fct_rain", as_of)
    assert (newest.ds if newest else None) == expected


def test_a_reader_waits_for_a_writer_between_swap_and_manifest(datastore: Datastore) -> None:
    swapped, looked = threading.Event(), threading.Event()

    def swap(staged: Path, target: Path) -> bool:
        exchange(staged, target)
        swapped.set()
        looked.wait(0.1)
        return True

    Version(1).publish(datastore)
    writer = threading.Thread(target=lambda: Version(2).publish(datastore, swap))
    writer.start()
    swapped.wait()
    assert on_disk(datastore) == Version(2).contents
    assert as_read(datastore) == Version(2).contents
    writer.join()


def test_a_reader_waits_for_a_partition_that_is_away_between_two_renames(datastore: Datastore) -> None:
    away = threading.Event()

    def swap(staged: Path, target: Path) -> bool:
        target.rename(datastore.run_folder(Version(2).run_id) / "replaced")
        away.set()
        threading.Event().wait(0.1)
        staged.rename(target)
        return True

    Version(1).publish(datastore)
    writer = threading.Thread(target=lambda: Version(2).publish(datastore, swap))
    writer.start()
    away.wait()
    assert on_disk(datastore) is None
    assert datastore.partitions("table", NAME) == [DS]
    assert as_read(datastore) == Version(2).contents
    writer.join()


def test_a_first_publish_that_ends_while_a_reader_looks_is_read_with_its_manifest(
    datastore: Datastore, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_tree(datastore.target("table", NAME, DS), {"by-hand.parquet": ""})

    def look_then_publish(folder: Path, *, deep: bool) -> tuple[Path, ...]:
        files = plain_files(folder, deep=deep)
        Version(1).publish(datastore)
        return files

    monkeypatch.setattr("dsflow.store.datastore.plain_files", look_then_publish)
    assert as_read(datastore) == Version(1).contents


@pytest.mark.parametrize("method", SWAPS)
def test_readers_never_see_a_mix_while_a_writer_swaps(datastore: Datastore, method: str) -> None:
    def write() -> None:
        for number in range(1, 60):
            Version(number).publish(datastore, SWAPS[method])

    Version(0).publish(datastore)
    folder = datastore.target("table", NAME, DS)
    writer = fork(write)
    seen = set()
    while os.waitpid(writer, os.WNOHANG) == (0, 0):
        partition = datastore.partition("table", NAME, DS)
        assert partition is not None
        assert partition.manifest is not None
        number = int(partition.manifest.run_id[9:15])
        assert {path.name for path in partition.files} == set(Version(number).contents)
        seen.add(number)
        try:
            plain = {path.name for path in folder.iterdir()}
        except FileNotFoundError:
            assert method == "two renames"
        else:
            assert plain == set(Version(int(next(iter(plain))[9:15])).contents)
    assert len(seen) > 5
    assert as_read(datastore) == Version(59).contents


def test_readers_do_not_get_into_the_way_of_writers(datastore: Datastore) -> None:
    """A reader that repairs takes the partition's lock for a moment; a writer that comes then is not refused."""
    Version(0).publish(datastore)
    datastore.manifest("table", NAME, "1999-01-01").write_text(datastore.manifest("table", NAME, DS).read_text())
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            # The older manifest has no folder, which is a reason to repair each time.
            assert datastore.partition("table", NAME, "1999-01-01") is None
            datastore.partition("table", NAME, DS)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for number in range(1, 30):
            Version(number).publish(datastore)
    finally:
        done.set()
        reader.join()


@pytest.mark.parametrize("store", ["table", "raw"])
def test_a_writer_that_stands_still_in_its_swap_is_named_and_nothing_is_mixed(
    datastore: Datastore, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a table the reader would miss files; of raw data, with the same names, it gets the new version whole."""

    def stop_after(staged: Path, target: Path) -> bool:
        exchange(staged, target)
        (datastore.root / "swapped").touch()
        signal.pause()
        return True

    monkeypatch.setattr("dsflow.store.datastore._PAUSES", (0.01, 0.01))
    Version(1, store).publish(datastore)
    writer = fork(lambda: Version(4, store).publish(datastore, stop_after))
    try:
        until((datastore.root / "swapped").exists)
        if store == "table":
            with pytest.raises(JobFailed, match="is half published: the run that writes it stands still"):
                datastore.partition(store, NAME, DS)
        else:
            partition = datastore.partition(store, NAME, DS)
            assert partition is not None
            assert {path.name: path.read_text() for path in partition.files} == Version(4, store).contents
    finally:
        os.kill(writer, signal.SIGKILL)
        exit_code(writer)
    assert as_read(datastore, store) == Version(4, store).contents


@pytest.fixture
def public_folder() -> Iterator[Path]:
    """A temporary folder that other users can reach."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def test_a_datastore_that_may_not_be_written_can_be_read(public_folder: Path) -> None:
    datastore = Datastore(public_folder)
    Version(1).publish(datastore)

    def die_after(staged: Path, target: Path) -> bool:
        exchange(staged, target)
        os._exit(0)

    def read() -> None:
        if os.geteuid() == 0:
            os.setuid(65534)
        assert as_read(datastore) == Version(1).contents
        assert datastore.partitions("table", NAME) == [DS]
        with pytest.raises(PermissionError):
            (datastore.own / "x").touch()

    for path in (datastore.root, *datastore.root.rglob("*")):
        path.chmod(path.stat().st_mode & ~0o222)
    try:
        assert exit_code(fork(read)) == 0
    finally:
        for path in (datastore.root, *datastore.root.rglob("*")):
            path.chmod(path.stat().st_mode | 0o200)


def test_a_run_may_read_the_partition_that_it_is_about_to_replace(datastore: Datastore) -> None:
    Version(1).publish(datastore)
    with Staging(datastore, Version(2).run_id, Version(2).output, "rain") as staging:
        assert as_read(datastore) == Version(1).contents
        staging.publish(Version(2).stage(staging.folder))
        assert as_read(datastore) == Version(2).contents


def test_a_stopped_writer_does_not_stop_readers_of_other_partitions(datastore: Datastore) -> None:
    def write_for_ever() -> None:
        with Staging(datastore, Version(1).run_id, Version(1).output, "rain"):
            (datastore.root / "ready").touch()
            signal.pause()

    build_tree(datastore.root, {"tables/other/ds=2026-11-20/part-0.parquet": "x"})
    writer = fork(write_for_ever)
    try:
        until(lambda: (datastore.root / "ready").exists())
        os.kill(writer, signal.SIGSTOP)
        assert datastore.newest("table", "other") is not None
        assert datastore.partition("table", NAME, DS) is None
    finally:
        os.kill(writer, signal.SIGKILL)
        exit_code(writer)
