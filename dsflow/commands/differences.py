"""How the differences between two partitions of a table are told to a person."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dsflow.quantities import show_count

if TYPE_CHECKING:
    from dsflow.comparison import Difference


def lines_of(found: Difference, words: tuple[str, str, str] = ("added", "removed", "changed")) -> list[str]:
    """Give how two sides differ, in lines for a person.

    Args:
        found: How they differ.
        words: What rows are called that only the second side has, that only the first has, and that are not the same.
    """
    if not found:
        return ["Nothing differs."]
    lines = ["columns", *(f"  {change}" for change in found.schema)] if found.schema else []
    for word, count, rows in (
        (words[0], found.added, found.examples_added),
        (words[1], found.removed, found.examples_removed),
    ):
        if count:
            lines += [
                f"{word} {show_count(count, 'row')}",
                *(f"  {_row(row)}" for row in rows),
                *_more(count, len(rows)),
            ]
    if found.changed:
        columns = ", ".join(f"{name} {count:,}" for name, count in found.columns.items())
        lines.append(f"{words[2]} {show_count(found.changed, 'row')}: {columns}")
        for change in found.examples_changed:
            values = ", ".join(f"{name} {_value(old)} -> {_value(new)}" for name, (old, new) in change.values.items())
            lines.append(f"  {_row(change.keys)}: {values}")
        lines += _more(found.changed, len(found.examples_changed))
    return lines


def _more(count: int, shown: int) -> list[str]:
    return [f"  and {count - shown:,} more"] if 0 < shown < count else []


def _row(row: dict[str, Any]) -> str:
    return " ".join(f"{name}={_value(value)}" for name, value in row.items())


def _value(value: Any) -> str:
    text = "NULL" if value is None else str(value)
    return text if len(text) <= 60 else text[:57] + "..."
