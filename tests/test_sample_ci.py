"""Samples where production is out of reach: in a clone of the repository, and in a container."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from dsflow.containers.engine import Image
from tests.conftest import MakeWorkspace, Screen
from tests.production import laptop, production

Dsflow = Callable[..., Screen]
CI = (Path(__file__).parent.parent / "docs" / "ci.md").read_text(encoding="utf-8")
# The name and the date of the example in the docs.
DS = "2026-11-20"


def shell(command: str, folder: Path) -> str:
    """Run a line of the docs as typed there."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    own = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@example.org", "GIT_COMMITTER_NAME": "a"}
    environment = {**os.environ, "PATH": path, **own, "GIT_COMMITTER_EMAIL": "a@example.org", "HOME": str(folder)}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


def test_the_workflow_of_the_docs_runs_in_a_clone_with_a_committed_sample(make_workspace: MakeWorkspace) -> None:
    workspace = laptop(make_workspace, days={"2026-11-01": "2026-11-18", "2026-11-02": "2026-11-19", "2026-11-03": DS})
    (workspace.root / ".gitignore").write_text("/datastore/\n")
    shell("git init -q && git add . && git commit -qm jobs", workspace.root)
    [once, workflow] = re.findall(r"```(?:sh|yaml)\n(.*?)```", CI, re.DOTALL)
    shell(once, workspace.root)
    clone = workspace.root.parent / "clone"
    shell(f"git clone -q '{workspace.root}' '{clone}'", workspace.root.parent)
    shutil.rmtree(production(workspace))
    shutil.rmtree(workspace.root)
    steps = [step["run"] for step in yaml.safe_load(workflow)["jobs"]["pipeline"]["steps"] if "run" in step]
    assert steps[0] == "pip install dsflow"
    told = [shell(step, clone) for step in steps[1:]]
    assert "OK=2 SKIP=0 WARN=0 FAIL=0 TOTAL=2" in told[-1]
    assert list((clone / "datastore").iterdir()) == [clone / "datastore" / "sample"]


@pytest.mark.docker
def test_a_container_sees_nothing_but_the_samples(
    make_workspace: MakeWorkspace, dsflow: Dsflow, python_image: Image
) -> None:
    look = {
        "jobs/look/job_specs.yaml": """
            version: 1
            kind: script
            inputs: {orders: {table: orders}}
            output: {raw: looked}
        """,
        "jobs/look/look.sh": 'ls /data /data/tables > "$DSFLOW_SINK/folders.txt"\n',
    }
    workspace = laptop(make_workspace, files=look)
    shutil.copytree(production(workspace), workspace.root / "datastore", dirs_exist_ok=True)
    done = dsflow("run", "look", "2026-11-03", "--sample", "--runtime", "docker")
    assert done.exit_code == 0, done.err
    [file] = (workspace.root / "datastore" / "sample" / "raw" / "looked").rglob("folders.txt")
    assert file.read_text().split() == ["/data:", "job_runs", "tables", "/data/tables:", "orders"]
    assert dsflow("run", "sales", "2026-11-03", "--sample", "--runtime", "docker").exit_code == 0
