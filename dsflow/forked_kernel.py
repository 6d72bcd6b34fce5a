"""A kernel by fork: the child of this process becomes an ordinary IPython kernel.

Nothing of the parent is left that a job could see, apart from modules that are loaded already: not its environment,
files, locks, handlers, seeds, warnings filters, exit handlers, `__main__` or event loop.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import contextvars
import ctypes
import faulthandler
import gc
import io
import logging
import os
import signal
import sys
import time
import traceback
import warnings
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import zmq
from ipykernel.kernelapp import IPKernelApp

from dsflow.lean import lean

_PR_SET_PDEATHSIG = 1
_CLOSE_SECONDS = 5.0
# What libraries that are loaded already want done at the end of every process.
_EXIT_HANDLERS = {
    "logging": "shutdown",
    "multiprocessing.util": "_exit_function",
    "zmq.sugar.context": "_notice_atexit",
}


class Forked:
    """A forked process, with the part of `subprocess.Popen` that jupyter_client uses."""

    stdin = stdout = stderr = None

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Give the exit code, negative for a signal, or None while it runs."""
        if self.returncode is None:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:
                pid, status = self.pid, 0
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self) -> int:
        """Wait for the end and give the exit code."""
        while self.poll() is None:
            time.sleep(0.01)
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)


def fork_kernel(connection_file: Path, cwd: Path, environment: Mapping[str, str], log: Path) -> tuple[Forked, int]:
    """Fork a kernel. Only a process with a single thread may do that.

    Args:
        connection_file: Says where the kernel is to listen, in jupyter_client's format.
        cwd: Its working directory.
        environment: The whole of its environment.
        log: Gets what it prints outside of its cells.

    Returns:
        The process, and the reading end of a pipe that brings one byte when the kernel listens.
    """
    ready, report = os.pipe()
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
            _be_kernel(parent, report, connection_file, cwd, environment, log)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    os.close(report)
    return Forked(pid), ready


def _be_kernel(
    parent: int, report: int, connection_file: Path, cwd: Path, environment: Mapping[str, str], log: Path
) -> NoReturn:
    """Be a kernel until the end of this process. Never returns into the frames of the parent."""
    status = 1
    try:
        os.setsid()
        _die_with(parent)
        _forget_state()
        _forget_files(report, log)
        _settle(cwd, environment)
        # An empty context: what the parent keeps in context variables (its event loop) is not the child's.
        contextvars.Context().run(_serve, parent, report, connection_file)
        status = 0
    except BaseException:
        traceback.print_exc(file=sys.__stderr__)
    finally:
        # Exit as an interpreter does at its end: wait for threads, run exit handlers, close the job's open files.
        ctypes.pythonapi.Py_Exit(ctypes.c_int(status))
    raise AssertionError


def _serve(parent: int, report: int, connection_file: Path) -> None:
    asyncio.set_event_loop(asyncio.new_event_loop())
    IPKernelApp.clear_instance()
    sys.argv = ["ipykernel_launcher.py", "-f", str(connection_file)]
    app: Any = _KernelApp.instance(parent_handle=parent, connection_file=str(connection_file))
    # No database of past input: kernels of several runs at once would wait for each other.
    # Nobody debugs a run, and ipykernel loads a whole debugger where there is one.
    with lean("debugpy"):
        app.initialize(["--HistoryManager.hist_file=:memory:"])
    gc.enable()
    os.write(report, b"!")
    os.close(report)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, signal.valid_signals())
    app.start()
    # ipykernel ends its threads in an order in which this one may wait ten seconds for another that is gone.
    app.control_thread.stop()
    app.control_thread.join(_CLOSE_SECONDS)


class _KernelApp(IPKernelApp):
    """ipykernel's application, which may not drop output that the client is slow to fetch."""

    def init_iopub(self, context: zmq.Context[Any]) -> None:
        context.setsockopt(zmq.SNDHWM, 0)
        super().init_iopub(context)  # type: ignore[no-untyped-call]


def _die_with(parent: int) -> None:
    """Have the system kill this process when its parent is gone."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _forget_files(report: int, log: Path) -> None:
    """Let go of every file of the parent (locks, logs, pipes); what is printed outside of any cell goes into `log`.

    The numbers stay taken, by /dev/null: an object that still thinks it owns one can do no harm to a file of the job.
    """
    nothing = os.open(os.devnull, os.O_RDWR)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for number in map(int, os.listdir("/proc/self/fd")):
        if number not in {0, 1, 2, report, nothing, output}:
            # The listing's own handle is closed by now.
            with contextlib.suppress(OSError):
                os.dup2(nothing, number, inheritable=False)
    os.dup2(nothing, 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    # Stays open, for this: a crash of the interpreter tells where it happened.
    faulthandler.enable(output, all_threads=False)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        raw = io.FileIO(number, "wb" if number else "rb", closefd=False)
        binary = raw if number else io.BufferedReader(raw)
        stream = io.TextIOWrapper(binary, encoding="utf-8", errors="backslashreplace", write_through=True)
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def _forget_state() -> None:
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


def _settle(cwd: Path, environment: Mapping[str, str]) -> None:
    """Take on the job's environment, working directory and import path."""
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    os.chdir(cwd)
    asked = [entry for entry in environment.get("PYTHONPATH", "").split(os.pathsep) if entry]
    # The first entry is where this process's main module is from. The kernel itself adds the working directory.
    inherited = sys.path if sys.flags.safe_path else sys.path[1:]
    package = str(Path(__file__).parents[1])
    sys.path[:] = dict.fromkeys([*asked, *inherited, package])
