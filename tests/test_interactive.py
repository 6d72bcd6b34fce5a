"""What a notebook finds when a person opens it: a kernel with dsflow's extension, as Jupyter starts it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager

from dsflow.interactive import REQUEST, STATE
from dsflow.workspace import Workspace
from tests.conftest import MakeWorkspace

DS = "2026-02-02"
SPEC = "version: 1\nkind: notebook\nparameters: {city: paris, api_token: ''}\noutput: {table: rain}\n"
TREE = {
    "jobs/rain/job_specs.yaml": SPEC,
    "jobs/rain/rain.py": '# %% tags=["parameters"]\nds = "2026-01-01"\ncity = "paris"\n',
    "adhoc/.keep": "",
}
PARAMETERS = 'ds, city = "2026-01-01", "paris"'
_PATIENCE = 90


@dataclass
class Cell:
    """What the execution of a cell showed."""

    text: str = ""
    result: str = ""
    error: str = ""


@dataclass
class Opened:
    """A notebook that is open: its kernel, and where `dsflow dev` leaves its requests."""

    client: BlockingKernelClient
    state: Path
    cells: list[Cell] = field(default_factory=list)

    def run(self, code: str, tags: Sequence[str] = ()) -> Cell:
        """Execute a cell as Jupyter Lab does: with its tags."""
        content = {"code": code, "silent": False, "store_history": True, "user_expressions": {}, "allow_stdin": False}
        message = self.client.session.msg("execute_request", content, metadata={"tags": [*tags]})
        self.client.shell_channel.send(message)
        cell = Cell()
        while True:
            said = self.client.get_iopub_msg(timeout=_PATIENCE)
            if said["parent_header"].get("msg_id") != message["header"]["msg_id"]:
                continue
            match said["msg_type"], said["content"]:
                case "stream", {"text": text}:
                    cell.text += text
                case "execute_result", {"data": data}:
                    cell.result = data["text/plain"]
                case "error", {"ename": name, "evalue": value, "traceback": traceback}:
                    cell.error = f"{name}: {value}\n" + "\n".join(traceback)
                case "status", {"execution_state": "idle"}:
                    return cell

    def ask(self, *arguments: str, job: str = "rain", **parameters: str) -> None:
        """Leave a request as `dsflow dev` does."""
        path = self.state / REQUEST.format(job=job)
        path.with_suffix(".new").write_text(json.dumps({"arguments": arguments, "parameters": parameters}), "utf-8")
        path.with_suffix(".new").replace(path)


Open = Callable[[Workspace, str], Opened]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Open]:
    """Give a function that opens a notebook in a folder of a workspace."""
    state = tmp_path / "state"
    state.mkdir()
    with ExitStack() as stack:

        def start(workspace: Workspace, folder: str) -> Opened:
            manager = KernelManager(connection_file=str(tmp_path / "kernel.json"))
            added = {"DSFLOW_WORKSPACE": str(workspace.root), STATE: str(state), "IPYTHONDIR": str(tmp_path)}
            manager.start_kernel(
                extra_arguments=["--ext=dsflow.interactive"], cwd=str(workspace.root / folder), env=os.environ | added
            )
            stack.callback(manager.shutdown_kernel, now=True)
            client = manager.client()
            client.start_channels()
            stack.callback(client.stop_channels)
            client.wait_for_ready(timeout=_PATIENCE)
            return Opened(client, state)

        yield start


class TestNames:
    def test_they_are_there_without_an_import(self, make_workspace: MakeWorkspace, opened: Open) -> None:
        look = opened(make_workspace(TREE), "adhoc")
        assert look.run('sql("SELECT 1 + 1 AS two").fetchall()').result == "[(2,)]"
        assert look.run("job.tables(), load_tables()").result == "([], [])"
        assert look.run("%who").text.strip() == "Interactive namespace is empty."

    def test_spark_starts_only_when_it_is_used_and_without_pyspark_says_how_to_get_it(
        self, make_workspace: MakeWorkspace, opened: Open
    ) -> None:
        look = opened(make_workspace(TREE), "adhoc")
        assert look.run("spark").result == "spark: not started yet; its first use starts it"
        # As where it is not installed, also on a machine that has it.
        cell = look.run('import sys; sys.modules["pyspark"] = None; spark.sql("SELECT 1")')
        assert "pyspark is not installed" in cell.error
        assert "pip install 'dsflow[spark]'" in cell.error

    @pytest.mark.spark
    @pytest.mark.xdist_group("spark")
    @pytest.mark.usefixtures("spark_here")
    def test_spark_becomes_the_session_when_it_is_used(self, make_workspace: MakeWorkspace, opened: Open) -> None:
        look = opened(make_workspace(TREE), "adhoc")
        assert look.run("other = spark; spark.range(3).count(), type(spark).__name__").result == "(3, 'SparkSession')"
        assert look.run("type(other).__name__").result == "'SparkSession'"

    def test_a_package_for_this_workspace_is_found_behind_those_of_the_environment(
        self, make_workspace: MakeWorkspace, opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        packages = tmp_path / "packages"
        packages.mkdir()
        (packages / "found_here.py").write_text("")
        (packages / "json.py").write_text("raise SystemExit('this is not the one')")
        monkeypatch.setenv("PIP_TARGET", str(packages))
        look = opened(make_workspace(TREE), "adhoc")
        assert look.run("import json, found_here; found_here.__file__").result == repr(str(packages / "found_here.py"))


class TestDevelopment:
    def test_the_cell_of_parameters_is_filled_and_the_job_sees_that_run(
        self, make_workspace: MakeWorkspace, opened: Open
    ) -> None:
        workspace = make_workspace(TREE)
        before = (workspace.jobs / "rain" / "rain.py").read_bytes()
        look = opened(workspace, "jobs/rain")
        look.ask(DS, city="lyon")
        filled = look.run(PARAMETERS, tags=["parameters"])
        assert (
            filled.text == f"dsflow dev: rain for {DS}; nothing is published\ndsflow dev: city = 'lyon', ds = '{DS}'\n"
        )
        assert look.run("ds, city, job.ds, job.params['city']").result == f"('{DS}', 'lyon', '{DS}', 'lyon')"
        written = look.run("job.write([{'a': 1}])")
        assert "nothing was published" in written.text
        assert f"`dsflow run rain {DS}` publishes" in written.text
        assert not (workspace.datastore / "tables").exists()
        assert (workspace.jobs / "rain" / "rain.py").read_bytes() == before

    def test_another_request_needs_no_other_kernel(self, make_workspace: MakeWorkspace, opened: Open) -> None:
        look = opened(make_workspace(TREE), "jobs/rain")
        today = look.run("job.ds, job.params['city']").result
        assert "paris" in today
        look.ask(DS)
        assert f"rain for {DS}" in look.run("pass").text
        assert look.run("job.ds, job.params['city']").result == f"('{DS}', 'paris')"
        look.ask("2026-02-03", city="nantes")
        assert look.run("job.ds, job.params['city']").result == "('2026-02-03', 'nantes')"
        assert look.run("pass").text == ""

    def test_only_the_cell_with_the_tag_is_filled_and_only_if_it_succeeds(
        self, make_workspace: MakeWorkspace, opened: Open
    ) -> None:
        look = opened(make_workspace(TREE), "jobs/rain")
        look.ask(DS, city="lyon")
        look.run(PARAMETERS)
        assert look.run("ds, city").result == "('2026-01-01', 'paris')"
        assert look.run(f"{PARAMETERS}; 1 / 0", tags=["parameters"]).error.startswith("ZeroDivisionError")
        assert look.run("ds, city").result == "('2026-01-01', 'paris')"

    def test_a_secret_reaches_the_job_and_is_not_shown(self, make_workspace: MakeWorkspace, opened: Open) -> None:
        look = opened(make_workspace(TREE), "jobs/rain")
        look.ask(DS, api_token="hush-hush")
        filled = look.run(PARAMETERS, tags=["parameters"])
        assert "hush-hush" not in filled.text + filled.error
        assert look.run("job.params['api_token'] == 'hush-' + 'hush'").result == "True"

    def test_a_job_of_the_predecessor_finds_its_specs(self, make_workspace: MakeWorkspace, opened: Open) -> None:
        spec = """
            version: '0.1'
            class: JupyterNotebook
            script: old.ipynb
            job_parameters: [ds]
            task_specs: {ds: "{{ ds }}", sink_path: "/data/tables/old/ds={{ ds }}"}
            """
        cells: dict[str, Any] = {"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
        workspace = make_workspace({"jobs/old/job_specs.yaml": spec, "jobs/old/old.ipynb": json.dumps(cells)})
        look = opened(workspace, "jobs/old")
        look.ask(DS, job="old")
        look.run("import json, os; specs = json.loads(os.environ['TASK_SPECS'])")
        assert look.run("specs['ds'], os.path.isdir(specs['sink_path'])").result == f"('{DS}', True)"
        assert look.run("str(job.sink) == specs['sink_path']").result == "True"
        assert look.run("'DSFLOW_RUN_FOLDER' in os.environ, os.environ['DSFLOW_DS']").result == f"(False, '{DS}')"

    def test_what_is_missing_is_told_and_the_rest_works(self, make_workspace: MakeWorkspace, opened: Open) -> None:
        spec = f"{SPEC}inputs: {{raw: {{raw: weather, format: json}}}}\n"
        look = opened(make_workspace({**TREE, "jobs/rain/job_specs.yaml": spec}), "jobs/rain")
        look.ask(DS, city="lyon")
        filled = look.run(PARAMETERS, tags=["parameters"])
        assert "weather" in filled.text
        assert look.run("city, job.ds").result == f"('lyon', '{DS}')"

    def test_a_spec_that_is_wrong_by_now_is_one_sentence(self, make_workspace: MakeWorkspace, opened: Open) -> None:
        workspace = make_workspace(TREE)
        look = opened(workspace, "jobs/rain")
        look.ask(DS)
        (workspace.jobs / "rain" / "job_specs.yaml").write_text("version: 1\nkind: notebok\n")
        said = look.run("x = 1")
        assert "dsflow dev: job rain cannot be read" in said.text
        assert "did you mean 'notebook'" in said.text
        assert "Traceback" not in said.text + said.error
        assert look.run("x").result == "1"
