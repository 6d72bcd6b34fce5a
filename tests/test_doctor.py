"""`dsflow doctor`: what is missing is named, with its fix."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from dsflow import doctor
from dsflow.doctor import Finding
from tests.conftest import MakeWorkspace, Screen

Command = Callable[..., Screen]


def by_name(screen: Screen) -> dict[str, Finding]:
    return {found["check"]: Finding(**found) for found in screen.document}


def test_a_sound_machine_and_workspace_have_nothing_failed(make_workspace: MakeWorkspace, dsflow: Command) -> None:
    workspace = make_workspace({})
    screen = dsflow("doctor", "--json")
    assert screen.exit_code == 0
    findings = by_name(screen)
    assert list(findings) == [
        *("python", "packages", "kernel", "tools", "spark", "clock", "docker"),
        *("workspace", "datastore", "swap", "disk", "file times", "history", "images"),
    ]
    assert {finding.check for finding in findings.values() if finding.state == "fail"} == set()
    assert findings["python"].found.endswith(sys.executable)
    assert findings["workspace"].found == str(workspace.root)
    assert all(finding.fix for finding in findings.values() if finding.state == "warn")


def test_its_checks_leave_nothing_behind(make_workspace: MakeWorkspace) -> None:
    workspace = make_workspace({})
    for look in (doctor.datastore, doctor.swap, doctor.skew, doctor.disk):
        look(workspace)
    assert list(workspace.datastore.iterdir()) == []


def test_outside_a_workspace_it_checks_the_machine(
    tmp_path: Path, dsflow: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    screen = dsflow("doctor")
    assert screen.exit_code == 0
    assert "not in a workspace" in screen.out
    assert "dsflow init DIR" in screen.out
    assert "datastore" not in screen.out


def test_a_failed_check_is_named_with_its_fix_and_exit_code_4(make_workspace: MakeWorkspace, dsflow: Command) -> None:
    workspace = make_workspace({})
    workspace.datastore.rmdir()
    workspace.datastore.write_text("a file")
    screen = dsflow("doctor")
    assert screen.exit_code == 4
    assert "dsflow cannot work here: datastore" in screen.err
    assert "datastore cannot be written" in screen.out


def test_a_history_that_does_not_open_is_a_failure(make_workspace: MakeWorkspace) -> None:
    workspace = make_workspace({"datastore/job_runs/history.db": "this is no database"})
    finding = doctor.history(workspace)
    assert finding.state == "fail"
    assert finding.fix


def test_settings_that_cannot_be_read_are_a_failure(make_workspace: MakeWorkspace) -> None:
    workspace = make_workspace({})
    workspace.marker.write_text("nmae: x\n")
    assert doctor.history(workspace).state == "fail"
    assert "nmae" in doctor.history(workspace).found


def test_no_engine_costs_a_warning_only(make_workspace: MakeWorkspace, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = make_workspace({})
    monkeypatch.setenv("DOCKER_HOST", f"unix://{workspace.root}/no.sock")
    found = doctor.docker()
    assert found.state == "warn"
    assert "no.sock" in found.found
    assert found.fix
    assert doctor.images(workspace).state == "info"


def test_a_kernel_that_does_not_start_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_START_KERNEL", "raise SystemExit('no kernel today')")
    found = doctor.kernel()
    assert found.state == "fail"
    assert "no kernel today" in found.found
    assert "ipykernel" in found.fix


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    required = ["click>=8", "nothing-like-this>=1", "dash>=3; extra == 'dash'"]
    monkeypatch.setattr("importlib.metadata.requires", lambda name: required)
    found = doctor.packages()
    assert found.state == "fail"
    assert found.found == "missing: nothing-like-this"


def test_a_clock_before_the_installation_is_noticed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    later = tmp_path / "doctor.py"
    later.write_text("")
    monkeypatch.setattr(doctor, "__file__", str(later))
    assert doctor.clock().state == "ok"
    import os

    os.utime(later, (later.stat().st_mtime + 10 * 86_400,) * 2)
    assert doctor.clock().state == "warn"


def test_tools_are_for_information(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "git").symlink_to(str(shutil.which("true")))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert doctor.tools().found == "git, no uv (faster environments)"


def test_it_says_which_java_runs_spark(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "java" / "bin" / "java"
    program.parent.mkdir(parents=True)
    program.symlink_to(str(shutil.which("true")))
    (tmp_path / "java" / "release").write_text('JAVA_VERSION="21.0.8"\n')
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "java"))
    found = doctor.spark()
    assert found.state == "ok"
    assert f"on Java 21.0.8 (JAVA_HOME: {tmp_path}/java)" in found.found
    (tmp_path / "java" / "release").write_text('JAVA_VERSION="11.0.2"\n')
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("dsflow.spark.java._packaged", list)
    found = doctor.spark()
    assert (found.state, found.found) == ("warn", "Spark needs Java 17 or newer: Java 11.0.2 (JAVA_HOME) is too old")
