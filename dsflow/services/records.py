"""What dsflow writes down about services that it has started: `.dsflow/running/NAME.json`.

A record is a hint where to look; whether the service runs is asked of the engine, or of the system, each time. The
folder is seen by no service, so that none can make dsflow stop something else.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from dsflow.durable import write_text
from dsflow.errors import PartitionLocked
from dsflow.services.contract import make_private
from dsflow.store.locks import lock
from dsflow.workspace import Workspace


def folder(workspace: Workspace) -> Path:
    """Give the folder of the records, made where it is missing."""
    path = workspace.own / "running"
    make_private(workspace, path)
    return path


def write(workspace: Workspace, name: str, record: Mapping[str, Any]) -> None:
    """Keep what is known of a service."""
    write_text(folder(workspace) / f"{name}.json", json.dumps(record, indent=1) + "\n")


def read(workspace: Workspace, form: str) -> dict[str, dict[str, Any]]:
    """Give the records of the services of one form, by name; a file that nobody can read is no record."""
    found = {}
    for path in sorted((workspace.own / "running").glob("*.json")):
        with contextlib.suppress(OSError, ValueError):
            record = json.loads(path.read_text(encoding="utf-8"))
            if isinstance(record, dict) and record.get("form") == form:
                found[path.stem] = record
    return found


def forget(workspace: Workspace, name: str) -> None:
    """Remove the record of a service."""
    (workspace.own / "running" / f"{name}.json").unlink(missing_ok=True)


def log_file(workspace: Workspace, name: str) -> Path:
    """Give where the log of a service is: of a process always, of a container once it has ended."""
    return folder(workspace) / f"{name}.log"


@contextlib.contextmanager
def one_at_a_time(workspace: Workspace, name: str, notify: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock of a service's name: two dsflow never start or stop one service at the same time."""
    path = folder(workspace) / f"{name}.lock"
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(lock(path, "dsflow"))
        except PartitionLocked:
            notify(f"Another dsflow is at work on {name}; waiting for it.")
            held.enter_context(lock(path, "dsflow", wait=True))
        yield
