"""An executed notebook as HTML: every kind of output in its best form that needs nothing from the network."""

# ruff: noqa: E501

from __future__ import annotations

import base64
from typing import Any

import pytest

from dsflow.notebook_page import ansi_to_html, fragment


def code(source: str, *outputs: dict[str, Any], count: int | None = 1, **metadata: Any) -> dict[str, Any]:
    return {
        "cell_type": "code",
        "source": source,
        "outputs": list(outputs),
        "execution_count": count,
        "metadata": metadata,
    }


def stream(text: str, name: str = "stdout") -> dict[str, Any]:
    return {"output_type": "stream", "name": name, "text": text}


def display(data: dict[str, str], **metadata: Any) -> dict[str, Any]:
    return {"output_type": "display_data", "data": data, "metadata": metadata}


def page(*cells: dict[str, Any]) -> str:
    return fragment({"cells": list(cells), "metadata": {}, "nbformat": 4, "nbformat_minor": 5})


def test_code_is_shown_with_its_number_and_coloured() -> None:
    shown = page(code("import a < b", count=7), code("later", count=None))
    assert "In&nbsp;[7]:" in shown
    assert '<span class="kn">import</span>' in shown
    assert "&lt;" in shown
    assert "In&nbsp;[&nbsp;]:" in shown


def test_a_result_has_a_number_and_a_display_has_none() -> None:
    result = {"output_type": "execute_result", "data": {"text/plain": "2"}, "metadata": {}, "execution_count": 7}
    assert "Out&nbsp;[7]:" in page(code("1+1", result, count=7))
    assert "Out" not in page(code("1+1", display({"text/plain": "2"})))


def test_the_cell_that_failed_is_anchored() -> None:
    shown = page(code("1"), code("2", papermill={"status": "failed"}), code("3"))
    assert shown.count('id="failed"') == 1
    assert shown.index("In&nbsp;[1]") < shown.index('id="failed"')


def test_tags_become_classes_and_cannot_break_out() -> None:
    shown = page(code("1", tags=["parameters", '"><script>']))
    assert "celltag_parameters" in shown
    assert "<script" not in shown


def test_pieces_of_a_stream_are_joined_and_progress_bars_show_their_end() -> None:
    shown = page(code("x", stream("a\n"), stream("10%\r100%\n"), stream("bad", "stderr"), stream("z")))
    assert "<pre>a\n100%\n</pre>" in shown
    assert shown.count("output_stream") == 3
    assert shown.index("output_stdout") < shown.index("output_stderr") < shown.rindex("output_stdout")


def test_printed_text_is_text() -> None:
    assert "&lt;b&gt;&amp;" in page(code("x", stream("<b>&")))


@pytest.mark.parametrize(
    ("data", "there", "not_there"),
    [
        ({"text/html": "<table><tr></table>", "text/plain": "a frame"}, "<table><tr></table>", "a frame"),
        ({"application/javascript": "go()", "text/plain": "script"}, "<pre>script</pre>", "go()"),
        ({"application/vnd.jupyter.widget-view+json": "x", "text/plain": "slider"}, "slider", "widget"),
        ({"text/latex": "$x$", "text/plain": "x"}, "<pre>x</pre>", "$"),
        ({"text/latex": "$y$"}, "<pre>$y$</pre>", "<p>"),
        ({"text/markdown": "*new*", "text/plain": "<Markdown>"}, "<em>new</em>", "Markdown&gt;"),
        ({"image/png": "aGk=\n", "text/plain": "<Figure>"}, 'alt="&lt;Figure&gt;" src="data:image/png;base64,aGk="', "<pre>"),
    ],
)  # fmt: skip
def test_the_best_form_that_needs_no_library_is_shown(data: dict[str, str], there: str, not_there: str) -> None:
    outputs = page(code("", display(data))).split("output_wrapper")[1]
    assert there in outputs
    assert not_there not in outputs


def test_an_svg_is_a_picture_and_runs_no_script() -> None:
    svg = "<svg><script>go()</script></svg>"
    shown = page(code("x", display({"image/svg+xml": svg})))
    assert f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}" in shown
    assert "<script" not in shown


def test_a_picture_keeps_its_size() -> None:
    shown = page(code("x", display({"image/png": "aGk="}, **{"image/png": {"width": 640, "height": 480}})))
    assert 'width="640" height="480"' in shown


def test_an_output_without_a_form_to_show_leaves_nothing() -> None:
    assert "output_area" not in page(code("x", display({"application/json": "{}"})))


def test_markdown_has_tables_and_its_own_pictures() -> None:
    cell = {
        "cell_type": "markdown",
        "metadata": {},
        "source": "# Rain\n\n| a |\n|---|\n| 1 |\n\n![x](attachment:map.png)",
        "attachments": {"map.png": {"image/png": "aGk="}},
    }
    shown = page(cell)
    assert "<h1>Rain</h1>" in shown
    assert "<td>1</td>" in shown
    assert 'src="data:image/png;base64,aGk="' in shown


def test_raw_cells_are_for_other_formats() -> None:
    assert page({"cell_type": "raw", "source": "\\newpage", "metadata": {}}) == ""


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("plain < text", "plain &lt; text"),
        ("\x1b[31mred\x1b[0m back", '<span class="ansi-red-fg">red</span> back'),
        ("\x1b[1;34mboth\x1b[22mless\x1b[m", '<span class="ansi-bold ansi-blue-fg">both</span><span class="ansi-blue-fg">less</span>'),
        ("\x1b[91mx\x1b[39my", '<span class="ansi-red-intense-fg">x</span>y'),
        ("\x1b[43mx\x1b[49my", '<span class="ansi-yellow-bg">x</span>y'),
        ("\x1b[102mx", '<span class="ansi-green-intense-bg">x</span>'),
        ("\x1b[38;5;9mx", '<span class="ansi-red-intense-fg">x</span>'),
        ("\x1b[38;5;241mx", '<span style="color: rgb(98, 98, 98)">x</span>'),
        ("\x1b[48;5;16mx", '<span style="background-color: rgb(0, 0, 0)">x</span>'),
        ("\x1b[38;2;1;2;3;4mx", '<span class="ansi-underline" style="color: rgb(1, 2, 3)">x</span>'),
        ("\x1b[38;5mx\x1b[38;9;9my\x1b[38;5;999mz", "xyz"),
        ("\x1b[2K\x1b[1Aup\x1b]0;title\x07", "up"),
    ],
)  # fmt: skip
def test_colours_of_terminals_become_classes(text: str, html: str) -> None:
    assert ansi_to_html(text) == html
