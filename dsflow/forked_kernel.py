"""A kernel by fork: the child of this process becomes an ordinary IPython kernel.

Nothing of the parent is left that a job could see, apart from modules that are loaded already: not its environment,
files, locks, handlers, seeds, warnings filters, exit handlers, `__main__` or event loop.
"""

from __future__ import annotations

import asyncio
import atexit
import builtins
import contextlib
import contextvars
import faulthandler
import gc
import importlib
import os
import secrets
import sys
import time
import traceback
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import zmq
from ipykernel import ipkernel
from ipykernel.compiler import XCachingCompiler
from ipykernel.control import ControlThread
from ipykernel.iostream import IOPubThread
from ipykernel.kernelapp import IPKernelApp
from ipykernel.zmqshell import ZMQInteractiveShell
from IPython.core.application import BaseIPythonApplication
from traitlets.config import Config

from dsflow import forking
from dsflow.lean import collect_as_usual, lean

# Whether a kernel greets who begins to listen to what it says, as those of ipykernel 7 do.
GREETS = hasattr(IOPubThread, "_send_welcome_message")
_CLOSE_SECONDS = 5.0
# What a kernel loads only when it starts, or runs its first cell.
_LATE = (
    "IPython.core.completerlib", "IPython.core.debugger", "IPython.core.logger", "IPython.core.oinspect",
    "IPython.extensions.storemagic", "ipykernel.debugger", "psutil", "pygments.formatters.terminal256", "stack_data",
    "tornado.platform.asyncio", "tornado.queues",
)  # fmt: skip
# No database of past input: kernels of several runs at once would wait for each other.
_SETTINGS = {"HistoryManager": {"enabled": False, "hist_file": ":memory:"}}


# The modules of a kernel that was loaded ahead; what this process loaded after them a new kernel would not have.
_own: frozenset[str] | None = None
# An application and its shell that were made ahead, for the next fork, and the warnings filters that came with them.
_ready: tuple[Any, Any, Sequence[Any]] | None = None


def load() -> None:
    """Load what a kernel needs beyond this module, in a process that goes on to load other things before it forks."""
    global _own
    if _own is None:
        for module in _LATE:
            with contextlib.suppress(ImportError):
                importlib.import_module(module)
        _own = frozenset(sys.modules)
        _make_ready()


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


def fork_kernel(
    connection_file: Path, cwd: Path, environment: Mapping[str, str], output: int, *, heartbeat: bool = False
) -> tuple[Forked, int]:
    """Fork a kernel. Only a process with a single thread may do that.

    Args:
        connection_file: Says where the kernel is to listen, in jupyter_client's format.
        cwd: Its working directory.
        environment: The whole of its environment.
        output: An open file that gets what it prints outside of its cells.
        heartbeat: Answer a client that asks again and again whether the kernel is there.

    Returns:
        The process, and the reading end of a pipe that brings one byte when the kernel listens.
    """
    ready, report = os.pipe()
    pid = forking.fork(lambda: be_kernel(report, connection_file, cwd, environment, output, heartbeat))
    os.close(report)
    return Forked(pid), ready


def be_kernel(
    report: int,
    connection_file: Path,
    cwd: Path,
    environment: Mapping[str, str],
    output: int,
    heartbeat: bool = False,
) -> None:
    """Be a kernel until the end of this process, which is a fork; what it takes is as for `fork_kernel`.

    Args:
        report: An open file that gets one byte when the kernel listens.
        connection_file: Says where to listen.
        cwd: The working directory.
        environment: The whole environment.
        output: Gets what is printed outside of cells.
        heartbeat: Answer a client that asks whether the kernel is there.
    """
    status = 1
    try:
        forking.forget_state()
        _take_files(report, output)
        forking.settle(cwd, environment)
        _make_way(cwd)
        # An empty context: what the parent keeps in context variables (its event loop) is not the child's.
        contextvars.Context().run(_serve, report, connection_file, heartbeat)
        status = 0
    except BaseException:
        traceback.print_exc(file=sys.__stderr__)
    finally:
        forking.leave(status)


def _take_files(report: int, output: int) -> None:
    """Take nothing as input, and for output the file for what is printed outside of any cell."""
    nothing, output = os.open(os.devnull, os.O_RDWR), os.dup(output)
    forking.take_files((nothing, output, output), keep=(report, output))
    # Stays open, for this: a crash of the interpreter tells where it happened.
    faulthandler.enable(output, all_threads=False)


def _make_way(folder: Path) -> None:
    """Forget modules that are called like one of the job's, unless every kernel has them: its own are found first."""
    if _own is None:
        return
    theirs = {name.removesuffix(".py") for name in os.listdir(folder)} & sys.modules.keys()
    # To look at the name of every module would copy hundreds of pages.
    if theirs <= _own:
        return
    for module in [module for module in sys.modules if module.partition(".")[0] in theirs and module not in _own]:
        del sys.modules[module]


def _make_ready() -> None:
    """Make an application and its shell, as far as they need no thread, and leave no trace of them in this process."""
    global _ready
    before = dict(os.environ), list(sys.path), sys.modules["__main__"], sys.excepthook, list(warnings.filters)
    kinds: tuple[Any, Any] = _KernelApp, ZMQInteractiveShell
    app = kinds[0](config=Config(_SETTINGS))
    app.configure()
    app.session  # noqa: B018  # made when it is first asked for
    shell = kinds[1](profile_dir=app.profile_dir, user_ns={}, compiler_class=XCachingCompiler, config=app.config)
    for name in ("__IPYTHON__", "display"):
        builtins.__dict__.pop(name, None)
    environment, sys.path[:], sys.modules["__main__"], sys.excepthook, filters = before
    os.environ.clear()
    os.environ.update(environment)
    _ready = app, shell, [one for one in warnings.filters if one not in filters]


def _application() -> Any:
    """Give the application of this kernel. Where it was made ahead with its shell, both become those of this process.

    What they had of the process that made them (environment, folder, streams, main module) they have of this one.
    """
    if _ready is None:
        return _KernelApp.instance(config=Config(_SETTINGS))
    app, shell, filters = _ready
    warnings.filters[:0] = filters  # type: ignore[index]
    app.session.pid, app.session.session = os.getpid(), secrets.token_hex(16)
    for single in (app, shell):
        for kind in type(single)._walk_mro():
            kind._instance = single
    shell.init_environment()
    shell.init_virtualenv()
    shell.starting_dir = str(Path.cwd())
    shell.history_manager.dir_hist[:] = [Path.cwd()]
    shell.save_sys_module_state()
    shell.init_sys_modules()
    shell.init_builtins()
    shell.sys_excepthook = sys.excepthook
    atexit.register(shell.atexit_operations)
    return app


def _serve(report: int, connection_file: Path, heartbeat: bool) -> None:
    asyncio.set_event_loop(asyncio.new_event_loop())
    IPKernelApp.clear_instance()
    sys.argv = ["ipykernel_launcher.py", "-f", str(connection_file)]
    app = _application()
    app.connection_file = str(connection_file)
    app.with_heartbeat = heartbeat
    # Else records are made for handlers that drop them.
    app.log.setLevel(app.log_level)
    # Nobody debugs a run, and ipykernel loads a whole debugger where there is one.
    with lean("debugpy"):
        app.initialize([])
    gc.enable()
    collect_as_usual()
    os.write(report, b"!")
    os.close(report)
    forking.hear_signals()
    app.start()
    # ipykernel ends its threads in an order in which this one may wait ten seconds for another that is gone.
    app.control_thread.stop()
    app.control_thread.join(_CLOSE_SECONDS)


class _Unlisted:
    """`sys` for the making of a kernel, which lists the files of all modules for its debugger.

    In a fork each module that is looked at costs the copy of a page.
    """

    modules: Mapping[str, Any] = MappingProxyType({})

    def __getattr__(self, name: str) -> Any:
        return getattr(sys, name)


@contextlib.contextmanager
def _without_modules() -> Iterator[None]:
    """Let a kernel that is made believe that nothing is loaded."""
    module: Any = ipkernel
    module.sys = _Unlisted()
    try:
        yield
    finally:
        module.sys = sys


class _ConfiguredOnce(BaseIPythonApplication):
    """Reads its configuration when it is told to, and when it is initialised if that was not before."""

    configured = False

    def configure(self) -> None:
        """Read the files of IPython's profile."""
        self.init_profile_dir()  # type: ignore[no-untyped-call]
        self.init_config_files()  # type: ignore[no-untyped-call]
        self.load_config_file()  # type: ignore[no-untyped-call]
        self.update_config(Config(_SETTINGS))
        self.configured = True

    def initialize(self, argv: list[str] | None = None) -> None:
        """Take no options."""
        self.init_crash_handler()  # type: ignore[no-untyped-call]
        if not self.configured:
            self.configure()


class _KernelApp(IPKernelApp, _ConfiguredOnce):
    """ipykernel's application, which may not drop output that the client is slow to fetch.

    It leaves out what no run needs: options from a command line, and threads that ask whether the parent is there and
    tell a client that the kernel is. The system and our client know.
    """

    with_heartbeat = False

    def init_path(self) -> None:
        """Find modules beside the notebook, after the standard library; under -P, as the shim is, IPython does not."""
        packages = (n for n, path in enumerate(sys.path) if Path(path).name in ("site-packages", "dist-packages"))
        sys.path.insert(next(packages, len(sys.path)), "")

    def init_poller(self) -> None:
        """Leave it to the system to end this process when its parent is gone."""

    def init_heartbeat(self) -> None:
        """Have one only where a client will ask."""
        if self.with_heartbeat:
            super().init_heartbeat()  # type: ignore[no-untyped-call]

    def init_control(self, context: zmq.Context[Any]) -> None:
        """Listen to requests to end; without a way to a debugger, nor the thread that hands cells out to subshells."""
        self.control_socket = context.socket(zmq.ROUTER)
        self.control_socket.linger = 1000
        self.control_socket.router_handover = 1
        if hasattr(self, "_apply_curve_server_options"):  # as of ipykernel 7
            self._apply_curve_server_options(self.control_socket)
        self.control_port = self._bind_socket(self.control_socket, self.control_port)  # type: ignore[no-untyped-call]
        self.debugpy_socket = self.debug_shell_socket = context.socket(zmq.DEALER)
        self.control_thread = ControlThread(daemon=True)  # type: ignore[no-untyped-call]
        self.shell_channel_thread = None

    def init_kernel(self) -> None:
        """Make the kernel, and make a shell that was there before it its own."""
        with _without_modules():
            super().init_kernel()  # type: ignore[no-untyped-call]
        self.kernel.shell.kernel = self.kernel.shell.parent = self.kernel

    def init_code(self) -> None:
        """Run what the profile has for the start of every session, and hide it from `%who`; nobody gave any options."""
        self._run_startup_files()  # type: ignore[no-untyped-call]
        self._run_exec_lines()  # type: ignore[no-untyped-call]
        self._run_exec_files()  # type: ignore[no-untyped-call]
        shell: Any = self.shell
        if self.hide_initial_ns:
            shell.user_ns_hidden.update(shell.user_ns)
        sys.stdout.flush()
        sys.stderr.flush()
        # For `%reset`. To copy the names of all modules would copy hundreds of pages.
        shell._sys_modules_keys = set(sys.modules) if _own is None else _own

    def log_connection_info(self) -> None:
        """Remember the ports, and tell nobody: the one client knows them."""
        names = ("shell", "iopub", "stdin", "hb", "control")
        self._ports = {name: getattr(self, f"{name}_port") for name in names}

    def init_iopub(self, context: zmq.Context[Any]) -> None:
        context.setsockopt(zmq.SNDHWM, 0)
        super().init_iopub(context)  # type: ignore[no-untyped-call]
