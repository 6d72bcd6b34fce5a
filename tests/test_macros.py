"""The names that templates may use."""

from __future__ import annotations

from typing import Any

import pytest

from dsflow.errors import UsageError
from dsflow.macros import template_names
from dsflow.rendering import render
from dsflow.specs.load import JobSpec

MOMENT = {"ds": "2026-03-01", "start": "2026-03-01T00:00:00", "end": "2026-03-02T00:00:00", "run_id": "r1"}


def rendered(text: str, moment: dict[str, str] = MOMENT, grain: Any = "day", **values: Any) -> str:
    job = JobSpec(version=1, kind="sql", name="rain", grain=grain)
    return render(text, template_names(job, moment, values), "q.sql")


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("{{ ds }} {{ ds_nodash }} {{ prev_ds }} {{ next_ds }}", "2026-03-01 20260301 2026-02-28 2026-03-02"),
        ("{{ start }} {{ end }}", "2026-03-01T00:00:00 2026-03-02T00:00:00"),
        ("{{ run_id }} {{ job }}", "r1 rain"),
        ("{{ city }} {{ params.city }}", "paris paris"),
        ("{{ macros.ds_add(ds, -1) }} {{ macros.ds_add(ds, 31) }}", "2026-02-28 2026-04-01"),
        ("{{ macros.ds_format(ds, '%Y-%m-%d', '%d/%m/%y') }}", "01/03/26"),
    ],
)
def test_names_have_airflows_meaning(text: str, result: str) -> None:
    assert rendered(text, city="paris") == result


def test_neighbours_are_partitions_of_the_jobs_grain() -> None:
    moment = {**MOMENT, "ds": "2026-12"}
    assert (
        rendered("{{ prev_ds }} {{ next_ds }} {{ macros.ds_add(ds, 2) }}", moment, "month") == "2026-11 2027-01 2027-02"
    )


@pytest.mark.parametrize(
    "text",
    [
        "{{ macros.ds_add(ds, 10**9) }}",
        "{{ macros.ds_add('x', 1) }}",
        "{{ macros.ds_add(ds, 'x') }}",
        "{{ macros.ds_format(ds, '%Y', '%d') }}",
        "{{ macros.ds_format(ds, '%Y-%m-%d', '%999999999d') }}",
        "{{ macros.ds_format(ds, '%Y-%m-%d', '%_999999999d') }}",
        "{{ macros.datetime }}",
    ],
)
def test_a_macro_that_fails_is_told_with_its_line(text: str) -> None:
    with pytest.raises(UsageError, match="^q.sql: line 1: "):
        rendered(text)


@pytest.mark.parametrize(
    "text", ["{{ api_token }}", "{{ params.api_token }}", "{{ 'x' ~ api_token }}", "{{ [api_token] }}", "{{ params }}"]
)
def test_a_secret_is_never_written_into_a_text(text: str) -> None:
    with pytest.raises(UsageError, match="'api_token' is a secret") as caught:
        rendered(text, api_token="hunter2")
    assert "hunter2" not in caught.value.message
