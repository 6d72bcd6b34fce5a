"""`dsflow generate-dag`: the DAG file that jobs make, and what happens to one that a person has changed."""

from __future__ import annotations

import ast
import shlex
from collections.abc import Callable

import pytest

from dsflow import cli
from dsflow.services import airflow as airflow_service
from dsflow.services.contract import Service
from dsflow.services.registry import service_of
from dsflow.workspace import Workspace
from tests.conftest import MakeWorkspace, Screen, Tree

Dsflow = Callable[..., Screen]


def job(name: str, reads: str = "", spec: str = "") -> Tree:
    """A SQL job that writes the table of its name from others."""
    query = "SELECT 1 AS x" + "".join(f' UNION ALL SELECT x FROM "{table}"' for table in reads.split())
    text = f"version: 1\nkind: sql\noutput: {{table: {name}}}\n{spec}"
    return {f"jobs/{name}/job_specs.yaml": text, f"jobs/{name}/q.sql": query}


SCHEDULE = "schedule: {cron: '30 4 * * *', timezone: Europe/Paris, partition: current}\n"
FOUR: Tree = {
    **job("rain", spec=SCHEDULE + "run: {retries: 2, timeout: 30m}\n"),
    **job("wet", "rain"),
    **job("dry", "rain"),
    **job("hours", "rain wet dry"),
}
DAG = '''\
"""Written by `dsflow generate-dag +hours`, which writes it again as long as nobody changes it."""

from datetime import timedelta

import pendulum
from airflow.sdk import DAG

from dsflow.airflow import PARAMS, DsflowJob

with DAG(
    "hours",
    schedule="30 4 * * *",
    start_date=pendulum.datetime(2000, 1, 1, tz="Europe/Paris"),
    catchup=False,
    max_active_runs=1,  # one date after the other, as jobs that read other dates need it
    default_args={"partition": "current", "retry_delay": timedelta(seconds=10)},
    params=PARAMS,
    tags=["dsflow"],
):
    rain = DsflowJob(job="rain", retries=2, execution_timeout=timedelta(minutes=35))
    dry = DsflowJob(job="dry")
    wet = DsflowJob(job="wet")
    hours = DsflowJob(job="hours")

    rain >> dry
    rain >> wet
    [dry, wet] >> hours
'''


def dag(workspace: Workspace, name: str) -> str:
    """Give the text of a DAG file; it must be Python."""
    text = (workspace.dags / f"{name}.py").read_text("utf-8")
    ast.parse(text)
    return text


def test_the_jobs_are_tasks_behind_those_whose_tables_they_read(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    workspace = make_workspace(FOUR)
    screen = dsflow("generate-dag", "+hours")
    assert screen.exit_code == 0, screen.err
    assert "new file" in screen.out
    assert "airflow/dags/hours.py" in screen.out
    text, _, stamp = dag(workspace, "hours").rpartition("\n# dsflow wrote everything above: ")
    assert text == DAG
    assert len(stamp.strip()) == 16


def test_the_command_in_the_head_writes_the_same_again(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    workspace = make_workspace(FOUR)
    wanted = ["wet", "dry", "--exclude", "dry", "--name", "my.dag", "--schedule", "@weekly", "--partition", "ended"]
    assert dsflow("generate-dag", *wanted, "--catch-up-from", "2026-11-01").exit_code == 0
    text = dag(workspace, "my.dag")
    words = shlex.split(text.partition("`")[2].partition("`")[0])
    assert words[:2] == ["dsflow", "generate-dag"]
    (workspace.dags / "my.dag.py").unlink()
    assert cli.run(words[1:]) == 0
    assert dag(workspace, "my.dag") == text
    assert 'schedule="@weekly",\n    start_date=pendulum.datetime(2026, 11, 1, tz="UTC"),\n    catchup=True' in text
    assert 'default_args={"partition": "ended"}' in text


def test_without_a_selection_it_is_all_jobs_under_the_workspaces_name(
    make_workspace: MakeWorkspace, dsflow: Dsflow
) -> None:
    board = {"jobs/board/job_specs.yaml": "version: 1\nkind: dashboard\n", "jobs/board/main.py": "app = None"}
    workspace = make_workspace({**job("a"), **board, "dsflow.yml": "version: 1\nname: My rain\n"})
    assert dsflow("--json", "generate-dag").document["jobs"] == ["a"]
    assert '"My-rain",\n    schedule="@daily",' in dag(workspace, "My-rain")
    assert '\n    DsflowJob(job="a")\n' in dag(workspace, "My-rain")


def test_a_pause_is_where_the_dag_begins_and_none_is_by_hand_only(
    make_workspace: MakeWorkspace, dsflow: Dsflow
) -> None:
    workspace = make_workspace(job("a", spec="schedule: {cron: '0 6 1 * *', paused_until: 2026-12-01}\ngrain: month\n"))
    dsflow("generate-dag", "a")
    assert 'schedule="0 6 1 * *",\n    start_date=pendulum.datetime(2026, 12, 1, tz="UTC")' in dag(workspace, "a")
    assert 'default_args={"partition": "ended", "grain": "month"}' in dag(workspace, "a")
    dsflow("generate-dag", "a", "--schedule", "none")
    assert "schedule=None," in dag(workspace, "a")


def test_names_that_python_has_or_that_fall_together_are_changed(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    workspace = make_workspace({**job("class"), **job("a-b", "class"), **job("a_b", "a-b"), **job("2x", "a_b")})
    assert dsflow("generate-dag", "--name", "x").exit_code == 0
    text = dag(workspace, "x")
    assert "job_class >> a_b\n    a_b >> a_b_\n    a_b_ >> job_2x\n" in text
    assert 'a_b_ = DsflowJob(job="a_b")' in text


def test_a_file_that_was_changed_stays_and_the_difference_is_shown(
    make_workspace: MakeWorkspace, dsflow: Dsflow
) -> None:
    workspace = make_workspace(FOUR)
    dsflow("generate-dag", "+hours")
    assert "as it was" in dsflow("generate-dag", "+hours").out
    assert "written again" in dsflow("generate-dag", "+hours", "--schedule", "@hourly").out
    file = workspace.dags / "hours.py"
    file.write_text(file.read_text().replace("@hourly", "0 5 * * *"))
    screen = dsflow("generate-dag", "+hours")
    assert screen.exit_code == 2
    assert '-    schedule="0 5 * * *",\n+    schedule="30 4 * * *",' in screen.err
    assert "was changed by hand" in screen.err
    assert "0 5 * * *" in file.read_text()
    assert "replaced" in dsflow("generate-dag", "+hours", "--force").out
    assert "0 5 * * *" not in file.read_text()


def test_a_file_of_somebody_else_stays_too(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    workspace = make_workspace({**FOUR, "airflow/dags/hours.py": "# mine\n"})
    assert dsflow("generate-dag", "+hours").exit_code == 2
    assert dag(workspace, "hours") == "# mine\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["a", "b"], "different schedules"),
        (["a", "b", "--schedule", "@daily"], "different schedules"),
        (["a", "m"], "different grains (day, month)"),
        (["a", "--schedule", "at six"], "--schedule: 'at six' is not a cron line"),
        (["a", "--catch-up-from", "soon"], "--catch-up-from: 'soon' is not a day partition"),
        (["a", "--name", "../x"], "'../x' is not a valid DAG name"),
        (["nope"], "there is no job 'nope'"),
    ],
)
def test_what_fits_into_no_dag_is_refused(
    make_workspace: MakeWorkspace, dsflow: Dsflow, arguments: list[str], said: str
) -> None:
    a, b = "schedule: '0 6 * * *'\n", "schedule: {cron: '0 7 * * *', timezone: Europe/Paris}\n"
    workspace = make_workspace({**job("a", spec=a), **job("b", spec=b), **job("m", spec="grain: month\n")})
    screen = dsflow("generate-dag", *arguments)
    assert screen.exit_code == 2
    assert said in screen.err
    assert not workspace.dags.exists()


class TestSettings:
    """What Airflow finds in its private folder."""

    def config(self, workspace: Workspace) -> str:
        service: Service = service_of(workspace, "airflow")
        airflow_service.settle(service)
        return service.kept("airflow.cfg") or ""

    def test_secrets_are_made_once_and_are_nobody_elses(self, make_workspace: MakeWorkspace) -> None:
        workspace = make_workspace({})
        first = self.config(workspace)
        assert all(name in first for name in ("fernet_key = ", "secret_key = ", "jwt_secret = "))
        assert self.config(workspace) == first
        assert (workspace.own / "services" / "airflow" / "airflow.cfg").stat().st_mode & 0o777 == 0o600

    def test_another_database_is_kept_until_the_usual_one_is_wanted_again(
        self, make_workspace: MakeWorkspace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        workspace = make_workspace({})
        monkeypatch.setenv("DSFLOW_AIRFLOW_DATABASE", "postgresql://me:p%40ss@db/airflow")
        with_database = self.config(workspace)
        # What reads the file takes % as the beginning of a name.
        assert "sql_alchemy_conn = postgresql://me:p%%40ss@db/airflow" in with_database
        monkeypatch.delenv("DSFLOW_AIRFLOW_DATABASE")
        assert self.config(workspace) == with_database
        monkeypatch.setenv("DSFLOW_AIRFLOW_DATABASE", "sqlite")
        assert "sql_alchemy_conn" not in self.config(workspace)

    def test_a_url_that_is_none_is_refused_and_not_shown(
        self, make_workspace: MakeWorkspace, dsflow: Dsflow, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        make_workspace({})
        monkeypatch.setenv("DSFLOW_AIRFLOW_DATABASE", "mysql://me:secret@db/airflow")
        screen = dsflow("start-airflow", "--form", "process")
        assert screen.exit_code == 2
        assert "DSFLOW_AIRFLOW_DATABASE" in screen.err
        assert "secret" not in screen.err + screen.out

    def test_the_password_is_told_once(self, make_workspace: MakeWorkspace) -> None:
        service = service_of(make_workspace({}), "airflow")
        (first,), (second,) = airflow_service.login(service), airflow_service.login(service)
        password = (service.kept("passwords.json") or "").split('"')[3]
        assert len(password) >= 12
        assert password in first
        assert password not in second
