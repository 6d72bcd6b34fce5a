"""`dsflow completion`: completion scripts, and what can be completed inside a workspace."""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem, get_completion_class

from dsflow.errors import DsflowError


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion script for a shell: `eval "$(dsflow completion bash)"`."""
    script = get_completion_class(shell)
    assert script is not None
    click.echo(script(ctx.find_root().command, {}, "dsflow", "_DSFLOW_COMPLETE").source())


def jobs(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the names of jobs."""
    from dsflow.workspace import Workspace

    try:
        names = Workspace.find(ctx.find_root().params.get("directory")).job_names()
    except DsflowError:
        return []
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def tables(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the names of the tables."""
    from dsflow.specs.settings import located
    from dsflow.store.datastore import Datastore
    from dsflow.workspace import Workspace

    try:
        workspace = located(Workspace.find(ctx.find_root().params.get("directory")))
        names = Datastore(workspace.datastore).names("table")
    except DsflowError:
        return []
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def templates(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the names of the templates that are on this machine already."""
    from dsflow.workspace import TEMPLATE_SPECS, Workspace

    try:
        folders = Workspace.find(ctx.find_root().params.get("directory")).template_folders()
    except DsflowError:
        return []
    names = sorted({spec.parent.name for folder in folders for spec in folder.glob(f"jobs/*/{TEMPLATE_SPECS}")})
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def services(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the names of services."""
    from dsflow.services import registry
    from dsflow.workspace import Workspace

    try:
        known = registry.services(Workspace.find(ctx.find_root().params.get("directory")))
    except DsflowError:
        return []
    return [CompletionItem(name, help=known[name].spec.description) for name in known if name.startswith(incomplete)]


def runs(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the ids of the latest runs."""
    from dsflow.history import History
    from dsflow.specs.load import load_workspace
    from dsflow.specs.settings import located
    from dsflow.workspace import Workspace

    try:
        workspace = located(Workspace.find(ctx.find_root().params.get("directory")))
        records = History.open(workspace, load_workspace(workspace)).runs()
    except DsflowError:
        return []
    return [
        CompletionItem(record.run_id, help=f"{record.job} {record.ds} {record.status}")
        for record in records
        if record.run_id.startswith(incomplete)
    ]


def runs_and_services(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the ids of the latest runs and the names of services."""
    return [*services(ctx, param, incomplete), *runs(ctx, param, incomplete)]
