"""Files of the predecessor's version '0.1', turned into the specs of today.

Such a job gets its paths in `task_specs`: below `/data/tables/NAME/ds=...` and `/data/raw/NAME/ds=...` they are
partitions of the datastore, anything else is a plain path.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import ConfigDict, Field

from dsflow.specs.fields import JobName, Line, ParameterText, Spec, Text
from dsflow.specs.models import InputSpec, JobSpec, OutputSpec, RunSpec, TemplateParameter, TemplateSpec

_KINDS = {
    "JupyterNotebook": "notebook",
    "CommandLineTool": "script",
    "PlotlyDashApplication": "dashboard",
}
# The predecessor ignored `image` and ran everything in images of its own; those are dsflow's default image today.
_DEFAULT_IMAGE = re.compile(r"dsflow/(base|pyspark|dash)(:.*)?")
_PARTITION = re.compile(r"/data/(tables|raw)/([^/]+)/ds=([^/]+)/?")


class LegacyJobFile(Spec):
    """job_specs.yaml, version '0.1'; keys it does not know were always ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    job_class: Literal["JupyterNotebook", "CommandLineTool", "PlotlyDashApplication"] = Field(alias="class")
    description: Text | None = None
    image: str | None = None
    script: Line
    job_parameters: tuple[ParameterText, ...] | None = None
    task_specs: dict[str, Any] | None = None


class LegacyTemplateParameter(Spec):
    """A question of a version '0.1' template."""

    name: ParameterText
    type: Literal["prompt", "confirm"] = "prompt"
    text: str = ""


class LegacyTemplateFile(Spec):
    """template_specs.yaml, version '0.1'."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    job_name_prefix: JobName | None = None
    template_parameters: tuple[LegacyTemplateParameter, ...] | None = None
    mkdir: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Place:
    """A partition that a path stands for."""

    store: Literal["table", "raw"]
    name: str
    ds: str


def place_of(path: Any) -> Place | None:
    """Give the partition of the datastore that a `/data/...` path stands for, or None where it is none."""
    match = _PARTITION.fullmatch(path) if isinstance(path, str) else None
    return Place("table" if match[1] == "tables" else "raw", match[2], match[3]) if match else None


def job_of(name: str, file: LegacyJobFile) -> JobSpec:
    """Give the job that a version '0.1' file describes."""
    specs = file.task_specs or {}
    kind: Any = _KINDS[file.job_class]
    image = file.image if file.image and not _DEFAULT_IMAGE.fullmatch(file.image) else None
    return JobSpec.model_construct(
        version=1,
        name=name,
        legacy=True,
        description=file.description or "",
        kind=kind,
        main=file.script,
        positional=file.job_parameters or (),
        task_specs=specs,
        inputs=_inputs(specs),
        output=_output(specs),
        run=RunSpec.model_construct(image=image, network=True if kind == "script" else None),
    )


def template_of(file: LegacyTemplateFile) -> TemplateSpec:
    """Give the template that a version '0.1' file describes."""
    questions = [
        TemplateParameter(name=p.name, type="string", text=p.text)
        if p.type == "prompt"
        else TemplateParameter(name=p.name, type="boolean", text=p.text, default=False)
        for p in file.template_parameters or ()
    ]
    return TemplateSpec(
        job_name_prefix=file.job_name_prefix, template_parameters=tuple(questions), mkdir=file.mkdir or ()
    )


def _inputs(specs: dict[str, Any]) -> dict[str, InputSpec]:
    path = specs.get("source_path")
    if not isinstance(path, str) or not path:
        return {}
    place = place_of(path)
    if place is None or "{" in place.name:
        return {"source": InputSpec.model_construct(path=path)}
    is_table = place.store == "table"
    return {
        "source": InputSpec.model_construct(
            table=place.name if is_table else None, raw=None if is_table else place.name
        )
    }


def _output(specs: dict[str, Any]) -> OutputSpec | None:
    place = place_of(specs.get("sink_path"))
    if place is None or "{" in place.name:
        return None
    is_table = place.store == "table"
    return OutputSpec.model_construct(table=place.name if is_table else None, raw=None if is_table else place.name)
