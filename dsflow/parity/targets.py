"""The targets of a parity check, by name: where a job runs and what computes. A new one is one line here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dsflow.errors import UsageError, did_you_mean


@dataclass(frozen=True, kw_only=True)
class Target:
    """A place to run a job in.

    Attributes:
        name: What a person calls it.
        runtime: A key of `dsflow.runtimes.registry.RUNTIMES`.
        engine: A key of `dsflow.engines.registry.ENGINES`.
    """

    name: str
    runtime: str
    engine: str


TARGETS = {
    "process:duckdb": ("process", "duckdb"),
    "docker:duckdb": ("docker", "duckdb"),
    "process:spark": ("process", "spark"),
    "docker:spark": ("docker", "spark"),
    "spark": ("process", "spark"),
    "submit": ("submit", "spark"),
}


def targets_of(text: str) -> list[Target]:
    """Give the targets that a text names, such as `process:duckdb,spark`.

    Raises:
        UsageError: one is unknown, or there are not two different ones.
    """
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in TARGETS:
            guess = did_you_mean(name, TARGETS)
            raise UsageError(f"there is no target {name[:40]!r}{guess}", f"The targets are: {', '.join(TARGETS)}.")
    places = [TARGETS[name] for name in names]
    if len(set(places)) < len(places) or len(places) < 2:
        raise UsageError("a comparison needs two different targets", "`--targets process:duckdb,spark`.")
    return [target(name) for name in names]


def target(name: str) -> Target:
    """Give a target by a name that is known."""
    runtime, engine = TARGETS[name]
    return Target(name=name, runtime=runtime, engine=engine)


def named(targets: Sequence[Target]) -> str:
    """Give the names of targets for a person."""
    return ", ".join(target.name for target in targets)
