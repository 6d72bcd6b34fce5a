"""Which job writes what, by the specs of all jobs, and what that means for those who read it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dsflow.errors import UsageError
from dsflow.model import Grain
from dsflow.partitions import grain_of
from dsflow.reads import Read
from dsflow.specs.legacy import place_of
from dsflow.specs.load import JobSpec, load_job
from dsflow.store.layout import Layout, Store
from dsflow.workspace import JOB_SPECS, Workspace


@dataclass(frozen=True, kw_only=True)
class Writer:
    """The job that writes a table or a raw dataset; `where` is the place of its spec that says so."""

    job: str
    store: Store
    dataset: str
    grain: Grain
    kind: Literal["fct", "dim"]
    where: str


@dataclass(frozen=True, kw_only=True)
class Mention:
    """A source as a job names it, before it is known who writes that.

    Attributes:
        name: What the job calls it.
        store: What `dataset` is.
        dataset: The name, or the path.
        where: The file and the place in it.
        window: How many partitions, where the job says so.
        lookback: How many after ds.
        as_of: Whether the job asks for the newest at or before ds.
        in_code: Only the code names it.
        sure: It cannot be anything but a table or raw dataset; a name in `job.sql` may be a variable.
    """

    name: str
    store: Literal["table", "raw", "path"]
    dataset: str
    where: str
    window: int | None = None
    lookback: int = 0
    as_of: bool = False
    in_code: bool = False
    sure: bool = True


class Writers:
    """The writers of a workspace.

    Args:
        workspace: The workspace.
        jobs: Its jobs.
        elsewhere: Tables and raw datasets that count as being there, with the folders that have their partitions.
    """

    def __init__(
        self,
        workspace: Workspace,
        jobs: Iterable[JobSpec],
        elsewhere: Mapping[tuple[Store, str], Path | None] | None = None,
    ) -> None:
        # What a sampled run reads may not have been sampled yet.
        self._layouts = [Layout(workspace.datastore), *([Layout(workspace.whole)] if workspace.sampled else [])]
        self._elsewhere = elsewhere or {}
        self._grains: dict[tuple[Store, str], Grain | None] = {}
        self.every: dict[tuple[str, str], list[Writer]] = {}
        for job in jobs:
            writer = writer_of(workspace, job)
            if writer is not None:
                self.every.setdefault((writer.store, writer.dataset), []).append(writer)

    def of(self, store: str, dataset: str) -> Writer | None:
        """Give the writer of a table or raw dataset, or None where no job writes it."""
        found = self.every.get((store, dataset))
        return found[0] if found else None

    def is_there(self, store: Store, dataset: str) -> bool:
        """Say whether the datastore has a folder for a table or raw dataset."""
        return (store, dataset) in self._elsewhere or any(folder.is_dir() for folder in self._folders(store, dataset))

    def settle(self, job: JobSpec, mention: Mention) -> Read | None:
        """Give what a mention means: its grain, and the newest partition of a dimension where nothing else is said.

        Gives None for what may not be a source at all.

        Raises:
            UsageError: no dataset can have that name, or the job needs the partition it writes itself.
        """
        if mention.store == "path":
            return Read(name=mention.name, store="path", dataset=mention.dataset, grain=job.grain, where=mention.where)
        try:
            self._folders(mention.store, mention.dataset)
        except UsageError as error:
            raise UsageError(f"{mention.where}: {error.message}", error.hint) from None
        writer = self.of(mention.store, mention.dataset)
        if not mention.sure and writer is None and not self.is_there(mention.store, mention.dataset):
            return None
        said = mention.window is not None or mention.lookback > 0
        as_of = mention.as_of or (writer is not None and writer.kind == "dim" and not said)
        own = writer is not None and writer.job == job.name
        if own and not as_of and (mention.lookback or (mention.window or 1) == 1):
            if mention.in_code or job.legacy:
                return None  # it may look at what it is about to replace
            raise _own_partition(job, mention)
        return Read(
            name=mention.name,
            store=mention.store,
            dataset=mention.dataset,
            window=1 if as_of else mention.window or 1,
            lookback=mention.lookback,
            as_of=as_of,
            grain=writer.grain if writer else self._grain_there(mention.store, mention.dataset) or job.grain,
            own=own,
            in_code=mention.in_code,
            where=mention.where,
        )

    def _grain_there(self, store: Store, dataset: str) -> Grain | None:
        if (store, dataset) not in self._grains:
            found = (_first_grain(str(folder)) for folder in self._folders(store, dataset))
            self._grains[store, dataset] = next(filter(None, found), None)
        return self._grains[store, dataset]

    def _folders(self, store: Store, dataset: str) -> list[Path]:
        """Give the folders that may have partitions of a table or a raw dataset, the first one first."""
        folder = self._elsewhere.get((store, dataset))
        return [*(layout.dataset(store, dataset) for layout in self._layouts), *([folder] if folder else [])]


def writers_in(workspace: Workspace) -> Writers:
    """Give the writers of a workspace, leaving out jobs whose specs have mistakes."""
    jobs = []
    for name in workspace.job_names():
        try:
            jobs.append(load_job(workspace, name))
        except UsageError:
            continue
    return Writers(workspace, jobs)


def writer_of(workspace: Workspace, job: JobSpec) -> Writer | None:
    """Give what a job writes, or None where it publishes nothing."""
    if job.legacy:
        place = place_of(job.task_specs.get("sink_path"))
        # A name that is filled in for each run stands for no table in particular.
        wrote = (place.store, place.name) if place and "{" not in place.name else None
    else:
        out = job.output
        wrote = None if out is None else ("table", out.table) if out.table else ("raw", str(out.raw))
    if wrote is None:
        return None
    key = "task_specs.sink_path" if job.legacy else "output"
    where = f"{workspace.shown(workspace.jobs / job.name / JOB_SPECS)}: {key}"
    kind: Literal["fct", "dim"] = job.output.kind if job.output else "fct"
    return Writer(job=job.name, store=wrote[0], dataset=wrote[1], grain=job.grain, kind=kind, where=where)


def _own_partition(job: JobSpec, mention: Mention) -> UsageError:
    return UsageError(
        f"{mention.where}: {job.name} reads the very partition of {mention.store} {mention.dataset!r} that it writes",
        "Of its own output a job may read what lies before ds: give the input `window: 2` or more, or `as_of: ds`.",
    )


def _first_grain(folder: str) -> Grain | None:
    """Give the grain of the first partition found in a folder; a folder has only one grain."""
    try:
        with os.scandir(folder) as entries:
            names = (entry.name.removeprefix("ds=") for entry in entries if entry.name.startswith("ds="))
            return next(filter(None, map(grain_of, names)), None)
    except OSError:
        return None
