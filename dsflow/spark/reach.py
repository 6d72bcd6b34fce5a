"""Whether a Spark elsewhere can be reached: asked before a run waits for it, as Spark itself tries for minutes."""

from __future__ import annotations

import os
import re
import socket
import ssl
from pathlib import Path
from urllib.parse import urlsplit

from dsflow.errors import EnvironmentMissing
from dsflow.spark.hidden import parts_of
from dsflow.spark.settings import is_local

_ANSWER_SECONDS = 10
_USUAL_PORT = 15002
_GIVEN_UP = re.compile(r"Application has been killed\. Reason: (.*)")
_HADOOP = ("HADOOP_CONF_DIR", "YARN_CONF_DIR")


def check_server(remote: str) -> None:
    """See whether a Connect server listens, and speaks as its URL says.

    Args:
        remote: Its URL.

    Raises:
        EnvironmentMissing: it does not.
    """
    address, parameters = parts_of(remote)
    host, _, port = address.removeprefix("sc://").partition(":")
    # As pyspark has it: a token is never sent in the open.
    secure = parameters.get("use_ssl", "").lower() == "true" or "token" in parameters
    problem = _problem(host, int(port or _USUAL_PORT), secure=secure)
    if problem:
        raise EnvironmentMissing(
            f"the Spark server {address} does not answer: {problem}",
            "`dsflow config` says where `spark.remote` was set.",
        )


def check_master(master: str) -> None:
    """See whether a cluster's master listens, or what is needed to find it is there.

    Args:
        master: As in Spark's own words; of several that stand in for each other one is enough.

    Raises:
        EnvironmentMissing: it does not.
    """
    if is_local(master):
        return
    if master == "yarn":
        if not any(map(os.environ.get, _HADOOP)):
            raise EnvironmentMissing(
                "Spark cannot find YARN: HADOOP_CONF_DIR is not set", "Set it to the folder of the cluster's settings."
            )
        return
    problems = [_problem(host, port) for host, port in _addresses(master)]
    if all(problems):
        raise EnvironmentMissing(
            f"the Spark cluster {master} does not answer: {problems[0]}",
            "`dsflow config` says where `spark.master` was set; `--master URL` names another one.",
        )


def given_up(master: str, log: Path) -> str | None:
    """Say in a sentence why a cluster let go of an application, which then only knows that it has ended.

    Args:
        master: The cluster.
        log: The application's own log; it is short, or not there.
    """
    if is_local(master):
        return None
    try:
        found = _GIVEN_UP.search(log.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return None
    return f"{master} has given the application up: {found[1].strip(' .!')}" if found else None


def _addresses(master: str) -> list[tuple[str, int]]:
    if master.startswith("k8s://"):
        address = master.removeprefix("k8s://")
        parts = urlsplit(address if "://" in address else f"https://{address}")
        return [(parts.hostname or "", parts.port or (80 if parts.scheme == "http" else 443))]
    pairs = (each.rpartition(":") for each in master.removeprefix("spark://").split(","))
    return [(host, int(port)) for host, _, port in pairs]


def _problem(host: str, port: int, *, secure: bool = False) -> str:
    """Give why nobody answers, or an empty text. Whose certificate it is, is for Spark to say."""
    try:
        with socket.create_connection((host, port), _ANSWER_SECONDS) as connection:
            if secure:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
                context.set_alpn_protocols(["h2"])
                context.wrap_socket(connection, server_hostname=host).close()
    except ssl.SSLError:
        return "it does not speak TLS, which its URL asks for (a token, or use_ssl)"
    except OSError as error:
        return (error.strerror or str(error)).lower()
    return ""
