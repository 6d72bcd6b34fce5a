"""Adminer as a service: what it may open, and the password that it asks for."""

from __future__ import annotations

import getpass
import ipaddress
import json
import secrets
import shutil
import subprocess
from pathlib import Path
from typing import Any

from dsflow.errors import EnvironmentMissing
from dsflow.history import Database, History
from dsflow.samples.databases import databases as source_databases
from dsflow.samples.sources import Sources
from dsflow.services.contract import Notify, Place, Prepared, Service
from dsflow.specs.load import load_workspace
from dsflow.workspace import Workspace

_PASSWORD = "password"
_HISTORY = "history"
_ADMINER = Path("/usr/share/adminer/adminer.php")
_PACKAGES = "Debian's packages are adminer, php-cgi, php-cli, php-pgsql and php-sqlite3."
# PHP's name for the library of a database system, and Adminer's for the system.
_EXTENSIONS = {"sqlite": "sqlite3", "postgresql": "pgsql"}
_SYSTEMS = {"sqlite": "sqlite", "postgresql": "pgsql"}


def databases(workspace: Workspace) -> dict[str, Database]:
    """Give the databases that belong to a workspace, by the name that a person chooses from.

    They are the history, which is there then, and those in which dsflow.yml declares sources.

    Raises:
        UsageError: a URL in dsflow.yml is none.
        EnvironmentMissing: one cannot be opened.
    """
    history = History.open(workspace, load_workspace(workspace))
    history.runs(limit=1)
    return {_HISTORY: history.database(), **source_databases(Sources(workspace, load_workspace(workspace)))}


def prepare(service: Service, place: Place, notify: Notify) -> Prepared:
    """Write down the databases for Adminer, and a password where there is none yet.

    Raises:
        UsageError: a URL in dsflow.yml is none.
        EnvironmentMissing: Adminer would not get to one of them from where it is going to run.
    """
    found = databases(service.workspace)
    if place.form == "process":
        _check_programs(found)
    listed, left_out = {}, []
    for name, database in found.items():
        try:
            listed[name] = _entry(service, place, database)
        except EnvironmentMissing as error:
            if name == _HISTORY:
                raise
            left_out.append(f"source {name} is left out: {error.message}")
    new = service.kept(_PASSWORD) is None
    password = (service.kept(_PASSWORD) or "").strip() or secrets.token_urlsafe(12)
    service.keep(_PASSWORD, password + "\n")
    service.keep("databases.json", json.dumps(listed, indent=1))
    (service.state / "tmp").mkdir(exist_ok=True, mode=0o700)
    where = service.workspace.shown(service.state / _PASSWORD)
    note = f"log in with the password {password}, which is kept in {where}" if new else f"its password is in {where}"
    return Prepared(notes=(note, *left_out))


def _entry(service: Service, place: Place, database: Database) -> dict[str, str]:
    """Give what docker/adminer/databases.php reads of a database."""
    if database.system == "sqlite":
        return {"system": "sqlite", "file": _file(service, place, Path(database.name))}
    if place.form == "container" and _is_this_machine(database.host):
        raise EnvironmentMissing(
            f"the database {database.name} is in PostgreSQL on this machine, which a container does not see",
            f"`dsflow start {service.name} --form process` looks from outside of one; it needs PHP. {_PACKAGES}",
        )
    host = database.host
    return {
        "system": _SYSTEMS[database.system],
        "server": f"{host}:{database.port}" if database.port else host,
        "username": database.username or getpass.getuser(),
        "password": database.password,
        "database": database.name,
    }


def _file(service: Service, place: Place, path: Path) -> str:
    """Give where the service finds a file of the workspace."""
    if place.form == "process":
        return str(path.absolute())
    for mount in service.spec.mounts:
        source = service.workspace.root / mount.source
        for a, b in ((path, source), (path.resolve(), source.resolve())):
            if a.is_relative_to(b):
                return f"{mount.target}/{a.relative_to(b)}"
    raise EnvironmentMissing(
        f"{service.workspace.shown(path)} is in no folder that {service.name} sees in a container",
        f"Add its folder to `mounts` in a docker/{service.name} of this workspace, or use `--form process`.",
    )


def _is_this_machine(host: str) -> bool:
    if not host or host.startswith("/") or host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _check_programs(found: dict[str, Database]) -> None:
    """Refuse to start where a program is missing.

    Raises:
        EnvironmentMissing: PHP, one of its libraries, or Adminer is not there.
    """
    php = shutil.which("php")
    if php is None:
        raise EnvironmentMissing("adminer needs PHP to run without a container, and there is no `php` here", _PACKAGES)
    if not _ADMINER.is_file():
        raise EnvironmentMissing(f"adminer is not on this machine: there is no {_ADMINER}", _PACKAGES)
    done: Any = subprocess.run([php, "-m"], capture_output=True, text=True, check=False)
    there = set(done.stdout.lower().split())
    for database in found.values():
        extension = _EXTENSIONS[database.system]
        if extension not in there:
            raise EnvironmentMissing(f"PHP has no support for {database.system} here ({extension})", _PACKAGES)
