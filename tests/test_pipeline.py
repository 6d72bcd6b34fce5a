"""Jobs are tied by what they read and write; nobody keeps a second list."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsflow.pipeline import Pipeline, load
from dsflow.reads import Read
from dsflow.specs.load import SpecError, load_workspace
from dsflow.workspace import Workspace
from tests.conftest import MakeWorkspace, build_tree, notebook


def sql(output: str = "", query: str = "SELECT 1 AS x", **keys: str) -> dict[str, str]:
    """Give the files of a SQL job that writes a table."""
    lines = ["version: 1", "kind: sql", *(f"{key}: {value}" for key, value in keys.items())]
    lines += [f"output: {{table: {output}}}"] if output else []
    return {"job_specs.yaml": "\n".join(lines), "query.sql": query}


def tree(jobs: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    return {f"jobs/{name}/{file}": text for name, files in jobs.items() for file, text in files.items()}


def loaded(workspace: Workspace) -> Pipeline:
    return load(workspace, load_workspace(workspace))


def reads_of(pipeline: Pipeline, job: str) -> dict[str, Read]:
    return {read.name: read for read in pipeline.nodes[job].reads}


def mistakes(workspace: Workspace) -> tuple[str, ...]:
    with pytest.raises(SpecError) as caught:
        loaded(workspace)
    return caught.value.mistakes


class TestOrder:
    def test_jobs_follow_those_they_read(self, make_workspace: MakeWorkspace) -> None:
        jobs = {
            "z-download": {
                "job_specs.yaml": "version: 1\nkind: script\noutput: {raw: clicks}",
                "a.sh": "",
            },
            "b": sql("fct_b", "SELECT * FROM raw.clicks"),
            "a": sql("fct_a", "SELECT * FROM fct_b JOIN fct_c USING (x)"),
            "c": sql("fct_c", "SELECT * FROM fct_b"),
            "alone": sql("fct_alone"),
        }
        pipeline = loaded(make_workspace(tree(jobs)))
        assert list(pipeline.nodes) == ["alone", "z-download", "b", "c", "a"]
        assert pipeline.parents("a") == ("b", "c")
        assert pipeline.children("b") == ("c", "a")
        assert pipeline.producer("raw", "clicks") == "z-download"
        assert pipeline.producer("table", "clicks") is None
        assert pipeline.nodes["b"].writes == ("table", "fct_b")
        assert pipeline.nodes["alone"].main == "query.sql"

    @settings(deadline=None, max_examples=30)
    @given(st.sets(st.tuples(st.integers(0, 7), st.integers(0, 7)).filter(lambda pair: pair[0] < pair[1])))
    def test_any_graph_is_ordered_parents_first(self, edges: set[tuple[int, int]]) -> None:
        import tempfile

        # The higher the number, the earlier the name: names alone would give the wrong order.
        name = {number: f"j{9 - number}" for number in range(8)}
        jobs = {
            name[number]: sql(
                f"t{number}",
                "SELECT * FROM x" + "".join(f", t{source}" for source, target in edges if target == number),
            )
            for number in range(8)
        }
        with tempfile.TemporaryDirectory() as folder:
            build_tree(Path(folder), {"dsflow.yml": "version: 1", **tree(jobs)})
            pipeline = loaded(Workspace(Path(folder)))
        place = {job: index for index, job in enumerate(pipeline.nodes)}
        assert len(place) == 8
        assert all(place[name[source]] < place[name[target]] for source, target in edges)
        assert {(parent, job) for job in place for parent in pipeline.parents(job)} == {
            (name[source], name[target]) for source, target in edges
        }


class TestSources:
    def test_declared_inputs(self, make_workspace: MakeWorkspace) -> None:
        inputs = "{a: {table: t, window: 7}, b: {raw: r, lookback: 2}, c: {table: d, as_of: ds}, d: {path: x.csv}}"
        found = reads_of(loaded(make_workspace(tree({"j": sql("out", inputs=inputs)}))), "j")
        where = "jobs/j/job_specs.yaml: inputs."
        assert found == {
            "a": Read(name="a", store="table", dataset="t", window=7, where=f"{where}a"),
            "b": Read(name="b", store="raw", dataset="r", lookback=2, where=f"{where}b"),
            "c": Read(name="c", store="table", dataset="d", as_of=True, where=f"{where}c"),
            "d": Read(name="d", store="path", dataset="x.csv", where=f"{where}d"),
        }

    def test_tables_in_sql_that_are_not_declared(self, make_workspace: MakeWorkspace) -> None:
        query = """
            {# dsflow reads no_comment #}
            WITH recent AS (SELECT * FROM fct_a WHERE day > '{{ macros.ds_add(ds, -params.days) }}')
            SELECT * FROM recent JOIN Given USING (x) JOIN raw.clicks USING (x)
            {% for city in params.cities %} JOIN fct_{{ city }} USING (x) {% endfor %} LIMIT {{ days }}
        """
        job = sql("out", query, parameters="{days: 7, cities: [paris, lyon]}", inputs="{given: {table: t}}")
        found = reads_of(loaded(make_workspace(tree({"j": job}))), "j")
        assert {(read.name, read.store, read.dataset) for read in found.values()} == {
            ("given", "table", "t"),
            ("fct_a", "table", "fct_a"),
            ("raw.clicks", "raw", "clicks"),
            ("fct_paris", "table", "fct_paris"),
            ("fct_lyon", "table", "fct_lyon"),
        }
        assert found["fct_a"].where == "jobs/j/query.sql"

    def test_what_a_notebook_names_in_plain_text(self, make_workspace: MakeWorkspace) -> None:
        cells = [
            "from dsflow import job as flow\nfrom dsflow import table\nimport duckdb",
            "%matplotlib inline\na = flow.table('fct_a', window=7)\nb = table('dim_b', '2026-11-20')",
            "c = flow.table('fct_c', as_of=flow.ds)\nd = flow.table('fct_d', as_of=None)\ne = flow.table(name)",
            "flow.sql('SELECT * FROM fct_e JOIN frame USING (x)')\nduckdb.sql('SELECT * FROM fct_no')",
            "def sql(x): ...\nsql('SELECT * FROM fct_no')\nframe.table('fct_no')\nf'{x}'.table('fct_no')",
            "this is no python: flow.table('fct_no')",
        ]
        jobs = {
            "n": {"job_specs.yaml": "version: 1\nkind: notebook", "n.ipynb": notebook(*cells)},
            "e": sql("fct_e"),
            "no": sql("fct_no"),
        }
        found = reads_of(loaded(make_workspace(tree(jobs))), "n")
        assert {read.dataset: (read.window, read.as_of) for read in found.values()} == {
            "fct_a": (7, False),
            "dim_b": (1, True),
            "fct_c": (1, True),
            "fct_d": (1, False),
            "fct_e": (1, False),  # a job writes it; `frame` may be a variable
        }
        assert all(read.in_code for read in found.values())
        assert found["fct_a"].where == "jobs/n/n.ipynb: cell 2, line 2"

    @pytest.mark.parametrize(
        "code",
        [
            "import dsflow\ndsflow.table('fct_a')",
            "import dsflow.job\ndsflow.job.table('fct_a')",
            "import dsflow.job as j\nj.table('fct_a')",
            "from dsflow import *\ntable('fct_a')",
            "from dsflow.job import table as t\nt('fct_a')",
            "def f():\n    from dsflow import job\n    return [job.sql('SELECT x FROM fct_a') for _ in y]",
        ],
    )
    def test_python_may_import_as_it_likes(self, make_workspace: MakeWorkspace, code: str) -> None:
        jobs = {"s": {"job_specs.yaml": "version: 1\nkind: script", "s.py": code}, "a": sql("fct_a")}
        assert loaded(make_workspace(tree(jobs))).parents("s") == ("a",)

    def test_a_declared_name_wins_over_the_code(self, make_workspace: MakeWorkspace) -> None:
        spec = "version: 1\nkind: script\ninputs: {days: {table: fct_a, window: 3}}"
        code = "from dsflow import job\njob.sql('SELECT * FROM days')"
        jobs = {"s": {"job_specs.yaml": spec, "s.py": code}, "a": sql("days")}
        assert [read.dataset for read in loaded(make_workspace(tree(jobs))).nodes["s"].reads] == ["fct_a"]

    def test_7_1_jobs_of_version_0_1_say_it_by_their_paths(self, make_workspace: MakeWorkspace) -> None:
        spec = """
            version: '0.1'
            class: CommandLineTool
            script: a.sh
            job_parameters: [day]
            task_specs:
              source_path: /data/raw/my clicks/ds={{ day }}
              fixed_path: /data/tables/dim_a/ds=2017-01-01
              other: https://example.org
              sink_path: /data/tables/fct_old/ds={{ day }}
        """
        found = loaded(make_workspace({"jobs/old/job_specs.yaml": spec, "jobs/old/a.sh": ""}))
        assert found.nodes["old"].writes == ("table", "fct_old")
        assert {read.dataset: read.in_code for read in found.nodes["old"].reads} == {"my clicks": False, "dim_a": True}

    def test_a_path_of_version_0_1_outside_the_datastore(self, make_workspace: MakeWorkspace) -> None:
        spec = "version: '0.1'\nclass: CommandLineTool\nscript: a.sh\ntask_specs: {source_path: 'https://a/{{ ds }}'}"
        found = loaded(make_workspace({"jobs/old/job_specs.yaml": spec, "jobs/old/a.sh": ""}))
        assert [(read.store, read.dataset) for read in found.nodes["old"].reads] == [("path", "https://a/{{ ds }}")]


class TestGrainsAndDimensions:
    def test_the_grain_of_a_source_is_that_of_its_writer(self, make_workspace: MakeWorkspace) -> None:
        jobs = {"hours": sql("fct_hours", grain="hour"), "day": sql("fct_day", "SELECT * FROM fct_hours")}
        assert reads_of(loaded(make_workspace(tree(jobs))), "day")["fct_hours"].grain == "hour"

    def test_else_what_its_folders_look_like_else_the_jobs_own(self, make_workspace: MakeWorkspace) -> None:
        files = tree({"j": sql("out", "SELECT * FROM raw.weeks, unknown", grain="month")})
        files["datastore/raw/weeks/ds=2026-W47/a.csv"] = "a"
        found = reads_of(loaded(make_workspace(files)), "j")
        assert (found["raw.weeks"].grain, found["unknown"].grain) == ("week", "month")

    def test_a_dimension_is_read_as_of_ds_unless_the_input_says_otherwise(self, make_workspace: MakeWorkspace) -> None:
        inputs = "{all: {table: dim_a, window: 2}, plain: {table: dim_a}}"
        dimension = {"job_specs.yaml": "version: 1\nkind: sql\noutput: {table: dim_a, kind: dim}", "q.sql": "SELECT 1"}
        jobs = {"a": dimension, "j": sql("out", "SELECT * FROM dim_a, plain, all_", inputs=inputs)}
        pipeline = loaded(make_workspace(tree(jobs)))
        assert {name: read.as_of for name, read in reads_of(pipeline, "j").items() if name != "all_"} == {
            "all": False,
            "plain": True,
            "dim_a": True,
        }
        assert pipeline.nodes["a"].kind == "dim"

    @pytest.mark.parametrize("way", ["window: 3", "as_of: ds"])
    def test_a_job_may_read_its_own_past(self, make_workspace: MakeWorkspace, way: str) -> None:
        pipeline = loaded(make_workspace(tree({"j": sql("out", inputs=f"{{past: {{table: out, {way}}}}}")})))
        assert reads_of(pipeline, "j")["past"].own
        assert pipeline.parents("j") == ()

    @pytest.mark.parametrize("way", ["", ", window: 1", ", lookback: 2", ", window: 3, lookback: 1"])
    def test_but_not_what_it_is_about_to_write(self, make_workspace: MakeWorkspace, way: str) -> None:
        pipeline = loaded(make_workspace(tree({"j": sql("out", inputs=f"{{past: {{table: out{way}}}}}")})))
        assert pipeline.broken["j"].message == (
            "jobs/j/job_specs.yaml: inputs.past: j reads the very partition of table 'out' that it writes"
        )
        assert "`window: 2`" in pipeline.broken["j"].hint


class TestMistakes:
    def test_a_circle_names_all_its_files(self, make_workspace: MakeWorkspace) -> None:
        jobs = {
            "a": sql("ta", "SELECT * FROM tc"),
            "b": sql("tb", inputs="{x: {table: ta}}"),
            "c": sql("tc", "SELECT * FROM tb"),
            "behind": sql("td", "SELECT * FROM tc"),
            "fine": sql("te"),
        }
        (sentence,) = mistakes(make_workspace(tree(jobs)))
        assert sentence == (
            "jobs a, b, c wait for each other: "
            "jobs/a/query.sql reads table 'tc' of jobs/c/job_specs.yaml: output; "
            "jobs/c/query.sql reads table 'tb' of jobs/b/job_specs.yaml: output; "
            "jobs/b/job_specs.yaml: inputs.x reads table 'ta' of jobs/a/job_specs.yaml: output"
        )

    def test_all_circles_and_all_tables_with_two_writers_come_at_once(self, make_workspace: MakeWorkspace) -> None:
        jobs = {
            "a": sql("ta", "SELECT * FROM tb"),
            "b": sql("tb", "SELECT * FROM ta"),
            "c": sql("tc", "SELECT * FROM td"),
            "d": sql("td", "SELECT * FROM tc"),
            "e": sql("te"),
            "f": sql("te"),
        }
        found = mistakes(make_workspace(tree(jobs)))
        assert len(found) == 3
        assert (
            found[0] == "table 'te' is written by 2 jobs: jobs/e/job_specs.yaml: output, jobs/f/job_specs.yaml: output"
        )
        assert [sentence.partition(" wait")[0] for sentence in found[1:]] == ["jobs a, b", "jobs c, d"]

    def test_a_table_and_a_raw_dataset_may_share_a_name(self, make_workspace: MakeWorkspace) -> None:
        script = {"job_specs.yaml": "version: 1\nkind: script\noutput: {raw: x}", "a.sh": ""}
        pipeline = loaded(make_workspace(tree({"a": script, "b": sql("x", "SELECT * FROM raw.x")})))
        assert pipeline.parents("b") == ("a",)

    def test_a_job_with_mistakes_is_left_out_and_stops_nobody(self, make_workspace: MakeWorkspace) -> None:
        jobs = {
            "bad-spec": sql("ta", knd="sql"),
            "bad-query": sql("tb", "SELEC 1"),
            "no-main": {"job_specs.yaml": "version: 1\nkind: sql"},
            "bad-name": sql("tc", 'SELECT * FROM "a\tb"'),
            "good": sql("td", "SELECT * FROM tb"),
        }
        pipeline = loaded(make_workspace(tree(jobs)))
        assert list(pipeline.nodes) == ["good"]
        assert {name: error.message for name, error in pipeline.broken.items()} == {
            "bad-spec": "jobs/bad-spec/job_specs.yaml: knd: unknown key; did you mean 'kind'?",
            "bad-query": "jobs/bad-query/query.sql: line 1, column 7: not valid SQL near '1'",
            "no-main": "jobs/no-main/job_specs.yaml: main: no .sql file is there",
            "bad-name": "jobs/bad-name/query.sql: 'a\\tb' cannot be a table name",
        }
        with pytest.raises(SpecError, match="no-main"):
            pipeline.check_readable()


class TestCheckSources:
    FILES = tree(
        {
            "a": sql("fct_rain", "SELECT * FROM raw.meteo"),
            "b": sql("out", "SELECT * FROM fct_rian, raw.metoe", inputs="{x: {table: nowhere}, y: {path: z.csv}}"),
            "n": {
                "job_specs.yaml": "version: 1\nkind: script",
                "n.py": "from dsflow import job\nif 'maybe' in job.tables(): job.table('maybe')",
            },
        }
    ) | {"datastore/raw/meteo/ds=2026-11-20/a.json": "{}"}

    def test_a_source_that_nobody_writes_and_that_is_not_there(self, make_workspace: MakeWorkspace) -> None:
        pipeline = loaded(make_workspace(self.FILES))
        with pytest.raises(SpecError) as caught:
            pipeline.check_sources(["a", "b"])
        tail = "and it is not in the datastore"
        assert caught.value.mistakes == (
            f"jobs/b/job_specs.yaml: inputs.x: no job writes the table 'nowhere', {tail}",
            f"jobs/b/query.sql: no job writes the table 'fct_rian', {tail}; did you mean 'fct_rain'?",
            f"jobs/b/query.sql: no job writes the raw dataset 'metoe', {tail}; did you mean 'meteo'?",
        )

    def test_what_is_there_or_will_be_written_is_fine_and_code_may_do_without(
        self, make_workspace: MakeWorkspace
    ) -> None:
        loaded(make_workspace(self.FILES)).check_sources(["a", "n"])
