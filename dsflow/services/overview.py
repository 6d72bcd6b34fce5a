"""The services of a workspace as they are now."""

from __future__ import annotations

from dataclasses import dataclass

from dsflow.services import lifecycle, readiness, registry
from dsflow.services.contract import Found, Service
from dsflow.workspace import Workspace

_A_MOMENT = 1.0


@dataclass(frozen=True, kw_only=True)
class Row:
    """One service.

    Attributes:
        name: What it is called.
        status: `ready`, `starting` (it runs and does not answer), `ended`, `unreachable` or `stopped`.
        form: `container` or `process`; empty for one that does not run.
        url: What to open; empty without ports.
        started: When, in seconds since 1970.
        id: Of its container or process.
        cause: Why it ended.
        description: What its file says it is.
    """

    name: str
    status: str
    form: str = ""
    url: str = ""
    started: float = 0.0
    id: str = ""
    cause: str = ""
    description: str = ""


def of(workspace: Workspace, *, everything: bool = False) -> list[Row]:
    """Give the services that run or have ended by themselves, and with `everything` those too that do not run."""
    known, there = registry.services(workspace), registry.found_in(workspace)
    rows = [_row(found, known.get(found.kind)) for found in there.values()]
    if everything:
        stopped = [service for name, service in known.items() if name not in there]
        rows += [Row(name=s.name, status="stopped", description=s.spec.description) for s in stopped]
    return sorted(rows, key=lambda row: row.name)


def _row(found: Found, service: Service | None) -> Row:
    status: str = found.status
    if found.status == "running":
        # Of one whose file is gone, nobody knows what to ask.
        asked = lifecycle.question(lifecycle.again(service, found), found.place) if service else None
        status = "ready" if readiness.answers(asked, _A_MOMENT) else "starting"
    return Row(
        name=found.name, status=status, form=found.form, url=found.place.url, started=found.started, id=found.id,
        cause=found.cause, description=service.spec.description if service else "",
    )  # fmt: skip
