"""Every template keeps its word: generated, run, and its rows compared, as its folder `verify/` says.

`answers.yaml` has the name, the ds and the answers; `input/` becomes the datastore (a `rows.csv` below
`input/tables` becomes a Parquet partition); `expected.csv` has the rows of the table that the job writes,
`expected/` the files of the datastore afterwards, `expected.json` what a dashboard shows.
"""

from __future__ import annotations

import csv
import filecmp
import io
import json
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pytest
import yaml

from dsflow.specs.load import load_job
from dsflow.workspace import Workspace, package_folder
from tests.conftest import MakeWorkspace, Screen
from tests.spark_server import MARKS

TEMPLATES = sorted(path.parent for path in package_folder("templates").glob("jobs/*/template_specs.yaml"))


def _with_spark(template: Path) -> bool:
    return "engine: spark" in (template / "job_specs.yaml.j2").read_text("utf-8")


def _marks(template: Path) -> list[pytest.MarkDecorator]:
    return [*MARKS["spark"], pytest.mark.timeout(300)] if _with_spark(template) else []


@pytest.mark.parametrize("template", [pytest.param(path, id=path.name, marks=_marks(path)) for path in TEMPLATES])
def test_a_template_makes_a_job_that_does_what_it_promises(
    template: Path, make_workspace: MakeWorkspace, dsflow: Callable[..., Screen], request: pytest.FixtureRequest
) -> None:
    if _with_spark(template):
        request.getfixturevalue("spark")
    verify = template / "verify"
    asked = yaml.safe_load((verify / "answers.yaml").read_text("utf-8"))
    workspace = make_workspace({})
    _lay_out(verify / "input", workspace.datastore)

    answers = {key: str(value).replace("{verify}", str(verify)) for key, value in asked.get("answers", {}).items()}
    given = [part for key, value in answers.items() for part in ("--set", f"{key}={value}")]
    sample = ["--sample", str(verify / asked["sample"])] if "sample" in asked else []
    generated = dsflow("generate-job", template.name, asked["name"], *given, *sample, "-y", "--json")
    assert generated.exit_code == 0, generated.err
    job = generated.document["job"]

    if (verify / "expected.json").is_file():
        _check_dashboard(job, json.loads((verify / "expected.json").read_text("utf-8")))
        return
    if (workspace.jobs / job / "tests").is_dir():
        tested = dsflow("test", job)
        assert tested.exit_code == 0, tested.out
    ran = dsflow("run", job, asked["ds"], "--runtime", "process")
    assert ran.exit_code == 0, ran.out + ran.err
    if (verify / "expected.csv").is_file():
        output = load_job(workspace, job).output
        assert output is not None
        partition = workspace.datastore / "tables" / str(output.table) / f"ds={asked['ds']}"
        assert _rows(partition) == list(csv.reader(io.StringIO((verify / "expected.csv").read_text("utf-8"))))
    else:
        _check_files(verify / "expected", workspace)


def _lay_out(given: Path, datastore: Path) -> None:
    if given.is_dir():
        shutil.copytree(given, datastore, dirs_exist_ok=True)
    for rows in datastore.glob("tables/*/*/rows.csv"):
        duckdb.read_csv(str(rows)).write_parquet(str(rows.with_suffix(".parquet")))
        rows.unlink()


def _rows(partition: Path) -> list[list[str]]:
    """Give the rows of a partition as a csv file would have them: a header, then the rows, sorted."""
    relation = duckdb.read_parquet(str(partition / "*.parquet"), hive_partitioning=False)
    rows = [["" if value is None else str(value) for value in row] for row in relation.fetchall()]
    return [list(relation.columns), *sorted(rows)]


def _check_files(expected: Path, workspace: Workspace) -> None:
    names = sorted(str(path.relative_to(expected)) for path in expected.rglob("*") if path.is_file())
    assert names
    folders = {Path(name).parent for name in names}
    there = [path for folder in folders for path in (workspace.datastore / folder).iterdir()]
    assert sorted(str(path.relative_to(workspace.datastore)) for path in there) == names
    assert filecmp.cmpfiles(expected, workspace.datastore, names, shallow=False)[0] == names


def _check_dashboard(job: str, expected: dict[str, Any]) -> None:
    with _served(job) as address:
        assert _get(f"{address}/healthz") == "ok"
        document = _get(address)
        assert f"<title>{expected['title']}</title>" in document
        assert "//" not in document.replace(f"{address}/", ""), "nothing comes from elsewhere"
        page = _get(f"{address}/_dash-layout")
        assert [text for text in expected["page"] if json.dumps(text) not in page] == []
        figure = _figure(address)
        shown = {axis: figure["data"][0][axis] for axis in ("x", "y")}
        assert shown == expected["chart"]


def test_a_dashboard_of_a_table_that_is_not_there_says_so(
    make_workspace: MakeWorkspace, dsflow: Callable[..., Screen]
) -> None:
    make_workspace({})
    dsflow("generate-job", "plotly_dash_app", "rain", "--set", "y_axis=rain_mm")
    with _served("dashboard-rain") as address:
        assert "Table rain cannot be read" in _get(f"{address}/_dash-layout")
        title = _figure(address)["layout"]["title"]["text"]
        assert "rain" in title
        assert _get(f"{address}/healthz") == "ok"


@contextmanager
def _served(job: str) -> Iterator[str]:
    """Run a dashboard until the block ends, then stop it with Ctrl-C and see that nothing answers any more."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "dsflow", "run", job, "--runtime", "process", "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            _wait_for(port, process)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.send_signal(signal.SIGINT)
            try:
                said = process.communicate(timeout=30)[0]
            except subprocess.TimeoutExpired:
                process.kill()
                raise
    assert process.returncode == 0, said
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0, "the dashboard is still there"


def _wait_for(port: int, process: subprocess.Popen[str]) -> None:
    for _ in range(600):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert process.poll() is None, process.stdout.read() if process.stdout else ""
        time.sleep(0.1)
    raise AssertionError("the dashboard did not start")


def _get(address: str) -> str:
    with urllib.request.urlopen(address) as answer:
        return str(answer.read().decode())


def _figure(address: str) -> Any:
    """Ask for the chart as the page does in a browser."""
    dates = [{"id": "dates", "property": name, "value": None} for name in ("start_date", "end_date")]
    question = {
        "output": "chart.figure",
        "outputs": {"id": "chart", "property": "figure"},
        "inputs": dates,
        "changedPropIds": ["dates.start_date"],
    }
    request = urllib.request.Request(
        f"{address}/_dash-update-component", json.dumps(question).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request) as answer:
        return json.loads(answer.read())["response"]["chart"]["figure"]
