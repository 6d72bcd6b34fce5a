"""Finishing or undoing what a run left in the datastore, whether it died or was interrupted.

A publish goes: manifest into the run's staging folder (from here on it is *pending*), swap, manifest into place, old
version to the trash. The swap is the point of no return: what stopped before it is discarded, what stopped after it is
finished. Two renames, where the file system cannot exchange, can stop in their middle; that is finished too.

A run that drops rows publishes two partitions, the second with what it dropped. Its manifest is in the staging folder
before the first one is, and it is put in place after the swap, as a part of finishing: both are published, or neither.

Taking a partition away goes: a note into the run's staging folder, the partition's folder moved there, its manifest
removed, all to the trash. The move is the point of no return.

A run holds a lock in its staging folder, so a staging folder whose lock is free belongs to a dead run. Whoever takes
locks of others to repair holds the gate, one at a time; whoever wants to write waits there and so never takes a
repairer for a writer.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from dsflow.durable import exchange, fsync_folder, make_folder, remove_tree
from dsflow.errors import DsflowError, PartitionLocked
from dsflow.model import File, Manifest, Output, from_json
from dsflow.store.contents import describe, there
from dsflow.store.layout import Layout, Store, label
from dsflow.store.locks import lock

PENDING = "manifest.json"
REMOVING = "removing.json"
REPLACED = "replaced"
ASIDE = "aside.json"
_REPLACED_ASIDE = "replaced-aside"
ALIVE = "alive"

_TRASH_SECONDS = 3600
_READ_ONLY = {errno.EACCES, errno.EPERM, errno.EROFS}


def repair(layout: Layout) -> list[str]:
    """Finish or discard what dead runs left; cheap where there is nothing.

    Returns:
        One sentence for each run that was dealt with.
    """
    if not _run_folders(layout):
        return []
    with gate(layout):
        return repair_at_gate(layout)


@contextlib.contextmanager
def gate(layout: Layout) -> Iterator[None]:
    """Wait for the gate of the datastore and hold it."""
    make_folder(layout.gate.parent)
    with lock(layout.gate, "", wait=True):
        yield


def repair_at_gate(layout: Layout, own: Path | None = None) -> list[str]:
    """Do what `repair` does; the caller holds the gate, and the partition lock `own` if given."""
    done = []
    for run_folder in _run_folders(layout):
        # A run that cannot be repaired now, such as another user's, must not stop this one.
        with contextlib.suppress(DsflowError, OSError), lock(run_folder / ALIVE, ""):
            done.append(_repair_run(layout, run_folder, own))
    return done


def settle(layout: Layout, run_folder: Path, manifest: Manifest, own: Path | None = None) -> bool:
    """Finish or discard a publish that stopped half way; the caller holds the partition, and the lock `own` if given.

    Returns:
        Whether it is published.
    """
    staged, target = _places(layout, run_folder, manifest)
    if os.path.lexists(run_folder / REPLACED) and not os.path.lexists(target):
        staged.rename(target)
    # The files decide, not what kind of swap it was. Equal files are right under the new manifest in any case.
    if there(target, manifest.files) and describe(target) == _plain(manifest):
        finish(layout, run_folder, manifest, own=own)
        return True
    if there(staged, manifest.files) and not os.path.lexists(run_folder / REPLACED):
        remove_tree(run_folder)
    else:
        # Someone changed the partition meanwhile; what is left here may be the only copy of the old version.
        _to_trash(layout, run_folder)
    return False


def finish(
    layout: Layout,
    run_folder: Path,
    manifest: Manifest,
    swap: Callable[[Path, Path], bool] = exchange,
    own: Path | None = None,
) -> None:
    """Do what follows the swap: what was set aside and the manifests into place, old versions to the trash."""
    staged, target = _places(layout, run_folder, manifest)
    place = layout.manifest(manifest.store, manifest.name, manifest.ds)
    fsync_folder(target.parent)
    fsync_folder(staged.parent)
    olds = [staged, run_folder / REPLACED]
    beside = aside(run_folder)
    if beside is not None:
        path = layout.lock(beside.store, beside.name, beside.ds)
        make_folder(path.parent)
        # Whoever holds it holds it for moments, and waits for nobody.
        with contextlib.nullcontext() if path == own else lock(path, "", wait=True):
            _finish_aside(layout, run_folder, beside, swap)
        olds += [_places(layout, run_folder, beside)[0], run_folder / _REPLACED_ASIDE]
    (run_folder / PENDING).replace(place)
    fsync_folder(place.parent)
    if any(os.path.lexists(old) for old in olds):
        with contextlib.suppress(OSError):
            _to_trash(layout, run_folder)
    remove_tree(run_folder)


def _finish_aside(layout: Layout, run_folder: Path, manifest: Manifest, swap: Callable[[Path, Path], bool]) -> None:
    """Put into place what a run set aside; done as often as wanted, it comes to the same."""
    staged, target = _places(layout, run_folder, manifest)
    place = layout.manifest(manifest.store, manifest.name, manifest.ds)
    make_folder(target.parent)
    make_folder(place.parent)
    if not there(target, manifest.files):  # Their names are this run's.
        if not os.path.lexists(target):
            staged.rename(target)
        elif not swap(staged, target):
            target.rename(run_folder / _REPLACED_ASIDE)
            fsync_folder(run_folder)
            staged.rename(target)
    fsync_folder(target.parent)
    fsync_folder(staged.parent)
    (run_folder / ASIDE).replace(place)
    fsync_folder(place.parent)


def settle_removal(layout: Layout, run_folder: Path, removed: Output) -> bool:
    """Finish or discard taking a partition away; the caller holds the partition.

    Returns:
        Whether it is gone.
    """
    if not os.path.lexists(run_folder / REPLACED):
        remove_tree(run_folder)
        return False
    place = (removed.store, removed.name, removed.ds)
    fsync_folder(layout.target(*place).parent)
    # Without its manifest the partition would still be there for whoever counts manifests.
    layout.manifest(*place).unlink(missing_ok=True)
    _to_trash(layout, run_folder)
    return True


def removing(run_folder: Path) -> Output | None:
    """Give the partition that a run has begun to take away, or None."""
    try:
        return from_json(Output, (run_folder / REMOVING).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None


def pending(run_folder: Path) -> Manifest | None:
    """Give the manifest of a publish that has begun and not ended, or None.

    Raises:
        OSError: it cannot be read.
    """
    return _manifest_in(run_folder / PENDING)


def aside(run_folder: Path) -> Manifest | None:
    """Give the manifest of what a run set aside and has not yet put into place, or None."""
    return _manifest_in(run_folder / ASIDE)


def _manifest_in(path: Path) -> Manifest | None:
    try:
        return from_json(Manifest, path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None


def in_doubt(layout: Layout, store: Store, name: str, ds: str) -> bool:
    """Tell whether some run, dead or alive, has begun to publish this partition and not ended."""
    for run_folder in _run_folders(layout):
        with contextlib.suppress(PermissionError):
            begun = pending(run_folder)
            both = (begun, aside(run_folder)) if begun else ()
            if any((one.store, one.name, one.ds) == (store, name, ds) for one in both if one):
                return True
    return False


@contextlib.contextmanager
def at_rest(layout: Layout, store: Store, name: str, ds: str) -> Iterator[bool]:
    """Repair, then keep every writer away from a partition for the `with` block.

    Gives False where a live run is writing it, or where the datastore may not be written.
    """
    if layout.read_only:
        yield False
        return
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(gate(layout))
            repair_at_gate(layout)
            path = layout.lock(store, name, ds)
            make_folder(path.parent)
            stack.enter_context(lock(path, ""))
            still = True
        except (PartitionLocked, OSError) as error:
            if isinstance(error, OSError) and error.errno not in _READ_ONLY:
                raise
            still = False
        yield still


def purge_trash(layout: Layout) -> None:
    """Remove what has been in the trash for an hour."""
    for folder in layout.trash.glob("*-*"):
        stamp = folder.name.partition("-")[0]
        if stamp.isdecimal() and time.time() - int(stamp) / 1e9 > _TRASH_SECONDS:
            remove_tree(folder)


def _run_folders(layout: Layout) -> list[Path]:
    try:
        with os.scandir(layout.staging) as entries:
            return sorted(Path(entry.path) for entry in entries if entry.is_dir())
    except OSError:
        return []


def _repair_run(layout: Layout, run_folder: Path, own: Path | None) -> str:
    manifest, removed = pending(run_folder), removing(run_folder)
    begun = manifest or removed
    if begun is None:
        remove_tree(run_folder)
        return f"removed what run {run_folder.name} left unfinished"
    path = layout.lock(begun.store, begun.name, begun.ds)
    what = label(begun.store, begun.name, begun.ds)
    with contextlib.nullcontext() if path == own else lock(path, "", what):
        if manifest is None:
            gone = removed is not None and settle_removal(layout, run_folder, removed)
            return f"finished taking {what} away" if gone else f"left {what} as it was"
        if settle(layout, run_folder, manifest, own):
            return f"finished publishing {what} for run {manifest.run_id}"
        return f"discarded what run {manifest.run_id} wrote for {what}"


def _places(layout: Layout, run_folder: Path, manifest: Manifest) -> tuple[Path, Path]:
    staged = layout.staged(run_folder.name, manifest.store, manifest.name, manifest.ds)
    return staged, layout.target(manifest.store, manifest.name, manifest.ds)


def _plain(manifest: Manifest) -> tuple[File, ...]:
    files = (dataclasses.replace(file, rows=None) for file in manifest.files)
    return tuple(sorted(files, key=lambda file: file.name))


def _to_trash(layout: Layout, run_folder: Path) -> None:
    layout.trash.mkdir(exist_ok=True)
    run_folder.rename(layout.trash / f"{time.time_ns()}-{run_folder.name}")
