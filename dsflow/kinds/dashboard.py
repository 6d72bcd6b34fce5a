"""Dash applications in the foreground, until somebody stops them."""

from __future__ import annotations

import dataclasses
import sys

from dsflow.kinds.contract import Work
from dsflow.kinds.script import body, execute, load, traces

__all__ = ["body", "load", "run", "traces"]


def run(work: Work) -> None:
    """Serve the dashboard until it is stopped; it reads its address from DSFLOW_HOST and DSFLOW_PORT."""
    given = work.environment
    # The names that Dash itself knows: a plain `app.run()` listens there too.
    own = {name: given[f"DSFLOW_{name}"] for name in ("HOST", "PORT") if f"DSFLOW_{name}" in given}
    command = [sys.executable, "-u", str(work.job_folder / work.task.main)]
    execute(dataclasses.replace(work, environment={**given, **own}), command)
