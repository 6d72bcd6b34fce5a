"""The pipeline as a page: one SVG in one HTML file that needs nothing from anywhere."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html import escape

from dsflow.graph import Arrow, Box, Graph

_CHARACTER, _PADDING, _HEIGHT = 7.3, 24, 30
# Arrows arrive at a box one below the other, each with its words.
_PER_ARROW = 13
_BETWEEN_COLUMNS, _BETWEEN_ROWS, _MARGIN = 64, 16, 24
# Further rounds of putting boxes between their neighbours change little.
_ROUNDS = 6

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; --ink: #1c2430; --paper: #ffffff; --line: #8a94a3; --job: #dbe9ff; --table: #d9f2e0;
  --raw: #fbe9cf; }}
@media (prefers-color-scheme: dark) {{ :root {{ --ink: #e8ecf2; --paper: #14181f; --line: #7a8494; --job: #23406b;
  --table: #1f4a30; --raw: #5a4218; }} }}
body {{ margin: 0; background: var(--paper); color: var(--ink); font: 15px/1.4 system-ui, sans-serif; }}
h1 {{ font-size: 1.2rem; margin: 1rem 1.5rem 0; }}
p {{ margin: .3rem 1.5rem; }}
.key {{ display: inline-block; padding: 0 .6em; margin-right: .4em; border: 1px solid var(--line); color: var(--ink); }}
main {{ overflow-x: auto; }}
text {{ font: 12px ui-monospace, monospace; fill: var(--ink); }}
.note {{ font-size: 10px; }}
.job {{ fill: var(--job); background: var(--job); }}
.table {{ fill: var(--table); background: var(--table); border-radius: 1em; }}
.raw {{ fill: var(--raw); background: var(--raw); border-radius: 1em; }}
rect {{ stroke: var(--line); }}
path {{ fill: none; stroke: var(--line); stroke-width: 1.5; }}
marker path {{ fill: var(--line); stroke: none; }}
</style>
</head>
<body>
<h1>{title}</h1>
<p><span class="key job">job</span><span class="key table">table</span><span class="key raw">raw dataset</span></p>
<main>
{drawing}
</main>
</body>
</html>
"""
_ARROW_TIP = """<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8"
orient="auto"><path d="M0 0 L8 4 L0 8 z"/></marker></defs>"""


@dataclass(frozen=True)
class _Spot:
    """Where a box is: its left upper corner, its width and its height."""

    x: float
    y: float
    width: float
    height: float


def page(graph: Graph, title: str) -> str:
    """Give the HTML page of a graph.

    Args:
        graph: What to draw.
        title: The heading.
    """
    spots = _spots(graph)
    width = max((spot.x + spot.width for spot in spots.values()), default=0) + _MARGIN
    height = max((spot.y + spot.height for spot in spots.values()), default=0) + _MARGIN
    size = f'width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}"'
    parts = [
        f'<svg role="img" aria-label="{escape(title)}" {size}>',
        _ARROW_TIP,
        *_arrows(graph, spots),
        *(_box(box, spots[box.key]) for box in graph.boxes),
        "</svg>",
    ]
    return _PAGE.format(title=escape(title), drawing="\n".join(parts))


def _box(box: Box, spot: _Spot) -> str:
    round_corner = 0 if box.kind == "job" else _HEIGHT / 2
    note = f" ({box.note})" if box.note else ""
    return (
        f'<g><title>{escape(box.kind)} {escape(box.name + note)}</title><rect class="{box.kind}" x="{spot.x:.0f}"'
        f' y="{spot.y:.0f}" width="{spot.width:.0f}" height="{spot.height:.0f}" rx="{round_corner:g}"/>'
        f'<text x="{spot.x + spot.width / 2:.0f}" y="{spot.y + spot.height / 2 + 4:.0f}" text-anchor="middle">'
        f"{escape(box.label)}</text></g>"
    )


def _arrows(graph: Graph, spots: Mapping[str, _Spot]) -> Iterator[str]:
    arriving: dict[str, list[Arrow]] = {}
    for arrow in graph.arrows:
        arriving.setdefault(arrow.target, []).append(arrow)
    for key, arrows in arriving.items():
        spot = spots[key]
        # From above to below, so that they do not cross.
        for number, arrow in enumerate(sorted(arrows, key=lambda arrow: spots[arrow.source].y), 1):
            yield from _arrow(arrow, spots[arrow.source], spot.x, spot.y + spot.height * number / (len(arrows) + 1))


def _arrow(arrow: Arrow, source: _Spot, x2: float, y2: float) -> Iterator[str]:
    x1, y1 = source.x + source.width, source.y + source.height / 2
    bend = _BETWEEN_COLUMNS * 0.6
    curve = f"M{x1:.0f} {y1:.0f} C{x1 + bend:.0f} {y1:.0f} {x2 - bend:.0f} {y2:.0f} {x2:.0f} {y2:.0f}"
    yield f'<path d="{curve}" marker-end="url(#tip)"/>'
    if arrow.note:
        yield f'<text class="note" x="{x2 - 12:.0f}" y="{y2 - 3:.0f}" text-anchor="end">{escape(arrow.note)}</text>'


def _spots(graph: Graph) -> dict[str, _Spot]:
    notes: dict[str, list[int]] = {box.key: [] for box in graph.boxes}
    for arrow in graph.arrows:
        notes[arrow.target].append(len(arrow.note))
    labels = {box.key: len(box.label) for box in graph.boxes}
    heights = {key: max(_HEIGHT, _PER_ARROW * (len(arriving) + 1)) for key, arriving in notes.items()}
    columns = _columns(graph)
    totals = [sum(heights[key] + _BETWEEN_ROWS for key in column) for column in columns]
    spots: dict[str, _Spot] = {}
    x: float = _MARGIN
    for column, total in zip(columns, totals, strict=True):
        width = max(labels[key] for key in column) * _CHARACTER + _PADDING
        # The words on the arrows stand before the boxes they lead to.
        x += max((length for key in column for length in notes[key]), default=0) * _CHARACTER * 0.85
        y = _MARGIN + (max(totals) - total) / 2
        for key in column:
            spots[key] = _Spot(x, y, width, heights[key])
            y += heights[key] + _BETWEEN_ROWS
        x += width + _BETWEEN_COLUMNS
    return spots


def _columns(graph: Graph) -> list[list[str]]:
    """Give the boxes by column, each as far to the left as its arrows allow, near its neighbours of other columns."""
    above: dict[str, list[str]] = {box.key: [] for box in graph.boxes}
    below: dict[str, list[str]] = {box.key: [] for box in graph.boxes}
    for arrow in graph.arrows:
        above[arrow.target].append(arrow.source)
        below[arrow.source].append(arrow.target)
    depth: dict[str, int] = {}
    for box in graph.boxes:  # in the order of the pipeline: what an arrow comes from is there already
        depth[box.key] = max((depth[source] + 1 for source in above[box.key]), default=0)
    columns: list[list[str]] = [[] for _ in range(max(depth.values(), default=-1) + 1)]
    for key, number in depth.items():
        columns[number].append(key)
    for number in range(_ROUNDS):
        neighbours = below if number % 2 else above
        rows = {key: row - len(column) / 2 for column in columns for row, key in enumerate(column)}
        for column in columns:
            middle = {
                key: statistics.fmean([rows[other] for other in neighbours[key]] or [rows[key]]) for key in column
            }
            column.sort(key=middle.__getitem__)
            rows.update({key: row - len(column) / 2 for row, key in enumerate(column)})
    return columns
