"""A workspace from a dict, and the command line as a function."""

from __future__ import annotations

import json
import os
import signal
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import pytest

from dsflow import cli
from dsflow.sampling.switches import ENABLE, ENABLE_OFFLINE
from dsflow.workspace import Workspace

pytest_plugins = [
    "tests.browser",
    "tests.docker_engine",
    "tests.postgres_server",
    "tests.spark_cluster",
    "tests.spark_server",
]

Tree = Mapping[str, str | bytes]
MakeWorkspace = Callable[[Tree], Workspace]


def notebook(*cells: str, parameters: str | None = None) -> str:
    """Give the text of an .ipynb with code cells; `parameters` is the source of a first cell with that tag."""
    made = nbformat.v4.new_notebook(metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}})
    if parameters is not None:
        tagged = nbformat.v4.new_code_cell(textwrap.dedent(parameters).strip(), metadata={"tags": ["parameters"]})
        made.cells.append(tagged)
    made.cells += [nbformat.v4.new_code_cell(textwrap.dedent(cell).strip()) for cell in cells]
    return str(nbformat.writes(made))


def build_tree(root: Path, tree: Tree) -> None:
    """Write files under a folder; text is dedented."""
    for name, content in tree.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(textwrap.dedent(content).lstrip("\n"), encoding="utf-8")


@pytest.fixture
def make_workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeWorkspace:
    """Give a function that makes a workspace from `{path: text}` and goes there."""

    def make(tree: Tree) -> Workspace:
        root = tmp_path / "work space"
        build_tree(root, {"dsflow.yml": "version: 1\n", **tree})
        (root / "datastore").mkdir(exist_ok=True)
        (root / "jobs").mkdir(exist_ok=True)
        monkeypatch.chdir(root)
        return Workspace(root)

    return make


@dataclass(frozen=True)
class Screen:
    """What a command printed and how it ended."""

    exit_code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The JSON document on stdout."""
        return json.loads(self.out)


@pytest.fixture
def dsflow(capfd: pytest.CaptureFixture[str]) -> Callable[..., Screen]:
    """Give the command line as a function: `dsflow("run", "x").exit_code`."""

    def run(*arguments: str) -> Screen:
        capfd.readouterr()
        code = cli.run(arguments)
        captured = capfd.readouterr()
        return Screen(code, captured.out, captured.err)

    return run


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keep the developer's settings out of the tests, and tests out of the developer's home."""
    for name in [name for name in os.environ if name.startswith("DSFLOW_") and name not in _KEPT]:
        monkeypatch.delenv(name)
    for name in (ENABLE, ENABLE_OFFLINE):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_COLOR", "1")
    # Spark in this very process, in a test before, answers Ctrl-C itself for good.
    signal.signal(signal.SIGINT, signal.default_int_handler)


_KEPT = {"DSFLOW_REQUIRE_SERVICES", "DSFLOW_CACHE"}
