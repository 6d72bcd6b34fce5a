"""dsflow is killed at some moment while it starts a service: the next start makes one, and only one."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from dsflow.services import lifecycle, registry
from dsflow.services.contract import FormName
from tests.conftest import MakeWorkspace, Screen
from tests.resident import answer, free_port, tree

pytestmark = [pytest.mark.crash, pytest.mark.timeout(600)]
# Parts of the time that a whole start takes.
MOMENTS = (0.35, 0.5, 0.6, 0.7, 0.8, 0.9)


@pytest.mark.parametrize("form", [pytest.param("container", marks=pytest.mark.docker), "process"])
def test_a_start_can_be_killed_at_any_moment(
    make_workspace: MakeWorkspace, dsflow: Callable[..., Screen], request: pytest.FixtureRequest, form: FormName
) -> None:
    if form == "container":
        request.getfixturevalue("python_image")
    port = free_port()
    workspace = make_workspace(tree(port))
    command = [sys.executable, "-m", "dsflow", "start", "web", "--form", form]
    try:
        began = time.monotonic()
        subprocess.run(command, cwd=workspace.root, check=True, capture_output=True)
        whole = time.monotonic() - began
        for moment in MOMENTS:
            lifecycle.stop_all(workspace, print)
            assert answer(port) is None
            starter = subprocess.Popen(command, cwd=workspace.root, stderr=subprocess.DEVNULL)
            time.sleep(whole * moment)
            starter.kill()
            starter.wait()
            screen = dsflow("start", "web", "--form", form)
            assert screen.exit_code == 0, (moment, screen.err)
            assert answer(port) is not None
            assert len([found for each in registry.forms() for found in each.find(workspace)]) == 1
    finally:
        lifecycle.stop_all(workspace, print)
    assert registry.found_in(workspace) == {}
