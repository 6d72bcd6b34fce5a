"""Environments with a job's own requirements: made once, kept by a hash, never half made."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy
import pytest

import dsflow
from dsflow import cache, environments
from dsflow.errors import EnvironmentMissing
from tests.test_images import moon_wheel


@pytest.fixture(autouse=True)
def _own_cache_and_no_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DSFLOW_CACHE", str(tmp_path / "the cache"))

    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("UV_OFFLINE", "1")


@pytest.fixture(params=["uv", "pip"])
def _installer(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways to install; the other tests take uv where it is there."""
    if request.param == "pip":
        monkeypatch.setattr(shutil, "which", lambda command: None)
    elif shutil.which("uv") is None:
        pytest.skip("no uv here")


@pytest.fixture
def wheel(tmp_path: Path) -> str:
    """A requirement that is a file on this machine."""
    name, content = moon_wheel()
    (tmp_path / name).write_bytes(content)
    return f"dsflow-test-moon @ {(tmp_path / name).as_uri()}"


def shown(python: str, code: str) -> str:
    return subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout.strip()


@pytest.mark.usefixtures("_installer")
def test_requirements_lie_over_what_is_here(wheel: str) -> None:
    notes: list[str] = []
    assert environments.known([wheel]) is None
    made = environments.environment_for([wheel], notes.append)
    assert environments.known([wheel]) == made
    assert notes == [f"Installing {wheel} (once)"]
    code = "import dsflow_test_moon as m, numpy, dsflow; print(m.phase, numpy.__file__, dsflow.__file__)"
    assert shown(made.python, code) == f"full {numpy.__file__} {dsflow.__file__}"
    assert made.lock_hash != environments.current().lock_hash
    again = environments.environment_for([wheel, wheel], notes.append)
    assert (again, len(notes)) == (made, 1)


@pytest.mark.usefixtures("_installer")
def test_an_installation_that_fails_says_why_and_leaves_nothing() -> None:
    with pytest.raises(EnvironmentMissing, match="dsflow-test-nothing") as caught:
        environments.environment_for(["dsflow-test-nothing==1"], print)
    assert "run.requirements" in caught.value.hint
    assert caught.value.exit_code == 4
    assert list((cache.folder() / "environments").iterdir()) == []


def test_what_a_killed_installation_left_is_made_anew(wheel: str) -> None:
    made = environments.environment_for([wheel], print)
    folder = Path(made.python).parents[1]
    # As after a kill in the middle: files there, but not the mark that is written last.
    (folder / ".complete").unlink()
    next(folder.rglob("dsflow_test_moon.py")).unlink()
    notes: list[str] = []
    again = environments.environment_for([wheel], notes.append)
    assert (again.python, len(notes)) == (made.python, 1)
    assert shown(again.python, "import dsflow_test_moon as m; print(m.phase)") == "full"


def test_two_that_want_the_same_make_it_once(wheel: str) -> None:
    notes: list[str] = []
    made: list[environments.Environment] = []
    threads = [
        threading.Thread(target=lambda: made.append(environments.environment_for([wheel], notes.append)))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({environment.python for environment in made}) == 1
    assert len(made) == 3
    assert [note for note in notes if note.startswith("Installing")] == [f"Installing {wheel} (once)"]


def test_jobs_without_requirements_get_this_python() -> None:
    assert environments.current().python == sys.executable
    assert environments.current() == environments.current()


def test_a_cache_that_cannot_be_written_says_how_to_name_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("DSFLOW_CACHE", str(tmp_path / "file"))
    with pytest.raises(EnvironmentMissing, match="cannot write the cache") as caught:
        environments.environment_for(["x"], print)
    assert "DSFLOW_CACHE" in caught.value.hint
