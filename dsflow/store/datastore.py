"""Reading tables and raw datasets: which partitions there are, and which files each one has.

A partition that dsflow published is read by its manifest, so that a reader gets one version whole. A folder without
manifest, which someone else wrote, is read as it is.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from dsflow.errors import JobFailed, UsageError, did_you_mean
from dsflow.model import Manifest, from_json
from dsflow.partitions import grain_of, shift
from dsflow.store.contents import plain_files, there
from dsflow.store.layout import FOLDERS, Layout, Store, label
from dsflow.store.recovery import at_rest, in_doubt

# A writer is between its swap and its manifest for milliseconds; after 4 seconds something is wrong with it.
_PAUSES = (0.005, 0.01, 0.02, 0.05, 0.1, 0.3, 0.5, 1.0, 1.0, 1.0)


@dataclass(frozen=True)
class Partition:
    """One version of a partition; `manifest` is None for a folder that dsflow did not write."""

    store: Store
    name: str
    ds: str
    folder: Path
    files: tuple[Path, ...]
    manifest: Manifest | None


class Datastore(Layout):
    """The tables and raw datasets under a folder. It need not be writable."""

    def names(self, store: Store) -> list[str]:
        """Give the names of all tables, or of all raw datasets, sorted."""
        return _folder_names(self.root / FOLDERS[store])

    def partitions(self, store: Store, name: str) -> list[str]:
        """Give the ds of every partition, oldest first; none where there is no such table or raw dataset."""
        names = _folder_names(self.dataset(store, name))
        folders = {folder[3:] for folder in names if folder.startswith("ds=") and folder != "ds="}
        # A manifest without folder: removed by hand, or being replaced at this very moment.
        unclear = set(_manifest_names(self.manifests(store, name))) - folders
        return sorted(folders | {ds for ds in unclear if self.partition(store, name, ds)})

    def is_empty(self, store: Store, name: str) -> bool:
        """Say whether a table or raw dataset has no partition at all; where it has, looks at one."""
        with contextlib.suppress(OSError), os.scandir(self.dataset(store, name)) as entries:
            if any(entry.name.startswith("ds=") and entry.is_dir() for entry in entries):
                return False
        return not self.partitions(store, name)

    def partition(self, store: Store, name: str, ds: str) -> Partition | None:
        """Give a partition as it is now, or None where there is none.

        What a dead writer left half done is repaired first; a live one is waited for, some seconds.

        Raises:
            JobFailed: files of its manifest are missing or were changed.
            UsageError: the name or ds cannot be one.
        """
        for pause in _PAUSES:
            sure, found = self._look(store, name, ds)
            if sure:
                return found
            with at_rest(self, store, name, ds) as still:
                if still:
                    return self._look_last(store, name, ds)
            time.sleep(pause)
        return self._look_last(store, name, ds)

    def select(self, store: Store, name: str, wanted: Iterable[str]) -> list[Partition]:
        """Give the wanted partitions, in the order of `wanted`.

        Raises:
            JobFailed: one is not there; the message says what is.
        """
        asked = [(ds, self.partition(store, name, ds)) for ds in wanted]
        missing = [ds for ds, partition in asked if partition is None]
        if missing:
            raise self._missing(store, name, missing)
        return [partition for _, partition in asked if partition is not None]

    def newest(self, store: Store, name: str, as_of: str | None = None) -> Partition | None:
        """Give the newest partition, at or before `as_of` where that is given; None where there is none."""
        for ds in reversed(self.partitions(store, name)):
            partition = self.partition(store, name, ds) if as_of is None or ds <= as_of else None
            if partition is not None:
                return partition
        return None

    def before(self, store: Store, name: str, ds: str) -> Partition | None:
        """Give the newest partition older than `ds`; None where there is none."""
        # Most often it is the neighbour, and a table with years of partitions need not be listed.
        grain = grain_of(ds)
        if grain is not None:
            with contextlib.suppress(UsageError):  # There is nothing before the first day of the calendar.
                nearest = self.partition(store, name, shift(ds, -1, grain))
                if nearest is not None:
                    return nearest
        earlier = [other for other in self.partitions(store, name) if other < ds]
        return self.partition(store, name, earlier[-1]) if earlier else None

    def _look(self, store: Store, name: str, ds: str) -> tuple[bool, Partition | None]:
        """Look once, and tell whether that is sure: no publish is half done, and nobody changed the files."""
        folder = self.target(store, name, ds)
        text = self._manifest_text(store, name, ds)
        manifest = self._parsed(text, store, name, ds)
        if manifest is not None:
            complete = there(folder, manifest.files)
            files = tuple(folder / file.name for file in manifest.files)
        else:
            complete = True
            files = plain_files(folder, deep=store == "raw")
        found = Partition(store, name, ds, folder, files, manifest) if folder.is_dir() else None
        # A publish that began meanwhile is still under way, or has ended and left another manifest.
        unchanged = not in_doubt(self, store, name, ds) and text == self._manifest_text(store, name, ds)
        return complete and unchanged and (found is not None or manifest is None), found

    def _look_last(self, store: Store, name: str, ds: str) -> Partition | None:
        """Look when no writer is there, or none that will end soon: what is wrong now stays wrong."""
        _, found = self._look(store, name, ds)
        if found is None or found.manifest is None or there(found.folder, found.manifest.files):
            return found
        what = label(store, name, ds)
        if in_doubt(self, store, name, ds):
            raise JobFailed(
                f"{what} is half published: the run that writes it stands still, or died and left it so",
                "Stop that run and read again, as a user who may write into the datastore: that repairs it.",
            )
        wrong = next((file.name for file in found.manifest.files if not there(found.folder, [file])), "a file")
        raise JobFailed(
            f"{what} is damaged: {wrong} is missing or was changed since it was published",
            f"Run the job that writes it again for ds={ds}. To keep the files as they are, remove "
            f"{self.manifest(store, name, ds)}.",
        )

    def _manifest_text(self, store: Store, name: str, ds: str) -> str | None:
        try:
            return self.manifest(store, name, ds).read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return None

    def _parsed(self, text: str | None, store: Store, name: str, ds: str) -> Manifest | None:
        try:
            return None if text is None else from_json(Manifest, text)
        except ValueError as error:
            raise JobFailed(
                f"{self.manifest(store, name, ds)} is not a manifest: {error}",
                f"Remove it, and run the job again for ds={ds}.",
            ) from None

    def _missing(self, store: Store, name: str, missing: list[str]) -> JobFailed:
        what = f"{'table' if store == 'table' else 'raw dataset'} {name!r}"
        hint = f"Run the job that writes it for ds={missing[0]}; `dsflow runs` shows what ran."
        there_are = self.partitions(store, name)
        if there_are:
            return JobFailed(f"{what} has no partition {_short(missing)}; it has {_range(there_are)}", hint)
        names = self.names(store)
        if name in names:
            return JobFailed(f"{what} has no partition yet", hint)
        return JobFailed(f"there is no {what}{did_you_mean(name, names)}", hint)


def _short(missing: list[str]) -> str:
    names = [f"ds={ds}" for ds in missing[:3]]
    return ", ".join(names) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")


def _range(there_are: list[str]) -> str:
    if len(there_are) == 1:
        return f"only ds={there_are[0]}"
    return f"{len(there_are)}, from ds={there_are[0]} to ds={there_are[-1]}"


def _manifest_names(folder: Path) -> list[str]:
    """Give the ds of the manifests in a folder. Of thousands, objects for paths would take most of the time."""
    try:
        names = os.listdir(folder)
    except OSError:
        return []
    return [name[3:-5] for name in names if name.startswith("ds=") and name.endswith(".json")]


def _folder_names(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except PermissionError:
        raise JobFailed(f"{folder} may not be read by this user", "Check its owner and permissions.") from None
