"""An executed notebook as an HTML fragment that asks the network for nothing. The only module that imports mistune.

The classes are those of nbconvert's classic pages. nbconvert itself is not used: loading it takes longer than running
a small notebook and showing it this way.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping
from functools import cache
from html import escape
from typing import Any

from dsflow import highlighting

# Widgets and bare JavaScript need libraries from the network; their other forms do not.
_SHOWN = ("text/html", "text/markdown", "image/svg+xml", "image/png", "image/jpeg", "image/gif", "image/webp")
_OVERWRITTEN = re.compile(r".*\r(?=[^\n])")
_ESCAPE = re.compile(r"\x1b\[([0-9;:]*)m|\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[@-Z\\-_]")
_COLOURS = ("black", "red", "green", "yellow", "blue", "magenta", "cyan", "white")
_STYLES = {1: "bold", 3: "italic", 4: "underline"}
_STYLES_OFF = {22: "bold", 23: "italic", 24: "underline"}
# The tens of a code, and the number of the first colour among them.
_GROUNDS = {3: ("fg", 0), 4: ("bg", 0), 9: ("fg", 8), 10: ("bg", 8)}


def load() -> None:
    """Load what every page needs, in a process that will be forked."""
    highlighting.load("python")
    _markdown_parser()


def fragment(notebook: Mapping[str, Any]) -> str:
    """Give a notebook's cells with their outputs; the cell that failed has the anchor `failed`.

    Args:
        notebook: A notebook of nbformat 4 whose texts are strings.
    """
    language = notebook.get("metadata", {}).get("language_info", {}).get("name", "python")
    return "\n".join(_cell(cell, language) for cell in notebook["cells"] if cell["cell_type"] != "raw")


def ansi_to_html(text: str) -> str:
    """Give a terminal's text as HTML: colours become classes or, beyond the first sixteen, inline styles."""
    parts, place, state = [], 0, dict[str, str]()
    for match in _ESCAPE.finditer(text):
        parts.append(_span(text[place : match.start()], state))
        place = match.end()
        if match[1] is not None:
            _follow([int(code or 0) for code in re.split("[;:]", match[1])], state)
    return "".join([*parts, _span(text[place:], state)])


def _cell(cell: Mapping[str, Any], language: str) -> str:
    if cell["cell_type"] == "markdown":
        text = _markdown(cell["source"], cell.get("attachments", {}))
        inner = f'<div class="text_cell_render rendered_html">{text}</div>'
        return f'<div class="cell text_cell"><div class="prompt"></div><div class="inner_cell">{inner}</div></div>'
    metadata = cell.get("metadata", {})
    tags = "".join(f" celltag_{escape(tag)}" for tag in metadata.get("tags", []))
    failed = '<a id="failed"></a>' if metadata.get("papermill", {}).get("status") == "failed" else ""
    source = f'<div class="input_area">{highlighting.source(cell["source"], language)}</div>'
    shown = "".join(_output(output) for output in _merged(cell.get("outputs", [])))
    outputs = f'<div class="output_wrapper"><div class="output">{shown}</div></div>' if shown else ""
    return (
        f'{failed}<div class="cell code_cell{tags}"><div class="input">{_prompt("In", cell.get("execution_count"))}'
        f'<div class="inner_cell">{source}</div></div>{outputs}</div>'
    )


def _prompt(what: str, count: int | None) -> str:
    return f'<div class="prompt">{what}&nbsp;[{"&nbsp;" if count is None else count}]:</div>'


def _merged(outputs: list[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """Join what one stream printed in a row; a kernel sends it in pieces."""
    last: dict[str, Any] | None = None
    for output in outputs:
        stream = output["output_type"] == "stream"
        if last is not None and stream and last["name"] == output["name"]:
            last["text"] += output["text"]
            continue
        if last is not None:
            yield last
            last = None
        if stream:
            last = dict(output)
        else:
            yield output
    if last is not None:
        yield last


def _output(output: Mapping[str, Any]) -> str:
    prompt = '<div class="prompt"></div>'
    if output["output_type"] == "stream":
        text = ansi_to_html(_OVERWRITTEN.sub("", output["text"]))
        content = _subarea(f"output_stream output_{escape(output['name'])} output_text", f"<pre>{text}</pre>")
    elif output["output_type"] == "error":
        content = _subarea("output_text output_error", f"<pre>{ansi_to_html(chr(10).join(output['traceback']))}</pre>")
    else:
        if output["output_type"] == "execute_result":
            prompt = _prompt("Out", output.get("execution_count"))
        content = _data(output.get("data", {}), output.get("metadata", {}))
    return f'<div class="output_area">{prompt}{content}</div>' if content else ""


def _data(data: Mapping[str, Any], metadata: Mapping[str, Any]) -> str:
    kind = next((kind for kind in _SHOWN if kind in data), None)
    plain = str(data.get("text/plain", data.get("text/latex", "")))
    if kind is None:
        return _subarea("output_text", f"<pre>{ansi_to_html(plain)}</pre>") if plain else ""
    value = data[kind]
    if kind == "text/html":
        return _subarea("output_html rendered_html", value)
    if kind == "text/markdown":
        return _subarea("output_markdown rendered_html", _markdown(value, {}))
    coded = base64.b64encode(value.encode()).decode() if kind == "image/svg+xml" else "".join(value.split())
    size = metadata.get(kind, {})
    sides = "".join(f' {side}="{escape(str(size[side]))}"' for side in ("width", "height") if side in size)
    picture = f'<img alt="{escape(plain)}" src="data:{kind};base64,{escape(coded)}"{sides}>'
    return _subarea(f"output_{kind.removeprefix('image/').removesuffix('+xml')}", picture)


def _subarea(classes: str, content: str) -> str:
    return f'<div class="output_subarea {classes}">{content}</div>'


def _markdown(text: str, attachments: Mapping[str, Mapping[str, str]]) -> str:
    for name, forms in attachments.items():
        for kind, coded in forms.items():
            text = text.replace(f"attachment:{name}", f"data:{kind};base64,{''.join(coded.split())}")
    return str(_markdown_parser()(text))


@cache
def _markdown_parser() -> Any:
    import mistune

    return mistune.create_markdown(escape=False, plugins=["strikethrough", "table", "url", "task_lists", "math"])


def _span(text: str, state: Mapping[str, str]) -> str:
    text = escape(text, quote=False)
    if not text or not state:
        return text
    classes = " ".join(f"ansi-{value}" for value in state.values() if ":" not in value)
    styles = "; ".join(value for value in state.values() if ":" in value)
    attributes = (f' {name}="{value}"' for name, value in (("class", classes), ("style", styles)) if value)
    return f"<span{''.join(attributes)}>{text}</span>"


def _follow(codes: list[int], state: dict[str, str]) -> None:
    """Apply one sequence of codes to what the following text looks like."""
    while codes:
        code = codes.pop(0)
        if code == 0:
            state.clear()
        elif code in _STYLES:
            state[_STYLES[code]] = _STYLES[code]
        elif code in _STYLES_OFF:
            state.pop(_STYLES_OFF[code], None)
        elif code // 10 in _GROUNDS:
            ground, first = _GROUNDS[code // 10]
            if code in (39, 49):
                state.pop(ground, None)
            else:
                _set_colour(ground, _extended(codes) if code in (38, 48) else first + code % 10, state)


def _extended(codes: list[int]) -> int | tuple[int, ...] | None:
    """Take a colour's number (`5;n`) or its red, green and blue (`2;r;g;b`) off the codes."""
    form = codes.pop(0) if codes else 0
    if form == 5 and codes:
        return codes.pop(0)
    if form == 2 and len(codes) >= 3:
        return tuple(codes.pop(0) for _ in range(3))
    return None


def _set_colour(ground: str, colour: int | tuple[int, ...] | None, state: dict[str, str]) -> None:
    if isinstance(colour, int) and 0 <= colour < 16:
        intense = "-intense" if colour >= 8 else ""
        state[ground] = f"{_COLOURS[colour % 8]}{intense}-{ground}"
        return
    if isinstance(colour, int):
        colour = _of_256(colour)
    if colour is not None and all(0 <= part < 256 for part in colour):
        state[ground] = f"{'color' if ground == 'fg' else 'background-color'}: rgb{tuple(colour)}"


def _of_256(number: int) -> tuple[int, int, int] | None:
    """Give the red, green and blue of a colour of the 256: a cube of six steps a side, and greys."""
    if 16 <= number < 232:
        red, green, blue = (55 + 40 * step if step else 0 for step in _steps(number - 16))
        return red, green, blue
    return (8 + 10 * (number - 232),) * 3 if 232 <= number < 256 else None


def _steps(number: int) -> tuple[int, int, int]:
    return number // 36, number // 6 % 6, number % 6
