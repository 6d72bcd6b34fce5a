"""The pipeline: all jobs of a workspace, tied by the tables and raw datasets that they read and write."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from dsflow.dialects import dialect_of
from dsflow.errors import UsageError, did_you_mean
from dsflow.jobfiles import main_file
from dsflow.lineage import mentions
from dsflow.reads import Read
from dsflow.specs.load import JobSpec, SpecError, WorkspaceSpec, load_job
from dsflow.store.datastore import Datastore
from dsflow.store.layout import Store
from dsflow.workspace import Workspace
from dsflow.writers import Writers, writer_of


@dataclass(frozen=True, kw_only=True)
class Node:
    """A job in the pipeline.

    Attributes:
        job: Its spec.
        main: Its main file, relative to its folder.
        reads: Its sources.
        writes: The table or raw dataset it writes, or None.
        kind: Whether that holds facts of each ds or a snapshot per ds.
        folder: Its folder as messages show it.
    """

    job: JobSpec
    main: str
    reads: tuple[Read, ...]
    writes: tuple[Store, str] | None
    kind: Literal["fct", "dim"] = "fct"
    folder: str = ""


@dataclass(frozen=True)
class Pipeline:
    """The jobs of a workspace.

    Attributes:
        nodes: The jobs by name. What a job reads is written by jobs before it; among equals the names decide.
        broken: The jobs that cannot be read, and why.
        writers: Who writes what.
        workspace: Where all this is.
    """

    nodes: Mapping[str, Node]
    broken: Mapping[str, UsageError]
    writers: Writers
    workspace: Workspace
    _parents: Mapping[str, tuple[str, ...]] = field(repr=False)
    _children: Mapping[str, tuple[str, ...]] = field(repr=False)

    def producer(self, store: str, name: str) -> str | None:
        """Give the job that writes a table or raw dataset, or None."""
        writer = self.writers.of(store, name)
        return writer.job if writer else None

    def parents(self, job: str) -> tuple[str, ...]:
        """Give the jobs that write what a job reads, in order."""
        return self._parents[job]

    def children(self, job: str) -> tuple[str, ...]:
        """Give the jobs that read what a job writes, in order."""
        return self._children[job]

    def check_sources(self, names: Iterable[str]) -> None:
        """Make sure that jobs could find what they read: some job writes it, or it is in the datastore.

        What only the code of a job names is left to the run.

        Raises:
            SpecError: for each source that is neither.
        """
        missing = [
            self._missing(read)
            for name in names
            for read in self.nodes[name].reads
            if read.store != "path"
            and not read.in_code
            and self.producer(read.store, read.dataset) is None
            and not self.writers.is_there(read.store, read.dataset)
        ]
        if missing:
            raise SpecError(missing, "Correct the name, make the job that writes it, or put its partitions there.")

    def check_readable(self) -> None:
        """Make sure that every job could be read, so that nothing that depends on another is overlooked.

        Raises:
            SpecError: with the mistakes of all that could not.
        """
        if self.broken:
            raise SpecError([error.message for error in self.broken.values()], "`dsflow validate` checks all jobs.")

    def _missing(self, read: Read) -> str:
        what = "table" if read.store == "table" else "raw dataset"
        known = {name for store, name in self.writers.every if store == read.store}
        if read.store != "path":
            known.update(Datastore(self.workspace.datastore).names(read.store))
        guess = did_you_mean(read.dataset, sorted(known))
        return f"{read.where}: no job writes the {what} {read.dataset!r}, and it is not in the datastore{guess}"


def load(
    workspace: Workspace, settings: WorkspaceSpec, elsewhere: Mapping[tuple[Store, str], Path | None] | None = None
) -> Pipeline:
    """Read all jobs of a workspace and tie them together. Nothing is run.

    A job with mistakes is left out and noted in `broken`.

    Args:
        workspace: The workspace.
        settings: Its settings.
        elsewhere: Tables and raw datasets that count as being there, with the folders that have their partitions.

    Raises:
        SpecError: jobs wait for each other in a circle, or two write the same table; every file is named.
    """
    jobs: dict[str, JobSpec] = {}
    broken: dict[str, UsageError] = {}
    for name in workspace.job_names():
        try:
            jobs[name] = load_job(workspace, name)
        except UsageError as error:
            broken[name] = error
    writers = Writers(workspace, jobs.values(), elsewhere)
    nodes: dict[str, Node] = {}
    for name, job in jobs.items():
        try:
            nodes[name] = _node(workspace, job, writers, dialect_of(job, settings))
        except UsageError as error:
            broken[name] = error
    parents = {name: _parents_of(node, nodes, writers) for name, node in nodes.items()}
    order = _ordered(parents)
    mistakes = _two_writers(writers) + _circles(nodes, parents, set(nodes) - set(order), writers)
    if mistakes:
        raise SpecError(mistakes)
    place = {name: number for number, name in enumerate(order)}
    return Pipeline(
        nodes={name: nodes[name] for name in order},
        broken=broken,
        writers=writers,
        workspace=workspace,
        _parents={name: tuple(sorted(parents[name], key=place.__getitem__)) for name in order},
        _children={name: tuple(child for child in order if name in parents[child]) for name in order},
    )


def _node(workspace: Workspace, job: JobSpec, writers: Writers, dialect: str) -> Node:
    main = main_file(workspace, job)
    settled = [writers.settle(job, mention) for mention in mentions(workspace, job, main, dialect)]
    writer = writer_of(workspace, job)
    return Node(
        job=job,
        main=main,
        reads=tuple(read for read in settled if read is not None),
        writes=(writer.store, writer.dataset) if writer else None,
        kind=writer.kind if writer else "fct",
        folder=workspace.shown(workspace.jobs / job.name),
    )


def _parents_of(node: Node, nodes: Mapping[str, Node], writers: Writers) -> set[str]:
    found = (writers.of(read.store, read.dataset) for read in node.reads)
    return {writer.job for writer in found if writer and writer.job in nodes and writer.job != node.job.name}


def _ordered(parents: Mapping[str, set[str]]) -> list[str]:
    """Give names in topological order, by name among equals; those in a circle and behind one are missing."""
    waiting = {name: len(above) for name, above in parents.items()}
    below: dict[str, list[str]] = {}
    for name, above in parents.items():
        for parent in above:
            below.setdefault(parent, []).append(name)
    ready = [name for name, count in waiting.items() if count == 0]
    heapq.heapify(ready)
    order: list[str] = []
    while ready:
        name = heapq.heappop(ready)
        order.append(name)
        for child in below.get(name, ()):
            waiting[child] -= 1
            if waiting[child] == 0:
                heapq.heappush(ready, child)
    return order


def _two_writers(writers: Writers) -> list[str]:
    return [
        f"{store} {name!r} is written by {len(found)} jobs: {', '.join(writer.where for writer in found)}"
        for (store, name), found in sorted(writers.every.items())
        if len(found) > 1
    ]


def _circles(nodes: Mapping[str, Node], parents: Mapping[str, set[str]], left: set[str], writers: Writers) -> list[str]:
    """Give one sentence per circle among the jobs that could not be ordered."""
    found: list[str] = []
    while left:
        path = [min(left)]
        # Every job that is left has a parent that is left too: going up must come back to a job seen before.
        while path.count(path[-1]) == 1:
            path.append(min(parents[path[-1]] & left))
        circle = path[path.index(path[-1]) : -1]
        found.append(_circle(nodes, circle, writers))
        left = left - set(circle)
        # What only waited for that circle is in none of its own.
        left -= set(_ordered({name: parents[name] & left for name in left}))
    return found


def _circle(nodes: Mapping[str, Node], circle: list[str], writers: Writers) -> str:
    steps = []
    for name, parent in zip(circle, circle[1:] + circle[:1], strict=True):
        writes = nodes[parent].writes
        read = next(read for read in nodes[name].reads if (read.store, read.dataset) == writes)
        written = writers.of(read.store, read.dataset)
        steps.append(f"{read.where} reads {read.store} {read.dataset!r} of {written.where if written else parent}")
    return f"jobs {', '.join(sorted(circle))} wait for each other: {'; '.join(steps)}"
