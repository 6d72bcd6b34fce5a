"""Compares what a job made on several targets: rows as a multiset, columns by name and by type in common words.

Numbers with a floating point may differ by a tolerance, as engines add in different orders. Everything else is equal
or it is not. The first target is what the others are compared with.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

from dsflow.comparison import Difference, compare
from dsflow.errors import JobFailed, UsageError
from dsflow.model import Column
from dsflow.outputs import schema_changes
from dsflow.parity.sides import Side, inputs_read
from dsflow.parity.words import common_type
from dsflow.store.datastore import Partition

# What engines that count right differ by, at most: 15 digits, less what adding a million numbers costs.
TOLERANCE = 1e-9


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """How one target compares with the first.

    Attributes:
        target: Its name.
        seconds: How long the run took, from its start to the swap.
        rows: How many rows it made; None where it made none, or files.
        columns: Its columns, with types in common words.
        problem: Why there is nothing to compare: the run failed.
        details: What else a person wants to know of that.
        schema: How its columns differ, in lines.
        difference: How its rows differ; None for the first target and where there is a problem.
        files: The files of a raw dataset that differ.
        compared: Whether it was compared; not the first target, nor the others where that failed.
    """

    target: str
    seconds: float
    rows: int | None = None
    columns: tuple[Column, ...] = ()
    problem: str = ""
    details: tuple[str, ...] = ()
    schema: tuple[str, ...] = ()
    difference: Difference | None = None
    files: tuple[str, ...] = ()
    compared: bool = False

    @property
    def same(self) -> bool:
        """Whether it made what the first target made."""
        rows = self.difference is not None and bool(self.difference.added or self.difference.removed)
        changed = self.difference is not None and bool(self.difference.changed)
        return not (self.problem or self.schema or self.files or rows or changed)


def judge(
    sides: Sequence[Side], keys: Sequence[str] = (), tolerance: float = TOLERANCE, examples: int = 5
) -> list[Verdict]:
    """Compare what was made, each side with the first.

    Args:
        sides: What was made.
        keys: The columns that name a row, if the job says so.
        tolerance: By which part of the larger one two numbers with a floating point may differ.
        examples: How many rows to give of each kind that differs.

    Raises:
        JobFailed: an input changed while the targets ran, so the runs cannot be compared.
    """
    first = sides[0]
    _check_inputs(sides)
    found = []
    for side in sides:
        if side.partition is None:
            found.append(_failed(side))
        elif side is first or first.partition is None:
            found.append(_alone(side, side.partition))
        else:
            found.append(_compared(side, side.partition, first.partition, keys, tolerance, examples))
    return found


def _check_inputs(sides: Sequence[Side]) -> None:
    read = inputs_read(sides[0])
    for side in sides[1:]:
        for place, hash_ in inputs_read(side).items():
            if read.get(place, hash_) != hash_:
                kind, name, ds = place
                what = f"{kind} {name}" + (f" ds={ds}" if ds else "")
                raise JobFailed(f"{what} changed while the targets ran", "Run it again when nobody writes there.")


def _failed(side: Side) -> Verdict:
    failure = side.outcome.failure
    problem = failure.message if failure else "the run made nothing"
    more = (failure.place, failure.source, failure.hint) if failure else ()
    details = tuple(filter(None, [*more, *(f"log: {line}" for line in side.log)]))
    return Verdict(target=side.target.name, seconds=side.outcome.seconds, problem=problem, details=details)


def _alone(side: Side, made: Partition) -> Verdict:
    assert made.manifest is not None
    return Verdict(
        target=side.target.name,
        seconds=side.outcome.seconds,
        rows=made.manifest.rows,
        columns=_in_common_words(made),
    )


def _compared(
    side: Side, made: Partition, first: Partition, keys: Sequence[str], tolerance: float, examples: int
) -> Verdict:
    assert made.manifest is not None
    if made.store == "raw":
        difference, files = None, _files(first, made)
    else:
        difference, files = _difference(first, made, keys, tolerance, examples), ()
    return Verdict(
        target=side.target.name,
        seconds=side.outcome.seconds,
        rows=made.manifest.rows,
        columns=_in_common_words(made),
        schema=_schema(_in_common_words(first), _in_common_words(made)),
        difference=difference,
        files=files,
        compared=True,
    )


def _difference(first: Partition, made: Partition, keys: Sequence[str], tolerance: float, examples: int) -> Difference:
    if keys:
        # Keys that name several rows, or no column, are none: whole rows are counted then.
        with contextlib.suppress(UsageError):
            return compare(first, made, keys, examples, tolerance)
    return compare(first, made, (), examples, tolerance)


def _in_common_words(made: Partition) -> tuple[Column, ...]:
    columns = made.manifest.columns if made.manifest else ()
    return tuple(Column(name=column.name, type=common_type(column.type)) for column in columns)


def _schema(first: Sequence[Column], other: Sequence[Column]) -> tuple[str, ...]:
    changes = schema_changes(first, other)
    names = [column.name for column in first], [column.name for column in other]
    if not changes and names[0] != names[1]:
        return (f"in another order: {', '.join(names[1])} instead of {', '.join(names[0])}",)
    return changes


def _files(first: Partition, made: Partition) -> tuple[str, ...]:
    assert first.manifest is not None
    assert made.manifest is not None
    ours, theirs = ({file.name: file.sha256 for file in one.manifest.files} for one in (first, made) if one.manifest)
    return tuple(sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name)))
