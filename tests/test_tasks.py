"""From a job, a date and parameters to a task with everything resolved."""

from __future__ import annotations

import dataclasses
import datetime as dt
import re
from pathlib import Path
from typing import Any, ClassVar

import pytest

from dsflow.errors import UsageError
from dsflow.model import Expectation, Input, Output, Task, from_json, to_json
from dsflow.pipeline import load
from dsflow.specs.load import load_job, load_workspace
from dsflow.tasks import Maker, make_task
from dsflow.workspace import Workspace
from tests.conftest import MakeWorkspace, notebook

TODAY = dt.datetime.now().date().isoformat()
SQL = """
    version: 1
    kind: sql
    parameters: {city: paris, days: 7}
    inputs:
      history: {table: fct_rain, window: 3}
      stations: {table: dim_stations, as_of: ds}
    output: {table: fct_sum}
    expectations: [{name: a, constraint: "x > 0"}, {name: b, constraint: "x < 9", action: allow}]
    expectation_action: drop
    run: {memory: 2g, cpus: 2, timeout: 30m}
"""
QUERY = """
    SELECT * FROM History JOIN stations USING (s) JOIN fct_other USING (s) JOIN raw.meteo USING (s)
    WHERE city = '{{ city }}' AND day >= '{{ macros.ds_add(ds, -params.days) }}' AND ts >= '{{ start }}'
"""
LEGACY = """
    version: '0.1'
    class: JupyterNotebook
    script: x.ipynb
    job_parameters: [ds]
    task_specs:
      source_path: "/data/raw/my table/ds={{ ds }}"
      sink_path: "/data/tables/meteo/ds={{ds}}"
      ds: "{{ ds }}"
      title: "two  spaces {{ ds }} "
      limit: 3
      nested: {list: ["{{ ds }}", 1]}
"""
TREE = {
    "jobs/sum/job_specs.yaml": SQL,
    "jobs/sum/query.sql": QUERY,
    "jobs/old/job_specs.yaml": LEGACY,
    "jobs/old/x.ipynb": notebook("print(1)"),
}


@pytest.fixture
def workspace(make_workspace: MakeWorkspace) -> Workspace:
    return make_workspace(TREE)


def task(workspace: Workspace, name: str, ds: str | None = None, *positional: str, **given: str) -> Task:
    return make_task(workspace, load_job(workspace, name), ds, given, positional)[0]


def refusal(workspace: Workspace, name: str, ds: str | None = None, *positional: str, **given: str) -> str:
    with pytest.raises(UsageError) as caught:
        task(workspace, name, ds, *positional, **given)
    return caught.value.message


def job_with(make_workspace: MakeWorkspace, spec: str, **files: str) -> Workspace:
    tree = {f"jobs/x/{name.replace('__', '.')}": text for name, text in files.items()}
    return make_workspace({"jobs/x/job_specs.yaml": spec, **tree})


class TestSqlJob:
    def test_everything_is_resolved_for_the_date(self, workspace: Workspace) -> None:
        found = task(workspace, "sum", "2026-11-20", days="2")
        assert (found.job, found.kind, found.main, found.ds) == ("sum", "sql", "query.sql", "2026-11-20")
        assert (found.start, found.end) == ("2026-11-20T00:00:00", "2026-11-21T00:00:00")
        assert found.parameters == {"city": "paris", "days": 2}
        assert found.output == Output(store="table", name="fct_sum", ds="2026-11-20")
        assert found.code is not None
        assert "city = 'paris' AND day >= '2026-11-18' AND ts >= '2026-11-20T00:00:00'" in found.code
        assert (found.limits.memory, found.limits.cpus, found.limits.timeout) == (2 * 2**30, 2, 1800)
        assert found.expectations == (
            Expectation(name="a", constraint="x > 0", action="drop", severity="warn"),
            Expectation(name="b", constraint="x < 9", action="allow", severity="warn"),
        )

    def test_it_reads_what_it_declares_and_of_other_tables_its_own_date(self, workspace: Workspace) -> None:
        day = "2026-11-20"
        assert task(workspace, "sum", day).inputs == (
            Input(name="history", kind="table", target="fct_rain", partitions=("2026-11-18", "2026-11-19", day)),
            Input(name="stations", kind="table", target="dim_stations", as_of=day),
            Input(name="fct_other", kind="table", target="fct_other", partitions=(day,)),
            Input(name="raw.meteo", kind="raw", target="meteo", partitions=(day,)),
        )

    def test_the_date_is_today_if_nothing_is_said(self, workspace: Workspace) -> None:
        assert task(workspace, "sum").ds == TODAY
        assert task(workspace, "sum", None, "yesterday").ds < TODAY

    def test_every_run_has_an_id_of_its_own_with_the_time(self, workspace: Workspace) -> None:
        first, second = task(workspace, "sum"), task(workspace, "sum")
        assert re.fullmatch(r"\d{8}T\d{6}-[0-9a-f]{6}", first.run_id)
        assert first.run_id != second.run_id

    def test_a_task_survives_json(self, workspace: Workspace) -> None:
        found = task(workspace, "sum", "2026-11-20")
        assert from_json(Task, to_json(found)) == found

    def test_an_hourly_job_has_hours(self, make_workspace: MakeWorkspace) -> None:
        spec = "version: 1\nkind: sql\ngrain: hour\ninputs: {h: {table: t, window: 2}}\n"
        workspace = job_with(make_workspace, spec, q__sql="SELECT 1")
        found = task(workspace, "x", "2026-11-20T00")
        assert found.end == "2026-11-20T01:00:00"
        assert found.inputs[0].partitions == ("2026-11-19T23", "2026-11-20T00")
        assert "is not a hour partition" in refusal(workspace, "x", "2026-11-20")

    def test_a_mistake_in_the_template_has_its_place(self, make_workspace: MakeWorkspace) -> None:
        workspace = job_with(make_workspace, "version: 1\nkind: sql\n", q__sql="SELECT 1\nWHERE '{{ dss }}'")
        assert refusal(workspace, "x") == "jobs/x/q.sql: line 2: 'dss' is undefined; did you mean 'ds'?"

    def test_a_mistake_in_the_sql_has_its_place(self, make_workspace: MakeWorkspace) -> None:
        workspace = job_with(make_workspace, "version: 1\nkind: sql\n", q__sql="SELECT a\nb c FROM x")
        assert refusal(workspace, "x") == "jobs/x/q.sql: line 2, column 3: not valid SQL near 'c'"

    @pytest.mark.parametrize(
        ("ds", "given", "sentence"),
        [
            ("2026-02-30", {}, "'2026-02-30' is not a day partition"),
            ("../x", {}, "'../x' is not a day partition"),
            ("2026-11-20", {"ctiy": "a"}, "sum: no parameter 'ctiy'; did you mean 'city'?"),
            ("2026-11-20", {"days": "x"}, "-p days: expected a whole number, got 'x'"),
        ],
    )
    def test_a_wrong_date_or_parameter_is_told(
        self, workspace: Workspace, ds: str, given: dict[str, str], sentence: str
    ) -> None:
        assert refusal(workspace, "sum", ds, **given) == sentence

    def test_one_date_and_no_more(self, workspace: Workspace) -> None:
        assert refusal(workspace, "sum", None, "2026-11-20", "paris") == "sum takes one date"


class TestInputsAndNetwork:
    def limits_and_target(self, make_workspace: MakeWorkspace, path: str, run: str = "{}") -> tuple[bool, str]:
        spec = f"version: 1\nkind: script\nparameters: {{n: 1}}\ninputs: {{a: {{path: '{path}'}}}}\nrun: {run}\n"
        found = task(job_with(make_workspace, spec, a__sh=""), "x", "2026-11-20")
        return found.limits.network, found.inputs[0].target

    def test_a_url_is_rendered_and_opens_the_network(self, make_workspace: MakeWorkspace) -> None:
        found = self.limits_and_target(make_workspace, "https://example.org/{{ ds }}/{{ n }}.csv")
        assert found == (True, "https://example.org/2026-11-20/1.csv")

    def test_the_spec_has_the_last_word_on_the_network(self, make_workspace: MakeWorkspace) -> None:
        assert self.limits_and_target(make_workspace, "s3://b/k", "{network: false}") == (False, "s3://b/k")

    @pytest.mark.parametrize("path", ["data/a.csv", "/data/raw/a.csv", "file:///data/a.csv"])
    def test_a_file_needs_no_network(self, make_workspace: MakeWorkspace, path: str) -> None:
        assert self.limits_and_target(make_workspace, path) == (False, path)

    @pytest.mark.parametrize("path", ["../a.csv", "a/../../b", '{{ ".." }}/a'])
    def test_a_path_stays_in_the_jobs_folder(self, make_workspace: MakeWorkspace, path: str) -> None:
        with pytest.raises(UsageError, match="inputs.a.path: .* is not in the job's folder"):
            self.limits_and_target(make_workspace, path)


class TestNotebookJob:
    SPEC = "version: 1\nkind: notebook\nparameters: {city: lyon, api_token: hunter2}\n"
    CELL = "city: str = 'paris'\ndays = 7\napi_token = ''\nds = '2020-01-01'\nrun_id = None\nnow = time.time()"

    def made(self, make_workspace: MakeWorkspace, **given: str) -> tuple[Task, dict[str, Any]]:
        workspace = job_with(make_workspace, self.SPEC, n__ipynb=notebook("1", parameters=self.CELL))
        return make_task(workspace, load_job(workspace, "x"), "2026-11-20", given)

    def test_the_cell_gets_what_it_declares(self, make_workspace: MakeWorkspace) -> None:
        found, _ = self.made(make_workspace, days="3")
        assert found.injected == {"city": "lyon", "days": 3, "ds": "2026-11-20", "run_id": found.run_id}
        assert found.parameters == {"city": "lyon", "days": 3}

    def test_secrets_are_given_apart(self, make_workspace: MakeWorkspace, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("DSFLOW_PARAM_API_TOKEN", "hunter3")
        found, hidden = self.made(make_workspace)
        assert hidden == {"api_token": "hunter3"}
        assert found.secret_parameters == ("api_token",)
        assert "hunter" not in to_json(found)

    def test_types_are_checked_before_anything_starts(self, make_workspace: MakeWorkspace) -> None:
        with pytest.raises(UsageError, match="-p days: expected a whole number, got 'many'"):
            self.made(make_workspace, days="many")


class TestMainFile:
    def test_the_only_one_that_fits_is_found(self, make_workspace: MakeWorkspace) -> None:
        workspace = job_with(make_workspace, "version: 1\nkind: sql\n", q__sql="SELECT 1", README__md="", a__py="")
        assert task(workspace, "x").main == "q.sql"

    def test_a_notebook_wins_over_modules_beside_it(self, make_workspace: MakeWorkspace) -> None:
        spec = "version: 1\nkind: notebook\n"
        workspace = job_with(make_workspace, spec, a__ipynb=notebook("1"), names__py="")
        assert task(workspace, "x").main == "a.ipynb"

    def test_several_that_fit_are_named(self, make_workspace: MakeWorkspace) -> None:
        workspace = job_with(make_workspace, "version: 1\nkind: sql\n", a__sql="", b__sql="")
        assert refusal(workspace, "x") == "jobs/x/job_specs.yaml: main: 2 files fit (a.sql, b.sql); name one"

    def test_none_that_fits_is_told(self, make_workspace: MakeWorkspace) -> None:
        workspace = job_with(make_workspace, "version: 1\nkind: sql\n")
        assert refusal(workspace, "x") == "jobs/x/job_specs.yaml: main: no .sql file is there"

    @pytest.mark.parametrize(
        ("main", "sentence"),
        [
            ("qurey.sql", "there is no file 'qurey.sql'; did you mean 'query.sql'?"),
            ("../y/query.sql", "'../y/query.sql' is outside the job's folder"),
            ("/etc/passwd", "'/etc/passwd' is outside the job's folder"),
            ("link.sql", "'link.sql' is outside the job's folder"),
            ("README.md", "a sql is a .sql file, not 'README.md'"),
            (".", "there is no file '.'"),
        ],
    )
    def test_a_file_that_cannot_be_it_is_refused(
        self, make_workspace: MakeWorkspace, tmp_path: Path, main: str, sentence: str
    ) -> None:
        spec = f"version: 1\nkind: sql\nmain: {main}\n"
        workspace = job_with(make_workspace, spec, query__sql="SELECT 1", README__md="")
        (tmp_path / "outside.sql").write_text("SELECT 1")
        (workspace.jobs / "x" / "link.sql").symlink_to(tmp_path / "outside.sql")
        assert refusal(workspace, "x") == f"jobs/x/job_specs.yaml: main: {sentence}"


class TestLegacyJob:
    def test_7_1_15_every_mention_of_the_date_is_filled_in(self, workspace: Workspace) -> None:
        found = task(workspace, "old", None, "2017-11-09")
        assert found.ds == "2017-11-09"
        assert found.parameters == {"ds": "2017-11-09"}
        assert found.task_specs["sink_path"] == "/data/tables/meteo/ds=2017-11-09"
        assert found.output == Output(store="table", name="meteo", ds="2017-11-09")
        assert found.legacy

    def test_7_1_16_spaces_numbers_and_nested_values_stay(self, workspace: Workspace) -> None:
        found = task(workspace, "old", None, "2017-11-09")
        assert found.task_specs["source_path"] == "/data/raw/my table/ds=2017-11-09"
        assert found.task_specs["title"] == "two  spaces 2017-11-09 "
        assert found.task_specs["limit"] == 3
        assert found.task_specs["nested"] == {"list": ["2017-11-09", 1]}
        assert found.inputs == (Input(name="source", kind="raw", target="my table", partitions=("2017-11-09",)),)

    def test_a_date_by_name_is_the_parameter(self, workspace: Workspace) -> None:
        assert task(workspace, "old", "2017-11-09").task_specs["ds"] == "2017-11-09"

    def test_7_1_14_wrong_numbers_of_parameters(self, workspace: Workspace) -> None:
        wrong = "wrong parameters. Acceptable parameters are: ['ds']"
        assert refusal(workspace, "old") == wrong
        assert refusal(workspace, "old", None, "2017-11-09", "paris") == wrong

    def test_7_1_14_a_job_without_parameters_takes_none(self, make_workspace: MakeWorkspace) -> None:
        spec = "version: '0.1'\nclass: PlotlyDashApplication\nscript: d.py\n"
        workspace = job_with(make_workspace, spec, d__py="")
        assert refusal(workspace, "x", None, "2017-11-09") == "this job doesn't accept parameters"
        found = task(workspace, "x")
        assert (found.kind, found.port, found.ds) == ("dashboard", 8050, TODAY)

    def test_a_date_by_another_name_is_seen_in_the_sink(self, make_workspace: MakeWorkspace) -> None:
        workspace = make_workspace(
            {
                **TREE,
                "jobs/old/job_specs.yaml": LEGACY.replace("ds }}", "day }}")
                .replace("[ds]", "[day]")
                .replace("{{ds}}", "{{ day }}"),
            }
        )
        assert task(workspace, "old", None, "2017-11-09").output == Output(store="table", name="meteo", ds="2017-11-09")

    @pytest.mark.parametrize(
        ("sink", "sentence"),
        [
            (
                "/data/tables/meteo",
                "'/data/tables/meteo' is neither /data/tables/NAME/ds=... nor /data/raw/NAME/ds=...",
            ),
            ("/data/other/x/ds={{ ds }}", "'/data/other/x/ds=2017-11-09' is neither"),
            ("/data", "'/data' is neither"),
            ("/data/tables/a/../b/ds={{ ds }}", "'/data/tables/a/../b/ds=2017-11-09' is neither"),
            ("/data/tables/meteo/ds=2017-11-24", "it is partition ds=2017-11-24, but this run is for ds=2017-11-09"),
            ("/data/tables/meteo/ds={{ dss }}", "line 1: 'dss' is undefined; did you mean 'ds'?"),
        ],
    )
    def test_a_sink_that_is_not_the_runs_partition_is_refused(
        self, make_workspace: MakeWorkspace, sink: str, sentence: str
    ) -> None:
        changed = LEGACY.replace("/data/tables/meteo/ds={{ds}}", sink)
        workspace = make_workspace({**TREE, "jobs/old/job_specs.yaml": changed})
        message = refusal(workspace, "old", None, "2017-11-09")
        assert message.startswith(f"jobs/old/job_specs.yaml: task_specs.sink_path: {sentence}")

    def test_a_sink_elsewhere_is_the_scripts_own_affair(self, make_workspace: MakeWorkspace) -> None:
        changed = LEGACY.replace("/data/tables/meteo/ds={{ds}}", "s3://bucket/{{ ds }}")
        workspace = make_workspace({**TREE, "jobs/old/job_specs.yaml": changed})
        assert task(workspace, "old", None, "2017-11-09").output is None

    def test_the_date_may_have_another_name(self, make_workspace: MakeWorkspace) -> None:
        changed = LEGACY.replace("ds }}", "day }}").replace("[ds]", "[day]").replace("{{ds}}", "{{ day }}")
        found = task(make_workspace({**TREE, "jobs/old/job_specs.yaml": changed}), "old", "2017-11-09")
        assert (found.ds, found.parameters) == ("2017-11-09", {"day": "2017-11-09"})


class TestSourcesOfOtherJobs:
    """What a job reads follows from who writes it."""

    JOBS: ClassVar = {
        "jobs/hours/job_specs.yaml": "version: 1\nkind: sql\ngrain: hour\noutput: {table: fct_hours}\n",
        "jobs/users/job_specs.yaml": "version: 1\nkind: sql\noutput: {table: dim_users, kind: dim}\n",
        "jobs/x/job_specs.yaml": """
            version: 1
            kind: sql
            inputs:
              late: {table: fct_hours, lookback: 1}
              past: {table: fct_x, window: 3}
              exact: {table: dim_users, window: 1}
            output: {table: fct_x}
        """,
        "jobs/x/q.sql": "SELECT * FROM late, past, exact, dim_users, fct_hours",
        "jobs/broken/job_specs.yaml": "version: 1\nkind: sqll\n",
    }

    @pytest.fixture
    def inputs(self, make_workspace: MakeWorkspace) -> dict[str, Input]:
        return {source.name: source for source in task(make_workspace(self.JOBS), "x", "2026-11-20").inputs}

    def test_a_finer_source_is_read_whole(self, inputs: dict[str, Input]) -> None:
        hours = inputs["fct_hours"].partitions
        assert (hours[0], hours[-1], len(hours)) == ("2026-11-20T00", "2026-11-20T23", 24)

    def test_late_data_is_read_where_it_is(self, inputs: dict[str, Input]) -> None:
        assert inputs["late"].partitions == inputs["fct_hours"].partitions
        assert (inputs["late"].later[0], inputs["late"].later[-1]) == ("2026-11-21T00", "2026-11-21T23")

    def test_of_its_own_output_only_what_lies_before(self, inputs: dict[str, Input]) -> None:
        assert inputs["past"].partitions == ("2026-11-18", "2026-11-19")

    def test_a_dimension_is_read_as_of_ds_unless_the_input_says_otherwise(self, inputs: dict[str, Input]) -> None:
        assert (inputs["dim_users"].as_of, inputs["dim_users"].partitions) == ("2026-11-20", ())
        assert (inputs["exact"].as_of, inputs["exact"].partitions) == (None, ("2026-11-20",))

    def test_the_partition_it_writes_is_refused(self, make_workspace: MakeWorkspace) -> None:
        workspace = make_workspace({**self.JOBS, "jobs/x/q.sql": "SELECT * FROM fct_x"})
        assert refusal(workspace, "x") == "jobs/x/q.sql: x reads the very partition of table 'fct_x' that it writes"

    def test_an_impossible_name_has_its_place(self, make_workspace: MakeWorkspace) -> None:
        workspace = make_workspace({**self.JOBS, "jobs/x/q.sql": 'SELECT * FROM "a\tb"'})
        assert refusal(workspace, "x") == "jobs/x/q.sql: 'a\\tb' cannot be a table name"


class TestMaker:
    def maker(self, workspace: Workspace) -> Maker:
        settings = load_workspace(workspace)
        return Maker(workspace, settings, load(workspace, settings))

    @pytest.mark.parametrize("name", ["sum", "old"])
    def test_it_makes_what_make_task_makes(self, workspace: Workspace, name: str) -> None:
        maker = self.maker(workspace)
        for ds in ("2026-11-19", "2026-11-20"):
            made = maker.task(name, ds, {})[0]
            alone = task(workspace, name, ds)
            assert made == dataclasses.replace(alone, run_id=made.run_id, created=made.created)

    def test_the_files_of_a_job_are_read_once(self, workspace: Workspace) -> None:
        maker = self.maker(workspace)
        first = maker.task("sum", "2026-11-19", {})[0]
        for file in (workspace.jobs / "sum").iterdir():
            file.unlink()
        second = maker.task("sum", "2026-11-20", {"city": "lyon"})[0]
        assert second.code is not None
        assert "city = 'lyon'" in second.code
        assert second.inputs[0].partitions[-1] == "2026-11-20"
        assert second.run_id != first.run_id

    @pytest.mark.parametrize(
        "query",
        [
            "SELECT * FROM fct_{{ ds_nodash }}",
            "SELECT * FROM {{ params.city }}{# lyon #}",
            "SELECT * FROM {% if ds < '2026-11-20' %}fct_20261119{% else %}fct_20261120{% endif %}",
        ],
    )
    def test_a_query_may_read_something_else_on_another_date(self, make_workspace: MakeWorkspace, query: str) -> None:
        tree = {**TREE, "jobs/sum/query.sql": query, "jobs/sum/job_specs.yaml": "version: 1\nkind: sql\n"}
        tree["jobs/sum/job_specs.yaml"] += "parameters: {city: paris}\n"
        maker = self.maker(make_workspace(tree))
        city = "city" in query
        first = maker.task("sum", "2026-11-19", {"city": "fct_20261119"} if city else {})[0]
        second = maker.task("sum", "2026-11-20", {"city": "fct_20261120"} if city else {})[0]
        assert [each.inputs[0].target for each in (first, second)] == ["fct_20261119", "fct_20261120"]
