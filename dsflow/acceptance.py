"""Accepting partitions as they are: what would be run again is called fresh instead, without running."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from dsflow import partitions
from dsflow.freshness import Standing
from dsflow.model import InputUsed, Manifest
from dsflow.pipeline import Pipeline
from dsflow.plan import State, Verdict
from dsflow.store.amending import amend
from dsflow.store.layout import Layout


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A partition that is not fresh.

    Attributes:
        job: Its job.
        ds: The partition.
        verdict: How it stands.
        refused: Why it cannot be accepted; empty where it can.
    """

    job: str
    ds: str
    verdict: Verdict
    refused: str = ""


def candidates(
    pipeline: Pipeline, jobs: Collection[str], first: str, last: str, standing: Standing
) -> Sequence[Candidate]:
    """Give the partitions of jobs in a span that are not fresh."""
    found = []
    for name in (name for name in pipeline.nodes if name in jobs):
        for ds in partitions.between(first, last, pipeline.nodes[name].job.grain):
            verdict = standing.verdict(name, ds)
            if verdict.state is not State.FRESH:
                refused = _refused(pipeline, name, ds, verdict, standing)
                found.append(Candidate(job=name, ds=ds, verdict=verdict, refused=refused))
    return found


def accept(pipeline: Pipeline, candidate: Candidate, datastore: Path, standing: Standing) -> None:
    """Write into a partition's manifest that it was made with the code, spec, parameters and inputs of now.

    Raises:
        PartitionLocked: a run is writing it.
        UsageError: the job needs parameters that were not given.
    """
    made_with, inputs = standing.current(candidate.job, candidate.ds)
    names = {(str(read.store), read.dataset): read.name for read in pipeline.nodes[candidate.job].reads}

    def change(manifest: Manifest) -> Manifest:
        before = {(used.kind, used.target, used.ds): used for used in manifest.inputs}
        now = []
        for seen in inputs:
            name = names.get((seen.kind, seen.target), seen.target)
            used = before.get(seen[:3]) or InputUsed(name=name, kind=seen.kind, target=seen.target, ds=seen.ds)
            run_id = used.run_id if used.hash == seen.hash else None
            now.append(dataclasses.replace(used, hash=seen.hash, rows=seen.rows, bytes=seen.bytes, run_id=run_id))
        # Where nobody can tell the place of now, the one it was made in still says most.
        place = made_with.place or (manifest.fingerprint.place if manifest.fingerprint else "")
        return dataclasses.replace(manifest, fingerprint=dataclasses.replace(made_with, place=place), inputs=tuple(now))

    writes = pipeline.nodes[candidate.job].writes
    assert writes is not None
    amend(Layout(datastore), *writes, candidate.ds, change)
    standing.refresh(*writes, candidate.ds)


def _refused(pipeline: Pipeline, name: str, ds: str, verdict: Verdict, standing: Standing) -> str:
    writes = pipeline.nodes[name].writes
    if writes is None:
        return "without output"
    if verdict.state is State.RUNNING:
        return "running"
    entry = standing.index.entries(*writes).get(ds)
    if entry is None:
        return "missing"
    return "" if entry.run_id else "not written by dsflow"
