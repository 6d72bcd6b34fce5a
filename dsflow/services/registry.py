"""The services of a workspace, the forms they can run in, and the modules that prepare some of them."""

from __future__ import annotations

import importlib
from typing import Any, cast

from dsflow.errors import EnvironmentMissing, UsageError, did_you_mean
from dsflow.services.contract import Form, FormName, Found, Preparation, Service
from dsflow.specs.load import load_service
from dsflow.workspace import SERVICE_SPECS, Workspace

# The order is the order in which a form is chosen.
FORMS = {
    "container": "dsflow.services.container:InContainer",
    "process": "dsflow.services.process:AsProcess",
}
# What else is found, watched and stopped, and is started by a command of its own.
OTHERS = {"server": "dsflow.services.server:AsServer"}
# What must be there before a service of that name starts: files, settings that depend on the machine, another service.
PREPARATIONS: dict[str, str] = {
    "adminer": "dsflow.services.adminer:prepare",
    "airflow": "dsflow.services.airflow:prepare",
    "dash": "dsflow.services.dash:prepare",
    "jupyter": "dsflow.services.jupyter:prepare",
}

# Services of which there is one per job, by the name in their file: what gives them all, by their names.
FAMILIES = {
    "dash": "dsflow.services.dash:services",
}


def services(workspace: Workspace) -> dict[str, Service]:
    """Give the services by name: the workspace's own `docker/` first, then those that come with dsflow.

    Raises:
        SpecError: a `service.yaml` has mistakes.
    """
    found: dict[str, Service] = {}
    for folder in workspace.docker_folders():
        for path in sorted(folder.glob(f"*/{SERVICE_SPECS}")):
            spec = load_service(path.parent, workspace.shown(path))
            found.setdefault(spec.name, Service(workspace=workspace, folder=path.parent, spec=spec, name=spec.name))
    return found


def service_of(workspace: Workspace, name: str) -> Service:
    """Give the service of that name.

    Raises:
        UsageError: there is none.
        SpecError: a `service.yaml` has mistakes.
    """
    known = services(workspace)
    family = known.get(name.partition("-")[0])
    if name not in known and family and family.spec.name in FAMILIES:
        known |= _loaded(FAMILIES[family.spec.name])(family)
    if name not in known:
        raise UsageError(
            f"there is no service {name!r}{did_you_mean(name, known)}",
            f"Known are: {', '.join(known)}. A folder docker/NAME with a {SERVICE_SPECS} makes another.",
        )
    return known[name]


def forms() -> list[Form]:
    """Give the forms that a service can be started in, the one that `auto` prefers first."""
    return [form_of(name) for name in FORMS]


def all_forms() -> list[Form]:
    """Give the forms that a service can be found in."""
    return [form_of(name) for name in (*FORMS, *OTHERS)]


def form_of(name: str) -> Form:
    """Give the form of that name."""
    module, attribute = {**FORMS, **OTHERS}[name].split(":")
    return cast(Form, getattr(importlib.import_module(module), attribute)())


def choose(service: Service, wanted: FormName | None) -> tuple[Form, str]:
    """Give the form for a service and the reason for it.

    Raises:
        EnvironmentMissing: it cannot run like that here, or in no form.
    """
    reasons: list[str] = []
    for form in forms():
        if wanted in (None, form.name):
            problem = form.offers(service)
            if problem is None:
                return form, "asked for" if wanted else "; ".join(reasons) or "an engine answers"
            reasons.append(problem)
    instead = "process" if wanted == "container" else "container"
    hint = f"`--form {instead}` tries the other one." if wanted else "`dsflow doctor` shows what this machine has."
    raise EnvironmentMissing(f"{service.name} cannot start: {'; '.join(reasons)}", hint)


def found_in(workspace: Workspace) -> dict[str, Found]:
    """Give what runs of a workspace, or has run and was not stopped, by name; what runs goes before what has ended."""
    every = [found for form in all_forms() for found in form.find(workspace)]
    return {found.name: found for found in sorted(every, key=lambda found: (found.status == "running", found.started))}


def preparation_of(service: Service) -> Preparation | None:
    """Give the function that prepares a service, or None where nothing needs to be."""
    place = PREPARATIONS.get(service.spec.name)
    if place is None:
        return None
    return cast(Preparation, _loaded(place))


def _loaded(place: str) -> Any:
    module, attribute = place.split(":")
    return getattr(importlib.import_module(module), attribute)
