"""Airflow on a workspace, as people use it: in its container, over its API and in a browser. One Airflow for all tests.

The jobs that something is done to run in containers, the others in processes, which is quicker.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import subprocess
import sys
import textwrap
import urllib.parse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests

from dsflow.containers.images import Surroundings
from dsflow.partitions import resolve
from dsflow.serve.places import Places
from dsflow.services import lifecycle
from dsflow.store.layout import Layout
from dsflow.workspace import Workspace
from tests.conftest import build_tree
from tests.resident import free_port

if TYPE_CHECKING:
    from playwright.sync_api import Page
    from sqlalchemy import URL

    from dsflow.containers.engine import Image

pytestmark = [
    pytest.mark.docker,
    pytest.mark.airflow,
    pytest.mark.timeout(900),
    pytest.mark.xdist_group("airflow"),
]

DAYS = ("2026-11-10", "2026-11-11", "2026-11-12")
SQL = "version: 1\nkind: sql\noutput: {table: %s}\n"
SCRIPT = "version: 1\nkind: script\noutput: {raw: %s}\n"
# Goes on until it finds a file beside it; what it prints is seen in the log of its task.
PATIENT = """
echo "begun for $DSFLOW_DS"
while [ ! -e "/jobs/$DSFLOW_JOB/go" ]; do sleep 0.1; done
echo x > "$1/x"
"""
JOBS = {
    "jobs/download-rain/job_specs.yaml": SCRIPT % "rain",
    "jobs/download-rain/main.sh": """
        echo "fetching the rain of $DSFLOW_DS"
        printf 'hour,mm\\n0,%s\\n1,0\\n' "${DSFLOW_DS##*-}" > "$1/rain.csv"
        """,
    "jobs/wet/job_specs.yaml": SQL % "wet",
    "jobs/wet/q.sql": "SELECT hour, mm FROM raw.rain WHERE mm > 0 ORDER BY hour",
    "jobs/dry/job_specs.yaml": SQL % "dry",
    "jobs/dry/q.sql": "SELECT hour, mm FROM raw.rain WHERE mm = 0 ORDER BY hour",
    "jobs/hours/job_specs.yaml": SQL % "hours",
    "jobs/hours/q.sql": "SELECT (SELECT count(*) FROM wet) AS wet, (SELECT count(*) FROM dry) AS dry",
    "jobs/breaks/job_specs.yaml": SCRIPT % "breaks",
    "jobs/breaks/main.sh": "echo before; exit 7\n",
    "jobs/after/job_specs.yaml": SQL % "after",
    "jobs/after/q.sql": "SELECT * FROM raw.breaks",
    "jobs/patient/job_specs.yaml": SCRIPT % "patient" + "run: {runtime: docker}\n",
    "jobs/patient/main.sh": PATIENT,
}
SETTINGS = "version: 1\nname: rain\nruntime: process\n"


def dsflow(root: Path, *arguments: str, **environment: str) -> str:
    """Run dsflow as people do, in a process of its own, and give what it printed."""
    command = [sys.executable, "-P", "-m", "dsflow", "-C", str(root), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **environment})
    assert done.returncode == 0, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@dataclass
class Airflow:
    """A workspace with Airflow on it."""

    root: Path
    port: int
    said: str
    _token: str = ""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def workspace(self) -> Workspace:
        return Workspace(self.root)

    @property
    def container(self) -> str:
        return f"dsflow-airflow-{self.workspace.key}"

    @property
    def password(self) -> str:
        kept = self.workspace.own / "services" / "airflow" / "passwords.json"
        return str(json.loads(kept.read_text("utf-8"))["admin"])

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """Ask Airflow's API; log in first where nobody has."""
        if not self._token and path != "/auth/token":
            login = {"username": "admin", "password": self.password}
            self._token = self.ask("POST", "/auth/token", login)["access_token"]
        headers = {"Authorization": f"Bearer {self._token}"}
        # What only looks is asked again where a machine with too much to do does not answer.
        attempts, seconds = (5, 60) if method == "GET" else (1, 300)
        for left in reversed(range(attempts)):
            try:
                answer = requests.request(method, self.url + path, json=body, headers=headers, timeout=seconds)
                break
            except requests.Timeout:
                if not left:
                    raise
        if answer.status_code == 503:
            # Somebody else writes into the database: one is to ask again.
            return self.ask(method, path, body)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def switch_on(self, dag: str) -> None:
        """Wait until Airflow has read a DAG, and switch it on."""

        def known() -> bool:
            assert self.ask("GET", "/api/v2/importErrors")["import_errors"] == []
            return any(each["dag_id"] == dag for each in self.ask("GET", "/api/v2/dags")["dags"])

        until(known, f"the DAG {dag}")
        self.ask("PATCH", f"/api/v2/dags/{dag}", {"is_paused": False})

    def trigger(self, dag: str, ds: str | None = None) -> str:
        """Start a run by hand, without a date of Airflow's; give its id."""
        body = {"logical_date": None, "conf": {"ds": ds} if ds else {}}
        return str(self.ask("POST", f"/api/v2/dags/{dag}/dagRuns", body)["dag_run_id"])

    def state(self, dag: str, run: str) -> str:
        return str(self.ask("GET", f"/api/v2/dags/{dag}/dagRuns/{quoted(run)}")["state"])

    def tasks(self, dag: str, run: str) -> dict[str, str]:
        found = self.ask("GET", f"/api/v2/dags/{dag}/dagRuns/{quoted(run)}/taskInstances")["task_instances"]
        return {task["task_id"]: task["state"] for task in found}

    def ended(self, dag: str, run: str) -> str:
        """Wait for the end of a run and give its state."""
        until(lambda: self.state(dag, run) in ("success", "failed"), f"the end of {dag} {run}")
        return self.state(dag, run)

    def set_state(self, dag: str, run: str, task: str, state: str) -> None:
        self.ask("PATCH", f"/api/v2/dags/{dag}/dagRuns/{quoted(run)}/taskInstances/{task}", {"new_state": state})

    def runs(self, *options: str) -> list[dict[str, Any]]:
        """Give dsflow's own history, oldest first."""
        found: list[dict[str, Any]] = json.loads(dsflow(self.root, "--json", "runs", "--limit", "500", *options))[
            "runs"
        ]
        return found[::-1]

    def jobs_containers(self) -> list[str]:
        return self.docker("ps", "-aq", "--filter", f"label=io.dsflow.workspace={self.workspace.label}",
                           "--filter", "label=io.dsflow.job").split()  # fmt: skip

    def docker(self, *arguments: str) -> str:
        return subprocess.run(["docker", *arguments], capture_output=True, text=True, check=True).stdout

    def inside(self, code: str) -> str:
        """Run Python in the container, as whoever Airflow is there, and give what it printed."""
        return self.docker("exec", self.container, "python", "-c", textwrap.dedent(code))

    def start(self) -> str:
        return dsflow(self.root, "start-airflow", "--form", "container", "--port", str(self.port))

    def let(self, go: bool) -> None:
        """Let the patient job come to its end, or let it wait again."""
        mark = self.root / "jobs" / "patient" / "go"
        mark.touch() if go else mark.unlink(missing_ok=True)

    def begun(self, dag: str = "patient") -> str:
        """Trigger the patient job and wait until its code runs in a container; give the id of the DAG run."""
        self.let(False)
        self.switch_on(dag)
        before = len(self.logs())
        run = self.trigger(dag)
        until(
            lambda: len(self.logs()) > before and "begun" in self.logs()[-1].read_text("utf-8"), "the job's first line"
        )
        return run

    def logs(self) -> list[Path]:
        found = self.workspace.datastore.glob("job_runs/patient/*/*/log.txt")
        return sorted(found, key=lambda path: path.parent.name)


def yesterday() -> str:
    """Give the day before this one on the clock of the DAGs."""
    return resolve("yesterday", now=dt.datetime.now(dt.UTC))


def quoted(text: str) -> str:
    return urllib.parse.quote(text, safe="")


def until(condition: Callable[[], object], what: str, seconds: float = 300) -> None:
    """Wait for something that will be; the limit is only there to end a test that fails."""
    from tests.resident import until as wait

    wait(condition, what, seconds)


@pytest.fixture(scope="module")
def airflow(
    tmp_path_factory: pytest.TempPathFactory, surroundings: Surroundings, python_image: Image
) -> Iterator[Airflow]:
    """Airflow in a container, with the DAGs `hours`, `after`, `patient` and `page`."""
    root = tmp_path_factory.mktemp("airflow") / "work space"
    build_tree(root, {"dsflow.yml": SETTINGS, **JOBS})
    dsflow(root, "generate-dag", "+hours")
    dsflow(root, "generate-dag", "+after", "--schedule", "none")
    dsflow(root, "generate-dag", "patient", "--schedule", "none")
    dsflow(root, "generate-dag", "download-rain", "--name", "page")
    (root / "datastore").mkdir()
    made = Airflow(root, free_port(), "")
    patch = pytest.MonkeyPatch()
    if surroundings.base:
        patch.setenv("DSFLOW_BASE_IMAGE", surroundings.base)
    try:
        made.said = made.start()
        yield made
    finally:
        made.let(True)
        lifecycle.stop_all(Workspace(root), print)
        patch.undo()


def published(root: Path) -> dict[str, list[bytes]]:
    """Give what is in each partition of the days, whatever its files are called: tables' carry the run's id."""
    layout = Layout(root / "datastore")
    folders = [folder for part in ("raw", "tables") for folder in sorted((layout.root / part).glob("*/ds=*"))]
    return {
        str(folder.relative_to(layout.root)): [file.read_bytes() for file in sorted(folder.iterdir())]
        for folder in folders
        if folder.name.removeprefix("ds=") in DAYS
    }


def test_the_password_was_told_and_the_page_wants_it(airflow: Airflow) -> None:
    assert f"Log in as admin with the password {airflow.password}" in airflow.said
    assert airflow.password not in airflow.start()
    wrong = {"username": "admin", "password": "admin"}
    assert requests.post(f"{airflow.url}/auth/token", json=wrong, timeout=60).status_code == 401


def test_three_days_through_airflow_are_those_of_backfill(airflow: Airflow, tmp_path: Path) -> None:
    airflow.switch_on("hours")
    # A run stands for the day before the one on which it fires.
    wanted = {"dag_id": "hours", "from_date": "2026-11-11T00:00:00Z", "to_date": "2026-11-13T00:00:00Z"}
    airflow.ask("POST", "/api/v2/backfills", {**wanted, "max_active_runs": 2})
    other = tmp_path / "other"
    build_tree(other, {"dsflow.yml": SETTINGS, **JOBS})
    (other / "datastore").mkdir()
    dsflow(other, "backfill", "+hours", f"{DAYS[0]}..{DAYS[-1]}", "--yes")
    for firing in ("2026-11-11", "2026-11-12", "2026-11-13"):
        run = f"backfill__{firing}T00:00:00+00:00"
        assert airflow.ended("hours", run) == "success", airflow.tasks("hours", run)
    assert len(published(other)) == 12
    assert published(airflow.root) == published(other)

    def history(root: Path) -> list[tuple[str, str, str, int | None]]:
        found = json.loads(dsflow(root, "--json", "runs", "--limit", "500"))["runs"]
        return sorted((run["ds"], run["job"], run["status"], run["rows"]) for run in found if run["ds"] in DAYS)

    assert history(airflow.root) == history(other)


def test_what_comes_after_a_failed_job_does_not_run(airflow: Airflow) -> None:
    airflow.switch_on("after")
    run = airflow.trigger("after", "2026-11-02")
    assert airflow.ended("after", run) == "failed"
    assert airflow.tasks("after", run) == {"breaks": "failed", "after": "upstream_failed"}
    assert [(r["ds"], r["status"]) for r in airflow.runs("--job", "breaks")] == [("2026-11-02", "failed")]
    assert airflow.runs("--job", "after") == []


@pytest.mark.parametrize("how", ["failed", "cleared"])
def test_a_cancelled_task_stops_the_container_of_its_job(airflow: Airflow, how: str) -> None:
    run = airflow.begun()
    (container,) = airflow.jobs_containers()
    (log,) = airflow.logs()[-1:]
    if how == "failed":
        airflow.set_state("patient", run, "patient", "failed")
    else:
        wanted = {"dry_run": False, "dag_run_id": run, "task_ids": ["patient"], "only_failed": False}
        airflow.ask("POST", "/api/v2/dags/patient/clearTaskInstances", wanted)
    until(lambda: container not in airflow.jobs_containers(), "the end of the container")
    assert json.loads((log.parent / "outcome.json").read_text("utf-8"))["status"] == "interrupted"
    if how == "cleared":
        # Its next try runs the job anew.
        until(lambda: airflow.logs()[-1] != log and airflow.jobs_containers(), "the second run")
        airflow.let(True)
        assert airflow.ended("patient", run) == "success"
    assert airflow.ended("patient", run) == ("failed" if how == "failed" else "success")


@pytest.mark.parametrize("victim", ["Airflow", "serve"])
def test_what_is_killed_in_the_middle_goes_on_when_it_is_back(airflow: Airflow, victim: str) -> None:
    before = [run["run_id"] for run in airflow.runs("--job", "patient")]
    run = airflow.begun()
    if victim == "Airflow":
        airflow.docker("kill", airflow.container)
        airflow.start()
    else:
        places = Places.of(airflow.workspace)
        pid = places.read_card()["pid"]
        os.kill(pid, 9)
        until(lambda: not places.is_served(), "the end of the server")
        dsflow(airflow.root, "serve", "--detach")
    (container,) = airflow.jobs_containers()
    assert container
    airflow.let(True)
    assert airflow.ended("patient", run) == "success"
    after = [each for each in airflow.runs("--job", "patient") if each["run_id"] not in before]
    assert [each["status"] for each in after] == ["succeeded"]
    assert airflow.jobs_containers() == []


def test_a_run_stands_for_a_day(airflow: Airflow) -> None:
    half_past_four = {"logical_date": "2026-11-20T04:30"}
    cases = [
        ("ended", "UTC", half_past_four, "2026-11-19"),
        ("current", "UTC", half_past_four, "2026-11-20"),
        ("ended", "UTC", {"run_after": "2026-11-20T04:30"}, "2026-11-19"),
        ("current", "America/New_York", {"run_after": "2026-11-20T04:30"}, "2026-11-19"),
        ("ended", "Asia/Tokyo", {"logical_date": "2026-11-19T15:00"}, "2026-11-19"),
        ("current", "UTC", {**half_past_four, "conf": {"ds": "2013-02-08"}}, "2013-02-08"),
        ("current", "UTC", {**half_past_four, "conf": {"ds": "8 February"}}, "AirflowFailException"),
    ]
    told = airflow.inside(f"""
        import datetime, sys, types, zoneinfo
        sys.path.insert(0, "/opt/dsflow")
        from dsflow.airflow import DsflowJob

        for partition, zone, given, _ in {cases!r}:
            given = {{"logical_date": None, "run_after": None, "conf": None, **given}}
            for name in ("logical_date", "run_after"):
                if given[name]:
                    given[name] = datetime.datetime.fromisoformat(given[name]).replace(tzinfo=datetime.UTC)
            dag = types.SimpleNamespace(timezone=zoneinfo.ZoneInfo(zone))
            context = {{"dag_run": types.SimpleNamespace(**given), "dag": dag, "params": {{"ds": None}}}}
            try:
                print(DsflowJob(job="wet", partition=partition).partition_of(context))
            except Exception as error:
                print(type(error).__name__)
        """)
    assert told.split()[-len(cases) :] == [ds for *_, ds in cases]


class TestSafety:
    """What somebody who can run code in Airflow's container reaches of the machine."""

    def test_there_is_nothing_of_the_host_but_dags_logs_and_the_door(self, airflow: Airflow) -> None:
        seen = airflow.inside("""
            import os
            for folder, folders, files in os.walk("/workspace"):
                for name in [*folders, *files]:
                    print(os.path.relpath(os.path.join(folder, name), "/workspace"))
            """).split("\n")
        outside = [
            path for path in seen if path and not path.startswith((".dsflow/serve/", "airflow/dags/", "airflow/logs/"))
        ]
        assert sorted(outside) == [".dsflow", ".dsflow/serve", "airflow", "airflow/dags", "airflow/logs"]
        assert {"airflow/dags/hours.py", ".dsflow/serve/socket", ".dsflow/serve/token"} <= set(seen)

    def test_the_engine_cannot_be_reached(self, airflow: Airflow) -> None:
        told = airflow.inside("""
            import os, socket
            print([path for path in ("/var/run/docker.sock", "/run/docker.sock") if os.path.exists(path)])
            gateway = next(line.split()[2] for line in open("/proc/net/route") if line.split()[1] == "00000000")
            host = ".".join(str(byte) for byte in reversed(bytes.fromhex(gateway)))
            for port in (2375, 2376):
                with socket.socket() as probe:
                    probe.settimeout(3)
                    print(probe.connect_ex((host, port)) != 0)
            """)
        assert told.split() == ["[]", "True", "True"]

    def test_it_may_neither_become_another_nor_write_what_it_runs(self, airflow: Airflow) -> None:
        told = airflow.inside("""
            import os, re
            status = open("/proc/self/status").read()
            # An administrator keeps what lets files be read that belong to others, and nothing else.
            print(int(re.search(r"CapEff:\\s*(\\w+)", status)[1], 16) & ~2)
            print(re.search(r"NoNewPrivs:\\s*(\\d)", status)[1])
            dag, token = "/workspace/airflow/dags/hours.py", "/workspace/.dsflow/serve/token"
            for path in (dag, token, "/service/parts.py", "/etc/another"):
                try:
                    open(path, "a")
                    print("wrote", path)
                except OSError as error:
                    print("refused")
            """)
        assert told.split() == ["0", "1", *["refused"] * 4]

    def test_through_the_door_come_only_jobs_of_the_workspace(self, airflow: Airflow) -> None:
        told = airflow.inside("""
            import sys
            sys.path.insert(0, "/opt/dsflow")
            from dsflow.serve.client import Client, Refused
            door = "/workspace/.dsflow/serve"
            day = "2026-11-01"
            for job, ds in (("../../etc", day), ("/bin/sh", None), ("wet", day + "; id"), ("wet", "../..")):
                try:
                    print(Client.of(door).run(job, ds))
                except Refused as error:
                    print(error.status)
            try:
                Client(door + "/socket", token="x" * 43).list()
            except Refused as error:
                print(error.status)
            """)
        assert told.split() == ["400", "400", "400", "400", "401"]

    def test_no_secret_is_where_others_look(self, airflow: Airflow) -> None:
        state = airflow.workspace.own / "services" / "airflow"
        config = (state / "airflow.cfg").read_text("utf-8")
        secrets = [airflow.password, Places.of(airflow.workspace).token.read_text("utf-8").strip()]
        secrets += [line.partition(" = ")[2] for line in config.splitlines() if " = " in line]
        assert len(secrets) == 5
        seen = airflow.docker("inspect", airflow.container) + dsflow(airflow.root, "logs", "airflow")
        seen += airflow.docker("top", airflow.container, "-eo", "pid,args")
        seen += "".join(path.read_text("utf-8") for path in (airflow.root / "airflow" / "logs").rglob("*.log"))
        assert [secret for secret in secrets if secret in seen] == []
        assert [
            path.name for path in (state / "airflow.cfg", state / "passwords.json") if path.stat().st_mode & 0o77
        ] == []


@pytest.mark.browser
def test_in_the_page_a_dag_is_switched_on_and_a_log_has_the_jobs_lines(airflow: Airflow, tab: Page) -> None:
    tab.set_default_timeout(300_000)
    tab.goto(airflow.url)
    tab.locator("input[name=username]").fill("admin")
    tab.locator("input[name=password]").fill(airflow.password)
    tab.get_by_role("button", name="Sign in").click()
    tab.wait_for_url(f"{airflow.url}/")
    tab.goto(f"{airflow.url}/dags/page")
    switch = tab.get_by_test_id("toggle-pause").first
    assert switch.get_attribute("data-state") == "unchecked"
    with tab.expect_response(lambda answer: answer.request.method == "PATCH" and "/dags/page" in answer.url):
        switch.click()
    # The run of this morning is due at once.
    tab.goto(f"{airflow.url}/dags/page/runs")
    tab.get_by_text("Success", exact=True).first.wait_for()
    tab.goto(f"{airflow.url}/dags/page")
    tab.locator("a[href*='/runs/scheduled'][href$='/tasks/download-rain']").first.click()
    tab.get_by_text(f"fetching the rain of {yesterday()}").first.wait_for()


@pytest.mark.xdist_group("airflow-process")
class TestTrials:
    """`dsflow test-dag`, with Airflow as a process."""

    @pytest.fixture
    def root(self, tmp_path: Path) -> Iterator[Path]:
        root = tmp_path / "work"
        build_tree(root, {"dsflow.yml": SETTINGS, **JOBS})
        (root / "datastore").mkdir()
        yield root
        lifecycle.stop_all(Workspace(root), print)

    def test_the_predecessors_line_runs_where_airflow_is_a_process(self, root: Path) -> None:
        dag = """
            from datetime import datetime

            from airflow.providers.standard.operators.bash import BashOperator
            from airflow.sdk import DAG

            with DAG("meteo", schedule="@daily", start_date=datetime(2017, 11, 29)):
                first = BashOperator(task_id="first", bash_command="dsflow run download-rain {{ ds }}")
                first >> BashOperator(task_id="second", bash_command="dsflow run wet {{ ds }}")
            """
        build_tree(root, {"airflow/dags/meteo.py": dag})
        told = json.loads(dsflow(root, "--json", "test-dag", "meteo", DAYS[0], "--form", "process"))
        assert told["tasks"] == {"first": "success", "second": "success"}
        assert sorted(published(root)) == [f"raw/rain/ds={DAYS[0]}", f"tables/wet/ds={DAYS[0]}"]
        # The scheduler's database would be there.
        assert not (root / ".dsflow" / "services" / "airflow").exists()

    def test_a_task_whose_time_is_over_stops_its_job(self, root: Path) -> None:
        # The time is over as soon as the job prints: the signal is the one that Airflow's own clock sends.
        dag = f"""
            import os, pathlib, signal, threading, time
            from datetime import datetime, timedelta

            from airflow.sdk import DAG

            from dsflow.airflow import DsflowJob

            def end_of_time():
                logs = pathlib.Path({str(root)!r}, "datastore/job_runs/patient")
                while not any("begun" in log.read_text() for log in logs.glob("*/*/log.txt")):
                    time.sleep(0.1)
                os.kill(os.getpid(), signal.SIGALRM)

            def begin(context):
                threading.Thread(target=end_of_time, daemon=True).start()

            with DAG("late", schedule=None, start_date=datetime(2026, 1, 1)):
                first = DsflowJob(job="patient", execution_timeout=timedelta(hours=1), pre_execute=begin)
                first >> DsflowJob(job="wet")
            """
        build_tree(root, {"airflow/dags/late.py": dag, "jobs/patient/job_specs.yaml": SCRIPT % "patient"})
        command = [sys.executable, "-P", "-m", "dsflow", "-C", str(root), "--json", "test-dag", "late", DAYS[0]]
        done = subprocess.run([*command, "--form", "process"], capture_output=True, text=True, check=False)
        assert done.returncode == 1, done.stderr
        assert json.loads(done.stdout)["tasks"] == {"patient": "failed", "wet": "upstream_failed"}
        (run,) = json.loads(dsflow(root, "--json", "runs"))["runs"]
        assert (run["ds"], run["status"]) == (DAYS[0], "interrupted")


@pytest.mark.postgres
@pytest.mark.xdist_group("airflow-process")
def test_its_database_can_be_postgresql(postgres: URL, tmp_path: Path) -> None:
    build_tree(tmp_path, {"dsflow.yml": SETTINGS, **JOBS})
    dsflow(tmp_path, "generate-dag", "hours", "--schedule", "none")
    database = airflow_database(postgres)
    made = Airflow(tmp_path, free_port(), "")
    start = ("start-airflow", "--form", "process", "--port", str(made.port))
    try:
        dsflow(tmp_path, *start, DSFLOW_AIRFLOW_DATABASE=database)
        made.switch_on("hours")
        assert "unchanged" in dsflow(tmp_path, "--json", *start)
        assert not list((tmp_path / ".dsflow" / "services" / "airflow").glob("*.db"))
    finally:
        lifecycle.stop_all(Workspace(tmp_path), print)


def airflow_database(server: URL) -> str:
    """Make a database and give its URL as people write it."""
    import sqlalchemy as sa

    engine = sa.create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sa.text("CREATE DATABASE airflow"))
    engine.dispose()
    return f"postgresql://{server.username}@{server.host}:{server.port}/airflow"
