"""Running a task from the host: events, facts, and what is on record however a run ends."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from dsflow import __version__, prepare, runner
from dsflow.errors import EnvironmentMissing
from dsflow.model import (
    Event,
    LogLine,
    Notice,
    Outcome,
    Progress,
    RunFinished,
    RunStarted,
    Status,
    Task,
    from_json,
)
from dsflow.specs.load import load_workspace
from dsflow.workspace import Workspace
from tests.conftest import MakeWorkspace, Tree, notebook
from tests.samples import sample_outcome

DS = "2013-01-01"
SCRIPT = "version: 1\nkind: script\n"
QUERY = {"jobs/t/job_specs.yaml": "version: 1\nkind: sql\noutput: {table: t}\n", "jobs/t/q.sql": "SELECT 1 AS x"}


@pytest.fixture(autouse=True)
def _in_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DSFLOW_RUNTIME", "process")


def script(code: str, specs: str = SCRIPT) -> Tree:
    return {"jobs/t/job_specs.yaml": specs, "jobs/t/t.py" if "import" in code else "jobs/t/t.sh": code}


def execute(workspace: Workspace, *listeners: runner.Listener, jobs: tuple[str, ...] = ("t",)) -> list[Outcome]:
    settings = load_workspace(workspace)
    chosen = [prepare.prepare(workspace, settings, job, [DS], []) for job in jobs]
    assignments = [one.assignment for one in chosen]
    return runner.execute(assignments, chosen[0].runtime, chosen[0].reason, chosen[0].folders, listeners)


def run_folder(workspace: Workspace, job: str = "t") -> Path:
    runs = (workspace.datastore / "job_runs" / job / f"ds={DS}").iterdir()
    return max(runs, key=lambda folder: folder.stat().st_mtime_ns)


def recorded(workspace: Workspace) -> Outcome:
    return from_json(Outcome, (run_folder(workspace) / "outcome.json").read_text())


def files_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


# ---- events


def test_listeners_get_the_events_in_order(make_workspace: MakeWorkspace) -> None:
    cells = ("print('first')", "print('second')")
    workspace = make_workspace(
        {"jobs/t/job_specs.yaml": "version: 1\nkind: notebook\n", "jobs/t/t.ipynb": notebook(*cells)}
    )
    first: list[Event] = []
    second: list[Event] = []
    (outcome,) = execute(workspace, first.append, second.append)
    assert first == second
    assert isinstance(first[0], RunStarted)
    assert isinstance(first[-1], RunFinished)
    assert first[-1].outcome == outcome == recorded(workspace)
    assert [event.text for event in first if isinstance(event, LogLine)] == ["first", "second"]
    done = [(event.done, event.total) for event in first if isinstance(event, Progress)]
    assert done == sorted(done)
    assert done[-1] == (2, 2)


@pytest.mark.parametrize("error", [EnvironmentMissing("the database is away"), BrokenPipeError("the screen is gone")])
def test_a_listener_that_fails_becomes_one_notice_and_the_run_goes_on(
    make_workspace: MakeWorkspace, error: Exception
) -> None:
    workspace = make_workspace(QUERY)
    heard: list[Event] = []
    calls: list[Event] = []

    def failing(event: Event) -> None:
        calls.append(event)
        raise error

    (outcome,) = execute(workspace, failing, heard.append)
    assert outcome.status is Status.SUCCEEDED
    assert [event.text for event in heard if isinstance(event, Notice)] == [f"warning: {error}"]
    assert len(calls) == 1
    assert isinstance(heard[-1], RunFinished)


def test_after_a_failure_the_other_steps_do_not_start(make_workspace: MakeWorkspace) -> None:
    workspace = make_workspace({**script("exit 3\n"), **{name.replace("/t/", "/u/"): x for name, x in QUERY.items()}})
    outcomes = execute(workspace, jobs=("u", "t", "u"))
    assert [outcome.status for outcome in outcomes] == [Status.SUCCEEDED, Status.FAILED]
    assert runner.exit_code_of(outcomes) == 1
    assert runner.exit_code_of(outcomes[:1]) == 0


def test_what_a_job_prints_is_never_taken_for_an_event(make_workspace: MakeWorkspace) -> None:
    lines = ['\\036{"done": "x", "total": 0}', "\\0361", "\\036[]", '\\036{"done": 99, "total": 100}']
    workspace = make_workspace(script("".join(f"printf '{line}\\n'\n" for line in lines)))
    heard: list[Event] = []
    (outcome,) = execute(workspace, heard.append)
    assert outcome
    assert [event.text for event in heard if isinstance(event, LogLine)] == [line[4:] for line in lines]
    assert not [event for event in heard if isinstance(event, Progress)]


# ---- what is on record


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=Ada", "-c", "user.email=ada@example.com")
    return subprocess.run(
        ["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True, text=True
    ).stdout.strip()


def test_the_task_says_where_and_with_what_it_was_made(make_workspace: MakeWorkspace) -> None:
    workspace = make_workspace({**QUERY, ".gitignore": "datastore/\n"})
    git(workspace.root, "init", "-q")
    git(workspace.root, "add", "-A")
    git(workspace.root, "commit", "-qm", "a job")
    commit = git(workspace.root, "rev-parse", "--short=12", "HEAD")
    execute(workspace)
    facts = from_json(Task, (run_folder(workspace) / "task.json").read_text()).facts
    assert (facts.runtime, facts.runtime_reason) == ("process", "asked for")
    assert facts.git_revision == commit
    assert facts.dsflow_version == __version__
    assert (facts.user, facts.host) == (runner._user(), os.uname().nodename)
    assert facts.lock_hash
    (workspace.jobs / "t/q.sql").write_text("SELECT 2 AS x")
    execute(workspace)
    assert from_json(Task, (run_folder(workspace) / "task.json").read_text()).facts.git_revision == f"{commit}+"


def test_without_git_there_is_no_revision(make_workspace: MakeWorkspace, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = make_workspace(QUERY)
    monkeypatch.setenv("PATH", "/nowhere")
    execute(workspace)
    assert from_json(Task, (run_folder(workspace) / "task.json").read_text()).facts.git_revision is None


def test_a_run_without_output_leaves_its_documents_and_no_data(make_workspace: MakeWorkspace) -> None:
    workspace = make_workspace(script('echo "no sink: $#"\n'))
    (outcome,) = execute(workspace)
    assert outcome.status is Status.SUCCEEDED
    assert outcome.outputs == ()
    assert files_in(run_folder(workspace)) == {"task.json", "outcome.json", "log.txt", "index.html"}
    assert (run_folder(workspace) / "log.txt").read_text() == "no sink: 0\n"
    assert files_in(workspace.datastore) == {"job_runs"}


def test_a_datastore_that_cannot_be_written_is_said(make_workspace: MakeWorkspace) -> None:
    workspace = make_workspace({**QUERY, "datastore/job_runs": "a file where a folder should be"})
    with pytest.raises(EnvironmentMissing, match="cannot write"):
        execute(workspace)


# ---- what jobs print

FLOOD = 100_000
NOISE = f"""
    import os, sys
    write = lambda data: os.write(1, data)
    write(b"x" * 3_000_000 + b"\\n")
    write(bytes(range(256)) + b"\\n\\xff\\xfe\\n")
    for start in range(0, {FLOOD}, 1000):
        write(b"".join(b"line %d\\n" % number for number in range(start, start + 1000)))
    write("no newline, é".encode())
    """


def test_any_output_of_a_script_is_survived_and_logged(make_workspace: MakeWorkspace) -> None:
    workspace = make_workspace(script(NOISE))
    count = 0

    def listen(event: Event) -> None:
        nonlocal count
        count += isinstance(event, LogLine)

    (outcome,) = execute(workspace, listen)
    assert outcome.status is Status.SUCCEEDED, outcome.failure
    log = (run_folder(workspace) / "log.txt").read_text(encoding="utf-8")
    assert log.count("x") >= 3_000_000
    assert f"\nline {FLOOD - 1}\n" in log
    assert log.endswith("no newline, é\n")
    assert count >= FLOOD
    assert (run_folder(workspace) / "index.html").stat().st_size < 20_000_000


# ---- how runs end


def wait_for(condition: Callable[[], object], what: str) -> None:
    for _ in range(1200):
        if condition():
            return
        time.sleep(0.05)
    pytest.fail(f"not within a minute: {what}")


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_a_run_ends_with_its_script_and_so_does_what_it_left_behind(make_workspace: MakeWorkspace) -> None:
    code = (
        'sleep 600 &\necho $! > "$DSFLOW_DATA/pid"\nbash -c "set -m; sleep 600 & echo \\$! > \'$DSFLOW_DATA/pid2\'"\n'
    )
    workspace = make_workspace(script(code + "echo done\n"))
    heard: list[str] = []
    (outcome,) = execute(workspace, lambda event: heard.append(getattr(event, "text", "")))
    assert outcome.status is Status.SUCCEEDED
    assert outcome.seconds < 300
    assert "done" in heard
    left = [int((workspace.datastore / name).read_text()) for name in ("pid", "pid2")]
    wait_for(lambda: all(map(gone, left)), f"{left} are gone")


def shims(run_id: str) -> list[psutil.Process]:
    """The processes of this one that carry out a run."""
    found = []
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.NoSuchProcess):
            if run_id in " ".join(child.cmdline()):
                found.append(child)
    return found


LONG_QUERY = "SELECT count(*) AS n FROM range(100000000) a, range(100000) b WHERE (a.range * b.range) % 7 = 3"


@pytest.mark.parametrize("kind", ["script", "sql"])
def test_a_shim_that_is_killed_leaves_a_failed_run_with_a_page_and_no_processes(
    make_workspace: MakeWorkspace, kind: str
) -> None:
    waiting = script('echo $$ > "$DSFLOW_DATA/pid"\necho waiting\nsleep 600\n')
    workspace = make_workspace(waiting if kind == "script" else {**QUERY, "jobs/t/q.sql": LONG_QUERY})
    children: list[psutil.Process] = []

    def kill(shim: psutil.Process) -> None:
        # A query is executed by threads of the shim itself.
        started = shim.children if kind == "script" else lambda: shim.num_threads() > 2
        wait_for(started, "the shim has started the job's code")
        children.extend(shim.children(recursive=True))
        shim.kill()

    def listen(event: Event) -> None:
        if isinstance(event, RunStarted):
            # Between fork and exec a child has no command line of its own yet.
            wait_for(lambda: shims(event.task.run_id), "the shim is there")
            (shim,) = shims(event.task.run_id)
            kill(shim)

    (outcome,) = execute(workspace, listen)
    assert (outcome.status, outcome.exit_code) == (Status.FAILED, 137)
    assert outcome.failure is not None
    assert outcome.failure.message == "the run was killed (SIGKILL)"
    assert recorded(workspace) == outcome
    assert "the run was killed" in (run_folder(workspace) / "index.html").read_text()
    assert {"task.json", "outcome.json", "log.txt", "index.html"} <= files_in(run_folder(workspace))
    assert bool(children) == (kind == "script")
    wait_for(lambda: all(gone(child.pid) for child in children), "the job's code is gone")


def host(workspace: Workspace, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-u", "-m", "dsflow", "run", "t", DS, *options]
    return subprocess.Popen(command, cwd=workspace.root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def read_until(process: subprocess.Popen[str], words: str) -> None:
    assert process.stdout is not None
    seen = []
    for line in process.stdout:
        seen.append(line)
        if words in line:
            return
    pytest.fail(f"{words!r} never came: {seen}")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_sigterm_is_like_ctrl_c_and_the_partition_is_as_it_was(make_workspace: MakeWorkspace) -> None:
    cell = """
        import time
        from dsflow import job
        job.write([{'x': n}])
        print('written', flush=True)
        time.sleep(n)
        """
    workspace = make_workspace(
        {
            "jobs/t/job_specs.yaml": "version: 1\nkind: notebook\noutput: {table: t}\n",
            "jobs/t/t.ipynb": notebook(cell, parameters="n = 0"),
        }
    )
    execute(workspace)
    partition = workspace.datastore / "tables/t" / f"ds={DS}"
    before = contents(partition)
    process = host(workspace, "-p", "n=600")
    try:
        read_until(process, "written")
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, output
    assert "was interrupted" in output
    assert "Traceback" not in output
    assert contents(partition) == before
    outcome = recorded(workspace)
    assert (outcome.status, outcome.exit_code) == (Status.INTERRUPTED, 130)
    assert "written" in (run_folder(workspace) / "notebook.ipynb").read_text()
    assert list((workspace.datastore / ".dsflow/staging").iterdir()) == []


def test_ctrl_c_at_the_very_beginning_is_an_interruption_too(make_workspace: MakeWorkspace) -> None:
    workspace = make_workspace(script("sleep 600\n"))

    def listen(event: Event) -> None:
        if isinstance(event, RunStarted):
            os.kill(os.getpid(), signal.SIGINT)

    (outcome,) = execute(workspace, listen)
    assert (outcome.status, outcome.exit_code) == (Status.INTERRUPTED, 130)
    assert recorded(workspace) == outcome
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_reader_that_has_seen_enough_does_not_cost_the_run(make_workspace: MakeWorkspace) -> None:
    code = 'import time\nfor n in range(20):\n    print("line", n, flush=True)\n    time.sleep(0.02)\n'
    workspace = make_workspace(script(code))
    command = f"'{sys.executable}' -u -m dsflow run t {DS} | head -1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert "Traceback" not in done.stderr
    assert recorded(workspace).status is Status.SUCCEEDED
    assert "line 19" in (run_folder(workspace) / "log.txt").read_text()
    listed = subprocess.run(
        [sys.executable, "-m", "dsflow", "runs", "--json"], capture_output=True, text=True, check=True
    ).stdout
    assert "succeeded" in json.dumps(json.loads(listed))


# ---- trying again


@pytest.mark.parametrize(("attempt", "pause"), [(1, 1.0), (2, 2.0), (3, 4.0), (7, 60.0), (50, 60.0)])
def test_the_pause_before_a_retry_doubles_up_to_a_minute(attempt: int, pause: float) -> None:
    failed = sample_outcome(status=Status.FAILED, exit_code=1)
    assert runner.pause_before_retry(failed, attempt, retries=100) == pause


@pytest.mark.parametrize("exit_code", [2, 3, 4, 130])
def test_what_another_attempt_cannot_mend_is_not_tried_again(exit_code: int) -> None:
    failed = sample_outcome(status=Status.FAILED, exit_code=exit_code)
    assert runner.pause_before_retry(failed, 1, retries=100) is None


def test_there_are_no_more_attempts_than_asked_for() -> None:
    failed = sample_outcome(status=Status.FAILED, exit_code=1)
    assert runner.pause_before_retry(failed, 2, retries=2) == 2.0
    assert runner.pause_before_retry(failed, 3, retries=2) is None
    assert runner.pause_before_retry(sample_outcome(), 1, retries=2) is None
