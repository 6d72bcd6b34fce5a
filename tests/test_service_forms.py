"""Services in their two forms: what only a process can get wrong, and what only a container must keep out."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from dsflow import environments
from dsflow.containers import engine as containers
from dsflow.services import lifecycle, registry
from dsflow.services.contract import Found
from dsflow.workspace import Workspace
from tests.conftest import MakeWorkspace, Screen, build_tree
from tests.resident import answer, free_port, tree, until

Dsflow = Callable[..., Screen]


@pytest.fixture
def made(make_workspace: MakeWorkspace) -> Iterator[Callable[..., Workspace]]:
    """Make workspaces with a service, which is stopped at the end."""
    workspaces = []

    def make(port: int, *more: dict[str, str], **settings: str) -> Workspace:
        files = {name: text for part in more for name, text in part.items()}
        workspaces.append(make_workspace({**tree(port, **settings), **files}))
        return workspaces[-1]

    yield make
    for workspace in workspaces:
        lifecycle.stop_all(workspace, print)


def there(workspace: Workspace) -> Found:
    return registry.found_in(workspace)["web"]


def record(workspace: Workspace) -> Path:
    return workspace.own / "running" / "web.json"


class TestProcess:
    def test_another_process_with_the_same_id_is_neither_taken_for_it_nor_stopped(
        self, made: Callable[..., Workspace], dsflow: Dsflow
    ) -> None:
        port = free_port()
        workspace = made(port)
        dsflow("start", "web", "--form", "process")
        kill(there(workspace))
        with subprocess.Popen(
            [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, start_new_session=True
        ) as other:
            # As after days: the id is that of a younger process.
            written = json.loads(record(workspace).read_text()) | {"pid": other.pid}
            record(workspace).write_text(json.dumps({**written, "created": written["created"] - 86400}))
            assert there(workspace).status == "ended"
            assert dsflow("start", "web", "--json").document["change"] == "started"
            dsflow("stop-all")
            record(workspace).write_text(json.dumps({**written, "created": written["created"] - 86400}))
            dsflow("stop-all")
            assert other.poll() is None
            other.kill()

    @pytest.mark.parametrize("damage", ["", "{", "[]", '{"form": "process"}', None])
    def test_a_lost_record_loses_no_service(
        self, made: Callable[..., Workspace], dsflow: Dsflow, damage: str | None
    ) -> None:
        port = free_port()
        workspace = made(port)
        dsflow("start", "web", "--form", "process")
        if damage is None:
            record(workspace).unlink()
        else:
            record(workspace).write_text(damage)
        assert there(workspace).status == "running"
        assert dsflow("stop", "web").exit_code == 0
        assert answer(port) is None

    def test_a_start_that_was_killed_before_it_knew_the_process_is_taken_up(
        self, made: Callable[..., Workspace], dsflow: Dsflow
    ) -> None:
        workspace = made(free_port())
        dsflow("start", "web", "--form", "process")
        before = there(workspace)
        written = json.loads(record(workspace).read_text())
        record(workspace).write_text(json.dumps({k: v for k, v in written.items() if k not in ("pid", "created")}))
        assert there(workspace) == before
        assert dsflow("start", "web", "--json").document["change"] == "unchanged"

    def test_nothing_that_it_has_started_outlives_it(self, made: Callable[..., Workspace], dsflow: Dsflow) -> None:
        workspace = made(free_port(), mode="family")
        child = workspace.own / "services" / "web" / "child"
        dsflow("start", "web", "--form", "process")
        first = int(child.read_text())
        dsflow("stop", "web")
        assert not goes_on(first)
        # Nor one that was killed: its child is left, and is no service.
        dsflow("start", "web", "--form", "process")
        second = int(child.read_text())
        kill(there(workspace))
        until(lambda: there(workspace).status == "ended", "the end")
        assert goes_on(second)
        dsflow("stop-all")
        assert not goes_on(second)

    def test_it_hears_the_signals_that_a_shell_has_its_background_ignore(self, made: Callable[..., Workspace]) -> None:
        workspace = made(free_port())
        script = "trap '' INT TERM; exec \"$@\""
        start = ["sh", "-c", script, "sh", sys.executable, "-m", "dsflow", "start", "web", "--form", "process"]
        subprocess.run(start, cwd=workspace.root, check=True, capture_output=True)
        status = Path("/proc", there(workspace).id, "status").read_text()
        ignored = int(next(line for line in status.splitlines() if line.startswith("SigIgn")).split()[1], 16)
        assert not ignored & (1 << (signal.SIGTERM - 1))

    def test_it_has_an_environment_of_its_own_that_can_import_dsflow(
        self, made: Callable[..., Workspace], dsflow: Dsflow
    ) -> None:
        port = free_port()
        show = "import dsflow, importlib.util as u; print(dsflow.__name__, u.find_spec('duckdb'), flush=True)"
        locked = {
            "docker/web/requirements.lock": "# nothing is needed\n",
            "docker/web/shown.py": show + "\nimport runpy\nrunpy.run_path(__file__.replace('shown', 'server'))\n",
        }
        workspace = made(port, locked)
        file = workspace.root / "docker/web/service.yaml"
        text = file.read_text().replace("server.py", "shown.py")
        file.write_text(text.replace("process: {}", "process: {requirements: requirements.lock}"))
        assert dsflow("start", "web", "--form", "process").exit_code == 0
        assert "dsflow None" in dsflow("logs", "web").out
        assert psutil.Process(int(there(workspace).id)).cmdline()[0] != sys.executable
        file.write_text(text.replace("process: {}", "process: {requirements: missing.lock}"))
        screen = dsflow("start", "web")
        assert (screen.exit_code, "missing.lock is not there" in screen.err) == (4, True)

    def test_a_program_that_is_not_there_is_named(self, made: Callable[..., Workspace], dsflow: Dsflow) -> None:
        workspace = made(free_port())
        file = workspace.root / "docker/web/service.yaml"
        file.write_text(file.read_text().replace("[python3,", "[no-such-program,"))
        screen = dsflow("start", "web", "--form", "process")
        assert (screen.exit_code, "there is no program 'no-such-program'" in screen.err) == (4, True)
        assert registry.found_in(workspace) == {}

    def test_whoever_loses_patience_is_told_how_to_go_on(self, made: Callable[..., Workspace], dsflow: Dsflow) -> None:
        port = free_port()
        workspace = made(port, mode="busy")
        command = [sys.executable, "-m", "dsflow", "start", "web", "--form", "process"]
        with subprocess.Popen(command, cwd=workspace.root, stderr=subprocess.PIPE, text=True) as starter:
            until(lambda: answer(port), "the service to be there")
            starter.send_signal(signal.SIGINT)
            _, said = starter.communicate()
        assert (starter.returncode, "web goes on starting" in said) == (130, True)
        assert there(workspace).status == "running"
        assert dsflow("stop", "web").exit_code == 0

    def test_the_log_is_the_callers_alone(self, made: Callable[..., Workspace], dsflow: Dsflow) -> None:
        workspace = made(free_port())
        dsflow("start", "web", "--form", "process")
        log = workspace.own / "running" / "web.log"
        assert (log.stat().st_mode & 0o777, log.parent.stat().st_mode & 0o777) == (0o600, 0o700)


@pytest.mark.docker
@pytest.mark.usefixtures("python_image")
class TestContainer:
    def test_it_sees_its_mounts_and_nothing_else(self, made: Callable[..., Workspace], dsflow: Dsflow) -> None:
        workspace = made(free_port(), {"secret.txt": "for the host alone"})
        dsflow("start", "web", "--form", "container")
        found = containers.client().inspect_container(there(workspace).id)
        limits = found["HostConfig"]
        assert (limits["ReadonlyRootfs"], limits["CapDrop"], limits["Privileged"]) == (True, ["ALL"], False)
        assert limits["SecurityOpt"] == ["no-new-privileges"]
        assert (limits["Memory"], limits["PidsLimit"] > 0, limits["Init"]) == (64 << 20, True, True)
        assert limits["RestartPolicy"]["Name"] in ("", "no")
        assert found["Config"]["User"] == containers.caller(containers.engine(), os.getuid(), os.getgid())
        [bindings] = limits["PortBindings"].values()
        assert [binding["HostIp"] for binding in bindings] == ["127.0.0.1"]
        sources = {mount["Source"] for mount in found["Mounts"] if mount["Type"] == "bind"}
        assert not {source for source in sources if source.endswith("docker.sock")}
        assert str(workspace.root) not in sources
        inside = "ls /workspace; cat /workspace/secret.txt; touch /workspace/jobs/x /service/x; ls /var/run/docker.sock"
        done = subprocess.run(
            [sys.executable, "-m", "dsflow", "shell", "web", "sh", "-c", inside],
            cwd=workspace.root, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert (done.stdout, done.stderr.count("Read-only file system"), done.returncode) == ("jobs\n", 2, 2)

    def test_two_workspaces_cannot_reach_each_other(
        self, made: Callable[..., Workspace], dsflow: Dsflow, tmp_path: Path
    ) -> None:
        foreign = Workspace(tmp_path / "elsewhere")
        build_tree(foreign.root, {"dsflow.yml": "version: 1\n", **tree(free_port())})
        workspace = made(free_port())
        try:
            for root in (foreign.root, workspace.root):
                assert dsflow("-C", str(root), "start", "web", "--form", "container").exit_code == 0
            other = containers.client().inspect_container(there(foreign).id)
            [network] = other["NetworkSettings"]["Networks"].values()
            port = next(iter(other["HostConfig"]["PortBindings"])).partition("/")[0]
            ask = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 3)"
            run = [sys.executable, "-m", "dsflow", "shell", "web", "python3", "-c", ask, network["IPAddress"], port]
            asked = [
                subprocess.run(run, cwd=root, capture_output=True, check=False).returncode
                for root in (foreign.root, workspace.root)
            ]
            assert asked == [0, 1]
        finally:
            lifecycle.stop_all(foreign, print)

    def test_stop_all_removes_containers_and_network_and_no_container_that_is_not_ours(
        self, made: Callable[..., Workspace], dsflow: Dsflow
    ) -> None:
        api = containers.client()
        foreign = api.create_container("dsflow/base", ["sleep", "600"], labels={"io.dsflow.workspace": "another"})["Id"]
        try:
            api.start(foreign)
            workspace = made(free_port())
            dsflow("start", "web", "--form", "container")
            # One that was made and never started: its starter was killed in between.
            marks = {"workspace": workspace.label, "service": "half"}
            containers.create(containers.Wanted(name="", image="dsflow/base", command=(), user="1:1", labels=marks))
            assert dsflow("stop-all").exit_code == 0
            left = {"label": f"io.dsflow.workspace={workspace.label}"}
            assert (api.containers(all=True, filters=left), api.networks(filters=left)) == ([], [])
            assert api.inspect_container(foreign)["State"]["Running"]
        finally:
            containers.remove(foreign)

    def test_one_that_was_made_and_never_started_is_replaced(
        self, made: Callable[..., Workspace], dsflow: Dsflow
    ) -> None:
        port = free_port()
        workspace = made(port)
        name, marks = f"dsflow-web-{workspace.key}", {"workspace": workspace.label, "service": "web"}
        containers.create(containers.Wanted(name=name, image="dsflow/base", command=(), user="1:1", labels=marks))
        assert (there(workspace).status, there(workspace).cause) == ("ended", "it was never started")
        assert dsflow("start", "web", "--form", "container").exit_code == 0
        assert answer(port) is not None

    def test_one_that_needs_more_memory_than_it_may_have_is_told(
        self, made: Callable[..., Workspace], dsflow: Dsflow
    ) -> None:
        made(free_port(), mode="hungry")
        screen = dsflow("start", "web", "--form", "container")
        assert screen.exit_code == 4
        assert "web ended before it was ready: it used more memory than its limit" in screen.err
        assert "`memory` in its service.yaml is its limit" in screen.err

    def test_without_an_engine_it_is_unreachable_and_becomes_a_process(self, made: Callable[..., Workspace]) -> None:
        port = free_port()
        workspace = made(port)
        dead = {**os.environ, "DOCKER_HOST": "unix:///nowhere/docker.sock"}

        def run(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
            command, environment = [sys.executable, "-m", "dsflow", *arguments], {**os.environ, **settings}
            return subprocess.run(
                command, cwd=workspace.root, env=environment, capture_output=True, text=True, check=False
            )

        assert run("start", "web", "--form", "container").returncode == 0
        gone = {"DOCKER_HOST": dead["DOCKER_HOST"]}
        assert json.loads(run("ps", "--json", **gone).stdout)[0]["status"] == "unreachable"
        refused = run("stop", "web", **gone)
        assert refused.returncode == 4
        assert "web runs in a container, or did, and no Docker engine answers" in refused.stderr
        assert run("start", "web", "--form", "container", **gone).returncode == 4
        # It is still there, and so is its port.
        taken = run("start", "web", **gone)
        assert (taken.returncode, f"port {port} is taken" in taken.stderr) == (4, True)
        # With its engine it would be gone.
        containers.remove(there(workspace).id)
        assert run("start", "web", **gone).returncode == 0
        assert there(workspace).form == "process"

    def test_a_dockerfile_makes_an_image_of_its_own(self, made: Callable[..., Workspace], dsflow: Dsflow) -> None:
        port = free_port()
        workspace = made(port, {"docker/web/Dockerfile": "FROM dsflow/base\nENV GREETING=overridden\nENV MORE=x\n"})
        file = workspace.root / "docker/web/service.yaml"
        file.write_text(file.read_text().replace("image: dsflow/base\n", ""))
        tag = f"dsflow/web-{workspace.key}"
        try:
            assert dsflow("start", "web").exit_code == 0
            assert there(workspace).form == "container"
            first = containers.find_image(tag)
            assert first is not None
            assert first.environment["MORE"] == "x"
            dockerfile = workspace.root / "docker/web/Dockerfile"
            dockerfile.write_text(dockerfile.read_text() + "ENV MORE=y\n")
            assert dsflow("start", "web", "--json").document["change"] == "restarted"
            again = containers.find_image(tag)
            assert again is not None
            assert again.environment["MORE"] == "y"
        finally:
            lifecycle.stop_all(workspace, print)
            containers.client().remove_image(tag, force=True)


def goes_on(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def kill(found: Found) -> None:
    psutil.Process(int(found.id)).kill()


def test_a_service_without_ports_or_a_dockerfile_is_a_process(made: Callable[..., Workspace], dsflow: Dsflow) -> None:
    spec = "name: clock\ncommand: [python3, -u, -c, 'import time; print(1); time.sleep(600)']\nprocess: {}\n"
    workspace = made(free_port(), {"docker/clock/service.yaml": spec})
    screen = dsflow("start", "clock")
    assert (screen.exit_code, registry.found_in(workspace)["clock"].form) == (0, "process")
    assert "clock has neither a Dockerfile nor an `image`" in screen.err
    assert dsflow("start", "clock", "--port", "8000").exit_code == 2
    refused = dsflow("start", "clock", "--form", "container")
    assert (refused.exit_code, "`--form process` tries the other one" in refused.err) == (4, True)


def test_what_is_not_there_is_told_with_a_guess(made: Callable[..., Workspace], dsflow: Dsflow) -> None:
    made(free_port())
    for command in ("start", "stop", "restart", "shell"):
        screen = dsflow(command, "wep")
        assert (screen.exit_code, "did you mean 'web'?" in screen.err) == (2, True), command
    assert dsflow("shell", "web").exit_code == 2
    assert "web has no log: it was never started" in dsflow("logs", "web").err
    assert {row["name"]: row["status"] for row in dsflow("ps", "--all", "--json").document}["web"] == "stopped"


def test_a_private_file_replaces_a_link_that_a_service_left(made: Callable[..., Workspace], tmp_path: Path) -> None:
    service = registry.service_of(made(free_port()), "web")
    service.keep("token", "first")
    target = tmp_path / "of the host"
    target.write_text("untouched")
    (service.state / "token").unlink()
    (service.state / "token").symlink_to(target)
    assert service.kept("token") is None
    path = service.keep("token", "second")
    assert (service.kept("token"), target.read_text()) == ("second", "untouched")
    assert path.stat().st_mode & 0o777 == 0o600


def test_an_environment_of_a_lock_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DSFLOW_CACHE", str(tmp_path / "cache"))
    lock = tmp_path / "requirements.lock"
    lock.write_text("# nothing\n")
    notes: list[str] = []
    first = environments.locked(lock, notes.append)
    assert (environments.locked(lock, notes.append), len(notes)) == (first, 1)
    lock.write_text("# something else\n")
    assert environments.locked(lock, notes.append) != first
