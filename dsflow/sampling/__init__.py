"""Sampling: the same pipeline on a small, true copy of production. docs/sampling.md, docs/ddataflow.md."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dsflow.sampling.ddataflow import DDataflow
    from dsflow.sampling.ddataflow import DDataflow as DDataFlow

__all__ = ["DDataFlow", "DDataflow"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from dsflow.sampling.ddataflow import DDataflow

        return DDataflow
    raise AttributeError(f"module 'dsflow.sampling' has no attribute {name!r}")
