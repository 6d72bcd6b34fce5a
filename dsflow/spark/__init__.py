"""Spark: which Java runs it, the warm server of a workspace, the sessions of tasks, and `start_spark` for programs."""

from __future__ import annotations

from dsflow.spark.application import Logger, start_spark

__all__ = ["ON_A_CLUSTER", "Logger", "start_spark"]

# The files of the package that `from dsflow.spark import start_spark` needs where dsflow is not installed, beside
# Python and pyspark: they go along with a job that is sent to a cluster.
ON_A_CLUSTER = (
    "__init__.py",
    "dotenv.py",
    "errors.py",
    "spark/__init__.py",
    "spark/application.py",
    "spark/configuration.py",
)
