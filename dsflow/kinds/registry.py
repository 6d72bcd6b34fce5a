"""The kinds of job, by name. A new one is one module and one entry here."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import cast

from dsflow.kinds.contract import Kind


@dataclass(frozen=True)
class Entry:
    """What the host must know of a kind without importing it.

    Attributes:
        module: Where it lives.
        suffixes: What its main file may end with; the first is the usual one.
        port: For a kind that serves until it is stopped: the port it takes if nothing else is said.
    """

    module: str
    suffixes: tuple[str, ...]
    port: int | None = None


KINDS = {
    "notebook": Entry("dsflow.kinds.notebook", (".ipynb", ".py")),
    "sql": Entry("dsflow.kinds.sql", (".sql",)),
    "script": Entry("dsflow.kinds.script", (".sh", ".py")),
    "dashboard": Entry("dsflow.kinds.dashboard", (".py",), port=8050),
}


def kind_of(name: str) -> Kind:
    """Give the module that executes a kind of job."""
    return cast(Kind, importlib.import_module(KINDS[name].module))
