from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from dsflow import durable
from dsflow.errors import EnvironmentMissing


def test_a_written_text_replaces_the_old_one_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    durable.write_text(path, "old")
    durable.write_text(path, "new: Überraschung")
    assert path.read_text(encoding="utf-8") == "new: Überraschung"
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_that_fails_leaves_the_old_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.json"
    durable.write_text(path, "old")

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        durable.write_text(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_make_folder_makes_parents_and_accepts_what_is_there(tmp_path: Path) -> None:
    durable.make_folder(tmp_path / "a" / "b" / "c")
    durable.make_folder(tmp_path / "a" / "b" / "c")
    assert (tmp_path / "a" / "b" / "c").is_dir()


def test_fsync_tree_reaches_every_file_and_folder_but_no_link_or_pipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "a").touch()
    (tmp_path / "sub" / "b").touch()
    (tmp_path / "sub" / "link").symlink_to("nowhere")
    os.mkfifo(tmp_path / "sub" / "pipe")
    synced = []
    monkeypatch.setattr(os, "fsync", lambda handle: synced.append(os.fstat(handle).st_ino))
    durable.fsync_tree(tmp_path)
    paths = (tmp_path / "a", tmp_path / "sub" / "b", tmp_path / "sub", tmp_path)
    assert sorted(synced) == sorted(path.stat().st_ino for path in paths)


def test_exchange_swaps_two_folders(tmp_path: Path) -> None:
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    if not durable.exchange(tmp_path / "one", tmp_path / "other"):
        pytest.skip("the file system of the temporary folder cannot exchange")
    assert (tmp_path / "one" / "other").exists()
    assert (tmp_path / "other" / "one").exists()


def test_exchange_with_something_that_is_not_there_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    with pytest.raises(FileNotFoundError):
        durable.exchange(tmp_path / "one", tmp_path / "other")
    assert (tmp_path / "one").exists()


def test_remove_tree_removes_folders_without_permissions_and_does_not_follow_links(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").touch()
    tree = tmp_path / "tree"
    (tree / "closed" / "inner").mkdir(parents=True)
    (tree / "closed" / "inner" / "file").touch()
    (tree / "link").symlink_to(tmp_path / "kept")
    (tree / "closed" / "inner").chmod(0)
    (tree / "closed").chmod(0o500)
    durable.remove_tree(tree)
    assert not tree.exists()
    assert (tmp_path / "kept" / "file").exists()
    durable.remove_tree(tree)


def test_remove_tree_on_a_link_removes_the_link(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "kept")
    durable.remove_tree(tmp_path / "link")
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_a_sentence_with_the_space_that_is_left(tmp_path: Path, code: int) -> None:
    full = pytest.raises(EnvironmentMissing, match=r"the disk is full: [\d.]+ MB of [\d.]+ MB")
    with full as caught, durable.explained(tmp_path):
        raise OSError(code, "full")
    assert str(tmp_path) in caught.value.message
    assert caught.value.exit_code == 4


def test_what_may_not_be_written_is_a_sentence_with_the_path(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentMissing, match="Permission denied: /x/y"), durable.explained(tmp_path):
        raise PermissionError(errno.EACCES, "Permission denied", "/x/y")


def test_other_errors_stay_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), durable.explained(tmp_path):
        (tmp_path / "nothing").read_text()
