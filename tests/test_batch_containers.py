"""Containers that are kept for several tasks: how many there are, when they go, and what they cost when they die."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator

import pytest

from dsflow import prepare, runner
from dsflow.containers.engine import Image
from dsflow.model import Outcome, Status
from dsflow.runtimes.docker import workspace_label
from dsflow.specs.load import load_workspace
from tests.conftest import MakeWorkspace, Screen, Tree, notebook

pytestmark = pytest.mark.docker

DS = "2013-01-01"
NOTEBOOK = "version: 1\nkind: notebook\nmain: main.ipynb\n"


def job(name: str, cell: str, specs: str = "") -> Tree:
    return {f"jobs/{name}/job_specs.yaml": NOTEBOOK + specs, f"jobs/{name}/main.ipynb": notebook(cell)}


TREE: Tree = {
    **job(
        "one", "open('/tmp/left', 'x')\nimport subprocess\nsubprocess.Popen(['sleep', '600'], start_new_session=True)"
    ),
    **job("two", "import os\nassert not os.path.exists('/tmp/left')"),
    **job("small", "1", "run: {memory: 300m}\n"),
    **job("hungry", "x = b'x' * 2**30", "run: {memory: 300m}\n"),
    **job("kills", "import os, signal\nos.kill(-1, signal.SIGKILL)"),
}


class Plan:
    """Several tasks, in containers that are kept."""

    def __init__(self, make_workspace: MakeWorkspace) -> None:
        self._workspace = make_workspace(TREE)
        self._settings = load_workspace(self._workspace)
        first = self._chosen("one")
        first.runtime.expect(10, batch=True)
        self.label = workspace_label(first.folders)
        self.runner = runner.Runner(first.runtime, "", first.folders, runner.Emitter([]))

    def run(self, name: str) -> Outcome:
        return self.runner.run(self._chosen(name).assignment)

    def containers(self) -> list[str]:
        """Give the containers of this workspace."""
        command = ["docker", "ps", "-aq", "--filter", f"label=io.dsflow.workspace={self.label}"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()

    def processes(self) -> list[str]:
        """Give the commands that run in the one container."""
        (container,) = self.containers()
        done = subprocess.run(
            ["docker", "top", container, "-o", "pid,args"], capture_output=True, text=True, check=True
        )
        return done.stdout.splitlines()[1:]

    def _chosen(self, name: str) -> prepare.Chosen:
        return prepare.prepare(self._workspace, self._settings, name, [DS], [], runtime="docker")


@pytest.fixture
def plan(python_image: Image, make_workspace: MakeWorkspace) -> Iterator[Plan]:
    plan = Plan(make_workspace)
    yield plan
    plan.runner.close()
    assert plan.containers() == []


def test_tasks_share_a_container_and_nothing_in_it(plan: Plan) -> None:
    assert plan.run("one")
    (container,) = plan.containers()
    assert not any("sleep" in command for command in plan.processes())
    outcome = plan.run("two")
    assert outcome.status is Status.SUCCEEDED, outcome.failure
    assert plan.containers() == [container]


def test_tasks_with_other_limits_get_another_container(plan: Plan) -> None:
    assert plan.run("one")
    assert plan.run("small")
    assert len(plan.containers()) == 2
    assert plan.run("small")
    assert len(plan.containers()) == 2


def test_after_a_failure_the_container_is_gone(plan: Plan) -> None:
    assert plan.run("small")
    outcome = plan.run("hungry")
    assert outcome.exit_code == 137
    assert outcome.failure is not None
    assert "out of memory" in outcome.failure.message
    assert plan.containers() == []
    assert plan.run("small")


def test_a_task_that_kills_everything_it_can_costs_only_itself(plan: Plan) -> None:
    outcome = plan.run("kills")
    assert (outcome.status, outcome.exit_code) == (Status.FAILED, 137)
    assert plan.containers() == []
    assert plan.run("two")


def test_the_command_line_has_an_option_for_it(
    python_image: Image, make_workspace: MakeWorkspace, dsflow: Callable[..., Screen]
) -> None:
    make_workspace(job("two", "import os\nassert not os.path.exists('/tmp/left')"))
    screen = dsflow("--json", "backfill", "two", f"{DS}..2013-01-03", "-y", "--batch", "--runtime", "docker", "-j", "1")
    assert screen.exit_code == 0, screen
    assert len(json.loads(screen.out)) > 0
