"""What a forked child leaves behind and takes on, so that a job in it sees what a new process would show it.

A fork inherits everything. These functions let go of the parent's files, locks, handlers, logs, warnings filters and
seeds, and take on the job's environment, folder and import path. Modules that are loaded stay loaded.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import faulthandler
import gc
import io
import logging
import os
import signal
import sys
import threading
import time
import traceback
import warnings
import weakref
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import NoReturn

_PR_SET_PDEATHSIG = 1
# What libraries that are loaded already want done at the end of every process.
_EXIT_HANDLERS = {
    "logging": "shutdown",
    "multiprocessing.util": "_exit_function",
    "zmq.sugar.context": "_notice_atexit",
}


def is_safe() -> bool:
    """Say whether this process may go on as a fork of itself: on Linux, and without another thread, native or not."""
    try:
        return sys.platform == "linux" and len(os.listdir("/proc/self/task")) == 1
    except OSError:
        return False


def fork(child: Callable[[], None]) -> int:
    """Fork, and give the child's process id.

    Args:
        child: What the child does, with every signal blocked; it must end the process. The system kills the child
            when this process is gone.
    """
    for stream in (sys.stdout, sys.stderr):
        # Who reads it may be gone.
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    parent = os.getpid()
    # The collector leaves alone what is loaded by now, and so its pages stay shared.
    gc.freeze()
    # A signal between the fork and the child's own handlers would run ours, in the child.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        pid = os.fork()
        if pid == 0:
            try:
                os.setsid()
                die_with(parent)
                child()
            except BaseException:
                traceback.print_exc(file=sys.__stderr__)
            finally:
                # Never back into the frames of the parent.
                os._exit(1)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    return pid


def end_threads() -> None:
    """Let libraries end the threads they started when they were loaded, as numerical ones do before every fork."""
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


def hear_signals() -> None:
    """Take the signals again that `fork` blocked."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, signal.valid_signals())


def take_files(standard: tuple[int, int, int], keep: Collection[int] = ()) -> None:
    """Make three open files the standard streams, and let go of every other file of the parent: locks, logs, pipes.

    The numbers stay taken, by /dev/null: an object that still thinks it owns one can do no harm to a file of the job.

    Args:
        standard: What becomes standard input, output and error.
        keep: Numbers of open files that stay as they are.
    """
    nothing = os.open(os.devnull, os.O_RDWR)
    # Copied away first: a file of its own may have one of the first three numbers.
    standard = tuple(os.dup(number) for number in standard)  # type: ignore[assignment]
    for number, file in enumerate(standard):
        os.dup2(file, number)
    for number in map(int, os.listdir("/proc/self/fd")):
        if number > 2 and number not in keep and number != nothing:
            # The listing's own handle is closed by now.
            with contextlib.suppress(OSError):
                os.dup2(nothing, number, inheritable=False)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        raw = io.FileIO(number, "wb" if number else "rb", closefd=False)
        binary = raw if number else io.BufferedReader(raw)
        stream = io.TextIOWrapper(binary, encoding="utf-8", errors="backslashreplace", write_through=True)
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def forget_state() -> None:
    """Drop what a new interpreter would not have: exit handlers, handlers of signals, logs and warnings, seeds."""
    atexit._clear()
    for module, name in _EXIT_HANDLERS.items():
        if module in sys.modules:
            atexit.register(getattr(sys.modules[module], name))
    weakref.finalize._registry.clear()  # type: ignore[attr-defined]
    weakref.finalize._registered_with_atexit = False  # type: ignore[attr-defined]
    logging.root.handlers.clear()
    logging.root.setLevel(logging.WARNING)
    warnings.resetwarnings()
    for category in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
        warnings.simplefilter("ignore", category)
    warnings.filterwarnings("default", category=DeprecationWarning, module="__main__")
    warnings._processoptions(sys.warnoptions)  # type: ignore[attr-defined]
    faulthandler.disable()
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, signal.SIGPIPE, signal.SIGXFSZ}:
        with contextlib.suppress(OSError, ValueError):
            signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if "numpy.random" in sys.modules:
        sys.modules["numpy.random"].seed()


def settle(cwd: Path, environment: Mapping[str, str]) -> None:
    """Take on the job's environment, working directory and import path.

    Args:
        cwd: The working directory.
        environment: The whole environment.
    """
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    os.chdir(cwd)
    asked = [entry for entry in environment.get("PYTHONPATH", "").split(os.pathsep) if entry]
    # The first entry is where this process's main module is from. The kernel itself adds the working directory.
    inherited = sys.path if sys.flags.safe_path else sys.path[1:]
    package = str(Path(__file__).parents[1])
    sys.path[:] = dict.fromkeys([*asked, *inherited, package])


def leave(status: int) -> NoReturn:
    """End this process as an interpreter ends; only what it has from its parent is not taken apart, which takes long.

    Threads are waited for, exit handlers run, what the job holds is let go of, and its open files are written out.
    """
    try:
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        main = sys.modules.get("__main__")
        if main is not None:
            main.__dict__.clear()
        gc.collect()
        # What was there at the fork is frozen, and not among these.
        for thing in gc.get_objects():
            if isinstance(thing, io.TextIOWrapper | io.BufferedWriter | io.BufferedRandom):
                with contextlib.suppress(Exception):
                    thing.flush()
    except BaseException:
        traceback.print_exc(file=sys.__stderr__)
    finally:
        # Holding the interpreter's lock: no other thread goes on while C libraries end.
        ctypes.PyDLL(None).exit(ctypes.c_int(status))
    raise AssertionError


def die_with(parent: int) -> None:
    """Have the system kill this process when its parent is gone; it outlives a call of another program.

    Args:
        parent: The parent's process id, asked for before the fork.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
