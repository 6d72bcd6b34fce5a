"""The names that SQL, paths and `task_specs` may use in `{{ ... }}`, with Airflow's where Airflow has one."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from typing import Any

from dsflow import partitions
from dsflow.errors import UsageError
from dsflow.masking import is_secret
from dsflow.model import Grain
from dsflow.specs.load import JobSpec


def template_names(
    job: JobSpec, moment: Mapping[str, str], values: Mapping[str, Any], *, is_first: bool = False
) -> dict[str, Any]:
    """Give what every name stands for.

    Args:
        job: The job.
        moment: `ds`, `start`, `end` and `run_id` of the run.
        values: The job's parameters, secrets included.
        is_first: Nothing of what the job makes is published before the run's ds.

    Raises:
        UsageError: the partition is the first or the last of the calendar.
    """
    ds, grain = moment["ds"], job.grain
    shown = {name: _Hidden(name) if is_secret(name) else value for name, value in values.items()}
    return {
        **shown,
        **moment,
        "ds_nodash": ds.replace("-", ""),
        "prev_ds": partitions.shift(ds, -1, grain),
        "next_ds": partitions.shift(ds, 1, grain),
        "is_first": is_first,
        "job": job.name,
        "params": shown,
        "macros": {
            "ds_add": lambda day, days: _ds_add(day, days, grain),
            "ds_format": _ds_format,
        },
    }


def _ds_add(ds: str, days: int, grain: Grain) -> str:
    """Do what Airflow's macro does, in steps of the job's own grain."""
    return partitions.shift(ds, days, grain)


def _ds_format(ds: str, read: str, write: str) -> str:
    """Do what Airflow's macro does: a date in another form."""
    if re.search(r"%\D?\d", write):
        raise UsageError(f"{write[:40]!r}: a width is not allowed here")
    return dt.datetime.strptime(ds, read).strftime(write)


class _Hidden:
    """A secret parameter in a template: what is rendered is recorded, so it must not be rendered."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __str__(self) -> str:
        raise UsageError(
            f"parameter {self._name!r} is a secret, and this text is recorded", "Read it in a notebook or a script."
        )

    __repr__ = __str__
