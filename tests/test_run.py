"""`dsflow run` from end to end in the process runtime: what a user of each kind of job gets."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tests.conftest import MakeWorkspace, Screen, notebook

Dsflow = Callable[..., Screen]
DS = "2013-01-01"
RAW = "datastore/raw/meteo/ds=2013-01-01/a.csv"
CSV = "hour,rain\n0,1.5\n1,0\n"


@pytest.fixture(autouse=True)
def _in_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DSFLOW_RUNTIME", "process")


def rows(root: Path, table: str, ds: str = DS) -> list[tuple[object, ...]]:
    files = sorted(map(str, (root / "datastore" / "tables" / table / f"ds={ds}").glob("*.parquet")))
    return sorted(
        duckdb.connect().sql(f"SELECT * FROM read_parquet({files}, hive_partitioning=false)").fetchall(), key=repr
    )


def outcome_of(root: Path, job: str) -> Any:
    path = max((root / "datastore" / "job_runs" / job).glob("ds=*/*/outcome.json"))
    return json.loads(path.read_text())


TABLE_JOB = """
    version: 1
    kind: notebook
    parameters: {factor: 1}
    inputs:
      raw: {raw: meteo}
    output: {table: fct_meteo}
    """


def test_a_notebook_reads_computes_and_publishes(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    cells = (
        "from dsflow import job\nrows = job.read('raw')\nprint('factor', factor, 'ds', job.ds)",
        "job.write(rows.project('hour, rain * ' + str(factor) + ' AS rain'))",
    )
    ws = make_workspace(
        {RAW: CSV, "jobs/t/job_specs.yaml": TABLE_JOB, "jobs/t/t.ipynb": notebook(*cells, parameters="factor = 1")}
    )
    screen = dsflow("run", "t", DS, "-p", "factor=2")
    assert screen.exit_code == 0, screen
    assert "factor 2 ds 2013-01-01" in screen.out
    assert "Job output data saved to datastore/tables/fct_meteo/ds=2013-01-01" in screen.out
    assert rows(ws.root, "fct_meteo") == [(0, 3.0), (1, 0.0)]
    outcome = outcome_of(ws.root, "t")
    assert [(i["target"], i["ds"]) for i in outcome["inputs"]] == [("meteo", DS)]
    folder = max((ws.root / "datastore/job_runs/t/ds=2013-01-01").iterdir())
    assert {p.name for p in folder.iterdir()} == {
        "task.json", "outcome.json", "log.txt", "index.html", "notebook.ipynb"
    }  # fmt: skip


@pytest.mark.parametrize("made", ["df()", "pl()", "to_arrow_table()"])
def test_a_notebook_writes_any_kind_of_table(make_workspace: MakeWorkspace, dsflow: Dsflow, made: str) -> None:
    cell = f"from dsflow import job\njob.write(job.read('raw').{made})"
    ws = make_workspace({RAW: CSV, "jobs/t/job_specs.yaml": TABLE_JOB, "jobs/t/t.ipynb": notebook(cell)})
    assert dsflow("run", "t", DS).exit_code == 0
    assert rows(ws.root, "fct_meteo") == [(0, 1.5), (1, 0.0)]


def test_a_failing_cell_says_where_and_publishes_nothing(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    cells = ("x = 1", "from dsflow import job\njob.write(job.read('raw'))\nx / 0")
    ws = make_workspace({RAW: CSV, "jobs/t/job_specs.yaml": TABLE_JOB, "jobs/t/t.ipynb": notebook(*cells)})
    screen = dsflow("run", "t", DS)
    assert screen.exit_code == 1
    assert "ZeroDivisionError: division by zero" in screen.out
    assert "cell 2, line 3: x / 0" in screen.out
    assert "Traceback" not in screen.out + screen.err
    failure = screen.out[screen.out.index("✗") :].splitlines()
    assert len(failure) <= 8
    assert not (ws.root / "datastore/tables").exists()
    page = next((ws.root / "datastore/job_runs/t/ds=2013-01-01").glob("*/index.html")).read_text()
    assert "ZeroDivisionError" in page


def test_a_query_reads_its_tables_for_the_run_ds(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    ws = make_workspace(
        {
            RAW: CSV,
            "datastore/raw/meteo/ds=2013-01-02/a.csv": CSV.replace("1.5", "7.5"),
            "jobs/t/job_specs.yaml": "version: 1\nkind: sql\noutput: {table: wet}\nparameters: {least: 1}\n",
            "jobs/t/q.sql": "SELECT hour, rain, '{{ ds_nodash }}' AS day\nFROM raw.meteo WHERE rain >= {{ least }}",
        }
    )
    assert dsflow("run", "t", DS).exit_code == 0
    assert dsflow("run", "t", "2013-01-02").exit_code == 0
    assert rows(ws.root, "wet") == [(0, 1.5, "20130101")]
    assert rows(ws.root, "wet", "2013-01-02") == [(0, 7.5, "20130102")]
    page = next((ws.root / "datastore/job_runs/t/ds=2013-01-01").glob("*/index.html")).read_text()
    assert "rain &gt;= 1" in page or "rain" in page
    assert "1.5" in page
    assert "7.5" not in page


def test_a_wrong_query_names_file_and_line(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    make_workspace(
        {
            RAW: CSV,
            "jobs/t/job_specs.yaml": "version: 1\nkind: sql\noutput: {table: wet}\n",
            "jobs/t/q.sql": "SELECT hour,\n  rane\nFROM raw.meteo",
        }
    )
    screen = dsflow("run", "t", DS)
    assert screen.exit_code == 1
    assert "q.sql, line 2: rane" in screen.out


def test_a_script_gets_source_and_sink_as_arguments(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    ws = make_workspace(
        {
            RAW: CSV,
            "jobs/t/job_specs.yaml": "version: 1\nkind: script\ninputs: {m: {raw: meteo}}\noutput: {raw: copy}\n",
            "jobs/t/copy.sh": '#!/bin/sh\ncp "$1"/a.csv "$2"/b.csv\necho "for $DSFLOW_DS"\n',
        }
    )
    screen = dsflow("run", "t", DS)
    assert screen.exit_code == 0, screen
    assert "for 2013-01-01" in screen.out
    assert (ws.root / "datastore/raw/copy/ds=2013-01-01/b.csv").read_text() == CSV


def test_a_python_script_that_fails_names_its_line(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    make_workspace(
        {
            "jobs/t/job_specs.yaml": "version: 1\nkind: script\noutput: {raw: x}\n",
            "jobs/t/main.py": "import sys\nvalues = {}\nprint(values['rain'])\n",
        }
    )
    screen = dsflow("run", "t", DS)
    assert screen.exit_code == 1
    assert "main.py, line 3: print(values['rain'])" in screen.out
    assert "KeyError: 'rain'" in screen.out


def test_the_reason_of_a_failure_is_on_the_screen_once_and_in_the_log(
    make_workspace: MakeWorkspace, dsflow: Dsflow
) -> None:
    make_workspace(
        {
            "jobs/t/job_specs.yaml": "version: 1\nkind: sql\noutput: {table: x}\n",
            "jobs/t/query.sql": "SELECT CAST('rain' AS INTEGER) AS x",
        }
    )
    screen = dsflow("run", "t", DS)
    assert (screen.out + screen.err).count("Conversion Error") == 1
    assert f"t ds={DS} failed: computing the rows to write: Conversion Error" in dsflow("logs").out


def test_the_message_of_a_python_script_is_its_first_line(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    make_workspace(
        {
            "jobs/t/job_specs.yaml": "version: 1\nkind: script\noutput: {raw: x}\n",
            "jobs/t/main.py": "from dsflow import job\njob.sql('SELECT * FROM nowhere')\n",
            "jobs/u/job_specs.yaml": "version: 1\nkind: script\noutput: {raw: x}\n",
            "jobs/u/main.py": "raise ValueError('too cold\\n\\nLINE 1: x\\n        ^')\n",
        }
    )
    assert "  dsflow.errors.JobFailed: " in dsflow("run", "t", DS).out
    assert "  ValueError: too cold\n" in dsflow("run", "u", DS).out


def test_all_mistakes_of_a_spec_stand_below_each_other(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    make_workspace({"jobs/t/job_specs.yaml": "version: 1\nkind: sqll\ngrain: dai\n"})
    lines = dsflow("run", "t", DS).err.splitlines()
    assert [line[:7] for line in lines] == ["error: ", "       "]
    assert all("jobs/t/job_specs.yaml: " in line for line in lines)


def test_7_1_19_a_shell_job_that_fails_is_a_failure(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    ws = make_workspace(
        {
            "jobs/t/job_specs.yaml": "version: 1\nkind: script\noutput: {raw: x}\n",
            "jobs/t/main.sh": 'echo half > "$1/half"\nls /no/such/place\nexit 7\n',
        }
    )
    screen = dsflow("run", "t", DS)
    assert screen.exit_code == 1
    assert "main.sh ended with exit code 7" in screen.out
    assert not (ws.root / "datastore/raw").exists()


def test_7_1_17_a_second_ds_does_not_overwrite_the_first_page(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    ws = make_workspace({"jobs/t/job_specs.yaml": "version: 1\nkind: notebook\n", "jobs/t/t.ipynb": notebook("1 + 1")})
    assert dsflow("run", "t", "2013-01-01").exit_code == dsflow("run", "t", "2013-01-02").exit_code == 0
    pages = sorted(p.parent.parent.name for p in (ws.root / "datastore/job_runs/t").glob("*/*/index.html"))
    assert pages == ["ds=2013-01-01", "ds=2013-01-02"]


def test_7_1_18_a_notebook_that_raises_is_saved_and_fails(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    ws = make_workspace(
        {"jobs/t/job_specs.yaml": "version: 1\nkind: notebook\n", "jobs/t/t.ipynb": notebook("raise ValueError('no')")}
    )
    assert dsflow("run", "t", DS).exit_code == 1
    folder = next((ws.root / "datastore/job_runs/t/ds=2013-01-01").iterdir())
    assert "ValueError" in (folder / "index.html").read_text()
    assert "ValueError" in (folder / "notebook.ipynb").read_text()


LEGACY = """
    version: '0.1'
    description: Create table meteo
    class: {class_}
    image: dsflow/pyspark:2.2
    script: {script}
    job_parameters:
      - ds
    task_specs:
      source_path: "/data/raw/my meteo/ds={{{{ ds }}}}"
      sink_path: "/data/tables/meteo/ds={{{{ds}}}}"
      ds: "{{{{ ds }}}}"
      limit: 5
    """


def test_7_1_15_and_16_a_job_of_the_predecessor_runs_unchanged(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    cell = """
        import json, os, duckdb
        specs = json.loads(os.environ["TASK_SPECS"])
        assert specs["ds"] == "2013-01-01" and specs["limit"] == 5, specs
        assert specs["source_path"].endswith("raw/my meteo/ds=2013-01-01"), specs
        os.makedirs(specs["sink_path"], exist_ok=True)
        rows = duckdb.sql(f"FROM read_csv('{specs['source_path']}/*.csv', hive_partitioning=false)")
        rows.write_parquet(specs["sink_path"] + "/x.parquet")
        """
    ws = make_workspace(
        {
            "datastore/raw/my meteo/ds=2013-01-01/a.csv": CSV,
            "jobs/t/job_specs.yaml": LEGACY.format(class_="JupyterNotebook", script="t.ipynb"),
            "jobs/t/t.ipynb": notebook(cell),
        }
    )
    screen = dsflow("run", "t", DS)
    assert screen.exit_code == 0, screen
    assert "source_path=/data/raw/my meteo/ds=2013-01-01" in screen.err
    assert rows(ws.root, "meteo") == [(0, 1.5), (1, 0.0)]


def test_7_1_23_the_output_is_named_by_its_host_path(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    script = 'python3 -c "import sys" && cp "$1"/a.csv "$2"/'
    spec = LEGACY.format(class_="CommandLineTool", script="t.sh").replace("/data/tables/", "/data/raw/")
    make_workspace(
        {"datastore/raw/my meteo/ds=2013-01-01/a.csv": CSV, "jobs/t/job_specs.yaml": spec, "jobs/t/t.sh": script}
    )
    screen = dsflow("run", "t", DS)
    assert screen.exit_code == 0, screen
    assert "Job output data saved to datastore/raw/meteo/ds=2013-01-01" in screen.out


EXPECT = """
    version: 1
    kind: sql
    output: {{table: t}}
    expectations:
      - {{name: positive, constraint: "x > 0"}}
    expectation_action: {action}
    """
QUERY = "SELECT unnest([1, -1, NULL]) AS x"


@pytest.mark.parametrize(("action", "code", "kept"), [("allow", 0, 3), ("drop", 0, 1), ("fail", 3, None)])
def test_expectations_allow_drop_or_fail(
    make_workspace: MakeWorkspace, dsflow: Dsflow, action: str, code: int, kept: int | None
) -> None:
    ws = make_workspace({"jobs/t/job_specs.yaml": EXPECT.format(action=action), "jobs/t/q.sql": QUERY})
    screen = dsflow("run", "t", DS)
    assert screen.exit_code == code
    if kept is None:
        assert "expectation 'positive' (x > 0) failed for 2 of 3 rows" in screen.out
        assert not (ws.root / "datastore/tables").exists()
    else:
        assert len(rows(ws.root, "t")) == kept
        assert f"warning: 2 of 3 rows broke 'positive' ({action})" in screen.out


def test_a_job_that_writes_nothing_is_told_how(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    make_workspace({RAW: CSV, "jobs/t/job_specs.yaml": TABLE_JOB, "jobs/t/t.ipynb": notebook("1 + 1")})
    screen = dsflow("run", "t", DS)
    assert screen.exit_code == 1
    assert "the job wrote nothing for table fct_meteo" in screen.out
    assert "job.write(...)" in screen.out


def test_a_missing_input_says_what_there_is(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    make_workspace({RAW: CSV, "jobs/t/job_specs.yaml": TABLE_JOB, "jobs/t/t.ipynb": notebook("1 + 1")})
    screen = dsflow("run", "t", "2013-02-01")
    assert screen.exit_code == 1
    assert "meteo" in screen.out
    assert "2013-01-01" in screen.out


def test_secrets_are_nowhere(make_workspace: MakeWorkspace, dsflow: Dsflow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_API_TOKEN", 'tok"en<7>&é')
    cells = (
        "import os, json\nprint(os.environ['MY_API_TOKEN'], db_password)\nos.environ['MY_API_TOKEN']",
        "from dsflow import job\nprint(json.dumps(job.params), repr(os.environ['MY_API_TOKEN']))",
        "raise ValueError(db_password + os.environ['MY_API_TOKEN'])",
    )
    ws = make_workspace(
        {
            "jobs/t/job_specs.yaml": "version: 1\nkind: notebook\nparameters: {db_password: none-yet}\n",
            "jobs/t/t.ipynb": notebook(*cells, parameters="db_password = 'none-yet'"),
        }
    )
    screen = dsflow("run", "t", DS, "-p", "db_password=hunter2000")
    assert screen.exit_code == 1
    everything = screen.out + screen.err
    for path in (ws.root / "datastore").rglob("*"):
        if path.is_file():
            everything += path.read_bytes().decode("utf-8", "replace")
    assert "***" in everything
    assert "hunter2000" not in everything
    assert "tok" not in everything.replace("token", "").replace("TOKEN", "").replace("tokenize", "")


def test_json_is_one_document_on_stdout(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    make_workspace(
        {"jobs/t/job_specs.yaml": "version: 1\nkind: sql\noutput: {table: t}\n", "jobs/t/q.sql": "SELECT 1 AS x"}
    )
    screen = dsflow("run", "t", DS, "--json")
    assert screen.exit_code == 0
    assert screen.document["runs"][0]["outcome"]["outputs"][0]["manifest"]["files"][0]["rows"] == 1
    assert "Done. OK=1" in screen.err


def test_a_timeout_ends_the_run_and_saves_the_notebook(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    ws = make_workspace(
        {
            "jobs/t/job_specs.yaml": "version: 1\nkind: notebook\nrun: {timeout: 2s}\n",
            "jobs/t/t.ipynb": notebook("print('first words')", "import time\ntime.sleep(60)"),
        }
    )
    screen = dsflow("run", "t", DS)
    assert screen.exit_code == 124
    assert "timeout: the run took longer than 2 s" in screen.out
    folder = next((ws.root / "datastore/job_runs/t/ds=2013-01-01").iterdir())
    assert "first words" in (folder / "notebook.ipynb").read_text()


def test_retries_are_runs_of_their_own(
    make_workspace: MakeWorkspace, dsflow: Dsflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dsflow.runner._FIRST_PAUSE_SECONDS", 0.01)
    script = 'n=$(cat "$DSFLOW_DATA/count" 2>/dev/null || echo 0); echo $((n+1)) > "$DSFLOW_DATA/count"; [ "$n" -ge 2 ]'
    ws = make_workspace(
        {"jobs/t/job_specs.yaml": "version: 1\nkind: script\nrun: {retries: 2}\n", "jobs/t/t.sh": script}
    )
    assert dsflow("run", "t", DS).exit_code == 0
    assert len(list((ws.root / "datastore/job_runs/t/ds=2013-01-01").iterdir())) == 3


def test_7_1_13_run_alone_says_how_to_list_jobs(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    make_workspace({})
    screen = dsflow("run")
    assert screen.exit_code == 2
    assert "Usage: dsflow run JOB" in screen.err
    assert "ls jobs" in screen.err
    screen = dsflow("run", "nope")
    assert screen.exit_code == 2
    assert "Job does not exist, or job_specs.yaml is missing" in screen.err


def test_the_history_has_the_run(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    make_workspace(
        {"jobs/t/job_specs.yaml": "version: 1\nkind: sql\noutput: {table: t}\n", "jobs/t/q.sql": "SELECT 1 AS x"}
    )
    dsflow("run", "t", DS)
    listed = dsflow("runs", "--json").document
    assert "succeeded" in json.dumps(listed)


def test_7_1_27_a_notebook_job_needs_nothing_started_beforehand(
    make_workspace: MakeWorkspace, dsflow: Dsflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DSFLOW_RUNTIME", "auto")
    monkeypatch.setenv("DOCKER_HOST", "unix:///no/such/engine.sock")
    cell = "from dsflow import job, load_tables\nload_tables()\njob.write(job.sql('SELECT 1 AS x'))"
    ws = make_workspace({RAW: CSV, "jobs/t/job_specs.yaml": TABLE_JOB, "jobs/t/t.ipynb": notebook(cell)})
    screen = dsflow("run", "t", DS)
    assert screen.exit_code == 0, screen
    assert "(process, no docker: " in screen.err
    assert rows(ws.root, "fct_meteo") == [(1,)]
