"""The password of a workspace, which services that have no login of their own ask for."""

from __future__ import annotations

import contextlib

from dsflow import passwords
from dsflow.durable import write_text
from dsflow.errors import UsageError
from dsflow.services.contract import make_private
from dsflow.workspace import Workspace

DEFAULT = "green3"
_FILE = "hash"


def kept(workspace: Workspace) -> str:
    """Give the password as `dsflow.passwords` keeps it: that of the workspace, else the default one."""
    return _own(workspace) or passwords.hashed(DEFAULT)


def is_default(workspace: Workspace) -> bool:
    """Say whether the password is the one that everybody knows."""
    own = _own(workspace)
    return own is None or passwords.matches(own, DEFAULT)


def change(workspace: Workspace, password: str) -> None:
    """Keep another password, as a hash in a file that only the caller may read.

    Raises:
        UsageError: it is empty.
    """
    if not password.strip():
        raise UsageError("the password is empty")
    folder = workspace.own / "password"
    make_private(workspace, folder)
    write_text(folder / _FILE, passwords.hashed(password) + "\n")
    (folder / _FILE).chmod(0o600)


def _own(workspace: Workspace) -> str | None:
    with contextlib.suppress(OSError):
        return (workspace.own / "password" / _FILE).read_text(encoding="utf-8").strip() or None
    return None
