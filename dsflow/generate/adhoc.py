"""Explorations: data that somebody found, its schema, and a notebook that reads it."""

from __future__ import annotations

import datetime as dt
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dsflow import codecells, durable
from dsflow.engines.inference import Inferred, as_yaml, infer_schema
from dsflow.errors import UsageError
from dsflow.inputs import local
from dsflow.model import Output
from dsflow.rendering import render
from dsflow.sources.download import fetch
from dsflow.store.datastore import Datastore
from dsflow.store.publishing import Staging, describe, manifest_of
from dsflow.workspace import Workspace


@dataclass(frozen=True, kw_only=True)
class Exploration:
    """What was made: where the data is, its schema file and the notebook; `sample` is one of the files as typed."""

    data: Path
    schema: Path
    notebook: Path
    sample: str


def explore(
    workspace: Workspace,
    name: str,
    url: str,
    file_format: str,
    ds: str,
    *,
    force: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> Exploration:
    """Bring data into raw dataset `name` (unless it is in the datastore already) and make a notebook that reads it.

    Args:
        workspace: The workspace.
        name: The raw dataset; small letters, digits and `_`.
        url: Anything a download takes, or a path in the datastore.
        file_format: `csv` or `json`.
        ds: The partition the data goes to, and the date of the notebook.
        force: Replace a notebook of that name and date.
        say: Gets a line about each step of a download.

    Raises:
        UsageError: the name is not valid, the notebook exists, or the data cannot be read in that format.
        JobFailed: the download failed.
    """
    if not re.fullmatch(r"[_\da-z]+", name, re.ASCII):
        raise UsageError(f"invalid dataset name {name!r}", "Use small letters, digits and '_'.")
    notebook = workspace.adhoc / f"{ds}-explore-{name}.ipynb"
    if notebook.exists() and not force:
        raise UsageError(f"{workspace.shown(notebook)} exists already", "Add --force to replace it.")
    data = _in_datastore(workspace, url) or _download(Datastore(workspace.datastore), name, url, ds, say)
    found = infer_schema(data, file_format)
    workspace.adhoc.mkdir(exist_ok=True)
    schema = workspace.adhoc / f"{name}-schema.yaml"
    durable.write_text(schema, as_yaml(found))
    durable.write_text(notebook, _notebook(workspace, name, url, ds, found))
    sample = "/data/" + str(found.files[0].relative_to(workspace.datastore))
    return Exploration(data=data, schema=schema, notebook=notebook, sample=sample)


def _in_datastore(workspace: Workspace, url: str) -> Path | None:
    if "://" in url:
        return None
    for path in (Path(local(url, workspace.datastore)), workspace.root / url):
        if path.exists() and path.resolve().is_relative_to(workspace.datastore.resolve()):
            return workspace.datastore / path.resolve().relative_to(workspace.datastore.resolve())
    return None


def _download(datastore: Datastore, name: str, url: str, ds: str, say: Callable[[str], None]) -> Path:
    now = dt.datetime.now(dt.UTC)
    run_id = f"{now:%Y%m%dT%H%M%S}-{secrets.token_hex(3)}"
    output = Output(store="raw", name=name, ds=ds)
    with Staging(datastore, run_id, output, "generate-adhoc") as staging:
        fetch(url, staging.folder, say=say)
        staging.publish(manifest_of(output, describe(staging.folder), run_id=run_id, job=""))
    return datastore.target("raw", name, ds)


def _notebook(workspace: Workspace, name: str, source: str, ds: str, found: Inferred) -> str:
    inside = f"adhoc/{found.format}.py.j2"
    template = next(folder / inside for folder in workspace.template_folders() if (folder / inside).is_file())
    files = [file.relative_to(workspace.datastore) for file in found.files]
    values = {
        "name": name,
        "source": source,
        "ds": ds,
        # the notebook's working folder is adhoc/, beside datastore/
        "files": [f"../datastore/{file}" for file in files],
        "sample": f"/data/{files[0]}",
        **found.document(),
    }
    text = render(template.read_text("utf-8"), values, inside)
    return codecells.dump_notebook(codecells.to_notebook(text))
