"""The contract for machines (OpenAPI) and, made from it, for people: one page that needs nothing from anywhere."""

from __future__ import annotations

import functools
import html
import json
from collections.abc import Mapping
from typing import Any

from dsflow import __version__
from dsflow.errors import EXIT_CODES
from dsflow.model import Status
from dsflow.serve.ledger import QUEUED, RUNNING

_TEXT = {"type": "string"}
_MAYBE_TEXT = {"type": ["string", "null"]}
_WHEN = {"type": ["string", "null"], "format": "date-time"}
_STATUSES = [QUEUED, RUNNING, *(status for status in Status if status is not Status.ABORTED)]
_VALUE = {"type": ["string", "number", "boolean", "array", "object", "null"]}

_SCHEMAS: dict[str, Any] = {
    "Wish": {
        "type": "object",
        "required": ["job"],
        "additionalProperties": False,
        "properties": {
            "job": {"type": "string", "description": "The name of a job of the workspace."},
            "ds": {**_MAYBE_TEXT, "description": "The date: `2013-01-01`, `today`, `yesterday`. Today if absent."},
            "parameters": {
                "type": ["object", "null"],
                "additionalProperties": _VALUE,
                "description": "Values by name.",
            },
            "key": {
                **_MAYBE_TEXT,
                "minLength": 1,
                "maxLength": 200,
                "description": "Your own name for this run: the same key again gives the same run.",
            },
            "if_stale": {"type": ["boolean", "null"], "description": "Leave a fresh partition alone."},
            "retries": {
                "type": ["integer", "null"],
                "minimum": 0,
                "maximum": 100,
                "description": "How often a failed run is tried again; as the job says if absent.",
            },
        },
    },
    "Run": {
        "type": "object",
        "required": ["id", "job", "status", "exit_code", "run_ids"],
        "properties": {
            "id": {"type": "string", "description": "The server's name for the run."},
            "key": _MAYBE_TEXT,
            "job": _TEXT,
            "ds": _MAYBE_TEXT,
            "parameters": {
                "type": "object",
                "additionalProperties": _TEXT,
                "description": "As given; the values of secret ones are left out.",
            },
            "if_stale": {"type": "boolean"},
            "status": {"enum": _STATUSES},
            "exit_code": {"type": ["integer", "null"], "description": "Null until the run has ended."},
            "accepted": _WHEN,
            "started": _WHEN,
            "finished": _WHEN,
            "run_ids": {"type": "array", "items": _TEXT, "description": "Ids in the history, one for each attempt."},
            "folder": {**_MAYBE_TEXT, "description": "The last attempt's folder in the datastore."},
            "error": {
                "type": ["object", "null"],
                "additionalProperties": _TEXT,
                "description": "Why it did not end well: `message`, `hint`, `place`, `source`.",
            },
        },
    },
    "Error": {
        "type": "object",
        "required": ["error", "hint", "exit_code"],
        "properties": {
            "error": {"type": "string", "description": "One sentence."},
            "hint": {"type": "string", "description": "What to do next."},
            "exit_code": {"enum": [code for code in EXIT_CODES if code], "description": "As of `dsflow run`."},
        },
    },
    "Health": {
        "type": "object",
        "required": ["status", "version", "running", "queued"],
        "properties": {
            "status": {"const": "ok"},
            "version": _TEXT,
            "running": {"type": "integer"},
            "queued": {"type": "integer"},
        },
    },
    "Runs": {
        "type": "object",
        "required": ["runs"],
        "properties": {"runs": {"type": "array", "items": {"$ref": "#/components/schemas/Run"}}},
    },
}
_WORDS = {
    "400": "The request is wrong.",
    "401": "The token is missing or wrong.",
    "404": "There is no such run.",
    "408": "The body did not come.",
    "409": "The key stands for another request.",
    "413": "The body is too large.",
    "424": "The machine lacks what the job needs.",
    "429": "Too many runs are waiting.",
    "503": "The server is ending, or has too many connections.",
}


@functools.cache
def document() -> dict[str, Any]:
    """Give the OpenAPI document."""
    run, events = [_in_path("run", "The id of a run.")], _in_header("Last-Event-ID", "The id of the last event seen.")
    filters = [_in_query(name, _TEXT) for name in ("job", "ds", "status", "key")]
    limit = _in_query("limit", {"type": "integer", "minimum": 1, "maximum": 1000, "default": 50})
    streamed = {"description": "Server-sent events, until the run has ended.", "content": {"text/event-stream": {}}}
    wish = {"required": True, "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Wish"}}}}
    paths = {
        "/runs": {
            "post": _operation("Run a job", {"202": "Run", "200": "Run"}, "400 408 409 413 424 429 503", body=wish),
            "get": _operation("List the latest runs", {"200": "Runs"}, "400", [*filters, limit]),
        },
        "/runs/{run}": {"get": _operation("Look at a run", {"200": "Run"}, "404", run)},
        "/runs/{run}/events": {
            "get": _operation("Follow a run", {"200": streamed}, "400 404", [*run, events]),
        },
        "/runs/{run}/cancel": {"post": _operation("End a run", {"202": "Run", "200": "Run"}, "404", run)},
        "/health": {"get": {**_operation("Is the server there", {"200": "Health"}, ""), "security": []}},
    }
    about = {"title": "dsflow serve", "version": __version__, "description": "Runs the jobs of a dsflow workspace."}
    bearer = {"token": {"type": "http", "scheme": "bearer"}}
    components = {"schemas": _SCHEMAS, "securitySchemes": bearer}
    return {"openapi": "3.1.0", "info": about, "security": [{"token": []}], "paths": paths, "components": components}


@functools.cache
def page() -> str:
    """Give the page."""
    whole = document()
    operations = "".join(
        _section(method, path, operation)
        for path, methods in whole["paths"].items()
        for method, operation in methods.items()
    )
    schemas = "".join(
        f"<h3 id='{name}'>{name}</h3>{_properties(schema)}" for name, schema in whole["components"]["schemas"].items()
    )
    title = html.escape(f"{whole['info']['title']} {whole['info']['version']}")
    intro = html.escape(whole["info"]["description"])
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title><style>{_STYLE}</style>"
        f"<h1>{title}</h1><p>{intro} Requests carry <code>Authorization: Bearer TOKEN</code>; every answer is JSON. "
        f"For machines: <a href='openapi.json'>openapi.json</a>.</p>{operations}<h2>Objects</h2>{schemas}</html>"
    )


_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:56rem;margin:2rem auto;padding:0 1rem;color:#222}"
    "code{background:#f2f2f2;padding:.1em .3em}h2{border-top:1px solid #ddd;padding-top:1rem}"
    "table{border-collapse:collapse}td{padding:.2rem 1rem .2rem 0;vertical-align:top}b{color:#06c}"
)


def _section(method: str, path: str, operation: Mapping[str, Any]) -> str:
    heading = f"<h2><b>{method.upper()}</b> <code>{html.escape(path)}</code></h2><p>{operation['summary']}.</p>"
    parameters = [(p["name"], p.get("description") or _kind(p["schema"])) for p in operation.get("parameters", [])]
    takes = f"<p>Takes a {_link('Wish')}.</p>" if "requestBody" in operation else ""
    answers = [(code, answer["description"]) for code, answer in operation["responses"].items()]
    return f"{heading}{takes}{_table(parameters)}<h3>Answers</h3>{_table(answers)}"


def _properties(schema: Mapping[str, Any]) -> str:
    return _table(
        [(name, f"{_kind(part)}. {part.get('description', '')}") for name, part in schema["properties"].items()]
    )


def _kind(schema: Mapping[str, Any]) -> str:
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    kind = schema.get("type", json.dumps(schema.get("const")))
    return " or ".join(kind) if isinstance(kind, list) else str(kind)


def _table(rows: list[tuple[str, str]]) -> str:
    cells = "".join(f"<tr><td><code>{html.escape(name)}</code><td>{html.escape(text)}" for name, text in rows)
    return f"<table>{cells}</table>" if rows else ""


def _link(name: str) -> str:
    return f"<a href='#{name}'>{name}</a>"


def _operation(
    summary: str,
    good: Mapping[str, Any],
    bad: str,
    parameters: list[dict[str, Any]] | None = None,
    body: dict[str, Any] | None = None,
) -> dict[str, Any]:
    answers = {
        code: kind if isinstance(kind, dict) else {"description": f"A {kind}.", "content": _json(kind)}
        for code, kind in good.items()
    }
    refusals = {
        code: {"description": _WORDS[code], "content": _json("Error")} for code in sorted({*bad.split(), "401", "503"})
    }
    return {
        "summary": summary,
        "responses": answers | refusals,
        **({"parameters": parameters} if parameters else {}),
        **({"requestBody": body} if body else {}),
    }


def _json(schema: str) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}


def _in_path(name: str, words: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": _TEXT, "description": words}


def _in_header(name: str, words: str) -> dict[str, Any]:
    return {"name": name, "in": "header", "schema": {"type": "integer", "minimum": 0}, "description": words}


def _in_query(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "query", "schema": schema}
