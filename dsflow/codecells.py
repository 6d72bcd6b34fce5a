"""Notebooks as text with `# <codecell>` and `# <markdowncell>` lines between the cells.

The text keeps the source of every cell and its tags; outputs are left out. A line of a cell that looks like a
marker is written with a backslash, so that text and notebook say the same in both directions.
"""

from __future__ import annotations

import json
import re
from typing import Any

from dsflow.notebooks import source_of

_KINDS = {"codecell": "code", "markdowncell": "markdown", "rawcell": "raw"}
_MARKER = re.compile(r"# <(codecell|markdowncell|rawcell)>(?: +tags=(\[.*\]))?\s*")
_MARKER_LIKE = re.compile(r"(?:# )?\\*<(?:codecell|markdowncell|rawcell)>.*")
_IGNORED = re.compile(r"# (-\*- coding: .*|<nbformat>.*</nbformat>)\s*")
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def is_marked(text: str) -> bool:
    """Say whether a text has lines that start cells."""
    return any(_MARKER.fullmatch(line) for line in text.splitlines())


def to_notebook(text: str) -> dict[str, Any]:
    """Build a notebook (nbformat 4) from text whose `# <...cell>` lines start the cells."""
    cells: list[tuple[str, list[str], list[str]]] = [("code", [], [])]
    for line in text.replace("\r\n", "\n").split("\n"):
        marker = _MARKER.fullmatch(line)
        if marker is None:
            cells[-1][2].append(line)
        else:
            cells.append((_KINDS[marker[1]], _tags(marker[2]), []))
    if not "".join(line for line in cells[0][2] if not _IGNORED.fullmatch(line)).strip():
        del cells[0]
    built = [_cell(index, *cell) for index, cell in enumerate(cells, 1)]
    return {"cells": built, "metadata": METADATA, "nbformat": 4, "nbformat_minor": 5}


def to_text(notebook: dict[str, Any]) -> str:
    """Give a notebook (nbformat 4) as text with `# <codecell>` and `# <markdowncell>` lines."""
    names = {kind: name for name, kind in _KINDS.items()}
    parts = []
    for cell in notebook["cells"]:
        kind = cell.get("cell_type", "code")
        tags = cell.get("metadata", {}).get("tags") or []
        lines = source_of(cell).split("\n")
        if kind != "code":
            lines = [f"# {_escaped(line)}" if line else "#" for line in lines]
        else:
            lines = [_escaped(line) for line in lines]
        marker = f"# <{names[kind]}>" + (f" tags={json.dumps(tags, ensure_ascii=False)}" if tags else "")
        parts.append("\n".join([marker, "", *lines, ""]))
    return "\n".join(parts)


def dump_notebook(notebook: dict[str, Any]) -> str:
    """Give the JSON text of a notebook, laid out as Jupyter does."""
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


def _cell(index: int, kind: str, tags: list[str], lines: list[str]) -> dict[str, Any]:
    # `to_text` puts one blank line after the marker and one after the cell
    if lines and not lines[0]:
        lines = lines[1:]
    if lines and not lines[-1]:
        lines = lines[:-1]
    if kind != "code":
        lines = [re.sub(r"^# ?", "", line) for line in lines]
    cell = {
        "id": f"cell-{index}",
        "cell_type": kind,
        "metadata": {"tags": tags} if tags else {},
        "source": "\n".join(map(_unescaped, lines)).splitlines(keepends=True),
    }
    return cell | {"execution_count": None, "outputs": []} if kind == "code" else cell


def _tags(text: str | None) -> list[str]:
    try:
        return [str(tag) for tag in json.loads(text or "[]")]
    except ValueError:
        return []


def _escaped(line: str) -> str:
    return line.replace("<", "\\<", 1) if _MARKER_LIKE.fullmatch(line) else line


def _unescaped(line: str) -> str:
    return line.replace("\\<", "<", 1) if _MARKER_LIKE.fullmatch(line) else line
