"""Every engine gives the same verdict on every case of the conformance table, and sets the same rows aside."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet
import pytest

from dsflow import quality, shortforms
from dsflow.engines.contract import Engine
from dsflow.engines.registry import ENGINES, open_engine
from dsflow.engines.spark import Spark
from dsflow.model import Check, Input
from dsflow.quality import Subject
from dsflow.shortforms import Setting
from tests.conformance import CASES, END, OTHERS, ROWS, Case, translated
from tests.spark_server import MARKS, join

SETTING = Setting(
    table="t",
    end=END,
    previous=lambda: shortforms.previous("t", "2026-11-19"),
    source=lambda table: Input(name=table, kind="table", target=table),
)


@dataclass(frozen=True)
class Judged:
    """What an engine says of some rows: a verdict by expectation, the rows that broke it, and those that are kept."""

    checks: dict[str, Check]
    broken: dict[str, list[int]]
    kept: list[int]
    rows: list[int]


def write(sql: str, path: Path) -> Path:
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(f"COPY ({sql}) TO '{path}' (FORMAT parquet)")
    return path


def numbers(path: Path, more: str = "") -> list[Any]:
    with duckdb.connect() as connection:
        found = connection.execute(f"SELECT i{more} FROM read_parquet('{path}') ORDER BY i").fetchall()
    return found if more else [row[0] for row in found]


def judged(engine: Engine, rows: str, folder: Path) -> Judged:
    file = write(ROWS[rows], folder / "r-part-0.parquet")
    others = {name: [_as_its_own(engine, write(sql, folder / f"{name}.parquet"))] for name, sql in OTHERS.items()}
    file = _as_its_own(engine, file)
    sources = {"t@previous" if name == "previous" else name: files for name, files in others.items()}
    columns = engine.inspect([file]).columns
    subject = Subject(table="t", files=[file], columns=columns, sources=sources)
    asked = [_asked(case) for case in CASES if case.rows == rows]
    checks = quality.judge(engine, subject, asked, examples=0)
    per_row = {check.name for check in checks if check.per == "row"}
    if not any(check.violations for check in checks if check.per == "row"):
        return Judged({check.name: check for check in checks}, {}, numbers(file), numbers(file))
    kept, dropped = folder / "kept.parquet", folder / "dropped.parquet"
    quality.separate(engine, subject, [one for one in asked if one.name in per_row], checks, kept, dropped)
    broken: dict[str, list[int]] = {}
    for i, names in numbers(dropped, ", failed_expectations"):
        for name in names:
            broken.setdefault(name, []).append(i)
    return Judged({check.name: check for check in checks}, broken, numbers(kept), numbers(file))


def _as_its_own(engine: Engine, file: Path) -> Path:
    """Give rows in a file as the engine writes it."""
    own = file.with_name(f"own-{file.name}")
    engine.write(engine.read([file], "parquet", with_ds=False, options={}), own, "2026-11-20")
    return own


def _asked(case: Case) -> Any:
    given = {"constraint": case.given} if isinstance(case.given, str) else dict(case.given)
    return shortforms.expectation({**given, "name": case.name}, "drop" if _is_per_row(case) else "fail", SETTING)


def _is_per_row(case: Case) -> bool:
    return not isinstance(case.broken, bool)


class SparksOwn(Spark):
    """Spark where it answers the questions itself, in its own words, instead of leaving them to DuckDB."""

    def ask(self, query: str, tables: Mapping[str, Sequence[Path]], *, calls: bool = True) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in self._asked(query, tables).collect()]

    def extract(self, query: str, tables: Mapping[str, Sequence[Path]], path: Path) -> None:
        pyarrow.parquet.write_table(self._asked(query, tables).toArrow(), path)

    def _asked(self, query: str, tables: Mapping[str, Sequence[Path]]) -> Any:
        for name, files in tables.items():
            self.session.read.parquet(*map(str, files)).createOrReplaceTempView(name)
        return self.session.sql(translated(query, "spark"))


OPENED: dict[str, Callable[[], Engine]] = {
    **{name: partial(open_engine, name) for name in sorted(ENGINES)},
    "spark's own": SparksOwn,
}
KINDS = [pytest.param(name, marks=MARKS["spark"] if "spark" in name else []) for name in OPENED]


@pytest.fixture(scope="module", params=KINDS)
def judge(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], Judged]]:
    with pytest.MonkeyPatch.context() as patch:
        if "spark" in request.param:
            join(request.getfixturevalue("spark_server"), patch)
        engine = OPENED[request.param]()
        yield cache(lambda rows: judged(engine, rows, tmp_path_factory.mktemp("rows")))
        engine.close()


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_the_verdict_and_the_rows(judge: Callable[[str], Judged], case: Case) -> None:
    found = judge(case.rows)
    check = found.checks[case.name]
    assert check.rows == len(found.rows)
    if isinstance(case.broken, bool):
        assert (check.per, check.violations) == ("partition", int(case.broken)), check.found
        return
    assert found.broken.get(case.name, []) == list(case.broken)
    assert (check.per, check.violations) == ("row", len(case.broken))


@pytest.mark.parametrize("rows", ROWS)
def test_each_row_is_kept_or_set_aside(judge: Callable[[str], Judged], rows: str) -> None:
    found = judge(rows)
    aside = sorted({i for broken in found.broken.values() for i in broken})
    assert sorted([*found.kept, *aside]) == found.rows


def test_there_are_enough_cases() -> None:
    assert len(CASES) >= 120
    assert len({case.name for case in CASES}) == len(CASES)
