"""What a run on the job side knows of what its code read."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from dsflow.model import InputUsed, to_json
from dsflow.site import Site
from tests.samples import sample_task

RAIN = InputUsed(name="rain", kind="table", target="rain", ds="2026-11-20", hash="ab" * 32)
WIND = dataclasses.replace(RAIN, name="wind", target="wind")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(
        task=sample_task(), run_folder=tmp_path, data=tmp_path, jobs=tmp_path, secrets={"api_token": "tok-1234"}
    )


def reads(*entries: InputUsed) -> str:
    return "".join(to_json(entry, in_one_line=True) + "\n" for entry in entries)


def test_each_read_counts_once_and_declared_ones_are_known_already(site: Site) -> None:
    (site.run_folder / "reads.jsonl").write_text(reads(RAIN, WIND, RAIN, WIND))
    assert site.own_reads([RAIN]) == [WIND]
    assert site.own_reads([RAIN]) == []
    assert list(site.run_folder.iterdir()) == []


def test_a_line_that_a_killed_job_did_not_finish_is_left_out(site: Site) -> None:
    (site.run_folder / "reads.jsonl").write_bytes(reads(RAIN, WIND).encode()[:-20] + b"\xff")
    assert site.own_reads([]) == [RAIN]


def test_secrets_are_parameters_of_the_code_and_not_of_the_record(site: Site) -> None:
    assert site.parameters["api_token"] == "tok-1234"
    assert site.task.parameters["api_token"] is None
