"""The keys of every file a person writes, with what each may hold. The texts of mistakes are in `errors`."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, Strict, model_validator

from dsflow.model import Action, Grain, Severity
from dsflow.partitions import Standing
from dsflow.specs.fields import (
    ColumnNames,
    Dialects,
    Duration,
    EngineName,
    Flag,
    FolderName,
    Format,
    Image,
    JobName,
    KindName,
    Line,
    Memory,
    MostFailures,
    ParameterName,
    ParameterText,
    ParameterValue,
    PlainValue,
    Port,
    Requirement,
    RuntimeName,
    SparkMaster,
    SparkRemote,
    Spec,
    VariableName,
    Word,
    cron_alone,
    cron_line,
    moment,
    name_of_a,
    shape,
    zone,
)
from dsflow.specs.sources import KeyColumns, KeyName, SourceName, SourceSpec

USUAL_HISTORY = "sqlite:///datastore/job_runs/history.db"

# Where jobs keep what they share, if nobody says.
MODULES = ("dependencies",)


class InputSpec(Spec):
    """Something the job reads: a raw dataset, a table, or a path."""

    raw: Annotated[str, name_of_a("raw dataset")] | None = Field(
        default=None, description="A raw dataset of the datastore."
    )
    table: Annotated[str, name_of_a("table")] | None = Field(default=None, description="A table of the datastore.")
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

    table: Annotated[str, name_of_a("table")] | None = Field(default=None, description="The table the job writes.")
    raw: Annotated[str, name_of_a("raw dataset")] | None = Field(
        default=None, description="The raw dataset the job writes."
    )
    kind: Literal["fct", "dim"] = Field(
        default="fct", description="fct: the facts of that ds. dim: a full snapshot per ds."
    )
    keys: tuple[Line, ...] = Field(
        default=(), description="The columns that name a row; `dsflow diff` compares rows by them."
    )


class AcceptedValuesSpec(Spec):
    """A column and all the values it may have."""

    column: Line
    values: Annotated[tuple[ParameterValue, ...], Field(min_length=1)] = Field(
        description="Texts, numbers, true or false; null where it may be NULL."
    )


class RowCountSpec(Spec):
    """How many rows a partition may have."""

    min: Annotated[float, Field(ge=0)] | None = Field(default=None, description="At least so many.")
    max: Annotated[float, Field(ge=0)] | None = Field(default=None, description="At most so many.")
    against: Literal["previous"] | None = Field(
        default=None, description="min and max are multiples of the rows of the partition before."
    )


class FreshnessSpec(Spec):
    """How old the newest row may be when the partition ends."""

    column: Line = Field(description="A date or a moment.")
    within: Duration = Field(description="Such as 2h or 3d.")


class ReferencesSpec(Spec):
    """A column whose values are all in a column of another table."""

    column: Line
    table: Annotated[str, name_of_a("table")]
    to: Line | None = Field(default=None, description="The column of the other table; of the same name if absent.")
    optional: Flag = Field(default=False, description="The column may be NULL.")


class ShapeSpec(Spec):
    """What the columns of the output must be."""

    columns: tuple[Line, ...] = Field(default=(), description="These and no others, in any order.")
    types: dict[Line, Line] = Field(default={}, description="Type by column.")
    on_change: Literal["allow", "fail"] = Field(
        default="allow", description="What happens when the columns are not those of the partition before."
    )


class ExpectationSpec(Spec):
    """What must be true of the output: a SQL condition on every row, or one of the short forms."""

    name: Line | None = Field(default=None, description="What it is called; a short form has a name already.")
    constraint: Annotated[str, Field(min_length=1, max_length=10_000)] | None = Field(
        default=None, description="A SQL condition over the columns; with aggregates it is about the whole partition."
    )
    unique: ColumnNames | None = Field(default=None, description="No two rows have the same values in these columns.")
    not_null: ColumnNames | None = Field(default=None, description="These columns are never NULL.")
    accepted_values: AcceptedValuesSpec | None = Field(default=None, description="All values that a column may have.")
    row_count: RowCountSpec | None = Field(default=None, description="How many rows there may be.")
    freshness: FreshnessSpec | None = Field(default=None, description="How old the newest row may be.")
    references: ReferencesSpec | None = Field(default=None, description="Values that are in another table.")
    shape: ShapeSpec | None = Field(default=None, alias="schema", description="What the columns must be.")
    action: Action | None = Field(default=None, description="What happens to rows that break it.")
    severity: Severity | None = Field(default=None, description="How loudly that is told.")
    max_failures: MostFailures | None = Field(
        default=None, description="So many rows, or such a share of them (1%), may break it without consequence."
    )


class RunSpec(Spec):
    """Where and with what the job runs."""

    runtime: RuntimeName | None = Field(default=None, description="Where the job runs.")
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

    cron: Annotated[Line, AfterValidator(cron_line)] = Field(
        description="Minute, hour, day of the month, month, day of the week: `30 4 * * *`."
    )
    timezone: Annotated[str, AfterValidator(zone)] = Field(default="UTC", description="Where that clock hangs.")
    partition: Standing = Field(
        default="ended", description="What a tick stands for: the partition that has ended, or the current one."
    )
    paused_until: Annotated[str, AfterValidator(moment)] | None = Field(
        default=None, description="Nothing is due before this date."
    )


class JobFile(Spec):
    """job_specs.yaml, version 1."""

    version: Literal[1] = Field(description="The version of this format.")
    description: str = ""
    kind: KindName = Field(description="What the main file is.")
    main: Line | None = Field(default=None, description="The file to run; found if the folder has only one that fits.")
    engine: EngineName | None = Field(default=None, description="What computes.")
    dialect: Dialects | None = Field(
        default=None, description="The SQL a query is written in, where that is not its engine's; one or several."
    )
    session: Literal["connect", "classic"] = Field(
        default="connect", description="With Spark: the workspace's warm server, or Spark in the job's own process."
    )
    grain: Grain = Field(default="day", description="What a partition stands for.")
    parameters: dict[ParameterName, ParameterValue] = Field(default={}, description="Names with typed defaults.")
    inputs: dict[Annotated[str, name_of_a("input")], InputSpec] = Field(
        default={}, description="What the job reads, by name."
    )
    output: OutputSpec | None = None
    expectations: tuple[ExpectationSpec, ...] = ()
    expectation_action: Action = Field(default="fail", description="For expectations that do not say their own.")
    tags: tuple[Annotated[str, name_of_a("tag")], ...] = Field(default=(), description="Words to select jobs by.")
    schedule: Annotated[ScheduleSpec, BeforeValidator(cron_alone, json_schema_input_type=ScheduleSpec | str)] | None = (
        Field(default=None, description="When the job is due; a text is its `cron`.")
    )
    modules: tuple[FolderName, ...] | None = Field(
        default=None,
        description="Folders of modules that are sent with it to a cluster; those of dsflow.yml if absent.",
    )
    run: RunSpec = RunSpec()


class JobSpec(JobFile):
    """A job as read from its folder, whatever the version of its file.

    `positional` are the `job_parameters` and `task_specs` the values of a version '0.1' file (`legacy`); both are
    empty for version 1.
    """

    name: str
    legacy: bool = False
    positional: tuple[str, ...] = ()
    task_specs: dict[str, Any] = Field(default={})


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
    job_name_prefix: JobName | None = Field(default=None, description="Jobs are called PREFIX-NAME.")
    template_parameters: tuple[TemplateParameter, ...] = ()
    schema_from: Literal["csv", "json", "parquet", "none"] = Field(
        default="none", description="The format of the sample file that gives the columns."
    )
    mkdir: tuple[str, ...] = Field(
        default=(), description="Folders to make, such as datastore://raw/{{ dataset_name }}."
    )


class Readiness(Spec):
    """How to see that a service answers: any HTTP answer below 500."""

    path: Annotated[str, shape(r"/[^\x00-\x20]*", "a path that starts with /")] = "/"
    port: Port | None = Field(default=None, description="One of `ports`; the first if absent.")
    socket: Line | None = Field(default=None, description="Ask at this unix socket instead of a port.")
    timeout: Duration = Field(default="60s", description="How long that may take.")


class StopSpec(Spec):
    """How a service is asked to end."""

    signal: Literal["TERM", "INT", "QUIT"] = Field(default="TERM", description="What it gets.")
    timeout: Duration = Field(default="10s", description="After that it is killed.")


class ServiceProcess(Spec):
    """How a service runs without a container."""

    command: tuple[Word, ...] = Field(default=(), description="The program, where it is not the service's `command`.")
    requirements: Line | tuple[Requirement, ...] = Field(
        default=(), description="A file of locked requirements beside service.yaml, or a list."
    )


class Mount(Spec):
    """A folder of the workspace that a service sees."""

    source: Line
    target: Annotated[str, shape(r"/[^\x00-\x1f:]*", "a path that starts with /")]
    read_only: Flag = False


class ServiceSpec(Spec):
    """service.yaml: a long-lived program."""

    version: Literal[1] = 1
    name: Annotated[str, name_of_a("service")]
    description: str = ""
    image: Image | None = Field(default=None, description="The image, where no Dockerfile beside the file makes it.")
    command: tuple[Word, ...] = Field(default=(), description="The program; the image's own if absent.")
    ports: tuple[Port, ...] = Field(default=(), description="What it listens on; the first is the one to open.")
    mounts: tuple[Mount, ...] = ()
    environment: dict[VariableName, Annotated[str | int | float | bool, Field(union_mode="left_to_right")]] = Field(
        default={}
    )
    memory: Memory | None = None
    readiness: Readiness | None = None
    stop: StopSpec = StopSpec()
    login: Literal["none", "workspace", "own"] = Field(
        default="none", description="Who may in: anybody, whoever has the workspace's password, or its own affair."
    )
    process: ServiceProcess | None = None


class SparkSpec(Spec):
    """How Spark runs, for jobs of the engine `spark`."""

    remote: SparkRemote | None = Field(
        default=None, description="The Connect server that tasks join, instead of one of their own: sc://HOST:PORT."
    )
    master: SparkMaster | None = Field(
        default=None, description="Where Spark computes: local[*], spark://HOST:PORT, yarn or k8s://URL."
    )
    memory: Memory | None = Field(default=None, description="Its heap; a quarter of the machine's memory if absent.")
    idle: Duration = Field(default="30m", description="The warm server ends when nobody has used it for so long.")
    archive: Flag = Field(default=True, description="Keep the classes it has loaded, so that it starts faster.")
    settings: dict[Line, PlainValue] = Field(
        default={}, description="Settings of Spark, such as spark.sql.shuffle.partitions."
    )

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if self.remote and self.master:
            raise ValueError("give 'remote' or 'master', not both")
        return self


class EnvironmentSpec(Spec):
    """One of `environments`: what is different there. What it does not name is the workspace's."""

    runtime: RuntimeName | None = Field(default=None, description="Where jobs run if they do not say.")
    engine: EngineName | None = Field(default=None, description="What computes if a job does not say.")
    spark: SparkSpec | None = Field(default=None, description="How Spark runs; laid over that of the workspace.")
    dev: Flag = Field(default=False, description="Nothing is written into the datastore of another environment.")
    datastore: Line | None = Field(default=None, description="The folder of all data.")


class WorkspaceSpec(Spec):
    """dsflow.yml: what holds for the whole workspace. Everything may be absent."""

    version: Literal[1] = 1
    name: str = Field(default="", description="What the workspace is called.")
    environment: Annotated[str, name_of_a("environment")] | None = Field(
        default=None, description="Which of `environments` it is if nobody says (`--env`)."
    )
    environments: dict[Annotated[str, name_of_a("environment")], EnvironmentSpec] = Field(
        default={}, description="Settings by environment, such as laptop and prod."
    )
    runtime: RuntimeName = Field(default="auto", description="Where jobs run if they do not say.")
    engine: EngineName = Field(default="duckdb", description="What computes if a job does not say.")
    dialect: EngineName | None = Field(
        default=None, description="The SQL of jobs that do not say; that of `engine`, whatever the environment."
    )
    spark: SparkSpec = SparkSpec()
    dev: Flag = Field(default=False, description="Nothing is written into the datastore of an environment.")
    datastore: Line | None = Field(
        default=None, description="The folder of all data; `datastore` in the workspace if absent."
    )
    image: Image | None = Field(default=None, description="The image of jobs that do not name one.")
    history: Line = Field(default=USUAL_HISTORY, description="URL of the database of runs.")
    modules: tuple[FolderName, ...] = Field(
        default=MODULES, description="Folders of modules that jobs share, which are sent with them to a cluster."
    )
    templates: tuple[Line, ...] = Field(default=(), description="More templates: folders or git URLs.")
    ports: dict[Annotated[str, name_of_a("service")], Port] = Field(default={}, description="The port of each service.")
    base_image: Image | None = Field(default=None, description="The image that dsflow's own images are built on.")
    ca_bundle: Line | None = Field(default=None, description="Certificates to trust while building images.")
    sources: dict[SourceName, SourceSpec] = Field(
        default={}, description="What a sampled run reads: where all of it is, and which of it is enough."
    )
    keys: dict[KeyName, tuple[KeyColumns, ...]] = Field(
        default={}, description="Columns that mean the same, by name: [orders.customer_id, customers.id]."
    )
