"""What a table's columns must be, and how they are not."""

from __future__ import annotations

from collections.abc import Sequence

from dsflow.model import Column, Shape
from dsflow.sqltrees import same_type


def mistakes(shape: Shape, columns: Sequence[Column], dialect: str) -> list[str]:
    """Give what is wrong with the columns: `- gone`, `+ new`, `x is VARCHAR`.

    Args:
        shape: What they must be.
        columns: What they are.
        dialect: The engine in whose words the types are.
    """
    types = {column.name: column.type for column in columns}
    asked = [*shape.columns, *(name for name in shape.types if name not in shape.columns)]
    found = [f"- {name}" for name in asked if name not in types]
    found += [f"+ {name}" for name in types if shape.columns and name not in shape.columns]
    return found + [
        f"{name} is {types[name]}"
        for name, wanted in shape.types.items()
        if name in types and not same_type(wanted, types[name], dialect)
    ]


def changes(before: Sequence[Column], after: Sequence[Column]) -> list[str]:
    """Give what differs between two lists of columns; their order does not."""
    old = {column.name: column.type for column in before}
    new = {column.name: column.type for column in after}
    gone = [f"- {name}" for name in old if name not in new]
    added = [f"+ {name}" for name in new if name not in old]
    return (
        gone
        + added
        + [f"{name} was {old[name]}, is {type_}" for name, type_ in new.items() if old.get(name, type_) != type_]
    )
