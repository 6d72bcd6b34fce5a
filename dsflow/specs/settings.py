"""The settings of a workspace: `dsflow.yml`, and what is laid over it."""

from __future__ import annotations

import dataclasses
import os
import re
from collections import ChainMap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dsflow.errors import UsageError, did_you_mean
from dsflow.masking import MASK, is_secret
from dsflow.spark.hidden import shown
from dsflow.specs import sources
from dsflow.specs.errors import checked, sentence
from dsflow.specs.models import SparkSpec, WorkspaceSpec
from dsflow.specs.yaml import read_mapping
from dsflow.workspace import Workspace

# The settings that an environment variable can give: DSFLOW_RUNTIME, DSFLOW_HISTORY, ...
_FROM_ENVIRONMENT = {
    "environment": "DSFLOW_ENV",
    **{
        name: f"DSFLOW_{name.upper()}"
        for name in ("name", "runtime", "engine", "image", "history", "base_image", "ca_bundle")
    },
}
_NOT_THERE = object()
# Where Spark computes: what names one of them leaves the other.
_PLACES = ("remote", "master")


@dataclass(frozen=True)
class Setting:
    """One value of the workspace's settings and where it came from."""

    name: str
    value: Any
    origin: str

    @property
    def safe_value(self) -> Any:
        """The value without passwords."""
        if self.name.startswith("spark.") and is_secret(self.name):
            return MASK
        if self.name == "spark.remote" and self.value:
            return shown(self.value)
        if isinstance(self.value, tuple):
            return [hide_passwords(item) for item in self.value]
        return hide_passwords(self.value) if isinstance(self.value, str) else self.value

    @property
    def shown(self) -> str:
        """The value as one line, without passwords."""
        value = self.safe_value
        if isinstance(value, dict):
            value = [f"{name}: {item}" for name, item in value.items()]
        if isinstance(value, bool):
            return str(value).lower()
        return ", ".join(value) if isinstance(value, list) else str(value or "")


def settings_of(workspace: Workspace, command_line: Mapping[str, Any] | None = None) -> list[Setting]:
    """Give every setting of a workspace with its origin.

    Args:
        workspace: The workspace.
        command_line: Settings that options of this command gave; None means not given.

    Raises:
        UsageError: there is no such environment.
        SpecError: a setting has a mistake.
    """
    layers = _layers(workspace, command_line or {})
    spec = WorkspaceSpec.model_validate(merged(layers))
    named = ("environments", "sources", "keys")
    own = [name for name in WorkspaceSpec.model_fields if name not in ("version", "spark", *named)]
    sparks = [name for name in SparkSpec.model_fields if name != "settings"]
    return [
        *(Setting(name, getattr(spec, name), _origin(layers, name)) for name in own),
        *(Setting(name, tuple(getattr(spec, name)), _origin(layers, name)) for name in named),
        *(Setting(f"spark.{name}", getattr(spec.spark, name), _origin(layers, "spark", name)) for name in sparks),
        *(
            Setting(f"spark.settings.{name}", value, _origin(layers, "spark", "settings", name))
            for name, value in spec.spark.settings.items()
        ),
    ]


def load_workspace(workspace: Workspace, command_line: Mapping[str, Any] | None = None) -> WorkspaceSpec:
    """Give the settings of a workspace, as `merged` has them.

    Args:
        workspace: The workspace.
        command_line: Settings that options of this command gave; None means not given.

    Raises:
        UsageError: there is no such environment.
        SpecError: a setting has a mistake.
    """
    return WorkspaceSpec.model_validate(merged(_layers(workspace, command_line or {})))


def located(workspace: Workspace) -> Workspace:
    """Give the workspace with the datastore that its settings name.

    Raises:
        UsageError: there is no such environment; or it is marked `dev`, and the datastore belongs to another one.
        SpecError: a setting has a mistake.
    """
    settings = load_workspace(workspace)
    if settings.datastore:
        workspace = dataclasses.replace(workspace, data=datastore_at(workspace, settings.datastore))
    if settings.dev:
        _check_own(workspace, settings)
    return workspace


def datastore_at(workspace: Workspace, named: str | None) -> Path:
    """Give the folder that `datastore:` names, of the workspace or of an environment."""
    return workspace.root / Path(named or "datastore").expanduser()


def merged(layers: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Lay settings over each other: what a layer names wins over all layers after it.

    Of `spark` and its `settings` each key counts for itself.

    Args:
        layers: Settings by where they come from, the strongest first.
    """
    ordered = list(layers.values())
    inner = _without_rivals([dict(layer.get("spark") or {}) for layer in ordered])
    settings = dict(ChainMap(*(dict(spark.get("settings") or {}) for spark in inner)))
    spark = dict(ChainMap(*map(dict, inner))) | {"settings": settings}
    found = dict(ChainMap(*map(dict, ordered)))
    # The last two are the file and the defaults: what jobs were written for, wherever they are run now.
    written_for = ChainMap(*map(dict, ordered[-2:]))["engine"]
    return found | {"spark": spark, "dialect": found["dialect"] or written_for}


def _without_rivals(layers: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Take `master` and `remote` out of all layers below the first that says where Spark computes."""
    found = next((index for index, layer in enumerate(layers) if any(map(layer.get, _PLACES))), len(layers))
    return [
        layer if index <= found else {key: value for key, value in layer.items() if key not in _PLACES}
        for index, layer in enumerate(layers)
    ]


def hide_passwords(url: str) -> str:
    """Give a URL (or any text) with its password, and parameters named like secrets, replaced by `***`."""
    url = re.sub(r"(://[^:/@\s]*:)\S*@", rf"\1{MASK}@", url)
    return re.sub(r"([?&]([^=&\s]+)=)[^&\s]*", lambda m: m[1] + MASK if is_secret(m[2]) else m[0], url)


def _check_own(workspace: Workspace, settings: WorkspaceSpec) -> None:
    """Refuse a datastore that is, holds, or lies in the one of another environment.

    Looking is refused too: it repairs what a crash left, and keeps an index.
    """
    own = workspace.datastore.resolve()
    for name, other in settings.environments.items():
        if name == settings.environment:
            continue
        # One without a datastore of its own has that of the workspace, if somebody has said where that is.
        shared = None if other.dev else load_workspace(workspace, {"environment": name}).datastore
        named = other.datastore or shared
        if named is None:
            continue
        folder = datastore_at(workspace, named).resolve()
        if own.is_relative_to(folder) or folder.is_relative_to(own):
            raise UsageError(
                f"environment {settings.environment or '(none)'} is marked dev, and its datastore "
                f"{workspace.shown(own)} belongs to {name}: nothing may be written there",
                f"Give it a `datastore` of its own in {workspace.shown(workspace.marker)}; `--env {name}` is {name}.",
            )


def _layers(workspace: Workspace, command_line: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Give the settings by origin, the strongest first."""
    shown = workspace.shown(workspace.marker)
    variables = {name: os.environ.get(variable) for name, variable in _FROM_ENVIRONMENT.items()}
    given = {key: value for key, value in command_line.items() if value is not None}
    told = {key: value for key, value in variables.items() if value}
    file = read_mapping(workspace.marker, shown)
    # Each layer is checked on its own, so that a mistake is told where it was made.
    between = [sentence("", place, problem).removeprefix(": ") for place, problem in sources.problems(file)]
    checked(WorkspaceSpec, file, shown, between)
    checked(WorkspaceSpec, told, "environment DSFLOW_*")
    checked(WorkspaceSpec, given, "command line")
    chosen = ChainMap(given, told, file).get("environment")
    layers = {"command line": given, "environment": told}
    if chosen is not None:
        layers[f"{shown}: environments.{chosen}"] = _environment(file.get("environments") or {}, chosen, shown)
    return layers | {shown: file, "default": WorkspaceSpec().model_dump()}


def _environment(known: Mapping[str, dict[str, Any]], name: str, shown: str) -> dict[str, Any]:
    if name not in known:
        hint = f"The environments are: {', '.join(known)}." if known else f"Write it below `environments:` in {shown}."
        raise UsageError(f"{shown}: there is no environment {name!r}{did_you_mean(name, known)}", hint)
    return known[name]


def _origin(layers: Mapping[str, Mapping[str, Any]], *path: str) -> str:
    """Give the first layer that has a key."""
    for origin, layer in layers.items():
        value: Any = layer
        for part in path:
            value = value.get(part, _NOT_THERE) if isinstance(value, Mapping) else _NOT_THERE
        if value is not _NOT_THERE:
            return origin
    raise KeyError(path)
