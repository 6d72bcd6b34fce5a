"""Reads the files a person writes into frozen specs, naming every mistake at once."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal, TypeVar

from dsflow import shortforms
from dsflow.errors import UsageError
from dsflow.model import QUARANTINE
from dsflow.specs import legacy
from dsflow.specs.errors import Place, checked, sentence
from dsflow.specs.fields import Spec
from dsflow.specs.models import (
    ExpectationSpec,
    InputSpec,
    JobFile,
    JobSpec,
    Readiness,
    RunSpec,
    ServiceSpec,
    SparkSpec,
    TemplateParameter,
    TemplateSpec,
    WorkspaceSpec,
)
from dsflow.specs.settings import Setting, hide_passwords, load_workspace, settings_of
from dsflow.specs.sources import SourceSpec
from dsflow.specs.testfile import TestFile
from dsflow.specs.yaml import SpecError, read_mapping, read_text, short
from dsflow.workspace import JOB_SPECS, SERVICE_SPECS, TEMPLATE_SPECS, Workspace

__all__ = [
    "ExpectationSpec",
    "JobSpec",
    "Readiness",
    "RunSpec",
    "ServiceSpec",
    "Setting",
    "SourceSpec",
    "SparkSpec",
    "SpecError",
    "TemplateParameter",
    "TemplateSpec",
    "WorkspaceSpec",
    "hide_passwords",
    "json_schema",
    "load_job",
    "load_service",
    "load_template",
    "load_workspace",
    "read_text",
    "settings_of",
]

SchemaName = Literal["job", "template", "service", "workspace", "test"]
S = TypeVar("S", bound=Spec)
_MODELS: dict[str, type[Spec]] = {
    "job": JobFile,
    "template": TemplateSpec,
    "service": ServiceSpec,
    "workspace": WorkspaceSpec,
    "test": TestFile,
}


def load_job(workspace: Workspace, name: str) -> JobSpec:
    """Read the spec of a job, of version 1 or '0.1'.

    Args:
        workspace: Where the job is.
        name: The name of its folder.

    Raises:
        UsageError: there is no such job.
        SpecError: its file has mistakes.
    """
    path = workspace.job_folder(name) / JOB_SPECS
    shown = workspace.shown(path)
    if not _stays_in(path, workspace.root):
        raise SpecError([f"{shown}: is a link that leaves the workspace"])
    data = read_mapping(path, shown)
    if _is_legacy(data, "class"):
        return legacy.job_of(name, checked(legacy.LegacyJobFile, data, shown))
    file = checked(JobFile, data, shown, _relations(data))
    return JobSpec.model_construct(**{key: getattr(file, key) for key in JobFile.model_fields}, name=name)


def load_template(folder: Path, shown: str = "") -> TemplateSpec:
    """Read the spec of a template folder, of version 1 or '0.1'.

    Args:
        folder: The template.
        shown: How messages call its file.

    Raises:
        SpecError: the file is missing or has mistakes.
    """
    path = folder / TEMPLATE_SPECS
    shown = shown or f"{folder.name}/{path.name}"
    data = read_mapping(path, shown)
    if _is_legacy(data, "job_name_prefix"):
        return legacy.template_of(checked(legacy.LegacyTemplateFile, data, shown))
    return checked(TemplateSpec, data, shown, _template_relations(data))


def load_service(folder: Path, shown: str = "") -> ServiceSpec:
    """Read the spec of a service folder.

    Args:
        folder: The service.
        shown: How messages call its file.

    Raises:
        SpecError: the file is missing or has mistakes.
    """
    path = folder / SERVICE_SPECS
    shown = shown or f"{folder.name}/{path.name}"
    data = read_mapping(path, shown)
    return checked(ServiceSpec, data, shown, _service_relations(data))


def json_schema(name: SchemaName) -> dict[str, Any]:
    """Give the JSON schema of a file, for editors."""
    schema = _MODELS[name].model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _is_legacy(data: dict[str, Any], sign: str) -> bool:
    return str(data.get("version", "")) == "0.1" or ("version" not in data and sign in data)


def _relations(data: dict[str, Any]) -> list[str]:
    """Find what is wrong between keys of a version 1 job; values of a wrong type are left to pydantic."""
    found: list[str] = []
    inputs, output = data.get("inputs"), data.get("output")
    for name, source in inputs.items() if isinstance(inputs, dict) else ():
        if isinstance(source, dict):
            found += [_told(("inputs", name), problem) for problem in _input_problems(source)]
    if isinstance(output, dict) and sum(key in output for key in ("table", "raw")) != 1:
        found.append(_told(("output",), "name exactly one of 'table' and 'raw'"))
    if "dialect" in data and data.get("kind") != "sql":
        found.append(_told(("dialect",), "only a sql job has one"))
    table = output.get("table") if isinstance(output, dict) else None
    if isinstance(table, str) and table.endswith(QUARANTINE):
        found.append(_told(("output", "table"), f"names that end in {QUARANTINE} are for rows that were set aside"))
    checks = data.get("expectations")
    if isinstance(checks, list) and checks:
        found += [] if table else [_told(("expectations",), "there is no output table to check")]
        found += _expectation_problems(checks, data.get("expectation_action") or "fail")
    return found


def _expectation_problems(checks: list[Any], action: Any) -> list[str]:
    given = [(index, check) for index, check in enumerate(checks) if isinstance(check, dict)]
    found = [
        _told(("expectations", index), problem)
        for index, check in given
        # A key that does not exist was probably meant to be the one that is missing; that is told already.
        if not check.keys() - set(ExpectationSpec.model_fields) - {"schema"}
        for problem in shortforms.problems(check, str(check.get("action") or action))
    ]
    names = [shortforms.name_of(check) for _, check in given]
    twice = sorted({name for name in names if name and names.count(name) > 1})
    return found + [_told(("expectations",), f"{name!r} is there twice") for name in twice]


def _input_problems(source: dict[str, Any]) -> list[str]:
    found: list[str] = []
    named = sum(key in source for key in ("raw", "table", "path"))
    # A key that does not exist was probably meant to be the one that is missing; that is told already.
    if named > 1 or (named == 0 and not source.keys() - InputSpec.model_fields.keys()):
        found.append("name exactly one of 'raw', 'table' and 'path'")
    if "as_of" in source and "window" in source:
        found.append("give 'as_of' or 'window', not both")
    if "as_of" in source and "lookback" in source:
        found.append("give 'as_of' or 'lookback', not both")
    if "path" in source and source.keys() & {"as_of", "window", "lookback"}:
        found.append("'as_of', 'window' and 'lookback' go with 'raw' or 'table', not with 'path'")
    return found


def _template_relations(data: dict[str, Any]) -> list[str]:
    found: list[str] = []
    questions = data.get("template_parameters")
    for index, question in enumerate(questions if isinstance(questions, list) else ()):
        if isinstance(question, dict):
            place: Place = ("template_parameters", index)
            if (question.get("type") == "choice") != bool(question.get("choices")):
                found.append(_told(place, "'choices' and 'type: choice' go together"))
            found += [_told(place, problem) for problem in _pattern_problems(question.get("pattern"))]
    return found


def _service_relations(data: dict[str, Any]) -> list[str]:
    found: list[str] = []
    ports, ready, process, mounts = (data.get(key) for key in ("ports", "readiness", "process", "mounts"))
    if isinstance(ready, dict) and isinstance(ports, list) and ready.get("port") not in (None, *ports):
        found.append(_told(("readiness", "port"), f"{short(ready['port'])} is none of 'ports'"))
    if isinstance(process, dict) and not (process.get("command") or data.get("command")):
        found.append(_told(("process", "command"), "required key is missing: there is no 'command' for both forms"))
    for index, mount in enumerate(mounts if isinstance(mounts, list) else ()):
        source = mount.get("source") if isinstance(mount, dict) else None
        if isinstance(source, str) and (source.startswith("/") or ".." in source.split("/")):
            found.append(_told(("mounts", index, "source"), f"{short(source)} is not in the workspace"))
    return found


def _pattern_problems(pattern: Any) -> list[str]:
    try:
        re.compile(pattern if isinstance(pattern, str) else "")
    except (re.error, RecursionError, OverflowError) as error:
        return [f"'pattern' is not a regular expression: {error}"]
    return []


def _told(place: Place, problem: str) -> str:
    return sentence("", place, problem).removeprefix(": ")


def _stays_in(path: Path, root: Path) -> bool:
    try:
        return path.resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError):
        raise UsageError(f"{path} is a link that leads in a circle", "Remove the link.") from None
