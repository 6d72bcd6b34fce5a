"""Reading notebooks, and finding their parameters cell."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dsflow.errors import UsageError
from dsflow.notebooks import parameters_cell, read_notebook
from tests.conftest import notebook

PERCENT = """\
# %% [markdown]
# # Rain

# %% tags=["parameters"]
city = "paris"

# %% other title
%matplotlib inline
print(city)
"""


def written(tmp_path: Path, name: str, content: str | bytes) -> Path:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_the_tagged_cell_of_an_ipynb_is_found(tmp_path: Path) -> None:
    path = written(tmp_path, "a.ipynb", notebook("print(1)", parameters="city = 'paris'"))
    assert parameters_cell(path, "a.ipynb") == "city = 'paris'"


def test_the_tagged_cell_of_a_percent_file_is_found(tmp_path: Path) -> None:
    assert parameters_cell(written(tmp_path, "a.py", PERCENT), "a.py") == 'city = "paris"\n'


def test_a_notebook_need_not_have_one(tmp_path: Path) -> None:
    assert parameters_cell(written(tmp_path, "a.ipynb", notebook("print(1)")), "a.ipynb") is None
    assert parameters_cell(written(tmp_path, "a.py", "# %%\nprint(1)\n"), "a.py") is None


def test_a_percent_file_becomes_a_notebook(tmp_path: Path) -> None:
    cells = read_notebook(written(tmp_path, "a.py", PERCENT), "a.py")["cells"]
    assert [cell["cell_type"] for cell in cells] == ["markdown", "code", "code"]
    assert cells[1]["metadata"]["tags"] == ["parameters"]


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.ipynb", "", "a.ipynb: line 1: not a notebook: not valid JSON"),
        ("a.ipynb", "{}", "a.ipynb: not a notebook of nbformat 4"),
        ("a.ipynb", "[]", "a.ipynb: not a notebook of nbformat 4"),
        ("a.ipynb", json.dumps({"nbformat": 3, "worksheets": []}), "a.ipynb: not a notebook of nbformat 4"),
        ("a.ipynb", json.dumps({"nbformat": 4, "cells": ["x"]}), "a.ipynb: not a notebook of nbformat 4"),
        ("a.ipynb", b"\xff\xfe", "a.ipynb: not UTF-8 text"),
        ("a.ipynb", "[" * 100_000, "a.ipynb: nested too deeply for a notebook"),
        ("a.py", "# %%\nx = (\n", "a.py: line 2: '(' was never closed"),
        ("a.py", "# %%\n" + "(" * 5000, "a.py: "),
        ("a.py", b"\xff\xfe", "a.py: not UTF-8 text"),
        ("a.py", "x = 1\0", "a.py: "),
    ],
)
def test_what_is_no_notebook_is_told_in_a_sentence(
    tmp_path: Path, name: str, content: str | bytes, sentence: str
) -> None:
    with pytest.raises(UsageError) as caught:
        parameters_cell(written(tmp_path, name, content), name)
    assert caught.value.message.startswith(sentence)
    assert "\n" not in caught.value.message


def test_a_missing_notebook_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="a.ipynb: cannot be read: No such file or directory"):
        read_notebook(tmp_path / "a.ipynb", "a.ipynb")
