"""Typed parameters: where they are declared, and where their values come from."""

from __future__ import annotations

from typing import Any

import pytest

from dsflow.errors import UsageError
from dsflow.parameters import Missing, Parameter, declared, declared_in, parse_given, positional, settle, value_of
from dsflow.specs.load import JobSpec

CELL = """
import os
%matplotlib inline
city: str = "paris"
days = 7
ratio: float = 1
since: str | None = None
stations: list[str] = ["a"]
today = os.environ["TODAY"]
limit: int
ds = "2026-01-01"
a, b = 1, 2
"""


def spec(**parameters: Any) -> JobSpec:
    return JobSpec(version=1, kind="notebook", name="x", parameters=parameters)


def legacy(*names: str) -> JobSpec:
    return JobSpec(version=1, kind="script", name="x", legacy=True, positional=names, task_specs={"a": "b"})


class TestDeclared:
    def test_a_cell_declares_names_with_types_and_defaults(self) -> None:
        found = declared_in(CELL, "cell")
        assert list(found) == ["city", "days", "ratio", "since", "stations", "today", "limit", "ds"]
        assert found["city"] == Parameter("city", "str", "paris")
        assert found["days"] == Parameter("days", "int", 7)
        assert found["ratio"] == Parameter("ratio", "float", 1)
        assert found["since"] == Parameter("since", "str", None)
        assert found["stations"] == Parameter("stations", "list", ["a"])
        assert found["today"] == Parameter("today", "str", Missing)
        assert found["limit"] == Parameter("limit", "int", Missing)

    def test_the_defaults_of_the_spec_win(self) -> None:
        found = declared(spec(city="lyon", dry=True), declared_in(CELL, "cell"), "spec")
        assert found["city"].default == "lyon"
        assert found["dry"] == Parameter("dry", "bool", True)
        assert "ds" not in found

    def test_a_default_must_fit_the_annotation(self) -> None:
        with pytest.raises(UsageError, match="cell: days: expected a whole number, got 'x'"):
            declared_in("days: int = 'x'", "cell")
        with pytest.raises(UsageError, match="spec: parameters.days: expected a whole number, got 'x'"):
            declared(spec(days="x"), declared_in("days: int = 1", "cell"), "spec")

    def test_a_cell_that_is_not_python_is_told(self) -> None:
        with pytest.raises(UsageError, match="cell: line 2: "):
            declared_in("a = 1\nb = = 2", "cell")


class TestValues:
    @pytest.mark.parametrize(
        ("kind", "text", "value"),
        [
            ("str", "2026-11-20", "2026-11-20"),
            ("str", "", ""),
            ("int", "-5", -5),
            ("float", "1e3", 1000.0),
            ("float", "3", 3.0),
            ("bool", "true", True),
            ("bool", "No", False),
            ("list", '["a", 1, null]', ["a", 1, None]),
            ("dict", '{"a": [1]}', {"a": [1]}),
        ],
    )
    def test_a_text_becomes_a_value_of_the_type(self, kind: str, text: str, value: Any) -> None:
        found = value_of(Parameter("x", kind, None), text, "-p x")
        assert found == value
        assert type(found) is type(value)

    @pytest.mark.parametrize(
        ("kind", "text", "wanted"),
        [
            ("int", "1.5", "a whole number"),
            ("int", "9" * 5000, "a whole number"),
            ("int", "", "a whole number"),
            ("float", "nan", "a number"),
            ("float", "1e999", "a number"),
            ("bool", "maybe", "true or false"),
            ("list", "a,b", "a JSON list of plain values"),
            ("list", "[[1]]", "a JSON list of plain values"),
            ("list", "[" * 100_000, "a JSON list of plain values"),
            ("list", "[NaN]", "a JSON list of plain values"),
            ("dict", "[1]", "a JSON object"),
        ],
    )
    def test_anything_else_is_refused(self, kind: str, text: str, wanted: str) -> None:
        with pytest.raises(UsageError, match=f"^-p x: expected {wanted}, got ") as caught:
            value_of(Parameter("x", kind, None), text, "-p x")
        assert len(caught.value.message) < 200

    @pytest.mark.parametrize("text", ["a\0b", "\udcff"])
    def test_what_no_program_could_be_given_is_refused(self, text: str) -> None:
        with pytest.raises(UsageError, match="not text that can be passed on"):
            value_of(Parameter("x", "str", None), text, "-p x")

    def test_a_wrong_secret_is_not_shown(self) -> None:
        with pytest.raises(UsageError) as caught:
            value_of(Parameter("api_token", "int", None), "hunter2", "-p api_token")
        assert "hunter2" not in caught.value.message


class TestSettle:
    def test_command_line_over_environment_over_defaults(self) -> None:
        parameters = declared(spec(a="1", b="2", c="3"), {}, "spec")
        values = settle(spec(), parameters, {"a": "x"}, {"DSFLOW_PARAM_A": "y", "DSFLOW_PARAM_B": "y"})
        assert values == {"a": "x", "b": "y", "c": "3"}

    def test_an_unknown_name_is_told_with_a_guess(self) -> None:
        with pytest.raises(UsageError, match="x: no parameter 'ctiy'; did you mean 'city'") as caught:
            settle(spec(), declared(spec(city="a"), {}, "spec"), {"ctiy": "b"}, {})
        assert caught.value.hint == "It takes: city."

    def test_what_the_notebook_computes_has_no_value_until_it_runs(self) -> None:
        parameters = declared_in("day = compute()", "cell")
        assert settle(spec(), parameters, {}, {}) == {}
        assert settle(spec(), parameters, {"day": "a"}, {}) == {"day": "a"}


class TestPositional:
    def test_values_get_names_by_their_place(self) -> None:
        assert positional(legacy("ds", "city"), ["a", "b"], {}) == {"ds": "a", "city": "b"}

    def test_7_1_14_too_many(self) -> None:
        with pytest.raises(UsageError) as caught:
            positional(legacy("ds"), ["a", "b"], {})
        assert caught.value.message == "wrong parameters. Acceptable parameters are: ['ds']"

    def test_7_1_14_none_are_accepted(self) -> None:
        with pytest.raises(UsageError) as caught:
            positional(legacy(), ["a"], {})
        assert caught.value.message == "this job doesn't accept parameters"

    def test_7_1_14_too_few(self) -> None:
        job = legacy("ds")
        with pytest.raises(UsageError) as caught:
            settle(job, declared(job, {}, "spec"), positional(job, [], {}), {})
        assert caught.value.message == "wrong parameters. Acceptable parameters are: ['ds']"


def test_given_texts_are_split_at_the_first_sign() -> None:
    assert parse_given(["a=b=c", "d="]) == {"a": "b=c", "d": ""}


@pytest.mark.parametrize("texts", [["a"], ["=b"], ["a=1", "a=2"]])
def test_given_texts_must_be_name_and_value_once(texts: list[str]) -> None:
    with pytest.raises(UsageError):
        parse_given(texts)
