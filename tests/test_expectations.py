"""Expectations in whole runs: what is published, what is set aside, what is said."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tests.conftest import MakeWorkspace, Screen, notebook

Dsflow = Callable[..., Screen]
DS = "2026-11-20"
HEAD = "version: 1\nkind: sql\noutput: {table: t}\nparameters: {low: -3, token: none}\nexpectations:\n"
QUERY = """
    SELECT i, CASE WHEN i = 2 THEN NULL ELSE i END AS x, CASE WHEN i = 3 THEN 'oslo' ELSE 'paris' END AS city,
    '{{ ds }}' AS day, 's3cret-' || i AS api_token FROM range({{ low }}, 7) AS r(i)
"""


@pytest.fixture(autouse=True)
def _in_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DSFLOW_RUNTIME", "process")


@pytest.fixture
def job(make_workspace: MakeWorkspace) -> Callable[..., Path]:
    """Give a function that makes a job from its expectations, one YAML text each; it gives the datastore."""

    def make(*expectations: str, query: str = QUERY) -> Path:
        listed = "".join(f"  - {text}\n" for text in expectations)
        spec = HEAD + listed if listed else HEAD.removesuffix("expectations:\n")
        return make_workspace({"jobs/t/job_specs.yaml": spec, "jobs/t/q.sql": query}).datastore

    return make


Job = Callable[..., Path]


def rows(datastore: Path, table: str = "t", columns: str = "i", ds: str = DS) -> list[Any]:
    folder = datastore / "tables" / table / f"ds={ds}"
    if not folder.is_dir():
        return []
    query = f"SELECT {columns} FROM read_parquet('{folder}/*.parquet', hive_partitioning=false) ORDER BY i"
    found = duckdb.connect().execute(query).fetchall()
    return [row[0] if len(row) == 1 else row for row in found]


def checks(datastore: Path) -> dict[str, Any]:
    [manifest] = (datastore / ".dsflow/manifests/tables/t").glob("*.json")
    return {check["name"]: check for check in json.loads(manifest.read_text())["checks"]}


def test_allow_publishes_and_counts(job: Job, dsflow: Dsflow) -> None:
    datastore = job("{name: positive, constraint: x >= 0, action: allow}")
    screen = dsflow("run", "t", DS)
    assert screen.exit_code == 0
    assert "warning: 4 of 10 rows broke 'positive' (allow)" in screen.out
    assert "WARN=1" in screen.out
    assert len(rows(datastore)) == 10
    assert not (datastore / "tables/t__quarantine").exists()


def test_drop_sets_rows_aside_with_the_names_of_what_they_broke(job: Job, dsflow: Dsflow) -> None:
    datastore = job(
        "{name: positive, constraint: x >= 0, action: drop}",
        "{accepted_values: {column: city, values: [paris]}, action: drop}",
        "{name: small, constraint: i < 2, action: allow}",
    )
    screen = dsflow("run", "t", DS)
    assert screen.exit_code == 0
    assert f"5 rows dropped, into datastore/tables/t__quarantine/ds={DS}" in screen.out
    assert rows(datastore) == [0, 1, 4, 5, 6]
    assert rows(datastore, "t__quarantine", "i, failed_expectations") == [
        (-3, ["positive"]),
        (-2, ["positive"]),
        (-1, ["positive"]),
        (2, ["positive", "small"]),
        (3, ["accepted_values city", "small"]),
    ]
    assert dsflow("ls", "tables", "--json").document["tables"][1]["name"] == "t__quarantine"


def test_a_clean_run_leaves_nothing_of_what_was_dropped_before(job: Job, dsflow: Dsflow) -> None:
    datastore = job("{name: positive, constraint: i >= 0, action: drop}")
    assert dsflow("run", "t", DS).exit_code == 0
    assert len(rows(datastore, "t__quarantine")) == 3
    assert dsflow("run", "t", DS, "-p", "low=0").exit_code == 0
    assert rows(datastore) == list(range(7))
    assert rows(datastore, "t__quarantine", "i, city, failed_expectations") == []
    assert (datastore / f"tables/t__quarantine/ds={DS}").is_dir(), "whoever reads it finds it empty"


def test_a_run_without_dropped_rows_has_no_quarantine(job: Job, dsflow: Dsflow) -> None:
    datastore = job("{name: positive, constraint: i >= -9, action: drop}")
    assert dsflow("run", "t", DS).exit_code == 0
    assert not (datastore / "tables/t__quarantine").exists()


def test_fail_publishes_nothing_and_shows_three_rows(job: Job, dsflow: Dsflow) -> None:
    datastore = job("{name: positive, constraint: x >= 0}", "{name: dropped, constraint: i <> 5, action: drop}")
    screen = dsflow("run", "t", DS)
    assert screen.exit_code == 3
    assert "expectation 'positive' (x >= 0) failed for 4 of 10 rows" in screen.out
    shown = [line.strip() for line in screen.out.splitlines() if line.startswith("  x=")]
    assert [line.split(", ")[0] for line in shown] == ["x=-3", "x=-2", "x=-1"]
    assert rows(datastore) == []
    assert rows(datastore, "t__quarantine") == []


def test_rows_that_are_shown_keep_secrets(job: Job, dsflow: Dsflow) -> None:
    datastore = job("{name: never, constraint: \"api_token = 'x'\"}")
    secret = "paris"
    screen = dsflow("run", "t", DS, "-p", f"token={secret}")
    assert screen.exit_code == 3
    assert "api_token=***" in screen.out
    assert "city=***" in screen.out, "the value of a secret parameter"
    [folder] = (datastore / f"job_runs/t/ds={DS}").iterdir()
    [check] = json.loads((folder / "outcome.json").read_text())["checks"]
    assert len(check["examples"]) == 3
    assert all("s3cret" not in row and secret not in row for row in check["examples"])
    assert "s3cret-1" not in (folder / "index.html").read_text() + (folder / "log.txt").read_text()


def test_some_rows_may_break_it(job: Job, dsflow: Dsflow) -> None:
    datastore = job(
        "{name: a, constraint: x >= 0, max_failures: 4}",
        "{name: b, constraint: x >= 0, max_failures: 40%}",
        "{name: c, constraint: i >= 0, max_failures: 0.35, action: drop}",
    )
    screen = dsflow("run", "t", DS)
    assert screen.exit_code == 0, screen
    assert [check["limit"] for check in checks(datastore).values()] == [4, 4, 3]
    assert "'a'" not in screen.out
    assert rows(datastore) == list(range(7))


def test_too_many_rows_to_drop_fail_the_run(job: Job, dsflow: Dsflow) -> None:
    datastore = job("{name: c, constraint: i >= 0, max_failures: 20%, action: drop}")
    screen = dsflow("run", "t", DS)
    assert screen.exit_code == 3
    assert "expectation 'c' (i >= 0) failed for 3 of 10 rows, and 2 may" in screen.out
    assert rows(datastore) == rows(datastore, "t__quarantine") == []


def test_what_is_about_the_partition_is_about_what_is_left_of_it(job: Job, dsflow: Dsflow) -> None:
    drop = "{name: c, constraint: i >= 5, action: drop}"
    job(drop, "{row_count: {min: 3}}")
    screen = dsflow("run", "t", DS)
    assert screen.exit_code == 3
    assert "expectation 'row_count' (count(*) >= 3) failed: COUNT(*) = 2" in screen.out


def test_the_partition_before_is_compared_with(job: Job, dsflow: Dsflow) -> None:
    job("{row_count: {min: 0.9, max: 1.2, against: previous}}")
    assert dsflow("run", "t", "2026-11-18").exit_code == 0
    assert dsflow("run", "t", DS, "-p", "low=-4").exit_code == 0
    screen = dsflow("run", "t", "2026-11-21", "-p", "low=4")
    assert screen.exit_code == 3
    assert 'COUNT(*) = 3; (SELECT COUNT(*) FROM "t@previous") = 11' in screen.out


def test_columns_are_kept_to(job: Job, dsflow: Dsflow) -> None:
    job("schema: {columns: [i, x, city, day, api_token], types: {i: bigint, city: text, day: VARCHAR}}")
    assert dsflow("run", "t", DS).exit_code == 0
    job("schema: {columns: [i, x, more], types: {i: DATE}}")
    screen = dsflow("run", "t", DS)
    assert screen.exit_code == 3
    assert "expectation 'schema'" in screen.out
    assert "- more, + city, + day, + api_token, i is BIGINT" in screen.out


def test_a_change_of_columns_can_be_forbidden(job: Job, dsflow: Dsflow) -> None:
    rule = "{name: same, action: allow, schema: {on_change: fail}}"
    job(rule)
    assert dsflow("run", "t", "2026-11-19").exit_code == 0
    job(rule, query="SELECT 1 AS i, 2.5 AS x, 3 AS new")
    screen = dsflow("run", "t", DS)
    assert screen.exit_code == 3
    assert "- city, - day, - api_token, + new, i was BIGINT, is INTEGER" in screen.out


def test_values_are_looked_up_in_another_table(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    spec = HEAD + "  - {references: {column: city, table: cities, to: name}, action: drop}\n"
    datastore = make_workspace(
        {
            "jobs/t/job_specs.yaml": spec,
            "jobs/t/q.sql": QUERY,
            "jobs/cities/job_specs.yaml": "version: 1\nkind: sql\noutput: {table: cities, kind: dim}\n",
            "jobs/cities/q.sql": "SELECT 'paris' AS name",
        }
    ).datastore
    assert "t" in dsflow("ls", "cities+").out, "the pipeline knows that the one depends on the other"
    assert dsflow("run", "cities", "2026-11-01").exit_code == 0
    assert dsflow("run", "t", DS).exit_code == 0
    assert rows(datastore, "t__quarantine") == [3]
    [manifest] = (datastore / ".dsflow/manifests/tables/t").glob("*.json")
    assert [(used["target"], used["ds"]) for used in json.loads(manifest.read_text())["inputs"]] == [
        ("cities", "2026-11-01")
    ]


def test_a_table_can_be_looked_up_in_itself(job: Job, dsflow: Dsflow) -> None:
    datastore = job("{references: {column: x, table: t, to: i, optional: true}}", query="SELECT 1 AS i, NULL::INT AS x")
    assert dsflow("run", "t", DS).exit_code == 0
    job("{references: {column: x, table: t, to: i}}", query="SELECT 1 AS i, 2 AS x")
    assert dsflow("run", "t", DS).exit_code == 3
    assert rows(datastore, columns="i, x") == [(1, None)]


@pytest.mark.parametrize(
    ("expectation", "message"),
    [
        ("{name: e, constraint: wind > 0}", "expectation 'e' (wind > 0): there is no column 'wind'"),
        ("{name: e, constraint: city + 1 > 0}", "expectation 'e' (city + 1 > 0): Could not convert|expectation 'e'"),
        ("{name: e, constraint: \"CAST(city AS DATE) > '2026-01-01'\"}", "expectation 'e' (CAST(city AS DATE)"),
        ("{name: e, constraint: avg(x) > 0, action: drop}", "with an aggregate it is about the whole partition"),
    ],
)
def test_what_cannot_be_judged_is_named_and_nothing_is_published(
    job: Job, dsflow: Dsflow, expectation: str, message: str
) -> None:
    datastore = job("{name: fine, constraint: i IS NOT NULL}", expectation)
    screen = dsflow("run", "t", DS)
    assert screen.exit_code == 1
    assert any(part in screen.out for part in message.split("|")), screen.out
    assert "Traceback" not in screen.out
    assert rows(datastore) == []


def test_render_shows_plain_sql(job: Job, dsflow: Dsflow) -> None:
    job(
        "{unique: [i, city]}",
        "{not_null: x, action: allow}",
        "{row_count: {min: 1}}",
        "{freshness: {column: day, within: 2d}}",
        "{name: day, constraint: \"day = '{{ ds }}'\"}",
    )
    screen = dsflow("render", "t", DS)
    assert screen.out.splitlines()[-5:] == [
        '-- unique i, city (fail): count(*) OVER (PARTITION BY "i", "city") = 1',
        '-- not_null x (allow): "x" IS NOT NULL',
        "-- row_count (fail): count(*) >= 1",
        """-- freshness day (fail): max(CAST("day" AS TIMESTAMP)) >= TIMESTAMP '2026-11-19 00:00:00'""",
        "-- day (fail): day = '2026-11-20'",
    ]
    assert dsflow("run", "t", DS).exit_code == 0


class TestValidate:
    def test_mistakes_are_found_without_data(self, job: Job, dsflow: Dsflow) -> None:
        job(
            "{unique: [a], not_null: a}",
            "{constraint: a > 0}",
            "{row_count: {min: 3, max: 2}}",
            "{freshness: {column: d, within: 1h}, action: drop}",
            "{name: l, constraint: a > 0, severity: info}",
            "{unique: b, max_failures: 2.5}",
            "{accepted_values: {colum: x, values: [1]}}",
        )
        where = "jobs/t/job_specs.yaml: expectations"
        forms = "'unique', 'not_null', 'accepted_values', 'row_count', 'freshness', 'references', 'schema'"
        share = "'2.5' is neither a number of rows nor a share such as 1% or 0.01"
        whole = "freshness is about the whole partition, nothing of which can be dropped: give it an action"
        assert dsflow("validate").out.splitlines()[:-1] == [
            f"{where}[5].max_failures: {share}",
            f"{where}[6].accepted_values.column: required key is missing",
            f"{where}[6].accepted_values.colum: unknown key; did you mean 'column'?",
            f"{where}[0]: name exactly one of 'constraint', {forms}",
            f"{where}[1]: required key 'name' is missing",
            f"{where}[2]: row_count: min 3 is more than max 2",
            f"{where}[3]: {whole}",
            f"{where}[4]: severity 'info' does not go with action 'fail', which ends the run",
        ]

    def test_a_quarantine_is_nobodys_output(self, make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
        make_workspace(
            {
                "jobs/t/job_specs.yaml": "version: 1\nkind: sql\noutput: {table: x__quarantine}\n",
                "jobs/t/q.sql": "SELECT 1 AS i",
            }
        )
        assert "names that end in __quarantine are for rows that were set aside" in dsflow("validate").out

    def test_columns_are_known_from_the_schema(self, job: Job, dsflow: Dsflow) -> None:
        job("schema: {columns: [i, rain]}", "{name: e, constraint: rian > 0}")
        screen = dsflow("validate")
        assert screen.exit_code == 2
        assert "jobs/t/job_specs.yaml: expectations: 'e': there is no column 'rian'; did you mean 'rain'?" in screen.out

    def test_columns_and_types_are_known_from_what_is_published(self, job: Job, dsflow: Dsflow) -> None:
        job()
        assert dsflow("run", "t", DS).exit_code == 0
        job("{name: a, constraint: wind > 0}", "{name: b, constraint: day > 5 + city}", "{unique: i}")
        out = dsflow("validate").out
        assert "expectations: 'a': there is no column 'wind'" in out
        assert "expectations: 'b': " in out
        assert "'unique i'" not in out

    def test_code_that_changed_since_may_have_other_columns(self, job: Job, dsflow: Dsflow) -> None:
        job()
        assert dsflow("run", "t", DS).exit_code == 0
        job("{name: a, constraint: wind > 0}", query="SELECT 1 AS wind")
        assert dsflow("validate").exit_code == 0


class TestInCode:
    """`job.expect`."""

    SPEC = "version: 1\nkind: notebook\noutput: {table: t}\nexpectations: [{name: known, constraint: i > 0}]\n"
    START = "from dsflow import job\njob.write([{'i': 1, 'x': -1}, {'i': 2, 'x': 1}, {'i': 3, 'x': None}])\n"

    def run(self, make_workspace: MakeWorkspace, dsflow: Dsflow, code: str) -> tuple[Screen, Path]:
        tree = {"jobs/t/job_specs.yaml": self.SPEC, "jobs/t/t.ipynb": notebook(self.START + code)}
        datastore = make_workspace(tree).datastore
        return dsflow("run", "t", DS), datastore

    def test_it_is_checked_with_those_of_the_spec(self, make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
        code = "for _ in range(2): job.expect('positive', 'x > 0', 'drop')\njob.expect('few', row_count={'max': 9})"
        screen, datastore = self.run(make_workspace, dsflow, code)
        assert screen.exit_code == 0, screen
        assert rows(datastore) == [2]
        assert rows(datastore, "t__quarantine") == [1, 3]
        assert list(checks(datastore)) == ["known", "positive", "few"]

    MISTAKES = (
        ("'e', 'x >'", "expectation 'e' (x >): line 1, column 3: not valid SQL"),
        ("'e', 'x > 0; DROP TABLE t'", "not valid SQL near 'DROP'"),
        ("'e', uniqe=['x']", "unknown key 'uniqe'; did you mean 'unique'?"),
        ("'e', 'x > 0', 'dorp'", "action 'dorp' is not one of allow, drop, fail"),
        ("'e', 'x > 0', max_failures=-1", "neither a number of rows nor a share"),
        ("'e', freshness={'column': 'x', 'within': 'soon'}", "'soon' is not a length of time"),
        ("'two\\nlines', 'x > 0'", "a name is one line"),
    )

    def test_mistakes_are_named_where_they_are_made(self, make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
        tried = "\n".join(
            f"try:\n    job.expect({arguments})\nexcept Exception as error:\n    print(error)"
            for arguments, _ in self.MISTAKES
        )
        screen, datastore = self.run(make_workspace, dsflow, f"{tried}\njob.expect('known', 'x > 0', 'allow')")
        assert screen.exit_code == 1
        for _, message in self.MISTAKES:
            assert message in screen.out
        assert "expectation 'known' is there twice" in screen.out
        assert rows(datastore) == []
