"""Importing large libraries, and running short programs, for less time and memory."""

from __future__ import annotations

import atexit
import contextlib
import gc
import os
import sys
import threading
from collections.abc import Iterator
from typing import NoReturn

_USUAL = gc.get_threshold()
_SELDOM = (100_000, 20, 20)


def collect_seldom() -> None:
    """Look for garbage seldom in this process.

    What it imports stays and what it makes is little: to look again and again is a tenth of a short command. For
    processes that run code of dsflow only.
    """
    gc.set_threshold(*_SELDOM)


def collect_as_usual() -> None:
    """Look for garbage as a new interpreter does, in a process that is about to run a person's code."""
    gc.set_threshold(*_USUAL)


def leave(code: int) -> NoReturn:
    """End this process as an interpreter ends, but without taking apart what it has loaded.

    That takes as long as a short command, and frees what the system frees anyway. Threads are waited for and exit
    handlers run.

    Args:
        code: The exit code.
    """
    try:
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            # Lines are written out one by one; who reads what is left may be gone.
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
    finally:
        os._exit(code)


@contextlib.contextmanager
def lean(*unwanted: str) -> Iterator[None]:
    """Spare the imports in the `with` block what they do not need.

    The garbage collector rests: nearly all of what an import makes stays, and its passes over it take a fifth of the
    time. Libraries that others take along wherever they find them can be hidden for the while.

    Args:
        unwanted: Names of optional packages that count as not installed; those that are loaded already do not.
    """
    hidden = [name for name in unwanted if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
        for name in hidden:
            del sys.modules[name]
