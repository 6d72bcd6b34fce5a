"""The engines, by name. A new one is one module and one line here."""

from __future__ import annotations

import importlib
import os

from dsflow.engines.contract import Engine

# How many processors a run may take, so that those beside it have theirs.
CORES = "DSFLOW_CORES"
ENGINES = {"duckdb": "dsflow.engines.duckdb", "spark": "dsflow.engines.spark"}


def prepare(name: str) -> None:
    """Load an engine, and make ready what a fork of this process can use; starts no thread."""
    importlib.import_module(ENGINES[name]).prepare()


def only_reads(name: str, query: str) -> bool:
    """Say whether a prepared engine is sure that a query changes nothing in its session that outlasts it."""
    return bool(importlib.import_module(ENGINES[name]).only_reads(query))


def open_engine(name: str, *, threads: float | None = None, memory: int | None = None) -> Engine:
    """Start a session of an engine.

    Args:
        name: A key of ENGINES.
        threads: Cores it may use; where None, this run's share of them if others run beside it, or all.
        memory: Bytes it may use; the engine's default where None.
    """
    share = os.environ.get(CORES, "")
    if threads is None and share.isdigit():
        threads = int(share)
    engine: Engine = importlib.import_module(ENGINES[name]).open_engine(threads=threads, memory=memory)
    return engine
