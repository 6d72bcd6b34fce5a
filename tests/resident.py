"""A tiny service, for tests of services: it answers, or does whatever else its files ask for."""

from __future__ import annotations

import contextlib
import http.client
import socket
import time
from collections.abc import Callable

SERVER = """
import http.server, os, pathlib, subprocess, sys, time

state, address, port, mode = pathlib.Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4]

class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        text = f"{os.environ['GREETING']} {os.getpid()} {os.getuid()}".encode()
        self.send_response(503 if mode == "busy" else 200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)
    def log_message(self, *args):
        print("asked for", self.path, flush=True)

print("a line of the log", flush=True)
if mode == "fails":
    print("no configuration: giving up", file=sys.stderr, flush=True)
    sys.exit(3)
if mode == "hungry":
    kept = []
    while True:
        kept.append(bytearray(b"x" * (16 << 20)))
if mode == "family":
    # A child in a session of its own that would rather stay.
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
    child = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
    (state / "child").write_text(str(child.pid))
if mode == "stubborn":
    import signal
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
server = http.server.ThreadingHTTPServer((address, port), Page)
(state / "started").write_text("here")
server.serve_forever()
"""

SPEC = """
version: 1
name: {name}
description: A tiny page
ports: [{port}]
mounts: [{{source: jobs, target: /workspace/jobs, read_only: true}}]
environment: {{GREETING: "{greeting}"}}
memory: 64m
readiness: {{path: /, timeout: {timeout}}}
stop: {{timeout: 3s}}
login: {login}
image: dsflow/base
command: [python3, -u, "{{{{ here }}}}/server.py", "{{{{ state }}}}", "{{{{ address }}}}", "{{{{ port }}}}", {mode}]
process: {{}}
"""


def tree(
    port: int, *, name: str = "web", mode: str = "answers", greeting: str = "hello", timeout: str = "60s",
    login: str = "none",
) -> dict[str, str]:  # fmt: skip
    """Give the files of a service, for `make_workspace`."""
    spec = SPEC.format(name=name, port=port, mode=mode, greeting=greeting, timeout=timeout, login=login)
    return {f"docker/{name}/service.yaml": spec, f"docker/{name}/server.py": SERVER, "jobs/.keep": ""}


def free_port() -> int:
    """Give a port that nobody listens on, at least a moment ago."""
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return int(trial.getsockname()[1])


def answer(port: int, host: str = "127.0.0.1") -> str | None:
    """Give what a page says, or None where nobody answers."""
    connection = http.client.HTTPConnection(host, port, timeout=10)
    with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
        connection.request("GET", "/")
        return connection.getresponse().read().decode()
    return None


def until(condition: Callable[[], object], what: str, seconds: float = 60) -> None:
    """Wait for a condition, which must come."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.05)
