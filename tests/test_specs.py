"""The files a person writes: what they may hold, and every mistake at once in a sentence of our own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dsflow.errors import UsageError
from dsflow.specs.load import (
    JobSpec,
    SpecError,
    hide_passwords,
    json_schema,
    load_job,
    load_service,
    load_template,
    load_workspace,
    settings_of,
)
from dsflow.specs.models import ScheduleSpec
from dsflow.workspace import Workspace
from tests.conftest import MakeWorkspace

FULL = """
    version: 1
    description: Rain per hour in Paris
    kind: notebook
    main: create-table-meteo.ipynb
    engine: duckdb
    grain: day
    parameters: {city: paris, days: 7, ratio: 0.5, dry: false, since: null, stations: [a, b]}
    inputs:
      raw: {raw: meteo, format: json, options: {columns: {rain: DOUBLE}}}
      stations: {table: dim_stations, as_of: ds}
      history: {table: fct_rain, window: 7}
      names: {path: "https://example.org/names.csv"}
    output: {table: fct_meteo, kind: fct}
    expectations:
      - {name: rain_not_negative, constraint: "rain >= 0"}
      - {name: city_known, constraint: "city IS NOT NULL", action: fail}
    expectation_action: drop
    run: {runtime: auto, image: dsflow/python, requirements: [scikit-learn==1.8.0], memory: 2g, cpus: 2,
          network: false, timeout: 30m, retries: 2, environment: [API_TOKEN]}
"""
LEGACY = """
    version: '0.1'
    description: Create table meteo
    class: JupyterNotebook
    image: dsflow/pyspark:2.2
    script: create-table-meteo.ipynb
    job_parameters:
      - ds
    task_specs:
      source_path: "/data/raw/meteo/ds={{ ds }}"
      sink_path: "/data/tables/meteo/ds={{ ds }}"
      ds: "{{ ds }}"
    dependencies: [UPSTREAM_JOB]
"""


def job(make_workspace: MakeWorkspace, text: str) -> JobSpec:
    return load_job(make_workspace({"jobs/x/job_specs.yaml": text}), "x")


def mistakes(make_workspace: MakeWorkspace, text: str) -> list[str]:
    with pytest.raises(SpecError) as caught:
        job(make_workspace, text)
    assert caught.value.exit_code == 2
    assert "pydantic" not in caught.value.message
    return [mistake.removeprefix("jobs/x/job_specs.yaml: ") for mistake in caught.value.mistakes]


class TestJob:
    def test_every_key_of_version_1_is_read(self, make_workspace: MakeWorkspace) -> None:
        spec = job(make_workspace, FULL)
        assert (spec.name, spec.kind, spec.main) == ("x", "notebook", "create-table-meteo.ipynb")
        assert spec.parameters["stations"] == ["a", "b"]
        assert spec.inputs["history"].window == 7
        assert spec.inputs["raw"].options == {"columns": {"rain": "DOUBLE"}}
        assert spec.output is not None
        assert spec.output.table == "fct_meteo"
        assert [check.action for check in spec.expectations] == [None, "fail"]
        assert spec.run.environment == ("API_TOKEN",)
        assert not spec.legacy

    def test_kind_and_version_are_enough(self, make_workspace: MakeWorkspace) -> None:
        spec = job(make_workspace, "version: 1\nkind: sql\n")
        assert (spec.grain, spec.output, spec.run.network) == ("day", None, None)

    def test_a_schedule_may_be_its_cron_line_alone(self, make_workspace: MakeWorkspace) -> None:
        assert job(make_workspace, "version: 1\nkind: sql\nschedule: 30 4 * * 1-5\n").schedule == ScheduleSpec(
            cron="30 4 * * 1-5", timezone="UTC", paused_until=None
        )

    def test_a_schedule_in_a_time_zone(self, make_workspace: MakeWorkspace) -> None:
        text = "{cron: 0 6 * * MON, timezone: Europe/Paris, paused_until: 2026-12-01}"
        assert job(make_workspace, f"version: 1\nkind: sql\nschedule: {text}\n").schedule == ScheduleSpec(
            cron="0 6 * * MON", timezone="Europe/Paris", paused_until="2026-12-01"
        )

    def test_a_spec_does_not_change(self, make_workspace: MakeWorkspace) -> None:
        spec = job(make_workspace, FULL)
        with pytest.raises(Exception, match="frozen"):
            spec.kind = "sql"

    @pytest.mark.parametrize(
        ("line", "sentence"),
        [
            ("inputs: {raw: {pth: meteo}}", "inputs.raw.pth: unknown key; did you mean 'path'?"),
            ("run: {requirement: [a]}", "run.requirement: unknown key; did you mean 'requirements'?"),
            ("expectations: [{nme: a}]", "expectations[0].nme: unknown key; did you mean 'name'?"),
            ("inptus: {}", "inptus: unknown key; did you mean 'inputs'?"),
            ("zzz: 1", "zzz: unknown key"),
            ("grain: dya", "grain: 'dya' is not one of hour, day, week, month; did you mean 'day'?"),
            ("engine: spakr", "engine: 'spakr' is not one of duckdb"),
            ("description: 3", "description: expected text, got 3"),
            ("inputs: [a]", "inputs: expected keys and values, got a list"),
            ("inputs: {a: meteo}", "inputs.a: expected keys and values, got 'meteo'"),
            ("expectations: {a: b}", "expectations: expected a list, got keys and values"),
            ("inputs: {a: {}}", "inputs.a: name exactly one of 'raw', 'table' and 'path'"),
            ("inputs: {a: {raw: b, table: c}}", "inputs.a: name exactly one of 'raw', 'table' and 'path'"),
            ("inputs: {a: {table: b, window: 0}}", "inputs.a.window: must be at least 1"),
            ("inputs: {a: {table: b, window: 1.5}}", "inputs.a.window: expected a whole number, got 1.5"),
            ("inputs: {a: {table: b, window: 2, as_of: ds}}", "inputs.a: give 'as_of' or 'window', not both"),
            ("inputs: {a: {path: b, window: 2}}", "inputs.a: 'as_of', 'window' and 'lookback' go with 'raw' or"),
            ("inputs: {a: {path: b, lookback: 2}}", "inputs.a: 'as_of', 'window' and 'lookback' go with 'raw' or"),
            ("inputs: {a: {raw: b, lookback: 2, as_of: ds}}", "inputs.a: give 'as_of' or 'lookback', not both"),
            ("inputs: {a: {raw: b, lookback: 0}}", "inputs.a.lookback: must be at least 1"),
            ("tags: nightly", "tags: expected a list, got 'nightly'"),
            ("tags: ['a b']", "tags[0]: 'a b' is not a valid tag name"),
            ("schedule: nightly", "schedule.cron: 'nightly' is not a cron line ("),
            ("schedule: '* * *'", "schedule.cron: '* * *' is not a cron line ("),
            ("schedule: 61 4 * * *", "schedule.cron: '61 4 * * *' is not a cron line ("),
            ("schedule: 0 0 30 2 *", "schedule.cron: '0 0 30 2 *'"),
            ("schedule: {crn: '@daily'}", "schedule.crn: unknown key; did you mean 'cron'?"),
            ("schedule: 5", "schedule: expected keys and values, got 5"),
            (
                "schedule: {cron: '@daily', timezone: Europe/Rmoe}",
                "schedule.timezone: 'Europe/Rmoe' is not a time zone such as Europe/Paris; did you mean 'Europe/Rome'?",
            ),
            ("schedule: {cron: '@daily', timezone: ../x}", "schedule.timezone: '../x' is not a time zone such as"),
            (
                "schedule: {cron: '@daily', paused_until: 2026-13-01}",
                "schedule.paused_until: '2026-13-01' is not a date such as 2026-12-01",
            ),
            ("inputs: {a: {table: b, as_of: today}}", "inputs.a.as_of: 'today' is not one of ds"),
            ("inputs: {a: {table: ../b}}", "inputs.a.table: '../b' is not a valid table name"),
            ("inputs: {'a b': {table: b}}", "inputs.'a b': 'a b' is not a valid input name"),
            ("output: {}", "output: name exactly one of 'table' and 'raw'"),
            ("output: {table: a, kind: dimm}", "output.kind: 'dimm' is not one of fct, dim; did you mean 'dim'?"),
            ("expectations: [{name: a, constraint: b}]", "expectations: there is no output table to check"),
            ("parameters: {ds: a}", "parameters.ds: 'ds' is given by dsflow; choose another name"),
            ("parameters: {a-b: 1}", "parameters.a-b: 'a-b' is not a parameter name"),
            ("parameters: {a: {b: 1}}", "parameters.a: expected a plain value or a list of plain values"),
            ("parameters: {a: [[1]]}", "parameters.a: expected a plain value or a list of plain values"),
            ("run: {memory: lots}", "run.memory: 'lots' is not an amount of memory; write it like 512m or 2g"),
            ("run: {timeout: soon}", "run.timeout: 'soon' is not a length of time; write it like 90s, 30m or 2h"),
            ("run: {cpus: 0}", "run.cpus: must be more than 0"),
            ("run: {cpus: true}", "run.cpus: expected a number, got true"),
            ("run: {network: yes}", "run.network: expected true or false, got 'yes'"),
            ("run: {retries: -1}", "run.retries: must be at least 0"),
            ("run: {environment: ['A=b']}", "run.environment[0]: 'A=b' is not the name of an environment variable"),
            ("run: {requirements: ['-r x']}", "run.requirements[0]: '-r x' is not a requirement such as"),
            ("run: {image: '--privileged'}", "run.image: '--privileged' is not the name of an image"),
            (
                "run: {runtime: dokcer}",
                "run.runtime: 'dokcer' is not one of auto, process, docker, submit; did you mean 'do",
            ),
        ],
    )
    def test_a_mistake_has_its_place_and_a_guess(self, make_workspace: MakeWorkspace, line: str, sentence: str) -> None:
        found = mistakes(make_workspace, f"version: 1\nkind: sql\n{line}\n")
        assert [text for text in found if text.startswith(sentence)], found

    def test_all_mistakes_come_at_once(self, make_workspace: MakeWorkspace) -> None:
        found = mistakes(
            make_workspace,
            """
            version: 1
            kind: sqll
            inputs: {a: {raw: b, table: c}, b: {rwa: x}}
            output: {table: a, raw: b}
            expectations: [{name: a, constraint: "1"}, {name: a}]
            """,
        )
        forms = "'unique', 'not_null', 'accepted_values', 'row_count', 'freshness', 'references', 'schema'"
        assert found == [
            "kind: 'sqll' is not one of notebook, sql, script, dashboard; did you mean 'sql'?",
            "inputs.b.rwa: unknown key; did you mean 'raw'?",
            "inputs.a: name exactly one of 'raw', 'table' and 'path'",
            "output: name exactly one of 'table' and 'raw'",
            f"expectations[1]: name exactly one of 'constraint', {forms}",
            "expectations: 'a' is there twice",
        ]

    def test_an_empty_file_lacks_what_is_required(self, make_workspace: MakeWorkspace) -> None:
        assert mistakes(make_workspace, "") == ["version: required key is missing", "kind: required key is missing"]

    def test_a_version_from_the_future_is_refused(self, make_workspace: MakeWorkspace) -> None:
        assert mistakes(make_workspace, "version: 3\nkind: sql\n") == ["version: 3 is not one of 1"]

    def test_a_spec_that_is_a_link_out_of_the_workspace_is_refused(
        self, make_workspace: MakeWorkspace, tmp_path: Path
    ) -> None:
        workspace = make_workspace({"jobs/x/query.sql": ""})
        (tmp_path / "secret.yaml").write_text("version: 1\nkind: sql\n")
        (workspace.jobs / "x" / "job_specs.yaml").symlink_to(tmp_path / "secret.yaml")
        with pytest.raises(SpecError, match="is a link that leaves the workspace"):
            load_job(workspace, "x")

    def test_a_link_in_a_circle_is_refused(self, make_workspace: MakeWorkspace) -> None:
        workspace = make_workspace({"jobs/x/query.sql": ""})
        (workspace.jobs / "x" / "job_specs.yaml").symlink_to("job_specs.yaml")
        with pytest.raises(UsageError):
            load_job(workspace, "x")


class TestLegacyJob:
    def test_the_predecessors_file_becomes_todays_spec(self, make_workspace: MakeWorkspace) -> None:
        spec = job(make_workspace, LEGACY)
        assert spec.legacy
        assert (spec.kind, spec.main, spec.positional) == ("notebook", "create-table-meteo.ipynb", ("ds",))
        assert spec.task_specs["sink_path"] == "/data/tables/meteo/ds={{ ds }}"
        assert spec.output is not None
        assert spec.output.table == "meteo"
        assert spec.inputs["source"].raw == "meteo"
        assert spec.run.image is None

    def test_a_class_without_a_version_is_one_too(self, make_workspace: MakeWorkspace) -> None:
        assert job(make_workspace, "class: PlotlyDashApplication\nscript: a.py\n").kind == "dashboard"

    def test_a_number_as_version_is_the_same(self, make_workspace: MakeWorkspace) -> None:
        assert job(make_workspace, "version: 0.1\nclass: CommandLineTool\nscript: a.sh\n").kind == "script"

    def test_7_1_21_an_image_of_ones_own_is_kept(self, make_workspace: MakeWorkspace) -> None:
        assert job(make_workspace, LEGACY.replace("dsflow/pyspark:2.2", "me/mine:3")).run.image == "me/mine:3"

    def test_a_command_line_tool_may_use_the_network(self, make_workspace: MakeWorkspace) -> None:
        assert job(make_workspace, "class: CommandLineTool\nscript: a.sh\n").run.network is True

    def test_other_paths_stay_paths(self, make_workspace: MakeWorkspace) -> None:
        spec = job(make_workspace, LEGACY.replace("/data/raw/meteo/ds={{ ds }}", "https://example.org/{{ ds }}.csv"))
        assert spec.inputs["source"].path == "https://example.org/{{ ds }}.csv"

    def test_mistakes_come_at_once_too(self, make_workspace: MakeWorkspace) -> None:
        assert mistakes(make_workspace, "version: '0.1'\nclass: JupyterNotbook\njob_parameters: ds\n") == [
            (
                "class: 'JupyterNotbook' is not one of JupyterNotebook, CommandLineTool, PlotlyDashApplication; "
                "did you mean 'JupyterNotebook'?"
            ),
            "script: required key is missing",
            "job_parameters: expected a list, got 'ds'",
        ]


class TestTemplate:
    def test_version_1(self, tmp_path: Path) -> None:
        (tmp_path / "template_specs.yaml").write_text(
            "version: 1\njob_name_prefix: load\nschema_from: csv\ntemplate_parameters:\n"
            "  - {name: mode, type: choice, choices: [a, b], default: a, help: How}\n"
            "  - {name: size, type: integer, default: 3}\n"
        )
        spec = load_template(tmp_path)
        assert [question.type for question in spec.template_parameters] == ["choice", "integer"]
        assert spec.schema_from == "csv"

    def test_the_predecessors_questions_get_todays_types(self, tmp_path: Path) -> None:
        (tmp_path / "template_specs.yaml").write_text(
            "version: '0.1'\njob_name_prefix: download\ntemplate_parameters:\n"
            "  - {name: source_url, type: prompt, text: Url}\n  - {name: unzip, type: confirm, text: Zip?}\n"
            'mkdir: ["datastore://raw/{{ dataset_name }}"]\n'
        )
        url, unzip = load_template(tmp_path).template_parameters
        assert (url.type, url.default, url.text) == ("string", None, "Url")
        assert (unzip.type, unzip.default) == ("boolean", False)

    def test_mistakes(self, tmp_path: Path) -> None:
        (tmp_path / "template_specs.yaml").write_text(
            "version: 1\ntemplate_parameters:\n  - {name: a b}\n  - {name: c, type: choice}\n"
            "  - {name: d, pattern: '('}\n"
        )
        with pytest.raises(SpecError) as caught:
            load_template(tmp_path, "mine")
        first, second, third = caught.value.mistakes
        assert first.startswith("mine: template_parameters[0].name: 'a b' is not a parameter name")
        assert second == "mine: template_parameters[1]: 'choices' and 'type: choice' go together"
        assert third.startswith("mine: template_parameters[2]: 'pattern' is not a regular expression")


class TestService:
    def test_a_service(self, tmp_path: Path) -> None:
        (tmp_path / "service.yaml").write_text(
            "name: jupyter\nimage: dsflow/jupyter\nports: [8888]\nmemory: 2g\n"
            "mounts: [{source: jobs, target: /jobs, read_only: true}]\nenvironment: {A: b}\n"
            "readiness: {path: /api, port: 8888, timeout: 60s}\n"
            "process: {command: [jupyter, lab], requirements: [jupyterlab]}\n"
        )
        spec = load_service(tmp_path)
        assert spec.ports == (8888,)
        assert spec.readiness is not None
        assert spec.readiness.path == "/api"

    def test_mistakes(self, tmp_path: Path) -> None:
        (tmp_path / "service.yaml").write_text("name: x\nports: [99999]\nmounts: [{source: a, target: b}]\n")
        with pytest.raises(SpecError) as caught:
            load_service(tmp_path, "docker/x/service.yaml")
        assert caught.value.mistakes == (
            "docker/x/service.yaml: ports[0]: must be at most 65535",
            "docker/x/service.yaml: mounts[0].target: 'b' is not a path that starts with /",
        )

    def test_mistakes_between_keys(self, tmp_path: Path) -> None:
        (tmp_path / "service.yaml").write_text(
            "name: x\nports: [80]\nreadiness: {port: 81}\nprocess: {}\nstop: {signal: KILL}\n"
            "mounts: [{source: /etc, target: /a}, {source: a/../.., target: /b}]\nlogin: all\n"
        )
        with pytest.raises(SpecError) as caught:
            load_service(tmp_path, "x.yaml")
        assert set(caught.value.mistakes) == {
            "x.yaml: stop.signal: 'KILL' is not one of TERM, INT, QUIT",
            "x.yaml: login: 'all' is not one of none, workspace, own",
            "x.yaml: readiness.port: 81 is none of 'ports'",
            "x.yaml: process.command: required key is missing: there is no 'command' for both forms",
            "x.yaml: mounts[0].source: '/etc' is not in the workspace",
            "x.yaml: mounts[1].source: 'a/../..' is not in the workspace",
        }


ENVIRONMENTS = """
runtime: process
spark: {memory: 2g, idle: 5m, settings: {spark.a: 1, spark.b: 2}}
environment: laptop
environments:
  laptop: {spark: {memory: 1g}}
  prod: {engine: spark, spark: {memory: 8g, settings: {spark.b: 3}}}
"""


class TestSettings:
    def test_an_empty_file_is_enough(self, make_workspace: MakeWorkspace) -> None:
        workspace = make_workspace({"dsflow.yml": ""})
        assert load_workspace(workspace).runtime == "auto"
        assert {setting.origin for setting in settings_of(workspace)} == {"default"}

    def test_command_line_over_environment_over_file_over_default(
        self, make_workspace: MakeWorkspace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        workspace = make_workspace({"dsflow.yml": "runtime: process\nimage: a\nname: b\nports: {dash: 8051}\n"})
        monkeypatch.setenv("DSFLOW_RUNTIME", "docker")
        monkeypatch.setenv("DSFLOW_IMAGE", "c")
        found = {s.name: (s.value, s.origin) for s in settings_of(workspace, {"runtime": "auto", "image": None})}
        assert found["runtime"] == ("auto", "command line")
        assert found["image"] == ("c", "environment")
        assert found["name"] == ("b", "dsflow.yml")
        assert found["engine"] == ("duckdb", "default")
        assert load_workspace(workspace).ports == {"dash": 8051}

    def test_a_mistake_is_told_where_it_was_made(
        self, make_workspace: MakeWorkspace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        workspace = make_workspace({"dsflow.yml": "runtme: docker\n"})
        with pytest.raises(SpecError, match="dsflow.yml: runtme: unknown key; did you mean 'runtime'"):
            load_workspace(workspace)
        workspace.marker.write_text("")
        monkeypatch.setenv("DSFLOW_RUNTIME", "dokcer")
        with pytest.raises(SpecError, match="environment DSFLOW_.*: runtime: 'dokcer' is not one of"):
            load_workspace(workspace)

    def test_the_chosen_environment_lies_over_the_file(
        self, make_workspace: MakeWorkspace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        workspace = make_workspace({"dsflow.yml": ENVIRONMENTS})
        assert load_workspace(workspace).runtime == "process"
        assert load_workspace(workspace, {"environment": "prod"}).engine == "spark"
        monkeypatch.setenv("DSFLOW_ENV", "prod")
        found = {s.name: (s.value, s.origin) for s in settings_of(workspace, {"runtime": "auto"})}
        prod = "dsflow.yml: environments.prod"
        assert found["environment"] == ("prod", "environment")
        assert found["environments"] == (("laptop", "prod"), "dsflow.yml")
        assert found["engine"] == ("spark", prod)
        assert found["runtime"] == ("auto", "command line")
        monkeypatch.setenv("DSFLOW_ENGINE", "duckdb")
        assert load_workspace(workspace).engine == "duckdb"
        assert load_workspace(workspace, {"environment": "laptop"}).spark.memory == "1g"

    def test_each_setting_of_spark_counts_for_itself(self, make_workspace: MakeWorkspace) -> None:
        workspace = make_workspace({"dsflow.yml": ENVIRONMENTS})
        found = {s.name: (s.value, s.origin) for s in settings_of(workspace, {"environment": "prod"})}
        prod = "dsflow.yml: environments.prod"
        assert found["spark.memory"] == ("8g", prod)
        assert found["spark.idle"] == ("5m", "dsflow.yml")
        assert found["spark.archive"] == (True, "default")
        assert found["spark.settings.spark.a"] == (1, "dsflow.yml")
        assert found["spark.settings.spark.b"] == (3, prod)

    def test_an_unknown_environment_names_those_that_are_known(self, make_workspace: MakeWorkspace) -> None:
        workspace = make_workspace({"dsflow.yml": ENVIRONMENTS})
        with pytest.raises(UsageError, match="there is no environment 'prd'; did you mean 'prod'") as caught:
            load_workspace(workspace, {"environment": "prd"})
        assert caught.value.hint == "The environments are: laptop, prod."
        workspace.marker.write_text("environment: prod\n")
        with pytest.raises(UsageError, match=r"dsflow\.yml: there is no environment 'prod'"):
            load_workspace(workspace)

    def test_a_mistake_in_an_environment_is_told_whichever_is_chosen(self, make_workspace: MakeWorkspace) -> None:
        workspace = make_workspace({"dsflow.yml": "environments: {prod: {engin: spark}}\n"})
        with pytest.raises(
            SpecError, match=r"dsflow\.yml: environments\.prod\.engin: unknown key; did you mean 'engine'"
        ):
            load_workspace(workspace)

    @pytest.mark.parametrize(
        ("url", "shown"),
        [
            ("postgresql://me:p@ss/word@h:5432/db", "postgresql://me:***@h:5432/db"),
            ("postgresql://me@h/db?password=abc&sslmode=on", "postgresql://me@h/db?password=***&sslmode=on"),
            ("sqlite:///datastore/history.db", "sqlite:///datastore/history.db"),
            ("git+https://token:x@h/r.git", "git+https://token:***@h/r.git"),
        ],
    )
    def test_passwords_are_hidden(self, url: str, shown: str) -> None:
        assert hide_passwords(url) == shown


@pytest.mark.parametrize("name", ["job", "template", "service", "workspace"])
def test_every_file_has_a_json_schema_with_the_keys_it_takes(name: Any) -> None:
    schema = json_schema(name)
    assert schema["type"] == "object"
    assert schema["additionalProperties"] is False
    assert "version" in schema["properties"]


def test_a_job_that_is_not_there_is_no_spec_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Job does not exist"):
        load_job(Workspace(tmp_path), "nope")
