"""What a sampled run reads that no job of it makes: these are the samples that must be there before it begins."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from dsflow.errors import JobFailed
from dsflow.pipeline import Pipeline
from dsflow.reads import Read, later, newest_at, partitions_read
from dsflow.samples.sources import Source, Sources
from dsflow.store.datastore import Datastore
from dsflow.store.layout import Layout

_URL = re.compile(r"(?!file:)[A-Za-z][A-Za-z0-9+.-]*://")


@dataclass(frozen=True, kw_only=True)
class Need:
    """Some partitions that a job reads.

    Attributes:
        source: What they are of.
        wanted: The partitions, oldest first; those that exist are enough.
        newest: Instead of them: the newest at or before this ds.
        job: The job.
        may_miss: Only the job's code names them, so it may do without.
    """

    source: Source
    wanted: tuple[str, ...]
    newest: str | None
    job: str
    may_miss: bool


def without_sources(
    pipeline: Pipeline, jobs: Sequence[str], named: Collection[str], sources: Sources
) -> tuple[list[str], list[str]]:
    """Leave out of a selection the jobs that make what is declared as a source, and those that only they need.

    Args:
        pipeline: All jobs.
        jobs: Those that are selected.
        named: Those among them that somebody named one by one: they run.
        sources: The sources.

    Returns:
        The jobs that are left, and those that are not.
    """
    places = sources.folders()
    left: set[str] = set()
    for name in reversed([name for name in pipeline.nodes if name in jobs]):
        children = [child for child in pipeline.children(name) if child in jobs]
        makes_source = pipeline.nodes[name].writes in places
        if name not in named and (makes_source or (children and left.issuperset(children))):
            left.add(name)
    return [name for name in jobs if name not in left], [name for name in jobs if name in left]


def needs_of(pipeline: Pipeline, dates: Mapping[str, Sequence[str]], sources: Sources) -> list[Need]:
    """Give what some jobs read for some partitions and none of them makes.

    Args:
        pipeline: All jobs.
        dates: The partitions of each job.
        sources: The sources.
    """
    made = {pipeline.nodes[name].writes for name in dates}
    found = []
    for name, own in dates.items():
        for read in pipeline.nodes[name].reads:
            if read.store == "path":
                source = sources.at(read.dataset)
            else:
                source = None if (read.store, read.dataset) in made else sources.of(read.store, read.dataset)
            found += [_need(source, read, ds, pipeline, name) for ds in own] if source else []
    return found


def unsampled(pipeline: Pipeline, jobs: Sequence[str], sources: Sources) -> list[tuple[str, str]]:
    """Give the jobs that read a URL which is no source, each with that URL: it is read as it is."""
    reads = ((name, read) for name in jobs for read in pipeline.nodes[name].reads)
    return [
        (name, read.dataset)
        for name, read in reads
        if read.store == "path" and _URL.match(read.dataset) and sources.at(read.dataset) is None
    ]


def asked(needs: Sequence[Need]) -> dict[Source, list[str]]:
    """Give the partitions that must be fetched, as far as they exist, by source."""
    found: dict[Source, set[str]] = {}
    for need in needs:
        newest = need.source.newest(need.newest) if need.newest is not None else None
        wanted = [newest] if newest else need.source.there(need.wanted)
        found.setdefault(need.source, set()).update(wanted)
    return {source: sorted(wanted) for source, wanted in found.items()}


def check_there(needs: Sequence[Need], samples: Layout) -> None:
    """Make sure that the samples that are needed have been fetched.

    Raises:
        JobFailed: one has not; the hint is the command that does it.
    """
    datastore = Datastore(samples.root)
    for need in needs:
        known = datastore.partitions(need.source.store, need.source.dataset)
        if need.newest is not None:
            missing = not any(ds <= need.newest for ds in known)
        else:
            missing = not set(known).intersection(need.wanted)
        if missing and not need.may_miss:
            ds = need.newest or need.wanted[-1]
            raise JobFailed(
                f"{need.job} reads {need.source.label} ds={ds}, and there is no local sample of it in {samples.root}",
                f"dsflow sample fetch {need.source.label} {ds}",
            )


def _need(source: Source, read: Read, ds: str, pipeline: Pipeline, job: str) -> Need:
    grain = pipeline.nodes[job].job.grain
    return Need(
        source=source,
        wanted=(ds,) if read.store == "path" else (*partitions_read(read, ds, grain), *later(read, ds, grain)),
        newest=newest_at(read, ds, grain) if read.as_of else None,
        job=job,
        may_miss=read.in_code or read.own,
    )
