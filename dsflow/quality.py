"""Expectations on staged rows: count the violations, then allow them, drop them, or fail the run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dsflow.engines.contract import Engine
from dsflow.errors import ExpectationFailed
from dsflow.model import Check, Expectation
from dsflow.quantities import show_count


def judge(engine: Engine, files: Sequence[Path], expectations: Sequence[Expectation]) -> tuple[Check, ...]:
    """Give the verdict on each expectation over some staged Parquet files; a NULL breaks an expectation too.

    Raises:
        ExpectationFailed: rows broke an expectation whose action is `fail`.
        JobFailed: a constraint is not valid.
    """
    if not expectations or not files:
        return ()
    checks = engine.check(files, expectations)
    broken = [check for check in checks if check.action == "fail" and check.violations]
    if broken:
        first = broken[0]
        more = f" ({len(broken) - 1} more failed too)" if len(broken) > 1 else ""
        counted = f"{first.violations:,} of {show_count(first.rows, 'row')}"
        raise ExpectationFailed(
            f"expectation {first.name!r} ({first.constraint}) failed for {counted}{more}",
            "Nothing was published; the partition is as it was before.",
            checks=checks,
        )
    return checks


def drop(engine: Engine, files: Sequence[Path], checks: Sequence[Check], folder: Path, run_id: str) -> list[Path]:
    """Leave out of staged files the rows that broke an expectation whose action is `drop`.

    Gives the files that hold the rows that are left.
    """
    constraints = [check.constraint for check in checks if check.action == "drop" and check.violations]
    if not constraints:
        return list(files)
    kept = folder / f"{run_id}-part-kept.parquet"
    engine.keep(files, constraints, kept)
    for file in files:
        file.unlink()
    return [kept.rename(folder / f"{run_id}-part-0.parquet")]
