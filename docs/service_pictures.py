"""Makes the pictures of the services: Jupyter Lab, Airflow and a dashboard, each started, used and stopped for real.

`docs/pictures.py` calls it. A workspace of its own with ports of its own: services that run already stay as they are.
"""

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page

DAY = "2013-02-08"
DAYS = ("2013-02-07", "2013-02-08", "2013-02-09")
PASSWORD = "green3"
# Starting Airflow and running jobs takes its time on a small machine.
PATIENCE_MS = 300_000


def services(names: Collection[str], browser: Browser, workspace: Path, pictures: Path) -> None:
    """Draw the pages of services.

    Args:
        names: Of DRAWN, those that are wanted.
        browser: What looks at them.
        workspace: The sample pipeline, run for DAYS.
        pictures: Where the pictures go.
    """
    ports = ", ".join(f"{name}: {free_port()}" for name in ("jupyter", "airflow", "dash"))
    with open(workspace / "dsflow.yml", "a", encoding="utf-8") as settings:
        settings.write(f"\nports: {{{ports}}}\n")
    try:
        for name, (draw, width, height) in DRAWN.items():
            if name not in names:
                continue
            size = {"width": width, "height": height}
            with contextlib.closing(browser.new_context(viewport=size)) as context:
                context.set_default_timeout(PATIENCE_MS)
                page = context.new_page()
                draw(page, workspace)
                page.screenshot(path=pictures / f"{name}.png")
    finally:
        dsflow(workspace, "stop-all")


def dashboard(page: Page, workspace: Path) -> None:
    """Pick two dates on the sample dashboard."""
    (started,) = json.loads(dsflow(workspace, "--json", "start-dash", "dashboard-delays"))
    page.goto(started["url"])
    first = page.locator("main input").first
    first.fill(DAY)
    first.press("Enter")
    page.locator("#chart .js-plotly-plot .point").first.wait_for()
    page.locator("#rows td").filter(has_text=DAY).first.wait_for()
    page.mouse.click(900, 20)
    # The calendar folds up.
    page.wait_for_timeout(1000)


def jupyter(page: Page, workspace: Path) -> None:
    """Open a job for a date, and run its cells."""
    dsflow(workspace, "start-jupyter")
    opened = json.loads(dsflow(workspace, "--json", "dev", "create-table-flights", DAY, "--print"))
    page.goto(opened["url"])
    page.fill("input[name=password]", PASSWORD)
    page.click("#login_submit")
    page.get_by_text("Python 3 | Idle").wait_for()
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    page.locator(".jp-OutputArea table").first.wait_for()
    page.get_by_text("nothing was published").wait_for()
    page.locator(".jp-Notebook .jp-Cell").first.scroll_into_view_if_needed()


def airflow(page: Page, workspace: Path) -> None:
    """Run the pipeline for some days in Airflow, and look at its grid."""
    # Without a schedule: nothing but the days of the picture shall run.
    by_hand = ("--schedule", "none", "--partition", "current")
    dsflow(workspace, "generate-dag", "+create-table-delays_by_weather", "--name", "flights", *by_hand)
    url = json.loads(dsflow(workspace, "--json", "start-airflow"))["url"]
    password = json.loads((workspace / ".dsflow/services/airflow/passwords.json").read_text(encoding="utf-8"))["admin"]
    token = ask(f"{url}/auth/token", {"username": "admin", "password": password})["access_token"]
    runs = f"{url}/api/v2/dags/flights/dagRuns"
    until(lambda: "flights" in {dag["dag_id"] for dag in ask(f"{url}/api/v2/dags", token=token)["dags"]})
    for day in DAYS:
        moment = f"{day}T04:30:00Z"
        ask(runs, {"dag_run_id": f"the-{day}", "logical_date": moment, "run_after": moment}, token)
    ask(f"{url}/api/v2/dags/flights", {"is_paused": False}, token, "PATCH")
    until(lambda: [run["state"] for run in ask(runs, token=token)["dag_runs"]] == ["success"] * len(DAYS))
    page.goto(url)
    page.locator("input[name=username]").fill("admin")
    page.locator("input[name=password]").fill(password)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(f"{url}/")
    page.goto(f"{url}/dags/flights/runs")
    page.get_by_text("Success", exact=True).nth(len(DAYS) - 1).wait_for()
    page.locator("a[href*='/tasks/']").nth(len(DAYS)).wait_for()
    # Airflow moves what it draws into place.
    page.wait_for_timeout(3000)


# The picture, who draws it, its width and its height.
DRAWN: dict[str, tuple[Callable[[Page, Path], None], int, int]] = {
    "dashboard": (dashboard, 960, 760),
    "jupyter": (jupyter, 1080, 560),
    "airflow": (airflow, 1440, 560),
}


def dsflow(workspace: Path, *arguments: str) -> str:
    """Run a command in the workspace and give what it prints."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    command = [sys.executable, "-m", "dsflow", *arguments]
    return subprocess.run(command, cwd=workspace, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout


def ask(url: str, document: Any = None, token: str = "", method: str | None = None) -> Any:
    """Give Airflow's answer."""
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    body = None if document is None else json.dumps(document).encode()
    with urllib.request.urlopen(urllib.request.Request(url, body, headers, method=method)) as answer:
        return json.loads(answer.read())


def until(condition: Callable[[], bool]) -> None:
    """Wait for something that takes its time."""
    deadline = time.monotonic() + PATIENCE_MS / 1000
    while not condition():
        if time.monotonic() > deadline:
            sys.exit("pictures.py: a service did not do in time what its picture shows.")
        time.sleep(1)


def free_port() -> int:
    """Give a port that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port
