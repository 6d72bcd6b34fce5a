"""Which engine a `DDataflow` computes with, and in which session.

An engine or a session that is given counts; else the engine of the run; else Spark, where a session of it is at work
or it is installed; else DuckDB.
"""

from __future__ import annotations

import importlib.util
from typing import Any

from dsflow.errors import UsageError, did_you_mean
from dsflow.sampling.contract import OwnTables, Tables
from dsflow.spark import sessions
from dsflow.surroundings import Surroundings, is_there, now, workspace_around

ENGINES = ("duckdb", "spark")


def tables_of(engine: Any) -> Tables:
    """Give the session of an engine, starting one where none is there.

    Args:
        engine: A name, a SparkSession, a connection to DuckDB, or None for the usual one.

    Raises:
        UsageError: it is none of these.
        EnvironmentMissing: Spark is wanted and does not start.
    """
    if engine is not None and not isinstance(engine, str):
        return _of_session(engine)
    name = engine or usual_engine()
    if name not in ENGINES:
        raise UsageError(f"there is no engine {name!r}{did_you_mean(name, ENGINES)}", f"Give {' or '.join(ENGINES)}.")
    run = _run()
    if run is not None and run.task.engine == name:
        return _of_run(run)
    if name == "spark":
        from dsflow.sampling.on_spark import OnSpark

        return OnSpark(sessions.active() or _new_session())
    from dsflow.sampling.on_duckdb import OnDuckDB

    return OnDuckDB()


def usual_engine() -> str:
    """Give the engine that is taken where nobody says which."""
    run = _run()
    if run is not None and run.task.engine in ENGINES:
        return run.task.engine
    return "spark" if importlib.util.find_spec("pyspark") else "duckdb"


def _of_session(session: Any) -> Tables:
    library = type(session).__module__.split(".")[0]
    if library == "pyspark":
        from dsflow.sampling.on_spark import OnSpark

        return OnSpark(session)
    if library in ("duckdb", "_duckdb"):
        from dsflow.sampling.on_duckdb import OnDuckDB

        return OnDuckDB(session)
    raise UsageError(f"engine={session!r} is no session", "Give a name, a SparkSession, or a connection to DuckDB.")


def _run() -> Surroundings | None:
    return now() if is_there() else None


def _of_run(run: Surroundings) -> Tables:
    # Only an engine of that kind has it, whatever the Protocol says.
    engine: Any = run.engine
    if run.task.engine == "spark":
        from dsflow.sampling.on_spark import OnSpark

        return OnSpark(engine.session, _tables_of(run))
    from dsflow.sampling.on_duckdb import OnDuckDB

    return OnDuckDB(engine.connection, _tables_of(run))


def _tables_of(run: Surroundings) -> OwnTables:
    """Give what finds a run's tables: its inputs by their names, and the tables of its datastore."""
    from dsflow import job

    quote = "`" if run.task.engine == "spark" else '"'

    def find(name: str) -> Any:
        known = {entry.name for entry in run.task.inputs} | set(run.datastore.names("table"))
        quoted = name.replace(quote, quote * 2)
        return job.sql(f"SELECT * FROM {quote}{quoted}{quote}") if name in known else None

    return find


def _new_session() -> Any:
    """Start Spark; in a workspace as its jobs have it."""
    if workspace_around() is None:
        return sessions.open_session()
    from dsflow import surroundings

    return surroundings.session()
