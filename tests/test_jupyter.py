"""Jupyter Lab on a workspace, as people use it: as a process and in a container, over HTTP and in a browser."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests

from dsflow.containers.images import Surroundings
from dsflow.services import lifecycle
from dsflow.services.password import DEFAULT
from dsflow.workspace import Workspace
from tests.conftest import MakeWorkspace, Screen, build_tree, notebook
from tests.resident import free_port

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.timeout(600)

Dsflow = Callable[..., Screen]
DS = "2026-02-02"
PERCENT = """\
# %% [markdown]
# # Rain

# %% tags=["parameters"]
ds = "2026-01-01"
city = "paris"

# %%
from dsflow import job

rows = job.sql(f"SELECT '{city}' AS city, 4.2 AS rain, '{ds}' AS day").df()
rows

# %%
job.write(rows)
"""
SCRIPT = '"""Plain Python."""\n\nimport os\n\n\n\nif __name__ == "__main__":\n    print(os.getcwd())\n'
# Nothing is imported: the kernel's names are there.
LOOK = notebook(
    """
    print("loaded", load_tables())
    print("rows", sql("SELECT city, ds FROM rain").fetchall())
    print(spark)
    """,
)
TREE = {
    "jobs/rain/job_specs.yaml": """
        version: 1
        kind: notebook
        main: rain.py
        parameters: {city: paris}
        output: {table: rain}
        """,
    "jobs/rain/rain.py": PERCENT,
    "jobs/rain/module.py": SCRIPT,
    "adhoc/look.ipynb": LOOK,
    "datastore/tables/broken/ds=2026-02-02/a.parquet": "not parquet",
}


@dataclass
class Lab:
    """A workspace with Jupyter Lab on it."""

    root: Path
    form: str
    url: str
    said: str

    @property
    def inside(self) -> str:
        """The workspace as Jupyter sees it."""
        return "/workspace" if self.form == "container" else str(self.root)

    @property
    def state(self) -> Path:
        """What Jupyter keeps."""
        return self.root / ".dsflow" / "services" / "jupyter"

    def dsflow(self, *arguments: str, given: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run a command in the workspace."""
        command = [sys.executable, "-m", "dsflow", "-C", str(self.root), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, input=given)

    def visitor(self, password: str = DEFAULT) -> requests.Session:
        """Give the session of somebody who has tried to log in."""
        visitor = requests.Session()
        visitor.get(f"{self.url}/login", timeout=60)
        form = {"password": password, "_xsrf": visitor.cookies["_xsrf"]}
        visitor.post(f"{self.url}/login", data=form, timeout=60, allow_redirects=False)
        visitor.headers["X-XSRFToken"] = visitor.cookies["_xsrf"]
        return visitor

    def names(self, visitor: requests.Session, path: str = "") -> list[str]:
        """Give what a visitor sees in a folder."""
        listing = visitor.get(f"{self.url}/api/contents/{path}", timeout=60)
        listing.raise_for_status()
        return sorted(entry["name"] for entry in listing.json()["content"])


def made(root: Path, form: str, base: str | None) -> Lab:
    """Make a workspace and start Jupyter on it."""
    build_tree(root, {"dsflow.yml": f"version: 1\nbase_image: {base}\n" if base else "version: 1\n", **TREE})
    lab = Lab(root, form, "", "")
    ran = lab.dsflow("run", "rain", DS, "--runtime", "process")
    assert ran.returncode == 0, ran.stderr
    started = lab.dsflow("start-jupyter", "--form", form, "--port", str(free_port()))
    assert started.returncode == 0, started.stderr
    lab.said = started.stdout
    lab.url = next(word for word in started.stdout.split() if "://" in word)
    return lab


FORMS = [
    pytest.param("process", marks=[pytest.mark.jupyter, pytest.mark.xdist_group("jupyter-process")]),
    pytest.param("container", marks=[pytest.mark.docker, pytest.mark.xdist_group("jupyter-container")]),
]


@pytest.fixture(scope="session", params=FORMS)
def lab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Jupyter Lab in one of its forms."""
    base = None
    if request.param == "container":
        request.getfixturevalue("python_image")
        surroundings: Surroundings = request.getfixturevalue("surroundings")
        base = surroundings.base
    root = tmp_path_factory.mktemp("jupyter") / "work space"
    try:
        yield made(root, request.param, base)
    finally:
        lifecycle.stop_all(Workspace(root), print)


class TestServer:
    def test_7_1_25_it_answers_and_shows_the_folders_to_who_knows_the_password(self, lab: Lab) -> None:
        assert f"Password is {DEFAULT}" in lab.said
        assert {"jobs", "adhoc", "datastore"} <= {*lab.names(lab.visitor())}
        assert lab.names(lab.visitor(), "jobs/rain") == ["job_specs.yaml", "module.py", "rain.py"]

    def test_7_1_25_data_is_the_datastore(self, lab: Lab) -> None:
        # A process has the paths of this machine; there the same data is in the workspace.
        path = "/data" if lab.form == "container" else f"{lab.inside}/datastore"
        listed = lab.dsflow("shell", "jupyter", "python", "-c", f"import os; print(*sorted(os.listdir({path!r})))")
        assert listed.stdout.split() == sorted(entry.name for entry in (lab.root / "datastore").iterdir())

    @pytest.mark.parametrize("password", ["", "green", "GREEN3", "scrypt:0:0"])
    def test_nobody_else_sees_anything(self, lab: Lab, password: str) -> None:
        visitor = lab.visitor(password)
        assert visitor.get(f"{lab.url}/api/contents", timeout=60).status_code == 403
        assert visitor.get(f"{lab.url}/api/contents?token={password}", timeout=60).status_code == 403
        assert visitor.get(f"{lab.url}/lab", timeout=60, allow_redirects=False).status_code == 302

    def test_a_page_from_elsewhere_cannot_use_a_name_of_its_own_for_this_machine(self, lab: Lab) -> None:
        # Nobody needs to log in for this one.
        assert _status(lab, "127.0.0.1") == 200
        assert _status(lab, "rebound.example") == 403

    def test_neither_its_log_nor_its_environment_holds_a_secret(self, lab: Lab) -> None:
        lab.visitor("a-wrong-one")
        said = lab.dsflow("logs", "jupyter").stdout
        assert "/lab" in said
        kept = (lab.state / "password").read_text()
        seen = lab.dsflow("shell", "jupyter", "env").stdout
        if lab.form == "container":
            seen += subprocess.run(
                ["docker", "inspect", *_containers(lab)], capture_output=True, text=True, check=True
            ).stdout
        for secret in (DEFAULT, "a-wrong-one", kept, "/lab?token="):
            assert secret not in said + seen
        assert stat.S_IMODE((lab.state / "password").stat().st_mode) == 0o600
        assert stat.S_IMODE(lab.state.stat().st_mode) == 0o700

    def test_what_is_saved_belongs_to_the_caller_and_nothing_else_is_left_beside_it(self, lab: Lab) -> None:
        visitor, path = lab.visitor(), f"{lab.url}/api/contents/jobs/rain/saved.ipynb"
        content = json.loads(notebook("1 + 1"))
        body = {"type": "notebook", "format": "json", "content": content}
        assert visitor.put(path, json=body, timeout=60).status_code == 201
        assert visitor.post(f"{path}/checkpoints", timeout=60).status_code == 201
        saved = lab.root / "jobs" / "rain" / "saved.ipynb"
        try:
            assert (saved.stat().st_uid, saved.stat().st_gid) == (os.getuid(), os.getgid())
            assert [*saved.parent.glob(".*")] == []
            checkpoints = [*(lab.state / "checkpoints").rglob("saved-checkpoint.ipynb")]
            assert [checkpoint.stat().st_uid for checkpoint in checkpoints] == [os.getuid()]
        finally:
            saved.unlink()

    @pytest.mark.parametrize(("name", "cells"), [("rain.py", 4), ("module.py", 4)])
    def test_python_files_are_notebooks_and_saving_one_changes_only_what_was_edited(
        self, lab: Lab, name: str, cells: int
    ) -> None:
        visitor, path = lab.visitor(), f"{lab.url}/api/contents/jobs/rain/{name}"
        file = lab.root / "jobs" / "rain" / name
        before = file.read_bytes()
        model = visitor.get(path, params={"type": "notebook"}, timeout=60).json()
        assert model["content"]["metadata"]["kernelspec"]["name"] == "python3"
        assert len(model["content"]["cells"]) >= cells
        assert visitor.put(path, json=model, timeout=60).status_code == 200
        assert file.read_bytes() == before

    def test_7_1_26_a_notebook_finds_every_table_without_an_import(self, lab: Lab) -> None:
        path = f"{lab.inside}/adhoc/look.ipynb"
        done = lab.dsflow("shell", "jupyter", "jupyter", "execute", "--inplace", path)
        assert done.returncode == 0, done.stderr
        printed = _printed(lab.root / "adhoc" / "look.ipynb")
        assert "ERROR - broken could not be imported" in printed
        assert "INFO - rain was successfully imported" in printed
        assert "loaded ['rain']" in printed
        assert f"rows [('paris', '{DS}')]" in printed
        assert "spark: not started yet" in printed

    def test_a_job_can_be_run_from_its_terminals(self, lab: Lab) -> None:
        command = ("shell", "jupyter", "dsflow", "-C", lab.inside, "run", "rain", "2026-02-09", "--runtime", "process")
        done = lab.dsflow(*command)
        assert done.returncode == 0, done.stderr
        [written] = (lab.root / "datastore/tables/rain/ds=2026-02-09").iterdir()
        assert written.stat().st_uid == os.getuid()


class TestPassword:
    pytestmark = pytest.mark.jupyter

    def test_another_one_takes_its_place_and_only_then_others_may_come(self, tmp_path: Path) -> None:
        lab = made(tmp_path / "ws", "process", None)
        try:
            assert lab.dsflow("start-jupyter").stdout.startswith("jupyter: runs already")
            changed = lab.dsflow("start-jupyter", "--password", given="another one\n")
            assert (changed.returncode, DEFAULT in changed.stdout) == (0, False), changed.stderr
            assert "jobs" in lab.names(lab.visitor("another one"))
            assert lab.visitor().get(f"{lab.url}/api/contents", timeout=60).status_code == 403
            opened = lab.dsflow("start-jupyter", "--address", "0.0.0.0")
            assert opened.returncode == 0, opened.stderr
            assert _status(lab, "laptop.example") == 200
        finally:
            lifecycle.stop_all(Workspace(lab.root), print)

    def test_it_is_refused_where_others_can_come_in_while_it_is_the_one_that_everybody_knows(
        self, make_workspace: MakeWorkspace, dsflow: Dsflow
    ) -> None:
        workspace = make_workspace(TREE)
        refused = dsflow("start-jupyter", "--form", "process", "--address", "0.0.0.0")
        assert refused.exit_code == 2
        assert "the password that everybody knows" in refused.err
        assert "--password" in refused.err
        assert not (workspace.own / "running").exists() or not [*(workspace.own / "running").glob("*.json")]


class TestDevMistakes:
    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (("rian",), "did you mean 'rain'"),
            (("rain", "2026-02-31"), "2026-02-31"),
            (("rain", DS, "-p", "ctiy=lyon"), "did you mean 'city'"),
            (("rain", DS, "more"), "takes one date"),
            ((), "missing argument"),
        ],
    )
    def test_they_are_told_before_anything_starts(
        self, make_workspace: MakeWorkspace, dsflow: Dsflow, arguments: tuple[str, ...], said: str
    ) -> None:
        workspace = make_workspace(TREE)
        screen = dsflow("dev", *arguments)
        assert screen.exit_code == 2
        assert said in screen.err
        assert not workspace.own.exists()


class TestBrowser:
    pytestmark = pytest.mark.browser

    def test_a_job_is_opened_for_a_date_run_and_its_table_seen(self, lab: Lab, tab: Page) -> None:
        elsewhere: list[str] = []
        tab.on("request", lambda request: elsewhere.append(request.url) if lab.url not in request.url else None)
        file = lab.root / "jobs" / "rain" / "rain.py"
        before = file.read_bytes()
        tab.goto(asked(lab, DS, "-p", "city=lyon"))
        tab.fill("input[name=password]", DEFAULT)
        tab.click("#login_submit")
        run_all(tab)
        shown = tab.locator(".jp-OutputArea table").first
        shown.get_by_text("lyon").wait_for()
        shown.get_by_text(DS).wait_for()
        tab.get_by_text(f"dsflow dev: city = 'lyon', ds = '{DS}'").wait_for()
        tab.get_by_text("nothing was published").wait_for()
        # The next date needs nothing but the command.
        asked(lab, "2026-02-03")
        run_all(tab)
        shown.get_by_text("2026-02-03").wait_for()
        shown.get_by_text("paris").wait_for()
        with tab.expect_response(lambda answer: answer.request.method == "PUT" and "rain.py" in answer.url):
            tab.keyboard.press("Control+s")
        assert file.read_bytes() == before
        assert elsewhere == []

    def test_an_exploration_shows_a_table(self, lab: Lab, tab: Page) -> None:
        tab.goto(f"{lab.url}/lab/tree/adhoc/look.ipynb")
        tab.fill("input[name=password]", DEFAULT)
        tab.click("#login_submit")
        run_all(tab)
        tab.get_by_text("loaded ['rain']").wait_for()


def asked(lab: Lab, *arguments: str) -> str:
    """Ask for the job of the workspace with `dsflow dev`, and give the address to open."""
    done = lab.dsflow("dev", "rain", *arguments, "--print", "--json")
    assert done.returncode == 0, done.stderr
    address = json.loads(done.stdout)["url"]
    assert address == f"{lab.url}/lab/tree/jobs/rain/rain.py"
    return str(address)


def run_all(tab: Page) -> None:
    """Run all cells of the notebook that is open, as soon as its kernel is there."""
    tab.get_by_text("Python 3 | Idle").wait_for()
    tab.get_by_role("menuitem", name="Run", exact=True).click()
    tab.get_by_role("menuitem", name="Run All Cells", exact=True).click()


def _printed(path: Path) -> str:
    cells: list[dict[str, Any]] = json.loads(path.read_text())["cells"]
    return "".join("".join(output.get("text", "")) for cell in cells for output in cell["outputs"])


def _status(lab: Lab, host: str) -> int:
    return requests.get(f"{lab.url}/api", headers={"Host": host}, timeout=60).status_code


def _containers(lab: Lab) -> list[str]:
    return [service["id"] for service in json.loads(lab.dsflow("ps", "--json").stdout)]
