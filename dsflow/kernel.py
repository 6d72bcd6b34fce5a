"""A Jupyter kernel for one run, started by fork where that is safe.

A new interpreter that imports ipykernel costs more than running a small notebook. Importing this module loads
ipykernel, and `Kernel.start` forks: the child becomes an ordinary IPython kernel with nothing of its parent left that
a job could see. Elsewhere (macOS, threads in this process, other languages) the kernel is started as usual.

jupyter_client asks its questions again and again until a kernel is ready or gone. Here the child reports through a
pipe when its sockets are bound, and the end of a kernel is waited for, so nothing sleeps longer than it must.
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
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
import weakref
from collections.abc import Mapping
from pathlib import Path
from queue import Empty
from typing import Any, NoReturn

import zmq
from ipykernel.kernelapp import IPKernelApp
from jupyter_client.asynchronous.client import AsyncKernelClient
from jupyter_client.kernelspec import NoSuchKernel
from jupyter_client.manager import AsyncKernelManager
from jupyter_client.provisioning import LocalProvisioner
from jupyter_core.utils import ensure_async, run_sync

from dsflow.errors import EnvironmentMissing, KernelDied

PYTHON = "python3"
_START_SECONDS = 60.0
_GRACE_SECONDS = 5.0
# A socket's path must fit into 108 bytes, and jupyter_client adds `-1` to `-5`.
_LONGEST_FOLDER = 80
_PR_SET_PDEATHSIG = 1
_LAST_LINES = 60


class Kernel:
    """A running kernel and the client that talks to it.

    Made by `start`; `stop` ends it, and must be called however the run went.

    Attributes:
        manager: jupyter_client's manager of the kernel.
        client: The connected client; set by `connect`.
    """

    def __init__(self, manager: AsyncKernelManager, folder: Path, ready: int | None) -> None:
        self.manager = manager
        self.client: AsyncKernelClient | None = None
        self._folder = folder
        self._ready = ready
        self._asked = False

    @classmethod
    def start(cls, cwd: Path, environment: Mapping[str, str], spec: str = PYTHON) -> Kernel:
        """Start a kernel, without waiting until it is ready.

        Args:
            cwd: Its working directory.
            environment: The whole of its environment.
            spec: The name of a kernel spec; `python3` is this interpreter.

        Raises:
            EnvironmentMissing: there is no such kernel on this machine.
        """
        folder = _private_folder()
        manager = AsyncKernelManager(
            kernel_name=spec, transport="ipc", ip=str(folder / "k"), connection_file=str(folder / "connection.json")
        )
        try:
            ready = _launch(manager, cwd, environment, folder / "log.txt")
        except NoSuchKernel:
            shutil.rmtree(folder)
            raise EnvironmentMissing(
                f"the notebook asks for the kernel {spec!r}, which is not installed",
                "`jupyter kernelspec list` shows what is. Install it, or choose another kernel for the notebook.",
            ) from None
        return cls(manager, folder, ready)

    @property
    def pid(self) -> int:
        """The process that runs the cells; it leads a process group of its own."""
        assert isinstance(self.manager.provisioner, LocalProvisioner)
        assert self.manager.provisioner.pid is not None
        return self.manager.provisioner.pid

    def connect(self) -> AsyncKernelClient:
        """Wait until the kernel is ready and give the connected client.

        Raises:
            KernelDied: it ended before it was ready, or does not answer.
        """
        if self._ready is not None:
            self._await_report(self._ready)
        self.client = self.manager.client()
        # What the client has not read yet must wait in the queue instead of being dropped.
        self.client.context.setsockopt(zmq.RCVHWM, 0)
        self.client.start_channels(stdin=False, hb=False)
        run_sync(self._answered)()
        return self.client

    def interrupt(self) -> None:
        """Send Ctrl-C to the kernel and what it has started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGINT)

    def stop(self, grace: float = _GRACE_SECONDS) -> None:
        """End the kernel and everything it has started: politely, so that it can close its files, then for good.

        Args:
            grace: Seconds it gets for its exit handlers before it is killed.
        """
        try:
            self.ask_to_stop()
            self._ended_within(grace if self._asked else 0)
        finally:
            self._kill()
            self._close()

    def ask_to_stop(self) -> None:
        """Let the kernel begin to end; `stop` then waits for it."""
        if self.client is not None and not self._asked and self._running():
            self.client.shutdown()
            self._asked = True

    def ending(self) -> str:
        """Say how the kernel's process ended, for a message."""
        self._ended_within(1)
        code = _process(self.manager).poll()
        if code is None:
            return "it does not answer"
        if code < 0:
            with contextlib.suppress(ValueError):
                return f"killed by {signal.Signals(-code).name}"
        return f"exit code {code}"

    def last_words(self) -> str:
        """Give the end of what it printed past its cells, such as the report of a crashed interpreter."""
        with contextlib.suppress(OSError):
            lines = (self._folder / "log.txt").read_text(encoding="utf-8", errors="replace").splitlines()
            return "\n".join(lines[-_LAST_LINES:])
        return ""

    def _await_report(self, ready: int) -> None:
        readable, _, _ = select.select([ready], [], [], _START_SECONDS)
        if not (readable and os.read(ready, 1)):
            raise KernelDied(f"the kernel did not start ({self.ending()})", traceback=self.last_words())

    async def _answered(self) -> None:
        """Wait for one question to be answered in full: then the kernel hears us, and we hear everything it says."""
        assert self.client is not None
        deadline = time.monotonic() + _START_SECONDS
        while not await _heard(self.client, self.client.kernel_info()):
            if not self._running() or time.monotonic() > deadline:
                raise KernelDied(f"the kernel did not start ({self.ending()})", traceback=self.last_words())

    def _running(self) -> bool:
        return _process(self.manager).poll() is None

    def _ended_within(self, seconds: float) -> bool:
        deadline, pause = time.monotonic() + seconds, 0.0005
        while self._running():
            if time.monotonic() > deadline:
                return False
            time.sleep(pause)
            pause = min(2 * pause, 0.02)
        return True

    def _kill(self) -> None:
        # Also when the kernel is gone: what it has started may still be there.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        self._ended_within(_GRACE_SECONDS)

    def _close(self) -> None:
        if self._ready is not None:
            os.close(self._ready)
            self._ready = None
        if self.client is not None:
            self.client.stop_channels()
        run_sync(_clean_up)(self.manager)
        shutil.rmtree(self._folder, ignore_errors=True)


async def _clean_up(manager: AsyncKernelManager) -> None:
    await ensure_async(manager.cleanup_resources())  # type: ignore[func-returns-value]


async def _heard(client: AsyncKernelClient, request: str) -> bool:
    """Say whether the kernel reported, soon, that it is done with a request."""
    with contextlib.suppress(Empty):
        while True:
            message = await client.get_iopub_msg(timeout=0.1)
            if (
                message["parent_header"].get("msg_id") == request
                and message["content"].get("execution_state") == "idle"
            ):
                return True
    return False


def _private_folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="dsflow-"))
    if len(str(folder)) > _LONGEST_FOLDER:
        folder.rmdir()
        folder = Path(tempfile.mkdtemp(prefix="dsflow-", dir="/tmp"))
    return folder


def _launch(manager: AsyncKernelManager, cwd: Path, environment: Mapping[str, str], log: Path) -> int | None:
    """Start the process; give the pipe on which a forked kernel reports that it is ready."""
    if manager.kernel_name == PYTHON and fork_is_safe():
        manager.write_connection_file()
        process, ready = _fork(Path(manager.connection_file), cwd, environment, log)
        spec = manager.kernel_spec
        provisioner = LocalProvisioner(kernel_id="forked", kernel_spec=spec, parent=manager)
        provisioner.process, provisioner.pid, provisioner.pgid = process, process.pid, process.pid
        provisioner.connection_info = manager.get_connection_info()
        manager.provisioner = provisioner
        return ready
    with log.open("wb") as output:
        run_sync(manager.start_kernel)(cwd=str(cwd), env=dict(environment), stdout=output, stderr=output)
    return None


def _process(manager: AsyncKernelManager) -> Any:
    assert isinstance(manager.provisioner, LocalProvisioner)
    return manager.provisioner.process


def fork_is_safe() -> bool:
    """Say whether this process may fork a kernel: on Linux, and without any other thread, native ones included."""
    try:
        return sys.platform == "linux" and len(os.listdir("/proc/self/task")) == 1
    except OSError:
        return False


class _Forked:
    """A forked process, with the part of `subprocess.Popen` that jupyter_client uses."""

    stdin = stdout = stderr = None

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:
                pid, status = self.pid, 0
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self) -> int:
        while self.poll() is None:
            time.sleep(0.01)
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)


def _fork(connection_file: Path, cwd: Path, environment: Mapping[str, str], log: Path) -> tuple[_Forked, int]:
    ready, report = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    parent = os.getpid()
    # A signal between the fork and the child's own handlers would run ours, in the child.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        pid = os.fork()
        if pid == 0:
            _be_kernel(parent, report, connection_file, cwd, environment, log)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    os.close(report)
    return _Forked(pid), ready


def _be_kernel(
    parent: int, report: int, connection_file: Path, cwd: Path, environment: Mapping[str, str], log: Path
) -> NoReturn:
    """Be a kernel until the end of this process. Never returns into the frames of the parent."""
    status = 1
    try:
        os.setsid()
        _die_with(parent)
        _forget_files(report, log)
        _forget_state()
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
    app = _KernelApp.instance(parent_handle=parent, connection_file=str(connection_file))
    # No database of past input: kernels of several runs at once would wait for each other.
    app.initialize(["--HistoryManager.hist_file=:memory:"])
    os.write(report, b"!")
    os.close(report)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, signal.valid_signals())
    app.start()
    # ipykernel ends its threads in an order in which this one may wait ten seconds for another that is gone.
    app.control_thread.stop()
    app.control_thread.join(_GRACE_SECONDS)


class _KernelApp(IPKernelApp):  # type: ignore[misc]
    """ipykernel's application, which may not drop output that the client is slow to fetch."""

    def init_iopub(self, context: zmq.Context[Any]) -> None:
        context.setsockopt(zmq.SNDHWM, 0)
        super().init_iopub(context)


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
    faulthandler.enable(output)
    sys.stdin = sys.__stdin__ = open(0, closefd=False, encoding="utf-8")
    for name in ("stdout", "stderr"):
        stream = io.TextIOWrapper(
            open(1, "wb", closefd=False, buffering=0), encoding="utf-8", errors="backslashreplace", write_through=True
        )
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def _forget_state() -> None:
    """Drop what a new interpreter would not have: exit handlers, signal handlers, log handlers, the loaded seed."""
    atexit._clear()
    weakref.finalize._registry.clear()  # type: ignore[attr-defined]
    weakref.finalize._registered_with_atexit = False  # type: ignore[attr-defined]
    atexit.register(logging.shutdown)
    logging.root.handlers.clear()
    logging.root.setLevel(logging.WARNING)
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, signal.SIGPIPE, signal.SIGXFSZ}:
        with contextlib.suppress(OSError, ValueError):
            signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if "numpy.random" in sys.modules:
        sys.modules["numpy.random"].seed()
    gc.enable()


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
