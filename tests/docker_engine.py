"""The Docker engine and the image of jobs, for tests that need them."""

from __future__ import annotations

import os

import pytest

from dsflow.containers import engine as containers
from dsflow.containers import images
from dsflow.containers.engine import Image

# Made by .ci/base-image.sh where no registry answers.
_MADE_HERE = "dsflow-ci/debian:trixie"


@pytest.fixture(scope="session")
def engine() -> None:
    """Skip where no engine answers; fail where one must."""
    if reason := containers.available():
        pytest.fail(reason) if os.environ.get("DSFLOW_REQUIRE_SERVICES") == "1" else pytest.skip(reason)


@pytest.fixture(scope="session")
def surroundings(engine: None) -> images.Surroundings:
    """What images are built from and on."""
    base = os.environ.get("DSFLOW_BASE_IMAGE") or (_MADE_HERE if containers.find_image(_MADE_HERE) else None)
    return images.Surroundings.of(None, base)


@pytest.fixture(scope="session")
def python_image(surroundings: images.Surroundings) -> Image:
    """`dsflow/python`, built if it is missing; its package may be older than the one under test, which is laid over."""
    return images.ensure(images.DEFAULT, surroundings, print)
