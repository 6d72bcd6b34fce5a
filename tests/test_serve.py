"""`dsflow serve`: what callers get, with a real server on a real socket and jobs in real processes."""

from __future__ import annotations

import concurrent.futures
import itertools
import json
import re
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dsflow.errors import EXIT_CODES, EnvironmentMissing
from dsflow.serve import client, detached
from dsflow.serve.client import Client, Refused, Unreachable
from dsflow.serve.dispatcher import Closing, Dispatcher, Full
from dsflow.serve.ledger import Ledger, Request, now
from dsflow.serve.places import Places
from dsflow.workspace import Workspace
from tests.conftest import MakeWorkspace, Screen, build_tree
from tests.serving import DS, JOBS, Served, published, serving, until

SECRET = "never-to-be-seen-4711"


@pytest.fixture(autouse=True)
def _in_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DSFLOW_RUNTIME", "process")


@pytest.fixture(scope="module")
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number: int = probe.getsockname()[1]
        return number


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, port: int) -> Iterator[Served]:
    """One server for the tests that do not end it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DSFLOW_RUNTIME", "process")
        root = tmp_path_factory.mktemp("served") / "work space"
        build_tree(root, {"dsflow.yml": "version: 1\n", **JOBS})
        (root / "datastore").mkdir()
        with serving(Workspace(root), "--port", str(port), "-j", "2") as running:
            yield running


@pytest.fixture
def own(make_workspace: MakeWorkspace) -> Iterator[Served]:
    """A server for a test that does something to it; one run at a time."""
    with serving(make_workspace(JOBS), "-j", "1") as running:
        yield running


def follow(client: Client, run: str) -> tuple[list[str], dict[str, Any]]:
    """Follow a run to its end: the kinds of its events, and how it ended."""
    events = list(client.follow(run))
    assert events[-1].kind == "end"
    return [event.kind for event in events], events[-1].data


class TestRunning:
    def test_a_run_is_followed_to_its_end_and_is_in_the_history(
        self, served: Served, monkeypatch: pytest.MonkeyPatch, dsflow: Callable[..., Screen]
    ) -> None:
        accepted = served.client.run("quick", DS, {"city": "lyon"})
        kinds, ended = follow(served.client, accepted["id"])
        assert kinds[:2] == ["accepted", "started"]
        assert kinds[-2:] == ["finished", "end"]
        assert [kind for kind in kinds if kind not in ("log", "progress", "notice")] == [
            "accepted", "started", "finished", "end",
        ]  # fmt: skip
        assert (ended["status"], ended["exit_code"], ended["error"]) == ("succeeded", 0, None)
        assert ended == served.client.get(accepted["id"])
        monkeypatch.chdir(served.workspace.root)
        shown = dsflow("runs", "show", ended["run_ids"][0], "--json").document
        assert '"succeeded"' in json.dumps(shown)
        assert (served.workspace.datastore / ended["folder"] / "index.html").is_file()

    @pytest.mark.parametrize(("job", "code", "words"), [("broken", 1, "exit code 7"), ("checked", 3, "none")])
    def test_a_failure_says_why_and_has_the_exit_code_of_run(
        self, served: Served, job: str, code: int, words: str
    ) -> None:
        _, ended = follow(served.client, served.client.run(job, DS)["id"])
        assert (ended["status"], ended["exit_code"]) == ("failed", code)
        assert words in ended["error"]["message"]

    def test_secrets_reach_the_job_and_nothing_else(self, served: Served) -> None:
        wanted = {"city": "nice", "api_token": SECRET}
        accepted = served.client.submit("quick", "2013-02-01", wanted, key="with a secret")
        events = list(served.client.follow(accepted["id"]))
        assert events[-1].data["exit_code"] == 0
        assert SECRET not in json.dumps([accepted, [event.data for event in events], served.client.list()])
        assert accepted["parameters"] == {"city": "nice", "api_token": "***"}
        files = [path for path in served.workspace.root.rglob("*") if path.is_file()]
        assert [path for path in files if SECRET.encode() in path.read_bytes()] == []

    def test_what_is_fresh_is_left_alone_where_asked(self, served: Served) -> None:
        first = follow(served.client, served.client.run("quick", "2013-03-01")["id"])[1]
        again = follow(served.client, served.client.run("quick", "2013-03-01", if_stale=True)["id"])[1]
        assert (first["status"], again["status"]) == ("succeeded", "skipped")
        assert (again["exit_code"], again["run_ids"]) == (0, [])
        other = served.client.run("quick", "2013-03-01", {"city": "x"}, if_stale=True)
        assert follow(served.client, other["id"])[1]["status"] == "succeeded"

    def test_a_run_without_a_date_is_for_today(self, served: Served) -> None:
        accepted = served.client.run("quick")
        assert re.fullmatch(r"\d{4}-\d\d-\d\d", accepted["ds"])
        assert follow(served.client, accepted["id"])[1]["exit_code"] == 0


class TestKeys:
    def test_the_same_key_is_the_same_run_however_many_ask(self, served: Served) -> None:
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            asked = [pool.submit(served.client.run, "quick", "2013-04-01", key="once") for _ in range(48)]
            ids = {future.result()["id"] for future in asked}
        assert len(ids) == 1
        _, ended = follow(served.client, ids.pop())
        assert len(ended["run_ids"]) == 1
        assert served.client.run("quick", "2013-04-01", key="once")["status"] == "succeeded"
        assert [run["id"] for run in served.client.list(key="once")] == [ended["id"]]

    @pytest.mark.parametrize("other", [{"ds": "2013-04-03"}, {"parameters": {"city": "x"}}, {"if_stale": True}])
    def test_a_key_stands_for_one_request(self, served: Served, other: dict[str, Any]) -> None:
        first: dict[str, Any] = {"job": "quick", "ds": "2013-04-02", "key": "mine"}
        served.client.run(**first)
        with pytest.raises(Refused) as refused:
            served.client.run(**{**first, **other})
        assert (refused.value.status, refused.value.exit_code) == (409, 2)


class TestFollowing:
    def test_one_who_comes_back_misses_nothing_and_gets_nothing_twice(self, served: Served) -> None:
        run = served.client.run("quick", "2013-05-01", key="positions")["id"]
        events = list(served.client.follow(run))
        for number, event in enumerate(events[:-1]):
            assert list(served.client.events(run, after=event.id)) == events[number + 1 :]

    @pytest.mark.parametrize("position", ["1", "-1", "x", "9" * 40, "99999", "٣", ""])
    def test_an_id_that_no_event_has_is_refused(self, served: Served, position: str) -> None:
        run = served.client.run("quick", "2013-05-01", key="positions")["id"]
        status, document = ask(served, "GET", f"/runs/{run}/events", headers={"Last-Event-ID": position})
        assert (status, document["exit_code"]) == (400, 2)

    def test_whoever_hangs_up_does_not_end_the_run(self, served: Served) -> None:
        run = served.client.run("endless", "2013-05-02")["id"]
        for event in served.client.events(run):
            if event.kind == "log":
                break
        assert served.client.get(run)["status"] == "running"
        served.client.cancel(run)
        assert follow(served.client, run)[1]["exit_code"] == 130

    def test_many_lines_come_whole_and_in_order(self, own: Served) -> None:
        lines = 20_000
        folder = own.workspace.jobs / "loud"
        build_tree(folder, {"job_specs.yaml": "version: 1\nkind: script\n", "main.sh": f"seq {lines}\n"})
        texts = [event.data["text"] for event in own.client.follow(own.client.run("loud", DS)["id"])
                 if event.kind == "log"]  # fmt: skip
        assert texts == [str(number + 1) for number in range(lines)]


class TestCancelling:
    @pytest.mark.parametrize("job", ["endless", "stubborn"])
    def test_nothing_is_left_of_a_cancelled_run(self, own: Served, job: str) -> None:
        run = own.client.run(job, DS)["id"]
        own.await_log(run, "begun")
        assert own.processes_of(run)
        own.client.cancel(run)
        _, ended = follow(own.client, run)
        assert (ended["status"], ended["exit_code"]) in [("interrupted", 130), ("failed", 137)]
        until(lambda: not own.processes_of(run))
        assert published(own.workspace) == []
        assert own.client.cancel(run) == ended

    def test_a_waiting_run_never_begins(self, own: Served) -> None:
        running = own.client.run("endless", DS)["id"]
        waiting = own.client.run("quick", DS)["id"]
        assert own.client.get(waiting)["status"] == "queued"
        assert own.client.health()["queued"] == 1
        follower = threading.Thread(target=follow, args=(own.client, waiting))
        follower.start()
        ended = own.client.cancel(waiting)
        follower.join(60)
        assert not follower.is_alive()
        assert (ended["status"], ended["exit_code"], ended["run_ids"]) == ("interrupted", 130, [])
        assert own.client.get(running)["status"] == "running"
        own.client.cancel(running)
        follow(own.client, running)
        assert not list(own.workspace.datastore.glob("job_runs/quick/*"))

    def test_one_that_is_just_beginning_ends_too(self, own: Served) -> None:
        runs = []
        for _ in range(4):
            runs.append(own.client.run("endless", DS)["id"])
            own.client.cancel(runs[-1])
            assert follow(own.client, runs[-1])[1]["exit_code"] == 130
        until(lambda: not any(own.processes_of(run) for run in runs))


class TestWaiting:
    def test_runs_wait_in_order_and_too_many_are_refused(self, make_workspace: MakeWorkspace) -> None:
        workspace = make_workspace(JOBS)
        Places.of(workspace).make()
        dispatcher = Dispatcher(workspace, at_once=1, most_queued=2)
        dispatcher.open()
        try:
            first, second, third = (dispatcher.submit(request("endless", ds), {})[0] for ds in (DS, "2013-01-02", "x"))
            assert dispatcher.counts() == (1, 2)
            with pytest.raises(Full):
                dispatcher.submit(request("quick", DS), {})
            dispatcher.cancel(first)
            until(lambda: second.state().run_ids)
            assert dispatcher.counts() == (1, 1)
            assert third.state().status == "queued"
        finally:
            dispatcher.close(60)
        assert [entry.state().status for entry in (first, second, third)] == ["interrupted"] * 3
        with pytest.raises(Closing):
            dispatcher.submit(request("quick", DS), {})

    def test_old_ends_are_forgotten(self, make_workspace: MakeWorkspace, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("dsflow.serve.ledger._REMEMBERED", 2)
        workspace = make_workspace(JOBS)
        Places.of(workspace).make()
        dispatcher = Dispatcher(workspace, at_once=1, most_queued=9)
        dispatcher.open()
        try:
            for number in range(3):
                dispatcher.submit(request("nothing", DS, id=f"run-{number}", key=f"k{number}"), {})
                until(lambda: dispatcher.counts() == (0, 0))
        finally:
            dispatcher.close(60)
        assert [entry.id for entry in dispatcher.latest()] == ["run-2", "run-1"]
        assert sorted(path.name for path in Places.of(workspace).runs.iterdir()) == ["run-1", "run-2"]


_numbers = itertools.count()


def request(job: str, ds: str, **changes: Any) -> Request:
    """Give a request that was accepted."""
    given = {"id": f"20261120T000000-{next(_numbers):06x}", "job": job, "ds": ds, "asked": ds, "accepted": now()}
    return Request(**{**given, **changes})


class TestRefusals:
    @pytest.mark.parametrize(
        ("body", "words"),
        [
            ({"job": "../../etc"}, "not a valid job name"),
            ({"job": "quik"}, "did you mean 'quick'?"),
            ({"job": "quick", "ds": "2013-13-01"}, "2013-13-01"),
            ({"job": "quick", "ds": "../x"}, "../x"),
            ({"job": "quick", "parameters": {"citty": "x"}}, "did you mean 'city'?"),
            ({"job": "quick", "parameters": {"a=b": "x"}}, "no name of a parameter"),
            ({"job": "quick", "parameters": []}, "expected an object"),
            ({"job": "quick", "if_stale": "yes"}, "expected true or false"),
            ({"job": "quick", "key": "x" * 201}, "key"),
            ({"job": "quick", "key": "a\nb"}, "key"),
            ({"job": "quick", "keey": "x"}, "did you mean 'key'?"),
            ({"job": "page"}, "serves until it is stopped"),
            ({"ds": DS}, "names no job"),
            ([], "not a JSON object"),
            (b"{", "not JSON"),
            (b"[" * 60_000, "not JSON"),
        ],
    )
    def test_a_wrong_request_is_explained(self, served: Served, body: Any, words: str) -> None:
        status, document = ask(served, "POST", "/runs", body if isinstance(body, bytes) else json.dumps(body).encode())
        assert status == 400
        assert words in document["error"]
        assert document["exit_code"] == 2

    @pytest.mark.parametrize(
        ("method", "path", "code"),
        [
            ("GET", "/runs/nope", 404),
            ("GET", "/runs/nope/events", 404),
            ("POST", "/runs/nope/cancel", 404),
            ("GET", "/runs/..%2F..%2Fetc", 404),
            ("GET", "/", 404),
            ("GET", "/runs/", 404),
            ("DELETE", "/runs", 405),
            ("HEAD", "/runs", 405),
            ("OPTIONS", "/runs", 405),
            ("GET", "/runs?statas=x", 400),
            ("GET", "/runs?limit=0", 400),
            ("GET", "/runs?limit=x", 400),
        ],
    )
    def test_what_is_not_there_is_said_as_json(self, served: Served, method: str, path: str, code: int) -> None:
        status, document = ask(served, method, path)
        assert status == code
        assert method == "HEAD" or set(document) == {"error", "hint", "exit_code"}

    def test_a_large_body_is_refused_also_in_pieces(self, served: Served) -> None:
        large = json.dumps({"job": "quick", "key": "x" * (70 << 10)}).encode()
        assert ask(served, "POST", "/runs", large)[0] == 413
        pieces = b"".join(b"1000\r\n" + b" " * 4096 + b"\r\n" for _ in range(20)) + b"0\r\n\r\n"
        head = f"POST /runs HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token(served)}\r\nTransfer-Encoding: chunked"
        assert raw(served, head.encode() + b"\r\n\r\n" + pieces)[0] == 413

    @pytest.mark.parametrize("shown", [None, "", "Bearer", "Bearer x", "Basic x", "Bearer \xff\xfe"])
    def test_without_the_token_nothing_is_told(self, served: Served, shown: str | None) -> None:
        for method, path in [("GET", "/runs"), ("POST", "/runs"), ("GET", "/runs/x"), ("GET", "/nothing")]:
            headers = {"Authorization": shown} if shown is not None else {}
            status, document = ask(served, method, path, headers=headers, with_token=False)
            assert status == 401
            assert "token" in document["error"]

    @pytest.mark.parametrize("text", [b"hello\r\n\r\n", b"GET\r\n\r\n", b"\x16\x03\x01\x02\x00\r\n\r\n"])
    def test_what_is_no_request_is_refused_as_json(self, served: Served, text: bytes) -> None:
        status, document = raw(served, text)
        assert status == 400
        assert document["exit_code"] == 2

    def test_who_connects_and_asks_nothing_is_not_waited_for(self, served: Served) -> None:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(120)
            connection.connect(str(served.places.socket))
            connection.sendall(b"GET /health HTTP/1.1\r\nX-Slow: ")
            assert connection.recv(1) == b""


class TestPlaces:
    def test_only_the_caller_can_open_the_door(self, served: Served) -> None:
        places = served.places
        modes = {path: path.stat().st_mode & 0o777 for path in (places.door, places.room, places.socket, places.token)}
        assert modes == {places.door: 0o700, places.room: 0o700, places.socket: 0o600, places.token: 0o600}
        assert sorted(path.name for path in places.door.iterdir()) == ["socket", "token"]
        assert (served.workspace.root / ".dsflow" / ".gitignore").read_text() == "*\n"

    def test_it_is_on_the_loopback_port_too_where_asked(self, served: Served, port: int) -> None:
        assert Client(port=port, token=token(served)).list(limit=1) is not None
        with pytest.raises(Refused, match="token"):
            Client(port=port, token="x").list()
        listening = [line.split()[1] for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        assert [place for place in listening if place.endswith(f":{port:04X}") and place.startswith("00000000")] == []

    def test_the_page_and_the_document_need_no_token_and_no_network(self, served: Served, port: int) -> None:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/docs") as answer:
            page = answer.read().decode()
            policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert not re.search(r"(src|href)=.?(https?:)?//|@import|<script", page)
        for path in ("/runs", "/runs/{run}/events", "/runs/{run}/cancel"):
            assert f"<code>{path}</code>" in page
        status, document = ask(served, "GET", "/openapi.json", with_token=False)
        assert status == 200
        assert set(document["paths"]["/runs"]) == {"get", "post"}
        codes = document["components"]["schemas"]["Error"]["properties"]["exit_code"]["enum"]
        assert set(codes) == set(EXIT_CODES) - {0}

    def test_a_second_server_is_refused_in_one_sentence(self, own: Served, dsflow: Callable[..., Screen]) -> None:
        screen = dsflow("serve")
        assert screen.exit_code == EnvironmentMissing.exit_code
        assert f"this workspace has a server already (process {own.process.pid})" in screen.err
        assert own.answers()

    def test_a_taken_port_is_named(
        self, make_workspace: MakeWorkspace, dsflow: Callable[..., Screen], port: int, served: Served
    ) -> None:
        make_workspace(JOBS)
        screen = dsflow("serve", "--port", str(port))
        assert screen.exit_code == EnvironmentMissing.exit_code
        assert f"port {port}" in screen.err

    @pytest.mark.parametrize("left", ["socket", "file"])
    def test_what_a_killed_server_left_is_no_obstacle(self, own: Served, left: str) -> None:
        before = token(own)
        own.kill()
        assert own.places.socket.exists()
        if left == "file":
            own.places.socket.unlink()
            own.places.socket.write_text("not a socket")
        with pytest.raises(Unreachable):
            own.client.list()
        own.start()
        assert own.client.list() == []
        assert token(own) == before

    def test_a_workspace_with_a_long_path_is_served(
        self, tmp_path: Path, make_workspace: MakeWorkspace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        root = tmp_path / ("long" * 30) / "work space"
        build_tree(root, {"dsflow.yml": "version: 1\n", **JOBS})
        (root / "datastore").mkdir()
        with serving(Workspace(root)) as running:
            assert follow(running.client, running.client.run("quick", DS)["id"])[1]["exit_code"] == 0


class TestEnding:
    def test_a_server_that_is_stopped_ends_what_it_runs_and_tells_those_who_wait(self, own: Served) -> None:
        running, waiting = own.client.run("endless", DS)["id"], own.client.run("quick", DS)["id"]
        own.await_log(running, "begun")
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            followers = [pool.submit(follow, own.client, run) for run in (running, waiting)]
            until(lambda: all(own.told(run) for run in (running, waiting)))
            own.stop()
            ends = [follower.result(60)[1] for follower in followers]
        assert [(end["status"], end["exit_code"]) for end in ends] == [("interrupted", 130)] * 2
        assert own.process.returncode == 0
        assert own.processes_of(running) == []
        assert not own.places.socket.exists()

    def test_what_was_stopped_stays_stopped(self, own: Served) -> None:
        runs = [own.client.run("endless", DS)["id"], own.client.run("quick", DS)["id"]]
        own.stop()
        own.start()
        assert [own.client.get(run)["status"] for run in runs] == ["interrupted"] * 2
        assert own.client.health()["running"] == own.client.health()["queued"] == 0


class TestClient:
    def test_the_example_of_the_docs_works_as_typed(self, served: Served) -> None:
        text = (Path(__file__).parent.parent / "docs" / "serve.md").read_text(encoding="utf-8")
        (example,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
        folder = served.workspace.jobs / "create-table-weather"
        build_tree(folder, {"job_specs.yaml": "version: 1\nkind: script\n", "main.sh": "echo it rains\n"})
        command = [sys.executable, "-c", example]
        done = subprocess.run(command, cwd=served.workspace.root, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (0, "it rains\n"), done.stderr

    def test_it_needs_nothing_but_the_standard_library(self, served: Served, tmp_path: Path) -> None:
        (tmp_path / "client.py").write_bytes(Path(client.__file__).read_bytes())
        script = f"import client; print(client.Client.of({str(served.places.door)!r}).health()['status'])"
        command = [sys.executable, "-S", "-c", script]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.stdout == "ok\n", done.stderr

    def test_it_gives_up_after_its_patience(self, tmp_path: Path) -> None:
        away = Client(tmp_path / "socket", token="x")
        for attempt in (
            lambda: away.submit("quick", key="x", patience=0.2),
            lambda: list(away.follow("x", patience=0)),
        ):
            with pytest.raises(Unreachable, match="no dsflow server answers"):
                attempt()
        with pytest.raises(Unreachable, match="token"):
            Client.of(tmp_path).health()


class TestInTheBackground:
    @pytest.fixture
    def workspace(self, make_workspace: MakeWorkspace) -> Iterator[Workspace]:
        made = make_workspace(JOBS)
        yield made
        detached.stop(made)

    def test_it_is_started_once_whoever_asks(self, workspace: Workspace) -> None:
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            asked = [pool.submit(detached.ensure_serving, workspace) for _ in range(4)]
            doors = {future.result().door for future in asked}
        card = Places.of(workspace).read_card()
        assert detached.ensure_serving(workspace).read_card() == card
        assert len(doors) == 1
        client = Client.of(doors.pop())
        assert follow(client, client.run("quick", DS)["id"])[1]["exit_code"] == 0

    def test_the_command_starts_and_stops_it(self, workspace: Workspace, dsflow: Callable[..., Screen]) -> None:
        screen = dsflow("serve", "--detach")
        assert screen.exit_code == 0
        assert ".dsflow/serve/socket" in screen.out
        assert dsflow("serve", "--detach", "--json").document["pid"] == Places.of(workspace).read_card()["pid"]
        assert "not at port 1" in dsflow("serve", "--detach", "--port", "1").err
        client = Client.of(Places.of(workspace).door)
        run = client.run("endless", DS)["id"]
        assert dsflow("serve", "--stop").out == "stopped\n"
        assert dsflow("serve", "--stop").out == "no server runs in this workspace\n"
        (entry,) = Ledger(Places.of(workspace).runs).entries()
        assert (entry.id, entry.state().exit_code) == (run, 130)

    def test_stopping_ends_also_what_a_killed_server_left(self, workspace: Workspace) -> None:
        with serving(workspace) as running:
            run = running.client.run("endless", DS)["id"]
            running.await_log(run, "begun")
            running.kill()
            assert running.processes_of(run)
            assert detached.stop(workspace)
            until(lambda: not running.processes_of(run))
            assert not detached.stop(workspace)

    def test_a_server_that_cannot_start_says_why(self, workspace: Workspace, served: Served, port: int) -> None:
        with pytest.raises(EnvironmentMissing, match=f"port {port}"):
            detached.ensure_serving(workspace, port=port)

    def test_without_its_libraries_it_says_what_to_install(
        self, workspace: Workspace, dsflow: Callable[..., Screen], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(detached, "_EXTRA", ("starlette", "no_such_library"))
        screen = dsflow("serve")
        assert screen.exit_code == EnvironmentMissing.exit_code
        assert "needs no_such_library" in screen.err
        assert "dsflow[serve]" in screen.err


def token(served: Served) -> str:
    return served.places.token.read_text().strip()


def ask(
    served: Served,
    method: str,
    path: str,
    body: bytes = b"",
    *,
    headers: dict[str, str] | None = None,
    with_token: bool = True,
) -> tuple[int, Any]:
    """Ask as somebody who has only a socket."""
    shown = {"Host": "x", "Content-Length": str(len(body)), **(headers or {})}
    if with_token:
        shown["Authorization"] = f"Bearer {token(served)}"
    lines = "".join(f"{name}: {value}\r\n" for name, value in shown.items())
    return raw(served, f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode("latin-1", "replace") + body)


def raw(served: Served, text: bytes) -> tuple[int, Any]:
    """Send bytes, and give the status and the document of the answer."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(60)
        connection.connect(str(served.places.socket))
        connection.sendall(text)
        with connection.makefile("rb") as answer:
            status = int(answer.readline().split()[1])
            headers = dict(line.decode().lower().strip().split(": ", 1) for line in iter(answer.readline, b"\r\n"))
            assert headers["content-type"] == "application/json"
            length = 0 if text.startswith(b"HEAD") else int(headers["content-length"])
            return status, json.loads(answer.read(length) or b"{}")
