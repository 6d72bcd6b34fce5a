"""Spark: which Java runs it, the warm server of a workspace, and the sessions of tasks."""
