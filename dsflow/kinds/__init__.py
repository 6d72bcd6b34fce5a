"""Kinds of job: one module per kind, each behind the same Protocol."""
