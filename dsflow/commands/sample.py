"""`dsflow sample`: the samples that runs with `--sample` read."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from dsflow.commands import plans, sampled
from dsflow.commands.context import Context
from dsflow.errors import UsageError, did_you_mean
from dsflow.quantities import memory_bytes, show_bytes, show_count

if TYPE_CHECKING:
    from dsflow.samples.estimates import Estimate
    from dsflow.samples.fetching import Samples
    from dsflow.samples.report import Held, Join
    from dsflow.samples.sources import Source
    from dsflow.sampling.estimate import Size


@click.group()
@click.pass_obj
def sample(context: Context) -> None:
    """The samples that `dsflow run --sample` and `dsflow backfill --sample` read.

    \b
    dsflow sample estimate
    dsflow sample fetch orders 2026-11-01..2026-11-20
    dsflow sample list
    """


@sample.command()
@click.argument("arguments", nargs=-1, metavar="[SOURCE]... [DS|A..B]")
@click.pass_obj
def estimate(context: Context, arguments: tuple[str, ...]) -> None:
    """Show how large the samples of SOURCEs (of all that are declared) would be, before any data is read.

    Without dates of all partitions; of what has none by itself, of yesterday.
    """
    from dsflow.samples.estimates import Estimator

    samples = _samples(context)
    wanted = samples.complete(_wanted(samples, arguments))
    estimator = Estimator(samples, wanted)
    found = [estimator.estimate(source) for source in wanted]
    if context.json:
        context.console.document({"sources": [_estimate_document(one) for one in found]})
        return
    columns = ["source", "partitions", "rows", "of", "bytes", "of", "limit", "told by", "read"]
    context.console.table(columns, [_estimate_row(one) for one in found])


@sample.command()
@click.argument("arguments", nargs=-1, metavar="[SOURCE]... [DS|A..B]")
@click.option("--force", is_flag=True, help="Fetch again what is there and has not changed.")
@click.pass_obj
def fetch(context: Context, arguments: tuple[str, ...], force: bool) -> None:
    """Fetch the samples of SOURCEs (of all that are declared) for some dates.

    Without dates all partitions; of what has none by itself, yesterday. What is there and would come out the same is
    left alone, so the same command goes on after a failure. A sample that is there stays until the new one is whole.
    """
    samples = _samples(context)
    found = sampled.fetch(context, samples, _wanted(samples, arguments), thorough=True, force=force)
    joins = _joins(context, samples)
    if context.json:
        fetched = [
            {"source": one.source.label, "ds": one.manifest.ds, "rows": one.manifest.rows, "of": one.there}
            | {"bytes": one.manifest.bytes, "run_id": one.manifest.run_id}
            for one in found
        ]
        context.console.document({"fetched": fetched, "joins": [dataclasses.asdict(join) for join in joins]})
        return
    _show_joins(context, joins)
    size = show_bytes(sum(one.manifest.bytes for one in found))
    context.console.line(f"Done. {show_count(len(found), 'partition')} fetched, {size}." if found else "All is there.")


@sample.command(name="list")
@click.option("--files", is_flag=True, help="Print the files of the samples, for `git add --pathspec-from-file=-`.")
@click.option("--limit", metavar="SIZE", help="Fail if they are larger together, such as 5mb.")
@click.pass_obj
def list_(context: Context, files: bool, limit: str | None) -> None:
    """List the samples that are there: partitions, rows, bytes, and how many rows join."""
    from dsflow.samples.report import held

    samples = _samples(context)
    found = held(samples)
    total = sum(one.bytes for one in found)
    joins = [] if files else _joins(context, samples)
    if context.json:
        documents = [{**dataclasses.asdict(one), "files": [str(file) for file in one.files]} for one in found]
        context.console.document(
            {"samples": documents, "bytes": total, "joins": [dataclasses.asdict(join) for join in joins]}
        )
    elif files:
        for file in (file for one in found for file in one.files):
            context.console.line(context.workspace.shown(file))
    elif found:
        context.console.table(["source", "partitions", "ds", "rows", "bytes"], [_held_row(one) for one in found])
        _show_joins(context, joins)
        context.console.line(f"{show_count(len(found), 'sample')}, {show_bytes(total)}")
    else:
        context.console.note("No sample yet. `dsflow sample fetch` fetches those of all sources.")
    if limit is not None and total > _size(limit):
        raise UsageError(f"the samples have {show_bytes(total)}, more than {limit}", "Give sources a smaller `sample`.")


@sample.command()
@click.argument("names", nargs=-1, metavar="[SOURCE]...")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def drop(context: Context, names: tuple[str, ...], yes: bool) -> None:
    """Take the samples of SOURCEs away, or all of them. What sampled runs have made of them stays."""
    from dsflow.samples.report import held
    from dsflow.store.publishing import remove

    samples = _samples(context)
    there = {one.name: one for one in held(samples)}
    for name in names:
        if name not in there:
            raise UsageError(f"there is no sample of {name!r}{did_you_mean(name, there)}", "`dsflow sample list`")
    chosen = [there[name] for name in dict.fromkeys(names)] if names else list(there.values())
    count = sum(len(one.dates) for one in chosen)
    if count and not yes:
        what = f"{show_count(count, 'partition')} of {', '.join(one.name for one in chosen)}"
        plans.confirm(context.console.is_terminal, f"Take {what} out of {samples.layout.root}?")
    for one in chosen:
        for ds in one.dates:
            remove(samples.layout, one.store, one.dataset, ds)
    if context.json:
        context.console.document({"dropped": {one.name: list(one.dates) for one in chosen}})
        return
    context.console.line(f"Done. {show_count(count, 'partition')} went; .dsflow/trash has them for an hour.")


def _samples(context: Context) -> Samples:
    from dsflow.samples.fetching import Samples

    return Samples(context.workspace, context.settings)


def _wanted(samples: Samples, arguments: Sequence[str]) -> dict[Source, list[str]]:
    """Give the partitions that are meant, by source.

    Raises:
        UsageError: there is no such source, or nothing of it for these dates.
    """
    from dsflow.partitions import span

    names, dates = plans.split_dates(arguments)
    sources = [samples.sources.named(name) for name in names] or list(samples.sources.declared.values())
    if not sources:
        raise UsageError("no source is declared", "Name a table, or write `sources:` into dsflow.yml.")
    found = {}
    for source in sources:
        first, last = dates or source.whole_span or span("yesterday")
        found[source] = source.within(first, last)
        newest = source.newest(last) if dates and source.datastore else None
        # A snapshot counts until the next one.
        if not found[source] and newest is not None:
            found[source] = [newest]
        if not found[source] and names:
            raise UsageError(f"source {source.label} has nothing from {first} to {last}", f"Look at {source.where}.")
    return found


def _joins(context: Context, samples: Samples) -> list[Join]:
    from dsflow.samples.report import joins

    return joins(samples, context.settings) if context.settings.keys else []


def _show_joins(context: Context, joins: Sequence[Join]) -> None:
    if joins:
        rows = [[one.key, one.child, one.parent, f"{one.rows:,}", f"{one.joined:,}", _percent(one)] for one in joins]
        context.console.table(["key", "rows of", "refer to", "rows", "join", "kept"], rows)


def _percent(join: Join) -> str:
    # Not rounded up: 100 % is a promise.
    return f"{int(1000 * join.joined / join.rows) / 10:g} %" if join.rows else ""


def _estimate_row(one: Estimate) -> list[str]:
    most = "at most " if one.sample.at_most else ""
    return [
        one.source.label,
        f"{one.partitions:,}",
        most + _number(one.sample.rows),
        _number(one.whole.rows),
        most + _bytes(one.sample.bytes),
        _bytes(one.whole.bytes),
        one.source.spec.limit,
        one.sample.how,
        show_bytes(one.sample.read),
    ]


def _estimate_document(one: Estimate) -> dict[str, Any]:
    def size(found: Size) -> dict[str, Any]:
        return {"rows": found.rows, "bytes": found.bytes}

    return {
        "source": one.source.label,
        "partitions": one.partitions,
        "sample": size(one.sample),
        "whole": size(one.whole),
        "at_most": one.sample.at_most,
        "limit": one.limit,
        "told_by": one.sample.how,
        "bytes_read": one.sample.read,
    }


def _held_row(one: Held) -> list[str]:
    span = one.dates[0] if len(one.dates) == 1 else f"{one.dates[0]} .. {one.dates[-1]}"
    return [one.name, f"{len(one.dates):,}", span, _number(one.rows), show_bytes(one.bytes)]


def _number(count: int | None) -> str:
    return "" if count is None else f"{count:,}"


def _bytes(count: int | None) -> str:
    return "" if count is None else show_bytes(count)


def _size(text: str) -> int:
    try:
        return memory_bytes(text)
    except ValueError as error:
        raise UsageError(f"--limit: {error}") from None
