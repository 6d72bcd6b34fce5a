"""Which jobs a person means: names, patterns, what is above and below them, in the grammar of dbt.

    x   +x   x+   2+x   x+1   @x   a*   tag:T   path:jobs/a*   table:T   raw:R

`+` in front adds the jobs that x needs, behind it those that need x, with a number only so many steps away; `@x` is x
with all that need it, and whatever those need. Several expressions are a union; a comma is an intersection.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import PurePosixPath

from dsflow.errors import UsageError, did_you_mean
from dsflow.pipeline import Pipeline

_EXPRESSION = re.compile(
    r"(?P<at>@)?(?:(?P<above>\d*)\+)?(?P<what>[^+@]+)(?P<plus>\+(?P<below>\d*))?", re.ASCII | re.DOTALL
)
_OPERATORS = re.compile(r"[+@:,*?\[]")
_HINT = "Write x, +x, x+, 2+x, @x, a*, tag:T, path:jobs/a*, table:T or raw:R; `dsflow ls` shows the jobs."
_ALL = 1_000_000_000


def select(pipeline: Pipeline, expressions: Sequence[str], exclude: Sequence[str] = ()) -> list[str]:
    """Give the names of the jobs that are meant, in the order of the pipeline.

    Args:
        pipeline: All jobs.
        expressions: What is wanted; everything where there are none.
        exclude: What is not wanted after all.

    Raises:
        UsageError: an expression is wrong, or nothing fits a part of it.
        SpecError: jobs that cannot be read might belong to it.
    """
    plain = [name for expression in (*expressions, *exclude) for name in expression.split()]
    _check_readable(pipeline, plain if expressions else ["*"])
    found = _union(pipeline, expressions) if expressions else set(pipeline.nodes)
    found -= _union(pipeline, exclude)
    return [name for name in pipeline.nodes if name in found]


def _check_readable(pipeline: Pipeline, wanted: list[str]) -> None:
    """Refuse what a job with mistakes could belong to; a job by its plain name is sure to be none of those."""
    for name in wanted:
        if name in pipeline.broken:
            raise pipeline.broken[name]
    if any(_OPERATORS.search(name) for name in wanted):
        pipeline.check_readable()


def _union(pipeline: Pipeline, expressions: Iterable[str]) -> set[str]:
    found: set[str] = set()
    for expression in expressions:
        parts = expression.split()
        if not parts:
            raise UsageError("an empty selection", _HINT)
        for part in parts:
            found |= set.intersection(*(_one(pipeline, piece, part) for piece in part.split(",")))
    return found


def _one(pipeline: Pipeline, text: str, whole: str) -> set[str]:
    match = _EXPRESSION.fullmatch(text)
    if match is None or (match["at"] and (match["above"] is not None or match["plus"])):
        raise UsageError(f"{_short(whole)} is not a selection", _HINT)
    found = _named(pipeline, match["what"])
    if match["at"]:
        below = _reached(found, pipeline.children, _ALL)
        return _reached(below, pipeline.parents, _ALL)
    above = _reached(found, pipeline.parents, _steps(match["above"]))
    return above | _reached(found, pipeline.children, _steps(match["below"]))


def _steps(text: str | None) -> int:
    """Give how far a `+` goes: all the way without a number, nowhere where there is none."""
    if text is None:
        return 0
    return int(text) if 0 < len(text) < 10 else _ALL


def _reached(names: set[str], neighbours: Callable[[str], Iterable[str]], steps: int) -> set[str]:
    found, edge = set(names), set(names)
    while edge and steps > 0:
        edge = {other for name in edge for other in neighbours(name)} - found
        found |= edge
        steps -= 1
    return found


def _named(pipeline: Pipeline, text: str) -> set[str]:
    method, colon, value = text.partition(":")
    if not colon:
        return _found(text, pipeline.nodes, "job", lambda name: {name})
    if method == "tag":
        tagged: dict[str, set[str]] = {}
        for name, node in pipeline.nodes.items():
            for tag in node.job.tags:
                tagged.setdefault(tag, set()).add(name)
        return _found(value, tagged, "tag", tagged.__getitem__)
    if method in ("table", "raw"):
        writers = dict(_written(pipeline, method))
        return _found(value, writers, f"job that writes the {_WORDS[method]}", lambda name: {writers[name]})
    if method == "path":
        return _at_path(pipeline, value)
    raise UsageError(
        f"{_short(text)}: there is no selection by {_short(method)}{did_you_mean(method, ('tag', 'path', *_WORDS))}",
        _HINT,
    )


_WORDS = {"table": "table", "raw": "raw dataset"}


def _written(pipeline: Pipeline, store: str) -> Iterable[tuple[str, str]]:
    for name, node in pipeline.nodes.items():
        if node.writes is not None and node.writes[0] == store:
            yield node.writes[1], name


def _found(pattern: str, known: Iterable[str], what: str, jobs: Callable[[str], set[str]]) -> set[str]:
    names = [name for name in known if name == pattern or fnmatchcase(name, pattern)]
    if not names:
        raise UsageError(f"there is no {what} {_short(pattern)}{did_you_mean(pattern, known)}", _HINT)
    return set().union(*map(jobs, names))


def _at_path(pipeline: Pipeline, value: str) -> set[str]:
    wanted = PurePosixPath(value)
    found = set()
    for name in pipeline.nodes if value else ():
        folder = PurePosixPath("jobs", name)
        if wanted == folder or wanted in folder.parents or folder in wanted.parents or fnmatchcase(str(folder), value):
            found.add(name)
    if not found:
        folders = [f"jobs/{name}" for name in pipeline.nodes]
        raise UsageError(f"there is no job at the path {_short(value)}{did_you_mean(value, folders)}", _HINT)
    return found


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:37] + "...")
