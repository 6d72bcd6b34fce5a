"""The pipeline as boxes and arrows, and as text: a tree for the terminal, or Mermaid."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from dsflow.pipeline import Node, Pipeline
from dsflow.quantities import show_count
from dsflow.reads import Read

# A chain that is longer goes on at the margin: a tree that leaves the screen cannot be read.
_DEEPEST = 8


@dataclass(frozen=True, kw_only=True)
class Box:
    """A job, a table or a raw dataset.

    Attributes:
        key: What arrows call it.
        kind: What it is.
        name: Its name.
        note: What is special about it.
    """

    key: str
    kind: Literal["job", "table", "raw"]
    name: str
    note: str = ""

    @property
    def label(self) -> str:
        """The name as the command line shows it."""
        return f"raw/{self.name}" if self.kind == "raw" else self.name


@dataclass(frozen=True, kw_only=True)
class Arrow:
    """From a dataset to a job that reads it, or from a job to what it writes; `note` says how it is read."""

    source: str
    target: str
    note: str = ""


@dataclass(frozen=True)
class Graph:
    """Boxes in the order of the pipeline, and the arrows between them."""

    boxes: tuple[Box, ...]
    arrows: tuple[Arrow, ...]


def graph_of(pipeline: Pipeline, names: Iterable[str]) -> Graph:
    """Give the boxes and arrows of some jobs, and of what they read and write."""
    boxes: dict[str, Box] = {}
    arrows: dict[tuple[str, str], Arrow] = {}
    for node in (pipeline.nodes[name] for name in names):
        job = Box(key=f"job:{node.job.name}", kind="job", name=node.job.name, note=_own_note(node))
        for read in node.reads:
            if read.store != "path" and not read.own:
                source = Box(key=f"{read.store}:{read.dataset}", kind=read.store, name=read.dataset)
                boxes.setdefault(source.key, source)
                arrow = Arrow(source=source.key, target=job.key, note=how_read(node, read))
                arrows.setdefault((source.key, job.key), arrow)
        boxes[job.key] = job
        if node.writes is not None:
            store, dataset = node.writes
            target = Box(key=f"{store}:{dataset}", kind=store, name=dataset)
            boxes.setdefault(target.key, target)
            arrows[job.key, target.key] = Arrow(source=job.key, target=target.key)
    return Graph(tuple(boxes.values()), tuple(arrows.values()))


def how_read(node: Node, read: Read) -> str:
    """Give in words what is special about how a job reads a source, or an empty text."""
    grain = node.job.grain
    parts = []
    if read.as_of:
        parts.append("newest")
    elif read.window > 1:
        parts.append(f"last {show_count(read.window, grain)}")
    if read.lookback:
        parts.append(f"{show_count(read.lookback, grain)} ahead")
    if read.grain != grain:
        parts.append(f"by {read.grain}")
    return ", ".join(parts)


def tree(graph: Graph, width: int | None = None) -> list[str]:
    """Give the lines of a tree: below each job those that read what it writes.

    A job that several others lead to is unfolded once.

    Args:
        graph: What to draw.
        width: How wide a line may be; what is longer is cut.
    """
    drawn = _Tree(graph)
    return [line if width is None or len(line) <= width else line[: width - 1] + "…" for line in drawn.lines()]


def mermaid(graph: Graph) -> list[str]:
    """Give the lines of a Mermaid flowchart."""
    ids = {box.key: f"n{number}" for number, box in enumerate(graph.boxes)}
    shapes = {"job": '["{}"]', "table": '[("{}")]', "raw": '[/"{}"/]'}
    lines = ["flowchart LR"]
    for box in graph.boxes:
        text = f"{box.label} ({box.note})" if box.note else box.label
        lines.append(f"    {ids[box.key]}{shapes[box.kind].format(_escaped(text))}")
    for arrow in graph.arrows:
        note = f'|"{_escaped(arrow.note)}"|' if arrow.note else ""
        lines.append(f"    {ids[arrow.source]} -->{note} {ids[arrow.target]}")
    return lines


class _Tree:
    """A walk through a graph, from its beginnings, that writes lines."""

    def __init__(self, graph: Graph) -> None:
        self._boxes = {box.key: box for box in graph.boxes}
        self._out: dict[str, list[Arrow]] = {box.key: [] for box in graph.boxes}
        self._written = {arrow.target for arrow in graph.arrows if self._boxes[arrow.source].kind == "job"}
        for arrow in graph.arrows:
            self._out[arrow.source].append(arrow)
        reached = {arrow.target for arrow in graph.arrows}
        self._roots = deque(box.key for box in graph.boxes if box.key not in reached)
        self._seen: set[str] = set()

    def lines(self) -> Iterator[str]:
        while self._roots:
            yield from self._below(Arrow(source="", target=self._roots.popleft()), "", "", 0)

    def _below(self, arrow: Arrow, first: str, rest: str, depth: int) -> Iterator[str]:
        """Give the lines of what an arrow leads to; the first line and the others have prefixes of their own."""
        box = self._boxes[arrow.target]
        children = self._readers(box)
        again = box.key in self._seen
        cut = not again and depth == _DEEPEST and bool(children)
        yield first + self._text(box, arrow.note) + ("  (see above)" if again else "  (see below)" if cut else "")
        if again:
            return
        if cut:
            self._roots.append(box.key)
            return
        self._seen.add(box.key)
        for number, child in enumerate(children, 1):
            last = number == len(children)
            yield from self._below(
                child, rest + ("└─ " if last else "├─ "), rest + ("   " if last else "│  "), depth + 1
            )

    def _readers(self, box: Box) -> list[Arrow]:
        """Give the arrows to the jobs that read a dataset, or what a job writes."""
        arrows = self._out[box.key]
        return [far for near in arrows for far in self._out[near.target]] if box.kind == "job" else arrows

    def _text(self, box: Box, note: str) -> str:
        notes = "; ".join(filter(None, (note, box.note)))
        if box.kind != "job":
            return f"{box.label}  (no job here writes it)"
        writes = "".join(f"  -> {self._boxes[arrow.target].label}" for arrow in self._out[box.key])
        return box.label + writes + (f"  [{notes}]" if notes else "")


def _own_note(node: Node) -> str:
    return "its own past" if any(read.own for read in node.reads) else ""


def _escaped(text: str) -> str:
    """Give a text as Mermaid takes it: what might mean something to it becomes a number."""
    return re.sub(r"[^\w ./,()-]", lambda match: f"#{ord(match[0])};", text, flags=re.ASCII)
