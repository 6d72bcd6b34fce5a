"""Which SQL the query of a job is written in. SQL is never moved to another engine without somebody saying so.

A job may say its `dialect`, one or several. One that says nothing is written for the engine it names, or else for the
one that `dsflow.yml` names outside of its environments: an environment that computes with another engine is asked for
by name, and the queries of jobs are not asked at all.
"""

from __future__ import annotations

from dsflow.errors import UsageError
from dsflow.specs.load import JobSpec, WorkspaceSpec

_SHOWN = {"duckdb": "DuckDB", "spark": "Spark"}


def dialects_of(job: JobSpec, settings: WorkspaceSpec) -> tuple[str, ...]:
    """Give the engines whose SQL a job's query is."""
    return job.dialect or (job.engine or settings.dialect or settings.engine,)


def dialect_of(job: JobSpec, settings: WorkspaceSpec) -> str:
    """Give the dialect to read the SQL of a job in: its engine's where that is one of its own."""
    engine = job.engine or settings.engine
    own = dialects_of(job, settings) if job.kind == "sql" else (engine,)
    return engine if engine in own else own[0]


def check_dialect(job: JobSpec, settings: WorkspaceSpec, where: str) -> None:
    """Refuse a query that would be computed by an engine it is not written for.

    Args:
        job: The job.
        settings: The workspace's settings.
        where: How messages call the query.

    Raises:
        UsageError: it would be.
    """
    engine, own = job.engine or settings.engine, dialects_of(job, settings)
    if job.kind == "sql" and engine not in own:
        raise UsageError(
            f"{where} is written in the SQL of {shown(own)}, and would be computed by {shown([engine])}",
            f"`dsflow port {job.name} --to {engine}` ports it. If it means the same to both, write "
            f"`dialect: [{', '.join([*own, engine])}]` into job_specs.yaml: `dsflow parity {job.name}` shows whether "
            "it does.",
        )


def shown(dialects: list[str] | tuple[str, ...]) -> str:
    """Give names of dialects for a person."""
    return " and ".join(_SHOWN.get(name, name) for name in dialects)
