"""Fetching samples: which are missing or outdated, in which order, and putting them into place one by one.

What is in place already and would come out the same is left alone, so a fetch that was stopped goes on where it was.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dsflow.durable import make_folder
from dsflow.engines.contract import Engine
from dsflow.engines.registry import open_engine
from dsflow.errors import JobFailed, PartitionLocked
from dsflow.inputs import stamp, used
from dsflow.model import Fingerprint, Input, InputUsed, Manifest, Output
from dsflow.samples.sources import Source, Sources
from dsflow.sampling.copying import Piece, copy, keep_values, kept_values
from dsflow.sampling.drawing import Rule
from dsflow.sources.download import fetch as download
from dsflow.specs.load import WorkspaceSpec
from dsflow.store.datastore import Datastore
from dsflow.store.index import Entry, Index
from dsflow.store.layout import FOLDERS, Layout
from dsflow.store.locks import lock
from dsflow.workspace import Workspace

# The place in the fingerprint of a sample; a run's names a runtime.
PLACE = "sample"


@dataclass(frozen=True, kw_only=True)
class Step:
    """A sample that has to be fetched, and why."""

    source: Source
    ds: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Fetched:
    """A sample that was put into place; `there` are the rows that it was drawn from, None where nobody knows."""

    source: Source
    manifest: Manifest
    there: int | None


class Samples:
    """The samples of a workspace.

    Args:
        workspace: The workspace.
        settings: Its settings.
    """

    def __init__(self, workspace: Workspace, settings: WorkspaceSpec) -> None:
        self.sources = Sources(workspace, settings)
        self.layout = Layout(dataclasses.replace(workspace, sampled=True).datastore.resolve())
        self.index = Index(self.layout)
        self._root = workspace.root
        # What many partitions of a source have in common; the hashes last until one of its samples is fetched.
        self._fingerprints: dict[Source, Fingerprint] = {}
        self._hashes: dict[Source, str] = {}

    def steps(self, wanted: Mapping[Source, Sequence[str]], *, thorough: bool, force: bool = False) -> list[Step]:
        """Give what has to be fetched so that some samples are there, in an order in which that is possible.

        Args:
            wanted: The partitions, by source. Samples on which theirs depend are added.
            thorough: Look too whether the data has changed since.
            force: Fetch everything again.
        """
        found: list[Step] = []
        renewed: set[Source] = set()
        for source, dates in self.complete(wanted).items():
            above = [other for other in self.sources.above(source) if other in renewed]
            for ds in dates:
                reason = "asked for" if force else self._reason(source, ds, thorough)
                if not reason and above:
                    reason = f"follows {above[0].label}"
                if reason:
                    found.append(Step(source=source, ds=ds, reason=reason))
                    renewed.add(source)
        return found

    def fetch(self, steps: Sequence[Step], done: Callable[[Step, Fetched | None], None]) -> None:
        """Fetch samples one after the other; whatever ends this, each is the old one or the new one.

        Args:
            steps: What to fetch, as `steps` gives it.
            done: Called after each; without a result where it turned out to be as it should already.

        Raises:
            DsflowError: one cannot be fetched.
        """
        make_folder(self.layout.root)
        with contextlib.closing(open_engine("duckdb")) as engine:
            ready: set[Source] = set()
            for step in steps:
                follows = step.reason.startswith("follows ")
                if follows and not self._reason(step.source, step.ds, thorough=False):
                    done(step, None)
                    continue
                if step.source not in ready:
                    self._keep_values(engine, step.source)
                    ready.add(step.source)
                try:
                    done(step, self._fetch(engine, step))
                except PartitionLocked:
                    self._await(step)
                    done(step, None)

    def entries(self, source: Source) -> Mapping[str, Entry]:
        """Give what there is of the sample of a source, by ds."""
        return self.index.entries(source.store, source.dataset)

    def is_fetched(self, entry: Entry) -> bool:
        """Tell whether a partition was fetched, and is not what a sampled run has made."""
        return entry.fingerprint is not None and entry.fingerprint.place == PLACE

    def rule(self, source: Source, ds: str) -> Rule:
        """Give what the sample of a partition is."""
        spec = source.spec
        # A database has filtered already, in its own words.
        text = source.filled_in(spec.filter, ds, "filter") if spec.filter and not spec.url else ""
        sample = spec.sample
        if sample is None:
            return Rule(filter=text)
        return Rule(
            filter=text,
            rows=sample.rows,
            share=sample.share,
            key=self.sources.columns(source, sample.key) if sample.key else (),
            seed=sample.seed,
            stratify=sample.stratify,
            of=tuple(_values(other) for other in self.sources.above(source)),
        )

    def complete(self, wanted: Mapping[Source, Sequence[str]]) -> dict[Source, list[str]]:
        """Give the partitions of some sources with those on which their samples depend, each before what needs it."""
        found: dict[Source, set[str]] = {}

        def add(source: Source, dates: Sequence[str]) -> None:
            for other in self.sources.above(source):
                add(other, [one for ds in dates if (one := next(iter(other.there([ds])), other.newest(ds)))])
            found.setdefault(source, set()).update(dates)

        for source, dates in wanted.items():
            add(source, dates)
        order: dict[Source, None] = {}

        def put(source: Source) -> None:
            for other in self.sources.above(source):
                put(other)
            order.setdefault(source)

        for source in found:
            put(source)
        return {source: sorted(found[source]) for source in order}

    def _reason(self, source: Source, ds: str, thorough: bool) -> str:
        """Give why a sample has to be fetched, or an empty text."""
        entry = self.entries(source).get(ds)
        if entry is None:
            return "missing"
        if not self.is_fetched(entry):
            return ""  # a sampled run has made it, and makes it again
        if entry.fingerprint != self._fingerprint(source):
            return "sampled otherwise before"
        then = {seen.target: seen.hash for seen in entry.inputs}
        for other in self._above(source):
            if then.get(other.target) != other.hash:
                return f"the sample of {other.name} has changed"
        if thorough:
            now = self._origin(source, ds)
            if now.hash is None or then.get(now.target) != now.hash:
                return "the data has changed" if now.hash else "nobody knows whether the data has changed"
        return ""

    def _fetch(self, engine: Engine, step: Step) -> Fetched:
        source, ds = step.source, step.ds
        origin = self._origin(source, ds)
        partition = source.partition(ds)
        kind = partition.manifest.kind if partition and partition.manifest else "fct"
        piece = Piece(
            output=Output(store=source.store, name=source.dataset, ds=ds, kind=kind),
            bring=functools.partial(self._bring, engine, source, ds),
            format=source.spec.format,
            rule=self.rule(source, ds),
            inputs=(origin, *self._above(source)),
            fingerprint=self._fingerprint(source),
        )
        try:
            manifest, there = copy(self.layout, engine, piece)
        except JobFailed as error:
            told = f"source {source.label} ds={ds}: {error.message}"
            raise JobFailed(told, error.hint or f"Look at {source.where}.") from None
        self.index.refresh(source.store, source.dataset, ds)
        self._hashes.pop(source, None)
        return Fetched(source=source, manifest=manifest, there=there)

    def _await(self, step: Step) -> None:
        """Wait while somebody else fetches the same sample.

        Raises:
            PartitionLocked: it did not come to be what it should.
        """
        source, ds = step.source, step.ds
        path = self.layout.lock(source.store, source.dataset, ds)
        with lock(path, "", wait=True):
            self.index.refresh(source.store, source.dataset, ds)
            self._hashes.pop(source, None)
            if reason := self._reason(source, ds, thorough=False):
                raise PartitionLocked(
                    f"somebody else was writing the sample of {source.label} ds={ds}, and left it so: {reason}",
                    "Run the same command again.",
                )

    def _bring(self, engine: Engine, source: Source, ds: str, folder: Path) -> Sequence[Path]:
        """Give the files of a partition on this machine; what comes from elsewhere goes into the folder."""
        if source.spec.url is not None:
            from dsflow.samples.databases import bring

            rule = self.rule(source, ds)
            return bring(source, ds, rule, [kept_values(engine, name) for name in rule.of], folder)
        files = source.files(ds)
        if not files:
            where = source.filled_in(source.spec.path, ds, "path") if source.spec.path else f"ds={ds}"
            raise JobFailed(f"there is nothing at {where}")
        return [path for file in files for path in _local(file, folder)]

    def _keep_values(self, engine: Engine, source: Source) -> None:
        sample = source.spec.sample
        for other in self.sources.above(source):
            assert sample is not None
            assert sample.key is not None
            datastore = Datastore(self.layout.root)
            dates = self.entries(other)
            files = [file for part in datastore.select(other.store, other.dataset, dates) for file in part.files]
            if not files:
                raise JobFailed(f"there is no sample of {other.label}, on which that of {source.label} depends")
            keep_values(engine, _values(other), self.sources.columns(other, sample.key), files)

    def _origin(self, source: Source, ds: str) -> InputUsed:
        partition = source.partition(ds)
        if partition is not None:
            target = f"{source.spec.environment or 'datastore'}/{FOLDERS[source.store]}/{source.dataset}"
            [seen] = used(Input(name=source.name, kind=source.store, target=source.dataset), [partition])
            # It is in another datastore: no partition that a job of this one could have read.
            return dataclasses.replace(seen, kind="path", target=target)
        place = source.filled_in(source.spec.path, ds, "path") if source.spec.path else f"{source.name} (database)"
        known = stamp(place, source.workspace.whole, self._root) if source.spec.path else None
        return InputUsed(name=source.name, kind="path", target=place, ds=ds, hash=known)

    def _above(self, source: Source) -> Iterator[InputUsed]:
        """Give the samples that one depends on, each with one hash for all its partitions."""
        for other in self.sources.above(source):
            if other not in self._hashes:
                entries = self.entries(other).items()
                text = "".join(f"{ds} {entry.hash}\n" for ds, entry in entries)
                self._hashes[other] = hashlib.sha256(text.encode()).hexdigest()[:32]
            yield InputUsed(name=other.name, kind="table", target=other.dataset, hash=self._hashes[other])

    def _fingerprint(self, source: Source) -> Fingerprint:
        if source not in self._fingerprints:
            sample = source.spec.sample
            members = (source, *self.sources.above(source)) if sample and sample.key else ()
            keys = [self.sources.columns(one, sample.key) for one in members if sample and sample.key]
            spec = source.spec.model_dump(mode="json", exclude={"limit"}, exclude_defaults=True)
            digest = hashlib.sha256(json.dumps([spec, keys], sort_keys=True).encode()).hexdigest()[:16]
            self._fingerprints[source] = Fingerprint(code="", spec=digest, parameters="", place=PLACE)
        return self._fingerprints[source]


def _values(source: Source) -> str:
    return f"values of {source.name}"


def _local(file: Path | str, folder: Path) -> Sequence[Path]:
    return [file] if isinstance(file, Path) else download(file, folder)
