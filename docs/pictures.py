"""Makes the pictures of the docs: `python docs/pictures.py` writes docs/pictures/*.

It needs what the tests need (`bash init.sh --test` installs it: pexpect) and Chromium or Chrome on PATH. It runs the
sample pipeline in a temporary folder. Pages become .png through the browser, terminal screens become .svg.
"""

import contextlib
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
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pexpect
from rich.console import Console
from rich.text import Text

PICTURES = Path(__file__).parent / "pictures"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
WIDTH = 100
DAY = "2013-02-08"
# A page names who made it; a picture of it names nobody.
WHO = "ana@laptop"
dsflow = functools.partial(subprocess.run, check=True, stdout=subprocess.DEVNULL)


def main() -> None:
    """Make every picture anew."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        sys.exit(f"pictures.py: no browser on PATH; one of {', '.join(BROWSERS)} is needed.")
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        workspace = Path(scratch) / "flights"
        dsflow([sys.executable, "-m", "dsflow", "demo", str(workspace)])
        terminal("run", workspace, f"dsflow run create-table-weather {DAY} --runtime process", "dsflow runs --limit 5")
        page(browser, workspace)
        with dashboard(workspace) as address:
            screenshot(browser, address, "dashboard", "960,720")
        break_notebook(workspace / "jobs" / "create-table-flights" / "create-table-flights.ipynb")
        terminal("failure", workspace, f"dsflow run create-table-flights {DAY} --runtime process")


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


def page(browser: str, workspace: Path) -> None:
    """Draw the page of a run."""
    run = max(workspace.glob(f"datastore/job_runs/create-table-flights/ds={DAY}/*/index.html"))
    text = run.read_text(encoding="utf-8").replace(f"{getpass.getuser()}@{socket.gethostname()}", WHO)
    anonymous = workspace / "page.html"
    anonymous.write_text(text, encoding="utf-8")
    screenshot(browser, anonymous.as_uri(), "page", "960,1120")


@contextlib.contextmanager
def dashboard(workspace: Path) -> Iterator[str]:
    """Run the sample dashboard as long as it is looked at, and give its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "dsflow", "run", "dashboard-delays", "--runtime", "process", "--port", str(port)]
    running = pexpect.spawn(command[0], command[1:], cwd=str(workspace), timeout=60)
    address = f"http://127.0.0.1:{port}/"
    try:
        for _ in range(300):
            with contextlib.suppress(OSError), urllib.request.urlopen(address + "healthz"):
                break
            time.sleep(0.2)
        yield address
    finally:
        running.sendintr()
        running.expect(pexpect.EOF)


def screenshot(browser: str, address: str, name: str, size: str) -> None:
    """Draw what the browser shows of an address."""
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    options = ["--headless", "--disable-gpu", "--hide-scrollbars", "--virtual-time-budget=20000"]
    options += [f"--window-size={size}", f"--screenshot={PICTURES / name}.png"]
    subprocess.run([browser, *sandbox, *options, address], check=True, capture_output=True, timeout=120)


def break_notebook(path: Path) -> None:
    """Misspell a column in a notebook."""
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("raw.limit(5)", "raw.select('dep_dealy')"), encoding="utf-8")


if __name__ == "__main__":
    main()
