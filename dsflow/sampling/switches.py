"""Whether samples are given instead of production, and which."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass

from dsflow.errors import UsageError

ENABLE = "ENABLE_DDATAFLOW"
ENABLE_OFFLINE = "ENABLE_OFFLINE_MODE"
_YES = ("1", "true", "yes", "on")
_NO = ("0", "false", "no", "off", "")


@dataclass(frozen=True)
class Mode:
    """Two switches; offline mode gives samples too, whatever the other one says."""

    enabled: bool
    offline: bool

    @classmethod
    def of_environment(cls, enabled: bool) -> Mode:
        """Give the mode that the environment asks for.

        Args:
            enabled: What counts where the environment says nothing.

        Raises:
            UsageError: a variable is neither true nor false.
        """
        said = truth(ENABLE)
        return cls(enabled=enabled if said is None else said, offline=bool(truth(ENABLE_OFFLINE)))

    @property
    def sampling(self) -> bool:
        """Whether samples are given."""
        return self.enabled or self.offline

    def changed(self, **switches: bool) -> Mode:
        """Give the mode with switches set."""
        return dataclasses.replace(self, **switches)

    def describe(self, folder: str) -> str:
        """Give the mode in words.

        Args:
            folder: Where its samples are.
        """
        if self.offline:
            return f"DDataflow is OFFLINE: it reads the copies in {folder}, and writes there."
        if self.enabled:
            return f"DDataflow is ONLINE: it reads samples of production, and writes to {folder}."
        return "DDataflow is DISABLED: it reads production, and writes there."


def truth(variable: str) -> bool | None:
    """Give the truth value of an environment variable; None where it is not set.

    Raises:
        UsageError: it is neither true nor false.
    """
    text = os.environ.get(variable)
    if text is None:
        return None
    value = text.strip().lower()
    if value in _YES:
        return True
    if value in _NO:
        return False
    raise UsageError(f"{variable}={text!r} is neither true nor false", f"Set it to {_YES[1]} or {_NO[1]}.")
