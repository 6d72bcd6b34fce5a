"""`dsflow port`, and the dialect of a query: SQL is never computed by an engine it is not written for."""

from __future__ import annotations

import datetime as dt
import decimal
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest
from sqlglot import transpile

from dsflow import durable
from dsflow.engines.registry import open_engine
from dsflow.errors import UsageError
from dsflow.parity import porting
from dsflow.parity.translation import translated
from dsflow.parity.words import common_type
from tests.conftest import MakeWorkspace, Screen, Tree
from tests.test_spark_jobs import WORKSPACE

Dsflow = Callable[..., Screen]
DS = "2026-11-01"
ROWS = """
    SELECT i::INT AS i, s, f::DOUBLE AS f, n::INT AS n, d, t, b, m::BIGINT AS m, c, de::DECIMAL(10, 2) AS de,
        [n, n, m::INT, 5] AS l, {'a': n, 'b': s} AS st
    FROM (VALUES
        (1, 'a,b,c', 2.5, 7, DATE '2026-01-31', TIMESTAMP '2026-01-31 13:45:50', true, -7, 'Paris', 1.25),
        (2, 'x', -2.5, 0, DATE '2024-02-29', TIMESTAMP '2024-02-29 00:00:00', false, 3, 'lyon', -1.25),
        (3, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
        (4, '', 3.5, 2, DATE '1969-12-31', TIMESTAMP '1969-12-31 23:59:59', true, 10, 'Été', 2.75)
    ) AS t(i, s, f, n, d, t, b, m, c, de)"""
COLUMNS = {
    "i": "INTEGER",
    "s": "VARCHAR",
    "f": "DOUBLE",
    "n": "INTEGER",
    "d": "DATE",
    "t": "TIMESTAMP",
    "b": "BOOLEAN",
    "m": "BIGINT",
    "c": "VARCHAR",
    "de": "DECIMAL(10,2)",
    "l": "INTEGER[]",
    "st": "STRUCT(a INTEGER, b VARCHAR)",
}
# What sqlglot alone would translate into something that gives other values or types, silently.
REFUSED = {
    "spark": [
        "cast(f AS int)",
        "int(de)",
        "date_add(d, 1)",
        "add_months(d, 1)",
        "d + INTERVAL 1 DAY",
        "dayofweek(d)",
        "weekday(d)",
        "extract(dow FROM d)",
        "substring(s, 0, 2)",
        "ln(n)",
        "de / 3",
        "cast(f * 1e10 AS string)",
        "to_json(named_struct('a', n))",
        "isnan(f)",
        "array_distinct(l)",
        "levenshtein(c, s)",
        "format_string('%d', n)",
        "hash(n)",
        "timestampdiff(hour, t, timestamp_ntz'2026-01-01 00:30:00')",
        "from_utc_timestamp(t, 'Europe/Paris')",
    ],
    "duckdb": [
        "f::INT",
        "de::BIGINT",
        "d + INTERVAL 1 DAY",
        "d - DATE '2026-01-01'",
        "dayofweek(d)",
        "isodow(d)",
        "date_part('dow', d)",
        "substring(s, 0, 2)",
        "ln(n)",
        "log(i)",
        "de / 3",
        "(f * 1e10)::VARCHAR",
        "st::VARCHAR",
        "to_json(st)",
        "isnan(f)",
        "list_distinct(l)",
        "levenshtein(c, s)",
        "printf('%d', n)",
        "hash(n)",
        "typeof(n)",
        "dayname(d)",
        "monthname(d)",
        "strftime(t, '%j')",
        "regexp_replace(c, '[a-z]', '_')",
        "date_diff('hour', t, TIMESTAMP '2026-01-31 00:00:00')",
        "t AT TIME ZONE 'Europe/Paris'",
    ],
}
# What is translated, and gives the same.
PORTED = {
    "spark": [
        "split(s, ',')[0]",
        "cast(date_add(d, 1) AS date)",
        "cast(floor(f) AS int)",
        "cast(cast(n AS string) AS int)",
        "try_cast(s AS int)",
        "last_day(d)",
        "date_trunc('month', t)",
        "datediff(d, date'2026-01-01')",
        "date_format(t, 'yyyy-MM-dd')",
        "n / 2",
        "n div 2",
        "m % 3",
        "round(f)",
        "instr(s, ',')",
        "concat_ws('-', s, c)",
        "regexp_replace(c, '[a-z]', '_')",
        "regexp_extract(c, '([a-z]+)', 1)",
        "size(l)",
        "l[0]",
        "array_contains(l, 5)",
        "transform(l, x -> x + 1)",
        "named_struct('a', n)",
        "nvl(n, 0)",
        "if(b, 1, 2)",
        "CASE WHEN n > 0 THEN ln(n) END",
        "substring(s, 1, 2)",
        "sum(n) OVER (ORDER BY i)",
        "row_number() OVER (ORDER BY n, i)",
        "d > date'2026-01-01' - INTERVAL 90 DAY",
    ],
    "duckdb": [
        "split(s, ',')[1]",
        "(d + INTERVAL 1 DAY)::DATE",
        "floor(f)::INT",
        "n::VARCHAR::INT",
        "last_day(d)",
        "date_trunc('month', t)",
        "datediff('day', DATE '2026-01-01', d)",
        "strftime(t, '%Y-%m-%d')",
        "n / 2",
        "n // 2",
        "m % 3",
        "round(f)",
        "strpos(s, ',')",
        "concat_ws('-', s, c)",
        "regexp_replace(c, '[a-z]', '_', 'g')",
        "regexp_extract(c, '([a-z]+)', 1)",
        "l[1]",
        "list_contains(l, 5)",
        "{'a': n}",
        "coalesce(n, 0)",
        "CASE WHEN b THEN 1 ELSE 2 END",
        "substring(s, 1, 2)",
        "sum(n) OVER (ORDER BY i)",
        "row_number() OVER (ORDER BY n, i)",
        "n ** 2",
    ],
}
OTHER = {"spark": "duckdb", "duckdb": "spark"}


def query(expressions: list[str]) -> str:
    return "SELECT i, " + ", ".join(f"{text} AS r{number}" for number, text in enumerate(expressions)) + " FROM t"


@pytest.mark.parametrize("dialect", REFUSED)
def test_what_means_something_else_is_refused_with_its_line(dialect: str) -> None:
    for text in REFUSED[dialect]:
        with pytest.raises(UsageError) as caught:
            translated(f"SELECT\n  i,\n  {text} AS r\nFROM t", dialect, OTHER[dialect], COLUMNS, "q.sql")
        assert "line 3: " in str(caught.value)
    for text in ("LATERAL VIEW OUTER explode(l) AS x", "TABLESAMPLE (50 PERCENT)"):
        with pytest.raises(UsageError):
            translated(f"SELECT i FROM t {text}", "spark", "duckdb", COLUMNS, "q.sql")


@pytest.mark.spark
@pytest.mark.xdist_group("spark")
@pytest.mark.timeout(300)
@pytest.mark.usefixtures("spark_session_here")
@pytest.mark.parametrize("dialect", REFUSED)
def test_what_is_refused_does_differ_and_what_is_ported_does_not(dialect: str, tmp_path: Path) -> None:
    duckdb.execute(f"COPY ({ROWS}) TO '{tmp_path}/t.parquet'")
    engines = {name: open_engine(name) for name in OTHER}
    for engine in engines.values():
        engine.view("t", engine.read([tmp_path / "t.parquet"], "parquet", with_ds=False, options={}))
    refused, ported = query(REFUSED[dialect]), query(PORTED[dialect])
    before = results(engines[dialect], refused, tmp_path / "1")
    after = results(engines[OTHER[dialect]], transpile(refused, dialect, OTHER[dialect])[0], tmp_path / "2")
    same = [text for text, one, other in zip(REFUSED[dialect], before[1:], after[1:], strict=True) if one == other]
    assert same == []
    before = results(engines[dialect], ported, tmp_path / "3")
    text = translated(ported, dialect, OTHER[dialect], COLUMNS, "q.sql")
    after = results(engines[OTHER[dialect]], text, tmp_path / "4")
    different = [
        (text, one, other)
        for text, one, other in zip(PORTED[dialect], before[1:], after[1:], strict=True)
        if one != other
    ]
    assert different == []
    for engine in engines.values():
        engine.close()


def results(engine: Any, text: str, folder: Path) -> list[tuple[str, list[Any]]]:
    """Give the columns of a query's result: their types in common words, and their values."""
    folder.mkdir()
    engine.write(engine.sql(text), folder / "0.parquet", DS)
    found = duckdb.execute(f"SELECT * FROM '{folder}/*.parquet' ORDER BY i")
    types = [common_type(str(column[1])) for column in found.description]
    rows = found.fetchall()
    return [(type_, [plain(row[place]) for row in rows]) for place, type_ in enumerate(types)]


def plain(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 9) if math.isfinite(value) else str(value)
    if isinstance(value, dt.datetime):
        return value.replace(tzinfo=None).isoformat()
    return float(value) if isinstance(value, decimal.Decimal) else value


def test_what_is_filled_in_stays_filled_in() -> None:
    text = "SELECT l[1] AS x, '{{ ds }}' AS day FROM t WHERE n > {{ limit }} AND ds = '{{ ds }}'"
    ported = translated(text, "duckdb", "spark", COLUMNS, "q.sql")
    assert "l[0] AS x" in ported
    assert ported.count("'{{ ds }}'") == 2
    assert "n > {{ limit }}" in ported


def test_a_text_that_means_the_same_stays_as_it_is() -> None:
    text = "select  n,\n  -- the days\n  d\nfrom t -- all\n"
    assert translated(text, "duckdb", "spark", COLUMNS, "q.sql") == text


def test_a_cast_that_fails_fails_there_too() -> None:
    assert "TRY" not in translated("SELECT cast(s AS string), x[0] FROM t", "spark", "duckdb", COLUMNS, "q.sql")
    assert "TRY_CAST" in translated("SELECT try_cast(s AS int), x[0] FROM t", "spark", "duckdb", COLUMNS, "q.sql")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("SELECT 1\n{% if true %}, 2{% endif %}", "line 2: a query that is put together"),
        ("SELECT 1; SELECT 2", "2 statements"),
        ("SELECT FROM WHERE", "not valid SQL"),
    ],
)
def test_what_cannot_be_read_is_refused(text: str, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        translated(text, "duckdb", "spark", {}, "q.sql")


# ---- whose SQL a query is

SPEC = "version: 1\nkind: sql\n{}output: {{table: t}}\n"
ENVIRONMENTS = WORKSPACE + "environments:\n  big: {engine: spark}\n"


def with_query(spec: str, text: str = "SELECT 1 AS x", settings: str = ENVIRONMENTS) -> Tree:
    return {"dsflow.yml": settings, "jobs/t/job_specs.yaml": SPEC.format(spec), "jobs/t/query.sql": text}


@pytest.mark.parametrize(
    ("spec", "arguments"),
    [
        ("engine: spark\ndialect: duckdb\n", ()),
        ("dialect: spark\n", ()),
        ("", ("--env", "big")),
        ("dialect: duckdb\n", ("--env", "big")),
    ],
)
def test_sql_is_never_computed_by_another_engine_unasked(
    make_workspace: MakeWorkspace, dsflow: Dsflow, spec: str, arguments: tuple[str, ...]
) -> None:
    make_workspace(with_query(spec))
    for command in (("run", "t", DS), ("validate", "t")):
        screen = dsflow(*arguments, *command)
        assert screen.exit_code == 2
        assert "jobs/t/query.sql is written in the SQL of " in screen.out + screen.err
        assert "`dsflow port t --to " in screen.out + screen.err


@pytest.mark.parametrize(
    ("spec", "settings"),
    [
        ("", "version: 1\nruntime: process\n"),
        ("dialect: [duckdb, spark]\n", "version: 1\nruntime: process\n"),
        ("dialect: duckdb\n", "version: 1\nruntime: process\n"),
        ("engine: duckdb\n", "version: 1\nruntime: process\nengine: spark\n"),
    ],
)
def test_a_query_in_its_engines_sql_runs(
    make_workspace: MakeWorkspace, dsflow: Dsflow, spec: str, settings: str
) -> None:
    make_workspace(with_query(spec, settings=settings))
    screen = dsflow("run", "t", DS)
    assert screen.exit_code == 0, screen.err


def test_only_a_query_has_a_dialect(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    tree = with_query("dialect: french\n")
    make_workspace(tree)
    assert "dialect[0]: 'french' is not one of duckdb, spark" in dsflow("validate", "t").out
    make_workspace({**tree, "jobs/t/job_specs.yaml": SPEC.format("dialect: spark\n").replace("sql", "notebook")})
    assert "dialect: only a sql job has one" in dsflow("validate", "t").out


# ---- the command

NUMBERS: Tree = {
    "dsflow.yml": WORKSPACE,
    "jobs/numbers/job_specs.yaml": "version: 1\nkind: sql\noutput: {table: numbers}\n",
    "jobs/numbers/query.sql": "SELECT range AS n, [range, 5] AS l, 'a' || range AS s FROM range(20)",
    "jobs/t/job_specs.yaml": "version: 1 # the first\nkind: sql\n# what it reads\ninputs: {numbers: {table: numbers}}\n"
    "output: {table: t}\n",
    "jobs/t/query.sql": "SELECT l[1] AS first, sum(n) AS s FROM numbers WHERE n > 3 AND ds = '{{ ds }}' GROUP BY 1\n",
}


def files(workspace: Any) -> tuple[str, str]:
    folder = workspace.jobs / "t"
    assert sorted(path.name for path in folder.iterdir()) == ["job_specs.yaml", "query.sql"]
    return (folder / "job_specs.yaml").read_text(), (folder / "query.sql").read_text()


@pytest.mark.spark
@pytest.mark.xdist_group("spark")
@pytest.mark.timeout(300)
@pytest.mark.usefixtures("spark")
def test_a_query_is_ported_when_both_make_the_same(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    workspace = make_workspace(NUMBERS)
    assert dsflow("run", "+t", DS).exit_code == 0
    before = files(workspace)
    assert dsflow("port", "t", "--to", "spark").exit_code == 2
    assert files(workspace) == before
    screen = dsflow("port", "t", "--to", "spark", "-y", "--rows", "10")
    assert screen.exit_code == 0, screen.err
    assert "+  l[0] AS first" in screen.out
    assert f"ds={DS}, with some of the rows of numbers." in screen.err
    spec, text = files(workspace)
    assert spec == before[0].replace("kind: sql\n", "kind: sql\nengine: spark\n")
    assert "'{{ ds }}'" in text
    # The table stays what it was, type by type.
    [manifest] = workspace.datastore.glob(".dsflow/manifests/tables/t/*.json")
    was = json.loads(manifest.read_text())
    assert dsflow("run", "t", DS).exit_code == 0
    now = json.loads(manifest.read_text())
    assert (now["columns"], now["run_id"] == was["run_id"]) == (was["columns"], False)
    # A look is no run.
    assert len(list(workspace.datastore.glob("job_runs/t/ds=*/*"))) == 2
    # And back.
    screen = dsflow("--json", "port", "t", "--to", "duckdb", "-y")
    assert screen.document["written"]
    assert dsflow("run", "t", DS).exit_code == 0
    assert list((workspace.datastore / ".dsflow" / "apart").iterdir()) == []


@pytest.mark.spark
@pytest.mark.xdist_group("spark")
@pytest.mark.timeout(300)
@pytest.mark.usefixtures("spark")
@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("SELECT upper(s || 'ß') AS u, n FROM numbers", "the two queries do not make the same"),
        ("SELECT n FROM numbers WHERE n > 1000", "both made no rows at all, which proves nothing"),
    ],
)
def test_nothing_is_written_without_proof(make_workspace: MakeWorkspace, dsflow: Dsflow, text: str, told: str) -> None:
    workspace = make_workspace({**NUMBERS, "jobs/t/query.sql": text})
    assert dsflow("run", "numbers", DS).exit_code == 0
    before = files(workspace)
    screen = dsflow("port", "t", "--to", "spark", "-y")
    assert screen.exit_code == 1
    assert f"Not ported: {told}." in screen.out
    assert files(workspace) == before


def test_without_data_there_is_no_proof(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    workspace = make_workspace(NUMBERS)
    before = files(workspace)
    screen = dsflow("port", "t", "--to", "spark", "-y")
    assert screen.exit_code == 1
    assert "there is no date for which all inputs are there" in screen.out
    assert files(workspace) == before
    screen = dsflow("port", "t", "--to", "spark", "-y", "--anyway")
    assert screen.exit_code == 0
    assert "engine: spark" in files(workspace)[0]


@pytest.mark.parametrize(("kind", "main"), [("notebook", "n.py"), ("script", "n.py")])
def test_only_a_query_can_be_ported(make_workspace: MakeWorkspace, dsflow: Dsflow, kind: str, main: str) -> None:
    make_workspace({"jobs/t/job_specs.yaml": f"version: 1\nkind: {kind}\noutput: {{table: t}}\n", f"jobs/t/{main}": ""})
    screen = dsflow("port", "t", "--to", "spark")
    assert screen.exit_code == 2
    assert f"t is a {kind}: only the query of a sql job can be ported" in screen.err
    assert "`dsflow parity t`" in screen.err


def test_a_query_that_is_in_that_sql_is_left_alone(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    make_workspace(NUMBERS)
    screen = dsflow("port", "t", "--to", "duckdb")
    assert screen.exit_code == 2
    assert "is in the SQL of DuckDB already" in screen.err


def test_what_ends_a_port_in_its_middle_leaves_no_job_that_the_wrong_engine_computes(
    make_workspace: MakeWorkspace, dsflow: Dsflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = make_workspace(NUMBERS)
    before = files(workspace)
    write, seen = durable.write_text, list[Screen]()

    def ends(path: Path, text: str) -> None:
        if path.name == "query.sql" and not seen:
            # As it is for whoever looks now, or finds it after a crash.
            seen.append(dsflow("run", "t", DS))
            raise KeyboardInterrupt
        write(path, text)

    monkeypatch.setattr(porting, "write_text", ends)
    dsflow("port", "t", "--to", "spark", "-y", "--anyway")
    assert "is written in the SQL of DuckDB, and would be computed by Spark" in seen[0].err
    assert files(workspace) == before


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("version: 1\nkind: sql\nengine: duckdb # quick\n", "version: 1\nkind: sql\nengine: spark # quick\n"),
        ("kind: sql\ndialect: duckdb\nversion: 1\n", "kind: sql\nengine: spark\ndialect: spark\nversion: 1\n"),
        ("dialect: [duckdb]\nengine: duckdb\nkind: sql\n", "dialect: spark\nengine: spark\nkind: sql\n"),
    ],
)
def test_the_spec_keeps_its_comments_and_order(spec: str, expected: str) -> None:
    assert porting.spec_for(spec, "spark", "spark", "job_specs.yaml") == expected


def test_a_spec_that_is_written_otherwise_is_not_touched() -> None:
    with pytest.raises(UsageError, match="is written in a way that dsflow does not change"):
        porting.spec_for("{version: 1, kind: sql}\n", "spark", "spark", "job_specs.yaml")
