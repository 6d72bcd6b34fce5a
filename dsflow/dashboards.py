"""Keeps a dashboard there for as long as its service lasts: `python -m dsflow.dashboards FOLDER`.

The dashboard is a program of its own. It starts again when a file of its job changes, and with the next partition, so
that `today` stays today. While there is none, because its code has an error, a page in its place says so.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import html
import http
import http.server
import itertools
import json
import os
import re
import signal
import stat
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from dsflow import model
from dsflow.durable import write_text
from dsflow.errors import DsflowError
from dsflow.kinds.contract import Work
from dsflow.kinds.registry import kind_of
from dsflow.masking import Masker
from dsflow.model import Task
from dsflow.partitions import ds_of, end_of, start_of
from dsflow.site import Site

_LOOK_SECONDS = 0.5
_GRACE_SECONDS = 5
_FIRST_PAUSE, _LONGEST_PAUSE = 2.0, 60.0
# One that ran for so long is no error of the code: something else ended it.
_RAN_WELL_SECONDS = 30
# A job's folder that holds more has data in it; the first ones do.
_MOST_FILES = 2000
_LAST_LINES = 15
_LEFT_BESIDE = re.compile(r"/(\.|__pycache__)")
# What Dash does only if asked: the page in the browser loads itself again when the program is another one.
_RELOADING = {
    "DASH_HOT_RELOAD": "1",
    "DASH_HOT_RELOAD_INTERVAL": "1",
    "DASH_HOT_RELOAD_MAX_RETRY": "1000000",
    # The files are watched here.
    "DASH_HOT_RELOAD_WATCH_INTERVAL": "86400",
}
_PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><meta http-equiv="refresh" content="2">
<title>{job}</title></head><body style="font-family: sans-serif; max-width: 60rem; margin: 2rem auto">
<h1>{job}</h1><p>This dashboard does not run:</p><pre style="white-space: pre-wrap">{reason}</pre>
<p>It starts again when a file of the job changes, and tries again by itself.</p></body></html>"""


class Stop(BaseException):
    """The service is to end."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Keep the dashboard of a service's folder running until SIGTERM or SIGINT."""
    folder = Path((sys.argv[1:] if arguments is None else arguments)[0])
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop)
    try:
        Keeper.of(folder, os.environ).keep()
    except Stop:
        sys.exit(0)


def _stop(*_: object) -> None:
    # A second signal must not interrupt what ends the program.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    raise Stop


@dataclass
class Log:
    """Lines for whoever reads the service's log; nothing secret gets into it."""

    mask: Masker

    def say(self, text: str) -> None:
        """Print one line."""
        sys.stdout.write(self.mask(text) + "\n")
        sys.stdout.flush()

    def progress(self, done: int, total: int) -> None:
        """Say nothing: a dashboard is never done."""


@dataclass(frozen=True)
class Keeper:
    """One dashboard and where it serves.

    Attributes:
        folder: The service's own folder: `task.json`, perhaps `private.json`; `run/` is the program's run folder.
        task: What runs, for the day when the service was started.
        data: The datastore.
        jobs: The folder of the jobs.
        address: Host and port.
        secrets: The values of the task's secret parameters.
    """

    folder: Path
    task: Task
    data: Path
    jobs: Path
    address: tuple[str, int]
    secrets: Mapping[str, Any]

    @classmethod
    def of(cls, folder: Path, environment: Mapping[str, str]) -> Keeper:
        """Read what the host has left in the folder; the variables of `private.json` become those of this process."""
        task = model.from_json(Task, (folder / "task.json").read_text(encoding="utf-8"))
        private: dict[str, dict[str, Any]] = {}
        with contextlib.suppress(FileNotFoundError):
            private = json.loads((folder / "private.json").read_text(encoding="utf-8"))
        os.environ.update(private.get("environment", {}))
        host, port = environment.get("DSFLOW_HOST", "127.0.0.1"), int(environment["DSFLOW_PORT"])
        return cls(
            folder=folder,
            task=dataclasses.replace(task, port=port),
            data=Path(environment["DSFLOW_DATA"]),
            jobs=Path(environment["DSFLOW_JOBS"]),
            address=(host, port),
            secrets=private.get("secrets", {}),
        )

    def keep(self) -> NoReturn:
        """Run the dashboard, again and again; one that fails at its very first start ends the service."""
        log = Log(Masker.of(os.environ, self.secrets))
        pause, first = _FIRST_PAUSE, True
        while True:
            task, watch, began = self.task_of_now(), Watch(self._state), time.monotonic()
            status = http.HTTPStatus.SERVICE_UNAVAILABLE
            try:
                work = self._work(task, watch, log)
            except DsflowError as error:
                # Data that is not there yet: a page that says so is what this dashboard has to show.
                reason, status, first = _told(error), http.HTTPStatus.OK, False
            else:
                reason = self._run(work, watch)
            if watch.look():
                log.say(f"{task.job} has changed: starting it again")
                pause, first = _FIRST_PAUSE, False
                continue
            log.say(f"{task.job} does not run: {reason.splitlines()[0]}")
            if time.monotonic() - began > _RAN_WELL_SECONDS:
                pause, first = _FIRST_PAUSE, False
            if first:
                sys.exit(1)
            with self._in_its_place(log.mask(reason), status):
                watch.wait(pause)
            pause = _FIRST_PAUSE if watch.look() else min(pause * 2, _LONGEST_PAUSE)

    def _work(self, task: Task, watch: Watch, log: Log) -> Work:
        """Give what the program needs.

        Raises:
            JobFailed: a declared input is not there.
        """
        run_folder = self.folder / "run"
        run_folder.mkdir(exist_ok=True)
        (run_folder / "reads.jsonl").unlink(missing_ok=True)
        write_text(run_folder / "task.json", model.to_json(task))
        site = Site(task=task, run_folder=run_folder, data=self.data, jobs=self.jobs, secrets=self.secrets)
        work = site.work(None, log, watch.end_on_change)
        return dataclasses.replace(work, environment={**work.environment, **_RELOADING})

    def _run(self, work: Work, watch: Watch) -> str:
        """Run the program until it ends, or is ended because something has changed, and give the reason."""
        try:
            kind_of(work.task.kind).run(work)
            return "its program has ended by itself"
        except DsflowError as error:
            return _told(error)
        finally:
            watch.stop()

    def task_of_now(self) -> Task:
        """Give the task with the ds of now; what was resolved for the first day stays with it."""
        if self.task.inputs or self.task.legacy:
            return self.task
        ds, grain = ds_of(dt.datetime.now(), self.task.grain), self.task.grain
        start, end = start_of(ds, grain).isoformat(), end_of(ds, grain).isoformat()
        return dataclasses.replace(self.task, ds=ds, start=start, end=end)

    def _state(self) -> object:
        """Give what makes the program another one when it changes: the files of the job, and the partition of now."""
        return self.task_of_now().ds, sorted(_files(self.jobs / self.task.job))

    @contextlib.contextmanager
    def _in_its_place(self, reason: str, status: http.HTTPStatus) -> Iterator[None]:
        """Answer where the dashboard would, while it does not."""
        page = _PAGE.format(job=html.escape(self.task.job), reason=html.escape(reason)).encode()

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(status)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.send_header("Content-Length", str(len(page)))
                self.end_headers()
                self.wfile.write(page)

            def log_message(self, format: str, *args: Any) -> None:
                """Keep requests out of the log."""

        try:
            server = http.server.ThreadingHTTPServer(self.address, Handler)
        except OSError:
            # Something else has the port; the log has the reason.
            yield
            return
        with server:
            answering = threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True)
            answering.start()
            try:
                yield
            finally:
                server.shutdown()


class Watch:
    """Looks for a change, and ends a program when there is one.

    Args:
        state: Gives something that compares unequal after a change.
    """

    def __init__(self, state: Any) -> None:
        self._state = state
        self._before = state()
        self._stopped = threading.Event()
        self._changed = False

    def wait(self, seconds: float) -> None:
        """Wait for a change, at most for so long."""
        for _ in range(int(seconds / _LOOK_SECONDS)):
            if self.look():
                return
            time.sleep(_LOOK_SECONDS)

    def end_on_change(self, pid: int) -> None:
        """End the program and its group when something changes; watches until `stop`."""
        threading.Thread(target=self._end_on_change, args=(pid,), daemon=True).start()

    def stop(self) -> None:
        """Watch no longer: the program has ended."""
        self._stopped.set()

    def look(self) -> bool:
        """Say whether something has changed."""
        self._changed = self._changed or self._state() != self._before
        return self._changed

    def _end_on_change(self, pid: int) -> None:
        while not self._stopped.wait(_LOOK_SECONDS):
            if self.look():
                for number in (signal.SIGTERM, signal.SIGKILL):
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(pid, number)
                    if self._stopped.wait(_GRACE_SECONDS):
                        return


def _files(folder: Path) -> Iterator[tuple[str, int, int]]:
    """Give name, time and size of a folder's files, without what programs leave beside them."""
    own = (path for path in folder.rglob("*") if not _LEFT_BESIDE.search(str(path.relative_to(folder.parent))))
    for path in itertools.islice(own, _MOST_FILES):
        with contextlib.suppress(OSError):
            seen = path.stat()
            if not stat.S_ISDIR(seen.st_mode):
                yield str(path), seen.st_mtime_ns, seen.st_size


def _told(error: DsflowError) -> str:
    """Give what went wrong as its author wants to see it: where, what, and the program's last words."""
    place = f"{error.place}: " if error.place else ""
    lines = [f"{place}{error.message}", error.hint, *error.traceback.splitlines()[-_LAST_LINES:]]
    return "\n".join(line for line in lines if line)


if __name__ == "__main__":
    main()
