"""What is published, without opening a manifest twice: one small file per table remembers what its manifests say.

A line of that file counts as long as its manifest has the same size, time and inode; the file can be removed at any
time. A folder without manifest, which someone else wrote, is known by the names, sizes and times of its files.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from dsflow.durable import make_folder, write_text
from dsflow.errors import DsflowError
from dsflow.model import Fingerprint
from dsflow.store.contents import glance
from dsflow.store.layout import Layout, Store

_VERSION = 1
# A manifest this young may change once more without looking different.
_YOUNG_NS = 50_000_000


class Seen(NamedTuple):
    """A partition (or a path) as the run that read it saw it."""

    kind: str
    target: str
    ds: str | None
    hash: str | None
    rows: int | None
    bytes: int | None


class Entry(NamedTuple):
    """What is published in one partition; without a run id it is not dsflow's."""

    run_id: str
    hash: str
    rows: int | None
    bytes: int
    files: int
    published: str
    fingerprint: Fingerprint | None
    inputs: tuple[Seen, ...]


class Index:
    """The partitions of a datastore's tables and raw datasets. Looks at each table once; `refresh` looks again.

    Args:
        layout: The datastore. It need not be writable.
    """

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._known: dict[tuple[Store, str], dict[str, Entry]] = {}
        self._fingerprints: dict[tuple[str, ...], Fingerprint] = {}

    def entries(self, store: Store, name: str) -> Mapping[str, Entry]:
        """Give what is published by ds, oldest first; nothing where there is no such table or raw dataset."""
        known = self._known.get((store, name))
        if known is None:
            known = self._known[store, name] = self._look(store, name)
        return known

    def refresh(self, store: Store, name: str, ds: str | None = None) -> None:
        """Look again, at one partition or at all, the next time somebody asks."""
        known = self._known.get((store, name))
        if ds is None or known is None:
            self._known.pop((store, name), None)
            return
        known.pop(ds, None)
        entry = self._one(store, name, ds)
        if entry is not None:
            in_order = not known or ds > next(reversed(known))
            known[ds] = entry
            if not in_order:
                self._known[store, name] = dict(sorted(known.items()))

    def _look(self, store: Store, name: str) -> dict[str, Entry]:
        folder = self._layout.dataset(store, name)
        there = {entry.name[3:] for entry in _scan(folder) if entry.name.startswith("ds=") and entry.is_dir()}
        there.discard("")
        remembered = self._remembered(store, name)
        rows: dict[str, list[Any]] = {}
        for entry in _scan(self._layout.manifests(store, name)):
            ds = entry.name[3:-5]
            if ds in there and entry.name.endswith(".json"):
                with contextlib.suppress(OSError):  # replaced at this very moment: foreign for once
                    sign = _sign(entry.stat())
                    row = remembered.get(ds)
                    rows[ds] = row if row is not None and row[:3] == sign else [*sign, *_read(entry.path)]
        if any(rows[ds] is not remembered.get(ds) for ds in rows) or remembered.keys() - rows.keys():
            self._remember(store, name, rows)
        foreign = {ds: _foreign(folder / f"ds={ds}", store) for ds in there - rows.keys()}
        return {ds: foreign.get(ds) or self._entry(rows[ds]) for ds in sorted(there)}

    def _one(self, store: Store, name: str, ds: str) -> Entry | None:
        folder = self._layout.target(store, name, ds)
        if not folder.is_dir():
            return None
        try:
            return self._entry([0, 0, 0, *_read(str(self._layout.manifest(store, name, ds)))])
        except FileNotFoundError:
            return _foreign(folder, store)

    def _entry(self, row: list[Any]) -> Entry:
        _, _, _, run_id, digest, rows, size, files, published, made_with, inputs = row
        fingerprint = None
        if made_with is not None:
            # Thousands of partitions share a handful of them.
            key = tuple(made_with)
            fingerprint = self._fingerprints.get(key)
            if fingerprint is None:
                code, spec, parameters, place = made_with
                fingerprint = Fingerprint(code=code, spec=spec, parameters=parameters, place=place)
                self._fingerprints[key] = fingerprint
        return Entry(run_id, digest, rows, size, files, published, fingerprint, tuple(map(Seen._make, inputs)))

    def _remembered(self, store: Store, name: str) -> dict[str, list[Any]]:
        try:
            document = json.loads(self._layout.index(store, name).read_bytes())
            rows = document["partitions"] if document["version"] == _VERSION else {}
            return rows if all(len(row) == 11 for row in rows.values()) else {}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return {}

    def _remember(self, store: Store, name: str, rows: Mapping[str, list[Any]]) -> None:
        old_enough = time.time_ns() - _YOUNG_NS
        kept = {ds: row for ds, row in rows.items() if row[0] < old_enough}
        text = json.dumps({"version": _VERSION, "partitions": kept}, separators=(",", ":"))
        path = self._layout.index(store, name)
        if self._layout.read_only:
            return
        # A datastore that may not be written is looked at anew each time.
        with contextlib.suppress(OSError, DsflowError):
            make_folder(path.parent)
            write_text(path, text)


def _scan(folder: Path) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            yield from entries
    except (FileNotFoundError, NotADirectoryError):
        return


def _sign(state: os.stat_result) -> list[int]:
    return [state.st_mtime_ns, state.st_size, state.st_ino]


def _read(path: str) -> list[Any]:
    """Give what the index keeps of a manifest; of one that is damaged, nothing that could be fresh."""
    with open(path, "rb") as file:
        text = file.read()
    try:
        manifest = json.loads(text)
        files = manifest["files"]
        counts = [file.get("rows") for file in files]
        known = [int(count) for count in counts if count is not None]
        made_with = manifest.get("fingerprint")
        return [
            str(manifest["run_id"]),
            str(manifest["hash"]),
            sum(known) if known else None,
            sum(int(file["bytes"]) for file in files),
            len(files),
            str(manifest["published"]),
            made_with and [str(made_with[part]) for part in ("code", "spec", "parameters", "place")],
            [[*map(entry.get, Seen._fields)] for entry in manifest["inputs"]],
        ]
    except (ValueError, KeyError, TypeError, AttributeError):
        return ["", "", None, 0, 0, "", None, []]


def _foreign(folder: Path, store: Store) -> Entry:
    seen = glance(folder, deep=store == "raw")
    return Entry("", seen.hash, None, seen.bytes, seen.files, "", None, ())
