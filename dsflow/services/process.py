"""Services as processes of this machine, each in a session of its own with everything that it starts.

A process is found by its id and the moment it started, since an id is used again; and where the record of it is lost,
by a mark in its environment.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import signal as signals
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from dsflow import environments
from dsflow.errors import EnvironmentMissing
from dsflow.services import records
from dsflow.services.contract import MARK, FormName, Found, Launch, Made, Notify, Service, Shell, make_private
from dsflow.workspace import Workspace

# A clock that is set moves the moments at which processes seem to have started.
_SAME_MOMENT = 2.0
_PAUSE = 0.05
_PATIENCE_WITH_THE_KILLED = 5.0
# Of another Python than the one that is started.
_FOREIGN = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "PYTHONSTARTUP")
# The processes that this one has started, so that their ends can be told.
_children: dict[int, subprocess.Popen[bytes]] = {}


class AsProcess:
    """The form that runs a service as a process of the caller."""

    name: FormName = "process"

    def offers(self, service: Service) -> str | None:
        """Give None when its `service.yaml` says how."""
        process = service.spec.process
        if process is None:
            return f"{service.name} has no `process` in its service.yaml"
        return None if process.command or service.spec.command else f"{service.name} has no `command`"

    def paths(self, service: Service) -> Mapping[str, str]:
        """Give the paths of this machine."""
        root = Path(os.path.abspath(service.workspace.root))
        return {"workspace": str(root), "here": str(service.folder.absolute()), "state": str(service.state.absolute())}

    def make(self, service: Service, notify: Notify, *, rebuild: bool) -> Made:
        """Install what it requires: a locked file in an environment of its own, a list on top of dsflow's."""
        assert service.spec.process is not None
        wanted = service.spec.process.requirements
        if isinstance(wanted, str):
            lock = service.folder / wanted
            if not lock.is_file():
                raise EnvironmentMissing(f"{lock} is not there", "`process.requirements` in service.yaml names it.")
            made = environments.locked(lock, notify)
        else:
            made = environments.environment_for(wanted, notify) if wanted else environments.current()
        return Made(identity=made.lock_hash, python=made.python)

    def find(self, workspace: Workspace) -> list[Found]:
        """Look at the processes that the records name, and for those of which there is no record."""
        known = records.read(workspace, self.name)
        found = {name: _found(name, record, _alive(workspace, name, record)) for name, record in known.items()}
        for name, process in _marked(workspace).items():
            # Whoever started it was killed before it could write down which process it is.
            if "pid" not in known.get(name, {}):
                found[name] = _found(name, known.get(name, {}), process)
        return list(found.values())

    def look(self, workspace: Workspace, found: Found) -> Found | None:
        """Look at the process of its record."""
        record = records.read(workspace, self.name).get(found.name, {})
        if "pid" not in record:
            return next((now for now in self.find(workspace) if now.name == found.name), None)
        return _found(found.name, record, _alive(workspace, found.name, record))

    def start(self, launch: Launch) -> Found:
        """Start it in a session of its own, its output in the log."""
        service, workspace = launch.service, launch.service.workspace
        make_private(workspace, service.state)
        log = records.log_file(workspace, service.name)
        if log.exists():
            log.replace(log.with_suffix(".log.1"))
        record: dict[str, Any] = {
            "form": self.name, "kind": service.spec.name, "names": dict(service.names), "port": launch.place.port,
            "address": launch.place.address, "config_hash": launch.config_hash, "started": time.time(),
        }  # fmt: skip
        # Before the process: whoever comes after a kill between the two finds it by its mark, and this about it.
        records.write(workspace, service.name, record)
        try:
            process = _spawn(launch, log)
        except BaseException:
            records.forget(workspace, service.name)
            raise
        with contextlib.suppress(psutil.Error):
            record |= {"pid": process.pid, "created": psutil.Process(process.pid).create_time()}
        records.write(workspace, service.name, record)
        return next(found for found in self.find(workspace) if found.name == service.name)

    def stop(self, workspace: Workspace, found: Found, signal: str, patience: float) -> None:
        """Signal the process itself; when it has ended, or in time, kill what is left of all it has started."""
        _end(workspace, found, signals.Signals[f"SIG{signal}"], patience)
        records.forget(workspace, found.name)

    def lines(self, workspace: Workspace, found: Found, *, follow: bool = False) -> Iterator[str]:
        """Read the log."""
        rest = b""
        with contextlib.suppress(FileNotFoundError), records.log_file(workspace, found.name).open("rb") as file:
            while True:
                # Asked before reading: what it wrote until it ended is then read for sure.
                over = not follow or not _is_running(found.id)
                while piece := file.read(1 << 16):
                    *whole, rest = (rest + piece).split(b"\n")
                    yield from (line.decode("utf-8", "replace").rstrip("\r") for line in whole)
                if over:
                    break
                time.sleep(_PAUSE * 4)
        if rest:
            yield rest.decode("utf-8", "replace")

    def shell(self, workspace: Workspace, found: Found, command: Sequence[str]) -> Shell:
        """Start a shell with the environment of the service."""
        with contextlib.suppress(psutil.Error):
            environment = psutil.Process(int(found.id)).environ()
            environment.pop(MARK, None)
            return Shell(command=tuple(command) or (os.environ.get("SHELL") or "sh",), environment=environment)
        raise EnvironmentMissing(f"{found.name} has ended", f"`dsflow start {found.name}` starts it again.")

    def sweep(self, workspace: Workspace) -> None:
        """Nothing is shared between processes."""


def _spawn(launch: Launch, log: Path) -> subprocess.Popen[bytes]:
    service, python = launch.service, Path(launch.made.python)
    inherited = {name: value for name, value in os.environ.items() if name not in _FOREIGN}
    # Its own programs first; then those beside dsflow, so that `dsflow` itself is one of them.
    path = [str(python.parent), str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]
    own = {
        "PATH": os.pathsep.join(path), "PYTHONPATH": str(environments.package_path()), "PYTHONUNBUFFERED": "1",
        "DSFLOW_WORKSPACE": os.path.abspath(service.workspace.root), MARK: _mark(service.workspace, service.name),
    }  # fmt: skip
    environment = {**inherited, **own, **launch.environment}
    # `python` and the programs installed with it are those of the environment, wherever PATH led before.
    program = shutil.which(launch.command[0], path=environment["PATH"])
    if program is None:
        raise EnvironmentMissing(
            f"{service.name}: there is no program {launch.command[0]!r}", "`process.command` in service.yaml names it."
        )
    with open(log, "wb", opener=lambda name, flags: os.open(name, flags, 0o600)) as output:
        process = subprocess.Popen(
            [program, *launch.command[1:]], cwd=service.workspace.root, env=environment, stdin=subprocess.DEVNULL,
            stdout=output, stderr=subprocess.STDOUT, start_new_session=True, preexec_fn=_hear_signals,  # noqa: PLW1509
        )  # fmt: skip
    _children[process.pid] = process
    return process


@atexit.register
def _let_go() -> None:
    """Leave them to themselves without the warning that a process which is forgotten would cause."""
    for process in _children.values():
        if process.poll() is None:
            process.returncode = 0


def _hear_signals() -> None:
    """A shell that starts dsflow in the background lets it ignore these, and so would everything started here."""
    for number in (signals.SIGINT, signals.SIGQUIT, signals.SIGTERM, signals.SIGHUP):
        signals.signal(number, signals.SIG_DFL)


def _mark(workspace: Workspace, name: str) -> str:
    return f"{workspace.key}/{name}"


def _alive(workspace: Workspace, name: str, record: Mapping[str, Any]) -> psutil.Process | None:
    """Give the process of a record, if it is still that one."""
    pid, created = record.get("pid"), record.get("created")
    if not isinstance(pid, int) or not isinstance(created, int | float):
        return None
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        same = abs(process.create_time() - created) < _SAME_MOMENT or _mark_of(process) == _mark(workspace, name)
        return process if same and _goes_on(process) else None
    return None


def _marked(workspace: Workspace) -> dict[str, psutil.Process]:
    """Give the oldest process of each service of a workspace, by their marks."""
    found: dict[str, psutil.Process] = {}
    for process in _all_marked(workspace):
        name = _mark_of(process).partition("/")[2]
        with contextlib.suppress(psutil.Error):
            if name not in found or process.create_time() < found[name].create_time():
                found[name] = process
    return found


def _all_marked(workspace: Workspace) -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        if process.pid != os.getpid() and _mark_of(process).partition("/")[0] == workspace.key:
            with contextlib.suppress(psutil.Error):
                if _goes_on(process):
                    yield process


def _mark_of(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error, OSError):
        return process.environ().get(MARK, "")
    return ""


def _goes_on(process: psutil.Process) -> bool:
    return process.status() != psutil.STATUS_ZOMBIE


def _found(name: str, record: Mapping[str, Any], process: psutil.Process | None) -> Found:
    port, names, pid = record.get("port"), record.get("names"), record.get("pid")
    return Found(
        name=name,
        kind=str(record.get("kind", name)),
        names=names if isinstance(names, dict) else {},
        form="process",
        status="running" if process else "ended",
        id=str(process.pid if process else pid or ""),
        config_hash=str(record.get("config_hash", "")),
        address=str(record.get("address", "")),
        port=port if isinstance(port, int) else None,
        started=float(record.get("started", 0.0)),
        cause="" if process else _cause(pid),
    )


def _cause(pid: object) -> str:
    child = _children.get(pid) if isinstance(pid, int) else None
    code = child.poll() if child else None
    if code is None:
        return "its process has ended"
    return f"it ended with exit code {code}" if code >= 0 else f"it was ended by signal {-code}"


def _is_running(pid: str) -> bool:
    with contextlib.suppress(psutil.Error, ValueError):
        return _goes_on(psutil.Process(int(pid)))
    return False


def _end(workspace: Workspace, found: Found, number: signals.Signals, patience: float) -> None:
    """End the process, and whatever it has started that is its child, in its session, or carries its mark."""
    family: list[psutil.Process] = []
    with contextlib.suppress(psutil.Error, ValueError):
        # The id of one that has ended may be that of a stranger by now, and so may its session.
        if found.status == "running":
            process = psutil.Process(int(found.id))
            family = [process, *process.children(recursive=True), *_of_session(process.pid)]
            process.send_signal(number)
            _wait(process, patience)
            # What it has started while it was ending.
            family += _of_session(process.pid)
    mark = _mark(workspace, found.name)
    for left in [*family, *(process for process in _all_marked(workspace) if _mark_of(process) == mark)]:
        with contextlib.suppress(psutil.Error):
            left.kill()
            _wait(left, _PATIENCE_WITH_THE_KILLED)


def _of_session(leader: int) -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if os.getsid(process.pid) == leader and process.pid != os.getpid():
                yield process


def _wait(process: psutil.Process, patience: float) -> None:
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        if process.pid in _children:
            _children[process.pid].poll()
        if not process.is_running() or not _goes_on(process):
            return
        time.sleep(_PAUSE)
