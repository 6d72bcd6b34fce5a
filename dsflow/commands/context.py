"""What every command gets: the workspace and its settings, found when first asked for, and the console."""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from dsflow.console import Console

if TYPE_CHECKING:
    from dsflow.history import History
    from dsflow.specs.load import WorkspaceSpec
    from dsflow.workspace import Workspace


@dataclass
class Context:
    """Global options and what follows from them.

    Attributes:
        directory: Where to look for the workspace (`-C`), the current folder by default.
        console: The only writer to the terminal.
        environment: The one that `--env` names; None where the command line names none.
        sampled: Whether `--sample` asks for the samples instead of the data.
        offline: Whether `--offline` asks for what is on this machine only.
    """

    directory: Path | None = None
    console: Console = field(default_factory=Console)
    environment: str | None = None
    sampled: bool = False
    offline: bool = False

    @property
    def json(self) -> bool:
        """Whether the user asked for one JSON document on stdout."""
        return self.console.json

    @functools.cached_property
    def workspace(self) -> Workspace:
        """The workspace that holds the directory, with the datastore of its environment, or with its samples.

        Raises:
            UsageError: there is none, its settings have mistakes, or the data is another environment's.
        """
        from dsflow.specs.settings import located

        workspace = located(self.found)
        return dataclasses.replace(workspace, sampled=True, offline=self.offline) if self.sampled else workspace

    @functools.cached_property
    def found(self) -> Workspace:
        """The workspace that holds the directory, whatever its settings say.

        Raises:
            UsageError: there is none.
        """
        from dsflow import dotenv
        from dsflow.workspace import Workspace

        found = Workspace.find(self.directory)
        dotenv.load(found.root)
        return found

    @functools.cached_property
    def settings(self) -> WorkspaceSpec:
        """The settings of the workspace (`dsflow.yml`)."""
        from dsflow.specs.load import load_workspace

        return load_workspace(self.workspace)

    @functools.cached_property
    def history(self) -> History:
        """The run history of the workspace."""
        from dsflow.history import History

        return History.open(self.workspace, self.settings)
