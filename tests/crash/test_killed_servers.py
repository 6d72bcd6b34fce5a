"""The server of runs, and the keepers of its runs, killed at any moment: none is lost, none comes twice, none stays."""

from __future__ import annotations

import concurrent.futures
import os
import random
import signal
import time
from collections.abc import Callable
from typing import Any

import psutil
import pytest

from dsflow.serve import detached
from dsflow.serve.client import Client
from tests.conftest import MakeWorkspace, Screen
from tests.serving import DS, JOBS, Served, published, serving, until

pytestmark = [pytest.mark.crash, pytest.mark.timeout(900)]

KILLS = 6
RUNS = 9
SLOW = {
    "jobs/slow/job_specs.yaml": "version: 1\nkind: script\noutput: {raw: slow}\n",
    "jobs/slow/main.sh": 'for i in 1 2 3 4 5; do echo "step $i"; sleep 0.1; done; echo x > "$1/x"\n',
}


@pytest.fixture(autouse=True)
def _in_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DSFLOW_RUNTIME", "process")


def ask_and_follow(client: Client, ds: str) -> tuple[list[str], dict[str, Any]]:
    """Do what the operator of Airflow does, whatever happens to the server."""
    accepted = client.submit("slow", ds, key=f"slow {ds}")
    events = list(client.follow(accepted["id"]))
    return [event.data["text"] for event in events if event.kind == "log"], events[-1].data


def test_a_server_killed_again_and_again_loses_no_run(
    make_workspace: MakeWorkspace, dsflow: Callable[..., Screen]
) -> None:
    days = [f"2013-01-{day:02}" for day in range(1, RUNS + 1)]
    moments = random.Random(20261120)
    with serving(make_workspace(SLOW), "-j", "3") as served, concurrent.futures.ThreadPoolExecutor(RUNS) as pool:
        asked = [pool.submit(ask_and_follow, served.client, day) for day in days]
        for _ in range(KILLS):
            time.sleep(moments.uniform(0, 1.2))
            served.kill()
            served.start()
        ends = [future.result(300) for future in asked]
        assert [end["exit_code"] for _, end in ends] == [0] * RUNS
        assert [len(end["run_ids"]) for _, end in ends] == [1] * RUNS
        for told, _ in ends:
            assert [text for text in told if text.startswith("step")] == [f"step {n}" for n in range(1, 6)]
        assert len(served.client.list()) == RUNS
        assert published(served.workspace) == [f"slow/ds={day}" for day in days]
        until(lambda: not any(served.processes_of(end["id"]) for _, end in ends))
        until(lambda: served.client.health()["running"] == 0)
    runs = dsflow("runs", "--limit", "100", "--json").document["runs"]
    assert sorted(run["ds"] for run in runs) == days
    assert {run["status"] for run in runs} == {"succeeded"}


def test_a_run_goes_on_without_a_server_and_the_next_one_tells_how_it_ended(make_workspace: MakeWorkspace) -> None:
    with serving(make_workspace(SLOW)) as served:
        run = served.client.submit("slow", DS, key="x")["id"]
        served.await_log(run, "step 1")
        served.kill()
        until(lambda: served.entry(run).state().has_ended)
        served.start()
        assert served.client.submit("slow", DS, key="x")["id"] == run
        told = [event.data["text"] for event in served.client.events(run) if event.kind == "log"]
        assert told[:5] == [f"step {n}" for n in range(1, 6)]
        assert served.client.get(run)["status"] == "succeeded"


def test_a_run_that_outlived_its_server_can_be_cancelled_and_waiting_ones_begin(make_workspace: MakeWorkspace) -> None:
    with serving(make_workspace({**JOBS, **SLOW}), "-j", "1") as served:
        running = served.client.submit("endless", DS, key="running")["id"]
        waiting = served.client.submit("slow", DS, key="waiting")["id"]
        served.await_log(running, "begun")
        served.kill()
        served.start()
        assert [served.client.get(run)["status"] for run in (running, waiting)] == ["running", "queued"]
        served.client.cancel(running)
        ends = [list(served.client.follow(run))[-1].data["exit_code"] for run in (running, waiting)]
        assert ends == [130, 0]
        until(lambda: not served.processes_of(running))


@pytest.mark.parametrize("restarted", [False, True])
def test_a_run_whose_keeper_is_killed_has_an_end_and_the_next_one_works(
    make_workspace: MakeWorkspace, restarted: bool
) -> None:
    with serving(make_workspace({**JOBS, **SLOW})) as served:
        run = served.client.submit("endless", DS, key="x")["id"]
        served.await_log(run, "begun")
        pid = served.entry(run).keeper()
        assert pid is not None
        if restarted:
            served.kill()
        os.kill(pid, signal.SIGKILL)
        if restarted:
            served.start()
        ended = list(served.client.follow(run))[-1].data
        assert (ended["status"], ended["exit_code"]) == ("interrupted", 130)
        until(lambda: not served.processes_of(run))
        assert published(served.workspace) == []
        again = served.client.submit("slow", DS, key="y")["id"]
        assert list(served.client.follow(again))[-1].data["exit_code"] == 0


def test_a_run_whose_keeper_and_shim_are_killed_has_an_end_in_the_history_too(
    make_workspace: MakeWorkspace, dsflow: Callable[..., Screen], monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(make_workspace(JOBS)) as served:
        run = served.client.submit("endless", DS, key="x")["id"]
        served.await_log(run, "begun")
        for process in served.processes_of(run):
            process.suspend()
        for process in served.processes_of(run):
            process.kill()
        ended = list(served.client.follow(run))[-1].data
        assert (ended["status"], ended["exit_code"]) == ("failed", 137)
        assert served.processes_of(run) == []
    (shown,) = dsflow("runs", "--json").document["runs"]
    assert (shown["status"], shown["exit_code"]) == ("failed", 137)


def test_many_servers_started_at_once_are_one(make_workspace: MakeWorkspace) -> None:
    workspace = make_workspace(JOBS)
    for _ in range(3):
        try:
            with concurrent.futures.ThreadPoolExecutor(6) as pool:
                list(pool.map(lambda _: detached.ensure_serving(workspace), range(6)))
            found = [
                process.pid
                for process in psutil.process_iter(["cmdline"])
                if "serve" in (process.info["cmdline"] or []) and str(workspace.root) in process.info["cmdline"]
            ]
            assert len(found) == 1
        finally:
            assert detached.stop(workspace)


@pytest.mark.docker
@pytest.mark.usefixtures("python_image")
class TestContainers:
    @pytest.fixture
    def served(self, make_workspace: MakeWorkspace, monkeypatch: pytest.MonkeyPatch) -> Any:
        monkeypatch.setenv("DSFLOW_RUNTIME", "docker")
        with serving(make_workspace({**JOBS, **SLOW})) as running:
            yield running

    def containers(self, served: Served, run: str) -> list[str]:
        from dsflow.containers import residents

        return [found.id for each in served.entry(run).state().run_ids for found in residents.find({"run": each})]

    @pytest.mark.parametrize("job", ["endless", "stubborn"])
    def test_cancelling_takes_the_container_along(self, served: Served, job: str) -> None:
        run = served.client.submit(job, DS, key="x")["id"]
        served.await_log(run, "begun")
        assert len(self.containers(served, run)) == 1
        served.client.cancel(run)
        assert list(served.client.follow(run))[-1].data["exit_code"] in (130, 137)
        assert self.containers(served, run) == []

    def test_a_container_outlives_the_server_and_not_its_run(self, served: Served) -> None:
        run = served.client.submit("slow", DS, key="x")["id"]
        until(lambda: self.containers(served, run))
        served.kill()
        until(lambda: served.entry(run).state().has_ended)
        assert self.containers(served, run) == []
        served.start()
        assert served.client.get(run)["status"] == "succeeded"

    def test_a_container_does_not_outlive_its_keeper(self, served: Served) -> None:
        run = served.client.submit("endless", DS, key="x")["id"]
        served.await_log(run, "begun")
        pid = served.entry(run).keeper()
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        assert list(served.client.follow(run))[-1].data["exit_code"] == 130
        assert self.containers(served, run) == []

    def test_stopping_the_server_leaves_no_container(self, served: Served) -> None:
        run = served.client.submit("endless", DS, key="x")["id"]
        served.await_log(run, "begun")
        served.stop()
        assert self.containers(served, run) == []
