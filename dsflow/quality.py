"""Expectations on rows that nobody can see yet: count the violations, show some, and set rows aside.

All conditions on rows and all on the partition are one SELECT with one aggregate each: one pass over the data. The SQL
is DuckDB's; an engine that speaks another dialect translates it (`dsflow.engines.contract`).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dsflow import shapes
from dsflow.conditions import Condition, check_columns, condition_of
from dsflow.engines.contract import Engine
from dsflow.errors import ExpectationFailed, JobFailed, UsageError
from dsflow.masking import MASK, is_secret
from dsflow.model import Check, Column, Expectation, Shape
from dsflow.quantities import show_count

FAILED = "failed_expectations"
EXAMPLES = 3

_ROWS = "dsflow_rows"
_LONGEST_VALUE = 60
_MOST_COLUMNS = 8
_SEPARATOR = "chr(31)"  # no name has it


@dataclass(frozen=True, kw_only=True)
class Subject:
    """The rows that are checked, and what they are compared with.

    Attributes:
        table: The table they are for.
        files: Their Parquet files, one or more.
        columns: Their columns.
        sources: The files behind each table that an expectation names. Of `NAME@previous` there are none where nothing
            came before.
        previous: The columns of the partition before, or None where there is none.
        engine: The engine whose words the types are in.
    """

    table: str
    files: Sequence[Path]
    columns: tuple[Column, ...]
    sources: Mapping[str, Sequence[Path]] = field(default_factory=dict)
    previous: tuple[Column, ...] | None = None
    engine: str = "duckdb"


@dataclass(frozen=True)
class _Asked:
    """An expectation with its condition as SQL; `mark` is the column that says whether a row meets it."""

    expectation: Expectation
    condition: Condition
    sql: str
    mark: str
    amounts: Mapping[str, str]


@dataclass(frozen=True)
class _Question:
    """Conditions over a subject, and the names under which the engine finds its files."""

    tables: Mapping[str, Sequence[Path]]
    rows: tuple[_Asked, ...]
    whole: tuple[_Asked, ...]

    def marked(self, wanted: Sequence[_Asked]) -> str:
        """Give a SELECT of all rows with a column for each wanted condition; NULL counts as false."""
        marks = "".join(f", coalesce(CAST(({one.sql}) AS BOOLEAN), false) AS {_quoted(one.mark)}" for one in wanted)
        return f"SELECT *{marks} FROM {_quoted(_ROWS)}"


def judge(
    engine: Engine, subject: Subject, expectations: Sequence[Expectation], examples: int = EXAMPLES
) -> tuple[Check, ...]:
    """Give the verdict on each expectation; a condition that is NULL for a row is broken by it.

    Args:
        engine: A session to do it with.
        subject: The rows.
        expectations: What is expected of them.
        examples: How many of the rows that break one to show, at most.

    Raises:
        JobFailed: an expectation is there twice, is no valid condition over these columns, or cannot be computed.
    """
    question = _question(subject, expectations)
    found = _counted(engine, question)
    checks = []
    for expectation in expectations:
        if expectation.shape is not None:
            checks.append(_check_of_shape(expectation, expectation.shape, subject, found.rows))
            continue
        check = found.checks.get(expectation.name) or _not_compared(expectation, found.rows)
        if check.violations and check.per == "row" and examples:
            [asked] = [one for one in question.rows if one.expectation.name == check.name]
            check = dataclasses.replace(check, examples=_examples(engine, question, asked, subject, examples))
        checks.append(check)
    return tuple(checks)


def judge_rest(
    engine: Engine, subject: Subject, expectations: Sequence[Expectation], checks: Sequence[Check]
) -> tuple[Check, ...]:
    """Give the verdicts again after rows were dropped: what is about the whole partition is about those that are left.

    Args:
        engine: A session to do it with.
        subject: The rows that are left.
        expectations: All that is expected.
        checks: The verdicts on all rows.
    """
    whole = {check.name for check in checks if check.per == "partition"}
    again = judge(engine, subject, [one for one in expectations if one.name in whole], 0) if whole else ()
    new = {check.name: check for check in again}
    return tuple(new.get(check.name, check) for check in checks)


def refuse(checks: Sequence[Check]) -> None:
    """Stop a run whose rows may not be published.

    Raises:
        ExpectationFailed: one of the checks failed.
    """
    failed = [check for check in checks if check.verdict == "failed"]
    if not failed:
        return
    first = failed[0]
    others = ", ".join(repr(check.name) for check in failed[1:])
    raise ExpectationFailed(
        f"expectation {first.name!r} ({first.constraint}) failed{_extent(first)}"
        + (f"; so did {others}" if others else ""),
        "Nothing was published; the partition is as it was before.",
        checks=checks,
    )


def separate(
    engine: Engine,
    subject: Subject,
    expectations: Sequence[Expectation],
    checks: Sequence[Check],
    kept: Path,
    dropped: Path,
) -> None:
    """Write the rows that meet every expectation whose action is `drop`, and those that do not.

    What is dropped has one more column, the names of all expectations that the row broke, whatever their action.

    Args:
        engine: A session to do it with.
        subject: The rows.
        expectations: What is expected of them.
        checks: The verdicts.
        kept: The file for the rows that stay.
        dropped: The file for the others.

    Raises:
        JobFailed: the table has a column of the name that the quarantine gives to its own.
    """
    if FAILED in {column.name.casefold() for column in subject.columns}:
        raise JobFailed(f"table {subject.table} has a column {FAILED!r}, which its quarantine needs", "Rename it.")
    broken = {check.name for check in checks if check.violations}
    question = _question(subject, [one for one in expectations if one.name in broken and one.shape is None])
    dropping = [one for one in question.rows if one.expectation.action == "drop"]
    columns = ", ".join(_quoted(column.name) for column in subject.columns)
    stays = " AND ".join(_quoted(one.mark) for one in dropping)
    engine.extract(f"SELECT {columns} FROM ({question.marked(dropping)}) WHERE {stays}", question.tables, kept)
    names = ", ".join(
        f"CASE WHEN NOT {_quoted(one.mark)} THEN {_text(one.expectation.name)} END" for one in question.rows
    )
    failed = f"string_split(concat_ws({_SEPARATOR}, {names}), {_SEPARATOR}) AS {FAILED}"
    marked = question.marked(question.rows)
    engine.extract(f"SELECT {columns}, {failed} FROM ({marked}) WHERE NOT ({stays})", question.tables, dropped)


def nothing_dropped(engine: Engine, subject: Subject, path: Path) -> None:
    """Write a quarantine without rows, with the columns it would have."""
    columns = ", ".join(_quoted(column.name) for column in subject.columns)
    failed = f"string_split('', {_SEPARATOR}) AS {FAILED}"
    engine.extract(f"SELECT {columns}, {failed} FROM {_quoted(_ROWS)} WHERE false", {_ROWS: subject.files}, path)


def _question(subject: Subject, expectations: Sequence[Expectation]) -> _Question:
    _refuse_twice(expectations)
    known = {subject.table: _ROWS} | {name: f"dsflow_table_{number}" for number, name in enumerate(subject.sources)}
    tables = {_ROWS: subject.files} | {known[name]: files for name, files in subject.sources.items()}
    rows: list[_Asked] = []
    whole: list[_Asked] = []
    for number, expectation in enumerate(expectations):
        named = [source.name for source in expectation.sources]
        if expectation.shape is not None or any(name not in subject.sources for name in named):
            continue
        try:
            condition = understood(expectation, subject.table, subject.columns)
        except UsageError as error:
            raise JobFailed(error.message, error.hint) from None
        asked = _Asked(expectation, condition, condition.sql(known), f"#{number}", condition.amounts(known))
        (rows if condition.per == "row" else whole).append(asked)
    used = {_ROWS, *(known[name] for one in [*rows, *whole] for name in one.condition.tables)}
    return _Question({name: files for name, files in tables.items() if name in used}, tuple(rows), tuple(whole))


def understood(expectation: Expectation, table: str, columns: Sequence[Column] | None, where: str = "") -> Condition:
    """Read the condition of an expectation and check it against the columns it is about, where they are known.

    Args:
        expectation: It must have no shape.
        table: The table it is about.
        columns: The table's columns, or None.
        where: How messages call it.

    Raises:
        UsageError: it may not be one, names a column that is not there, or cannot do what its action is.
    """
    where = where or _where(expectation)
    condition = condition_of(expectation.constraint, where, (table, *(s.name for s in expectation.sources)))
    if columns is not None:
        check_columns(condition, [column.name for column in columns], where)
    counts = expectation.max_failures is not None or expectation.max_share is not None
    if condition.per == "partition" and (expectation.action == "drop" or counts):
        what = "nothing of it can be dropped" if expectation.action == "drop" else "'max_failures' counts rows"
        raise UsageError(f"{where}: with an aggregate it is about the whole partition, and {what}")
    return condition


def bind(engine: Engine, subject: Subject, expectation: Expectation) -> None:
    """Have an engine look whether a condition fits the types of the columns; no row is read.

    Raises:
        JobFailed: it does not.
    """
    question = _question(subject, [expectation])
    for one in (*question.rows, *question.whole):
        asked = f"CAST(({one.sql}) AS BOOLEAN)"
        engine.ask(f"SELECT {asked} FROM (SELECT * FROM {_quoted(_ROWS)} WHERE false) LIMIT 0", question.tables)


def _refuse_twice(expectations: Sequence[Expectation]) -> None:
    names = [expectation.name for expectation in expectations]
    for name in names:
        if names.count(name) > 1:
            raise JobFailed(f"expectation {name!r} is there twice", "Give each a name of its own.")


@dataclass(frozen=True)
class _Counted:
    rows: int
    checks: Mapping[str, Check]


def _counted(engine: Engine, question: _Question) -> _Counted:
    """Ask for everything at once; where that fails, ask for each alone to find out which one it was."""
    try:
        return _ask(engine, question)
    except JobFailed:
        alone = [_Question(question.tables, (one,), ()) for one in question.rows]
        alone += [_Question(question.tables, (), (one,)) for one in question.whole]
        for one in alone:
            try:
                _ask(engine, one)
            except JobFailed as error:
                [asked] = [*one.rows, *one.whole]
                raise JobFailed(f"{_where(asked.expectation)}: {_reason(error)}") from error
        raise


def _ask(engine: Engine, question: _Question) -> _Counted:
    marked = [one for one in question.rows if not one.condition.unique_columns()]
    listed: list[tuple[_Asked, str]] = [(one, _violations(one)) for one in question.rows]
    listed += [(one, f"coalesce(CAST(({one.sql}) AS BOOLEAN), false)") for one in question.whole]
    more = [sql for one in question.whole for sql in one.amounts.values()]
    wanted = ", ".join(["count(*)", *(sql for _, sql in listed), *more])
    calls = any(one.condition.calls for one in (*question.rows, *question.whole))
    [row] = engine.ask(f"SELECT {wanted} FROM ({question.marked(marked)})", question.tables, calls=calls)
    rows, verdicts, values = row[0], row[1 : 1 + len(listed)], list(row[1 + len(listed) :])
    checks = {}
    for (asked, _), verdict in zip(listed, verdicts, strict=True):
        expectation, per_row = asked.expectation, asked.condition.per == "row"
        found = "" if per_row else "; ".join(f"{name} = {_shown(values.pop(0))}" for name in asked.amounts)
        violations = verdict if per_row else int(not verdict)
        checks[expectation.name] = _check(expectation, rows, violations, asked.condition.per, found)
    return _Counted(rows, checks)


def _violations(asked: _Asked) -> str:
    columns = ", ".join(asked.condition.unique_columns())
    if not columns:
        return f"count(*) FILTER (WHERE NOT {_quoted(asked.mark)})"
    # The same number as by the window, for a fraction of the time: no row has to be sorted.
    groups = f"SELECT count(*) AS n FROM {_quoted(_ROWS)} GROUP BY {columns} HAVING count(*) > 1"
    return f"(SELECT coalesce(sum(n), 0) FROM ({groups}))"


def _check(expectation: Expectation, rows: int, violations: int, per: Any, found: str = "") -> Check:
    limit = expectation.max_failures
    if expectation.max_share is not None:
        # 0.29 * 100 is a little less than 29 to a computer.
        limit = math.floor(expectation.max_share * rows + 1e-9)
    return Check(
        name=expectation.name,
        constraint=expectation.constraint,
        action=expectation.action,
        rows=rows,
        violations=int(violations),
        severity=expectation.severity,
        limit=limit,
        per=per,
        found=found,
    )


def _not_compared(expectation: Expectation, rows: int) -> Check:
    return _check(expectation, rows, 0, "partition", "there is no earlier partition to compare with")


def _check_of_shape(expectation: Expectation, shape: Shape, subject: Subject, rows: int) -> Check:
    wrong = shapes.mistakes(shape, subject.columns, subject.engine)
    if wrong or shape.on_change == "allow" or subject.previous is None:
        return _check(expectation, rows, bool(wrong), "partition", ", ".join(wrong))
    changed = shapes.changes(subject.previous, subject.columns)
    stopping = dataclasses.replace(expectation, action="fail", severity="error")
    return _check(stopping, rows, bool(changed), "partition", ", ".join(changed))


def _examples(engine: Engine, question: _Question, asked: _Asked, subject: Subject, most: int) -> tuple[str, ...]:
    """Give some rows that break a condition as text, first the columns that it is about."""
    about = {name.casefold() for name in asked.condition.columns}
    ordered = sorted(subject.columns, key=lambda column: column.name.casefold() not in about)[:_MOST_COLUMNS]
    listed = ", ".join(f"CAST({_quoted(column.name)} AS VARCHAR)" for column in ordered)
    marked = question.marked([asked])
    query = f"SELECT {listed} FROM ({marked}) WHERE NOT {_quoted(asked.mark)} LIMIT {most}"
    more = ", ..." if len(subject.columns) > len(ordered) else ""
    names = [column.name for column in ordered]
    return tuple(
        ", ".join(f"{name}={_value(name, value)}" for name, value in zip(names, row, strict=True)) + more
        for row in engine.ask(query, question.tables)
    )


def _value(name: str, value: Any) -> str:
    if value is None:
        return "NULL"
    return MASK if is_secret(name) else _shown(value)


def _shown(value: Any) -> str:
    text = "NULL" if value is None else " ".join(str(value).split())
    return text if len(text) <= _LONGEST_VALUE else text[: _LONGEST_VALUE - 1] + "…"


def _extent(check: Check) -> str:
    if check.per == "partition":
        return f": {check.found}" if check.found else ""
    allowed = f", and {check.limit:,} may" if check.limit else ""
    return f" for {check.violations:,} of {show_count(check.rows, 'row')}{allowed}"


def _where(expectation: Expectation) -> str:
    text = " ".join(expectation.constraint.split())
    return f"expectation {expectation.name!r} ({text if len(text) <= 100 else text[:99] + '…'})"


def _reason(error: JobFailed) -> str:
    return error.message.removeprefix("checking the rows: ")


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
