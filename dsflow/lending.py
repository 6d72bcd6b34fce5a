"""Processes that another one forks for this one, which has threads by now or had a task before: kernels of notebooks.

The nursery forks them as it forks the shims, from what it has loaded and nothing else. It waits for them, says how they
ended, and kills them when the one that they were made for is gone.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
from collections.abc import Mapping
from pathlib import Path

from dsflow.messages import receive, send

# To the nursery, in a process that it made and that may ask it.
lender: socket.socket | None = None


class Lent:
    """A process whose parent is the nursery, with the part of `subprocess.Popen` that jupyter_client uses.

    Args:
        pid: Its number.
        ended: The reading end of a pipe that brings its exit code.
    """

    stdin = stdout = stderr = None

    def __init__(self, pid: int, ended: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._ended = ended

    def poll(self) -> int | None:
        """Give the exit code, negative for a signal, or None while it runs."""
        return self._heard(0)

    def wait(self) -> int:
        """Wait for the end and give the exit code."""
        code = self._heard(None)
        assert code is not None
        return code

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def _heard(self, seconds: float | None) -> int | None:
        if self.returncode is None and select.select([self._ended], [], [], seconds)[0]:
            report = os.read(self._ended, 100)
            # Without a report the nursery is gone, and the system has killed what it forked.
            self.returncode = json.loads(report)["code"] if report else -signal.SIGKILL
            os.close(self._ended)
        return self.returncode


def borrow_kernel(connection_file: Path, cwd: Path, environment: Mapping[str, str], output: int) -> tuple[Lent, int]:
    """Have the nursery fork a kernel; what is given and returned is as for `dsflow.forked_kernel.fork_kernel`.

    Raises:
        OSError: the nursery is gone, or cannot fork.
    """
    assert lender is not None
    with contextlib.ExitStack() as theirs:
        ready, report = os.pipe()
        theirs.callback(os.close, report)
        ended, code = os.pipe()
        theirs.callback(os.close, code)
        message = {"kernel": str(connection_file), "cwd": str(cwd), "environment": dict(environment)}
        send(lender, message, [report, output, code])
    answer = receive(lender)
    if answer is None or "pid" not in answer[0]:
        os.close(ready)
        os.close(ended)
        raise OSError(answer[0]["problem"] if answer else "the warm process is gone")
    return Lent(answer[0]["pid"], ended), ready
