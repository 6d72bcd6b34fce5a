"""The runtimes, by name. A new one is one module and one line here."""

from __future__ import annotations

import importlib
from typing import cast

from dsflow.errors import EnvironmentMissing
from dsflow.runtimes.contract import Runtime

RUNTIMES = {
    "docker": "dsflow.runtimes.docker:Docker",
    "process": "dsflow.runtimes.process:Process",
    "submit": "dsflow.runtimes.submit:Submit",
}


def runtime_of(name: str) -> Runtime:
    """Give the runtime of that name."""
    module, attribute = RUNTIMES[name].split(":")
    return cast(Runtime, getattr(importlib.import_module(module), attribute)())


class Runtimes:
    """The runtimes of one command: each is chosen once, and closed at the end."""

    def __init__(self) -> None:
        self._chosen: dict[str, tuple[Runtime, str]] = {}

    def choose(self, wanted: str) -> tuple[Runtime, str]:
        """Give the runtime to use and the reason for it, as `choose` does.

        Raises:
            EnvironmentMissing: it cannot run tasks here.
        """
        if wanted not in self._chosen:
            self._chosen[wanted] = choose(wanted)
        return self._chosen[wanted]

    def close(self) -> None:
        """Let them end what they keep ready."""
        for runtime, _ in self._chosen.values():
            runtime.close()
        self._chosen.clear()


def choose(wanted: str) -> tuple[Runtime, str]:
    """Give the runtime to use and the reason for it; `auto` takes the first that can run tasks here.

    Raises:
        EnvironmentMissing: the one asked for by name cannot run tasks here.
    """
    if wanted != "auto":
        runtime = runtime_of(wanted)
        problem = runtime.available()
        if problem:
            raise EnvironmentMissing(problem, "`--runtime process` runs the job on this machine without Docker.")
        return runtime, "asked for"
    reason = ""
    for name in RUNTIMES:
        runtime = runtime_of(name)
        problem = runtime.available()
        if problem is None:
            return runtime, reason or f"{name} answers"
        reason = f"no {name}: {problem}"
    raise EnvironmentMissing(f"no runtime can run tasks here; {reason}")
