"""What a job reads, by its spec and by its code; nothing is run.

A SQL job is rendered once, for the partition of today with its default parameters, and parsed. Of Python, in a
notebook, a script or a dashboard, the calls of `job.table` and `job.sql` count whose first argument is a plain text.
"""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from dsflow import parameters, partitions
from dsflow.errors import UsageError
from dsflow.macros import template_names
from dsflow.notebooks import parse, read_notebook, source_of
from dsflow.queries import sources_of
from dsflow.rendering import render
from dsflow.specs.legacy import place_of
from dsflow.specs.load import JobSpec, read_text
from dsflow.workspace import JOB_SPECS, Workspace
from dsflow.writers import Mention

_OWN_DS = re.compile(r"\{\{\s*(\w+)\s*\}\}")


def mentions(workspace: Workspace, job: JobSpec, main: str, dialect: str) -> Iterator[Mention]:
    """Give what a job reads, each source once, declared ones first.

    Args:
        workspace: Where the job is.
        job: The job.
        main: Its main file, relative to its folder.
        dialect: The dialect of its SQL.

    Raises:
        UsageError: the main file cannot be read, or is not what it should be.
    """
    spec_where = workspace.shown(workspace.jobs / job.name / JOB_SPECS)
    path = workspace.jobs / job.name / main
    where = workspace.shown(path)
    declared = list(_legacy(job, spec_where) if job.legacy else _declared(job, spec_where))
    found = {mention.name.casefold(): mention for mention in declared}
    if job.kind == "sql":
        named = _in_query(job, path, where, dialect)
    else:
        named = _called(path.suffix, _python(path, where), where, dialect)
    for mention in named:
        found.setdefault(mention.name.casefold(), mention)
    yield from found.values()


def named_in_sql(source: str, where: str, *, in_code: bool = False) -> Mention:
    """Give the mention for a name that `queries.sources_of` found: `NAME`, or `raw.NAME`."""
    store: Literal["table", "raw"] = "raw" if source.startswith("raw.") else "table"
    dataset = source.removeprefix("raw.")
    return Mention(name=source, store=store, dataset=dataset, where=where, in_code=in_code, sure=not in_code)


def sql_for_sample(job: JobSpec, text: str, where: str) -> str:
    """Give the SQL of a job as it is today, with default parameters.

    Raises:
        UsageError: it cannot be rendered.
    """
    if "{" not in text:
        return text
    values = parameters.settle(job, parameters.declared(job, {}, where), {}, os.environ)
    ds = partitions.resolve("today", job.grain)
    bounds = (partitions.start_of(ds, job.grain), partitions.end_of(ds, job.grain))
    moment = {"ds": ds, "start": bounds[0].isoformat(), "end": bounds[1].isoformat(), "run_id": "sample"}
    return render(text, template_names(job, moment, values), where)


def _in_query(job: JobSpec, path: Path, where: str, engine: str) -> Iterator[Mention]:
    code = sql_for_sample(job, read_text(path, where), where)
    yield from (named_in_sql(source, where) for source in sources_of(code, engine, where))


def _declared(job: JobSpec, where: str) -> Iterator[Mention]:
    for name, spec in job.inputs.items():
        place = f"{where}: inputs.{name}"
        if spec.path is not None:
            yield Mention(name=name, store="path", dataset=spec.path, where=place)
            yield from _partition_at(spec.path, f"{name} (path)", place, {"ds"})
            continue
        yield declared_mention(job, name, place)
    yield from referenced(job, where).values()


def referenced(job: JobSpec, where: str) -> dict[str, Mention]:
    """Give the mentions of other tables in which expectations look up values, by table.

    Args:
        job: The job.
        where: How messages call its spec.
    """
    own = job.output.table if job.output else None
    found = [
        (check.references.table, f"{where}: expectations[{index}].references")
        for index, check in enumerate(job.expectations)
        if check.references is not None and check.references.table != own
    ]
    return {
        table: Mention(name=f"references {table}", store="table", dataset=table, where=place) for table, place in found
    }


def declared_mention(job: JobSpec, name: str, where: str) -> Mention:
    """Give the mention for a declared input that is a table or a raw dataset."""
    spec = job.inputs[name]
    return Mention(
        name=name,
        store="table" if spec.table else "raw",
        dataset=str(spec.table or spec.raw),
        where=where,
        window=spec.window,
        lookback=spec.lookback or 0,
        as_of=spec.as_of is not None,
    )


def _legacy(job: JobSpec, where: str) -> Iterator[Mention]:
    for key, value in job.task_specs.items():
        place = f"{where}: task_specs.{key}"
        if key == "sink_path" or not isinstance(value, str) or not value:
            continue
        name = "source" if key == "source_path" else key
        partition = list(_partition_at(value, name, place, {"ds", *job.positional}))
        if key == "source_path" and not partition:
            yield Mention(name=name, store="path", dataset=value, where=place)
        yield from partition


def _partition_at(path: str, name: str, where: str, dates: set[str]) -> Iterator[Mention]:
    """Give the mention for a path that is a partition of the datastore.

    Args:
        path: The path.
        name: What the job calls it.
        where: The place of the path.
        dates: The names of parameters that stand for ds.
    """
    place = place_of(path)
    if place is None or "{" in place.name:
        return
    ds = _OWN_DS.fullmatch(place.ds)
    # A partition of a fixed or of a computed date ties the jobs together, but not their dates.
    exact = ds is not None and ds[1] in dates and name == "source"
    yield Mention(name=name, store=place.store, dataset=place.name, where=where, window=1, in_code=not exact)


def _python(path: Path, where: str) -> list[str]:
    """Give the pieces of Python in a main file: the cells of a notebook, or the whole text."""
    if path.suffix == ".ipynb":
        cells = read_notebook(path, where)["cells"]
        return [source_of(cell) for cell in cells if cell.get("cell_type") == "code"]
    return [read_text(path, where)] if path.suffix == ".py" else []


def _called(suffix: str, pieces: list[str], where: str, engine: str) -> Iterator[Mention]:
    if not any("dsflow" in piece for piece in pieces):
        return
    names: dict[str, str] = {}
    for number, piece in enumerate(pieces, 1):
        try:
            tree = parse(piece, where)
        except UsageError:
            continue  # another language, or a mistake that the run will show better
        names |= _imported(tree)
        place = f"{where}: cell {number}" if suffix == ".ipynb" else where
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
                yield from _asked(node, names, f"{place}, line {node.lineno}", engine)


def _imported(tree: ast.Module) -> dict[str, str]:
    """Give what names of the code stand for: `job`, `table` or `sql` of dsflow."""
    found: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module in ("dsflow", "dsflow.job"):
            for alias in node.names:
                every = ("table", "sql") if alias.name == "*" else ()
                found |= {name: name for name in every} or {alias.asname or alias.name: alias.name}
        elif isinstance(node, ast.Import):
            found |= {alias.asname: "job" for alias in node.names if alias.name == "dsflow.job" and alias.asname}
            found |= {alias.name[:6]: "dsflow" for alias in node.names if alias.name in ("dsflow", "dsflow.job")}
    return {name: meaning for name, meaning in found.items() if meaning in ("job", "table", "sql", "dsflow")}


def _asked(call: ast.Call, names: Mapping[str, str], where: str, engine: str) -> Iterator[Mention]:
    text = call.args[0].value if isinstance(call.args[0], ast.Constant) else None
    function = _function(call.func, names)
    if not isinstance(text, str) or function is None:
        return
    if function == "table":
        options = dict(zip(("as_of", "window"), call.args[1:], strict=False))
        options |= {keyword.arg: keyword.value for keyword in call.keywords if keyword.arg}
        as_of = "as_of" in options and not _is(options["as_of"], None)
        window = options.get("window")
        length = window.value if isinstance(window, ast.Constant) and type(window.value) is int else None
        yield Mention(name=text, store="table", dataset=text, where=where, window=length, as_of=as_of, in_code=True)
        return
    try:
        sources = sources_of(text, engine)
    except UsageError:
        return
    yield from (named_in_sql(source, where, in_code=True) for source in sources)


def _function(function: ast.expr, names: Mapping[str, str]) -> str | None:
    """Give `table` or `sql` where an expression is that function of dsflow."""
    match function:
        case ast.Name(id=name):
            return found if (found := names.get(name)) in ("table", "sql") else None
        case ast.Attribute(value=ast.Name(id=name), attr="table" | "sql" as attribute):
            return attribute if names.get(name) in ("job", "dsflow") else None
        case ast.Attribute(value=ast.Attribute(value=ast.Name(id=name), attr="job"), attr="table" | "sql" as attribute):
            return attribute if names.get(name) == "dsflow" else None
    return None


def _is(node: ast.expr, value: Any) -> bool:
    return isinstance(node, ast.Constant) and node.value is value
