"""`dsflow serve` among the services: it is started by its own command, and seen and stopped like the others."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence

from dsflow.errors import UsageError
from dsflow.serve import detached
from dsflow.serve.places import Places
from dsflow.services.contract import FormName, Found, Launch, Made, Notify, Service, Shell
from dsflow.workspace import Workspace

_NAME = "serve"


class AsServer:
    """The form that only the server of runs has."""

    name: FormName = "server"

    def offers(self, service: Service) -> str | None:
        """Refuse: no service of `docker/` runs like this."""
        return f"{service.name} is not `dsflow serve`"

    def paths(self, service: Service) -> Mapping[str, str]:
        """Give nothing: there is no service.yaml."""
        return {}

    def make(self, service: Service, notify: Notify, *, rebuild: bool) -> Made:
        """Refuse."""
        raise UsageError(f"{service.name} is not started like this", "`dsflow serve --detach` starts the server.")

    def find(self, workspace: Workspace) -> list[Found]:
        """Give the server, where it runs."""
        places = Places.of(workspace)
        if not places.is_served():
            return []
        card = places.read_card()
        started = 0.0
        with contextlib.suppress(OSError):
            started = places.card.stat().st_mtime
        port = card.get("port")
        return [
            Found(
                name=_NAME, kind=_NAME, form=self.name, status="running", id=str(card.get("pid") or ""),
                config_hash="", address="127.0.0.1", port=port if isinstance(port, int) else None, started=started,
            )
        ]  # fmt: skip

    def look(self, workspace: Workspace, found: Found) -> Found | None:
        """Look again."""
        return next(iter(self.find(workspace)), None)

    def start(self, launch: Launch) -> Found:
        """Refuse."""
        raise UsageError("the server is not started like this", "`dsflow serve --detach` starts it.")

    def stop(self, workspace: Workspace, found: Found, signal: str, patience: float) -> None:
        """End the server and what it runs."""
        detached.stop(workspace)

    def lines(self, workspace: Workspace, found: Found, *, follow: bool = False) -> Iterator[str]:
        """Read what it has printed so far."""
        with contextlib.suppress(FileNotFoundError):
            yield from Places.of(workspace).log.read_text(encoding="utf-8", errors="replace").splitlines()

    def shell(self, workspace: Workspace, found: Found, command: Sequence[str]) -> Shell:
        """Refuse: it runs where dsflow runs."""
        raise UsageError("the server has no place of its own to open a shell in", "It runs in this Python.")

    def sweep(self, workspace: Workspace) -> None:
        """End runs that outlived a server that was killed."""
        detached.stop(workspace)
