"""Sampling: the same pipeline on a small, true copy of production. docs/sampling.md."""
