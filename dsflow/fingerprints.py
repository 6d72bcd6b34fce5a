"""What a partition is made with, as hashes: code, spec, parameters. The place is added by whoever knows it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dsflow import shared
from dsflow.masking import is_secret
from dsflow.model import Fingerprint
from dsflow.normalised import code_hash
from dsflow.parameters import RUN_NAMES
from dsflow.specs.load import ExpectationSpec, JobSpec

# Of a spec, what can change the rows. Where, when and how long a job runs is not among it, nor what people read.
_MATTERS = ("kind", "grain", "inputs", "output", "task_specs", "positional")
_LENGTH = 16


@dataclass(frozen=True)
class Identity:
    """What all tasks of a job are made with, whatever their date and parameters."""

    code: str
    spec: str


def identity_of(folder: Path, job: JobSpec, main: str, engine: str, modules: Sequence[str]) -> Identity:
    """Give what identifies a job.

    Args:
        folder: The job's folder.
        job: Its spec.
        main: Its main file, relative to the folder.
        engine: What computes, the workspace's choice included.
        modules: The folders of modules that it may share with others.

    Raises:
        UsageError: a file cannot be read.
    """
    code = code_hash(folder, main if job.kind == "notebook" else None, engine)
    if theirs := shared.used(folder, modules):
        code = _hash({"own": code, **{path.name: code_hash(path, None, engine) for path in theirs}})
    spec = job.model_dump(mode="json", include=set(_MATTERS), exclude={"output": {"keys"}}, exclude_defaults=True)
    checks = [_check(check, check.action or job.expectation_action) for check in job.expectations]
    more = {"main": main, "engine": engine, "expectations": checks, "environment": sorted(job.run.environment)}
    return Identity(code=code[:_LENGTH], spec=_hash({**spec, **more, "requirements": sorted(job.run.requirements)}))


def _check(check: ExpectationSpec, action: str) -> list[Any]:
    """Give what can change the rows of an expectation: not its name, nor how loudly it is told."""
    more = check.model_dump(mode="json", exclude={"name", "constraint", "action", "severity"}, exclude_none=True)
    return [check.constraint, action, *([more] if more else [])]


def fingerprint(identity: Identity, values: Mapping[str, Any], date: str) -> Fingerprint:
    """Give the fingerprint of a task, without its place.

    Secret parameters are left out: a hash of a short secret would give it away. When one changes, nothing is stale.

    Args:
        identity: The job's.
        values: Its parameters.
        date: The parameter that is the run's own date, which a fingerprint does not hold.
    """
    known = {name: value for name, value in values.items() if name not in (date, *RUN_NAMES) and not is_secret(name)}
    return Fingerprint(code=identity.code, spec=identity.spec, parameters=_hash(known), place="")


def _hash(value: Mapping[str, Any]) -> str:
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:_LENGTH]
