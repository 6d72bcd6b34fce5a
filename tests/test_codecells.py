"""Notebooks as text with `# <codecell>` lines."""

from __future__ import annotations

import json
from typing import Any

import nbformat
from hypothesis import given
from hypothesis import strategies as st

from dsflow import codecells
from dsflow.notebooks import source_of

_LINES = st.one_of(
    st.sampled_from(
        ["", "# <codecell>", "# \\<codecell>", "<markdowncell>", '# <codecell> tags=["x"]', "%%bash", "# %%"]
    ),
    st.text(st.characters(exclude_characters="\r\n"), max_size=12),
)
_SOURCES = st.lists(_LINES, max_size=5).map("\n".join)
_TAG = st.text(st.characters(exclude_characters=","), min_size=1, max_size=5)
_CELLS = st.lists(
    st.tuples(st.sampled_from(["code", "markdown", "raw"]), _SOURCES, st.lists(_TAG, max_size=2, unique=True)),
    max_size=5,
)


def _notebook(cells: list[tuple[str, str, list[str]]]) -> dict[str, Any]:
    made = [
        {"cell_type": kind, "source": source, "metadata": {"tags": tags} if tags else {}}
        for kind, source, tags in cells
    ]
    return {"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": made}


@given(_CELLS)
def test_7_1_30_a_notebook_comes_back_from_text_with_every_cell(cells: list[tuple[str, str, list[str]]]) -> None:
    back = codecells.to_notebook(codecells.to_text(_notebook(cells)))
    assert [(c["cell_type"], source_of(c), c["metadata"].get("tags", [])) for c in back["cells"]] == cells
    nbformat.validate(nbformat.reads(json.dumps(back), as_version=4))


def test_7_1_30_text_has_a_line_before_each_cell_and_comments_what_is_not_code() -> None:
    text = codecells.to_text(_notebook([("markdown", "# Title\n\ntext", []), ("code", "x = 1", ["parameters"])]))
    assert text == ('# <markdowncell>\n\n# # Title\n#\n# text\n\n# <codecell> tags=["parameters"]\n\nx = 1\n')


def test_text_of_the_predecessor_is_read_without_its_first_lines() -> None:
    head = "# -*- coding: utf-8 -*-\n# <nbformat>3.0</nbformat>\n\n"
    text = head + "# <codecell>\n\nprint(1)\n\n# <markdowncell>\n\n# *hello*\n"
    cells = codecells.to_notebook(text)["cells"]
    assert [(cell["cell_type"], source_of(cell)) for cell in cells] == [("code", "print(1)"), ("markdown", "*hello*")]


def test_code_before_the_first_marker_is_a_cell() -> None:
    cells = codecells.to_notebook("import os\n# <codecell>\nos\n")["cells"]
    assert [source_of(cell) for cell in cells] == ["import os", "os"]
