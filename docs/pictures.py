"""Makes the pictures of the docs: `python docs/pictures.py` writes docs/pictures/*; with names, only those.

    python docs/pictures.py                  # all
    python docs/pictures.py jupyter airflow  # or dashboard, run, page, failure

It needs what the tests need (`bash init.sh --test` installs it: pexpect, playwright) and Chromium or Chrome on PATH. It
runs the sample pipeline in a temporary folder. Pages become .png through the browser, terminal screens become .svg.
"""

import functools
import getpass
import io
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pexpect
from playwright.sync_api import Browser, sync_playwright
from rich.console import Console
from rich.text import Text
from service_pictures import DRAWN, services

PICTURES = Path(__file__).parent / "pictures"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
WIDTH = 100
DAY = "2013-02-08"
# A page names who made it; a picture of it names nobody.
WHO = "ana@laptop"
dsflow = functools.partial(subprocess.run, check=True, stdout=subprocess.DEVNULL)


def main() -> None:
    """Make the pictures anew."""
    names = set(sys.argv[1:]) or {"run", "page", "failure", *DRAWN}
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        sys.exit(f"pictures.py: no browser on PATH; one of {', '.join(BROWSERS)} is needed.")
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch, sync_playwright() as playwright:
        sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=program, args=["--hide-scrollbars", *sandbox])
        workspace = Path(scratch) / "flights"
        dsflow([sys.executable, "-m", "dsflow", "demo", str(workspace)])
        if "run" in names:
            run = f"dsflow run create-table-weather {DAY} --runtime process"
            terminal("run", workspace, run, "dsflow runs --limit 5")
        if "page" in names:
            page(browser, workspace)
        if names.intersection(DRAWN):
            services(names, browser, workspace, PICTURES)
        if "failure" in names:
            break_notebook(workspace / "jobs" / "create-table-flights" / "create-table-flights.ipynb")
            terminal("failure", workspace, f"dsflow run create-table-flights {DAY} --runtime process")
        browser.close()


def terminal(name: str, workspace: Path, *commands: str) -> None:
    """Type commands on a terminal, and draw what it shows."""
    environment = {**os.environ, "TERM": "xterm-256color", "PYTHONPATH": str(PICTURES.parent.parent)}
    console = Console(record=True, width=WIDTH, file=io.StringIO())
    for command in commands:
        typed = command.replace("dsflow", f"{sys.executable} -m dsflow", 1)
        shown = pexpect.run(typed, cwd=str(workspace), env=environment, dimensions=(50, WIDTH), timeout=300)
        console.print(Text(f"$ {command}", style="bold"))
        # Colours stay. What moves the cursor belongs to a progress bar, which is gone in the end.
        plain = re.sub(r"\x1b\[[\d;?]*[A-Zhl]", "", shown.decode())
        lines = [line for line in plain.splitlines() if line.strip() and "━" not in line]
        console.print(Text.from_ansi("\n".join(lines) + "\n"))
    drawn = console.export_svg(title="dsflow", unique_id=name)
    # The drawing would fetch its font from elsewhere; any monospaced one will do.
    drawn = re.sub(r"@font-face \{.*?\}", "", drawn, flags=re.DOTALL).replace("Fira Code,", "")
    (PICTURES / f"{name}.svg").write_text(re.sub(r"[ \t]+\n", "\n", drawn), encoding="utf-8")


def page(browser: Browser, workspace: Path) -> None:
    """Draw the page of a run."""
    run = max(workspace.glob(f"datastore/job_runs/create-table-flights/ds={DAY}/*/index.html"))
    text = run.read_text(encoding="utf-8").replace(f"{getpass.getuser()}@{socket.gethostname()}", WHO)
    anonymous = workspace / "page.html"
    anonymous.write_text(text, encoding="utf-8")
    tab = browser.new_page(viewport={"width": 960, "height": 1120})
    tab.goto(anonymous.as_uri())
    tab.screenshot(path=PICTURES / "page.png")
    tab.close()


def break_notebook(path: Path) -> None:
    """Misspell a column in a notebook."""
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("raw.limit(5)", "raw.select('dep_dealy')"), encoding="utf-8")


if __name__ == "__main__":
    main()
