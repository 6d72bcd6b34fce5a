"""The kinds of job, by name. A new one is one module and one line here."""

from __future__ import annotations

import importlib
from typing import cast

from dsflow.kinds.contract import Kind

KINDS = {
    "notebook": "dsflow.kinds.notebook",
    "sql": "dsflow.kinds.sql",
    "script": "dsflow.kinds.script",
    "dashboard": "dsflow.kinds.dashboard",
}


def kind_of(name: str) -> Kind:
    """Give the module that executes a kind of job."""
    return cast(Kind, importlib.import_module(KINDS[name]))
