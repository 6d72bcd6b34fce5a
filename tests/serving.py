"""A real server of a workspace, as a process of its own, to write tests with."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

from dsflow.serve.client import Client, Event, Refused
from dsflow.serve.ledger import Entry, Ledger
from dsflow.serve.places import Places
from dsflow.workspace import Workspace

DS = "2013-01-01"
# Quick; fails; goes on until it is stopped; goes on whatever one asks of it; counts how often it began.
JOBS = {
    "jobs/quick/job_specs.yaml": """
        version: 1
        kind: script
        output: {raw: quick}
        parameters: {city: paris, api_token: unknown}
        """,
    "jobs/quick/main.sh": 'echo "in $2"; echo "token $3"; echo x > "$1/x"\n',
    "jobs/broken/job_specs.yaml": "version: 1\nkind: script\noutput: {raw: broken}\n",
    "jobs/broken/main.sh": "echo before; exit 7\n",
    "jobs/endless/job_specs.yaml": "version: 1\nkind: script\noutput: {raw: endless}\n",
    "jobs/endless/main.sh": 'echo begun; echo x > "$1/x"; while true; do sleep 0.1; done\n',
    "jobs/stubborn/job_specs.yaml": "version: 1\nkind: script\noutput: {raw: stubborn}\n",
    "jobs/stubborn/main.sh": "trap '' TERM INT; echo begun; while true; do sleep 0.1; done\n",
    "jobs/checked/job_specs.yaml": """
        version: 1
        kind: sql
        output: {table: checked}
        expectations: [{name: none, constraint: "n < 0"}]
        """,
    "jobs/checked/q.sql": "SELECT 1 AS n",
    "jobs/page/job_specs.yaml": "version: 1\nkind: dashboard\n",
    "jobs/page/page.py": "",
}


def until(condition: Callable[[], object], seconds: float = 120) -> None:
    """Wait for something that will be; the limit is only there to end a test that fails."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


class Served:
    """A workspace with its server."""

    def __init__(self, workspace: Workspace, *options: str) -> None:
        self.workspace = workspace
        self.places = Places.of(workspace)
        self.client = Client.of(self.places.door)
        self._options = options
        self.process = self.start()

    def start(self) -> subprocess.Popen[str]:
        """Start the server, and wait until it answers."""
        command = [sys.executable, "-P", "-m", "dsflow", "-C", str(self.workspace.root), "serve", *self._options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        until(lambda: self.answers() or self.process.poll() is not None)
        if self.process.poll() is not None:
            raise AssertionError(self.process.communicate()[0])
        return self.process

    def answers(self) -> bool:
        """Say whether it answers."""
        with contextlib.suppress(Refused):
            return bool(self.client.health()["status"] == "ok")
        return False

    def kill(self) -> None:
        """End the server at once, as if the power had gone for it alone."""
        self.process.kill()
        self.process.communicate()

    def stop(self) -> str:
        """End the server in order, and give what it printed."""
        self.process.terminate()
        return self.process.communicate(timeout=120)[0]

    def entry(self, run: str) -> Entry:
        """Give what the server keeps of a run."""
        return Entry.read(self.places.runs / run)

    def end_all(self) -> None:
        """Leave nothing behind, whatever a test did."""
        if self.process.poll() is None:
            self.stop()
        for entry in Ledger(self.places.runs).entries():
            if (pid := entry.keeper()) is not None:
                with contextlib.suppress(psutil.Error):
                    psutil.Process(pid).kill()

    def await_log(self, run: str, text: str) -> None:
        """Wait until a run has printed a line."""
        until(lambda: text in [event.data["text"] for event in self.told(run) if event.kind == "log"])

    def told(self, run: str) -> list[Event]:
        """Give what has happened to a run so far, from the file that the server reads."""
        import json

        return [Event(each.position, each.kind, json.loads(each.data)) for each in self.entry(run).happenings(0)]

    def processes_of(self, run: str) -> list[psutil.Process]:
        """Give the processes that are there for a run: its keeper, its shim, its code."""
        ids = {run, *self.entry(run).state().run_ids}
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                words = " ".join(process.cmdline())
                if process.environ().get("DSFLOW_RUN_ID") in ids or any(each in words for each in ids):
                    found.append(process)
        return [process for process in found if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]


@contextlib.contextmanager
def serving(workspace: Workspace, *options: str) -> Iterator[Served]:
    """Serve a workspace for as long as this lasts."""
    served = Served(workspace, *options)
    try:
        yield served
    finally:
        served.end_all()


def published(workspace: Workspace) -> list[str]:
    """Give the partitions of raw datasets."""
    return sorted(str(path.relative_to(workspace.datastore / "raw")) for path in datastore_raw(workspace.datastore))


def datastore_raw(datastore: Path) -> Iterator[Path]:
    """Give the folders of partitions of raw datasets."""
    return datastore.glob("raw/*/ds=*")
