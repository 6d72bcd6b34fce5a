"""What some tests need from the machine."""

from __future__ import annotations

import os

import pytest


def need(there: bool, reason: str) -> None:
    """Skip the test where something is not there; fail it where nothing may be skipped (DSFLOW_REQUIRE_SERVICES)."""
    if there:
        return
    if os.environ.get("DSFLOW_REQUIRE_SERVICES"):
        pytest.fail(reason)
    pytest.skip(reason)
