"""`dsflow test`: jobs of every kind on small inputs, and what a person is told when one does something else."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from dsflow.testing.trial import Trials, Verdict
from dsflow.workspace import Workspace
from tests.conftest import MakeWorkspace, Screen, notebook

SQL = """
    version: 1
    kind: sql
    output: {table: rain_per_city}
    expectations:
      - {name: wet, constraint: rain_mm > 0, action: drop}
"""
QUERY = "SELECT city, sum(rain_mm) AS rain_mm FROM rain WHERE ds = '{{ ds }}' GROUP BY city ORDER BY city\n"
SUMS = """
    ds: 2026-11-20
    inputs:
      rain:
        - {city: Paris, rain_mm: 0.5}
        - {city: Paris, rain_mm: 0.25}
        - {city: Orly, rain_mm: 1.0}
        - {city: Lyon, rain_mm: 0}
    expected:
      rows:
        - {rain_mm: 1, city: Orly}
        - {city: Paris, rain_mm: 0.75}
      columns: {city: VARCHAR, rain_mm: DOUBLE}
      checks: {wet: 1}
      quarantine:
        - {city: Lyon, rain_mm: 0, failed_expectations: [wet]}
"""


@pytest.fixture
def judge(make_workspace: MakeWorkspace) -> Callable[..., Verdict]:
    """Make a workspace and give the verdict on one test of one job."""

    def run(job: str, test: str, tree: dict[str, str | bytes]) -> Verdict:
        workspace = make_workspace({f"jobs/{job}/tests/it.yaml": test, **tree})
        with Trials(workspace) as trials:
            return trials.judge(job, workspace.jobs / job / "tests" / "it.yaml")

    return run


def sql_job(test: str, query: str = QUERY, spec: str = SQL) -> tuple[str, str, dict[str, str | bytes]]:
    return "rain", test, {"jobs/rain/job_specs.yaml": spec, "jobs/rain/query.sql": query}


def told(verdict: Verdict) -> list[str]:
    return verdict.lines()


def test_a_query_is_run_on_the_rows_of_its_test(judge: Callable[..., Verdict]) -> None:
    assert told(judge(*sql_job(SUMS))) == []


def test_each_difference_is_named_with_its_path(judge: Callable[..., Verdict]) -> None:
    wrong = SUMS.replace("rain_mm: 0.75", "rain_mm: 0.7").replace("wet: 1", "wet: 2").replace("DOUBLE", "INTEGER")
    assert told(judge(*sql_job(wrong))) == [
        "rows[1].rain_mm: expected 0.7, got 0.75",
        "columns.rain_mm: expected INTEGER, got DOUBLE",
        "checks.wet: expected 2, got 1",
    ]


def test_the_order_of_rows_counts_where_the_query_orders_them(judge: Callable[..., Verdict]) -> None:
    test = """
        ds: 2026-11-20
        inputs: {rain: [{city: b, rain_mm: 1}, {city: a, rain_mm: 2}]}
        expected: [{city: b, rain_mm: 1}, {city: a, rain_mm: 2}]
    """
    assert len(told(judge(*sql_job(test)))) == 4
    assert told(judge(*sql_job(test, QUERY.replace("ORDER BY city", "")))) == []


def test_a_notebook_with_parameters_and_a_raw_input(judge: Callable[..., Verdict]) -> None:
    spec = """
        version: 1
        kind: notebook
        parameters: {factor: 2}
        inputs: {rain: {raw: rain, format: csv, options: {delim: ";"}}}
        output: {table: more_rain}
    """
    cells = [
        "from dsflow import job",
        "job.write(job.read('rain').project('city, rain_mm * 3 AS rain, ' + repr(job.ds) + ' AS day'))",
    ]
    test = """
        ds: 2026-11-20
        inputs:
          rain:
            - {city: "Paris; centre", rain_mm: 0.5}
            - {city: Orly, rain_mm: null}
        expected:
          - {city: Orly, rain: null, day: 2026-11-20}
          - {city: "Paris; centre", rain: 1.5, day: 2026-11-20}
    """
    tree = {"jobs/more/job_specs.yaml": spec, "jobs/more/more.ipynb": notebook(*cells)}
    assert told(judge("more", test, tree)) == []


def test_a_script_that_writes_files(judge: Callable[..., Verdict]) -> None:
    spec = "version: 1\nkind: script\nmain: sort.sh\ninputs: {cities: {raw: cities}}\noutput: {raw: sorted}\n"
    tree = {"jobs/sort/job_specs.yaml": spec, "jobs/sort/sort.sh": 'sort "$1"/* > "$2"/sorted.txt\n'}
    test = """
        ds: 2026-11-20
        inputs: {cities: {text: "b\\na\\n"}}
        expected: {files: {sorted.txt: "a\\nc\\n"}}
    """
    assert told(judge("sort", test, tree)) == ["files.sorted.txt, line 2: expected 'c', got 'b'"]
    assert told(judge("sort", test.replace("a\\nc", "a\\nb"), tree)) == []
    missing = test.replace("sorted.txt", "sortd.txt")
    assert "files.sortd.txt: expected a file, got no such file; did you mean 'sorted.txt'?" in told(
        judge("sort", missing, tree)
    )


def test_files_that_are_packed_or_no_text(judge: Callable[..., Verdict]) -> None:
    spec = "version: 1\nkind: script\nmain: s.sh\noutput: {raw: packed}\n"
    script = "printf 'a\\n' | gzip > \"$1\"/x.csv.gz\nprintf '\\377' > \"$1\"/y.bin\n"
    tree = {"jobs/pack/job_specs.yaml": spec, "jobs/pack/s.sh": script}
    digest = hashlib.sha256(b"\xff").hexdigest()
    test = f"ds: 2026-11-20\nexpected: {{files: {{x.csv.gz: \"a\\n\", y.bin: 'sha256:{digest}'}}}}\n"
    assert told(judge("pack", test, tree)) == []


def test_the_sample_pipeline_keeps_its_tests() -> None:
    workspace = Workspace(Path(__file__).parent.parent)
    files = sorted(workspace.jobs.glob("*/tests/*.yaml"))
    assert len(files) == 3
    with Trials(workspace) as trials:
        assert {path.parent.parent.name: told(trials.judge(path.parent.parent.name, path)) for path in files} == {
            path.parent.parent.name: [] for path in files
        }


def test_a_legacy_download_is_given_the_file_that_it_fetches(judge: Callable[..., Verdict]) -> None:
    spec = """
        version: '0.1'
        class: CommandLineTool
        script: get.sh
        job_parameters: [ds]
        task_specs:
          source_path: 'file:///data/published/{{ ds }}.csv.gz'
          sink_path: '/data/raw/flights/ds={{ ds }}'
    """
    script = 'gzip -dc "${1#file://}" > "$2"/flights.csv\n'
    tree = {"jobs/get/job_specs.yaml": spec, "jobs/get/get.sh": script}
    test = """
        ds: 2026-11-20
        inputs: {source: {rows: [{a: 1, b: x}]}}
        expected: {files: {flights.csv: "a,b\\n1,x\\n"}}
    """
    assert told(judge("get", test, tree)) == []


def test_nothing_is_fetched_from_elsewhere(judge: Callable[..., Verdict]) -> None:
    spec = """
        version: 1
        kind: sql
        main: q.sql
        inputs: {cities: {path: "https://example.org/{{ ds }}/cities.csv?token=x"}}
        output: {table: cities}
    """
    tree = {"jobs/get/job_specs.yaml": spec, "jobs/get/q.sql": "SELECT * FROM cities"}
    [problem, hint] = told(judge("get", "ds: 2026-11-20\nexpected: []\n", tree))
    assert "the job reads https://example.org/2026-11-20/cities.csv" in problem
    assert "inputs.cities" in hint
    given = 'ds: 2026-11-20\ninputs: {cities: {text: "city\\nParis\\n"}}\nexpected: [{city: Paris}]\n'
    assert told(judge("get", given, tree)) == []


def test_types_windows_and_snapshots(judge: Callable[..., Verdict]) -> None:
    spec = """
        version: 1
        kind: sql
        inputs:
          history: {table: prices, window: 3}
          stations: {table: stations, as_of: ds}
        output: {table: sums}
    """
    query = """
        SELECT name, sum(price) AS price, max(seen) AS seen, max(history.ds) AS day
        FROM history JOIN stations USING (id) GROUP BY name
    """
    test = """
        ds: 2026-11-20
        inputs:
          history:
            columns: {price: "DECIMAL(10,2)", seen: TIMESTAMPTZ}
            partitions:
              2026-11-17: [{id: 1, price: 99, seen: "2026-11-17T00:00:00Z"}]
              2026-11-18: [{id: 1, price: 0.1, seen: "2026-11-18T00:00:00Z"}]
              2026-11-20: [{id: 1, price: 0.2, seen: "2026-11-20T01:00:00+01:00"}]
          stations:
            partitions:
              2026-10-01: [{id: 1, name: old}]
              2026-11-01: [{id: 1, name: Köln}]
              2026-12-01: [{id: 1, name: later}]
        expected:
          rows: [{name: Köln, price: 0.3, seen: "2026-11-20 00:00:00Z", day: 2026-11-20}]
          columns: {price: "DECIMAL(38,2)"}
    """
    tree = {"jobs/sums/job_specs.yaml": spec, "jobs/sums/query.sql": query}
    assert told(judge("sums", test, tree)) == []


def test_a_dimension_that_only_the_code_names_is_one(judge: Callable[..., Verdict]) -> None:
    stations = "version: 1\nkind: sql\nmain: q.sql\noutput: {table: stations, kind: dim}\n"
    spec = "version: 1\nkind: script\nmain: s.py\noutput: {table: names}\n"
    code = "from dsflow import job\njob.write(job.table('stations').project('name'))\n"
    test = """
        ds: 2026-11-20
        inputs: {stations: {partitions: {2026-11-01: [{name: Paris}]}}}
        expected: [{name: Paris}]
    """
    tree: dict[str, str | bytes] = {
        "jobs/stations/job_specs.yaml": stations,
        "jobs/stations/q.sql": "SELECT 1 AS id",
        "jobs/names/job_specs.yaml": spec,
        "jobs/names/s.py": code,
    }
    assert told(judge("names", test, tree)) == []


def test_files_beside_the_test(judge: Callable[..., Verdict]) -> None:
    job, _, tree = sql_job("")
    test = """
        ds: 2026-11-20
        inputs: {rain: {file: rain.csv, columns: {rain_mm: DOUBLE}}}
        expected: {file: sums.csv}
    """
    files: dict[str, str | bytes] = {
        "jobs/rain/tests/rain.csv": "city,rain_mm\nParis,1\nParis,2\n",
        "jobs/rain/tests/sums.csv": "city,rain_mm\nParis,3\n",
    }
    assert told(judge(job, test, {**tree, **files})) == []
    [problem] = told(judge(job, test.replace("rain.csv", "rian.csv"), {**tree, **files}))
    assert "there is no file 'rian.csv' beside the test; did you mean 'rain.csv'?" in problem
    [problem, _] = told(judge(job, test.replace("rain.csv", "../../../dsflow.yml"), {**tree, **files}))
    assert "is outside the job's folder" in problem


def test_no_rows_at_all(judge: Callable[..., Verdict]) -> None:
    empty = "ds: 2026-11-20\ninputs: {rain: {rows: [], columns: {city: VARCHAR, rain_mm: DOUBLE}}}\nexpected: []\n"
    assert told(judge(*sql_job(empty))) == []
    [problem, hint] = told(judge(*sql_job("ds: 2026-11-20\ninputs: {rain: []}\nexpected: []\n")))
    assert "neither rows nor columns" in problem
    assert "columns" in hint


def test_a_run_that_should_fail(judge: Callable[..., Verdict]) -> None:
    spec = SQL.replace("drop", "fail")
    test = """
        ds: 2026-11-20
        inputs: {rain: [{city: Lyon, rain_mm: 0}]}
        expected: {failure: "expectation 'wet'", checks: {wet: 1}}
    """
    assert told(judge(*sql_job(test, spec=spec))) == []
    [difference, check] = told(judge(*sql_job(test.replace("rain_mm: 0}", "rain_mm: 1}"), spec=spec)))
    assert difference == "failure: expected \"expectation 'wet'\", got 'a run that succeeds'"
    assert check == "checks.wet: expected 1, got 0"


def test_a_run_that_fails_says_where_and_what_it_printed(judge: Callable[..., Verdict]) -> None:
    tree = {
        "jobs/bad/job_specs.yaml": "version: 1\nkind: script\nmain: s.py\noutput: {table: x}\n",
        "jobs/bad/s.py": "print('got this far')\nraise ValueError('no rain')\n",
    }
    lines = told(judge("bad", "ds: 2026-11-20\nexpected: []\n", tree))
    assert lines[0] == "the job failed: ValueError: no rain"
    assert "  s.py, line 2" in lines
    assert "  log: got this far" in lines


def test_an_input_that_is_never_read_is_probably_a_mistake(judge: Callable[..., Verdict]) -> None:
    test = SUMS.replace("inputs:", "inputs:\n      rian: [{a: 1}]", 1)
    assert told(judge(*sql_job(test))) == [
        "inputs.rian: expected an input of the job, got never read; did you mean 'rain'?"
    ]


@pytest.mark.parametrize(
    ("test", "mistake"),
    [
        ("inputs: {}\n", "ds: required key is missing"),
        ("ds: 2026-11-20\ninput: {}\n", "input: unknown key; did you mean 'inputs'?"),
        ("ds: 2026-11-20\ninputs: {rain: {row: []}}\n", "inputs.rain.row: unknown key; did you mean 'rows'?"),
        ("ds: 2026-11-20\ninputs: {rain: {rows: [], text: x}}\n", "exactly one of 'rows'"),
        ("ds: 2026-11-20\nexpected: {failure: x, rows: []}\n", "writes nothing that could be compared"),
        ("ds: 2026-11-20\nparameters: {colour: red}\n", "no parameter 'colour'"),
        ("ds: 20 November\n", "is not a day partition"),
        ("ds: 2026-11-20\ninputs: {rain: [{a: 1}, 2]}\n", "expected keys and values"),
        ("ds: [\n", "not valid YAML"),
        ("ds: 2026-11-20\ninputs: {rain: {rows: [{a: 1}], columns: {b: DATE}}}\n", "no row has a column 'b'"),
        ("ds: 2026-11-20\ninputs: {rain: {rows: [{a: x}], columns: {a: DATE}}}\n", "date"),
        ("ds: 2026-11-20\ninputs: {rain: {rows: [{a: x}], columns: {a: DAET}}}\n", "DAET"),
    ],
)
def test_mistakes_in_a_test(judge: Callable[..., Verdict], test: str, mistake: str) -> None:
    verdict = judge(*sql_job(test))
    assert not verdict.passed
    assert mistake in " ".join(verdict.lines()), verdict.lines()


def test_the_workspace_is_not_touched(
    make_workspace: MakeWorkspace, dsflow: Callable[..., Screen], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, test, tree = sql_job(SUMS)
    workspace = make_workspace({**tree, f"jobs/{job}/tests/it.yaml": test})
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    before = files_of(workspace)
    assert dsflow("test").exit_code == 0
    assert files_of(workspace) == before
    assert [path.name for path in scratch.glob("dsflow-test-*")] == []


def files_of(workspace: Workspace) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in sorted(workspace.root.rglob("*"))}


@pytest.fixture
def several(make_workspace: MakeWorkspace) -> Workspace:
    job, test, tree = sql_job(SUMS)
    return make_workspace(
        {
            **tree,
            f"jobs/{job}/tests/sums.yaml": test,
            f"jobs/{job}/tests/wrong.yaml": test.replace("0.75", "0.8"),
            f"jobs/{job}/names.py": "def clean(name):\n    return name.strip()\n",
            f"jobs/{job}/tests/test_plain.py": """
                from names import clean


                def test_clean():
                    assert clean(" Paris ") == "Paris"


                def test_of_rows(run_job):
                    trial = run_job("2026-11-20", inputs={"rain": [{"city": "Paris", "rain_mm": 3.0}]})
                    assert trial.rows == [{"city": "Paris", "rain_mm": 3.0}]


                def test_that_fails():
                    assert clean("Orly") == "Paris"
            """,
            "jobs/other/job_specs.yaml": "version: 1\nkind: sql\noutput: {table: other}\n",
            "jobs/other/query.sql": "SELECT 1 AS one",
        }
    )


def test_the_screen_of_several_tests(several: Workspace, dsflow: Callable[..., Screen]) -> None:
    screen = dsflow("test")
    assert screen.exit_code == 1
    lines = [line.split(" (")[0] for line in screen.out.splitlines()]
    assert [line for line in lines if line.startswith(("✓", "✗"))] == [
        "✓ rain sums",
        "✗ rain wrong",
        "✓ rain test_plain::test_clean",
        "✓ rain test_plain::test_of_rows",
        "✗ rain test_plain::test_that_fails",
    ]
    assert "    rows[1].rain_mm: expected 0.8, got 0.75" in lines
    assert "    jobs/rain/tests/wrong.yaml" in lines
    assert screen.out.splitlines()[-1].startswith("Done. OK=3 FAIL=2 TOTAL=5 in ")


def test_some_tests_and_their_document(several: Workspace, dsflow: Callable[..., Screen]) -> None:
    screen = dsflow("test", "rain", "-k", "wrong", "--json")
    assert screen.exit_code == 1
    [found] = screen.document["tests"]
    assert (found["job"], found["test"], found["passed"]) == ("rain", "wrong", False)
    assert found["differences"] == [{"path": "rows[1].rain_mm", "expected": "0.8", "got": "0.75"}]


def test_jobs_without_tests(several: Workspace, dsflow: Callable[..., Screen]) -> None:
    screen = dsflow("test", "other")
    assert screen.exit_code == 2
    assert "other has no tests" in screen.err
    assert "dsflow generate-test other DS" in screen.err
    assert dsflow("test", "ohter").exit_code == 2


@pytest.mark.docker
def test_in_a_container(several: Workspace, dsflow: Callable[..., Screen], python_image: object) -> None:
    url = several.jobs / "url"
    (url / "tests").mkdir(parents=True)
    spec = (
        'version: 1\nkind: sql\ninputs: {cities: {path: "https://example.org/cities.csv"}}\noutput: {table: cities}\n'
    )
    (url / "job_specs.yaml").write_text(spec, "utf-8")
    (url / "q.sql").write_text("SELECT * FROM cities\n", "utf-8")
    test = 'ds: 2026-11-20\ninputs: {cities: {text: "city\\nParis\\n"}}\nexpected: [{city: Paris}]\n'
    (url / "tests" / "given.yaml").write_text(test, "utf-8")
    assert dsflow("test", "url", "--runtime", "docker").exit_code == 0
    screen = dsflow("test", "rain", "--runtime", "docker", "-k", "s")
    assert [line.split(" (")[0] for line in screen.out.splitlines() if line.startswith("✗")] == [
        "✗ rain test_plain::test_that_fails"
    ]


def test_a_dashboard_has_no_rows_to_compare(judge: Callable[..., Verdict]) -> None:
    tree = {"jobs/board/job_specs.yaml": "version: 1\nkind: dashboard\nmain: b.py\n", "jobs/board/b.py": "x = 1\n"}
    [problem] = told(judge("board", "ds: 2026-11-20\n", tree))
    assert "serves until it is stopped" in problem


def test_validate_finds_mistakes_in_tests(several: Workspace, dsflow: Callable[..., Screen]) -> None:
    assert dsflow("validate").exit_code == 0
    (several.jobs / "rain" / "tests" / "wrong.yaml").write_text("ds: 2026-11-20\nexpect: []\n", "utf-8")
    screen = dsflow("validate")
    assert screen.exit_code == 2
    assert "jobs/rain/tests/wrong.yaml: expect: unknown key; did you mean 'expected'?" in screen.err + screen.out
