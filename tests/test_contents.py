from __future__ import annotations

import dataclasses
import hashlib
import os
import socket
from pathlib import Path

import pytest

from dsflow.errors import JobFailed
from dsflow.model import File
from dsflow.store.contents import content_hash, describe, plain_files, sizes, there


def test_describe_gives_every_data_file_by_name_with_size_and_hash(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b.json").write_text("bb")
    (tmp_path / "a.csv").write_text("a")
    assert describe(tmp_path) == (
        File(name="a.csv", bytes=1, sha256=hashlib.sha256(b"a").hexdigest()),
        File(name="sub/b.json", bytes=2, sha256=hashlib.sha256(b"bb").hexdigest()),
    )
    assert sizes(tmp_path) == {"a.csv": 1, "sub/b.json": 2}


def test_what_tools_leave_beside_the_data_is_no_data(tmp_path: Path) -> None:
    for name in ("_SUCCESS", ".part.crc", "_temporary/part-0.parquet", "part-0.parquet"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [file.name for file in describe(tmp_path)] == ["part-0.parquet"]
    assert plain_files(tmp_path, deep=True) == (tmp_path / "part-0.parquet",)


def _link(path: Path) -> None:
    path.symlink_to("/etc/hostname")


def _socket(path: Path) -> None:
    # The name of a socket is short by law; a temporary folder's is not.
    with socket.socket(socket.AF_UNIX) as made:
        here = Path.cwd()
        try:
            os.chdir(path.parent)
            made.bind(path.name)
        finally:
            os.chdir(here)


@pytest.mark.parametrize(("make", "kind"), [(_link, "a symbolic link"), (os.mkfifo, "a pipe"), (_socket, "a socket")])
def test_only_plain_files_can_be_published(tmp_path: Path, make: object, kind: str) -> None:
    assert callable(make)
    (tmp_path / "sub").mkdir()
    make(tmp_path / "sub" / "thing")
    with pytest.raises(JobFailed, match=f"sub/thing, which is {kind}"):
        describe(tmp_path)


def test_a_linked_folder_is_refused_too(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thing").symlink_to(tmp_path)
    with pytest.raises(JobFailed, match="thing, which is a symbolic link"):
        describe(tmp_path / "out")


def test_a_name_that_is_no_text_is_refused(tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.csv")).touch()
    with pytest.raises(JobFailed, match="whose name is no text"):
        describe(tmp_path)


def test_a_job_that_removed_or_replaced_its_output_folder_is_told_so(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for name in ("gone", "link"):
        with pytest.raises(JobFailed, match="the job removed"):
            describe(tmp_path / name)


def test_files_are_there_when_each_has_its_size(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("12")
    (tmp_path / "more").touch()
    file = File(name="a", bytes=2, sha256="")
    assert there(tmp_path, [file])
    assert not there(tmp_path, [dataclasses.replace(file, bytes=3)])
    assert not there(tmp_path, [file, dataclasses.replace(file, name="b")])
    assert not there(tmp_path / "nowhere", [])


def test_the_files_of_a_table_are_those_on_top_of_raw_data_those_below_too(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b").touch()
    (tmp_path / "a").touch()
    assert plain_files(tmp_path, deep=False) == (tmp_path / "a",)
    assert plain_files(tmp_path, deep=True) == (tmp_path / "a", tmp_path / "sub" / "b")


def _file(name: str, sha256: str) -> File:
    return File(name=name, bytes=1, sha256=sha256)


def test_the_content_hash_does_not_depend_on_the_run() -> None:
    first = [_file("20261120T043512-3f9a1c-part-0.parquet", "aa"), _file("20261120T043512-3f9a1c-part-1.parquet", "bb")]
    again = [_file("20270101T000000-000000-part-1.parquet", "bb"), _file("20270101T000000-000000-part-0.parquet", "aa")]
    assert content_hash(first) == content_hash(again) == content_hash([_file("part-0.parquet", "aa"), again[0]])


def test_the_content_hash_depends_on_contents_and_on_names() -> None:
    hashes = {
        content_hash([]),
        content_hash([_file("north-part-1.csv", "aa"), _file("south-part-1.csv", "bb")]),
        content_hash([_file("north-part-1.csv", "bb"), _file("south-part-1.csv", "aa")]),
        content_hash([_file("north-part-1.csv", "aa")]),
    }
    assert len(hashes) == 4
