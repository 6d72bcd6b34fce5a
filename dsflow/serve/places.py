"""Where the server of a workspace keeps its files: the door that callers use, and the room behind it."""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dsflow import durable
from dsflow.store import locks
from dsflow.workspace import Workspace

_IGNORED = "*\n"


@dataclass(frozen=True)
class Places:
    """The files of one workspace's server.

    Attributes:
        root: The folder of the workspace.
    """

    root: Path

    @classmethod
    def of(cls, workspace: Workspace) -> Places:
        """Give the places of a workspace, by its real path: two ways to the same folder are one server."""
        return cls(workspace.root.resolve())

    @property
    def door(self) -> Path:
        """The folder that a container may be given: the socket and the token, nothing else."""
        return self.root / ".dsflow" / "serve"

    @property
    def socket(self) -> Path:
        """The unix socket."""
        return self.door / "socket"

    @property
    def token(self) -> Path:
        """What callers must show."""
        return self.door / "token"

    @property
    def room(self) -> Path:
        """The folder of the server's own files."""
        return self.root / ".dsflow" / "server"

    @property
    def runs(self) -> Path:
        """One folder for each accepted run."""
        return self.room / "runs"

    @property
    def lock(self) -> Path:
        """Held by the server for as long as it lives."""
        return self.room / "lock"

    @property
    def beginning(self) -> Path:
        """Locked by whoever starts or ends the server in the background."""
        return self.room / "beginning"

    @property
    def card(self) -> Path:
        """What the server says of itself, as JSON."""
        return self.room / "server.json"

    @property
    def log(self) -> Path:
        """What a server in the background prints."""
        return self.room / "log.txt"

    def make(self) -> None:
        """Make the folders, for nobody but the caller, and keep them out of git."""
        with durable.explained(self.root):
            for folder in (self.door, self.runs):
                folder.mkdir(parents=True, exist_ok=True)
            for private in (self.door, self.room):
                private.chmod(0o700)
            ignored = self.root / ".dsflow" / ".gitignore"
            if not ignored.exists():
                durable.write_text(ignored, _IGNORED)

    def read_or_make_token(self) -> str:
        """Give the token; it is made once, so that callers can go on after the server has started anew."""
        try:
            self.token.chmod(0o600)
            if token := self.token.read_text(encoding="ascii").strip():
                return token
        except (FileNotFoundError, UnicodeDecodeError):
            pass
        token = secrets.token_urlsafe(32)
        fresh = self.token.with_name(f".token.{secrets.token_hex(4)}")
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
            file.write(token + "\n")
        fresh.replace(self.token)
        return token

    def is_served(self) -> bool:
        """Say whether a server of this workspace lives."""
        return locks.is_held(self.lock)

    def read_card(self) -> dict[str, Any]:
        """Give what the living server says of itself: `pid`, `port`, `version`, `started`; nothing where none lives."""
        if not self.is_served():
            return {}
        try:
            card: dict[str, Any] = json.loads(self.card.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return card
