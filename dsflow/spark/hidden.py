"""Keeps what is secret of Spark's settings out of `task.json`: it travels in the environment of the run instead."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping

from dsflow.masking import MASK, is_secret
from dsflow.model import Spark

# The whole URL of a Connect server, and secret settings by name, as JSON.
HIDDEN = "DSFLOW_SPARK_HIDDEN"
_URL = re.compile(r"(sc://[^/;]*)(.*)", re.DOTALL)
# Everything else that such a URL may hold is a header of its requests, and may let somebody in.
_OPEN = ("use_ssl", "user_id", "user_agent", "session_id")


def parts_of(remote: str) -> tuple[str, dict[str, str]]:
    """Give the address in the URL of a Connect server, and its parameters."""
    found = _URL.fullmatch(remote)
    address, rest = found.groups() if found else (remote, "")
    pairs = (part.partition("=") for part in rest.strip("/;").split(";") if part.strip("/"))
    return address, {name: value for name, _, value in pairs}


def shown(remote: str) -> str:
    """Give the URL of a Connect server as anybody may see it."""
    address, parameters = parts_of(remote)
    more = [f"{name}={value if name in _OPEN else MASK}" for name, value in parameters.items()]
    return f"{address}/;{';'.join(more)}" if more else address


def hide(wanted: Spark) -> tuple[Spark, dict[str, str]]:
    """Give how Spark runs without what is secret, and the variable that brings the secrets, where there are some."""
    address, parameters = parts_of(wanted.remote)
    secret = {name: value for name, value in wanted.settings.items() if is_secret(name)}
    remote = wanted.remote if parameters.keys() - set(_OPEN) else ""
    bare = dataclasses.replace(
        wanted,
        remote=address if remote else wanted.remote,
        settings={name: value for name, value in wanted.settings.items() if name not in secret},
    )
    return bare, {HIDDEN: json.dumps({"remote": remote, "settings": secret})} if remote or secret else {}


def whole(wanted: Spark, environment: Mapping[str, str]) -> Spark:
    """Give how Spark runs with the secrets that came in an environment."""
    told = json.loads(environment.get(HIDDEN) or "{}")
    return dataclasses.replace(
        wanted,
        remote=told.get("remote") or wanted.remote,
        settings={**wanted.settings, **told.get("settings", {})},
    )


def secrets_of(environment: Mapping[str, str]) -> dict[str, str]:
    """Give the secrets in an environment by names that say so, for `Masker`."""
    told = json.loads(environment.get(HIDDEN) or "{}")
    parameters = parts_of(told.get("remote", ""))[1]
    values = [*(value for name, value in parameters.items() if name not in _OPEN), *told.get("settings", {}).values()]
    return {f"secret {number}": value for number, value in enumerate(values)}
