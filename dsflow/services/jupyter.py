"""What Jupyter needs before it starts: the password. And what `dsflow dev` leaves for it."""

from __future__ import annotations

import hashlib
import ipaddress
import json
from collections.abc import Mapping, Sequence

from dsflow import passwords
from dsflow.interactive import REQUEST
from dsflow.services import password
from dsflow.services.contract import Notify, Place, Prepared, Service

_PASSWORD = "password"


def prepare(service: Service, place: Place, notify: Notify) -> Prepared:
    """Put the workspace's password, hashed, where Jupyter's settings find it.

    Args:
        service: The service.
        place: Where it is going to listen.
        notify: Gets lines about what is going on.
    """
    default = password.is_default(service.workspace)
    kept = service.kept(_PASSWORD) or ""
    # A hash has a salt of its own: a new one of the same password would start Jupyter anew.
    if not (default and passwords.matches(kept, password.DEFAULT)):
        kept = password.kept(service.workspace)
        service.keep(_PASSWORD, kept)
    usual = f"Password is {password.DEFAULT}; `dsflow start-jupyter --password` changes it."
    note = usual if default else "Password is the workspace's own."
    remote = "" if ipaddress.ip_address(place.address).is_loopback else "yes"
    return Prepared(names={"remote": remote}, notes=[note], seal=hashlib.sha256(kept.encode()).hexdigest())


def develop(service: Service, job: str, arguments: Sequence[str], parameters: Mapping[str, str]) -> None:
    """Tell Jupyter's kernels which run the open job is to be seen as; what was asked for it before is replaced.

    Args:
        service: Jupyter, which forgets it when it starts anew.
        job: The job.
        arguments: What would follow the job's name after `dsflow run`.
        parameters: Parameters by name, as text.
    """
    service.keep(REQUEST.format(job=job), json.dumps({"arguments": [*arguments], "parameters": {**parameters}}))
