"""Rewriting what a manifest says, while the files it is about stay as they are."""

from __future__ import annotations

from collections.abc import Callable

from dsflow.durable import explained, write_text
from dsflow.errors import JobFailed, PartitionLocked
from dsflow.model import Manifest, from_json, to_json
from dsflow.store.layout import Layout, Store, label
from dsflow.store.recovery import at_rest


def amend(layout: Layout, store: Store, name: str, ds: str, change: Callable[[Manifest], Manifest]) -> None:
    """Replace a partition's manifest at once by what `change` makes of it. No run writes the partition meanwhile.

    Raises:
        PartitionLocked: a run is writing it.
        JobFailed: it has no manifest, or a damaged one.
        EnvironmentMissing: the datastore cannot be written.
    """
    path = layout.manifest(store, name, ds)
    with explained(layout.root), at_rest(layout, store, name, ds) as still:
        if not still:
            raise PartitionLocked(f"{label(store, name, ds)} is being written by a run", "Wait until it ends.")
        try:
            manifest = from_json(Manifest, path.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            raise JobFailed(f"{label(store, name, ds)} has no manifest that can be read", "Run its job.") from None
        write_text(path, to_json(change(manifest)))
