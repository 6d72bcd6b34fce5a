"""The keys of `sources` and `keys` in dsflow.yml: what a sampled run reads instead of everything."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, Strict

from dsflow.errors import did_you_mean
from dsflow.specs.fields import Format, Line, Memory, Spec, alone, name_of_a

SourceName = Annotated[str, name_of_a("source")]
KeyName = Annotated[str, name_of_a("key")]
KeyColumns = Annotated[
    tuple[Line, ...], BeforeValidator(alone, json_schema_input_type=str | list[str]), Field(min_length=1)
]


class SampleSpec(Spec):
    """Which rows belong to a sample."""

    rows: Annotated[int, Strict(), Field(ge=1)] | None = Field(default=None, description="So many rows.")
    share: Annotated[float, Field(gt=0, le=1)] | None = Field(
        default=None, description="Such a share of the rows, or of the values of `key`: 0.01 is one in a hundred."
    )
    key: KeyName | None = Field(default=None, description="One of `keys`: all rows of a chosen value are kept.")
    of: Annotated[
        tuple[SourceName, ...], BeforeValidator(alone, json_schema_input_type=str | list[str]), Field(min_length=1)
    ] = Field(default=(), description="With `key`: the values are those in the samples of these sources.")
    stratify: Line | None = Field(default=None, description="A column each of whose values is sampled by itself.")
    seed: Annotated[int, Strict(), Field(ge=0, le=2**31)] = Field(default=0, description="Another one, other rows.")


class SourceSpec(Spec):
    """Data that a sampled run reads: where all of it is, and which of it is enough."""

    table: Annotated[str, name_of_a("table")] | None = Field(
        default=None, description="A table of the datastore; the one called like the source if nothing is named."
    )
    raw: Annotated[str, name_of_a("raw dataset")] | None = Field(default=None, description="A raw dataset.")
    path: Line | None = Field(default=None, description="A file, a folder or a URL; may hold {{ ds }}.")
    url: Line | None = Field(default=None, description="A database, or $NAME: the variable that holds its URL.")
    query: Annotated[str, Field(min_length=1, max_length=100_000)] | None = Field(
        default=None, description="With `url`: a SELECT; may hold {{ ds }}. The table of the source's name if absent."
    )
    environment: Line | None = Field(
        default=None, description="The environment whose datastore the table or raw dataset is in."
    )
    format: Format | None = Field(default=None, description="How files are read; found from their names if absent.")
    filter: Annotated[str, Field(min_length=1, max_length=10_000)] | None = Field(
        default=None, description="A SQL condition over the columns; may hold {{ ds }}."
    )
    sample: SampleSpec | None = Field(default=None, description="Which of the rows that are left.")
    limit: Memory = Field(default="1gb", description="What would be larger is not copied.")


def problems(data: Mapping[str, Any]) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Give what is wrong between the keys of `sources` and `keys`, with the place of each.

    Args:
        data: What dsflow.yml says; values of a wrong type are left to pydantic.
    """
    sources = _mappings(data.get("sources"))
    keys = _keys(data.get("keys"))
    for name, entries in keys.items():
        for problem in _column_problems(entries, sources):
            yield ("keys", name), problem
    for name, source in sources.items():
        for problem in _source_problems(source, _mappings(data.get("environments"))):
            yield ("sources", name), problem
        sample = source.get("sample")
        if isinstance(sample, dict):
            for problem in (*_sample_problems(sample), *_key_problems(name, sample, sources, keys)):
                yield ("sources", name, "sample"), problem
    yield from _seeds(sources)
    yield from _circles(sources)


def _mappings(value: Any) -> dict[str, dict[str, Any]]:
    found = value if isinstance(value, dict) else {}
    return {str(name): item if isinstance(item, dict) else {} for name, item in found.items()}


def _keys(value: Any) -> dict[str, list[list[str]]]:
    """Give the entries of each key: the columns of one source that are the key there."""
    found: dict[str, list[list[str]]] = {}
    for name, columns in (value if isinstance(value, dict) else {}).items():
        entries = [alone(entry) for entry in columns] if isinstance(columns, list) else []
        found[str(name)] = [[str(part) for part in entry] for entry in entries if isinstance(entry, list) and entry]
    return found


def _column_problems(entries: list[list[str]], sources: Mapping[str, Any]) -> Iterator[str]:
    for entry in entries:
        names = {column.partition(".")[0] for column in entry}
        if len(names) > 1 or not all(column.partition(".")[2] for column in entry):
            yield f"{', '.join(entry)!r}: write SOURCE.COLUMN, in a list where several columns are the key"
        elif not names <= sources.keys():
            [name] = names
            yield f"{', '.join(entry)!r}: there is no source {name!r}{did_you_mean(name, sources)}"
    if len(set(map(len, entries))) > 1:
        yield "all of them have the same number of columns"


def _source_problems(source: Mapping[str, Any], environments: Mapping[str, Any]) -> Iterator[str]:
    if sum(name in source for name in ("table", "raw", "path", "url")) > 1:
        yield "name one of 'table', 'raw', 'path' and 'url'"
    if "query" in source and "url" not in source:
        yield "'query' goes with 'url'"
    if "environment" in source and source.keys() & {"path", "url"}:
        yield "'environment' goes with 'table' or 'raw'"
    named = source.get("environment")
    if isinstance(named, str) and named not in environments:
        yield f"there is no environment {named!r}{did_you_mean(named, environments)}"


def _sample_problems(sample: Mapping[str, Any]) -> Iterator[str]:
    said = [name for name in ("rows", "share", "of") if name in sample]
    if len(said) != 1:
        yield "say how much: one of 'rows', 'share' and, with 'key', 'of'"
    if "of" in sample and "key" not in sample:
        yield "'of' goes with 'key': the columns that must match"
    if "key" in sample and "rows" in sample:
        yield "'key' goes with 'share' or 'of', not with 'rows'"
    if "stratify" in sample and "key" in sample:
        yield "'stratify' goes without 'key'; let the other tables follow with 'of'"


def _key_problems(
    name: str, sample: Mapping[str, Any], sources: Mapping[str, Any], keys: Mapping[str, list[list[str]]]
) -> Iterator[str]:
    key = sample.get("key")
    if not isinstance(key, str):
        return
    if key not in keys:
        yield f"there is no key {key!r}{did_you_mean(key, keys)}; declare it under 'keys'"
        return
    members = {entry[0].partition(".")[0] for entry in keys[key]}
    others = alone(sample.get("of", []))
    for other in [name, *(others if isinstance(others, list) else [])]:
        if other not in members:
            guess = did_you_mean(str(other), sources) if other not in sources else ""
            yield f"key {key!r} names no column of {other!r}{guess}"


def _seeds(sources: Mapping[str, Any]) -> Iterator[tuple[tuple[str | int, ...], str]]:
    first: dict[str, tuple[str, Any]] = {}
    for name, source in sources.items():
        sample = source.get("sample")
        if isinstance(sample, dict) and "share" in sample and isinstance(sample.get("key"), str):
            seed = sample.get("seed", 0)
            other, known = first.setdefault(sample["key"], (name, seed))
            if known != seed:
                text = f"the seed is {seed!r}, and that of {other} with the same key {known!r}: no row would join"
                yield ("sources", name, "sample", "seed"), text


def _circles(sources: Mapping[str, Any]) -> Iterator[tuple[tuple[str | int, ...], str]]:
    above = {name: _of(source) for name, source in sources.items()}
    done: set[str] = set()
    while ready := {name for name, others in above.items() if name not in done and not (others & above.keys()) - done}:
        done |= ready
    stuck = sorted(above.keys() - done)
    if stuck:
        yield ("sources",), f"the samples of {', '.join(stuck)} wait for each other ('of')"


def _of(source: Mapping[str, Any]) -> set[str]:
    sample = source.get("sample")
    others = alone(sample.get("of", [])) if isinstance(sample, dict) else []
    return {str(other) for other in others} if isinstance(others, list) else set()
