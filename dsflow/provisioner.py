"""Kernels by fork for other programs: a provisioner of jupyter_client, which papermill and nbclient find by its name.

A kernel spec asks for it in its metadata: `"kernel_provisioner": {"provisioner_name": "dsflow-fork"}`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jupyter_client.provisioning.local_provisioner import LocalProvisioner

from dsflow import forking
from dsflow.forked_kernel import fork_kernel, load

_LAUNCH = ["-m", "ipykernel_launcher", "-f"]


class ForkedProvisioner(LocalProvisioner):
    """Makes an IPython kernel a fork of this process, which has loaded all it needs.

    Where that is unsafe (macOS, another thread in this process) or the kernel spec starts something else, the kernel
    is started as usual.
    """

    _ready: int | None = None

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> Any:
        """Start the kernel; give how it is reached."""
        plain = cmd[0] == sys.executable and [word for word in cmd[1:-1] if not word.startswith("-X")] == _LAUNCH
        if not (plain and forking.is_safe()):
            return await super().launch_kernel(cmd, **kwargs)
        self._fork(cmd[-1], kwargs.get("cwd") or ".", kwargs.get("env") or os.environ)
        return self.connection_info

    async def cleanup(self, restart: bool = False) -> None:
        """Let go of what belongs to the kernel."""
        self._close()
        await super().cleanup(restart)

    def _fork(self, connection_file: str, cwd: str, environment: Mapping[str, str]) -> None:
        load()
        self._close()
        process, self._ready = fork_kernel(Path(connection_file).absolute(), Path(cwd), environment, 2, heartbeat=True)
        self.process, self.pid, self.pgid = process, process.pid, process.pid  # type: ignore[assignment]

    def _close(self) -> None:
        if self._ready is not None:
            os.close(self._ready)
            self._ready = None
