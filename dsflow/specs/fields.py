"""What a key of a file may hold: the kinds of values that specs are made of."""

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
from dsflow.quantities import memory_bytes, seconds
from dsflow.schedule import check_cron
from dsflow.shortforms import check_most
from dsflow.spark.hidden import shown
from dsflow.workspace import check_name

Format = Literal["csv", "json", "parquet", "text"]
RuntimeName = Literal["auto", "process", "docker", "submit"]

# Names that every SQL text and every parameters cell may use; dsflow gives them their values.
GIVEN_NAMES = (
    "ds", "ds_nodash", "prev_ds", "next_ds", "start", "end", "run_id", "is_first", "job", "params", "macros",
)  # fmt: skip


def name_of_a(what: str) -> AfterValidator:
    """Give a check that a text can be the name of a folder; `what` it names is for the message."""

    def check(value: str) -> str:
        try:
            return check_name(value, what)
        except UsageError as error:
            raise ValueError(f"{error.message}; {error.hint[0].lower()}{error.hint[1:].rstrip('.')}") from None

    return AfterValidator(check)


def shape(pattern: str, what: str) -> AfterValidator:
    """Give a check that a whole text matches a pattern; `what` that is is for the message."""

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


def _spark_remote(url: str) -> str:
    if not re.fullmatch(r"sc://[^\s/;:]+(:\d+)?(/?|/;\S*)", url, re.ASCII):
        raise ValueError(f"{shown(url)[:60]!r} is not the URL of a Connect server such as sc://host:15002")
    return url


def _free(name: str) -> str:
    if name in GIVEN_NAMES:
        raise ValueError(f"{name!r} is given by dsflow; choose another name")
    return name


def zone(name: str) -> str:
    """Check that there is such a time zone."""
    try:
        zoneinfo.ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        guess = did_you_mean(name, zoneinfo.available_timezones())
        raise ValueError(f"{name[:60]!r} is not a time zone such as Europe/Paris{guess}") from None
    return name


def moment(text: str) -> str:
    """Check that a text is a date, or a date with a time."""
    try:
        dt.datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text[:60]!r} is not a date such as 2026-12-01") from None
    return text


def cron_line(line: str) -> str:
    """Check a line of cron."""
    check_cron(line)
    return line


def cron_alone(value: Any) -> Any:
    """Take a text for the `cron` of a schedule."""
    return {"cron": value} if isinstance(value, str) else value


def alone(value: Any) -> Any:
    """Take a text for a list of one."""
    return [value] if isinstance(value, str) else value


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
FolderName = Annotated[str, name_of_a("folder")]
JobName = Annotated[str, name_of_a("job")]
Text = Annotated[str, BeforeValidator(_number_as_text)]
Port = Annotated[int, Strict(), Field(ge=1, le=65535)]
Line = Annotated[str, Field(min_length=1, max_length=1000), shape(r"[^\x00-\x1f]*", "one line of text")]
Word = Annotated[str, shape(r"[^\x00-\x08\x0b-\x1f]{0,10000}", "a word of a command")]
Memory = Annotated[str, BeforeValidator(_number_as_text), _amount(memory_bytes)]
Duration = Annotated[str, BeforeValidator(_number_as_text), _amount(seconds)]
Image = Annotated[str, shape(r"[a-z0-9][A-Za-z0-9._/:@-]{0,250}", "the name of an image")]
Requirement = Annotated[str, shape(r"[A-Za-z0-9][^\x00-\x1f]{0,300}", "a requirement such as pandas==2.3.0")]
VariableName = Annotated[str, shape(r"[A-Za-z_][A-Za-z0-9_]{0,200}", "the name of an environment variable")]
SparkRemote = Annotated[str, AfterValidator(_spark_remote)]
SparkMaster = Annotated[
    str,
    shape(
        r"local(\[(\*|\d+)(,\s*\d+)?\])?|spark://[^\s/]+:\d+(,[^\s/]+:\d+)*|yarn|k8s://\S+",
        "a master such as local[*], spark://host:7077, yarn or k8s://https://host:443",
    ),
]
ParameterText = Annotated[str, shape(r"[A-Za-z_][A-Za-z0-9_]{0,99}", "a parameter name; use letters, digits and '_'")]
ParameterName = Annotated[ParameterText, AfterValidator(_free)]
ParameterValue = Annotated[Any, AfterValidator(_plain)]
PlainValue = Annotated[ParameterValue, AfterValidator(_single)]
ColumnNames = Annotated[
    tuple[Line, ...], BeforeValidator(alone, json_schema_input_type=str | list[str]), Field(min_length=1)
]
Dialects = Annotated[
    tuple[EngineName, ...], BeforeValidator(alone, json_schema_input_type=str | list[str]), Field(min_length=1)
]
MostFailures = Annotated[
    int | float | str, AfterValidator(check_most), WithJsonSchema({"type": ["integer", "number", "string"]})
]


class Spec(BaseModel):
    """A part of a file: unknown keys are mistakes, and what was read does not change."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)
