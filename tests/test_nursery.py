"""The warm process: it forks a child for every task, ends with the host, and its death is a clear failure."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from dsflow import prepare, runner
from dsflow.model import Event, LogLine, Outcome, Status
from dsflow.runtimes.contract import Needs
from dsflow.runtimes.process import Process
from dsflow.specs.load import load_workspace
from dsflow.workspace import Workspace
from tests.conftest import MakeWorkspace, Tree, notebook

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks are unsafe here: there is no warm process")

DS = "2013-01-01"
SQL: Tree = {"jobs/q/job_specs.yaml": "version: 1\nkind: sql\noutput: {table: t}\n", "jobs/q/q.sql": "SELECT 1 AS x"}
WAIT: Tree = {
    "jobs/wait/job_specs.yaml": "version: 1\nkind: script\nmain: wait.sh\n",
    "jobs/wait/wait.sh": "echo waiting\nsleep 600\n",
    "jobs/cores/job_specs.yaml": "version: 1\nkind: script\nmain: cores.sh\n",
    "jobs/cores/cores.sh": "echo cores=$DSFLOW_CORES\n",
}


BROKEN: Tree = {
    "jobs/broken/job_specs.yaml": "version: 1\nkind: sql\noutput: {table: broken}\n",
    "jobs/broken/q.sql": "SELECT error('no') AS x",
}
NOTE: Tree = {
    "jobs/note/job_specs.yaml": "version: 1\nkind: notebook\nmain: note.ipynb\n",
    "jobs/note/note.ipynb": notebook("import os; print('kernel', os.getpid(), os.getppid())"),
    "jobs/stuck/job_specs.yaml": "version: 1\nkind: notebook\nmain: stuck.ipynb\n",
    "jobs/stuck/stuck.ipynb": notebook("import os, time; print('kernel', os.getpid(), flush=True); time.sleep(600)"),
}
LONG = "SELECT count(*) AS n FROM range(100000000) a, range(100000) b WHERE (a.range * b.range) % 7 = 3"


class Plan:
    """Several tasks in one warm process."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.runtime = Process()
        self.runtime.expect(100)
        self.lines: list[str] = []
        folders = self._chosen("q").folders if (workspace.jobs / "q").exists() else self._chosen("wait").folders
        self.runner = runner.Runner(self.runtime, "", folders, runner.Emitter([self._listen]))

    def run(self, job: str) -> Outcome:
        return self.runner.run(self._chosen(job).assignment)

    def start(self, job: str) -> Callable[[], Outcome]:
        """Run a job in a thread; gives what waits for its outcome."""
        outcomes: list[Outcome] = []
        thread = threading.Thread(target=lambda: outcomes.append(self.run(job)))
        thread.start()

        def wait() -> Outcome:
            thread.join(60)
            return outcomes[0]

        return wait

    def nursery(self) -> psutil.Process:
        (found,) = self.nurseries()
        return found

    def nurseries(self) -> list[psutil.Process]:
        children = psutil.Process().children()
        return [one for one in children if not gone(one.pid) and "dsflow.nursery" in one.cmdline()]

    def wait_for(self, condition: Callable[[], object]) -> None:
        for _ in range(600):
            if condition():
                return
            time.sleep(0.05)
        pytest.fail("not within half a minute")

    def _chosen(self, job: str) -> prepare.Chosen:
        return prepare.prepare(self.workspace, load_workspace(self.workspace), job, [DS], [], runtime="process")

    def kernels(self) -> list[list[str]]:
        """What notebooks printed of their kernels."""
        return [line.split()[1:] for line in self.lines if line.startswith("kernel")]

    def _listen(self, event: Event) -> None:
        if isinstance(event, LogLine):
            self.lines.append(event.text)


@pytest.fixture
def plan(make_workspace: MakeWorkspace) -> Iterator[Plan]:
    plan = Plan(make_workspace({**SQL, **WAIT, **BROKEN, **NOTE}))
    yield plan
    plan.runner.stop(kill=True)
    plan.runner.close()


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_one_warm_process_runs_all_tasks_and_ends_with_the_plan(plan: Plan) -> None:
    assert plan.run("q")
    nursery = plan.nursery()
    assert plan.run("q")
    assert plan.nursery() == nursery
    plan.runner.close()
    assert gone(nursery.pid)


def test_a_query_that_only_reads_leaves_its_process_to_the_next_of_its_job(plan: Plan) -> None:
    assert plan.run("q")
    (worker,) = plan.nursery().children()
    assert plan.run("q")
    assert plan.nursery().children() == [worker]
    plan.runner.close()
    plan.wait_for(lambda: gone(worker.pid))


def test_notebooks_of_a_job_take_turns_in_a_process_and_each_has_a_kernel_of_its_own(plan: Plan) -> None:
    assert [plan.run("note").status for _ in range(3)] == [Status.SUCCEEDED] * 3
    assert len({pid for pid, _ in plan.kernels()}) == 3
    assert {parent for _, parent in plan.kernels()} == {str(plan.nursery().pid)}
    assert len(plan.nursery().children()) == 1


def test_a_kernel_ends_with_the_process_it_was_made_for(plan: Plan) -> None:
    wait = plan.start("stuck")
    plan.wait_for(plan.kernels)
    kernel = int(plan.kernels()[0][0])
    (shim,) = (child for child in plan.nursery().children() if child.pid != kernel)
    shim.kill()
    assert wait().status is Status.FAILED
    plan.wait_for(lambda: gone(kernel))
    assert plan.run("note").status is Status.SUCCEEDED


def test_after_a_failure_no_process_is_used_again(plan: Plan) -> None:
    assert plan.run("broken").exit_code == 1
    plan.wait_for(lambda: not plan.nursery().children())
    assert plan.run("q")


def test_a_waiting_process_that_died_is_replaced(plan: Plan) -> None:
    assert plan.run("q")
    (worker,) = plan.nursery().children()
    worker.kill()
    plan.wait_for(lambda: not plan.nursery().children())
    assert plan.run("q")
    assert plan.run("q")


def test_a_waiting_process_that_is_just_dying_costs_no_task(plan: Plan) -> None:
    for _ in range(20):
        assert plan.run("q")
        for worker in plan.nursery().children():
            worker.kill()  # and at once, not yet gone, it is to take the next task
    assert plan.run("q")


def test_a_waiting_process_that_takes_nothing_is_replaced(plan: Plan) -> None:
    assert plan.run("q")
    (worker,) = plan.nursery().children()
    worker.suspend()
    assert plan.run("q")
    assert gone(worker.pid)


def test_what_is_warm_loads_before_any_task_and_is_killed_where_none_comes(plan: Plan) -> None:
    runtime, folders = Process(), plan._chosen("q").folders
    runtime.load(plan._chosen("note").assignment.task, Needs(), folders)  # nothing is warm: nothing happens
    assert not plan.nurseries()
    runtime.warm_up()
    nursery = plan.nursery()
    runtime.load(plan._chosen("note").assignment.task, Needs(), folders)
    # What a kernel needs is mapped when it is loaded.
    plan.wait_for(lambda: any("zmq" in region.path for region in nursery.memory_maps()))
    assert not nursery.children()
    runtime.warm_up()
    assert plan.nursery() == nursery
    begin = time.monotonic()
    runtime.close()
    assert gone(nursery.pid)
    assert time.monotonic() - begin < 5


@pytest.mark.parametrize("kill", [False, True])
def test_a_query_in_a_process_that_ran_others_can_be_stopped(plan: Plan, kill: bool) -> None:
    assert plan.run("q")
    (plan.workspace.jobs / "q" / "q.sql").write_text(LONG)
    wait = plan.start("q")
    plan.wait_for(lambda: sum(process.cpu_times().user for process in plan.nursery().children()) > 0.5)
    plan.runner.stop(kill=kill)
    outcome = wait()
    assert outcome.exit_code == (137 if kill else 130)


def test_a_single_task_gets_a_new_interpreter(make_workspace: MakeWorkspace) -> None:
    workspace = make_workspace(SQL)
    chosen = prepare.prepare(workspace, load_workspace(workspace), "q", [DS], [], runtime="process")
    seen: list[str] = []
    runner.execute(
        [chosen.assignment],
        chosen.runtime,
        "",
        chosen.folders,
        [
            lambda event: seen.extend(
                " ".join(child.cmdline()) for child in psutil.Process().children() if not gone(child.pid)
            )
        ],
    )
    assert any("dsflow.shim" in command for command in seen)
    assert not any("dsflow.nursery" in command for command in seen)


def test_tasks_run_at_the_same_time_and_are_stopped_one_by_one(plan: Plan) -> None:
    waits = [plan.start("wait"), plan.start("wait")]
    plan.wait_for(lambda: plan.lines.count("waiting") == 2)
    assert plan.run("q")
    plan.runner.stop(kill=False)
    outcomes = [wait() for wait in waits]
    assert [outcome.status for outcome in outcomes] == [Status.INTERRUPTED] * 2
    assert all(outcome.seconds < 30 for outcome in outcomes)


def test_who_runs_beside_another_gets_a_share_of_the_processors(plan: Plan) -> None:
    assert plan.run("cores")
    waiting = plan.start("wait")
    plan.wait_for(lambda: "waiting" in plan.lines)
    assert plan.run("cores")
    assert [line for line in plan.lines if line.startswith("cores")] == [
        "cores=",
        f"cores={max(1, runner.processors() // 2)}",
    ]
    plan.runner.stop(kill=True)
    assert not waiting()


def test_when_the_warm_process_is_killed_its_runs_fail_and_say_so_and_the_next_gets_a_new_one(plan: Plan) -> None:
    wait = plan.start("wait")
    plan.wait_for(lambda: "waiting" in plan.lines)
    nursery = plan.nursery()
    below = nursery.children(recursive=True)
    nursery.kill()
    outcome = wait()
    assert (outcome.status, outcome.exit_code) == (Status.FAILED, 137)
    assert outcome.failure is not None
    assert outcome.failure.message == "the warm process that starts the runs of this plan was killed (SIGKILL)"
    plan.wait_for(lambda: all(gone(process.pid) for process in below))
    assert plan.run("q")
    assert plan.nursery() != nursery


def test_a_killed_host_takes_the_warm_process_and_its_tasks_with_it(make_workspace: MakeWorkspace) -> None:
    workspace = make_workspace(WAIT)
    code = "from tests.test_nursery import *; Plan(Workspace(Path.cwd())).run('wait')"
    path = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    host = subprocess.Popen([sys.executable, "-c", code], cwd=workspace.root, env={**os.environ, "PYTHONPATH": path})
    try:
        log = workspace.datastore / "job_runs" / "wait"
        for _ in range(600):
            if any("waiting" in file.read_text() for file in log.glob("*/*/log.txt")):
                break
            time.sleep(0.05)
        below = psutil.Process(host.pid).children(recursive=True)
        assert any("dsflow.nursery" in process.cmdline() for process in below)
    finally:
        host.send_signal(signal.SIGKILL)
        host.wait()
    for _ in range(600):
        if all(gone(process.pid) for process in below):
            break
        time.sleep(0.05)
    assert all(gone(process.pid) for process in below)
    (outcome,) = log.glob("*/*/outcome.json")
    assert '"interrupted"' in outcome.read_text()


def test_it_starts_an_interpreter_where_it_must_not_fork(
    make_workspace: MakeWorkspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A library that starts a thread when it is loaded costs speed, and nothing else."""
    tree = {
        "jobs/q/job_specs.yaml": "version: 1\nkind: notebook\nmain: q.ipynb\n",
        "jobs/q/q.ipynb": notebook("import plotly"),
        "lib/plotly.py": """
            import threading, time
            threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
            """,
    }
    workspace = make_workspace(tree)
    monkeypatch.setenv("PYTHONPATH", str(workspace.root / "lib"))
    plan = Plan(workspace)
    try:
        assert plan.run("q")
        assert plan.run("q")
    finally:
        plan.runner.close()


@pytest.mark.parametrize("tasks", [1, 2])
def test_a_module_in_the_folder_of_temporary_files_is_nobodys(
    make_workspace: MakeWorkspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tasks: int
) -> None:
    """An empty entry of PYTHONPATH means the working directory, and anybody may write into that of a shim."""
    (tmp_path / "re.py").write_text("raise SystemExit('somebody else')")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setenv("PYTHONPATH", os.pathsep)
    plan = Plan(make_workspace(SQL))
    plan.runtime.expect(tasks - 100)
    assert [plan.run("q").status for _ in range(tasks)] == [Status.SUCCEEDED] * tasks
    plan.runtime.close()
