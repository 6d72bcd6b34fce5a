"""Containers, and what is said when an engine refuses or is not there."""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
import importlib.util
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from docker.errors import APIError

from dsflow.containers import engine as containers
from dsflow.containers import host
from dsflow.containers.engine import Bind, Container, Engine, Image, Wanted
from dsflow.errors import EnvironmentMissing

# ---- is an engine there?


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[Path]:
    """A socket at which something answers."""
    path = tmp_path / "engine.sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        yield path


def problem_at(monkeypatch: pytest.MonkeyPatch, url: str) -> EnvironmentMissing:
    monkeypatch.setenv("DOCKER_HOST", url)
    problem = host.problem()
    assert problem is not None
    assert "--runtime process" in problem.hint
    return problem


def test_an_engine_that_answers_is_available(monkeypatch: pytest.MonkeyPatch, listening: Path) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{listening}")
    assert containers.available() is None


def test_an_engine_that_is_not_running_is_told_from_a_wrong_address(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, listening: Path
) -> None:
    absent = problem_at(monkeypatch, f"unix://{tmp_path}/none.sock")
    assert absent.message == (
        f"no Docker engine answers at unix://{tmp_path}/none.sock (named by DOCKER_HOST): No such file or directory"
    )
    assert "unset DOCKER_HOST" in absent.hint
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "dead.sock"))
    assert "Connection refused" in problem_at(monkeypatch, f"unix://{tmp_path}/dead.sock").message
    assert "starts with unix://" in problem_at(monkeypatch, "localhost").message


def test_a_port_where_nobody_answers_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert f"tcp://127.0.0.1:{port}" in problem_at(monkeypatch, f"tcp://127.0.0.1:{port}").message


@pytest.mark.skipif(os.getuid() != 0, reason="needs root, to become somebody who may not")
def test_an_engine_one_may_not_use_says_so(monkeypatch: pytest.MonkeyPatch, listening: Path) -> None:
    listening.chmod(0o600)
    monkeypatch.setenv("DOCKER_HOST", f"unix://{listening}")
    os.seteuid(65534)
    try:
        problem = host.problem()
    finally:
        os.seteuid(0)
    assert problem is not None
    # pytest's own folders are closed to others, and that is the same refusal.
    assert problem.message.startswith("you may not use the Docker engine at unix://")
    assert "usermod -aG docker" in problem.hint


def test_the_current_context_of_the_docker_command_is_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    meta = tmp_path / "contexts" / "meta" / hashlib.sha256(b"colima").hexdigest()
    meta.mkdir(parents=True)
    (meta / "meta.json").write_text(json.dumps({"Endpoints": {"docker": {"Host": "unix:///elsewhere.sock"}}}))
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    assert host.url() == "unix:///var/run/docker.sock"
    (tmp_path / "config.json").write_text(json.dumps({"currentContext": "colima"}))
    assert host.url() == "unix:///elsewhere.sock"
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
    assert host.url() == "tcp://127.0.0.1:1"


def test_a_folder_named_docker_is_not_taken_for_the_sdk(tmp_path: Path) -> None:
    (tmp_path / "docker").mkdir()
    script = "import sys; sys.path = [sys.argv[1], *(p for p in sys.path if 'site-packages' not in p), sys.argv[2]]\n"
    script += "from dsflow.containers import host; print(host.problem().message)"
    root = str(Path(containers.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path), root], capture_output=True, text=True, cwd=tmp_path, check=True
    )
    assert done.stdout == "the Docker SDK for Python is missing\n"


def test_asking_whether_an_engine_is_there_does_not_load_the_sdk() -> None:
    script = "import sys; from dsflow.containers import engine; engine.available(); print('docker' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
    assert importlib.util.find_spec("docker") is not None


# ---- what an engine refuses


@pytest.mark.parametrize(
    ("said", "message", "hint"),
    [
        ("No such image: acme/x:1", "the image acme/x:1 is not on this machine", "docker pull acme/x:1"),
        (
            "external connectivity on endpoint d (9f8e): Bind for 127.0.0.1:8050 failed: port is already allocated",
            "port 8050 is taken by another program",
            "another port",
        ),
        (
            "Error starting userland proxy: listen tcp4 127.0.0.1:8051: bind: address already in use",
            "port 8051 is taken by another program",
            "another port",
        ),
        (
            'invalid mount config for type "bind": bind source path does not exist: /home/me/my jobs',
            "the Docker engine does not see the folder /home/me/my jobs",
            "File sharing",
        ),
        ("Minimum memory limit allowed is 6MB", "limits: Minimum memory limit allowed is 6MB", "run.memory"),
        ("write /var/lib/docker/x: no space left on device", "disk is full", "docker system df"),
    ],
)
def test_a_refusal_is_one_sentence_and_what_to_do(said: str, message: str, hint: str) -> None:
    error = containers.explain(APIError("500 Server Error", explanation=said))
    assert message in error.message
    assert hint in error.hint
    assert error.exit_code == 4


def test_a_refusal_nobody_foresaw_is_passed_on(monkeypatch: pytest.MonkeyPatch, listening: Path) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{listening}")
    error = containers.explain(APIError("500 Server Error", explanation="the moon is full"))
    assert error.message == "the Docker engine refused: the moon is full"


def test_an_engine_that_went_away_is_told_as_such(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    assert "no Docker engine answers" in containers.explain(ConnectionError("Connection aborted")).message


# ---- whose files


def test_files_belong_to_the_caller_with_every_engine() -> None:
    ordinary = containers.describe({"SecurityOptions": ["name=seccomp,profile=default"], "NCPU": 8})
    rootless = containers.describe({"SecurityOptions": ["name=seccomp,profile=default", "name=rootless"], "NCPU": 8})
    assert ordinary == Engine(rootless=False, cpus=8)
    assert containers.caller(ordinary, 501, 20) == "501:20"
    # There the container's root is the caller.
    assert containers.caller(rootless, 501, 20) == "0:0"
    assert containers.describe({"SecurityOptions": None}) == Engine(rootless=False, cpus=1)


# ---- a real container


def start(image: Image, code: str, name: str, **changes: object) -> Container:
    user = f"{os.getuid()}:{os.getgid()}"
    wanted = Wanted(
        name=f"dsflow-test-{os.getpid()}-{name}", image=image.id, user=user, command=("python3", "-c", code)
    )
    return Container(dataclasses.replace(wanted, **changes))  # type: ignore[arg-type]


@pytest.mark.docker
def test_lines_are_whole_and_none_is_lost(python_image: Image) -> None:
    code = (
        "import sys, time\nfor n in range(2000): sys.stdout.write(f'{n}-'); sys.stdout.flush(); print('é' * (n % 50))"
    )
    running = start(python_image, code, "lines")
    assert list(running.lines()) == [f"{n}-{'é' * (n % 50)}" for n in range(2000)]
    assert running.wait() == (0, False)


@pytest.mark.docker
def test_a_container_is_closed_on_all_sides(python_image: Image, tmp_path: Path) -> None:
    code = """if True:
        import json, os, pathlib
        status = dict(line.split(":\\t") for line in open("/proc/self/status") if ":\\t" in line)
        def writable(folder):
            try: pathlib.Path(folder, "x").touch()
            except OSError: return False
            return True
        print(json.dumps({
            "net": os.listdir("/sys/class/net"), "no new privileges": status["NoNewPrivs"].strip(),
            "capabilities": int(status["CapEff"], 16), "first process": open("/proc/1/comm").read().strip(),
            "writable": [f for f in ("/", "/opt/venv", "/read", "/write", "/tmp") if writable(f)],
        }))"""
    for folder in ("read", "write"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder).chmod(0o777)
    binds = (
        Bind(source=tmp_path / "read", target="/read"),
        Bind(source=tmp_path / "write", target="/write", read_only=False),
    )
    running = start(python_image, code, "closed", user="4242:4242", binds=binds)
    lines = list(running.lines())
    assert running.wait() == (0, False), lines
    assert json.loads(lines[0]) == {
        "net": ["lo"],
        "no new privileges": "1",
        "capabilities": 0,
        "first process": "docker-init",
        "writable": ["/write", "/tmp"],
    }
    assert (tmp_path / "write" / "x").stat().st_uid == 4242


@pytest.mark.docker
def test_a_network_is_there_only_if_wanted(python_image: Image) -> None:
    running = start(python_image, "import os; print(sorted(os.listdir('/sys/class/net')))", "net", network=True)
    assert list(running.lines()) == ["['eth0', 'lo']"]
    running.wait()


@pytest.mark.docker
def test_memory_that_runs_out_is_told_though_the_first_process_survives(python_image: Image) -> None:
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'b\"x\" * 2**30']); print('survived')"
    running = start(python_image, code, "memory", memory=100 * 2**20)
    assert list(running.lines()) == ["survived"]
    assert running.wait() == (0, True)


@pytest.mark.docker
def test_nothing_is_left_of_a_container_that_ended_or_never_started(python_image: Image) -> None:
    running = start(python_image, "input()", "left", labels={"test": "left"})
    assert listed("label=io.dsflow.test=left") == 1
    running.stop(kill=True)
    assert running.wait() == (137, False)
    running.stop()
    assert listed("label=io.dsflow.test=left") == 0
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(EnvironmentMissing, match=f"port {port} is taken"):
            start(python_image, "1", "port", port=port, labels={"test": "left"})
    with pytest.raises(EnvironmentMissing, match="the image dsflow-test/none:latest is not on this machine"):
        start(dataclasses.replace(python_image, id="dsflow-test/none"), "1", "image")
    with pytest.raises(EnvironmentMissing, match="does not see the folder /no/such folder"):
        start(python_image, "1", "bind", binds=(Bind(source=Path("/no/such folder"), target="/x"),))
    assert listed("label=io.dsflow.test=left") == 0


@pytest.mark.docker
def test_its_input_ends_with_the_process_that_started_it_and_the_leftover_is_removed(
    python_image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = f"""if True:
        import os, signal
        from dsflow.containers.engine import Container, Wanted
        running = Container(Wanted(name="dsflow-test-{os.getpid()}-orphan", image="{python_image.id}", user="0:0",
            command=("python3", "-uc", "print('up'); import sys; sys.stdin.read()"), labels={{"test": "orphan"}}))
        next(running.lines())
        os.kill(os.getpid(), signal.SIGKILL)"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    name = f"dsflow-test-{os.getpid()}-orphan"
    subprocess.run(["docker", "wait", name], check=True, capture_output=True, timeout=60)
    containers.remove_leftovers({"test": "orphan"})
    assert listed("label=io.dsflow.test=orphan") == 1, "its end may still be read by somebody"
    monkeypatch.setattr(containers, "_LEFTOVER_AFTER", dt.timedelta(0))
    containers.remove_leftovers({"test": "another"})
    assert listed("label=io.dsflow.test=orphan") == 1
    containers.remove_leftovers({"test": "orphan"})
    assert listed("label=io.dsflow.test=orphan") == 0


def listed(what: str) -> int:
    done = subprocess.run(["docker", "ps", "-aq", "--filter", what], check=True, capture_output=True, text=True)
    return len(done.stdout.split())
