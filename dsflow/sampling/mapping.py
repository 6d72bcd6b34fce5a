"""The mapping that a person writes: sources with their filters, writers, and the default sampler, read and checked."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from dsflow.errors import UsageError, did_you_mean
from dsflow.sampling.places import folder_name
from dsflow.sampling.refusals import UnknownKey

DEFAULT_LIMIT = 100_000


@dataclass(frozen=True, kw_only=True)
class DataSource:
    """One entry of `data_sources`.

    Attributes:
        name: Its key.
        source: Gives the rows, from a session of the engine; None for the table, or the files, that the key names.
        filter: Gives fewer of these rows.
        default_sampling: Whether the default sampler makes the sample, where there is no filter.
        parquet: Whether the key is the path of Parquet files.
    """

    name: str
    source: Callable[..., Any] | None = None
    filter: Callable[[Any], Any] | None = None
    default_sampling: bool = False
    parquet: bool = False

    @property
    def whole(self) -> bool:
        """Whether nothing makes it smaller."""
        return self.filter is None and not self.default_sampling


def read_sources(given: Mapping[str, Any] | None, with_default: Iterable[str] | None) -> dict[str, DataSource]:
    """Give the sources of a configuration.

    Args:
        given: `data_sources`.
        with_default: `sources_with_default_sampling`: tables for the default sampler. An entry of `data_sources` with
            the same name counts instead.

    Raises:
        UnknownKey: an entry has an unknown key.
        UsageError: a value is of another kind than it must be, or two names lead to the same folder.
    """
    if isinstance(with_default, str):
        raise UsageError("sources_with_default_sampling must be a list of names", f"Write [{with_default!r}].")
    every = {name: DataSource(name=name, default_sampling=True) for name in with_default or ()}
    every |= {name: _source(name, entry) for name, entry in _entries("data_sources", given).items()}
    _check_folders("data_sources", every)
    return every


def read_writers(given: Mapping[str, Any] | None) -> dict[str, Callable[..., Any]]:
    """Give the functions of `data_writers` by name.

    Raises:
        UnknownKey: an entry has an unknown key.
        UsageError: an entry has no function, or two names lead to the same folder.
    """
    entries = _entries("data_writers", given)
    for name, entry in entries.items():
        _check_keys(f"data_writers[{name!r}]", entry, ("writer",))
        if not callable(entry.get("writer")):
            raise UsageError(f"data_writers[{name!r}] needs a function: `writer: lambda df, name, spark: ...`")
    _check_folders("data_writers", entries)
    return {name: entry["writer"] for name, entry in entries.items()}


def read_limit(given: Mapping[str, Any] | None) -> int:
    """Give how many rows the default sampler keeps.

    Raises:
        UnknownKey: `default_sampler` has an unknown key.
        UsageError: the limit is no positive number.
    """
    entry = _mapping("default_sampler", given or {})
    _check_keys("default_sampler", entry, ("limit",))
    limit = entry.get("limit", DEFAULT_LIMIT)
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
        raise UsageError(f"default_sampler.limit must be a number of rows, 1 or more, not {limit!r}")
    return limit


def check_arguments(given: Collection[str], known: Collection[str]) -> None:
    """Refuse an argument that a configuration cannot have.

    Raises:
        UnknownKey: there is one.
    """
    _check_keys("DDataflow()", given, known)


def takes_nothing(function: Callable[..., Any]) -> bool:
    """Say whether a function has no parameter at all; of one that hides what it takes, no."""
    try:
        return not inspect.signature(function).parameters
    except (TypeError, ValueError):
        return False


def _source(name: str, entry: Mapping[str, Any]) -> DataSource:
    place = f"data_sources[{name!r}]"
    _check_keys(place, entry, ("source", "filter", "default_sampling", "file-type"))
    for key in ("source", "filter"):
        if entry.get(key) is not None and not callable(entry[key]):
            raise UsageError(f"{place}: {key!r} must be a function, not {entry[key]!r}")
    kind = entry.get("file-type")
    if kind not in (None, "parquet"):
        raise UsageError(
            f"{place}: 'file-type' can only be 'parquet', not {kind!r}", "Read other files in a `source` function."
        )
    if not isinstance(entry.get("default_sampling", False), bool):
        raise UsageError(f"{place}: 'default_sampling' must be True or False, not {entry['default_sampling']!r}")
    return DataSource(
        name=name,
        source=entry.get("source"),
        filter=entry.get("filter"),
        default_sampling=entry.get("default_sampling", False),
        parquet=kind is not None,
    )


def _entries(what: str, given: Mapping[str, Any] | None) -> dict[str, Mapping[str, Any]]:
    return {name: _mapping(f"{what}[{name!r}]", entry) for name, entry in _mapping(what, given or {}).items()}


def _mapping(what: str, given: Any) -> Mapping[str, Any]:
    if not isinstance(given, Mapping):
        raise UsageError(f"{what} must be a dict, not {given!r}")
    return given


def _check_keys(place: str, given: Iterable[str], known: Collection[str]) -> None:
    for key in given:
        if key not in known:
            raise UnknownKey(f"{place}: unknown key {key!r}{did_you_mean(key, known)}", f"Known: {', '.join(known)}.")


def _check_folders(what: str, names: Iterable[str]) -> None:
    """Refuse names that would overwrite each other's sample."""
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(folder_name(name), name)
        if other != name:
            raise UsageError(
                f"{what}: {other!r} and {name!r} have the same folder {folder_name(name)!r}", "Rename one."
            )
