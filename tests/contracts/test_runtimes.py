"""What every runtime does, whichever it is: the same files, the same outcome, the same exit code."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import nbformat
import pytest

from dsflow import prepare, runner
from dsflow.model import Event, LogLine, Outcome, Status
from dsflow.runtimes import process as process_runtime
from dsflow.runtimes.contract import Folders, Needs, identity
from dsflow.runtimes.registry import runtime_of
from dsflow.specs.load import load_workspace
from dsflow.workspace import Workspace
from tests.conftest import MakeWorkspace, Screen, notebook

Dsflow = Callable[..., Screen]
DS = "2013-01-01"
SCRIPT = "version: 1\nkind: script\nmain: main.py\n"
NOTEBOOK = "version: 1\nkind: notebook\nmain: main.ipynb\n"


# `dsflow run` with a runtime that forks a warm process for a single task too, as it does for the tasks of a plan.
WARM = "from dsflow import cli\nfrom dsflow.runtimes import process\nprocess.MANY = 1\ncli.main()"


@pytest.fixture(params=["process", "warm process", pytest.param("docker", marks=pytest.mark.docker)])
def way(request: pytest.FixtureRequest) -> str:
    way: str = request.param
    return way


@pytest.fixture
def runtime(way: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if way == "docker":
        request.getfixturevalue("python_image")
    if way == "warm process":
        monkeypatch.setattr(process_runtime, "MANY", 1)
    name = way.removeprefix("warm ")
    monkeypatch.setenv("DSFLOW_RUNTIME", name)
    return name


def job(name: str, specs: str, code: str) -> dict[str, str | bytes]:
    main = "main.ipynb" if "notebook" in specs else "main.py"
    return {f"jobs/{name}/job_specs.yaml": specs, f"jobs/{name}/{main}": code}


def run_folder(ws: Workspace, name: str) -> Path:
    return max((ws.datastore / "job_runs" / name).glob("ds=*/*/"))


def outcome_of(ws: Workspace, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run_folder(ws, name) / "outcome.json").read_text())
    return found


def own_files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def rows_of(folder: Path) -> list[tuple[object, ...]]:
    return duckdb.connect().execute(f"FROM read_parquet('{folder}/*', hive_partitioning=false)").fetchall()


@pytest.fixture
def started(way: str, runtime: str) -> Iterator[Callable[[Workspace, str], subprocess.Popen[str]]]:
    """Gives a function that starts `dsflow run` in a process of its own, as a shell would."""
    processes: list[subprocess.Popen[str]] = []

    def start(ws: Workspace, name: str, *more: str) -> subprocess.Popen[str]:
        program = ["-c", WARM] if way == "warm process" else ["-m", "dsflow"]
        command = [sys.executable, "-u", *program, "run", name, *more, "--runtime", runtime]
        process = subprocess.Popen(
            command,
            cwd=ws.root,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def read_until(process: subprocess.Popen[str], text: str) -> None:
    assert process.stdout is not None
    seen = ""
    for line in process.stdout:
        seen += line
        if text in line:
            return
    pytest.fail(f"{text!r} never came:\n{seen}")


def wait_for(condition: Callable[[], object], what: str) -> None:
    for _ in range(600):
        with contextlib.suppress(OSError, ValueError):
            if condition():
                return
        time.sleep(0.1)
    pytest.fail(f"not within a minute: {what}")


# ---- the same files and the same outcome


def test_a_notebook_leaves_its_partition_and_its_documents(
    make_workspace: MakeWorkspace, dsflow: Dsflow, runtime: str
) -> None:
    specs = NOTEBOOK + "parameters: {times: 1}\noutput: {table: t}\n"
    cells = ("from dsflow import job", "job.write([{'x': n} for n in range(times)])")
    ws = make_workspace(job("n", specs, notebook(*cells, parameters="times = 1")))
    screen = dsflow("run", "n", DS, "-p", "times=3")
    assert screen.exit_code == 0, screen
    folder = ws.datastore / "tables" / "t" / f"ds={DS}"
    run_id = run_folder(ws, "n").name
    assert own_files(folder) == [f"{run_id}-part-0.parquet"]
    assert rows_of(folder) == [(0,), (1,), (2,)]
    assert own_files(run_folder(ws, "n")) == ["index.html", "log.txt", "notebook.ipynb", "outcome.json", "task.json"]
    outcome = outcome_of(ws, "n")
    manifest = outcome["outputs"][0]["manifest"]
    assert (outcome["status"], outcome["exit_code"]) == ("succeeded", 0)
    assert [file["rows"] for file in manifest["files"]] == [3]
    assert manifest["columns"] == [{"name": "x", "type": "BIGINT"}]
    task = json.loads((run_folder(ws, "n") / "task.json").read_text())
    assert task["facts"]["runtime"] == runtime
    assert bool(task["facts"]["image_id"]) == (runtime == "docker")


def test_a_place_is_known_beforehand_by_what_will_be_recorded(make_workspace: MakeWorkspace, runtime: str) -> None:
    ws = make_workspace({})
    where = runtime_of(runtime)
    folders = Folders(jobs=ws.jobs, datastore=ws.datastore)
    place = where.prepare(Needs(), folders, lambda line: None)
    assert where.identify(Needs(), folders) == identity(runtime, place)
    assert len(identity(runtime, place)) == len(f"{runtime}:") + 16
    assert where.identify(Needs(requirements=("no-such-package==0.0.1",)), folders) == ""


def test_a_query_reads_a_table_and_replaces_its_partition(
    make_workspace: MakeWorkspace, dsflow: Dsflow, runtime: str
) -> None:
    specs = "version: 1\nkind: sql\nmain: query.sql\noutput: {table: double}\n"
    ws = make_workspace(
        {
            **job(
                "first", NOTEBOOK + "output: {table: t}\n", notebook("from dsflow import job\njob.write([{'x': 21}])")
            ),
            "jobs/second/job_specs.yaml": specs,
            "jobs/second/query.sql": "SELECT 2 * x AS y FROM t WHERE ds = '{{ ds }}'",
        }
    )
    assert [dsflow("run", name, DS).exit_code for name in ("first", "second", "second")] == [0, 0, 0]
    folder = ws.datastore / "tables" / "double" / f"ds={DS}"
    assert len(own_files(folder)) == 1
    assert rows_of(folder) == [(42,)]
    assert [(i["target"], i["ds"], i["rows"]) for i in outcome_of(ws, "second")["inputs"]] == [("t", DS, 1)]


def test_a_script_gets_its_paths_and_its_output_becomes_a_partition(
    make_workspace: MakeWorkspace, dsflow: Dsflow, runtime: str
) -> None:
    specs = "version: 1\nkind: script\nmain: copy.sh\ninputs: {raw: {raw: in_put}}\noutput: {raw: out}\n"
    ws = make_workspace(
        {
            "jobs/s/job_specs.yaml": specs,
            "jobs/s/copy.sh": 'set -e\ncp "$1/a file.csv" "$2/b file.csv"\n',
            f"datastore/raw/in_put/ds={DS}/a file.csv": "x\n1\n",
        }
    )
    screen = dsflow("run", "s", DS)
    assert screen.exit_code == 0, screen
    assert (ws.datastore / "raw" / "out" / f"ds={DS}" / "b file.csv").read_text() == "x\n1\n"


def test_everything_belongs_to_the_caller(make_workspace: MakeWorkspace, dsflow: Dsflow, runtime: str) -> None:
    ws = make_workspace(
        job("n", NOTEBOOK + "output: {table: t}\n", notebook("from dsflow import job\njob.write([{'x': 1}])"))
    )
    assert dsflow("run", "n", DS).exit_code == 0
    owners = {path.lstat().st_uid for path in ws.root.rglob("*")}
    assert owners == {os.getuid()}


# ---- how runs end

ENDINGS: dict[str, tuple[str, str, int, str]] = {
    "a failing cell": (NOTEBOOK, notebook("1", "x = {}\nx['rain']"), 1, "KeyError: 'rain'"),
    "a failing script": (SCRIPT, "import sys; print('last words'); sys.exit(3)", 1, "exit code 3"),
    "a broken expectation": (
        NOTEBOOK + "output: {table: t}\nexpectations: [{name: positive, constraint: x > 0}]\n",
        notebook("from dsflow import job\njob.write([{'x': -1}])"),
        3,
        "positive",
    ),
    "a dead kernel": (NOTEBOOK, notebook("import os; os._exit(1)"), 138, "kernel died"),
    "a timeout": (SCRIPT + "run: {timeout: 3s}\n", "import time; time.sleep(600)", 124, "timeout"),
    "memory in a notebook": (
        NOTEBOOK + "run: {memory: 400m}\n", notebook("x = b'x' * 2**30"), 137, "out of memory",
    ),
    "memory in a script": (SCRIPT + "run: {memory: 200m}\n", "x = b'x' * 2**30; input()", 137, "out of memory"),
}  # fmt: skip


@pytest.mark.parametrize("ending", ENDINGS)
def test_the_exit_code_says_how_a_run_ended(
    make_workspace: MakeWorkspace, dsflow: Dsflow, runtime: str, ending: str
) -> None:
    specs, code, exit_code, words = ENDINGS[ending]
    ws = make_workspace(job("bad", specs, code))
    screen = dsflow("run", "bad", DS)
    assert (screen.exit_code, words in screen.out + screen.err) == (exit_code, True), screen
    outcome = outcome_of(ws, "bad")
    assert (outcome["exit_code"], outcome["outputs"]) == (exit_code, [])
    assert {"index.html", "log.txt"} <= set(own_files(run_folder(ws, "bad")))
    assert not (ws.datastore / "tables" / "t" / f"ds={DS}").exists()


def test_lines_come_while_the_job_runs(make_workspace: MakeWorkspace, runtime: str) -> None:
    code = """
        import pathlib, os, sys, time
        print("o", end="", flush=True); print("ne è", flush=True)
        go = pathlib.Path(os.environ["DSFLOW_DATA"], "go")
        while not go.exists():
            time.sleep(0.05)
        sys.stderr.write("two"); sys.stderr.flush()
        print(""); print("three", end="")
        """
    ws = make_workspace(job("live", SCRIPT + "run: {timeout: 60s}\n", code))
    lines = []

    def listen(event: Event) -> None:
        if isinstance(event, LogLine):
            lines.append(event.text)
            if event.text == "one è":
                # The job waits for this: it can only end if its first line came before its last.
                (ws.datastore / "go").touch()

    assert [o.status for o in execute(ws, "live", listen)] == [Status.SUCCEEDED]
    assert lines == ["one è", "two", "three"]


def execute(ws: Workspace, name: str, listen: Callable[[Event], None]) -> list[Outcome]:
    chosen = prepare.prepare(ws, load_workspace(ws), name, [DS], [])
    return runner.execute([chosen.assignment], chosen.runtime, chosen.reason, chosen.folders, [listen])


# ---- being stopped

SLOW_CELLS = ("print('kept')", "print('waiting', flush=True)\nimport time\ntime.sleep(600)", "print('never')")


def test_ctrl_c_saves_and_stops(
    make_workspace: MakeWorkspace, started: Callable[..., subprocess.Popen[str]], runtime: str
) -> None:
    ws = make_workspace(job("slow", NOTEBOOK + "output: {table: t}\n", notebook(*SLOW_CELLS)))
    process = started(ws, "slow", DS)
    read_until(process, "waiting")
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    assert outcome_of(ws, "slow")["status"] == "interrupted"
    folder = run_folder(ws, "slow")
    assert own_files(folder) == ["index.html", "log.txt", "notebook.ipynb", "outcome.json", "task.json"]
    saved = nbformat.read(folder / "notebook.ipynb", as_version=4)
    assert "kept" in str([cell.get("outputs") for cell in saved.cells])
    assert not (ws.datastore / "tables").exists() or own_files(ws.datastore / "tables") == []


STUBBORN = """
    import signal, time
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    print("waiting", flush=True)
    time.sleep(600)
    """


def test_a_second_ctrl_c_kills(
    make_workspace: MakeWorkspace, started: Callable[..., subprocess.Popen[str]], runtime: str
) -> None:
    ws = make_workspace(job("stubborn", SCRIPT, STUBBORN))
    process = started(ws, "stubborn", DS)
    read_until(process, "waiting")
    process.send_signal(signal.SIGINT)
    read_until(process, "Ctrl-C again kills it")
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 137
    outcome = outcome_of(ws, "stubborn")
    assert (outcome["status"], outcome["exit_code"]) == ("failed", 137)
    assert "killed" in outcome["failure"]["message"]


def test_a_run_ends_when_its_dsflow_was_killed(
    make_workspace: MakeWorkspace, started: Callable[..., subprocess.Popen[str]], runtime: str
) -> None:
    ws = make_workspace(
        job("orphan", SCRIPT + "output: {raw: t}\n", "print('waiting', flush=True)\nimport time; time.sleep(600)")
    )
    process = started(ws, "orphan", DS)
    read_until(process, "waiting")
    process.kill()
    wait_for(lambda: outcome_of(ws, "orphan")["status"] == "interrupted", "the run notices and ends")
    if runtime == "docker":
        # It ended by itself; a later run of the workspace would remove it.
        subprocess.run(["docker", "rm", "-fv", f"dsflow-{run_folder(ws, 'orphan').name}"], check=True)


def test_a_dashboard_serves_this_machine_only_until_ctrl_c(
    make_workspace: MakeWorkspace, started: Callable[..., subprocess.Popen[str]], runtime: str
) -> None:
    code = """
        import http.server, os
        address = os.environ["DSFLOW_HOST"], int(os.environ["DSFLOW_PORT"])
        http.server.ThreadingHTTPServer(address, http.server.SimpleHTTPRequestHandler).serve_forever()
        """
    ws = make_workspace(job("d", "version: 1\nkind: dashboard\nmain: main.py\n", code))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = started(ws, "d", "--port", str(port))
    url = f"http://127.0.0.1:{port}/main.py"
    wait_for(lambda: b"serve_forever" in urllib.request.urlopen(url).read(), "the dashboard answers")
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0
