"""Reads notebooks: `.ipynb`, or `.py` in percent format (cells that start with `# %%`)."""

from __future__ import annotations

import ast
import json
import re
import warnings
from pathlib import Path
from typing import Any

from dsflow.errors import UsageError

PARAMETERS_TAG = "parameters"
_LARGEST_FILE = 100_000_000
_CELL = re.compile(r"# ?%%(?!%)(?P<header>.*)")
_TAGS = re.compile(r"tags=(\[[^\]]*\])")


def read_notebook(path: Path, where: str) -> dict[str, Any]:
    """Give a notebook as nbformat 4 plain data.

    Args:
        path: An `.ipynb` file, or a `.py` file in percent format.
        where: How messages call it.

    Raises:
        UsageError: it cannot be read, or is no notebook.
    """
    text = _text(path, where)
    if path.suffix == ".py":
        import jupytext

        notebook: dict[str, Any] = json.loads(jupytext.writes(jupytext.reads(text, fmt="py:percent"), fmt="ipynb"))
        return notebook
    try:
        found = json.loads(text)
    except RecursionError:
        raise UsageError(f"{where}: nested too deeply for a notebook") from None
    except ValueError as error:
        place = f" line {error.lineno}:" if isinstance(error, json.JSONDecodeError) else ""
        raise UsageError(f"{where}:{place} not a notebook: not valid JSON") from None
    if not isinstance(found, dict) or found.get("nbformat") != 4 or not _are_cells(found.get("cells")):
        raise UsageError(f"{where}: not a notebook of nbformat 4", "Open it in Jupyter and save it again.")
    return found


def parameters_cell(path: Path, where: str) -> str | None:
    """Give the source of the cell tagged `parameters`, or None where there is none.

    Args:
        path: The notebook.
        where: How messages call it.

    Raises:
        UsageError: the notebook cannot be read, or, in percent format, is not valid Python.
    """
    if path.suffix == ".py":
        # Without jupytext: this happens before every start, and needs no more than the headers of the cells.
        text = _text(path, where)
        parse(text, where)
        return next((source for tags, source in percent_cells(text) if PARAMETERS_TAG in tags), None)
    for cell in read_notebook(path, where)["cells"]:
        metadata = cell.get("metadata")
        tags = metadata.get("tags") if isinstance(metadata, dict) else None
        if cell.get("cell_type") == "code" and isinstance(tags, list) and PARAMETERS_TAG in tags:
            return source_of(cell)
    return None


def source_of(cell: dict[str, Any]) -> str:
    """Give the text of a cell; a notebook may hold it as a list of lines."""
    source = cell.get("source", "")
    return "".join(map(str, source)) if isinstance(source, list) else str(source)


def parse(source: str, where: str) -> ast.Module:
    """Parse the Python of a cell or a file; IPython's magic lines count as empty.

    Raises:
        UsageError: it is not valid Python.
    """
    plain = re.sub(r"^[ \t]*[%!].*$", "", source, flags=re.MULTILINE)
    flags = ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = compile(plain, "<cell>", "exec", flags=flags, dont_inherit=True)
    except SyntaxError as error:
        raise UsageError(f"{where}: line {error.lineno}: {error.msg}") from None
    except (ValueError, RecursionError, MemoryError) as error:
        reason = str(error) if isinstance(error, ValueError) else "nested too deeply"
        raise UsageError(f"{where}: not valid Python: {reason}") from None
    assert isinstance(tree, ast.Module)
    return tree


def percent_cells(text: str) -> list[tuple[list[Any], str]]:
    """Give the tags and the source of each cell of a text in percent format; markdown stays a comment."""
    cells: list[tuple[list[Any], list[str]]] = [([], [])]
    for line in text.splitlines():
        start = _CELL.fullmatch(line)
        if start:
            cells.append((_tags(start["header"]), []))
        else:
            cells[-1][1].append(line)
    return [(tags, "\n".join(lines)) for tags, lines in cells]


def _tags(header: str) -> list[Any]:
    found = _TAGS.search(header)
    if "[markdown]" in header or "[raw]" in header or not found:
        return []
    try:
        return list(json.loads(found[1]))
    except ValueError:
        return []


def _are_cells(cells: Any) -> bool:
    return isinstance(cells, list) and all(isinstance(cell, dict) for cell in cells)


def _text(path: Path, where: str) -> str:
    try:
        if path.stat().st_size > _LARGEST_FILE:
            raise UsageError(f"{where}: larger than 100 MB")
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UsageError(f"{where}: not UTF-8 text") from None
    except OSError as error:
        raise UsageError(f"{where}: cannot be read: {error.strerror}") from None
