"""Constraints made to do harm: nothing is written, no other file is read, and the process lives."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dsflow import quality
from dsflow.conditions import LONGEST, condition_of
from dsflow.engines.contract import Engine
from dsflow.engines.locked import locked
from dsflow.engines.registry import open_engine
from dsflow.errors import JobFailed, UsageError
from dsflow.model import Expectation
from dsflow.quality import Subject

hostile = settings(
    max_examples=200,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
SECRET = "the-secret-of-another-file"

# Between the pieces are blanks.
PIECES = """
x s t rowid "x" 1 0 -1 1e308 'a' '''' NULL true DATE ( ) , ; . * + - / % || = <> < > >= AND OR NOT IN IS BETWEEN LIKE
SELECT FROM WHERE UNION WITH AS EXISTS ALL ANY VALUES CASE WHEN THEN ELSE END OVER PARTITION BY FILTER DISTINCT LIMIT
INSERT UPDATE DELETE DROP CREATE TABLE VIEW ATTACH DETACH COPY TO EXPORT IMPORT INSTALL LOAD PRAGMA SET RESET CALL
CHECKPOINT EXECUTE PREPARE SECRET MACRO EXPLAIN COLUMNS LAMBDA -- /* */ $1 ? :x @x # { } [ ] :: -> ->> := ~ ^ & |
read_text( read_csv( read_parquet( read_blob( glob( getenv( query( query_table( current_setting( pg_sleep( random()
now( nextval( repeat( range( generate_series( list_transform( count( sum( max( coalesce( length( cast( try_cast(
dsflow_rows 'secret.txt' '/etc/passwd' information_schema.tables duckdb_settings() sqlite_master é 🦆
"""
ODD = ("\n", "\0", "\ufeff", "\u202e", "")

WRAPPED = [
    "{}",
    "({}) IS NULL",
    "x IN ({})",
    "x > 0 OR {}",
    "x > 0; {}",
    "x > 0) FROM dsflow_rows; {}; SELECT (true",
    "x > 0 -- {}\n",
    "x > 0 /* {} */",
    "EXISTS ({})",
    "(SELECT count(*) FROM ({})) > 0",
    "coalesce(({}), '') <> ''",
    "CASE WHEN x > 0 THEN ({}) END IS NULL",
    "'{}' = s",
    '"{}" = s',
    "s = $${}$$",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("hostile")
    (made / "secret.txt").write_text(SECRET)
    (made / "secret.csv").write_text(f"a\n{SECRET}\n")
    rows = "SELECT * FROM (VALUES (1, 'a', DATE '2026-11-20'), (-1, NULL, NULL), (0, 'b', NULL)) AS t(x, s, t)"
    duckdb.connect().execute(f"COPY ({rows}) TO '{made / 'rows.parquet'}' (FORMAT parquet)")
    return made


@pytest.fixture(scope="module")
def engine(folder: Path) -> Iterator[Engine]:
    before = Path.cwd()
    os.chdir(folder)
    opened = open_engine("duckdb", threads=1, memory=200_000_000)
    yield opened
    opened.close()
    os.chdir(before)


@pytest.fixture(scope="module")
def judge(engine: Engine, folder: Path) -> Callable[[str], None]:
    """Give a function that judges a constraint and makes sure that nothing else happened."""
    file = folder / "rows.parquet"
    subject = Subject(table="t", files=[file], columns=engine.inspect([file]).columns)

    def run(text: str) -> None:
        before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
        told = ""
        try:
            [check] = quality.judge(engine, subject, [Expectation(name="e", constraint=text)])
            assert (check.rows, check.violations in range(4)) == (3, True)
            told = f"{check.found} {check.examples}"
        except JobFailed as error:
            told = error.message + error.hint
            assert "Traceback" not in told
        assert SECRET not in told
        assert "root:x:" not in told
        assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before

    return run


@hostile
@given(
    pieces=st.lists(st.sampled_from([*PIECES.split(), *ODD]), min_size=1, max_size=14), glue=st.sampled_from([" ", ""])
)
def test_any_mixture_of_sql(judge: Callable[[str], None], pieces: list[str], glue: str) -> None:
    judge(glue.join(pieces))


@hostile
@given(text=st.text(max_size=60))
def test_any_text(judge: Callable[[str], None], text: str) -> None:
    judge(text)


ATTACKS = [
    "SELECT * FROM read_text('secret.txt')",
    "SELECT content FROM read_text('{folder}/secret.txt')",
    "SELECT a FROM read_csv('secret.csv')",
    "SELECT * FROM 'secret.csv'",
    'SELECT * FROM "secret.csv"',
    "SELECT * FROM glob('/*')",
    "SELECT * FROM duckdb_settings()",
    "SELECT * FROM duckdb_secrets()",
    "SELECT * FROM query('SELECT 1')",
    "FROM dsflow_rows",
    "SELECT getenv('PATH')",
    "COPY (SELECT 1) TO 'written.csv'",
    "COPY dsflow_rows TO 'written.parquet'",
    "ATTACH 'written.db'",
    "EXPORT DATABASE 'written'",
    "INSTALL httpfs",
    "LOAD httpfs",
    "SET enable_external_access = true",
    "PRAGMA database_list",
    "CREATE TABLE a AS SELECT 1",
    "DROP VIEW dsflow_rows",
    "INSERT INTO dsflow_rows VALUES (1)",
    "CALL pragma_version()",
    "CHECKPOINT",
    "SELECT repeat('x', 100000000000)",
    "SELECT count(*) FROM range(100000000000) AS a, range(100000000000) AS b",
    "SELECT * FROM read_parquet('http://127.0.0.1:{port}/x.parquet')",
]


@pytest.mark.parametrize("wrapped", WRAPPED)
def test_attacks(judge: Callable[[str], None], folder: Path, wrapped: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0)
        for attack in ATTACKS:
            judge(wrapped.format(attack.format(folder=folder, port=server.getsockname()[1])))
        with pytest.raises(BlockingIOError):  # nobody called
            server.accept()


@pytest.mark.parametrize(
    "text",
    [
        " OR ".join(["x > 0"] * 500_000),
        "x" * 2_000_000,
        "(" * 9_999,
        "NOT " * 2_400 + "x",
        "-" * 4_999 + "x",
        "x IN (" + ", ".join(map(str, range(2_000))) + ")",
        "x" + "::VARCHAR" * 1_000,
        "CASE " + "WHEN x > 0 THEN true " * 450 + "END",
        " AND ".join(f"x < {number}" for number in range(900)),
        "x = " + "+".join(["1"] * 4_900),
        "s LIKE '" + "%a" * 4_000 + "'",
        "regexp_matches(s, '" + "(a*)*" * 1_500 + "')",
        "s = '" + "🦆" * 9_000 + "'",
        "pow(pow(pow(x + 9, 99), 99), 99) > 0",
        "x = 9" + "9" * 5_000,
        "CAST(s AS DECIMAL(999, 998)) > 0",
        "t + INTERVAL '999999999' YEAR > t",
    ],
    ids=range(17),
)
def test_very_long_and_very_deep_ones(judge: Callable[[str], None], text: str) -> None:
    judge(text)
    if len(text) > LONGEST:
        with pytest.raises(UsageError, match="is the most"):
            condition_of(text, "e")


@pytest.mark.parametrize("attack", [attack for attack in ATTACKS if "range(" not in attack and "repeat" not in attack])
def test_the_second_wall_holds_alone(folder: Path, attack: str) -> None:
    """What a statement could do that came past the list of what a condition may hold."""
    harmless = (
        "FROM dsflow_rows",
        "duckdb_settings",
        "database_list",
        "query('SELECT 1')",
        "pragma_version",
        "CREATE",
        "DROP",
    )
    before = sorted(folder.rglob("*"))
    with locked({"threads": 1}, {"dsflow_rows": [folder / "rows.parquet"]}) as connection:
        if any(word in attack for word in (*harmless, "CHECKPOINT")):
            assert SECRET not in str(connection.execute(attack).fetchall())
        else:
            with pytest.raises(duckdb.Error):
                connection.execute(attack.format(folder=folder, port=9)).fetchall()
    assert sorted(folder.rglob("*")) == before


def test_the_lock_cannot_be_opened(folder: Path) -> None:
    with locked({"threads": 1}, {"dsflow_rows": [folder / "rows.parquet"]}) as connection:
        for setting in (
            "lock_configuration = false",
            "allowed_paths = ['/etc/passwd']",
            "enable_external_access = true",
        ):
            with pytest.raises(duckdb.Error):
                connection.execute(f"SET {setting}")
        assert connection.execute("SELECT count(*) FROM dsflow_rows").fetchall() == [(3,)]
