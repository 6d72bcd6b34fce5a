"""The keys of every file a person writes, with what each may hold. The texts of mistakes are in `specs_errors`."""

from __future__ import annotations

import datetime as dt
import math
import re
import zoneinfo
from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, Strict, WithJsonSchema
from pydantic_core import PydanticCustomError

from dsflow.engines.registry import ENGINES
from dsflow.errors import UsageError, did_you_mean
from dsflow.kinds.registry import KINDS
from dsflow.model import Action, Grain
from dsflow.quantities import memory_bytes, seconds
from dsflow.schedule import check_cron
from dsflow.workspace import check_name

Format = Literal["csv", "json", "parquet", "text"]

# Names that every SQL text and every parameters cell may use; dsflow gives them their values.
GIVEN_NAMES = ("ds", "ds_nodash", "prev_ds", "next_ds", "start", "end", "run_id", "job", "params", "macros")


def _name(what: str) -> AfterValidator:
    def check(value: str) -> str:
        try:
            return check_name(value, what)
        except UsageError as error:
            raise ValueError(f"{error.message}; {error.hint[0].lower()}{error.hint[1:].rstrip('.')}") from None

    return AfterValidator(check)


def _shape(pattern: str, what: str) -> AfterValidator:
    def check(value: str) -> str:
        if not re.fullmatch(pattern, value, re.ASCII):
            raise ValueError(f"{value[:60]!r} is not {what}")
        return value

    return AfterValidator(check)


def _amount(check: Any) -> AfterValidator:
    def keep(value: str) -> str:
        check(value)
        return value

    return AfterValidator(keep)


def _number_as_text(value: Any) -> Any:
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _plain(value: Any) -> Any:
    values = value if isinstance(value, list) else [value]
    for item in values:
        if not (item is None or isinstance(item, str | int | float | bool)):
            raise ValueError("expected a plain value or a list of plain values")
        if isinstance(item, float) and not math.isfinite(item):
            raise ValueError("expected a finite number")
    return value


def _single(value: Any) -> Any:
    if value is None or isinstance(value, list):
        raise ValueError("expected one value")
    return value


def _free(name: str) -> str:
    if name in GIVEN_NAMES:
        raise ValueError(f"{name!r} is given by dsflow; choose another name")
    return name


def _zone(name: str) -> str:
    try:
        zoneinfo.ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        guess = did_you_mean(name, zoneinfo.available_timezones())
        raise ValueError(f"{name[:60]!r} is not a time zone such as Europe/Paris{guess}") from None
    return name


def _moment(text: str) -> str:
    try:
        dt.datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text[:60]!r} is not a date such as 2026-12-01") from None
    return text


def _cron(line: str) -> str:
    check_cron(line)
    return line


def _cron_alone(value: Any) -> Any:
    return {"cron": value} if isinstance(value, str) else value


def _known(names: Iterable[str]) -> AfterValidator:
    allowed = tuple(names)

    def check(value: str) -> str:
        if value not in allowed:
            raise PydanticCustomError("literal_error", "unknown", {"expected": ", ".join(map(repr, allowed))})
        return value

    return AfterValidator(check)


# Words that a registry defines: a new kind or engine needs no line here.
KindName = Annotated[str, _known(KINDS), WithJsonSchema({"type": "string", "enum": [*KINDS]})]
EngineName = Annotated[str, _known(ENGINES), WithJsonSchema({"type": "string", "enum": [*ENGINES]})]
Flag = Annotated[bool, Strict()]
Port = Annotated[int, Strict(), Field(ge=1, le=65535)]
Line = Annotated[str, Field(min_length=1, max_length=1000), _shape(r"[^\x00-\x1f]*", "one line of text")]
Memory = Annotated[str, BeforeValidator(_number_as_text), _amount(memory_bytes)]
Duration = Annotated[str, BeforeValidator(_number_as_text), _amount(seconds)]
Image = Annotated[str, _shape(r"[a-z0-9][A-Za-z0-9._/:@-]{0,250}", "the name of an image")]
Requirement = Annotated[str, _shape(r"[A-Za-z0-9][^\x00-\x1f]{0,300}", "a requirement such as pandas==2.3.0")]
VariableName = Annotated[str, _shape(r"[A-Za-z_][A-Za-z0-9_]{0,200}", "the name of an environment variable")]
ParameterText = Annotated[str, _shape(r"[A-Za-z_][A-Za-z0-9_]{0,99}", "a parameter name; use letters, digits and '_'")]
ParameterName = Annotated[ParameterText, AfterValidator(_free)]
ParameterValue = Annotated[Any, AfterValidator(_plain)]


class Spec(BaseModel):
    """A part of a file: unknown keys are mistakes, and what was read does not change."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class InputSpec(Spec):
    """Something the job reads: a raw dataset, a table, or a path."""

    raw: Annotated[str, _name("raw dataset")] | None = Field(
        default=None, description="A raw dataset of the datastore."
    )
    table: Annotated[str, _name("table")] | None = Field(default=None, description="A table of the datastore.")
    path: Line | None = Field(default=None, description="A URL, a file in the job's folder, or a path below /data.")
    format: Format | None = Field(default=None, description="How files are read; found from their names if absent.")
    as_of: Literal["ds"] | None = Field(default=None, description="Read the newest partition at or before ds.")
    window: Annotated[int, Strict(), Field(ge=1, le=10_000)] | None = Field(
        default=None, description="Read this many partitions, the last of them ds."
    )
    lookback: Annotated[int, Strict(), Field(ge=1, le=1_000)] | None = Field(
        default=None, description="Read so many partitions after ds too, those that exist: late data."
    )
    options: dict[str, Any] = Field(default={}, description="Passed to the reader.")


class OutputSpec(Spec):
    """The table or raw dataset whose partition the job replaces."""

    table: Annotated[str, _name("table")] | None = Field(default=None, description="The table the job writes.")
    raw: Annotated[str, _name("raw dataset")] | None = Field(
        default=None, description="The raw dataset the job writes."
    )
    kind: Literal["fct", "dim"] = Field(
        default="fct", description="fct: the facts of that ds. dim: a full snapshot per ds."
    )
    keys: tuple[Line, ...] = Field(
        default=(), description="The columns that name a row; `dsflow diff` compares rows by them."
    )


class ExpectationSpec(Spec):
    """A SQL condition that every row of the output must meet."""

    name: Line
    constraint: Annotated[str, Field(min_length=1, max_length=10_000)]
    action: Action | None = Field(default=None, description="What happens to rows that break it.")


class RunSpec(Spec):
    """Where and with what the job runs."""

    runtime: Literal["auto", "process", "docker"] | None = Field(default=None, description="Where the job runs.")
    image: Image | None = Field(default=None, description="The image of its container.")
    requirements: tuple[Requirement, ...] = Field(
        default=(), description="Python packages it needs besides the usual ones."
    )
    memory: Memory | None = Field(default=None, description="Most memory it may use, such as 2g.")
    cpus: Annotated[float, Strict(), Field(gt=0, le=1024)] | None = Field(default=None, description="Cores it may use.")
    network: Flag | None = Field(
        default=None, description="May it open connections? If absent: yes with an input that is a URL, otherwise no."
    )
    timeout: Duration | None = Field(default=None, description="Longest time it may take, such as 30m.")
    retries: Annotated[int, Strict(), Field(ge=0, le=100)] = Field(default=0, description="How often to try again.")
    environment: tuple[VariableName, ...] = Field(default=(), description="Environment variables to pass on, by name.")


class ScheduleSpec(Spec):
    """When the job is due."""

    cron: Annotated[Line, AfterValidator(_cron)] = Field(
        description="Minute, hour, day of the month, month, day of the week: `30 4 * * *`."
    )
    timezone: Annotated[str, AfterValidator(_zone)] = Field(default="UTC", description="Where that clock hangs.")
    paused_until: Annotated[str, AfterValidator(_moment)] | None = Field(
        default=None, description="Nothing is due before this date."
    )


class JobFile(Spec):
    """job_specs.yaml, version 1."""

    version: Literal[1] = Field(description="The version of this format.")
    description: str = ""
    kind: KindName = Field(description="What the main file is.")
    main: Line | None = Field(default=None, description="The file to run; found if the folder has only one that fits.")
    engine: EngineName | None = Field(default=None, description="What computes.")
    session: Literal["connect", "classic"] = Field(
        default="connect", description="With Spark: the workspace's warm server, or Spark in the job's own process."
    )
    grain: Grain = Field(default="day", description="What a partition stands for.")
    parameters: dict[ParameterName, ParameterValue] = Field(default={}, description="Names with typed defaults.")
    inputs: dict[Annotated[str, _name("input")], InputSpec] = Field(
        default={}, description="What the job reads, by name."
    )
    output: OutputSpec | None = None
    expectations: tuple[ExpectationSpec, ...] = ()
    expectation_action: Action = Field(default="fail", description="For expectations that do not say their own.")
    tags: tuple[Annotated[str, _name("tag")], ...] = Field(default=(), description="Words to select jobs by.")
    schedule: (
        Annotated[ScheduleSpec, BeforeValidator(_cron_alone, json_schema_input_type=ScheduleSpec | str)] | None
    ) = Field(default=None, description="When the job is due; a text is its `cron`.")
    run: RunSpec = RunSpec()


class JobSpec(JobFile):
    """A job as read from its folder, whatever the version of its file.

    `positional` are the `job_parameters` and `task_specs` the values of a version '0.1' file (`legacy`); both are
    empty for version 1.
    """

    name: str
    legacy: bool = False
    positional: tuple[str, ...] = ()
    task_specs: dict[str, Any] = {}


class LegacyJobFile(Spec):
    """job_specs.yaml, version '0.1'; keys it does not know were always ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    job_class: Literal["JupyterNotebook", "CommandLineTool", "PlotlyDashApplication"] = Field(alias="class")
    description: Annotated[str, BeforeValidator(_number_as_text)] | None = None
    image: str | None = None
    script: Line
    job_parameters: tuple[ParameterText, ...] | None = None
    task_specs: dict[str, Any] | None = None


class TemplateParameter(Spec):
    """A question that a template asks."""

    name: ParameterText
    type: Literal["string", "integer", "number", "boolean", "choice"] = "string"
    text: str = Field(default="", description="The question; the name if absent.")
    help: str = ""
    default: ParameterValue = None
    choices: tuple[str, ...] = ()
    pattern: str | None = Field(default=None, description="A regular expression that the whole answer must match.")


class TemplateSpec(Spec):
    """template_specs.yaml, version 1."""

    version: Literal[1] = 1
    description: str = ""
    job_name_prefix: Annotated[str, _name("job")] | None = Field(
        default=None, description="Jobs are called PREFIX-NAME."
    )
    template_parameters: tuple[TemplateParameter, ...] = ()
    schema_from: Literal["csv", "json", "parquet", "none"] = Field(
        default="none", description="The format of the sample file that gives the columns."
    )
    mkdir: tuple[str, ...] = Field(
        default=(), description="Folders to make, such as datastore://raw/{{ dataset_name }}."
    )


class LegacyTemplateParameter(Spec):
    """A question of a version '0.1' template."""

    name: ParameterText
    type: Literal["prompt", "confirm"] = "prompt"
    text: str = ""


class LegacyTemplateFile(Spec):
    """template_specs.yaml, version '0.1'."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    job_name_prefix: Annotated[str, _name("job")] | None = None
    template_parameters: tuple[LegacyTemplateParameter, ...] | None = None
    mkdir: tuple[str, ...] | None = None


class Readiness(Spec):
    """How to see that a service answers."""

    path: str = "/"
    port: Port
    timeout: Duration = "60s"


class ServiceProcess(Spec):
    """How a service runs without a container."""

    command: tuple[str, ...] = Field(min_length=1)
    requirements: tuple[Requirement, ...] = ()


class Mount(Spec):
    """A folder of the workspace that a service sees."""

    source: Line
    target: Annotated[str, _shape(r"/[^\x00-\x1f:]*", "a path that starts with /")]
    read_only: Flag = False


class ServiceSpec(Spec):
    """service.yaml: a long-lived program."""

    version: Literal[1] = 1
    name: Annotated[str, _name("service")]
    description: str = ""
    image: Image | None = None
    dockerfile: Line | None = None
    ports: tuple[Port, ...] = ()
    mounts: tuple[Mount, ...] = ()
    environment: dict[VariableName, ParameterValue] = {}
    memory: Memory | None = None
    readiness: Readiness | None = None
    process: ServiceProcess | None = None


class SparkSpec(Spec):
    """How Spark runs, for jobs of the engine `spark`."""

    memory: Memory | None = Field(default=None, description="Its heap; a quarter of the machine's memory if absent.")
    idle: Duration = Field(default="30m", description="The warm server ends when nobody has used it for so long.")
    archive: Flag = Field(default=True, description="Keep the classes it has loaded, so that it starts faster.")
    settings: dict[Line, Annotated[ParameterValue, AfterValidator(_single)]] = Field(
        default={}, description="Settings of Spark, such as spark.sql.shuffle.partitions."
    )


class WorkspaceSpec(Spec):
    """dsflow.yml: what holds for the whole workspace. Everything may be absent."""

    version: Literal[1] = 1
    name: str = Field(default="", description="What the workspace is called.")
    runtime: Literal["auto", "process", "docker"] = Field(
        default="auto", description="Where jobs run if they do not say."
    )
    engine: EngineName = Field(default="duckdb", description="What computes if a job does not say.")
    spark: SparkSpec = SparkSpec()
    image: Image | None = Field(default=None, description="The image of jobs that do not name one.")
    history: Line = Field(default="sqlite:///datastore/job_runs/history.db", description="URL of the database of runs.")
    templates: tuple[Line, ...] = Field(default=(), description="More templates: folders or git URLs.")
    ports: dict[Annotated[str, _name("service")], Port] = Field(default={}, description="The port of each service.")
    base_image: Image | None = Field(default=None, description="The image that dsflow's own images are built on.")
    ca_bundle: Line | None = Field(default=None, description="Certificates to trust while building images.")
