"""What every form of a service must do: the same cases for containers and for processes."""

from __future__ import annotations

import io
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pexpect
import psutil
import pytest

from dsflow.containers import engine as containers
from dsflow.services import lifecycle, registry
from dsflow.services.contract import FormName, Found
from dsflow.workspace import Workspace
from tests.conftest import MakeWorkspace, Screen, Tree, build_tree
from tests.resident import answer, free_port, tree, until

Dsflow = Callable[..., Screen]
FORMS = [pytest.param("container", marks=pytest.mark.docker), "process"]


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest) -> FormName:
    if request.param == "container":
        request.getfixturevalue("python_image")
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def workspaces() -> Iterator[list[Workspace]]:
    """Workspaces whose services are stopped at the end, however the test ends."""
    made: list[Workspace] = []
    yield made
    for workspace in made:
        lifecycle.stop_all(workspace, print)


@pytest.fixture
def make(make_workspace: MakeWorkspace, workspaces: list[Workspace]) -> MakeWorkspace:
    def remember(files: Tree) -> Workspace:
        workspace = make_workspace(files)
        workspaces.append(workspace)
        return workspace

    return remember


def there(workspace: Workspace, name: str = "web") -> Found | None:
    return registry.found_in(workspace).get(name)


def test_a_service_starts_answers_and_leaves_nothing(make: MakeWorkspace, dsflow: Dsflow, form: FormName) -> None:
    port = free_port()
    workspace = make(tree(port, greeting="hello from {{ form }} {{ workspace }}"))
    started = dsflow("start", "web", "--form", form, "--json")
    assert (started.exit_code, started.document["change"], started.document["ready"]) == (0, "started", True)
    assert started.document["url"] == f"http://127.0.0.1:{port}"
    inside = "/workspace" if form == "container" else str(workspace.root)
    said = answer(port)
    assert said is not None
    assert said.startswith(f"hello from {form} {inside} ")
    # Files are the caller's.
    kept = workspace.own / "services" / "web"
    assert ((kept / "started").stat().st_uid, kept.stat().st_mode & 0o777) == (os.getuid(), 0o700)
    assert dsflow("ps", "--json").document[0]["status"] == "ready"
    assert "a line of the log" in dsflow("logs", "web").out
    stopped = dsflow("stop", "web")
    assert (stopped.exit_code, stopped.out) == (0, "web: stopped\n")
    assert (answer(port), there(workspace)) == (None, None)
    # What it keeps stays, and so does the log of the last time.
    assert (kept / "started").exists()
    assert "a line of the log" in dsflow("logs", "web").out
    assert dsflow("stop", "web").exit_code == 0


def test_start_changes_only_what_is_not_as_the_file_says(make: MakeWorkspace, dsflow: Dsflow, form: FormName) -> None:
    port, other = free_port(), free_port()
    workspace = make(tree(port))
    dsflow("start", "web", "--form", form)
    first = there(workspace)
    again = dsflow("start", "web", "--json").document
    assert (again["change"], again["form"], there(workspace)) == ("unchanged", form, first)
    build_tree(workspace.root, tree(port, greeting="good evening"))
    assert dsflow("start", "web", "--json").document["change"] == "restarted"
    assert str(answer(port)).startswith("good evening ")
    # Another port is another configuration; it stays until somebody asks for something else.
    assert dsflow("start", "web", "--port", str(other), "--json").document["port"] == other
    assert (answer(port), dsflow("start", "web", "--json").document["change"]) == (None, "unchanged")
    (workspace.root / "docker/web/notes.txt").write_text("read at the start, for all dsflow knows")
    assert dsflow("start", "web", "--json").document["change"] == "restarted"
    before = answer(other)
    assert dsflow("restart", "web").exit_code == 0
    assert (answer(other) is not None, there(workspace) != first, answer(port)) == (True, True, None)
    assert before is not None


def test_one_that_fails_is_told_with_its_last_lines(make: MakeWorkspace, dsflow: Dsflow, form: FormName) -> None:
    workspace = make(tree(free_port(), mode="fails"))
    screen = dsflow("start", "web", "--form", form)
    assert screen.exit_code == 4
    assert "web ended before it was ready: it ended with exit code 3. Its last lines:" in screen.err
    assert "no configuration: giving up" in screen.err
    assert there(workspace) is None
    assert "no configuration: giving up" in dsflow("logs", "web").out


def test_one_that_never_answers_is_stopped(make: MakeWorkspace, dsflow: Dsflow, form: FormName) -> None:
    workspace = make(tree(free_port(), mode="busy", timeout="2s"))
    screen = dsflow("start", "web", "--form", form)
    assert screen.exit_code == 4
    assert "web did not answer within 2 seconds and was stopped" in screen.err
    assert "asked for /" in screen.err
    assert there(workspace) is None


def test_one_that_does_not_answer_can_be_left_alone(make: MakeWorkspace, dsflow: Dsflow, form: FormName) -> None:
    make(tree(free_port(), mode="busy"))
    assert dsflow("start", "web", "--form", form, "--no-wait", "--json").document["ready"] is False
    assert dsflow("ps", "--json").document[0]["status"] == "starting"


def test_a_taken_port_is_named_with_its_owner_and_a_free_one(
    make: MakeWorkspace, dsflow: Dsflow, form: FormName
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        workspace = make(tree(port))
        screen = dsflow("start", "web", "--form", form)
        assert screen.exit_code == 4
        assert f"port {port} is taken by process {os.getpid()} (" in screen.err
        offered = screen.err.split("--port ")[1].split("`")[0]
        assert there(workspace) is None
        assert dsflow("start", "web", "--form", form, "--port", offered).exit_code == 0
    assert answer(int(offered)) is not None


def test_one_that_is_killed_is_told_and_started_again(make: MakeWorkspace, dsflow: Dsflow, form: FormName) -> None:
    port = free_port()
    workspace = make(tree(port))
    dsflow("start", "web", "--form", form)
    kill(there(workspace))
    until(lambda: there(workspace).status == "ended", "the end to be seen")  # type: ignore[union-attr]
    [row] = dsflow("ps", "--json").document
    assert (row["status"], row["form"]) == ("ended", form)
    assert row["cause"]
    assert dsflow("start", "web", "--form", form, "--json").document["change"] == "started"
    assert answer(port) is not None


def test_a_service_that_ignores_its_signal_is_killed(make: MakeWorkspace, dsflow: Dsflow, form: FormName) -> None:
    port = free_port()
    workspace = make(tree(port, mode="stubborn"))
    dsflow("start", "web", "--form", form)
    assert dsflow("stop", "web").exit_code == 0
    assert (answer(port), there(workspace)) == (None, None)


def test_two_starts_at_once_make_one_service(make: MakeWorkspace, form: FormName) -> None:
    port = free_port()
    workspace = make(tree(port))
    command = [sys.executable, "-m", "dsflow", "start", "web", "--form", form, "--json"]
    starting = [
        subprocess.Popen(command, cwd=workspace.root, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(3)
    ]
    ends = [process.communicate(timeout=170) for process in starting]
    assert [process.returncode for process in starting] == [0, 0, 0], ends
    documents = [json.loads(out) for out, _ in ends]
    assert sorted(document["change"] for document in documents) == ["started", "unchanged", "unchanged"]
    assert len({document["id"] for document in documents}) == 1


def test_a_start_that_is_killed_leaves_nothing_in_the_way(make: MakeWorkspace, dsflow: Dsflow, form: FormName) -> None:
    port = free_port()
    workspace = make(tree(port, mode="busy"))
    command = [sys.executable, "-m", "dsflow", "start", "web", "--form", form]
    starter = subprocess.Popen(command, cwd=workspace.root, stderr=subprocess.PIPE)
    until(lambda: answer(port), "the service to be there")
    starter.kill()
    starter.communicate()
    build_tree(workspace.root, tree(port))
    assert dsflow("start", "web", "--form", form, "--json").document["change"] == "restarted"
    assert [found.name for found in registry.form_of(form).find(workspace)] == ["web"]


def test_stop_all_touches_nothing_else(
    make: MakeWorkspace, dsflow: Dsflow, form: FormName, tmp_path: Path, workspaces: list[Workspace]
) -> None:
    # The same service, of the same name, in a workspace of the same name.
    foreign = Workspace(tmp_path / "elsewhere" / "work space")
    port, far = free_port(), free_port()
    build_tree(foreign.root, {"dsflow.yml": "version: 1\n", **tree(far)})
    workspaces.append(foreign)
    make({**tree(port), **tree(free_port(), name="second")})
    assert dsflow("-C", str(foreign.root), "start", "web", "--form", form).exit_code == 0
    for name in ("web", "second"):
        assert dsflow("start", name, "--form", form).exit_code == 0
    clash = dsflow("-C", str(foreign.root), "start", "web", "--port", str(port))
    assert (clash.exit_code, "is taken by the service web of the workspace work space" in clash.err) == (4, True)
    before = there(foreign)
    assert {row["name"] for row in dsflow("ps", "--json").document} == {"web", "second"}
    assert dsflow("stop-all").exit_code == 0
    assert dsflow("ps", "--json").document == []
    assert (answer(port), answer(far) is not None, there(foreign)) == (None, True, before)
    assert dsflow("stop-all").out == "Nothing was running.\n"


def test_an_address_for_others_is_refused_with_the_known_password(
    make: MakeWorkspace, dsflow: Dsflow, form: FormName, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    workspace = make(tree(port, login="workspace"))
    screen = dsflow("start", "web", "--form", form, "--address", "0.0.0.0")
    assert (screen.exit_code, there(workspace)) == (2, None)
    assert "web may not listen on 0.0.0.0 with the password that everybody knows" in screen.err
    for wrong in ("green3\n", "\n"):
        with monkeypatch.context() as patched:
            patched.setattr("sys.stdin", io.StringIO(wrong))
            assert dsflow("start", "web", "--form", form, "--address", "0.0.0.0", "--password").exit_code == 2
    monkeypatch.setattr("sys.stdin", io.StringIO("correct horse\n"))
    screen = dsflow("start", "web", "--form", form, "--address", "0.0.0.0", "--password", "--json")
    assert (screen.exit_code, screen.document["url"]) == (0, f"http://127.0.0.1:{port}")
    assert "asks nobody" not in screen.err
    outside = next(a.address for n in psutil.net_if_addrs().values() for a in n if a.family == socket.AF_INET)
    assert answer(port, outside) is not None
    secret = workspace.own / "password" / "hash"
    assert (secret.stat().st_mode & 0o777, "correct horse" in secret.read_text()) == (0o600, False)
    assert dsflow("start", "web", "--address", "somewhere").exit_code == 2
    build_tree(workspace.root, tree(port))
    assert "web asks nobody for a password: whoever reaches 0.0.0.0" in dsflow("start", "web").err


def test_a_shell_runs_commands_where_the_service_runs(make: MakeWorkspace, form: FormName) -> None:
    workspace = make(tree(free_port()))
    run = [sys.executable, "-m", "dsflow"]
    subprocess.run([*run, "start", "web", "--form", form], cwd=workspace.root, check=True, capture_output=True)
    script = "echo $GREETING; exit 7"
    done = subprocess.run(
        [*run, "shell", "web", "sh", "-c", script], cwd=workspace.root, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (7, "hello\n"), done.stderr


def test_a_shell_is_a_terminal(make: MakeWorkspace, form: FormName) -> None:
    workspace = make(tree(free_port()))
    run = [sys.executable, "-m", "dsflow"]
    subprocess.run([*run, "start", "web", "--form", form], cwd=workspace.root, check=True, capture_output=True)
    environment = {**os.environ, "SHELL": "/bin/sh"}
    shell = pexpect.spawn(
        run[0], [*run[1:], "shell", "web"], cwd=str(workspace.root), env=environment, encoding="utf-8", timeout=60
    )
    shell.expect("[$#] ")
    shell.sendline("test -t 0 && echo terminal-$GREETING; exit 5")
    shell.expect("terminal-hello")
    shell.expect(pexpect.EOF)
    shell.close()
    assert shell.exitstatus == 5


def test_logs_can_be_followed(make: MakeWorkspace, form: FormName) -> None:
    port = free_port()
    workspace = make(tree(port))
    run = [sys.executable, "-u", "-m", "dsflow"]
    subprocess.run([*run, "start", "web", "--form", form], cwd=workspace.root, check=True, capture_output=True)
    with subprocess.Popen([*run, "logs", "web", "-f"], cwd=workspace.root, stdout=subprocess.PIPE, text=True) as reader:
        assert reader.stdout is not None
        seen: list[str] = []
        thread = threading.Thread(target=lambda: seen.extend(reader.stdout or ()))
        thread.start()
        until(lambda: seen, "the first lines")
        count = len(seen)
        answer(port)
        until(lambda: len(seen) > count, "a line that came later")
        subprocess.run([*run, "stop", "web"], cwd=workspace.root, check=True, capture_output=True)
        # It ends with the service.
        thread.join(60)
        assert reader.wait(60) == 0


@pytest.mark.docker
@pytest.mark.usefixtures("python_image")
def test_the_forms_replace_each_other(make: MakeWorkspace, dsflow: Dsflow) -> None:
    port = free_port()
    workspace = make(tree(port))
    for form in ("process", "container", "process"):
        assert dsflow("start", "web", "--form", form).exit_code == 0
        found = there(workspace)
        assert found is not None
        assert (found.form, found.status, answer(port) is not None) == (form, "running", True)
        assert len([same for each in registry.forms() for same in each.find(workspace)]) == 1


def kill(found: Found | None) -> None:
    assert found is not None
    if found.form == "process":
        psutil.Process(int(found.id)).kill()
    else:
        containers.client().kill(found.id, "SIGKILL")
