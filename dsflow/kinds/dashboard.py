"""Dash applications in the foreground, until somebody stops them."""

from __future__ import annotations

import sys

from dsflow.kinds.contract import Work
from dsflow.kinds.script import body, execute, leaves_nothing, load

__all__ = ["body", "leaves_nothing", "load", "run"]


def run(work: Work) -> None:
    """Serve the dashboard until it is stopped; it reads its address from DSFLOW_HOST and DSFLOW_PORT."""
    execute(work, [sys.executable, "-u", str(work.job_folder / work.task.main)])
