"""What a job's code imports: `from dsflow import job`.

Inside a run everything comes from the run's task. Opened by hand (in Jupyter, in a Python shell) the same code works
on the job of the current folder, with its own defaults and today's ds; then `job.write` checks the data and shows it,
but publishes nothing.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from dsflow import model, quality, shortforms, surroundings
from dsflow.errors import DsflowError, JobFailed, UsageError, did_you_mean
from dsflow.inputs import location, nothing_before, partitions_of, rows_of, used
from dsflow.model import EXPECTED, Action, Expectation, Input, InputUsed
from dsflow.partitions import grain_of, shift
from dsflow.quantities import show_count
from dsflow.queries import sources_of
from dsflow.reads import Read, newest_at, partitions_read
from dsflow.shortforms import Setting
from dsflow.store.datastore import Partition
from dsflow.store.layout import Store
from dsflow.surroundings import Surroundings

# What the module offers as plain names, taken from the current task.
ds: str
start: str
end: str
run_id: str
is_first: bool
params: Mapping[str, Any]
sink: Path
spark: Any


def __getattr__(name: str) -> Any:
    if name in ("ds", "start", "end", "run_id"):
        return getattr(surroundings.now().task, name)
    if name == "is_first":
        return _is_first(surroundings.now())
    if name == "params":
        return surroundings.now().parameters
    if name == "sink":
        return _sink(surroundings.now())
    if name == "spark":
        return _session(surroundings.now())
    raise AttributeError(f"`job` has no {name!r}{did_you_mean(name, __all__)}")


__all__ = [
    "ds",
    "end",
    "expect",
    "is_first",
    "load_tables",
    "params",
    "read",
    "run_id",
    "sink",
    "source",
    "spark",
    "sql",
    "start",
    "table",
    "tables",
    "write",
]


def _is_first(context: Surroundings) -> bool:
    """Say whether nothing of what the job makes is published before the run's ds."""
    output = context.task.output
    if output is None:
        return True
    if context.datastore.before(output.store, output.name, output.ds) is not None:
        return False
    _remember(context, [nothing_before(output)])
    return True


def read(name: str) -> Any:
    """Give the rows of a declared input as the engine's lazy table (`.df()`, `.pl()`, `.arrow()` turn it).

    Args:
        name: The input's name in `inputs:` of job_specs.yaml.

    Raises:
        JobFailed: there is no input of that name, or nothing to read.
    """
    context = surroundings.now()
    declared = _declared(context, name)
    partitions = partitions_of(declared, context.datastore)
    _record(context, declared, partitions)
    return rows_of(declared, partitions, context.engine, context.data, context.run_folder)


def source(name: str) -> str:
    """Give the path or URL of a declared input, for code that opens files itself.

    Raises:
        JobFailed: there is no input of that name, or it does not exist.
    """
    context = surroundings.now()
    declared = _declared(context, name)
    partitions = partitions_of(declared, context.datastore)
    _record(context, declared, partitions)
    return location(declared, partitions, context.data)


def table(name: str, as_of: str | None = None, window: int | None = None) -> Any:
    """Give the rows of a table of the datastore as the engine's lazy table, with a column `ds`.

    Of facts that is the partition of the run's ds, of a dimension the newest one at or before it.

    Args:
        name: The table.
        as_of: Take the newest partition at or before this ds, whatever the table's kind.
        window: Take this many partitions up to the run's ds, those that exist.

    Raises:
        JobFailed: there is no such table or partition; the message says what exists.
    """
    context = surroundings.now()
    if window is not None and (as_of is not None or window < 1):
        raise UsageError(f"job.table({name!r}): give a window of 1 or more, or as_of, not both")
    asked = _table_asked(context, name, as_of, window)
    found = partitions_of(asked, context.datastore)
    _record(context, asked, found)
    return rows_of(asked, found, context.engine, context.data, context.run_folder)


def tables() -> list[str]:
    """Give the names of the tables in the datastore."""
    return surroundings.now().datastore.names("table")


def sql(query: str) -> Any:
    """Run a query and give its result as the engine's lazy table.

    Declared inputs are there by their names, any other table of the datastore with a column `ds`: facts with all their
    partitions, a dimension with the newest at or before the run's ds. A raw dataset is `raw.NAME`, with the run's own
    partition.

    Raises:
        JobFailed: the query is wrong or names a table that is not there.
    """
    context = surroundings.now()
    names = _sources(query, context.task.engine)
    declared = {entry.name for entry in context.task.inputs}
    for name in names & declared:
        context.engine.view(name, read(name))
    for name in (names - declared) & set(context.datastore.names("table")):
        _record(context, *_view_table(context, name))
    for name in names - declared:
        if name.startswith("raw."):
            _record(context, *_view_raw(context, name))
    return context.engine.sql(query)


def write(data: Any) -> None:
    """Write rows into the job's output; several calls add to one another.

    Nothing is visible to anybody until the whole run has succeeded and its checks have passed.

    Args:
        data: A DuckDB relation, a Spark DataFrame, a pandas or polars DataFrame, an Arrow table, or a list of dicts.

    Raises:
        JobFailed: the job declares no output, or the data cannot be written.
    """
    context = surroundings.now()
    folder = _sink(context)
    before = set(folder.glob("*.parquet"))
    path = folder / f"{context.task.run_id}-part-{len(before)}.parquet"
    context.engine.write(data, path, context.task.ds)
    if context.run_folder is None:
        rows = sum(context.engine.inspect(sorted(set(folder.glob("*.parquet")) - before)).rows)
        print(
            f"By hand: {show_count(rows, 'row')} could be written; nothing was published.\n"
            f"`dsflow run {context.task.job} {context.task.ds}` publishes."
        )


def expect(name: str, constraint: str | None = None, action: Action = "fail", **more: Any) -> None:
    """Say what must be true of the job's output; it is checked when the code has ended, before anybody sees the rows.

    Args:
        name: What it is called in messages and on the page.
        constraint: A SQL condition on every row, or with aggregates on the whole partition; NULL breaks it.
        action: What happens to rows that break it: `allow`, `drop` or `fail`.
        more: `severity`, `max_failures`, or a short form in place of the constraint: `unique=["city"]`.

    Raises:
        UsageError: it is no expectation, or the job's output is no table.
    """
    context = surroundings.now()
    output = context.task.output
    if output is None or output.store != "table":
        raise UsageError("job.expect: the job writes no table", "Write `output: {table: NAME}` into job_specs.yaml.")
    given = {"name": name, "constraint": constraint, **more}
    shortforms.check(given, action)
    setting = Setting(
        table=output.name,
        end=context.task.end,
        previous=lambda: shortforms.previous(output.name, shift(context.task.ds, -1, context.task.grain)),
        source=lambda table: _table_asked(context, table, None, None),
    )
    asked = shortforms.expectation(given, action, setting)
    if asked.shape is None:
        quality.understood(asked, output.name, None)
    if context.run_folder is not None:
        with open(context.run_folder / EXPECTED, "a", encoding="utf-8") as file:
            file.write(model.to_json(asked, in_one_line=True) + "\n")
    else:
        _try_out(context, asked)


def _try_out(context: Surroundings, asked: Expectation) -> None:
    """Say what an expectation finds in the rows that were written by hand."""
    files = sorted(context.staging.glob("*.parquet"))
    if not files or asked.sources:
        return
    columns = context.engine.inspect(files).columns
    subject = quality.Subject(table=str(context.task.output and context.task.output.name), files=files, columns=columns)
    [check] = quality.judge(context.engine, subject, [asked])
    print(f"By hand: {asked.name}: {check.verdict}, {check.violations:,} of {show_count(check.rows, 'row')} broke it.")
    for row in check.examples:
        print(f"  {row}")


def load_tables() -> list[str]:
    """Make every table of the datastore known to queries, as it is there, and print their names.

    With Spark that goes for `job.spark.sql` and `job.spark.table` too. A table that cannot be read is reported and
    stops nobody. Gives the names that can be used.
    """
    context = surroundings.now()
    loaded = []
    for name in tables():
        try:
            if context.datastore.is_empty("table", name):
                raise _no_partition(name)
            # An engine that looks into files at length does not do that before a query names the table.
            context.engine.offer(name, functools.partial(_whole, context, name))
        except DsflowError as error:
            print(f"ERROR - {name} could not be imported: {error.message}")
        else:
            print(f"INFO - {name} was successfully imported")
            loaded.append(name)
    return loaded


def _sources(query: str, dialect: str) -> set[str]:
    try:
        return set(sources_of(query, dialect))
    except UsageError:
        # The engine knows its own dialect better; if it too finds the query wrong, its words are the ones to show.
        return set()


def _view_table(context: Surroundings, name: str) -> tuple[Input, list[Partition]]:
    asked = _whole_table(context, name)
    partitions = partitions_of(asked, context.datastore)
    context.engine.view(name, rows_of(asked, partitions, context.engine, context.data, context.run_folder))
    return asked, partitions


def _whole_table(context: Surroundings, name: str) -> Input:
    """Give a table as a source: of facts all partitions, of a dimension the newest that the run may see."""
    every = tuple(context.datastore.partitions("table", name))
    if not every:
        raise _no_partition(name)
    as_of = _newest_of_dimension(context, name)
    wanted = every if as_of is None else ()
    return Input(name=name, kind="table", target=name, format="parquet", partitions=wanted, as_of=as_of)


def _whole(context: Surroundings, name: str) -> Any:
    asked = _whole_table(context, name)
    partitions = partitions_of(asked, context.datastore)
    return rows_of(asked, partitions, context.engine, context.data, context.run_folder)


def _no_partition(name: str) -> JobFailed:
    return JobFailed(f"table {name} has no partition yet")


def _table_asked(context: Surroundings, name: str, as_of: str | None, window: int | None) -> Input:
    """Give a table as a source: of facts the run's ds, of a dimension the newest at or before it."""
    if window is None and as_of is None:
        as_of = _newest_of_dimension(context, name)
    wanted = _wanted(context, "table", name, window or 1) if as_of is None else ()
    return Input(name=name, kind="table", target=name, format="parquet", partitions=wanted, as_of=as_of)


def _newest_of_dimension(context: Surroundings, name: str) -> str | None:
    """Give the last ds that the run may see of a table that holds a snapshot per ds; None for facts."""
    datastore, task = context.datastore, context.task
    every = datastore.partitions("table", name)
    if not every:
        return None
    bound = newest_at(_asked(context, "table", name, every[-1], as_of=True), task.ds, task.grain)
    # Where everything is later than that, the oldest tells what kind of table it is.
    found = datastore.newest("table", name, bound) or datastore.partition("table", name, every[0])
    return bound if found and found.manifest and found.manifest.kind == "dim" else None


def _view_raw(context: Surroundings, name: str) -> tuple[Input, list[Partition]]:
    target = name.removeprefix("raw.")
    asked = Input(name=name, kind="raw", target=target, partitions=_wanted(context, "raw", target, 1))
    partitions = partitions_of(asked, context.datastore)
    context.engine.view(name, rows_of(asked, partitions, context.engine, context.data, context.run_folder))
    return asked, partitions


def _declared(context: Surroundings, name: str) -> Input:
    for entry in context.task.inputs:
        if entry.name == name:
            return entry
    names = [entry.name for entry in context.task.inputs]
    raise JobFailed(
        f"the job declares no input {name!r}{did_you_mean(name, names)}",
        f"Its inputs are: {', '.join(names)}." if names else "Declare it under `inputs:` in job_specs.yaml.",
    )


def _wanted(context: Surroundings, store: Store, name: str, length: int) -> tuple[str, ...]:
    """Give the last so many partitions up to the run's; of a dataset with a finer grain all that lie inside those."""
    task = context.task
    every = context.datastore.partitions(store, name)
    asked = _asked(context, store, name, every[-1] if every else task.ds, window=length)
    return partitions_read(asked, task.ds, task.grain) or (task.ds,)


def _asked(context: Surroundings, store: Store, name: str, example: str, **more: Any) -> Read:
    """Give what the code asks for, in the grain that a partition shows."""
    task = context.task
    own = task.output is not None and (task.output.store, task.output.name) == (store, name)
    return Read(name=name, store=store, dataset=name, grain=grain_of(example) or task.grain, own=own, **more)


def _session(context: Surroundings) -> Any:
    """Give the SparkSession of a job that computes with Spark."""
    session = getattr(context.engine, "session", None)
    if session is None:
        raise JobFailed("`job.spark` needs the engine spark", "Write `engine: spark` into job_specs.yaml.")
    return session


def _sink(context: Surroundings) -> Path:
    if context.task.output is None:
        raise JobFailed("the job declares no output", "Write `output: {table: NAME}` into job_specs.yaml.")
    context.staging.mkdir(parents=True, exist_ok=True)
    return context.staging


def _record(context: Surroundings, asked: Input, partitions: list[Partition]) -> None:
    """Leave a line per partition for the shim, which puts it into the run's record."""
    _remember(context, used(asked, partitions))


def _remember(context: Surroundings, found: Iterable[InputUsed]) -> None:
    if context.run_folder is None:
        return
    # A dashboard asks the same again and again.
    entries = [entry for entry in found if entry not in context.recorded]
    context.recorded.update(entries)
    lines = [model.to_json(entry, in_one_line=True) + "\n" for entry in entries]
    with open(context.run_folder / "reads.jsonl", "a", encoding="utf-8") as file:
        file.write("".join(lines))
