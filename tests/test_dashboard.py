"""Dashboards in the process runtime: in the foreground, until Ctrl-C, and then nothing of them is left."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.conftest import MakeWorkspace, Screen

Dsflow = Callable[..., Screen]
DASHBOARD = """
    import http.server, os, subprocess, sys

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"delays of the day")

    if len(sys.argv) == 1:
        # As the reloader of a web framework does: the server is a child of the program.
        sys.exit(subprocess.run([sys.executable, __file__, "serve"]).returncode)
    address = os.environ["DSFLOW_HOST"], int(os.environ["DSFLOW_PORT"])
    server = http.server.ThreadingHTTPServer(address, Handler)
    print("serving", flush=True)
    server.serve_forever()
    """
FILES = {"jobs/delays/job_specs.yaml": "version: 1\nkind: dashboard\n", "jobs/delays/delays.py": DASHBOARD}


@pytest.fixture(autouse=True)
def _in_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DSFLOW_RUNTIME", "process")


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number: int = probe.getsockname()[1]
        return number


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield other.getsockname()[1]


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        # What the kernel still remembers of ended connections does not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return True
        return False


def start(root: Path, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-u", "-m", "dsflow", "run", "delays", *options]
    return subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def lines_until(process: subprocess.Popen[str], words: str) -> list[str]:
    assert process.stdout is not None
    seen = []
    for line in process.stdout:
        seen.append(line.rstrip("\n"))
        if words in line:
            return seen
    pytest.fail(f"{words!r} never came: {seen}")


def processes_of(run_id: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get("DSFLOW_RUN_ID") == run_id or run_id in " ".join(process.cmdline()):
                found.append(process)
    return found


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "terminated"])
def test_7_1_24_it_says_where_it_is_and_ctrl_c_ends_it_and_leaves_nothing(
    make_workspace: MakeWorkspace, port: int, number: int
) -> None:
    workspace = make_workspace(FILES)
    process = start(workspace.root, "--port", str(port))
    try:
        seen = lines_until(process, "serving")
        assert f"dashboard: http://localhost:{port}/ (Ctrl-C ends it)" in seen
        with urllib.request.urlopen(f"http://localhost:{port}/", timeout=30) as answer:
            assert answer.read() == b"delays of the day"
        folder = next((workspace.datastore / "job_runs/delays").glob("ds=*/*"))
        assert len(processes_of(folder.name)) >= 3  # the shim, the program, its server
        process.send_signal(number)
        output, _ = process.communicate(timeout=60)
        assert process.returncode == 0, output
        assert "Done. OK=1" in output
    finally:
        process.kill()
        process.communicate()
    assert processes_of(folder.name) == []
    assert is_free(port)
    assert json.loads((folder / "outcome.json").read_text())["status"] == "succeeded"
    assert {path.name for path in folder.iterdir()} == {"task.json", "outcome.json", "log.txt", "index.html"}
    staging = workspace.datastore / ".dsflow" / "staging"
    assert not staging.exists() or list(staging.iterdir()) == []


def test_a_taken_port_is_named_and_another_one_offered(
    make_workspace: MakeWorkspace, dsflow: Dsflow, taken: int
) -> None:
    workspace = make_workspace(FILES)
    screen = dsflow("run", "delays", "--port", str(taken))
    assert screen.exit_code == 4
    assert f"port {taken} is taken by another program" in screen.err
    offered = int(screen.err.rpartition("--port ")[2].split("`")[0])
    assert offered != taken
    assert is_free(offered)
    assert not (workspace.datastore / "job_runs").exists()


def test_the_last_port_of_all_has_no_next_one(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    make_workspace(FILES)
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", 65535))
        other.listen()
        screen = dsflow("run", "delays", "--port", "65535")
    assert screen.exit_code == 4
    assert "65535 is taken" in screen.err
    assert "65536" not in screen.err


def test_the_port_of_the_workspace_is_the_default(make_workspace: MakeWorkspace, dsflow: Dsflow, taken: int) -> None:
    make_workspace({**FILES, "dsflow.yml": f"version: 1\nports: {{dash: {taken}}}\n"})
    assert f"port {taken} is taken" in dsflow("run", "delays").err


def test_an_application_that_ends_in_an_error_is_a_failure(
    make_workspace: MakeWorkspace, dsflow: Dsflow, port: int
) -> None:
    code = "import os\nprint(os.environ['DSFLOW_HOST'])\nlayout = {}\nlayout['graph']\n"
    make_workspace({**FILES, "jobs/delays/delays.py": code})
    screen = dsflow("run", "delays", "--port", str(port))
    assert screen.exit_code == 1
    assert "127.0.0.1" in screen.out
    assert "delays.py, line 4: layout['graph']" in screen.out
    assert "KeyError: 'graph'" in screen.out
