"""Environment variables from a file `.env`, as a project has them beside its code: `NAME=value`, a line each."""

from __future__ import annotations

import os
import re
from pathlib import Path

NAME = ".env"
_LINE = re.compile(r"\s*(?:export\s+)?([A-Za-z_]\w*)\s*=\s*(?:'([^']*)'|\"([^\"]*)\"|([^#\n]*?))\s*(?:#.*)?", re.ASCII)
# Whoever reads the file is dsflow: what it should do is said in its settings, and on its command line.
_OWN = "DSFLOW_"


def variables(text: str) -> dict[str, str]:
    """Give the variables in the text of such a file; what is no `NAME=value` is passed over."""
    found = (_LINE.fullmatch(line) for line in text.splitlines())
    return {match[1]: next((part for part in match.groups()[1:] if part is not None), "") for match in found if match}


def load(folder: Path) -> None:
    """Set the variables of a folder's `.env` that the environment does not have; there may be no such file."""
    try:
        text = (folder / NAME).read_text(encoding="utf-8-sig", errors="replace")
    except OSError:
        return
    for name, value in variables(text).items():
        if not name.startswith(_OWN):
            os.environ.setdefault(name, value)
