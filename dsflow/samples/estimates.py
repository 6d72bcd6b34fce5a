"""How large samples would be, before any data is read.

Rows and bytes of what they are drawn from are told by manifests, by the footers of Parquet files, or by the statistics
of a database. A filter is tried on a few files, where that costs next to nothing; else the estimate is an upper bound.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dsflow.engines.registry import open_engine
from dsflow.errors import JobFailed
from dsflow.quantities import memory_bytes
from dsflow.samples.fetching import Samples
from dsflow.samples.sources import Source
from dsflow.sampling.drawing import Rule, select
from dsflow.sampling.estimate import Size, column_bytes, of_files, sampled_bytes, share_met, spread
from dsflow.sampling.limits import check_limit
from dsflow.store.contents import plain_files

# So many manifests say how many rows the other partitions have, by their sizes.
_MOST_MANIFESTS = 8
# A filter is tried on such a share of the bytes at most.
_TRIAL = 0.004


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What a sample would be.

    Attributes:
        source: Of which source.
        partitions: How many partitions of it.
        whole: All that it would be drawn from.
        sample: What it would be.
        limit: The bytes that it may have.
    """

    source: Source
    partitions: int
    whole: Size
    sample: Size
    limit: int


class Estimator:
    """Estimates the samples of a workspace.

    Args:
        samples: Them.
        wanted: The partitions that are asked for, by source, with all that these depend on.
    """

    def __init__(self, samples: Samples, wanted: Mapping[Source, Sequence[str]]) -> None:
        self._samples = samples
        self._wanted = wanted
        self._known: dict[Source, Estimate] = {}

    def estimate(self, source: Source) -> Estimate:
        """Give the estimate for the partitions of a source that are asked for.

        Raises:
            DsflowError: it cannot be looked at.
        """
        if source not in self._known:
            dates = self._wanted[source]
            whole = _whole(source, dates)
            self._known[source] = Estimate(
                source=source,
                partitions=len(dates),
                whole=whole,
                sample=self._sample(source, dates, whole),
                limit=memory_bytes(source.spec.limit),
            )
        return self._known[source]

    def check_limits(self) -> None:
        """Refuse what would be too large.

        Raises:
            OverLimit: a sample would have more bytes than its source allows.
        """
        for source in self._wanted:
            found = self.estimate(source)
            check_limit(source.label, found.sample.bytes, found.limit)

    def _sample(self, source: Source, dates: Sequence[str], whole: Size) -> Size:
        rule = self._samples.rule(source, dates[-1])
        passing, whole = _passing(source, dates, rule, whole)
        share = passing * self._share(source, rule, whole)
        if rule.rows is not None and whole.rows:
            share = min(passing, rule.rows * len(dates) / whole.rows)
        if rule.is_whole or whole.bytes is None or not whole.rows:
            return whole
        rows = round(whole.rows * share)
        files = [file for ds in spread(dates, 2) for file in source.files(ds) if isinstance(file, Path)][:1]
        if not files or files[0].suffix != ".parquet" or source.store == "raw":
            return replace(whole, rows=rows, bytes=round(whole.bytes * share))
        size, read = sampled_bytes(files[0], whole, rows, len(dates))
        return replace(whole, rows=rows, bytes=size, read=whole.read + read)

    def _share(self, source: Source, rule: Rule, whole: Size) -> float:
        """Give which share of the rows the sample keeps of those that pass the filter."""
        if not rule.of:
            return 1.0 if rule.share is None else rule.share
        missed = 1.0
        others = self._samples.sources.above(source)
        for other in others:
            if any(one in others for one in self._all_above(other)):
                continue  # its values are among those of the one that it follows
            above = self.estimate(other)
            if not (whole.rows and above.whole.rows and above.sample.rows is not None):
                continue
            # Either each of these rows belongs to one of those, or each of those to one of these.
            many = whole.rows > above.whole.rows
            met = above.sample.rows / above.whole.rows if many else share_met(above.sample.rows, whole.rows)
            missed *= 1 - met
        return 1 - missed

    def _all_above(self, source: Source) -> set[Source]:
        above = self._samples.sources.above(source)
        return set(above).union(*map(self._all_above, above))


def _whole(source: Source, dates: Sequence[str]) -> Size:
    if source.spec.url is not None:
        from dsflow.samples.databases import estimate

        sizes = [estimate(source, ds) for ds in dates[-1:]]
        return _times(sizes[0], len(dates)) if sizes else Size(rows=0, bytes=0, how="nothing")
    if source.datastore is not None:
        return _of_partitions(source, dates)
    files = [file for ds in dates for file in source.files(ds)]
    local = [file for file in files if isinstance(file, Path)]
    if len(local) < len(files):
        return Size(rows=None, bytes=None, how="unknown until it is fetched")
    return of_files(local)


def _of_partitions(source: Source, dates: Sequence[str]) -> Size:
    """Give what partitions hold: their bytes from the files' sizes, their rows from some of the manifests."""
    datastore = source.datastore
    assert datastore is not None
    folders = {ds: datastore.target(source.store, source.dataset, ds) for ds in dates}
    files = {ds: plain_files(folder, deep=source.store == "raw") for ds, folder in folders.items()}
    sizes = {ds: sum(file.stat().st_size for file in own) for ds, own in files.items()}
    asked = spread(dates, _MOST_MANIFESTS)
    rows, read = 0, 0
    for ds in asked:
        partition = source.partition(ds)
        manifest = partition.manifest if partition else None
        if manifest is None or manifest.rows is None:
            return of_files([file for own in files.values() for file in own])
        rows += manifest.rows
        read += datastore.manifest(source.store, source.dataset, ds).stat().st_size
    total, known = sum(sizes.values()), sum(sizes[ds] for ds in asked)
    how = "manifests" if len(asked) == len(dates) else f"{len(asked)} of {len(dates):,} manifests"
    return Size(rows=round(rows * total / known) if known else 0, bytes=total, how=how, read=read)


def _passing(source: Source, dates: Sequence[str], rule: Rule, whole: Size) -> tuple[float, Size]:
    """Give which share of the rows passes the filter, and what is known of all of them then."""
    if not rule.filter:
        return 1.0, whole
    files = [file for ds in dates for file in source.files(ds) if isinstance(file, Path)]
    if not files or any(file.suffix != ".parquet" for file in files) or not whole.bytes:
        return 1.0, replace(whole, at_most=True)
    tried: list[Path] = []
    cost = 0
    for file in spread(files, 8):
        more = column_bytes(file, re.findall(r"\w+", rule.filter))
        if cost + more <= whole.bytes * _TRIAL:
            tried.append(file)
            cost += more
    if not tried:
        return 1.0, replace(whole, at_most=True)
    how = f"{whole.how}; the filter tried on {len(tried)} of {len(files):,} files"
    return _tried(tried, rule), replace(whole, how=how, read=whole.read + cost)


def _tried(files: Sequence[Path], rule: Rule) -> float:
    with contextlib.closing(open_engine("duckdb")) as engine:
        with_ds = all(file.parent.name.startswith("ds=") for file in files)
        engine.view("source", engine.read(files, "parquet", with_ds=with_ds, options={}))
        passing = select(Rule(filter=rule.filter))
        counted = engine.sql(f"SELECT (SELECT count(*) FROM ({passing})), count(*) FROM source").fetchall()
    if not counted:
        raise JobFailed("the filter could not be tried")
    return float(counted[0][0] / max(1, counted[0][1]))


def _times(size: Size, count: int) -> Size:
    rows = None if size.rows is None else size.rows * count
    return replace(size, rows=rows, bytes=None if size.bytes is None else size.bytes * count)
