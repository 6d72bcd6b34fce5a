"""Dashboards as services: one per job, each with its own name and port."""

from __future__ import annotations

import dataclasses
import hashlib
import ipaddress
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from dsflow import model, tasks
from dsflow.containers import images
from dsflow.errors import UsageError, did_you_mean
from dsflow.model import Task
from dsflow.quantities import memory_bytes
from dsflow.services import ports
from dsflow.services.contract import Found, Notify, Place, Prepared, Service
from dsflow.specs.load import JobSpec, load_job
from dsflow.workspace import Workspace

_KIND = "dashboard"
_PREFIX = "dashboard-"


def dashboards(workspace: Workspace) -> list[str]:
    """Give the names of the jobs that are dashboards; a job whose spec cannot be read is none."""
    return [name for name in workspace.job_names() if _is_dashboard(workspace, name)]


def chosen(workspace: Workspace, names: Sequence[str]) -> list[str]:
    """Give the dashboards that a person means; all, where none is named.

    Raises:
        UsageError: there is no such job, or it is no dashboard, or there are none at all.
    """
    every = dashboards(workspace)
    for name in dict.fromkeys(names):
        job = load_job(workspace, name)
        if job.kind != _KIND:
            guess = did_you_mean(name, every)
            raise UsageError(f"{name} is a {job.kind}, not a dashboard{guess}", f"`dsflow run {name}` runs it.")
    if not names and not every:
        raise UsageError("this workspace has no dashboard", "`dsflow generate-job plotly_dash_app NAME` makes one.")
    return list(dict.fromkeys(names)) or every


def of_job(service: Service, job: str) -> Service:
    """Give the service of one dashboard.

    Args:
        service: What `docker/dash/service.yaml` says.
        job: The job; the service of `dashboard-delays` is `dash-delays`.
    """
    short = job.removeprefix(_PREFIX)
    taken = short != job and (service.workspace.jobs / short).is_dir()
    return replace(service, name=f"{service.spec.name}-{job if taken else short}", names={"job": job})


def services(service: Service) -> dict[str, Service]:
    """Give the services of all dashboards by name, such as `dash-delays`."""
    every = (of_job(service, job) for job in dashboards(service.workspace))
    return {one.name: one for one in every}


def free_port(service: Service, settings: dict[str, int], others: Iterable[Found], address: str) -> int | None:
    """Give a free port for a dashboard that does not run yet; None where its place is settled.

    Args:
        service: The dashboard's.
        settings: `ports:` of dsflow.yml.
        others: What runs of this workspace.
        address: Where it is going to listen.
    """
    if service.name in settings:
        return None
    others = list(others)
    if any(found.name == service.name and found.port for found in others):
        return None
    wanted = settings.get(service.spec.name) or service.spec.ports[0]
    return ports.next_free(wanted, address, {found.port for found in others if found.port})


def prepare(service: Service, place: Place, notify: Notify) -> Prepared:
    """Leave the task of a dashboard where its program finds it, and give it what its job asks for.

    Raises:
        UsageError: no job is named, or its spec has a mistake.
        EnvironmentMissing: what the job requires cannot be had.
    """
    if "job" not in service.names:
        raise UsageError(f"{service.name} shows the dashboard of a job", "`dsflow start-dash JOB` starts it.")
    workspace = service.workspace
    job = load_job(workspace, chosen(workspace, [service.names["job"]])[0])
    task, secrets = tasks.make_task(workspace, job, None, {})
    memory = job.run.memory or service.spec.memory
    contained = place.form == "container"
    if contained and memory:
        task = replace(task, limits=replace(task.limits, memory=memory_bytes(memory)))
    environment = {name: os.environ[name] for name in job.run.environment if name in os.environ}
    private = json.dumps({"secrets": secrets, "environment": environment}, default=str)
    service.keep("task.json", model.to_json(task))
    service.keep("private.json", private)
    update: dict[str, Any] = {"memory": memory}
    if contained:
        update["image"] = _image(service, job, notify)
    elif service.spec.process:
        requirements = (*service.spec.process.requirements, *job.run.requirements)
        update["process"] = service.spec.process.model_copy(update={"requirements": requirements})
    return Prepared(
        names={"data": "/data" if contained else str(workspace.datastore.resolve())},
        notes=_notes(place),
        seal=_seal(task, private),
        spec=service.spec.model_copy(update=update),
    )


def _image(service: Service, job: JobSpec, notify: Notify) -> str | None:
    """Give the image that the job asks for, with what it requires; None where the service's own will do."""
    if not job.run.image and not job.run.requirements:
        return service.spec.image
    surroundings = images.Surroundings.of(service.workspace)
    name = job.run.image or images.DEFAULT
    image = images.ensure(name, surroundings, notify)
    if job.run.requirements:
        name, _ = images.with_requirements(name, image, job.run.requirements, surroundings, notify)
    return name


def _notes(place: Place) -> tuple[str, ...]:
    if ipaddress.ip_address(place.address).is_loopback:
        return ()
    return (f"a dashboard asks for no password: whoever reaches {place.address} sees it",)


def _seal(task: Task, private: str) -> str:
    """Give what makes the program another one; the code is not part of it: the program watches that itself."""
    lasting = replace(task, run_id="", ds="", start="", end="", created="", fingerprint=None)
    text = json.dumps(dataclasses.asdict(lasting), sort_keys=True, default=str) + private
    return hashlib.sha256(text.encode()).hexdigest()


def _is_dashboard(workspace: Workspace, name: str) -> bool:
    try:
        return load_job(workspace, name).kind == _KIND
    except UsageError:
        return False
