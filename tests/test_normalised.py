"""The normal form of code: what does not matter never changes it, what does always does."""

from __future__ import annotations

import ast
import json
import textwrap
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsflow import normalised
from tests.conftest import build_tree, notebook

CODE = """
import math

def area(radius, scale=2.5):
    '''The area.

    Of a circle.
    '''
    if radius > 0 and scale != 1:
        return [math.pi * radius ** 2 for _ in range(3)]
    return None

total = sum(area(4)) + 17 - len("some text")
"""


def same(folder: Path, before: dict[str, str], after: dict[str, str]) -> bool:
    hashes = []
    for number, tree in enumerate((before, after)):
        build_tree(folder / str(number), tree)
        hashes.append(normalised.code_hash(folder / str(number), "n.py", "duckdb"))
    return hashes[0] == hashes[1]


@pytest.mark.parametrize(
    "after",
    [
        (
            "import math\n\n\ndef area( radius,scale = 2.50 ):\n  '''The area.\n\n  Of a circle.\n  '''\n"
            "  if (radius>0) and (scale!=1):\n    return [math.pi*radius**2 for _ in range(3)]  # 3\n  return None\n"
            "# a comment\ntotal = (\n  sum(area(4))\n  + 17\n  - len('some text')\n)\n"
        ),
        ast.unparse(ast.parse(CODE)),
    ],
)
def test_formatting_and_comments_change_no_python(after: str) -> None:
    assert normalised.python(CODE) == normalised.python(after)


class _Change(ast.NodeTransformer):
    """Changes the n-th literal, name or operator of a tree."""

    def __init__(self, target: int) -> None:
        self.left = target

    def _is_it(self) -> bool:
        self.left -= 1
        return self.left == -1

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        if not self._is_it():
            return node
        match node.value:
            case str(text):
                return ast.Constant(text + "!")
            case int(number) | float(number):
                return ast.Constant(number + 1)
        return ast.Constant(0)

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return ast.Name(node.id + "_", node.ctx) if self._is_it() else node

    def visit_arg(self, node: ast.arg) -> ast.AST:
        return ast.arg(node.arg + "_", node.annotation) if self._is_it() else node

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        new = ast.Mod() if self._is_it() else node.op
        return ast.BinOp(self.visit(node.left), new, self.visit(node.right))

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        new: list[ast.cmpop] = [ast.LtE()] if self._is_it() else node.ops
        return ast.Compare(self.visit(node.left), new, [self.visit(each) for each in node.comparators])


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 26))
def test_any_changed_literal_name_or_operator_changes_it(number: int) -> None:
    changed = ast.fix_missing_locations(_Change(number).visit(ast.parse(CODE)))
    assert ast.unparse(changed) != ast.unparse(ast.parse(CODE))
    assert normalised.python(CODE) != normalised.python(ast.unparse(changed))


_NAMES = st.sampled_from(["alpha", "beta", "rows", "x"])
_VALUES = st.one_of(st.integers(), st.floats(allow_nan=False), st.text(max_size=5), st.booleans(), st.none())
_STATEMENTS = st.lists(st.tuples(_NAMES, _VALUES), min_size=1, max_size=6)


def _written(statements: list[tuple[str, Any]], loose: bool) -> str:
    """The same assignments, tight or with spaces, parentheses, comments and blank lines."""
    if loose:
        return (
            "\n# first\n" + "\n\n# c\n".join(f"{name}  =  ( {value!r} )   # why" for name, value in statements) + "\n"
        )
    return "\n".join(f"{name}={value!r}" for name, value in statements)


@settings(max_examples=100, deadline=None)
@given(_STATEMENTS, st.data())
def test_two_texts_of_the_same_statements_are_one_and_of_others_are_two(
    statements: list[tuple[str, Any]], data: st.DataObject
) -> None:
    assert normalised.python(_written(statements, False)) == normalised.python(_written(statements, True))
    assert notebook_of(_written(statements, False), 1) == notebook_of(_written(statements, True), 2)
    position = data.draw(st.integers(0, len(statements) - 1))
    other = data.draw(st.tuples(_NAMES, _VALUES).filter(lambda pair: repr(pair) != repr(statements[position])))
    changed = [*statements[:position], other, *statements[position + 1 :]]
    assert normalised.python(_written(statements, False)) != normalised.python(_written(changed, False))


def notebook_of(source: str, run: int) -> str:
    """The normal form of a notebook with one cell that was executed so many times."""
    outputs = [{"output_type": "stream", "name": "stdout", "text": "hello"}] * run
    cell = {
        "cell_type": "code", "id": f"cell-{run}", "metadata": {"collapsed": run > 1, "tags": ["mine"][: run - 1]},
        "execution_count": run, "outputs": outputs, "source": source.splitlines(keepends=True) if run > 1 else source,
    }  # fmt: skip
    prose = [{"cell_type": "markdown", "id": "m", "metadata": {}, "source": "# Title"}][: run - 1]
    metadata = {"kernelspec": {"name": "python3", "display_name": f"Python {run}"}}
    return normalised.notebook(json.dumps({"cells": [*prose, cell], "metadata": metadata, "nbformat": 4}))


def test_a_cell_of_comments_is_no_cell_and_the_parameters_cell_is_one() -> None:
    plain = normalised.notebook(notebook("x = 1"))
    assert normalised.notebook(notebook("# only words", "x = 1")) == plain
    assert normalised.notebook(notebook("x = 1", parameters="# none")) != plain


def test_magics_are_code() -> None:
    cell = "%load_ext duckdb\nx = 1"
    assert normalised.python_cell(cell) == normalised.python_cell("%load_ext duckdb\n\nx  =  1  # one")
    assert normalised.python_cell(cell) != normalised.python_cell("%load_ext other\nx = 1")
    assert normalised.python_cell("%%bash\necho 1") != normalised.python_cell("%%bash\necho 2")
    assert normalised.python_cell("files = !ls") != normalised.python_cell("files = !ls -a")
    assert normalised.python_cell("y = (7\n     % 3)") == normalised.python_cell("y = 7 % 3")


def test_a_notebook_in_percent_format_is_read_by_cells() -> None:
    before = '# %% tags=["parameters"]\ncity = "paris"\n# %% [markdown]\n# Words.\n# %%\nprint( city )\n'
    after = (
        "# %%   tags=[\"parameters\"]\ncity = 'paris'  # there\n# %% [markdown]\n# Other words.\n# %%\nprint(city)\n"
    )
    assert normalised.percent(before) == normalised.percent(after)
    assert normalised.percent(before) != normalised.percent(before.replace(' tags=["parameters"]', ""))
    assert normalised.percent("# %%\n# %%bash\n# ls") != normalised.percent("# %%\n# %%sh\n# ls")


@pytest.mark.parametrize(
    "after",
    [
        "select hour , rain  from raw.meteo -- all\nwhere rain>=1.5 and city = 'a  b'",
        "SELECT\n  hour,\n  rain /* mm */\nFROM raw.meteo\nWHERE\n  rain >= 1.5\n  AND city = 'a  b';",
    ],
)
def test_formatting_and_comments_change_no_sql(after: str) -> None:
    before = "SELECT hour, rain FROM raw.meteo WHERE rain >= 1.5 AND city = 'a  b'"
    assert normalised.sql(before, "duckdb") == normalised.sql(after, "duckdb")


QUERY = "SELECT hour, '{{ ds }}' AS day FROM t WHERE rain >= {{ least }} AND city = 'Paris'"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("hour", "minute"), ("{{ ds }}", "{{ ds_nodash }}"), ("least", "most"), (">=", ">"), ("Paris", "paris"),
        (" AND ", " OR "), ("FROM t", "FROM u"), ("AS day", "AS ds"), (" AND city = 'Paris'", ""),
    ],
)  # fmt: skip
def test_any_change_of_a_query_changes_its_form(old: str, new: str) -> None:
    assert normalised.sql(QUERY, "duckdb") != normalised.sql(QUERY.replace(old, new), "duckdb")
    conditional = QUERY + "{% if least %} LIMIT 5{% endif %}"
    assert normalised.sql(conditional, "duckdb") != normalised.sql(conditional.replace(old, new), "duckdb")


def test_templates_are_reformatted_freely_too() -> None:
    loose = QUERY.replace("{{ ds }}", "{{ds}}").replace(" AND", "  -- and\n  AND") + "{# nothing #}"
    assert normalised.sql(QUERY, "duckdb") == normalised.sql(loose, "duckdb")
    conditional = "{% if x %}SELECT 1{% else %}SELECT '--'{% endif %}"
    assert normalised.sql(conditional, "duckdb") == normalised.sql(
        "{% if x %}SELECT\n   1{% else %}SELECT '--'{% endif %} -- done", "duckdb"
    )


def test_a_shell_script_loses_comments_and_blank_lines() -> None:
    script = '#!/bin/sh\nset -e\nfor f in a b; do\n  cat "$f"\ndone\n'
    assert normalised.shell(script) == normalised.shell(
        '#!/bin/sh\n# it\'s mine\nset -e\n\nfor f in a b; do\n\tcat "$f"\n# x\ndone'
    )
    assert normalised.shell(script) != normalised.shell(script.replace("a b", "a c"))
    assert normalised.shell(script) != normalised.shell(script.replace("bin/sh", "bin/bash"))


@pytest.mark.parametrize("script", ["cat <<END\n# title\nEND\n", "echo '\n# title\n'\n", "cat a \\\n# title\n b"])
def test_what_only_looks_like_a_comment_in_a_shell_script_counts(script: str) -> None:
    assert normalised.shell(script) != normalised.shell(script.replace("# title", "# other"))


def test_the_files_of_a_job_count_but_not_its_papers(tmp_path: Path) -> None:
    job = {"n.py": "import helper", "helper.py": "x = 1", "map.json": "{}", "job_specs.yaml": "version: 1\n"}
    papers = {
        "README.md": "New.", "tests/test_x.py": "x", "verify/a.csv": "1", "__pycache__/helper.pyc": "x",
        ".ipynb_checkpoints/n.py": "x", "job_specs.yaml": "version: 1\ndescription: other\n",
    }  # fmt: skip
    assert same(tmp_path / "papers", job, {**job, **papers})
    assert same(tmp_path / "comment", job, {**job, "helper.py": "x = 1  # one"})
    assert not same(tmp_path / "module", job, {**job, "helper.py": "x = 2"})
    assert not same(tmp_path / "data", job, {**job, "map.json": "{ }"})
    assert not same(tmp_path / "name", job, {key.replace("map", "card"): text for key, text in job.items()})


@pytest.mark.parametrize("text", ["def (:", "x = 1\n\0", "(" * 500, "x = " + "1 + " * 5000 + "1"])
@pytest.mark.parametrize("form", [normalised.python, normalised.python_cell, normalised.percent, normalised.notebook])
def test_what_cannot_be_parsed_stands_for_itself(form: Any, text: str) -> None:
    assert form(text) != form(text + "\ny = 2")


def test_broken_sql_stands_for_itself() -> None:
    text = textwrap.dedent("SELECT FROM WHERE (")
    assert normalised.sql(text, "duckdb") != normalised.sql(text + ")", "duckdb")
