"""The index of what is published: the same as the manifests say, without opening them twice."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from dsflow.model import Column, Fingerprint, InputUsed, Manifest, Output, to_json
from dsflow.store.amending import amend
from dsflow.store.index import Index
from dsflow.store.layout import Layout
from dsflow.store.publishing import Staging, content_hash, describe

PRINT = Fingerprint(code="c", spec="s", parameters="p", place="process:1")


def publish(layout: Layout, ds: str, text: str = "x", run: str = "20261120T000000-000001", name: str = "t") -> Manifest:
    output = Output(store="table", name=name, ds=ds)
    with Staging(layout, run, output, "job") as staging:
        (staging.folder / f"{run}-part-0.parquet").write_text(text)
        files = describe(staging.folder)
        manifest = Manifest(
            run_id=run, job="job", store="table", name=name, ds=ds, published="2026-11-20T00:00:00+00:00", files=files,
            columns=(Column(name="x", type="INTEGER"),), fingerprint=PRINT, hash=content_hash(files),
            inputs=(InputUsed(name="i", kind="raw", target="r", ds=ds, hash="h", rows=3, bytes=9, run_id="r1"),),
        )  # fmt: skip
        staging.publish(manifest)
    return manifest


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "data")


def test_an_entry_is_what_the_manifest_says(layout: Layout) -> None:
    manifest = publish(layout, "2026-11-20")
    entry = Index(layout).entries("table", "t")["2026-11-20"]
    assert (entry.run_id, entry.hash, entry.bytes, entry.files) == (manifest.run_id, manifest.hash, 1, 1)
    assert entry.fingerprint == PRINT
    assert entry.inputs == (("raw", "r", "2026-11-20", "h", 3, 9),)


def test_partitions_come_oldest_first_and_what_is_not_there_has_none(layout: Layout) -> None:
    for ds in ("2026-11-20", "2026-11-18", "2026-11-19"):
        publish(layout, ds)
    assert list(Index(layout).entries("table", "t")) == ["2026-11-18", "2026-11-19", "2026-11-20"]
    assert Index(layout).entries("raw", "t") == {}


def age(layout: Layout) -> None:
    """Make all manifests a minute old: young ones are not remembered."""
    for path in layout.manifests("table", "t").iterdir():
        os.utime(path, (time.time() - 60, time.time() - 60))


def test_a_second_look_opens_no_manifest(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(layout, "2026-11-20")
    age(layout)
    first = dict(Index(layout).entries("table", "t"))
    monkeypatch.setattr("dsflow.store.index._read", lambda path: pytest.fail(f"{path} was opened"))
    assert Index(layout).entries("table", "t") == first


def test_what_changed_since_is_seen(layout: Layout) -> None:
    publish(layout, "2026-11-19")
    publish(layout, "2026-11-20")
    age(layout)
    Index(layout).entries("table", "t")
    new = publish(layout, "2026-11-20", "other", run="20261120T000000-000002")
    shutil.rmtree(layout.target("table", "t", "2026-11-19"))
    entries = Index(layout).entries("table", "t")
    assert list(entries) == ["2026-11-20"]
    assert entries["2026-11-20"].hash == new.hash


def test_a_manifest_of_this_moment_is_not_remembered(layout: Layout) -> None:
    publish(layout, "2026-11-20")
    path = layout.manifest("table", "t", "2026-11-20")
    os.utime(path)
    Index(layout).entries("table", "t")
    state = path.stat()
    # The same size, time and inode: nothing that could be seen from outside.
    path.write_text(path.read_text().replace('"hash": "h"', '"hash": "i"'))
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert Index(layout).entries("table", "t")["2026-11-20"].inputs[0].hash == "i"


def test_one_partition_can_be_looked_at_again(layout: Layout) -> None:
    publish(layout, "2026-11-19")
    publish(layout, "2026-11-21")
    index = Index(layout)
    assert list(index.entries("table", "t")) == ["2026-11-19", "2026-11-21"]
    publish(layout, "2026-11-20")
    assert "2026-11-20" not in index.entries("table", "t")
    index.refresh("table", "t", "2026-11-20")
    assert list(index.entries("table", "t")) == ["2026-11-19", "2026-11-20", "2026-11-21"]
    shutil.rmtree(layout.target("table", "t", "2026-11-21"))
    index.refresh("table", "t", "2026-11-21")
    assert list(index.entries("table", "t")) == ["2026-11-19", "2026-11-20"]
    shutil.rmtree(layout.target("table", "t", "2026-11-19"))
    index.refresh("table", "t")
    assert list(index.entries("table", "t")) == ["2026-11-20"]


def test_a_foreign_partition_is_known_by_its_files(layout: Layout) -> None:
    folder = layout.target("raw", "r", "2026-11-20")
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "a.csv").write_text("1")
    (folder / "_SUCCESS").write_text("")

    def look() -> tuple[str, int, int]:
        entry = Index(layout).entries("raw", "r")["2026-11-20"]
        assert (entry.run_id, entry.fingerprint) == ("", None)
        return entry.hash, entry.files, entry.bytes

    first = look()
    assert first[1:] == (1, 1)
    (folder / "_log").write_text("x")
    assert look() == first
    (folder / "deep" / "b.csv").write_text("22")
    assert look()[1:] == (2, 3)
    assert look()[0] != first[0]


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"run_id": 1}', "\0"])
def test_a_damaged_manifest_is_never_fresh_and_stops_nobody(layout: Layout, text: str) -> None:
    publish(layout, "2026-11-19")
    publish(layout, "2026-11-20")
    layout.manifest("table", "t", "2026-11-20").write_text(text)
    entries = Index(layout).entries("table", "t")
    assert entries["2026-11-20"].fingerprint is None
    assert entries["2026-11-19"].fingerprint == PRINT


@pytest.mark.parametrize("text", ["", "{}", "null", '{"version": 1, "partitions": {"2026-11-20": [1]}}'])
def test_a_damaged_index_is_made_again(layout: Layout, text: str) -> None:
    publish(layout, "2026-11-20")
    age(layout)
    first = dict(Index(layout).entries("table", "t"))
    layout.index("table", "t").write_text(text)
    assert Index(layout).entries("table", "t") == first
    assert '"2026-11-20"' in layout.index("table", "t").read_text()


def test_a_datastore_that_may_not_be_written_is_read_all_the_same(layout: Layout) -> None:
    publish(layout, "2026-11-20")
    age(layout)
    # Where a folder of the index would have to be, there is a file; that stops root too.
    (layout.own / "index").write_text("")
    assert list(Index(layout).entries("table", "t")) == ["2026-11-20"]


def test_an_amended_manifest_says_something_else_of_the_same_files(layout: Layout) -> None:
    manifest = publish(layout, "2026-11-20")
    other = Fingerprint(code="d", spec="s", parameters="p", place="")
    index = Index(layout)
    index.entries("table", "t")

    def change(before: Manifest) -> Manifest:
        assert to_json(before) == to_json(manifest)
        return Manifest(**{**vars(before), "fingerprint": other})

    amend(layout, "table", "t", "2026-11-20", change)
    index.refresh("table", "t", "2026-11-20")
    entry = index.entries("table", "t")["2026-11-20"]
    assert (entry.fingerprint, entry.hash) == (other, manifest.hash)
