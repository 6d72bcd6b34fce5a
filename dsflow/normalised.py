"""The code of a job without what does not matter to its result: comments, formatting, outputs of notebooks.

Two versions of a file with the same normal form do the same. Where a form is in doubt (code that does not parse, a
shell script with a here-document) the text itself is kept: then a new comment counts as a change, which costs a run;
the other way round a change would be missed.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import inspect
import json
import os
import re
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from dsflow.errors import UsageError
from dsflow.notebooks import PARAMETERS_TAG, percent_cells, source_of
from dsflow.queries import canonical
from dsflow.workspace import JOB_SPECS

# These tell the program that executes a notebook what to do with a cell.
_TAGS = {PARAMETERS_TAG, "raises-exception", "skip-execution"}
_FOLDERS_LEFT_OUT = {"tests", "verify", "__pycache__"}
_PARSE = ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT

_MAGIC_LINE = re.compile(r"^[ \t]*[%!].*$", re.MULTILINE)
# jupytext keeps magics as comments; `# %%` alone or with a title starts a cell.
_MAGIC_COMMENT = re.compile(r"^[ \t]*# ?(?!%%)[%!].*$", re.MULTILINE)
_CELL_MAGIC = re.compile(r"^# ?%%[^\s%]", re.MULTILINE)
_JINJA = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)
_JINJA_COMMENT = re.compile(r"\{#.*?#\}", re.DOTALL)
_SQL_PIECE = re.compile(
    r"""(?P<kept>'(?:[^']|'')*'|"(?:[^"]|"")*"|\$\$.*?\$\$)|(?P<space>--[^\n]*|/\*.*?\*/|\s+)|.""", re.DOTALL
)
_UNSURE_SHELL = re.compile(r"<<|\\\n[ \t]*(?:#|\n)")


def code_hash(folder: Path, notebook_file: str | None, dialect: str) -> str:
    """Give the hash of all code and data in a job's folder, in their normal forms.

    Left out are the spec, README files, the folders `tests` and `verify`, and what is hidden.

    Args:
        folder: The job's folder.
        notebook_file: Its main file, relative to it, where that is a notebook.
        dialect: The SQL dialect of its engine.
    """
    digest = hashlib.sha256()
    for name, path in sorted(_files(folder)):
        normal = _normal(path, dialect, is_notebook=name == notebook_file)
        digest.update(os.fsencode(name) + b"\0" + normal + b"\0")
    return digest.hexdigest()


def notebook(text: str) -> str:
    """Give the normal form of an `.ipynb`: the code of its cells, their tags that matter, the language."""
    try:
        document = json.loads(text)
        cells = [cell for cell in document["cells"] if cell.get("cell_type") == "code"]
        kernel = document.get("metadata", {}).get("kernelspec") or {}
        language = str(kernel.get("language") or "python").casefold()
        normal = python_cell if language == "python" else _lines
        return _cells([(_tags(cell), normal(source_of(cell))) for cell in cells], language)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return text


def percent(text: str) -> str:
    """Give the normal form of a notebook in percent format, in which magics are comments."""
    if _CELL_MAGIC.search(text):
        return _lines(text)  # all of such a cell is a comment
    cells = [(tags, _magic_comments(source) + python_cell(source)) for tags, source in percent_cells(text)]
    return _cells(cells, "python")


def python_cell(source: str) -> str:
    """Give the normal form of the Python in a cell; IPython's magic lines are kept as they are."""
    shape = _shape(source)
    magics = [line.strip() for line in _MAGIC_LINE.findall(source)]
    if shape is None and magics and not source.lstrip().startswith("%%"):
        shape = _shape(_MAGIC_LINE.sub("", source))
        return _lines(source) if shape is None else "\n".join([*magics, shape])
    return _lines(source) if shape is None else shape


def python(text: str) -> str:
    """Give the normal form of a Python file: its syntax tree."""
    shape = _shape(text)
    return _lines(text) if shape is None else shape


def sql(text: str, dialect: str) -> str:
    """Give the normal form of a query; what is in `{{ }}` is one name, whatever it stands for."""
    plain = _JINJA_COMMENT.sub("", text)
    if "{%" not in plain:
        tree = canonical(_JINJA.sub(_opaque, plain), dialect)
        if tree is not None:
            return tree
    pieces = _SQL_PIECE.finditer(plain)
    return "".join(" " if piece["space"] else piece[0] for piece in pieces).strip()


def shell(text: str) -> str:
    """Give the normal form of a shell script: its lines without those that are only comments or blank."""
    first, *rest = text.splitlines() or [""]
    lines = [first.strip(), *(line.strip() for line in rest if not line.lstrip().startswith("#"))]
    # A quote that is open at the end of a line, or a here-document, makes a text of the lines that follow.
    if _UNSURE_SHELL.search(text) or any(line.count("'") % 2 or line.count('"') % 2 for line in lines):
        return text
    return "\n".join(filter(None, lines))


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name not in _FOLDERS_LEFT_OUT and not name.startswith(".")]
        for name in names:
            path = Path(place, name)
            left_out = name.startswith((".", "README")) or name.endswith(".pyc")
            if not left_out and path != folder / JOB_SPECS:
                yield path.relative_to(folder).as_posix(), path


def _normal(path: Path, dialect: str, *, is_notebook: bool) -> bytes:
    """Give a hash of a file's normal form."""
    forms: dict[str, Callable[[str], str]] = {
        ".ipynb": notebook,
        ".py": percent if is_notebook else python,
        ".sh": shell,
        ".sql": lambda text: sql(text, dialect),
    }
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from None
    form = forms.get(path.suffix)
    if form is not None:
        with contextlib.suppress(UnicodeDecodeError):
            data = form(data.decode("utf-8-sig")).encode("utf-8", errors="surrogatepass")
    return hashlib.sha256(data).digest()


def _cells(cells: list[tuple[list[Any], str]], language: str) -> str:
    """Give one text for cells; one with nothing but comments does nothing, unless its tags say where values go."""
    known = [(sorted(_TAGS.intersection(filter(_is_text, tags))), code) for tags, code in cells]
    return json.dumps([language, [cell for cell in known if any(cell)]])


def _shape(source: str) -> str | None:
    """Give the tree of Python code as text, the same in every version of Python; None where it is not valid."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree: Any = compile(source, "<code>", "exec", flags=_PARSE, dont_inherit=True)
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                _tidy_docstring(node)
        return ",".join(map(_node, tree.body))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _node(value: Any) -> str:
    if isinstance(value, ast.AST):
        # Versions of Python differ in which empty fields they know.
        fields = [(name, item) for name, item in ast.iter_fields(value) if item is not None and item != []]
        inner = ",".join(f"{name}={_node(item)}" for name, item in fields if name not in ("kind", "ctx"))
        return f"{type(value).__name__}({inner})"
    if isinstance(value, list):
        return f"[{','.join(map(_node, value))}]"
    return repr(value)


def _tidy_docstring(node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> None:
    """Formatters indent docstrings anew."""
    first = node.body[0] if node.body else None
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
        first.value.value = inspect.cleandoc(first.value.value).strip()


def _tags(cell: dict[str, Any]) -> list[Any]:
    metadata = cell.get("metadata")
    tags = metadata.get("tags") if isinstance(metadata, dict) else None
    return tags if isinstance(tags, list) else []


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _magic_comments(source: str) -> str:
    return "".join(f"{line.strip()}\n" for line in _MAGIC_COMMENT.findall(source))


def _lines(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.splitlines() if line.strip())


def _opaque(match: re.Match[str]) -> str:
    expression = " ".join(match[1].strip("-+ \t\r\n").split())
    return f"dsflow_{hashlib.sha256(expression.encode()).hexdigest()[:12]}"
