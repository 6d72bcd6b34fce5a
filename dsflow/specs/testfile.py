"""A test of a job as a person writes it: `jobs/NAME/tests/*.yaml`. The keys are explained in docs/testing.md."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
from pydantic import BeforeValidator, Field, Strict

from dsflow.specs.errors import sentence, sentences
from dsflow.specs.fields import Flag, Line, ParameterText, ParameterValue, Spec
from dsflow.specs.yaml import SpecError, read_mapping

Row = dict[str, Any]
Rows = Annotated[tuple[Row, ...], Field(max_length=100_000)]
Types = dict[Line, Line]


def _rows_alone(value: Any) -> Any:
    return {"rows": value} if isinstance(value, list) else value


class GivenSpec(Spec):
    """What an input of the job holds in a test."""

    rows: Rows | None = Field(default=None, description="The rows of the partition that the run reads.")
    partitions: dict[Line, Rows] | None = Field(default=None, description="The rows of several partitions, by ds.")
    file: Line | None = Field(default=None, description="A file in the folder of the test.")
    text: str | None = Field(default=None, description="The text of the file, for a raw dataset or a path.")
    columns: Types = Field(default={}, description="SQL types of columns, such as TIMESTAMP; found if absent.")

    def parts(self, ds: str) -> dict[str, tuple[Row, ...]]:
        """Give the rows by partition; `ds` is that of rows without one."""
        return {ds: self.rows or ()} if self.partitions is None else self.partitions


class ExpectedSpec(Spec):
    """What must come of the run."""

    rows: Rows | None = Field(default=None, description="The rows of the output, all of them.")
    file: Line | None = Field(default=None, description="A file in the folder of the test that holds the rows.")
    files: dict[Line, str] | None = Field(default=None, description="The files of a raw dataset, with their text.")
    columns: Types = Field(default={}, description="The SQL types that columns of the output must have.")
    ignore: tuple[Line, ...] = Field(default=(), description="Columns that are not compared.")
    ordered: Flag | None = Field(
        default=None, description="Does the order of rows matter? If absent: where the query ends in ORDER BY."
    )
    checks: dict[Line, Annotated[int, Strict(), Field(ge=0)]] = Field(
        default={}, description="How many rows break an expectation, by its name."
    )
    quarantine: Rows | None = Field(default=None, description="The rows that are put aside.")
    failure: Line | None = Field(default=None, description="The run fails, and its message holds this text.")


class TestFile(Spec):
    """A file in the folder `tests` of a job."""

    __test__ = False  # pytest collects classes by this beginning of a name

    version: Literal[1] = 1
    description: str = ""
    ds: Line = Field(description="The date that the job runs for.")
    parameters: dict[ParameterText, ParameterValue] = Field(default={}, description="Parameters of the run.")
    inputs: dict[
        Line, Annotated[GivenSpec, BeforeValidator(_rows_alone, json_schema_input_type=GivenSpec | list[Row])]
    ] = Field(default={}, description="What the job reads, by the name it has in the job; a list is its rows.")
    expected: Annotated[ExpectedSpec, BeforeValidator(_rows_alone, json_schema_input_type=ExpectedSpec | list[Row])] = (
        Field(default=ExpectedSpec(), description="What comes of it; a list is the rows of the output.")
    )


def load_test(path: Path, shown: str) -> TestFile:
    """Read a test of a job.

    Args:
        path: The file.
        shown: How messages call it.

    Raises:
        SpecError: the file has mistakes.
    """
    return checked(read_mapping(path, shown), shown)


def checked(data: Mapping[str, Any], shown: str) -> TestFile:
    """Give the test that a mapping describes.

    Raises:
        SpecError: it has mistakes.
    """
    mistakes = [sentence(shown, place, problem) for place, problem in _relations(data)]
    try:
        test = TestFile.model_validate(data)
    except pydantic.ValidationError as error:
        mistakes = sentences(error, TestFile, shown) + mistakes
    if mistakes:
        raise SpecError(mistakes, "docs/testing.md explains the keys of a test.")
    return test


def _relations(data: Mapping[str, Any]) -> list[tuple[tuple[str, ...], str]]:
    """Find what is wrong between keys; values of a wrong type are left to pydantic."""
    found: list[tuple[tuple[str, ...], str]] = []
    given, expected = data.get("inputs"), data.get("expected")
    for name, source in given.items() if isinstance(given, dict) else ():
        ways = ("rows", "partitions", "file", "text")
        if isinstance(source, dict) and sum(key in source for key in ways) != 1:
            found.append((("inputs", name), "give exactly one of 'rows', 'partitions', 'file' and 'text'"))
    if isinstance(expected, dict):
        if sum(key in expected for key in ("rows", "file", "files")) > 1:
            found.append((("expected",), "give one of 'rows', 'file' and 'files'"))
        if "failure" in expected and expected.keys() & {"rows", "file", "files", "columns", "quarantine"}:
            found.append((("expected",), "a run that fails writes nothing that could be compared"))
    return found
