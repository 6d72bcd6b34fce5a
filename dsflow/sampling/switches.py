"""Whether samples are given instead of production, and which."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass

from dsflow.errors import UsageError

ENABLE = "ENABLE_DDATAFLOW"
ENABLE_OFFLINE = "ENABLE_OFFLINE_MODE"
# In a run with `--sample`: `online`, or `offline` with `--offline`.
SAMPLES = "DSFLOW_SAMPLES"
RUN = "DSFLOW_RUN_FOLDER"
_YES = ("1", "true", "yes", "on")
_NO = ("0", "false", "no", "off", "")


@dataclass(frozen=True)
class Mode:
    """Two switches; offline mode gives samples too, whatever the other one says.

    In a run of a job they follow from how that was started, or what it publishes would be made of samples.

    Attributes:
        enabled: One of them.
        offline: The other one.
        run: `production`, `online` or `offline` in a run; nothing elsewhere.
    """

    enabled: bool
    offline: bool
    run: str = ""

    @classmethod
    def of_environment(cls, enabled: bool) -> Mode:
        """Give the mode that the environment asks for.

        Args:
            enabled: What counts where the environment says nothing.

        Raises:
            UsageError: a variable is neither true nor false, or the run is one of production and must stay so.
        """
        said, run = truth(ENABLE), os.environ.get(SAMPLES, "") or ("production" if RUN in os.environ else "")
        sampled = run in ("online", "offline")
        offline = run == "offline" or bool(truth(ENABLE_OFFLINE))
        # Where offline mode ends, production must not begin.
        made = cls(enabled=sampled or offline or (enabled if said is None else said), offline=offline, run=run)
        return made.changed()

    @property
    def sampling(self) -> bool:
        """Whether samples are given."""
        return self.enabled or self.offline

    def changed(self, enabled: bool | None = None, offline: bool | None = None) -> Mode:
        """Give the mode with switches set; None leaves one as it is.

        Raises:
            UsageError: the run is one of production, of samples, or of local copies, and must stay so.
        """
        made = dataclasses.replace(
            self,
            enabled=self.enabled if enabled is None else enabled,
            offline=self.offline if offline is None else offline,
        )
        if self.run == "production" and made.sampling:
            raise UsageError("this run publishes, so its code cannot ask for samples", "Run it with --sample.")
        if self.run == "online" and not made.sampling:
            raise UsageError("this run has --sample, which its code cannot switch off", "Run it without --sample.")
        if self.run == "offline" and not made.offline:
            raise UsageError("this run has --offline, which its code cannot switch off", "Run it without --offline.")
        return made

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
