"""A Jupyter kernel for one run, started by fork where that is safe.

A new interpreter that imports ipykernel costs more than running a small notebook. Importing this module loads
ipykernel, and `Kernel.start` forks (`dsflow.forked_kernel`). Where that is unsafe (macOS, threads in this process) or
impossible (other languages) the kernel is started as usual, and a job cannot tell the difference.

jupyter_client asks its questions again and again until a kernel is ready or gone. Here the child reports through a
pipe when its sockets are bound, and the end of a kernel is waited for, so nothing sleeps longer than it must.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from queue import Empty
from typing import Any, cast

import zmq
from jupyter_client.asynchronous.client import AsyncKernelClient
from jupyter_client.kernelspec import KernelSpec, NoSuchKernel
from jupyter_client.manager import AsyncKernelManager
from jupyter_client.provisioning.local_provisioner import LocalProvisioner
from jupyter_core.utils import ensure_async, run_sync

from dsflow import forking, lending
from dsflow.errors import EnvironmentMissing, KernelDied
from dsflow.forked_kernel import GREETS, fork_kernel
from dsflow.lending import borrow_kernel

PYTHON = "python3"
_START_SECONDS = 60.0
_GRACE_SECONDS = 5.0
# A socket's path must fit into 108 bytes, and jupyter_client adds `-1` to `-5`.
_LONGEST_FOLDER = 80
_LAST_LINES = 60
# A kernel in a new interpreter. ipykernel drops outputs that come faster than they are fetched; a job must lose none.
_PLAIN = """
import sys
sys.path[:] = [entry for entry in sys.path if entry]
import zmq
from ipykernel.kernelapp import IPKernelApp

class App(IPKernelApp):
    def init_iopub(self, context):
        context.setsockopt(zmq.SNDHWM, 0)
        super().init_iopub(context)

App.launch_instance()
"""


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
        except BaseException as error:
            shutil.rmtree(folder)
            if not isinstance(error, NoSuchKernel):
                raise
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
        """Give the report of a crashed interpreter, or the end of what else it printed past its cells."""
        with contextlib.suppress(OSError):
            lines = (self._folder / "log.txt").read_text(encoding="utf-8", errors="replace").splitlines()
            crashes = [number for number, line in enumerate(lines) if line.startswith("Fatal Python error")]
            first = crashes[-1] if crashes else max(0, len(lines) - _LAST_LINES)
            return "\n".join(lines[first : first + _LAST_LINES])
        return ""

    def _await_report(self, ready: int) -> None:
        readable, _, _ = select.select([ready], [], [], _START_SECONDS)
        if not (readable and os.read(ready, 1)):
            raise KernelDied(f"the kernel did not start ({self.ending()})", traceback=self.last_words())

    async def _answered(self) -> None:
        """Wait until the kernel hears us, and we hear everything it says: that it welcomes us, or answers in full."""
        assert self.client is not None
        # A forked kernel listens already.
        if GREETS and self._ready is not None and await _welcomed(self.client):
            return
        deadline = time.monotonic() + _START_SECONDS
        while not await _heard(self.client, self.client.kernel_info()):
            if not self._running() or time.monotonic() > deadline:
                raise KernelDied(f"the kernel did not start ({self.ending()})", traceback=self.last_words())

    def _running(self) -> bool:
        return _process(self.manager).poll() is None

    def _ended_within(self, seconds: float) -> bool:
        deadline, pause = time.monotonic() + seconds, 0.0005
        if self._running() and sys.platform == "linux":
            # Readable when the process has ended. One that is reaped already says so itself in a moment.
            with contextlib.suppress(ProcessLookupError):
                number = os.pidfd_open(self.pid)
                select.select([number], [], [], seconds)
                os.close(number)
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
    await ensure_async(manager.cleanup_resources())


async def _welcomed(client: AsyncKernelClient) -> bool:
    """Say whether the kernel has greeted us by now."""
    with contextlib.suppress(Empty):
        message = await client.get_iopub_msg(timeout=0.1)
        return bool(message["msg_type"] == "iopub_welcome")
    return False


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
    if manager.kernel_name == PYTHON and (lending.lender is not None or fork_is_safe()):
        manager._kernel_spec = KernelSpec(display_name="Python 3", language="python")
        manager.write_connection_file()
        with log.open("ab") as output:
            start = fork_kernel if lending.lender is None else borrow_kernel
            process, ready = start(Path(manager.connection_file), cwd, environment, output.fileno())
        provisioner = LocalProvisioner(kernel_id="forked", kernel_spec=manager.kernel_spec, parent=manager)
        provisioner.process, provisioner.pid, provisioner.pgid = cast(Any, process), process.pid, process.pid
        provisioner.connection_info = manager.get_connection_info()
        manager.provisioner = provisioner
        return ready
    if manager.kernel_name == PYTHON:
        argv = [sys.executable, "-c", _PLAIN, "-f", "{connection_file}"]
        manager._kernel_spec = KernelSpec(argv=argv, display_name="Python 3", language="python")
    with log.open("wb") as output:
        run_sync(manager.start_kernel)(cwd=str(cwd), env=dict(environment), stdout=output, stderr=output)
    return None


def _process(manager: AsyncKernelManager) -> Any:
    assert isinstance(manager.provisioner, LocalProvisioner)
    return manager.provisioner.process


def fork_is_safe() -> bool:
    """Say whether this process may fork a kernel: on Linux, and without any other thread, native ones included."""
    return forking.is_safe()
