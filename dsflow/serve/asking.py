"""From the body of a request to a run that can be accepted: every mistake is named before anything is kept."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from dsflow.errors import UsageError, did_you_mean
from dsflow.masking import is_secret
from dsflow.serve.ledger import Request, now
from dsflow.workspace import Workspace

_LONGEST_KEY = 200
_MOST_RETRIES = 100
_TYPES: Mapping[str, tuple[type, str]] = {
    "job": (str, "a text"),
    "ds": (str, "a text"),
    "parameters": (dict, "an object"),
    "key": (str, "a text"),
    "if_stale": (bool, "true or false"),
    "retries": (int, "a number"),
}


def read(body: bytes) -> tuple[Request, dict[str, str]]:
    """Give the request that a body makes, and its secret parameters; whether there is such a job is not looked at.

    Raises:
        UsageError: the body is not what `POST /runs` takes.
    """
    fields = _fields(body)
    if "job" not in fields:
        raise UsageError("the body names no job", 'Send {"job": NAME, "ds": DATE}.')
    key = fields.get("key")
    if key is not None and not (0 < len(key) <= _LONGEST_KEY and key.isprintable()):
        raise UsageError(f"key: expected 1 to {_LONGEST_KEY} printable characters")
    if not 0 <= fields.get("retries", 0) <= _MOST_RETRIES:
        raise UsageError(f"retries: expected a number from 0 to {_MOST_RETRIES}")
    given = {name: _text(name, value) for name, value in fields.get("parameters", {}).items()}
    secrets = {name: text for name, text in given.items() if is_secret(name)}
    from dsflow.runner import new_run_id

    request = Request(
        id=new_run_id(),
        key=key,
        job=fields["job"],
        ds=None,
        asked=fields.get("ds"),
        parameters={name: text for name, text in given.items() if name not in secrets},
        secret_parameters=tuple(secrets),
        if_stale=fields.get("if_stale", False),
        retries=fields.get("retries"),
        accepted=now(),
    )
    return request, secrets


def resolved(workspace: Workspace, request: Request, secrets: Mapping[str, str]) -> Request:
    """Give a request with its date, as its job understands it.

    Raises:
        UsageError: the job, its spec, the date or a parameter is wrong.
        EnvironmentMissing: the job cannot run on this machine.
    """
    from dsflow.kinds.registry import KINDS
    from dsflow.prepare import prepare
    from dsflow.specs.load import load_job, load_workspace

    job = load_job(workspace, request.job)
    if KINDS[job.kind].port:
        raise UsageError(
            f"{job.name} is a {job.kind}: it serves until it is stopped", f"`dsflow start-dash {job.name}` serves it."
        )
    dates = [] if request.asked is None else [request.asked]
    given = [f"{name}={text}" for name, text in {**request.parameters, **secrets}.items()]
    task = prepare(workspace, load_workspace(workspace), job.name, dates, given).assignment.task
    return dataclasses.replace(request, ds=request.asked if job.legacy else task.ds)


def _fields(body: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        raise UsageError("the body is not JSON", 'Send {"job": NAME, "ds": DATE}.') from None
    if not isinstance(fields, dict):
        raise UsageError("the body is not a JSON object", 'Send {"job": NAME, "ds": DATE}.')
    for name, value in fields.items():
        if name not in _TYPES:
            raise UsageError(f"{name[:60]!r}: unknown key{did_you_mean(name, _TYPES)}", f"Known: {', '.join(_TYPES)}.")
        kind, words = _TYPES[name]
        # To Python, true and false are numbers.
        if value is not None and (not isinstance(value, kind) or (kind is int and isinstance(value, bool))):
            raise UsageError(f"{name}: expected {words}")
    return {name: value for name, value in fields.items() if value is not None}


def _text(name: str, value: Any) -> str:
    """Give a parameter's value as one would type it behind `-p NAME=`."""
    if not name or "=" in name:
        raise UsageError(f"parameters: {name[:60]!r} is no name of a parameter")
    return value if isinstance(value, str) else json.dumps(value)
