"""What Airflow needs before it starts: its secrets, a login, and `dsflow serve`, which runs the jobs for it."""

from __future__ import annotations

import base64
import configparser
import hashlib
import io
import json
import os
import secrets

from dsflow.errors import UsageError
from dsflow.services.contract import Notify, Place, Prepared, Service

# The URL of another database than the SQLite file in the state: kept there, and needed only once.
DATABASE = "DSFLOW_AIRFLOW_DATABASE"
_CONFIG = "airflow.cfg"
_PASSWORDS = "passwords.json"
_USER = "admin"


def prepare(service: Service, place: Place, notify: Notify) -> Prepared:
    """Write Airflow's settings and login where they are missing, and start `dsflow serve`.

    Args:
        service: The service.
        place: Where it is going to listen.
        notify: Gets lines about what is going on.

    Raises:
        UsageError: DSFLOW_AIRFLOW_DATABASE is not the URL of a database that Airflow can use.
        EnvironmentMissing: `dsflow serve` cannot be started.
    """
    from dsflow.serve.detached import ensure_serving

    config = settle(service)
    notes = login(service)
    if not any(service.workspace.dags.glob("*.py")):
        notes.append("There is no DAG yet: `dsflow generate-dag` writes one.")
    ensure_serving(service.workspace)
    return Prepared(notes=notes, seal=hashlib.sha256(config.encode()).hexdigest())


def settle(service: Service) -> str:
    """Write airflow.cfg, which holds what must not be in the environment, where it is not as it should be.

    Returns:
        Its text.

    Raises:
        UsageError: DSFLOW_AIRFLOW_DATABASE is not the URL of a database that Airflow can use.
    """
    config = configparser.ConfigParser(interpolation=None)
    config.read_string(service.kept(_CONFIG) or _secrets())
    if url := os.environ.get(DATABASE):
        config.remove_section("database")
        if url != "sqlite":
            config["database"] = {"sql_alchemy_conn": _checked(url).replace("%", "%%")}
    written = io.StringIO()
    config.write(written)
    if service.kept(_CONFIG) != written.getvalue():
        service.keep(_CONFIG, written.getvalue())
    return written.getvalue()


def _secrets() -> str:
    key = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
    pages, tasks = secrets.token_urlsafe(32), secrets.token_urlsafe(48)
    return f"[core]\nfernet_key = {key}\n[api]\nsecret_key = {pages}\n[api_auth]\njwt_secret = {tasks}\n"


def _checked(url: str) -> str:
    if not url.startswith(("postgresql://", "postgresql+psycopg2://")) or "\n" in url:
        raise UsageError(
            f"{DATABASE} is no URL of a database that Airflow can use here",
            "Write postgresql://USER:PASSWORD@HOST/NAME, or `sqlite` for the usual file.",
        )
    return url


def login(service: Service) -> list[str]:
    """Give the lines that say how to log in; the password is shown when it is made, and never again."""
    where = service.workspace.shown(service.state / _PASSWORDS)
    if service.kept(_PASSWORDS):
        return [f"Log in as {_USER}; the password is in {where}"]
    password = secrets.token_urlsafe(12)
    service.keep(_PASSWORDS, json.dumps({_USER: password}) + "\n")
    return [f"Log in as {_USER} with the password {password} (shown this once; it is kept in {where})"]
