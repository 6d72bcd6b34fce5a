"""The words of dsflow go to JSON and come back as they were."""

from __future__ import annotations

import dataclasses
import enum
import json
import types
import typing
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsflow import model
from dsflow.model import Check, Failure, Manifest, Outcome, Output, Published, Status, Task, from_json, to_json
from tests.samples import failed_outcome, sample_outcome, sample_task

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXT, inner, max_size=2))
PLAIN: dict[Any, st.SearchStrategy[Any]] = {
    str: TEXT,
    int: st.integers(),
    float: st.floats(allow_nan=False),
    bool: st.booleans(),
    type(None): st.none(),
}
CLASSES = [made for made in vars(model).values() if isinstance(made, type) and dataclasses.is_dataclass(made)]


def strategy(hint: Any) -> st.SearchStrategy[Any]:
    """Give values of a type as `dsflow.model` declares it, every field filled with anything it may hold."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return st.sampled_from(arguments)
    if origin is types.UnionType:
        return st.one_of(*map(strategy, arguments))
    if origin is tuple:
        return st.lists(strategy(arguments[0]), max_size=2).map(tuple)
    if origin is dict:
        return st.dictionaries(TEXT, VALUES, max_size=3)
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return st.sampled_from(hint)
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        hints = typing.get_type_hints(hint)
        return st.builds(hint, **{field.name: strategy(hints[field.name]) for field in dataclasses.fields(hint)})
    return PLAIN[hint]


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_every_class_comes_back_from_json_as_it_was(cls: type[Any]) -> None:
    @given(strategy(cls))
    def check(value: Any) -> None:
        assert from_json(cls, to_json(value)) == value

    check()


def test_json_is_for_people_too() -> None:
    text = to_json(Failure(kind="JobFailed", message="Il n'y a pas de pluie à Orly ☂"))
    assert text.splitlines()[:3] == ["{", '  "kind": "JobFailed",', '  "message": "Il n\'y a pas de pluie à Orly ☂",']


def test_what_a_newer_dsflow_wrote_can_be_read() -> None:
    data = json.loads(to_json(sample_outcome()))
    data["weather"] = "fine"
    data["outputs"][0]["manifest"]["files"][0]["colour"] = "blue"
    assert from_json(Outcome, json.dumps(data)) == sample_outcome()


def test_what_an_older_dsflow_did_not_write_has_its_default() -> None:
    data = json.loads(to_json(sample_task()))
    for name in ("facts", "limits", "port", "expectations", "description"):
        del data[name]
    task = from_json(Task, json.dumps(data))
    assert (task.facts.runtime, task.limits.memory, task.expectations) == ("", None, ())


@pytest.mark.parametrize(
    ("cls", "text"),
    [
        (Outcome, ""),
        (Outcome, "{"),
        (Outcome, "[]"),
        (Outcome, "null"),
        (Outcome, '"outcome"'),
        (Outcome, "{}"),
        (Outcome, to_json(sample_outcome()).replace('"succeeded"', '"splendid"')),
        (Outcome, to_json(failed_outcome()).replace('"outputs": []', '"outputs": 3')),
        (Outcome, to_json(failed_outcome()).replace('"outputs": []', '"outputs": [3]')),
        (Manifest, '{"run_id": "x"}'),
        (Task, to_json(sample_task()).replace('"notebook"', "7")),
    ],
)
def test_what_is_no_such_document_is_a_value_error(cls: type[Any], text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        from_json(cls, text)


def test_a_task_knows_its_run_folder() -> None:
    task = sample_task(job="create-table-rain", ds="2026-W47", run_id="20261120T043512-3f9a1c")
    assert task.folder == "job_runs/create-table-rain/ds=2026-W47/20261120T043512-3f9a1c"


def test_a_partition_counts_its_rows_and_bytes() -> None:
    def manifest(*rows: int | None) -> Manifest:
        files = tuple(model.File(name=str(n), bytes=10, sha256="", rows=count) for n, count in enumerate(rows))
        return dataclasses.replace(sample_outcome().outputs[0].manifest, files=files)

    assert [manifest(3, 4).rows, manifest(0).rows, manifest(None, None).rows, manifest().rows] == [7, 0, None, None]
    assert manifest(1, 2, 3).bytes == 30


@pytest.mark.parametrize("status", Status)
def test_succeeded_and_skipped_are_good(status: Status) -> None:
    assert bool(sample_outcome(status=status)) == (status in (Status.SUCCEEDED, Status.SKIPPED))


def test_nothing_can_be_changed_afterwards() -> None:
    for value in (sample_task(), Output(store="table", name="t", ds="2026-11-20")):
        with pytest.raises((dataclasses.FrozenInstanceError, AttributeError)):
            value.name = "other"  # type: ignore[union-attr, misc]
    assert hash(Check(name="a", constraint="b", action="fail", rows=1, violations=0))
    assert hash(Published(manifest=sample_outcome().outputs[0].manifest))
