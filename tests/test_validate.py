"""`dsflow validate`, `render`, `schema` and `config`: looking without running."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from dsflow.model import Task, from_json
from tests.conftest import MakeWorkspace, Screen, notebook

Dsflow = Callable[..., Screen]
GOOD = {
    "jobs/sum/job_specs.yaml": "version: 1\nkind: sql\nparameters: {city: paris}\noutput: {table: t}\n",
    "jobs/sum/query.sql": "SELECT '{{ ds }}' AS ds, '{{ city }}' AS city",
    "jobs/look/job_specs.yaml": "version: 1\nkind: notebook\noutput: {table: u}\n",
    "jobs/look/look.ipynb": notebook("print(1)", parameters="days = 7"),
    "jobs/old/job_specs.yaml": "version: '0.1'\nclass: CommandLineTool\nscript: old.sh\njob_parameters: [ds]\n"
    'task_specs: {source_path: "http://h/x", sink_path: "/data/raw/x/ds={{ ds }}"}\n',
    "jobs/old/old.sh": "true",
}


class TestValidate:
    def test_what_is_good_is_said_to_be(self, make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
        make_workspace(GOOD)
        screen = dsflow("validate")
        assert (screen.exit_code, screen.out) == (0, "no mistakes in 3 jobs\n")

    def test_every_mistake_of_every_file_comes_at_once(self, make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
        make_workspace(
            {
                **GOOD,
                "dsflow.yml": "runtme: docker\n",
                "templates/jobs/mine/template_specs.yaml": "nme: x\n",
                "docker/mine/service.yaml": "ports: [8888]\n",
                "jobs/a/job_specs.yaml": "version: 1\nkind: sql\ninputs: {raw: {pth: meteo}}\ngrain: dya\n",
                "jobs/b/job_specs.yaml": "version: 1\nkind: sql\noutput: {table: t}\n"
                "expectations: [{name: e, constraint: 'rain >='}]\n",
                "jobs/b/query.sql": "SELECT '{{ dss }}'",
                "jobs/c/job_specs.yaml": "version: 1\nkind: dashboard\n",
                "jobs/c/page.py": "def",
                "jobs/d/job_specs.yaml": "version: 1\nkind: notebook\n",
                "jobs/d/d.ipynb": "{",
                "jobs/e/job_specs.yaml": "a: [",
            }
        )
        screen = dsflow("validate")
        assert screen.exit_code == 2
        for sentence in (
            "dsflow.yml: runtme: unknown key; did you mean 'runtime'?",
            "templates/jobs/mine/template_specs.yaml: nme: unknown key",
            "docker/mine/service.yaml: name: required key is missing",
            "jobs/a/job_specs.yaml: inputs.raw.pth: unknown key; did you mean 'path'?",
            "jobs/a/job_specs.yaml: grain: 'dya' is not one of hour, day, week, month; did you mean 'day'?",
            "jobs/b/query.sql: line 1: 'dss' is undefined; did you mean 'ds'?",
            "jobs/b/job_specs.yaml: expectations: 'e': line 1, column 7: not valid SQL near '>='",
            "jobs/c/page.py: line 1: invalid syntax",
            "jobs/d/d.ipynb: line 1: not a notebook: not valid JSON",
            "jobs/e/job_specs.yaml: line 2, column 1: not valid YAML: did not find expected node content",
            "table 't' is written by 2 jobs: jobs/b/job_specs.yaml: output, jobs/sum/job_specs.yaml: output",
            "11 mistakes in 8 jobs",
        ):
            assert sentence in screen.out.splitlines()

    def test_jobs_can_be_named(self, make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
        make_workspace({**GOOD, "jobs/a/job_specs.yaml": "version: 1\n"})
        assert dsflow("validate", "sum").exit_code == 0
        screen = dsflow("validate", "sum", "smu")
        assert screen.exit_code == 2
        assert "smu: Job does not exist, or job_specs.yaml is missing; did you mean 'sum'?" in screen.out

    def test_as_json(self, make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
        make_workspace({"jobs/a/job_specs.yaml": "version: 1\n"})
        screen = dsflow("validate", "--json")
        assert screen.exit_code == 2
        assert screen.document == {
            "valid": False,
            "jobs": ["a"],
            "mistakes": [{"job": "a", "message": "jobs/a/job_specs.yaml: kind: required key is missing", "hint": ""}],
        }

    def test_nothing_is_written(self, make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
        workspace = make_workspace(GOOD)
        before = sorted(workspace.root.rglob("*"))
        dsflow("validate")
        dsflow("render", "sum", "2026-11-20")
        assert sorted(workspace.root.rglob("*")) == before


class TestRender:
    def test_sql_is_shown_as_it_would_run(self, make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
        make_workspace(GOOD)
        screen = dsflow("render", "sum", "2026-11-20", "-p", "city=lyon")
        assert (screen.exit_code, screen.out) == (0, "SELECT '2026-11-20' AS ds, 'lyon' AS city\n")

    def test_other_jobs_are_shown_as_a_task(self, make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
        make_workspace(GOOD)
        lines = dsflow("render", "old", "2026-11-20").out.splitlines()
        assert "  sink_path: /data/raw/x/ds=2026-11-20" in lines
        assert "kind: script" in lines
        assert "  network: true" in lines

    def test_json_is_the_task(self, make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
        make_workspace(GOOD)
        task = from_json(Task, dsflow("--json", "render", "look", "2026-11-20").out)
        assert (task.job, task.ds, task.injected) == ("look", "2026-11-20", {"days": 7})

    def test_a_date_suits_every_job(self, make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
        make_workspace({"jobs/d/job_specs.yaml": "class: PlotlyDashApplication\nscript: d.py\n", "jobs/d/d.py": ""})
        assert dsflow("--json", "render", "d", "2026-11-20").document["ds"] == "2026-11-20"

    def test_a_mistake_ends_with_2(self, make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
        make_workspace(GOOD)
        screen = dsflow("render", "sum", "2026-13-01")
        assert (screen.exit_code, screen.out) == (2, "")
        assert screen.err.startswith("error: '2026-13-01' is not a day partition")


@pytest.mark.parametrize("name", ["job", "template", "service", "workspace"])
def test_a_schema_needs_no_workspace(dsflow: Dsflow, name: str) -> None:
    screen = dsflow("schema", name)
    assert screen.exit_code == 0
    assert screen.document["$schema"].startswith("https://json-schema.org/")


class TestConfig:
    def test_every_setting_has_its_origin(
        self, make_workspace: MakeWorkspace, dsflow: Dsflow, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        make_workspace({"dsflow.yml": "name: rain\nimage: a\n"})
        monkeypatch.setenv("DSFLOW_IMAGE", "b")
        found = dsflow("config", "--runtime", "process", "--json").document
        assert found["name"] == {"value": "rain", "origin": "dsflow.yml"}
        assert found["image"] == {"value": "b", "origin": "environment"}
        assert found["runtime"] == {"value": "process", "origin": "command line"}
        assert found["engine"] == {"value": "duckdb", "origin": "default"}

    def test_an_environment_is_named_before_or_after_the_command(
        self, make_workspace: MakeWorkspace, dsflow: Dsflow, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        make_workspace({"dsflow.yml": "environments: {prod: {engine: spark}, other: {}}\n"})
        monkeypatch.setenv("DSFLOW_ENV", "other")
        prod = {"value": "spark", "origin": "dsflow.yml: environments.prod"}
        for arguments in (["--env", "prod", "config"], ["config", "--env", "prod"], ["config", "--env=prod"]):
            found = dsflow(*arguments, "--json").document
            assert found["engine"] == prod
            assert found["environment"] == {"value": "prod", "origin": "command line"}
        found = dsflow("config", "--json").document
        assert found["environment"] == {"value": "other", "origin": "environment"}
        screen = dsflow("run", "x", "--env", "prd")
        assert screen.exit_code == 2
        assert "there is no environment 'prd'; did you mean 'prod'" in screen.err

    def test_a_setting_without_a_value_says_what_holds(self, make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
        make_workspace({})
        lines = [line.split() for line in dsflow("config").out.splitlines()]
        assert ["image", "dsflow/python", "default"] in lines
        assert ["templates", "none", "default"] in lines

    def test_a_password_is_not_shown(self, make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
        make_workspace({"dsflow.yml": "history: postgresql://me:hunter2@h/db\n"})
        for arguments in (["config"], ["config", "--json"]):
            screen = dsflow(*arguments)
            assert "postgresql://me:***@h/db" in screen.out
            assert "hunter2" not in screen.out
