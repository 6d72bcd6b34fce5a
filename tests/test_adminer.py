"""Adminer as a service: it asks for a password, shows the runs, and changes nothing."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
import urllib.parse
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from dsflow.history import Database, History
from dsflow.model import RunFinished
from dsflow.services.adminer import databases
from dsflow.workspace import Workspace
from tests.conftest import build_tree
from tests.samples import sample_outcome, sample_task
from tests.services import need
from tests.test_dashboard_service import a_free_port

if TYPE_CHECKING:
    from playwright.sync_api import Page

DATABASE_PASSWORD = "known to the server only"


class Adminer:
    """A workspace with some runs, and its Adminer."""

    def __init__(self, root: Path, settings: str = "") -> None:
        build_tree(root, {"dsflow.yml": f"version: 1\nports: {{adminer: {a_free_port()}}}\n{settings}"})
        (root / "datastore").mkdir(exist_ok=True)
        self.workspace = Workspace(root)
        self.url = ""

    @property
    def state(self) -> Path:
        return self.workspace.own / "services" / "adminer"

    @property
    def password(self) -> str:
        return (self.state / "password").read_text().strip()

    def dsflow(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "dsflow", "-C", str(self.workspace.root), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def start(self, form: str) -> dict[str, Any]:
        done = self.dsflow("--json", "start-adminer", "--form", form)
        assert done.returncode == 0, done.stderr
        answer: dict[str, Any] = json.loads(done.stdout)
        self.url = answer["url"]
        return answer

    def log_in(self, tab: Page) -> str:
        """Log in and give the address of the database."""
        tab.goto(self.url)
        tab.fill("input[name='auth[password]']", self.password)
        tab.click("input[value=Login]")
        tab.wait_for_url("**db=**")
        tab.get_by_role("link", name="dsflow_runs").first.wait_for()
        return tab.url

    def execute(self, tab: Page, database: str, query: str) -> str:
        """Type a query and give what the page says."""
        tab.goto(f"{database}&sql={urllib.parse.quote(query)}")
        with tab.expect_navigation():
            tab.click("input[value=Execute]")
        return str(tab.inner_text("#content"))


@pytest.fixture(scope="module", params=[pytest.param("container", marks=pytest.mark.docker), "process"])
def adminer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Adminer]:
    settings = ""
    if request.param == "container":
        base = request.getfixturevalue("surroundings").base
        settings = f"base_image: {base}\n" if base else ""
    else:
        php_and_adminer()
    made = Adminer(tmp_path_factory.mktemp("adminer") / "work space", settings)
    record(History(None, made.workspace.datastore), "20261120T043512-3f9a1c")
    made.start(request.param)
    yield made
    stopped = made.dsflow("stop-all")
    assert stopped.returncode == 0, stopped.stderr


def php_and_adminer() -> None:
    there = shutil.which("php") is not None and Path("/usr/share/adminer/adminer.php").is_file()
    need(there, "no Adminer: the Debian packages adminer, php-cgi, php-cli, php-pgsql and php-sqlite3 bring it")


def record(history: History, run_id: str) -> None:
    history(RunFinished(task=sample_task(run_id), outcome=sample_outcome()))


@pytest.mark.browser
def test_it_shows_the_runs_as_they_are_now_and_changes_nothing(adminer: Adminer, tab: Page) -> None:
    asked: list[str] = []
    tab.on("request", lambda request: asked.append(request.url))
    database = adminer.log_in(tab)
    tab.goto(f"{database}&select=dsflow_runs")
    tab.get_by_role("cell", name="20261120T043512-3f9a1c", exact=True).wait_for()
    record(History(None, adminer.workspace.datastore), "20261121T043512-aaaaaa")
    tab.reload()
    tab.get_by_role("cell", name="20261121T043512-aaaaaa", exact=True).wait_for()

    file = adminer.workspace.datastore / "job_runs" / "history.db"
    before = rows(file)
    for query in ("DELETE FROM dsflow_runs", "DROP TABLE dsflow_runs", "PRAGMA journal_mode = WAL"):
        assert "Error in query" in adminer.execute(tab, database, query), query
    assert rows(file) == before
    assert "20261121T043512-aaaaaa" in adminer.execute(tab, database, "SELECT run_id FROM dsflow_runs")
    assert [url for url in asked if not url.startswith((adminer.url, "data:"))] == []


def rows(file: Path) -> list[Any]:
    connection = sqlite3.connect(file)
    try:
        return connection.execute("SELECT run_id, job, status FROM dsflow_runs ORDER BY run_id").fetchall()
    finally:
        connection.close()


@pytest.mark.browser
def test_nobody_gets_in_without_the_password(adminer: Adminer, tab: Page) -> None:
    tab.goto(adminer.url)
    tab.fill("input[name='auth[password]']", "green3")
    tab.click("input[value=Login]")
    tab.get_by_text("Wrong password.").wait_for()
    assert tab.get_by_role("link", name="dsflow_runs").count() == 0


@pytest.mark.parametrize(
    "question",
    [
        "?sqlite=&username=&db=/etc/passwd",
        "?sqlite=history&username=dsflow&db=/service/service.yaml",
        "?server=127.0.0.1&username=root",
        "?pgsql=127.0.0.1&username=postgres&db=postgres",
        "?sqlite=history&username=dsflow&ext=pdo&select=dsflow_runs",
        "service.yaml",
        "databases.php",
    ],
)
def test_a_stranger_sees_the_login_and_nothing_else(adminer: Adminer, question: str) -> None:
    try:
        with urllib.request.urlopen(f"{adminer.url}/{question}") as answer:
            page = answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            page = error.read().decode()
    assert "auth[password]" in page
    assert "Connection refused" not in page
    assert "20261120T043512" not in page
    assert adminer.password not in page


@pytest.mark.browser
def test_who_is_in_gets_no_further_than_the_databases_of_the_workspace(adminer: Adminer, tab: Page) -> None:
    database = adminer.log_in(tab)
    tab.goto(database.split("&db=")[0] + "&db=/etc/passwd")
    tab.get_by_role("link", name="dsflow_runs").first.wait_for()
    tab.goto(f"{adminer.url}/?server=127.0.0.1&username=root")
    tab.locator("input[name='auth[password]']").wait_for()


def test_its_password_is_kept_for_its_owner_and_told_once(adminer: Adminer) -> None:
    assert (adminer.state / "password").stat().st_mode & 0o777 == 0o600
    assert adminer.state.stat().st_mode & 0o777 == 0o700
    again = adminer.start(json.loads(adminer.dsflow("--json", "ps").stdout)[0]["form"])
    assert again["change"] == "unchanged"
    assert not any(adminer.password in note for note in again["notes"])
    assert adminer.password not in adminer.dsflow("logs", "adminer").stdout


@pytest.mark.postgres
@pytest.mark.browser
def test_the_runs_can_be_in_postgresql(tmp_path: Path, postgres: sa.URL, tab: Page) -> None:
    php_and_adminer()
    name = f"h{uuid.uuid4().hex}"
    admin = sa.create_engine(postgres, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with admin.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    url = postgres.set(database=name, drivername="postgresql", password=DATABASE_PASSWORD)
    text = url.render_as_string(hide_password=False)
    made = Adminer(tmp_path / "work space", f"history: {text}\n")
    record(History(text, made.workspace.datastore), "20261120T043512-3f9a1c")
    try:
        made.start("process")
        database = made.log_in(tab)
        assert "20261120T043512-3f9a1c" in made.execute(tab, database, "SELECT run_id FROM dsflow_runs")
        said = made.execute(tab, database, "DELETE FROM dsflow_runs")
        assert "read-only transaction" in said
        assert DATABASE_PASSWORD not in tab.content()
        assert DATABASE_PASSWORD not in urllib.parse.unquote_plus(tab.url)
    finally:
        stopped = made.dsflow("stop-all")
    assert stopped.returncode == 0, stopped.stderr


@pytest.mark.docker
@pytest.mark.postgres
def test_a_database_that_a_container_does_not_see_is_told(tmp_path: Path, postgres: sa.URL, engine: None) -> None:
    text = postgres.set(drivername="postgresql").render_as_string()
    done = Adminer(tmp_path / "work space", f"history: {text}\n").dsflow("start-adminer", "--form", "container")
    assert done.returncode == 4
    assert "which a container does not see" in done.stderr
    assert "--form process" in done.stderr


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (
            "sqlite:///datastore/job_runs/history.db",
            Database(system="sqlite", name="{root}/datastore/job_runs/history.db"),
        ),
        (
            "postgresql://ana:secret@db.example:5433/runs",
            Database(system="postgresql", name="runs", host="db.example", port=5433, username="ana", password="secret"),
        ),
        (
            "postgresql://ana@/runs?host=/run/pg",
            Database(system="postgresql", name="runs", host="/run/pg", username="ana"),
        ),
        ("postgresql://ana@db.example", Database(system="postgresql", name="ana", host="db.example", username="ana")),
    ],
)
def test_the_history_tells_where_it_is(tmp_path: Path, url: str, expected: Database) -> None:
    found = History(url, tmp_path / "datastore").database()
    assert found.name == expected.name.replace("{root}", str(tmp_path))
    assert found.host == expected.host
    assert (found.port, found.username, found.password) == (expected.port, expected.username, expected.password)
    assert "secret" not in repr(found)


def test_databases_of_sources_are_offered_once_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = """
        version: 1
        sources:
          orders: {url: $SHOP}
          customers: {url: "postgresql://reader@shop.example/shop"}
          notes: {url: "sqlite:///notes.db"}
          elsewhere: {url: $NOT_SET}
          plain: {}
    """
    build_tree(tmp_path, {"dsflow.yml": settings})
    (tmp_path / "datastore").mkdir()
    monkeypatch.setenv("SHOP", "postgresql://reader@shop.example/shop")
    found = databases(Workspace(tmp_path))
    assert list(found) == ["history", "orders", "notes"]
    assert found["orders"] == Database(system="postgresql", name="shop", host="shop.example", username="reader")
    assert found["notes"] == Database(system="sqlite", name=str(tmp_path / "notes.db"))
