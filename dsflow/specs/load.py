"""Reads the files a person writes into frozen specs, naming every mistake at once."""

from __future__ import annotations

import os
import re
from collections import ChainMap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import pydantic

from dsflow import shortforms
from dsflow.errors import UsageError
from dsflow.masking import MASK, is_secret
from dsflow.model import QUARANTINE
from dsflow.specs import legacy, sources
from dsflow.specs.errors import Place, sentence, sentences
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
    "SparkSpec",
    "SpecError",
    "TemplateParameter",
    "TemplateSpec",
    "WorkspaceSpec",
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
# The settings that an environment variable can give: DSFLOW_RUNTIME, DSFLOW_HISTORY, ...
_FROM_ENVIRONMENT = ("name", "runtime", "engine", "image", "history", "base_image", "ca_bundle")


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
        return legacy.job_of(name, _checked(legacy.LegacyJobFile, data, shown))
    file = _checked(JobFile, data, shown, _relations(data))
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
        return legacy.template_of(_checked(legacy.LegacyTemplateFile, data, shown))
    return _checked(TemplateSpec, data, shown, _template_relations(data))


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
    return _checked(ServiceSpec, data, shown, _service_relations(data))


@dataclass(frozen=True)
class Setting:
    """One value of the workspace's settings and where it came from."""

    name: str
    value: Any
    origin: str

    @property
    def safe_value(self) -> Any:
        """The value without passwords."""
        if isinstance(self.value, Spec):
            return _without_secrets(self.value.model_dump(mode="json"))
        if isinstance(self.value, tuple):
            return [hide_passwords(item) for item in self.value]
        return hide_passwords(self.value) if isinstance(self.value, str) else self.value

    @property
    def shown(self) -> str:
        """The value as one line, without passwords."""
        value = self.safe_value
        if isinstance(value, dict):
            value = [f"{name}: {item}" for name, item in value.items()]
        return ", ".join(value) if isinstance(value, list) else str(value or "")


def _without_secrets(values: Mapping[str, Any]) -> dict[str, Any]:
    inner = {name: _without_secrets(value) for name, value in values.items() if isinstance(value, dict)}
    return {name: inner.get(name, MASK if is_secret(name) else value) for name, value in values.items()}


def settings_of(workspace: Workspace, command_line: Mapping[str, Any] | None = None) -> list[Setting]:
    """Give every setting of a workspace with its origin.

    Args:
        workspace: The workspace.
        command_line: Settings that options of this command gave; None means not given.

    Raises:
        SpecError: a setting has a mistake.
    """
    spec, layers = _settle(workspace, command_line or {})
    names = [name for name in WorkspaceSpec.model_fields if name != "version"]
    origin = {name: next(layer for layer, values in layers.items() if name in values) for name in names}
    return [Setting(name, getattr(spec, name), origin[name]) for name in names]


def load_workspace(workspace: Workspace, command_line: Mapping[str, Any] | None = None) -> WorkspaceSpec:
    """Give the settings of a workspace: command line over environment over `dsflow.yml` over defaults.

    Args:
        workspace: The workspace.
        command_line: Settings that options of this command gave; None means not given.

    Raises:
        SpecError: a setting has a mistake.
    """
    return _settle(workspace, command_line or {})[0]


def json_schema(name: SchemaName) -> dict[str, Any]:
    """Give the JSON schema of a file, for editors."""
    schema = _MODELS[name].model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def hide_passwords(url: str) -> str:
    """Give a URL (or any text) with its password, and parameters named like secrets, replaced by `***`."""
    url = re.sub(r"(://[^:/@\s]*:)\S*@", rf"\1{MASK}@", url)
    return re.sub(r"([?&]([^=&\s]+)=)[^&\s]*", lambda m: m[1] + MASK if is_secret(m[2]) else m[0], url)


def _settle(workspace: Workspace, command_line: Mapping[str, Any]) -> tuple[WorkspaceSpec, dict[str, dict[str, Any]]]:
    shown = workspace.shown(workspace.marker)
    environment = {name: os.environ.get(f"DSFLOW_{name.upper()}") for name in _FROM_ENVIRONMENT}
    layers = {
        "command line": {key: value for key, value in command_line.items() if value is not None},
        "environment": {key: value for key, value in environment.items() if value},
        shown: read_mapping(workspace.marker, shown),
        "default": WorkspaceSpec().model_dump(),
    }
    # Each layer is checked on its own, so that a mistake is told where it was made.
    _checked(
        WorkspaceSpec, layers[shown], shown, [_told(place, text) for place, text in sources.problems(layers[shown])]
    )
    _checked(WorkspaceSpec, layers["environment"], "environment DSFLOW_*")
    _checked(WorkspaceSpec, layers["command line"], "command line")
    return WorkspaceSpec.model_validate(dict(ChainMap(*layers.values()))), layers


def _is_legacy(data: dict[str, Any], sign: str) -> bool:
    return str(data.get("version", "")) == "0.1" or ("version" not in data and sign in data)


def _checked(model: type[S], data: dict[str, Any], shown: str, more: list[str] | None = None) -> S:
    """Validate, with the mistakes of `more` (key path first) beside those that pydantic finds."""
    mistakes = [f"{shown}: {problem}" for problem in more or []]
    try:
        spec = model.model_validate(data)
    except pydantic.ValidationError as error:
        mistakes = sentences(error, model, shown) + mistakes
    if mistakes:
        raise SpecError(mistakes)
    return spec


def _relations(data: dict[str, Any]) -> list[str]:
    """Find what is wrong between keys of a version 1 job; values of a wrong type are left to pydantic."""
    found: list[str] = []
    inputs, output = data.get("inputs"), data.get("output")
    for name, source in inputs.items() if isinstance(inputs, dict) else ():
        if isinstance(source, dict):
            found += [_told(("inputs", name), problem) for problem in _input_problems(source)]
    if isinstance(output, dict) and sum(key in output for key in ("table", "raw")) != 1:
        found.append(_told(("output",), "name exactly one of 'table' and 'raw'"))
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
