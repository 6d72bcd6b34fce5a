"""`from dsflow import job`: inside a run, and by hand."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import MakeWorkspace, Screen, notebook

Dsflow = Callable[..., Screen]
DAYS = ("2013-01-01", "2013-01-02", "2013-01-04")
TABLE = {f"datastore/raw/meteo/ds={ds}/a.json": f'{{"hour": 0, "rain": {number}}}\n' for number, ds in enumerate(DAYS)}
MAKE_TABLE = {
    "jobs/make/job_specs.yaml": "version: 1\nkind: sql\noutput: {table: rain}\n",
    "jobs/make/q.sql": "SELECT * FROM raw.meteo",
}
SPEC = "version: 1\nkind: notebook\n"


@pytest.fixture(autouse=True)
def _in_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DSFLOW_RUNTIME", "process")


def test_a_job_reads_tables_as_of_a_ds_and_over_a_window(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    cell = """
        from dsflow import job, load_tables
        print("as of", job.table("rain", as_of="2013-01-03").fetchall())
        print("window", sorted(job.table("rain", window=3).fetchall()))
        print("own", job.table("rain").fetchall())
        print("sql", job.sql("SELECT count(*), max(ds) FROM rain").fetchall())
        print("raw", job.sql("SELECT rain FROM raw.meteo").fetchall())
        print("tables", job.tables(), load_tables())
        """
    ws = make_workspace({**TABLE, **MAKE_TABLE, "jobs/t/job_specs.yaml": SPEC, "jobs/t/t.ipynb": notebook(cell)})
    for ds in DAYS:
        assert dsflow("run", "make", ds).exit_code == 0
    screen = dsflow("run", "t", "2013-01-04", "--json")
    assert screen.exit_code == 0, screen
    for line in (
        "as of [(0, 1, '2013-01-02')]",
        "window [(0, 1, '2013-01-02'), (0, 2, '2013-01-04')]",
        "own [(0, 2, '2013-01-04')]",
        "sql [(3, '2013-01-04')]",
        "raw [(2,)]",
        "tables ['rain'] ['rain']",
        "INFO - rain was successfully imported",
    ):
        assert line in screen.err
    used = {(i["target"], i["ds"]) for i in screen.document["runs"][0]["outcome"]["inputs"]}
    assert used == {*(("rain", ds) for ds in DAYS), ("meteo", "2013-01-04")}
    assert ws.root.exists()


def test_7_1_26_a_broken_table_is_reported_and_stops_nobody(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    cell = """
        from dsflow import job, load_tables
        print(load_tables())
        print(job.sql("SELECT rain, ds FROM rain").fetchall())
        """
    make_workspace(
        {
            **TABLE,
            **MAKE_TABLE,
            "datastore/tables/broken/ds=2013-01-01/x.parquet": b"this is not parquet",
            "datastore/tables/empty/readme.txt": "",
            "jobs/t/job_specs.yaml": SPEC,
            "jobs/t/t.ipynb": notebook(cell),
        }
    )
    dsflow("run", "make", "2013-01-01")
    screen = dsflow("run", "t", "2013-01-01")
    assert screen.exit_code == 0, screen
    assert "ERROR - broken could not be imported" in screen.out
    assert "ERROR - empty could not be imported: table empty has no partition yet" in screen.out
    assert "['rain']" in screen.out
    assert "[(0, '2013-01-01')]" in screen.out


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("job.read('metoe')", "the job declares no input 'metoe'; did you mean 'meteo'?"),
        ("job.table('nope')", "nope"),
        ("job.write([{'x': 1}])", "the job declares no output"),
        ("job.table('rain', window=0)", "give a window of 1 or more"),
        ("job.paramz", "`job` has no 'paramz'; did you mean 'params'?"),
        ("job.sql('SELECT * FROM nope')", "nope"),
    ],
)
def test_mistakes_are_one_sentence_in_the_cell(
    make_workspace: MakeWorkspace, dsflow: Dsflow, code: str, message: str
) -> None:
    make_workspace(
        {
            **TABLE,
            "jobs/t/job_specs.yaml": SPEC + "inputs: {meteo: {raw: meteo}}\n",
            "jobs/t/t.ipynb": notebook(f"from dsflow import job\n{code}"),
        }
    )
    screen = dsflow("run", "t", "2013-01-01")
    assert screen.exit_code == 1
    assert message in " ".join(screen.out.split())
    assert f"cell 1, line 2: {code}" in screen.out


def by_hand(folder: Path, code: str) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DSFLOW_")}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_by_hand_an_error_shows_what_to_do_too(make_workspace: MakeWorkspace) -> None:
    ws = make_workspace({"jobs/t/job_specs.yaml": "version: 1\nkind: sql\n", "jobs/t/q.sql": "SELECT 1 AS x"})
    lines = ["import sys, traceback", "from dsflow import job"]
    code = "\n".join([*lines, "try: job.table('nope')", "except Exception: traceback.print_exc(file=sys.stdout)"])
    *_, message, hint = by_hand(ws.root / "jobs" / "t", code).splitlines()
    assert message == "dsflow.errors.JobFailed: there is no table 'nope'"
    assert hint


def test_by_hand_it_takes_the_jobs_own_defaults_and_today(make_workspace: MakeWorkspace) -> None:
    ws = make_workspace(
        {
            "jobs/t/job_specs.yaml": SPEC + "parameters: {city: paris}\noutput: {table: t}\n",
            "jobs/t/t.ipynb": notebook("1", parameters="city = 'lyon'\nn = 3"),
        }
    )
    code = (
        "import datetime\nfrom dsflow import job\n"
        "print(job.ds == datetime.date.today().isoformat(), dict(job.params))\n"
        "job.write([{'x': 1}, {'x': 2}])"
    )
    printed = by_hand(ws.root / "jobs" / "t", code)
    assert "True {'city': 'paris', 'n': 3}" in printed
    assert "By hand: 2 rows could be written; nothing was published." in printed
    assert not (ws.root / "datastore" / "tables").exists()


def test_by_hand_outside_a_job_the_tables_are_there(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    ws = make_workspace({**TABLE, **MAKE_TABLE})
    dsflow("run", "make", "2013-01-01")
    (ws.root / "adhoc").mkdir()
    printed = by_hand(ws.root / "adhoc", "from dsflow import sql\nprint(sql('SELECT rain, ds FROM rain').fetchall())")
    assert "[(0, '2013-01-01')]" in printed
