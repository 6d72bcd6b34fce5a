"""dsflow: one job folder, run for a date anywhere, one atomic `ds=` partition and one page that explains it."""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"

_FROM_JOB = ("load_tables", "sql", "table", "tables")


def __getattr__(name: str) -> Any:
    # Notebooks write `from dsflow import load_tables`; the command line must not pay for importing it.
    if name in _FROM_JOB:
        import importlib

        return getattr(importlib.import_module("dsflow.job"), name)
    raise AttributeError(f"module 'dsflow' has no attribute {name!r}")
