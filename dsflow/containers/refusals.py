"""What Docker engines say when they refuse, in our words."""

from __future__ import annotations

import re

from dsflow.errors import EnvironmentMissing

# What engines say -> what we say, and what to do about it; {0} is the first group.
_KNOWN: tuple[tuple[str, str, str], ...] = (
    (
        r"[Nn]o such image: (\S+)",
        "the image {0} is not on this machine",
        "`docker pull {0}`, build it, or name another image as `run.image`.",
    ),
    (
        r":(\d+)\b.*(?:already allocated|already in use)",
        "port {0} is taken by another program",
        "End that program, or give the job another port.",
    ),
    (
        r"(?:bind source path does not exist: |[Mm]ounts denied:?\s*)(.*)",
        "the Docker engine does not see the folder {0}",
        "It must run on this machine, and Docker Desktop must share that folder (Settings, Resources, File sharing).",
    ),
    (
        r"(Range of CPUs.*|Minimum memory limit.*)",
        "the Docker engine cannot give the job its limits: {0}",
        "Change `run.memory` or `run.cpus` in the job's spec.",
    ),
    (
        r"(no space left on device)",
        "the Docker engine's disk is full",
        "`docker system df` shows what takes the space.",
    ),
)


def recognise(text: str) -> EnvironmentMissing | None:
    """Give one sentence and what to do next for what an engine said, or None where it is something new."""
    for pattern, message, hint in _KNOWN:
        if found := re.search(pattern, text):
            return EnvironmentMissing(message.format(found[1]), hint.format(found[1]))
    return None
