"""Which Docker engine is meant, and whether it answers. Cheap: it does without the SDK."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import os
import socket
import urllib.parse
from pathlib import Path

from dsflow.errors import EnvironmentMissing

_DEFAULT = "unix:///var/run/docker.sock"
INSTEAD = "or run jobs without Docker: `--runtime process`."


def url() -> str:
    """Give the address of the engine: DOCKER_HOST, else the current `docker context`, else the usual socket."""
    return os.environ.get("DOCKER_HOST") or _context_url() or _DEFAULT


def problem() -> EnvironmentMissing | None:
    """Give None when something answers at the engine's address, else what is wrong and how to put it right."""
    # A folder named `docker` in the current directory imports as an empty package: only a real one has an origin.
    sdk = importlib.util.find_spec("docker")
    if sdk is None or sdk.origin is None:
        return EnvironmentMissing("the Docker SDK for Python is missing", f"`pip install docker`, {INSTEAD}")
    named = bool(os.environ.get("DOCKER_HOST"))
    place = f"{url()} (named by DOCKER_HOST)" if named else url()
    try:
        _knock(url())
    except PermissionError:
        fix = "`sudo usermod -aG docker $USER` and log in again"
        return EnvironmentMissing(f"you may not use the Docker engine at {place}", f"{fix}, {INSTEAD}")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        fix = "Correct or unset DOCKER_HOST" if named else "Start Docker Desktop, or `sudo systemctl start docker`"
        return EnvironmentMissing(f"no Docker engine answers at {place}: {reason}", f"{fix}, {INSTEAD}")
    return None


def _knock(address: str) -> None:
    parts = urllib.parse.urlsplit(address)
    if parts.scheme == "unix":
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(2)
            connection.connect(address.removeprefix("unix://"))
    elif parts.scheme in ("tcp", "http", "https"):
        socket.create_connection((parts.hostname or "", parts.port or 2375), timeout=2).close()
    elif parts.scheme != "ssh":
        raise ValueError("an address starts with unix://, tcp:// or ssh://")


def _context_url() -> str | None:
    """The engine of the command line client's current `docker context`, where it is not the default one."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, RuntimeError):
        folder = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker")
        name = os.environ.get("DOCKER_CONTEXT") or json.loads((folder / "config.json").read_text())["currentContext"]
        meta = folder / "contexts" / "meta" / hashlib.sha256(name.encode()).hexdigest() / "meta.json"
        return str(json.loads(meta.read_text())["Endpoints"]["docker"]["Host"])
    return None
