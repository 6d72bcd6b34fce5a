"""Dashboards as services: `dsflow start-dash`, what keeps them running, and what a browser shows of them."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from dsflow import model
from dsflow.containers import residents
from dsflow.dashboards import Keeper
from dsflow.workspace import Workspace
from tests.conftest import MakeWorkspace, build_tree
from tests.samples import sample_task
from tests.test_template_verification import _lay_out

if TYPE_CHECKING:
    from playwright.sync_api import Page

# A dashboard that starts at once: what it shows is the text of SHOWN, and what it was given.
SIMPLE = """
    import http.server, os, pathlib

    SHOWN = "one"

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            text = SHOWN if self.path == "/" else os.environ.get(self.path[1:], "")
            self.send_response(200)
            self.end_headers()
            self.wfile.write(text.encode())

    print("with", os.environ.get("DSFLOW_PARAMS"), flush=True)
    address = os.environ["HOST"], int(os.environ["PORT"])  # as Dash does
    http.server.ThreadingHTTPServer(address, Handler).serve_forever()
    """
SPEC = "version: 1\nkind: dashboard\n"
FILES = {"jobs/delays/job_specs.yaml": SPEC, "jobs/delays/delays.py": SIMPLE}


class Place:
    """A workspace with commands; every service in it is stopped in the end."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace

    def dsflow(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "dsflow", "-C", str(self.workspace.root), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def start(self, *arguments: str, form: str = "process") -> list[dict[str, Any]]:
        done = self.dsflow("--json", "start-dash", *arguments, "--form", form)
        assert done.returncode == 0, done.stderr
        answer: list[dict[str, Any]] = json.loads(done.stdout)
        return answer


@pytest.fixture
def place(make_workspace: MakeWorkspace) -> Iterator[Place]:
    made = Place(make_workspace({"dsflow.yml": f"version: 1\nports: {{dash: {a_free_port()}}}\n", **FILES}))
    yield made
    stopped = made.dsflow("stop-all")
    assert stopped.returncode == 0, stopped.stderr


def a_free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number: int = probe.getsockname()[1]
        return number


def look(url: str) -> tuple[int, str]:
    """Give the status and the text of a page; (0, "") while nobody answers."""
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
    except OSError:
        return 0, ""


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


def processes_with(text: str) -> list[int]:
    found = []
    for process in psutil.process_iter():
        try:
            if text in " ".join(process.cmdline()):
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


def rain(workspace: Workspace, *days: str, table: str = "rain") -> None:
    """Publish partitions of a table, each with one row."""
    rows = {day: f"city,rain_mm\nParis,{number}.5\n" for number, day in enumerate(days)}
    build_tree(workspace.datastore, {f"tables/{table}/ds={day}/rows.csv": text for day, text in rows.items()})
    _lay_out(Path("nowhere"), workspace.datastore)


def test_it_starts_again_when_its_code_changes_and_says_what_is_wrong_with_it(place: Place) -> None:
    (started,) = place.start()
    assert started["service"] == "dash-delays"
    url, code = started["url"], place.workspace.jobs / "delays" / "delays.py"
    assert look(url) == (200, "one")

    text = code.read_text()
    code.write_text(text.replace('"one"', '"two"'))
    until(lambda: look(url) == (200, "two"))
    code.write_text(text.replace('"one"', "<undefined>"))
    until(lambda: look(url)[0] == 503)
    page = look(url)[1]
    assert "This dashboard does not run" in page
    assert "SyntaxError" in page
    assert "SHOWN = &lt;undefined&gt;" in page
    code.write_text(text.replace('"one"', '"three"'))
    until(lambda: look(url) == (200, "three"))

    log = place.dsflow("logs", "dash-delays").stdout
    assert "delays has changed: starting it again" in log
    assert place.dsflow("stop", "dash-delays").returncode == 0
    assert look(url) == (0, "")
    assert place.dsflow("start", "dash-delays", "--form", "process").returncode == 0
    assert look(url) == (200, "three")
    assert place.dsflow("stop", "dash-delays").returncode == 0
    assert processes_with(str(place.workspace.root)) == []


def test_one_that_fails_at_its_start_is_told_at_once(place: Place) -> None:
    (place.workspace.jobs / "delays" / "delays.py").write_text("layout = {}\nlayout['graph']\n")
    done = place.dsflow("start-dash", "delays", "--form", "process")
    assert done.returncode == 4
    assert "dash-delays ended before it was ready" in done.stderr
    assert "delays.py, line 2: KeyError: 'graph'" in done.stderr


def test_an_input_that_is_not_there_yet_is_a_page_until_it_is(place: Place) -> None:
    (place.workspace.jobs / "delays" / "job_specs.yaml").write_text(
        f"{SPEC}inputs: {{rain: {{table: rain, as_of: ds}}}}\n"
    )
    (started,) = place.start("delays")
    status, page = look(started["url"])
    assert status == 200
    assert "rain" in page
    rain(place.workspace, "2026-11-19")
    until(lambda: look(started["url"]) == (200, "one"))


def test_what_is_secret_reaches_the_program_and_nothing_else(place: Place) -> None:
    secret = "hunter2-and-more"
    spec = f"{SPEC}parameters: {{api_token: {secret}, city: paris}}\n"
    (place.workspace.jobs / "delays" / "job_specs.yaml").write_text(spec)
    (started,) = place.start("delays")
    assert json.loads(look(f"{started['url']}/DSFLOW_PARAMS")[1]) == {"api_token": secret, "city": "paris"}
    own = place.workspace.root / ".dsflow"
    holding = [path for path in own.rglob("*") if path.is_file() and secret in path.read_text(errors="replace")]
    assert [path.name for path in holding] == ["private.json"]
    assert holding[0].stat().st_mode & 0o777 == 0o600
    assert "***" in place.dsflow("logs", "dash-delays").stdout


def test_the_environment_of_its_spec_is_that_of_the_program(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = f"{SPEC}run: {{environment: [RAIN_SERVER]}}\nparameters: {{city: paris}}\n"
    (place.workspace.jobs / "delays" / "job_specs.yaml").write_text(spec)
    monkeypatch.setenv("RAIN_SERVER", "wet.example")
    (started,) = place.start()
    assert look(f"{started['url']}/RAIN_SERVER")[1] == "wet.example"
    assert place.start()[0]["change"] == "unchanged"
    monkeypatch.setenv("RAIN_SERVER", "dry.example")
    assert place.start()[0]["change"] == "restarted"
    assert look(f"{started['url']}/RAIN_SERVER")[1] == "dry.example"


def test_several_at_once_have_several_ports_and_keep_them(place: Place) -> None:
    build_tree(
        place.workspace.root,
        {"jobs/dashboard-rain/job_specs.yaml": SPEC, "jobs/dashboard-rain/main.py": SIMPLE.replace('"one"', '"rain"')},
    )
    both = {entry["service"]: entry for entry in place.start()}
    assert set(both) == {"dash-delays", "dash-rain"}
    assert both["dash-delays"]["port"] != both["dash-rain"]["port"]
    assert look(both["dash-delays"]["url"]) == (200, "one")
    assert look(both["dash-rain"]["url"]) == (200, "rain")
    place.dsflow("stop", "dash-delays")
    place.dsflow("restart", "dash-rain")
    assert [entry["port"] for entry in place.start("dashboard-rain")] == [both["dash-rain"]["port"]]

    wanted = a_free_port()
    settings = f"version: 1\nports: {{dash: {both['dash-rain']['port']}, dash-delays: {wanted}}}\n"
    place.workspace.marker.write_text(settings)
    assert [entry["port"] for entry in place.start("delays")] == [wanted]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["start-dash", "nothing"], "nothing: Job does not exist"),
        (["start-dash", "load"], "load is a script, not a dashboard"),
        (["start-dash", "delays", "other", "--port", "18050"], "one port for 2 dashboards"),
        (["start", "dash"], "`dsflow start-dash JOB` starts it."),
    ],
)
def test_a_mistake_is_told(place: Place, arguments: list[str], said: str) -> None:
    more = {
        "jobs/load/job_specs.yaml": "version: 1\nkind: script\n",
        "jobs/load/main.sh": "true\n",
        "jobs/other/job_specs.yaml": SPEC,
        "jobs/other/other.py": SIMPLE,
    }
    build_tree(place.workspace.root, more)
    done = place.dsflow(*arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_workspace_without_dashboards_says_how_to_make_one(make_workspace: MakeWorkspace) -> None:
    done = Place(make_workspace({})).dsflow("start-dash")
    assert done.returncode == 2
    assert "this workspace has no dashboard" in done.stderr


def test_today_stays_today_where_the_spec_resolved_nothing_for_a_day(tmp_path: Path) -> None:
    task = dataclasses.replace(sample_task(), kind="dashboard", ds="2001-01-01", inputs=(), port=None)
    (tmp_path / "task.json").write_text(model.to_json(task))
    given = {"DSFLOW_DATA": str(tmp_path), "DSFLOW_JOBS": str(tmp_path), "DSFLOW_PORT": "1"}
    before = dt.datetime.now().date()
    now = Keeper.of(tmp_path, given).task_of_now()
    assert before.isoformat() <= now.ds <= dt.datetime.now().date().isoformat()
    assert now.start == f"{now.ds}T00:00:00"
    resolved = dataclasses.replace(task, inputs=sample_task().inputs)
    assert resolved.inputs
    (tmp_path / "task.json").write_text(model.to_json(resolved))
    assert Keeper.of(tmp_path, given).task_of_now().ds == "2001-01-01"


@pytest.fixture(scope="module")
def dashed(tmp_path_factory: pytest.TempPathFactory, surroundings: Any) -> Iterator[Place]:
    """A workspace with two generated dashboards, of a table that is there and of one that is not, in containers."""
    root = tmp_path_factory.mktemp("dashed") / "work space"
    base = f"base_image: {surroundings.base}\n" if surroundings.base else ""
    build_tree(root, {"dsflow.yml": f"version: 1\nports: {{dash: {a_free_port()}}}\n{base}"})
    (root / "datastore").mkdir()
    made = Place(Workspace(root))
    for name, table in (("rain", "rain"), ("snow", "snow")):
        answers = [f"source_table_name={table}", "x_axis=ds", "y_axis=rain_mm", "include_table=yes"]
        given = [part for answer in answers for part in ("--set", answer)]
        assert made.dsflow("generate-job", "plotly_dash_app", name, *given, "-y").returncode == 0
    rain(made.workspace, "2026-11-18", "2026-11-19", "2026-11-20")
    yield made
    stopped = made.dsflow("stop-all")
    assert stopped.returncode == 0, stopped.stderr


@pytest.fixture(scope="module")
def urls(dashed: Place) -> dict[str, str]:
    return {entry["service"]: entry["url"] for entry in dashed.start(form="container")}


def points(tab: Page, number: int) -> None:
    """Wait until the plot shows so many."""
    drawing = "document.querySelector('#chart .js-plotly-plot')"
    tab.wait_for_function(f"{drawing}?.data?.[0]?.x?.length === {number}")


def drawn(tab: Page) -> list[str]:
    shown: list[str] = tab.evaluate("document.querySelector('#chart .js-plotly-plot').data[0].x")
    return shown


@pytest.mark.docker
@pytest.mark.browser
def test_a_date_is_picked_and_the_plot_changes(urls: dict[str, str], tab: Page) -> None:
    asked: list[str] = []
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto(urls["dash-rain"])
    points(tab, 3)
    assert drawn(tab) == ["2026-11-18", "2026-11-19", "2026-11-20"]
    first, last = tab.locator("main input").all()
    assert (first.input_value(), last.input_value()) == ("2026-11-18", "2026-11-20")

    first.fill("2026-11-20")
    first.press("Enter")
    points(tab, 1)
    assert drawn(tab) == ["2026-11-20"]
    assert tab.locator("#rows tbody tr").count() == 1
    assert [url for url in asked if not url.startswith((urls["dash-rain"], "data:", "blob:"))] == []


@pytest.mark.docker
@pytest.mark.browser
def test_a_missing_table_is_told_on_the_page_until_it_is_there(dashed: Place, urls: dict[str, str], tab: Page) -> None:
    tab.goto(urls["dash-snow"])
    tab.get_by_text("Table snow cannot be read: nobody has made it yet").wait_for()
    rain(dashed.workspace, "2026-11-21", table="snow")
    tab.reload()
    points(tab, 1)


@pytest.mark.docker
@pytest.mark.browser
def test_the_page_in_the_browser_follows_the_code(dashed: Place, urls: dict[str, str], tab: Page) -> None:
    # The page knows what it is a page of once it has asked for the first time.
    with tab.expect_response("**/_reload-hash"):
        tab.goto(urls["dash-rain"])
    tab.get_by_role("heading", name="rain", exact=True).wait_for()
    code = dashed.workspace.jobs / "dashboard-rain" / "dashboard-rain.py"
    code.write_text(code.read_text().replace('TITLE = "rain"', 'TITLE = "umbrellas"'))
    tab.get_by_role("heading", name="umbrellas", exact=True).wait_for()


@pytest.mark.docker
def test_its_container_may_do_little(dashed: Place, urls: dict[str, str]) -> None:
    (found,) = residents.find({"workspace": dashed.workspace.label, "service": "dash-rain"})
    listed = subprocess.run(["docker", "inspect", found.id], capture_output=True, text=True, check=True)
    (inspected,) = json.loads(listed.stdout)
    host = inspected["HostConfig"]
    assert host["ReadonlyRootfs"]
    assert host["CapDrop"] == ["ALL"]
    assert {binding["HostIp"] for ports in host["PortBindings"].values() for binding in ports} == {"127.0.0.1"}
    writable = [mount["Target"] for mount in host["Mounts"] if mount["Type"] == "bind" and not mount.get("ReadOnly")]
    assert writable == ["/state"]
